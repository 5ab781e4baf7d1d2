//! Whole appends with their records, as a copy of the store reads them.

use std::sync::Arc;

use leftfold_core::store::{
    AppendsFrom, AppendsPage, Position, ReadError, RecordedAppend, RecordedEvent,
};
use tokio_postgres::Row;

use crate::Rows;
use crate::connect::Connected;
use crate::store::error::NotDone;
use crate::store::rows::{self, APPEND, AppendRow, EVENT, HEAD, HeadRow};
use crate::store::shared::StoreShared;
use crate::store::values::{at_most_signed, signed, unsigned};

/// Appends of a page at most.
const APPENDS_MAX: i64 = 4_096;

/// Appends as they are stored, each with its events, and the head when they were read.
pub(super) struct StoredAppends {
    pub(super) appends: Vec<(AppendRow, Vec<RecordedEvent>)>,
    pub(super) head: HeadRow,
    /// Number of the last one; of the one before them if there are none.
    pub(super) last: u64,
}

/// Reads a page of appends.
pub(in crate::store) async fn page(
    shared: &StoreShared,
    from: AppendsFrom,
    page_bytes: u32,
) -> Result<AppendsPage, ReadError> {
    let stored = stored(shared, from, page_bytes).await?;
    let appends = stored.appends.into_iter().map(|(row, events)| RecordedAppend {
        first: row.first,
        events,
        command: row.command,
        checkpoint: row.checkpoint,
        hash: row.hash,
    });
    Ok(AppendsPage {
        appends: appends.collect(),
        next: AppendsFrom::Mark(stored.last),
        head: stored.head.head,
    })
}

/// Reads the appends from a place on that have room in a page, the first one however large it is.
pub(super) async fn stored(
    shared: &StoreShared,
    from: AppendsFrom,
    page_bytes: u32,
) -> Result<StoredAppends, ReadError> {
    let schema = &*shared.schema;
    let ask = |by: Arc<Connected>| async move { ask(&by.rows, schema, from, page_bytes).await };
    shared.readers.read(ask).await
}

async fn ask(
    client: &Rows,
    schema: &str,
    from: AppendsFrom,
    page_bytes: u32,
) -> Result<StoredAppends, NotDone> {
    let after = match from {
        AppendsFrom::Mark(mark) => at_most_signed(mark),
        AppendsFrom::After(Position::START) => 0,
        AppendsFrom::After(position) => after(client, schema, position).await?,
    };
    let head = client.prepare_cached(&format!("SELECT {HEAD} FROM {schema}.head h")).await?;
    let appends = format!(
        "SELECT {APPEND} FROM (SELECT a.*, sum(a.bytes) OVER (ORDER BY a.append) AS so_far
            FROM (SELECT * FROM {schema}.appends WHERE append > $1 ORDER BY append LIMIT $2) a) a
        WHERE a.so_far <= $3::bigint OR a.append = $1 + 1 ORDER BY a.append"
    );
    let appends = client.prepare_cached(&appends).await?;
    let bytes = i64::from(page_bytes);
    let head = rows::head(&client.query_one(&head, &[]).await?, 0)?;
    let found = client.query(&appends, &[&after, &APPENDS_MAX, &bytes]).await?;
    let found: Vec<AppendRow> =
        found.iter().map(|row| rows::append(row, 0)).collect::<Result<_, _>>()?;
    let events = events(client, schema, &found).await?;
    let last = found.last().map_or(unsigned(after), |last| last.number);
    Ok(StoredAppends { appends: whole(found, &events)?, head, last })
}

/// Returns the number of the append that holds a position, or of the last one if it is beyond.
async fn after(client: &Rows, schema: &str, position: Position) -> Result<i64, NotDone> {
    let ask = format!(
        "SELECT e.append FROM {schema}.events e WHERE e.position <= $1
        ORDER BY e.position DESC LIMIT 1"
    );
    let ask = client.prepare_cached(&ask).await?;
    let found = client.query_opt(&ask, &[&at_most_signed(position.0)]).await?;
    Ok(found.map(|row| row.try_get(0)).transpose()?.unwrap_or(0))
}

/// The events of appends that follow each other.
async fn events(client: &Rows, schema: &str, appends: &[AppendRow]) -> Result<Vec<Row>, NotDone> {
    let mut with_events = appends.iter().filter(|append| append.events > 0);
    let Some(first) = with_events.next() else { return Ok(Vec::new()) };
    let last = with_events.next_back().unwrap_or(first);
    let ask = format!(
        "SELECT {EVENT} FROM {schema}.events e WHERE e.position >= $1 AND e.position < $2
        ORDER BY e.position"
    );
    let ask = client.prepare_cached(&ask).await?;
    let end = signed(last.first.0 + last.events);
    Ok(client.query(&ask, &[&signed(first.first.0), &end]).await?)
}

/// Puts each append together with its events.
fn whole(
    appends: Vec<AppendRow>,
    events: &[Row],
) -> Result<Vec<(AppendRow, Vec<RecordedEvent>)>, NotDone> {
    let mut rest = events.iter();
    let mut whole = Vec::with_capacity(appends.len());
    for append in appends {
        let count = usize::try_from(append.events).unwrap_or(usize::MAX);
        let events = rest.by_ref().take(count).map(|row| rows::event(row, 0, None));
        let events: Vec<RecordedEvent> = events.collect::<Result<_, _>>()?;
        if events.len() != count || events.first().is_some_and(|one| one.position != append.first) {
            return Err(NotDone::Damaged(ReadError::Damaged {
                place: format!("table appends, append {}", append.number),
                detail: format!("{count} events belong to it, {} are there", events.len()),
            }));
        }
        whole.push((append, events));
    }
    Ok(whole)
}
