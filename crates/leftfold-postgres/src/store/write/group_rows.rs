//! The rows of a group, each table's in one statement.

use std::borrow::Cow;

use leftfold_core::store::{Hash, Leases, Timestamp};
use tokio_postgres::{Error, Statement};
use uuid::Uuid;

use super::event_rows::{EVENT_COLUMNS, EventRows};
use super::judge::{WrittenEvent, WrittenGroup};
use crate::Rows;
use crate::store::payload::PayloadColumn;
use crate::store::rows::{AppendRow, HeadRow};
use crate::store::text::stored;
use crate::store::values::{DatabaseTime, signed};

/// The prepared statements that write a group.
#[derive(Debug)]
pub(super) struct GroupStatements {
    events: Statement,
    tags: Statement,
    appends: Statement,
    consumers: Statement,
    leases: Statement,
    forget_leases: Statement,
    state: Statement,
}

impl GroupStatements {
    pub(super) async fn prepare(rows: &Rows, schema: &str) -> Result<Self, Error> {
        let events = format!(
            "INSERT INTO {schema}.events ({EVENT_COLUMNS})
            SELECT {EVENT_COLUMNS} FROM unnest($1::{schema}.events[])"
        );
        let tags = format!(
            "INSERT INTO {schema}.tags (tag, position) SELECT * FROM unnest($1::text[], $2::bigint[])"
        );
        let appends = format!(
            "INSERT INTO {schema}.appends (append, first, events, recorded_at, hash, bytes, command,
                digest, answer, consumer, source, partition, checkpoint, checkpoint_hash)
            SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[],
                $5::bytea[], $6::bigint[], $7::uuid[], $8::bytea[], $9::bytea[], $10::text[],
                $11::uuid[], $12::text[], $13::bigint[], $14::bytea[])"
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
        let (events, tags, appends, consumers, leases, forget_leases, state) = tokio::try_join!(
            rows.prepare(&events),
            rows.prepare(&tags),
            rows.prepare(&appends),
            rows.prepare(&consumers),
            rows.prepare(&leases),
            rows.prepare(&forget_leases),
            rows.prepare(&state),
        )?;
        Ok(Self { events, tags, appends, consumers, leases, forget_leases, state })
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
    let (events, tags, appends, consumers, forgotten, leases, state) = tokio::join!(
        some(!group.events.is_empty(), events(client, statements, &group.events, rows.payload)),
        some(
            group.events.iter().any(|one| !one.event.tags.is_empty()),
            tags(client, statements, &group.events)
        ),
        some(!group.appends.is_empty(), appends(client, statements, &group.appends)),
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
    for written in [events, tags, appends, consumers, forgotten, leases, state] {
        written?;
    }
    Ok(())
}

async fn some(wanted: bool, write: impl Future<Output = Result<u64, Error>>) -> Result<u64, Error> {
    if wanted { write.await } else { Ok(0) }
}

async fn events(
    client: &Rows,
    statements: &GroupStatements,
    written: &[WrittenEvent],
    payload: PayloadColumn,
) -> Result<u64, Error> {
    client.execute(&statements.events, &[&EventRows { written, payload }]).await
}

async fn tags(
    client: &Rows,
    statements: &GroupStatements,
    written: &[WrittenEvent],
) -> Result<u64, Error> {
    let (tags, positions): (Vec<_>, Vec<_>) = written
        .iter()
        .flat_map(|one| one.event.tags.iter().map(|tag| (tag, one.event.position)))
        .map(|(tag, position)| (stored(tag), signed(position.0)))
        .unzip();
    client.execute(&statements.tags, &[&tags, &positions]).await
}

async fn appends(
    client: &Rows,
    statements: &GroupStatements,
    written: &[AppendRow],
) -> Result<u64, Error> {
    let each = |number: fn(&AppendRow) -> u64| -> Vec<i64> {
        written.iter().map(|one| signed(number(one))).collect()
    };
    let (numbers, firsts) = (each(|one| one.number), each(|one| one.first.0));
    let events = each(|one| one.events);
    let moments: Vec<_> = written.iter().map(|one| DatabaseTime(one.recorded_at)).collect();
    let hashes: Vec<_> = written.iter().map(|one| one.hash.0.as_slice()).collect();
    let bytes: Vec<_> = written.iter().map(|one| one.bytes).collect();
    let records = || written.iter().map(|one| one.command.as_ref().map(|one| &one.record));
    let ids: Vec<_> = records().map(|one| one.map(|one| Uuid::from_bytes(one.id.0))).collect();
    let digests: Vec<_> = records().map(|one| one.map(|one| one.digest.0.as_slice())).collect();
    let answers: Vec<_> = records().map(|one| one.map(|one| &*one.answer)).collect();
    let moves = || written.iter().map(|one| one.checkpoint.as_ref());
    let consumers: Vec<_> = moves().map(|one| one.map(|(name, _)| stored(name))).collect();
    let sources: Vec<_> = moves().map(|one| one.map(|(_, at)| at.store.0)).collect();
    let partitions: Vec<_> =
        moves().map(|one| one.and_then(|(_, at)| at.partition.0.as_deref()).map(stored)).collect();
    let positions: Vec<_> = moves().map(|one| one.map(|(_, at)| signed(at.position.0))).collect();
    let checkpoint_hashes: Vec<_> =
        moves().map(|one| one.map(|(_, at)| at.hash.0.as_slice())).collect();
    client
        .execute(
            &statements.appends,
            &[
                &numbers,
                &firsts,
                &events,
                &moments,
                &hashes,
                &bytes,
                &ids,
                &digests,
                &answers,
                &consumers,
                &sources,
                &partitions,
                &positions,
                &checkpoint_hashes,
            ],
        )
        .await
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
