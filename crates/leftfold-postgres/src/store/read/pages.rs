//! Pages of events, and the first match of a condition.

use std::sync::Arc;

use leftfold_core::store::{
    Direction, Head, Page, Position, Query, Read, ReadError, RecordedEvent, StreamName, Version,
    What,
};
use tokio_postgres::Row;
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
/// the bytes of a page allow (parameter `bytes`). The first column is the number that was chosen.
fn bounded(from: &str, by: &str, direction: Direction, bytes: usize) -> String {
    let down = if direction == Direction::Backwards { " DESC" } else { "" };
    format!(
        "SELECT e.chosen, {EVENT} FROM (
            SELECT e.*, count(*) OVER () AS chosen,
                sum(greatest(e.bytes, 1)::int) OVER (ORDER BY e.{by}{down}) AS so_far
            FROM {from}) e
        WHERE e.so_far <= ${bytes}::bigint OR e.so_far = greatest(e.bytes, 1) ORDER BY e.{by}{down}"
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
    let (head, found) =
        tokio::join!(client.query_one(&head, &of_stream), client.query(&page, &of_page));
    let head = head?;
    let version = head.try_get::<_, Option<i64>>(head.len() - 1)?;
    let stream_version = version.map_or(Version::ABSENT, |version| Version(unsigned(version)));
    let head = rows::head(&head, 0)?.head;
    let found = FoundEvents::of(&found?, head, wanted, read.direction)?;
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
    let (head, found) =
        tokio::join!(client.query_one(&head, &[]), client.query(&page, &parameters));
    let head = rows::head(&head?, 0)?.head;
    let found = FoundEvents::of(&found?, head, wanted, read.direction)?;
    let begin = |_, from| What::Matching { query: query.clone(), from };
    let looked_to = Position(unsigned(until));
    Ok(found.page(read.direction, head, None, Some(looked_to), begin))
}

/// Events of a page, and whether there are more.
struct FoundEvents {
    events: Vec<RecordedEvent>,
    more: Option<MoreEvents>,
}

/// Events that have no room in a page.
enum MoreEvents {
    /// The first of them has this version and position.
    From(u64, Position),
    /// They stand behind the one of this version and position, in the order of the page.
    Behind(u64, Position),
}

impl MoreEvents {
    fn position(&self) -> Position {
        match self {
            Self::From(_, position) | Self::Behind(_, position) => *position,
        }
    }
}

impl FoundEvents {
    fn of(rows: &[Row], head: Head, wanted: u64, direction: Direction) -> Result<Self, NotDone> {
        let chosen: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        let mut events = Vec::with_capacity(rows.len());
        for row in rows {
            events.push(rows::event(row, 1)?);
        }
        let place = |event: &RecordedEvent| (event.version().0, event.position);
        let last = events.last().map(place);
        let is_cut = unsigned(chosen) > rows.len() as u64;
        let mut more = last
            .filter(|_| is_cut)
            .map(|(version, position)| MoreEvents::Behind(version, position));
        if events.len() as u64 > wanted {
            let left = events.pop();
            more = left.map(|event| MoreEvents::From(event.version().0, event.position));
        }
        // What came in since the head was read is left out. Forwards it stands last, and nothing is
        // behind it; backwards it stands first, and what is behind it stays.
        events.retain(|event| event.position <= head.position);
        if direction == Direction::Forwards {
            more = more.filter(|more| more.position() <= head.position);
        }
        Ok(Self { events, more })
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
            (Direction::Forwards, Some(more)) => {
                let (version, position) = match more {
                    MoreEvents::From(version, position) => (version, position),
                    MoreEvents::Behind(version, position) => {
                        (version.saturating_add(1), position.next())
                    }
                };
                (Some(begin(version, position)), Position(position.0.saturating_sub(1)))
            }
            (Direction::Backwards, Some(more)) => {
                let (version, position) = match more {
                    MoreEvents::From(version, position) => (version, position),
                    MoreEvents::Behind(version, position) => {
                        (version.saturating_sub(1), Position(position.0.saturating_sub(1)))
                    }
                };
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
