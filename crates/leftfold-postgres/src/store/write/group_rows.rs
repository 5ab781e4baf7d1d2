//! The rows of a group: those of its appends in one statement, and one for each table that few
//! groups write.

use leftfold_core::store::Leases;
use tokio::task::yield_now;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Statement};

use super::append_rows::{APPEND_COLUMNS, AppendValues};
use super::event_rows::{EVENT_COLUMNS, EventValues};
use super::judge::{WrittenEvent, WrittenGroup};
use super::row_array::RowArray;
use crate::Rows;
use crate::store::payload::PayloadColumn;
use crate::store::rows::{AppendRow, HeadRow};
use crate::store::text::stored;
use crate::store::values::{DatabaseTime, signed};

/// The prepared statements that write a group.
#[derive(Debug)]
pub(super) struct GroupStatements {
    appends: Statement,
    leases: Statement,
    forget_leases: Statement,
    state: Statement,
}

impl GroupStatements {
    pub(super) async fn prepare(rows: &Rows, schema: &str) -> Result<Self, Error> {
        let appends = format!(
            "WITH e AS (INSERT INTO {schema}.events ({EVENT_COLUMNS})
                SELECT {EVENT_COLUMNS} FROM unnest($1::{schema}.events[])),
            t AS (INSERT INTO {schema}.tags (tag, position)
                SELECT * FROM unnest($2::text[], $3::bigint[]))
            INSERT INTO {schema}.appends ({APPEND_COLUMNS})
            SELECT {APPEND_COLUMNS} FROM unnest($4::{schema}.appends[])"
        );
        let leases = format!(
            "INSERT INTO {schema}.leases (work, holder, fence, until, note, round)
            SELECT *, $6::bigint
            FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::bytea[])
            ON CONFLICT (work) DO UPDATE SET holder = excluded.holder, fence = excluded.fence,
                until = excluded.until, note = excluded.note, round = excluded.round"
        );
        let forget_leases = format!("DELETE FROM {schema}.leases WHERE work <> ALL ($1::text[])");
        let state = format!(
            "UPDATE {schema}.state SET fence = $1, lease_round = $2,
                forgotten_round = CASE WHEN $3 THEN $2 ELSE forgotten_round END"
        );
        let (appends, leases, forget_leases, state) = tokio::try_join!(
            rows.prepare(&appends),
            rows.prepare(&leases),
            rows.prepare(&forget_leases),
            rows.prepare(&state),
        )?;
        Ok(Self { appends, leases, forget_leases, state })
    }
}

/// Events that are sent at once: the server writes them while those behind them are judged.
const CHUNK_EVENTS: usize = 256;

/// Sends the rows of appends that were judged, if they are enough to be sent by themselves.
pub(super) async fn send_judged(
    client: &Rows,
    statements: &GroupStatements,
    group: &mut WrittenGroup,
    payload: PayloadColumn,
) -> Result<(), Error> {
    while group.events.len() - group.sent_events >= CHUNK_EVENTS {
        let events = group.sent_events..group.sent_events + CHUNK_EVENTS;
        send_appends(
            client,
            statements,
            (&group.appends[group.sent_appends..], &group.events[events]),
            payload,
        )
        .await?;
        group.sent_appends = group.appends.len();
        group.sent_events += CHUNK_EVENTS;
        // The task that drives the connection has its turn.
        yield_now().await;
    }
    Ok(())
}

/// A group, and what it is stored with.
pub(super) struct GroupRows<'g> {
    pub(super) group: &'g WrittenGroup,
    pub(super) head: HeadRow,
    pub(super) leases: &'g Leases,
    pub(super) payload: PayloadColumn,
}

impl GroupRows<'_> {
    /// Number of the change of leases that the group makes.
    fn next_round(&self) -> i64 {
        self.head.lease_round + 1
    }
}

/// Sends the rows of a group that were not sent yet.
pub(super) async fn send_rest(
    client: &Rows,
    statements: &GroupStatements,
    rows: &GroupRows<'_>,
) -> Result<(), Error> {
    let group = rows.group;
    let (appends, events) =
        (&group.appends[group.sent_appends..], &group.events[group.sent_events..]);
    if !appends.is_empty() || !events.is_empty() {
        send_appends(client, statements, (appends, events), rows.payload).await?;
    }
    if group.forgets_leases {
        // Behind the lock what is known is all that there is.
        let known: Vec<_> = rows.leases.works().map(|work| stored(work)).collect();
        client.send_prepared(&statements.forget_leases, &[&known]).await?;
    }
    if group.changes_leases() {
        send_leases(client, statements, rows).await?;
        send_state(client, statements, rows).await?;
    }
    Ok(())
}

/// Commits what was sent. The first error is returned; then nothing is committed, unless it is the
/// connection's.
pub(super) async fn commit(client: &Rows) -> Result<(), Error> {
    // After a statement that failed the transaction is over, and the commit undoes it.
    let (written, committed) = tokio::join!(client.answered(), client.batch_execute("COMMIT"));
    written.and(committed)
}

/// Sends appends and events, and the tags of these.
async fn send_appends(
    client: &Rows,
    statements: &GroupStatements,
    (appends, events): (&[AppendRow], &[WrittenEvent]),
    payload: PayloadColumn,
) -> Result<(), Error> {
    let (tags, positions): (Vec<_>, Vec<_>) = events
        .iter()
        .flat_map(|one| one.event.tags.iter().map(|tag| (tag, one.event.position)))
        .map(|(tag, position)| (stored(tag), signed(position.0)))
        .unzip();
    let events = RowArray(events.iter().map(|one| EventValues::of(one, payload)).collect());
    let appends = RowArray(appends.iter().map(AppendValues).collect());
    client.send_prepared(&statements.appends, &[&events, &tags, &positions, &appends]).await
}

async fn send_leases(
    client: &Rows,
    statements: &GroupStatements,
    rows: &GroupRows<'_>,
) -> Result<(), Error> {
    let (mut works, mut holders, mut fences) = (Vec::new(), Vec::new(), Vec::new());
    let (mut untils, mut notes) = (Vec::new(), Vec::new());
    for work in &rows.group.works {
        // A release of what nobody has.
        let Some(tenure) = rows.leases.tenure(work) else { continue };
        works.push(stored(work));
        holders.push(tenure.holder.map(|holder| holder.0));
        fences.push(signed(tenure.fence.0));
        untils.push(DatabaseTime(tenure.until));
        notes.push(tenure.note.to_vec());
    }
    let round = rows.next_round();
    let changed: [&(dyn ToSql + Sync); 6] = [&works, &holders, &fences, &untils, &notes, &round];
    client.send_prepared(&statements.leases, &changed).await
}

/// Counts a change of leases.
async fn send_state(
    client: &Rows,
    statements: &GroupStatements,
    rows: &GroupRows<'_>,
) -> Result<(), Error> {
    let fence = rows.head.fence.max(rows.leases.last().0);
    let round = rows.next_round();
    let forgets = rows.group.forgets_leases;
    client.send_prepared(&statements.state, &[&signed(fence), &round, &forgets]).await
}
