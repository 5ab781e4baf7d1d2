//! The rows of a group: those of its appends in one statement, and one for each table that few
//! groups write.

use std::borrow::Cow;

use leftfold_core::store::{Hash, Leases, Timestamp};
use tokio_postgres::{Error, Statement};

use super::append_rows::{APPEND_COLUMNS, AppendValues};
use super::event_rows::{EVENT_COLUMNS, EventValues};
use super::judge::WrittenGroup;
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
    consumers: Statement,
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
        let consumers = format!(
            "INSERT INTO {schema}.checkpoints (consumer, source, partition, position, hash)
            SELECT * FROM unnest($1::text[], $2::uuid[], $3::text[], $4::bigint[], $5::bytea[])
            ON CONFLICT (consumer, source, partition)
            DO UPDATE SET position = excluded.position, hash = excluded.hash"
        );
        let leases = format!(
            "INSERT INTO {schema}.leases (work, holder, fence, until, note)
            SELECT * FROM unnest($1::text[], $2::uuid[], $3::bigint[], $4::timestamptz[], $5::bytea[])
            ON CONFLICT (work) DO UPDATE SET holder = excluded.holder, fence = excluded.fence,
                until = excluded.until, note = excluded.note"
        );
        let forget_leases =
            format!("DELETE FROM {schema}.leases WHERE holder IS NULL OR until <= $1");
        let state = format!("UPDATE {schema}.state SET fence = $1, lease_round = $2");
        let (appends, consumers, leases, forget_leases, state) = tokio::try_join!(
            rows.prepare(&appends),
            rows.prepare(&consumers),
            rows.prepare(&leases),
            rows.prepare(&forget_leases),
            rows.prepare(&state),
        )?;
        Ok(Self { appends, consumers, leases, forget_leases, state })
    }
}

/// A group, and what it is stored with.
pub(super) struct GroupRows<'g> {
    pub(super) group: &'g WrittenGroup,
    pub(super) head: HeadRow,
    pub(super) leases: &'g Leases,
    pub(super) now: Timestamp,
    pub(super) payload: PayloadColumn,
}

/// Writes the rows of a group and commits them, all in one round trip. The first error is returned;
/// then nothing is committed, unless it is the connection's.
pub(super) async fn commit(
    client: &Rows,
    statements: &GroupStatements,
    rows: &GroupRows<'_>,
) -> Result<(), Error> {
    // They are sent in this order. After one that failed the transaction is over, and the commit
    // undoes it.
    let (written, committed) =
        tokio::join!(write(client, statements, rows), client.batch_execute("COMMIT"));
    written.and(committed)
}

/// Writes the rows of a group in one round trip.
pub(super) async fn write(
    client: &Rows,
    statements: &GroupStatements,
    rows: &GroupRows<'_>,
) -> Result<(), Error> {
    let group = rows.group;
    let (appends, consumers, forgotten, leases, state) = tokio::join!(
        some(!group.appends.is_empty(), appends(client, statements, group, rows.payload)),
        some(
            group.appends.iter().any(|one| one.checkpoint.is_some()),
            consumers(client, statements, &group.appends)
        ),
        some(group.forgets_leases, async {
            client.execute(&statements.forget_leases, &[&DatabaseTime(rows.now)]).await
        }),
        some(!group.works.is_empty(), leases(client, statements, group, rows.leases)),
        some(!group.works.is_empty(), state(client, statements, rows)),
    );
    for written in [appends, consumers, forgotten, leases, state] {
        written?;
    }
    Ok(())
}

async fn some(wanted: bool, write: impl Future<Output = Result<u64, Error>>) -> Result<u64, Error> {
    if wanted { write.await } else { Ok(0) }
}

/// Writes the appends with their events, and the tags of these.
async fn appends(
    client: &Rows,
    statements: &GroupStatements,
    group: &WrittenGroup,
    payload: PayloadColumn,
) -> Result<u64, Error> {
    let values = |one| EventValues::of(one, payload);
    let events = RowArray(group.events.iter().map(values).collect());
    let (tags, positions): (Vec<_>, Vec<_>) = group
        .events
        .iter()
        .flat_map(|one| one.event.tags.iter().map(|tag| (tag, one.event.position)))
        .map(|(tag, position)| (stored(tag), signed(position.0)))
        .unzip();
    let appends = RowArray(group.appends.iter().map(AppendValues).collect());
    client.execute(&statements.appends, &[&events, &tags, &positions, &appends]).await
}

/// Moves the consumers; of two moves of one in a group the later one counts.
async fn consumers(
    client: &Rows,
    statements: &GroupStatements,
    written: &[AppendRow],
) -> Result<u64, Error> {
    let mut last = std::collections::BTreeMap::new();
    for (consumer, at) in written.iter().filter_map(|one| one.checkpoint.as_ref()) {
        let partition = at.partition.0.as_deref().map_or(Cow::Borrowed(""), stored);
        last.insert((stored(consumer), at.store.0, partition), at);
    }
    let (mut names, mut sources, mut partitions) = (Vec::new(), Vec::new(), Vec::new());
    for (name, source, partition) in last.keys() {
        names.push(&**name);
        sources.push(*source);
        partitions.push(&**partition);
    }
    let positions: Vec<_> = last.values().map(|at| signed(at.position.0)).collect();
    let hash = |Hash(bytes): &'_ Hash| bytes.to_vec();
    let hashes: Vec<_> = last.values().map(|at| hash(&at.hash)).collect();
    client
        .execute(&statements.consumers, &[&names, &sources, &partitions, &positions, &hashes])
        .await
}

async fn leases(
    client: &Rows,
    statements: &GroupStatements,
    group: &WrittenGroup,
    leases: &Leases,
) -> Result<u64, Error> {
    let (mut works, mut holders, mut fences) = (Vec::new(), Vec::new(), Vec::new());
    let (mut untils, mut notes) = (Vec::new(), Vec::new());
    for work in &group.works {
        // A release of what nobody has.
        let Some(tenure) = leases.tenure(work) else { continue };
        works.push(stored(work));
        holders.push(tenure.holder.map(|holder| holder.0));
        fences.push(signed(tenure.fence.0));
        untils.push(DatabaseTime(tenure.until));
        notes.push(tenure.note.to_vec());
    }
    client.execute(&statements.leases, &[&works, &holders, &fences, &untils, &notes]).await
}

/// Counts a change of leases.
async fn state(
    client: &Rows,
    statements: &GroupStatements,
    rows: &GroupRows<'_>,
) -> Result<u64, Error> {
    let fence = rows.head.fence.max(rows.leases.last().0);
    let round = rows.head.lease_round + 1;
    client.execute(&statements.state, &[&signed(fence), &round]).await
}
