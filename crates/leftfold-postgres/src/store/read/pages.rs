//! Pages of events, and the first match of a condition.

use std::pin::pin;
use std::sync::Arc;

use futures_util::StreamExt;
use leftfold_core::store::{
    Direction, Head, Page, Position, Query, Read, ReadError, RecordedEvent, StreamName, Version,
    What,
};
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

use super::statement::PositionsSql;
use crate::Rows;
use crate::connect::Connected;
use crate::store::error::NotDone;
use crate::store::rows::{self, EVENT, HEAD};
use crate::store::shared::StoreShared;
use crate::store::text::stored;
use crate::store::values::{at_most_signed, unsigned};
use crate::store::write::request::LookedUp;

/// Bytes of a statement that is kept prepared.
const KEPT_BYTES_MAX: usize = 16 << 10;
/// Largest position that a statement computes with.
const POSITION_MAX: i64 = i64::MAX - 1;

/// Reads a page.
pub(in crate::store) async fn page(shared: &StoreShared, read: &Read) -> Result<Page, ReadError> {
    let schema = &*shared.schema;
    let usual = shared.usual_bytes.events_of(read.page_bytes);
    let wanted = u64::from(read.page_events).min(usual);
    let page = match &read.what {
        What::Stream { stream, from } => {
            let ask = |by: Arc<Connected>| async move {
                stream_page(&by.rows, schema, stream, *from, (read, wanted)).await
            };
            shared.readers.read(ask).await?
        }
        What::Matching { query, from } => {
            let sql = PositionsSql::of(query, read.direction, schema);
            let sql = sql.as_ref();
            let ask = |by: Arc<Connected>| async move {
                matching_page(&by.rows, schema, (query, sql), *from, (read, wanted)).await
            };
            shared.readers.read(ask).await?
        }
    };
    shared.usual_bytes.learn(&page.events);
    Ok(page)
}

/// Selects the chosen events, which the clause `from` calls `e`, in the order of `by`, as far as
/// the bytes of a page allow (parameter `bytes`), and one more. The first column is the number of
/// bytes up to and with the event.
fn bounded(from: &str, by: &str, direction: Direction, bytes: usize) -> String {
    let down = if direction == Direction::Backwards { " DESC" } else { "" };
    // A window of rows: one of values would look for those that are equal.
    format!(
        "SELECT e.so_far, {EVENT} FROM (
            SELECT e.*, sum(greatest(e.bytes, 1)::int) OVER so_far AS so_far,
                first_value(e.bytes) OVER so_far AS first_bytes
            FROM {from} WINDOW so_far AS (ORDER BY e.{by}{down} ROWS UNBOUNDED PRECEDING)) e
        WHERE e.so_far - greatest(e.bytes, 1) <= greatest(${bytes}::bigint, e.first_bytes, 1)
        ORDER BY e.{by}{down}"
    )
}

async fn stream_page(
    client: &Rows,
    schema: &str,
    stream: &StreamName,
    from: Version,
    (read, wanted): (&Read, u64),
) -> Result<Page, NotDone> {
    let (compare, down) = match read.direction {
        Direction::Forwards => (">=", ""),
        Direction::Backwards => ("<=", " DESC"),
    };
    let chosen = format!(
        "(SELECT e.* FROM {schema}.events e WHERE e.stream = $1 AND e.version {compare} $2
        ORDER BY e.version{down} LIMIT $3) e"
    );
    let page = bounded(&chosen, "version", read.direction, 4);
    let head = format!(
        "SELECT {HEAD}, (SELECT e.version FROM {schema}.events e WHERE e.stream = $1
            ORDER BY e.version DESC LIMIT 1) FROM {schema}.head h"
    );
    let (page, head) = (client.prepare_cached(&page).await?, client.prepare_cached(&head).await?);
    let name = stored(stream);
    let (from, limit) = (at_most_signed(from.0), at_most_signed(wanted + 1));
    let bytes = i64::from(read.page_bytes);
    // The head is read first: what the page has beyond it came in between.
    let (of_stream, of_page): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 4]) =
        ([&name], [&name, &from, &limit, &bytes]);
    let (head, found) = tokio::join!(
        client.query_one(&head, &of_stream),
        FoundEvents::ask(client, &page, &of_page, (read, wanted))
    );
    let head = head?;
    let version = head.try_get::<_, Option<i64>>(head.len() - 1)?;
    let stream_version = version.map_or(Version::ABSENT, |version| Version(unsigned(version)));
    let head = rows::head(&head, 0)?.head;
    let found = found?.up_to(head, Some(stream_version), read.direction);
    let begin = |version, _| What::Stream { stream: stream.clone(), from: Version(version) };
    Ok(found.page(read.direction, head, Some(stream_version), None, begin))
}

async fn matching_page(
    client: &Rows,
    schema: &str,
    (query, sql): (&Query, Option<&PositionsSql>),
    from: Position,
    (read, wanted): (&Read, u64),
) -> Result<Page, NotDone> {
    let head = client.prepare_cached(&format!("SELECT {HEAD} FROM {schema}.head h")).await?;
    let Some(sql) = sql else {
        let head = rows::head(&client.query_one(&head, &[]).await?, 0)?.head;
        let through = match read.direction {
            Direction::Forwards => head.position,
            Direction::Backwards => Position::START,
        };
        return Ok(Page { events: Vec::new(), next: None, through, head, stream_version: None });
    };
    let bytes_parameter = super::statement::PARAMETERS + sql.terms.len() + 1;
    let chosen = format!("({}) c JOIN {schema}.events e ON e.position = c.position", sql.text);
    let page = bounded(&chosen, "position", read.direction, bytes_parameter);
    // A long text is of a query that does not come often, and its plan takes much memory.
    let page = match page.len() {
        0..=KEPT_BYTES_MAX => client.prepare_cached(&page).await?,
        _ => client.prepare(&page).await?,
    };
    // A read backwards from beyond the end begins at the end, and no event is before the first.
    let from = match read.direction {
        Direction::Forwards => at_most_signed(from.0).clamp(1, POSITION_MAX),
        Direction::Backwards => {
            let head = rows::head(&client.query_one(&head, &[]).await?, 0)?.head;
            at_most_signed(from.min(head.position).0)
        }
    };
    let span = at_most_signed(sql.span - 1);
    let until = match read.direction {
        Direction::Forwards => from.saturating_add(span).min(POSITION_MAX),
        Direction::Backwards => from.saturating_sub(span).max(1),
    };
    let (limit, bytes) = (at_most_signed(wanted + 1), i64::from(read.page_bytes));
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&from, &until, &limit];
    parameters.extend(sql.terms.iter().map(|term| term as &(dyn ToSql + Sync)));
    parameters.push(&bytes);
    // The head is read first: what the page has beyond it came in between.
    let (head, found) = tokio::join!(
        client.query_one(&head, &[]),
        FoundEvents::ask(client, &page, &parameters, (read, wanted))
    );
    let head = rows::head(&head?, 0)?.head;
    let found = found?.up_to(head, None, read.direction);
    let begin = |_, from| What::Matching { query: query.clone(), from };
    let looked_to = Position(unsigned(until));
    Ok(found.page(read.direction, head, None, Some(looked_to), begin))
}

/// Events of a page, and the first that has no room in it.
struct FoundEvents {
    events: Vec<RecordedEvent>,
    more: Option<EventPlace>,
}

/// Version and position of an event.
struct EventPlace(u64, Position);

impl FoundEvents {
    /// Reads the events that a statement gives, each as it comes.
    async fn ask(
        client: &Rows,
        statement: &Statement,
        parameters: &[&(dyn ToSql + Sync)],
        (read, wanted): (&Read, u64),
    ) -> Result<Self, NotDone> {
        let (mut events, mut bytes) = (Vec::new(), 0);
        let rows = client.query_raw(statement, parameters.iter().copied()).await?;
        let mut rows = pin!(rows);
        while let Some(row) = rows.next().await {
            let row = row?;
            bytes = row.try_get::<_, i64>(0)?;
            let event = rows::event(&row, 1, events.last())?;
            events.push(event);
        }
        let is_over = bytes > i64::from(read.page_bytes) && events.len() > 1;
        let left = if is_over || events.len() as u64 > wanted { events.pop() } else { None };
        let more = left.map(|event| EventPlace(event.version().0, event.position));
        Ok(Self { events, more })
    }

    /// Leaves out what came in since the head was read, when a stream had the version `newest`.
    /// Forwards it stands last, and nothing is behind it; backwards it stands first, and what is
    /// behind it stays.
    fn up_to(mut self, head: Head, newest: Option<Version>, direction: Direction) -> Self {
        self.events.retain(|event| event.position <= head.position);
        let is_new = |place: &EventPlace| place.1 > head.position;
        if self.more.as_ref().is_some_and(is_new) {
            self.more = match (direction, newest) {
                (Direction::Forwards, _) | (_, Some(Version::ABSENT)) => None,
                // So much came in that it fills the page.
                (Direction::Backwards, Some(newest)) => Some(EventPlace(newest.0, head.position)),
                // No read of positions begins beyond the head.
                (Direction::Backwards, None) => self.more,
            };
        }
        self
    }

    fn page(
        self,
        direction: Direction,
        head: Head,
        stream_version: Option<Version>,
        looked_to: Option<Position>,
        begin: impl Fn(u64, Position) -> What,
    ) -> Page {
        let (next, through) = match (direction, self.more) {
            (Direction::Forwards, Some(EventPlace(version, position))) => {
                (Some(begin(version, position)), Position(position.0.saturating_sub(1)))
            }
            (Direction::Backwards, Some(EventPlace(version, position))) => {
                (Some(begin(version, position)), position.next())
            }
            (Direction::Forwards, None) => match looked_to {
                Some(to) if to < head.position => (Some(begin(0, to.next())), to),
                _ => (None, head.position),
            },
            (Direction::Backwards, None) => match looked_to {
                Some(to) if to.0 > 1 => (Some(begin(0, Position(to.0 - 1))), to),
                _ => (None, Position::START),
            },
        };
        Page { events: self.events, next, through, head, stream_version }
    }
}

/// Looks for the first event after a position that matches.
pub(in crate::store) async fn first_match(
    shared: &StoreShared,
    query: &Query,
    after: Position,
) -> Result<LookedUp, ReadError> {
    let mut read = Read::matching(query.clone(), after.next()).page_of(1);
    loop {
        let page = page(shared, &read).await?;
        match (page.events.first(), page.next) {
            (Some(event), _) => return Ok(LookedUp::Found(event.position)),
            (None, Some(next)) => read.what = next,
            (None, None) => return Ok(LookedUp::NoneThrough(page.head.position)),
        }
    }
}
