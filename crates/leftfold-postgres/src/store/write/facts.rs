//! What a group depends on, read behind the lock of the head.

use std::collections::{HashMap, HashSet};

use leftfold_core::store::{
    Answered, CheckpointRecord, CommandId, EventType, Fence, Hash, Holder, Label, Leases, Position,
    ReadError, StoreId, StreamName, Tag, Tags, Tenure, Timestamp, Version,
};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};
use uuid::Uuid;

use super::recent::{RECENT_MAX, RecentEvent, RecentEvents};
use super::request::StoreRequest;
use super::versions::KnownVersions;
use crate::Rows;
use crate::store::error::NotDone;
use crate::store::rows::{self, APPEND, HeadRow};
use crate::store::tables::BEGIN;
use crate::store::text::{original, stored};
use crate::store::values::{DatabaseTime, signed, unsigned};

/// The stored state that the requests of a group ask about.
#[derive(Debug)]
pub(super) struct GroupFacts {
    pub(super) head: HeadRow,
    /// Hash of the append that was known to be the last one; `None` if it is not there.
    pub(super) last: Option<Hash>,
    /// Format of the tables.
    pub(super) format: i64,
    /// Time of the database's clock.
    pub(super) now: Timestamp,
    /// Version of each stream that is written, or that something is expected of.
    pub(super) versions: HashMap<StreamName, Version>,
    /// Those of the group's command ids that were used before.
    pub(super) answered: HashMap<CommandId, Answered>,
    /// Positions of the consumers that have any.
    pub(super) consumers: HashMap<ConsumerKey, Position>,
}

/// A consumer in a partition of a source.
pub(super) type ConsumerKey = (Label, StoreId, Option<Label>);

/// Returns the key of the consumer that a record moves.
pub(super) fn consumer_key(record: &CheckpointRecord) -> ConsumerKey {
    let checkpoint = &record.checkpoint;
    (record.consumer.clone(), checkpoint.store, checkpoint.partition.0.clone())
}

/// Knowledge that the writer keeps from one group to the next.
#[derive(Debug)]
pub(super) struct KnownState {
    pub(super) recent: RecentEvents,
    pub(super) versions: KnownVersions,
    pub(super) leases: Leases,
    /// The round of which the leases are; `None` if they are not known.
    pub(super) lease_round: Option<i64>,
}

impl KnownState {
    /// Nothing but the position of the head.
    pub(super) fn after(head: Position) -> Self {
        Self {
            recent: RecentEvents::after(head),
            versions: KnownVersions::default(),
            leases: Leases::default(),
            lease_round: None,
        }
    }
}

/// The prepared statements that read facts.
#[derive(Debug)]
pub(super) struct FactStatements {
    facts: Statement,
    repeated: Statement,
    leases: Statement,
    recent: Statement,
}

impl FactStatements {
    pub(super) async fn prepare(rows: &Rows, schema: &str) -> Result<Self, Error> {
        let facts = format!("SELECT * FROM {schema}.group_facts($1, $2, $3, $4, $5, $6, $7, $8)");
        let repeated =
            format!("SELECT {APPEND} FROM {schema}.appends a WHERE a.append = ANY($1::bigint[])");
        let leases = format!("SELECT * FROM {schema}.leases_since($1)");
        let recent = format!(
            "SELECT e.position, e.type, e.stream, e.tags FROM {schema}.events e
            WHERE e.position > $1 ORDER BY e.position LIMIT {RECENT_MAX}"
        );
        let (facts, repeated, leases, recent) = tokio::try_join!(
            rows.prepare(&facts),
            rows.prepare(&repeated),
            rows.prepare(&leases),
            rows.prepare(&recent),
        )?;
        Ok(Self { facts, repeated, leases, recent })
    }
}

/// Parameters of a statement.
type Parameters<'p, const N: usize> = [&'p (dyn ToSql + Sync); N];

/// The things that the requests of a group ask about.
#[derive(Default)]
struct Asked<'r> {
    /// Streams of whose versions nothing is known.
    streams: Vec<&'r StreamName>,
    /// Streams whose versions are known, unless another process has appended.
    kept: Vec<(&'r StreamName, Version)>,
    commands: Vec<Uuid>,
    consumers: Vec<ConsumerKey>,
    leases: bool,
    events: bool,
}

impl<'r> Asked<'r> {
    fn by(requests: &'r [StoreRequest], known: &KnownVersions) -> Self {
        let mut asked = Self::default();
        let (mut streams, mut consumers) = (HashSet::new(), HashSet::new());
        for request in requests {
            let StoreRequest::Append(waiting) = request else {
                asked.leases = true;
                continue;
            };
            let append = &waiting.append;
            let written = append.events.iter().filter_map(|event| event.stream.as_ref());
            let expected = append.condition.streams.iter().map(|(name, _)| name);
            for stream in written.chain(expected) {
                if streams.insert(stream) {
                    match known.get(stream) {
                        Some(version) => asked.kept.push((stream, version)),
                        None => asked.streams.push(stream),
                    }
                }
            }
            asked.commands.extend(append.command.iter().map(|one| Uuid::from_bytes(one.id.0)));
            consumers.extend(append.checkpoint.as_ref().map(consumer_key));
            asked.leases |= append.fence.is_some();
            asked.events |= !append.condition.none_matching.is_empty();
        }
        asked.consumers.extend(consumers);
        asked
    }

    /// The versions of all streams that are asked about, as the row of facts has them.
    fn versions(&self, row: &Row) -> Result<HashMap<StreamName, Version>, NotDone> {
        let told = |column| -> Result<Option<Vec<i64>>, Error> { row.try_get(column) };
        let version = |told: i64| Version(unsigned(told));
        let asked = told("asked_versions")?.unwrap_or_default().into_iter().map(version);
        let asked = self.streams.iter().copied().zip(asked);
        let kept = match told("kept_versions")? {
            Some(changed) => {
                let streams = self.kept.iter().map(|(stream, _)| *stream);
                streams.zip(changed.into_iter().map(version)).collect()
            }
            None => self.kept.clone(),
        };
        Ok(asked.chain(kept).map(|(stream, version)| (stream.clone(), version)).collect())
    }
}

/// Begins the transaction, behind the lock of writers, and reads what the requests depend on, all
/// in one round trip. `last` is the append that was shown here last.
pub(super) async fn load(
    client: &Rows,
    statements: &FactStatements,
    last: u64,
    requests: &[StoreRequest],
    known: &mut KnownState,
) -> Result<GroupFacts, NotDone> {
    let asked = Asked::by(requests, &known.versions);
    let streams: Vec<_> = asked.streams.iter().map(|name| stored(name)).collect();
    let kept: Vec<_> = asked.kept.iter().map(|(name, _)| stored(name)).collect();
    let sources: Vec<Uuid> = asked.consumers.iter().map(|(_, source, _)| source.0).collect();
    let text = |label: &Label| stored(label).into_owned();
    let (consumers, partitions): (Vec<_>, Vec<_>) = asked
        .consumers
        .iter()
        .map(|(consumer, _, part)| (text(consumer), part.as_ref().map_or_else(String::new, text)))
        .unzip();
    let recent_through = signed(known.recent.through().0);
    // All changed in a round.
    let lease_round = known.lease_round.unwrap_or(-1);
    let (last, through) = (signed(last), signed(known.versions.through()));
    let of_facts: Parameters<'_, 8> =
        [&last, &through, &streams, &kept, &asked.commands, &consumers, &sources, &partitions];
    let (of_leases, of_events): (Parameters<'_, 1>, Parameters<'_, 1>) =
        ([&lease_round], [&recent_through]);
    // They are sent in this order. The first to fail says why; those behind it say that the
    // transaction is over.
    let (begun, facts, leases, events) = tokio::join!(
        client.batch_execute(BEGIN),
        client.query_one(&statements.facts, &of_facts),
        some(asked.leases, client.query(&statements.leases, &of_leases)),
        some(asked.events, client.query(&statements.recent, &of_events)),
    );
    begun?;
    let facts = facts?;
    let (leases, events) = (leases?, events?);
    let head = rows::head(&facts, 0)?;
    if asked.leases {
        restore(&mut known.leases, &leases, head)?;
        known.lease_round = Some(head.lease_round);
    }
    if asked.events {
        follow(&mut known.recent, &events, head.head.position)?;
    }
    let DatabaseTime(now) = facts.try_get("now")?;
    let shown: Option<&[u8]> = facts.try_get("shown_hash")?;
    let positions: Vec<Option<i64>> =
        facts.try_get::<_, Option<_>>("consumed")?.unwrap_or_default();
    let positions = positions.into_iter().map(|at| at.map(|at| Position(unsigned(at))));
    Ok(GroupFacts {
        head,
        last: shown.and_then(|hash| hash.try_into().ok()).map(Hash),
        format: facts.try_get("format")?,
        now,
        versions: asked.versions(&facts)?,
        answered: answered(client, &statements.repeated, &facts).await?,
        consumers: asked
            .consumers
            .iter()
            .zip(positions)
            .filter_map(|(key, at)| Some((key.clone(), at?)))
            .collect(),
    })
}

/// The appends of the command ids that were used before: rarely any, so they are asked for by
/// themselves.
async fn answered(
    client: &Rows,
    statement: &Statement,
    facts: &Row,
) -> Result<HashMap<CommandId, Answered>, NotDone> {
    let repeated: Vec<i64> = facts.try_get::<_, Option<_>>("repeated")?.unwrap_or_default();
    let mut answered = HashMap::new();
    if repeated.is_empty() {
        return Ok(answered);
    }
    for row in &client.query(statement, &[&repeated]).await? {
        let command = rows::append(row, 0)?.command;
        answered.extend(command.map(|command| (command.record.id, command)));
    }
    Ok(answered)
}

/// Asks for rows if they are wanted.
async fn some(
    wanted: bool,
    ask: impl Future<Output = Result<Vec<Row>, Error>>,
) -> Result<Vec<Row>, Error> {
    if wanted { ask.await } else { Ok(Vec::new()) }
}

/// Takes in the leases that others changed: all that there are, if others forgot some.
fn restore(leases: &mut Leases, stored: &[Row], head: HeadRow) -> Result<(), NotDone> {
    if stored.first().map_or(Ok(false), |row| row.try_get(0))? {
        *leases = Leases::default();
    }
    leases.go_beyond(Fence(head.fence));
    for row in stored {
        // None has changed.
        let Some(work) = row.try_get::<_, Option<String>>(1)? else { break };
        let work = Label::new(original(work)).map_err(unreadable)?;
        let tenure = Tenure {
            holder: row.try_get::<_, Option<Uuid>>(2)?.map(Holder),
            fence: Fence(unsigned(row.try_get(3)?)),
            until: row.try_get::<_, DatabaseTime>(4)?.0,
            note: bytes::Bytes::copy_from_slice(row.try_get(5)?),
        };
        leases.restore(work, tenure);
    }
    Ok(())
}

/// Adds what others wrote; if that is more than is kept, what was known is let go.
fn follow(recent: &mut RecentEvents, found: &[Row], head: Position) -> Result<(), NotDone> {
    if recent.through().0 + found.len() as u64 != head.0 {
        *recent = RecentEvents::after(head);
        return Ok(());
    }
    for row in found {
        let tags = row.try_get::<_, Vec<String>>(3)?;
        let tags = tags.into_iter().map(|tag| Tag::new(original(tag)));
        let stream =
            row.try_get::<_, Option<String>>(2)?.map(|name| StreamName::new(original(name)));
        recent.push(RecentEvent {
            event_type: EventType::new(original(row.try_get(1)?)).map_err(unreadable)?,
            stream: stream.transpose().map_err(unreadable)?,
            tags: tags.collect::<Result<Tags, _>>().map_err(unreadable)?,
        });
    }
    Ok(())
}

fn unreadable(error: leftfold_core::store::Invalid) -> NotDone {
    let place = "the tables of the store".to_owned();
    NotDone::Damaged(ReadError::Damaged { place, detail: error.to_string() })
}
