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
use crate::Rows;
use crate::store::error::NotDone;
use crate::store::rows::{self, APPEND, HEAD, HeadRow};
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
    pub(super) leases: Leases,
    /// The round of which the leases are; `None` if they are not known.
    pub(super) lease_round: Option<i64>,
}

impl KnownState {
    /// Nothing but the position of the head.
    pub(super) fn after(head: Position) -> Self {
        Self { recent: RecentEvents::after(head), leases: Leases::default(), lease_round: None }
    }
}

/// The prepared statements that read facts.
#[derive(Debug)]
pub(super) struct FactStatements {
    head: Statement,
    versions: Statement,
    commands: Statement,
    consumers: Statement,
    leases: Statement,
    recent: Statement,
}

impl FactStatements {
    pub(super) async fn prepare(rows: &Rows, schema: &str) -> Result<Self, Error> {
        let head = format!("SELECT {HEAD} FROM {schema}.head h");
        let versions = format!(
            "SELECT clock_timestamp(), ARRAY(SELECT coalesce((SELECT e.version
                FROM {schema}.events e WHERE e.stream = t.name ORDER BY e.version DESC LIMIT 1), 0)
            FROM unnest($1::text[]) WITH ORDINALITY t (name, place) ORDER BY place),
            (SELECT a.hash FROM {schema}.appends a WHERE a.append = $2::bigint),
            (SELECT s.format FROM {schema}.store s)"
        );
        let commands =
            format!("SELECT {APPEND} FROM {schema}.appends a WHERE a.command = ANY($1::uuid[])");
        let consumers = format!(
            "SELECT t.place, c.position
            FROM unnest($1::text[], $2::uuid[], $3::text[]) WITH ORDINALITY t (c, s, p, place)
            JOIN {schema}.checkpoints c ON c.consumer = t.c AND c.source = t.s AND c.partition = t.p"
        );
        let leases = format!(
            "SELECT l.work, l.holder, l.fence, l.until, l.note
            FROM {schema}.leases l, {schema}.state s WHERE s.lease_round IS DISTINCT FROM $1::bigint"
        );
        let recent = format!(
            "SELECT e.position, e.type, e.stream, e.tags FROM {schema}.events e
            WHERE e.position > $1 ORDER BY e.position LIMIT {RECENT_MAX}"
        );
        let (head, versions, commands, consumers, leases, recent) = tokio::try_join!(
            rows.prepare(&head),
            rows.prepare(&versions),
            rows.prepare(&commands),
            rows.prepare(&consumers),
            rows.prepare(&leases),
            rows.prepare(&recent),
        )?;
        Ok(Self { head, versions, commands, consumers, leases, recent })
    }
}

/// Parameters of a statement.
type Parameters<'p, const N: usize> = [&'p (dyn ToSql + Sync); N];

/// The things that the requests of a group ask about.
struct Asked<'r> {
    streams: Vec<&'r StreamName>,
    commands: Vec<Uuid>,
    consumers: Vec<ConsumerKey>,
    leases: bool,
    events: bool,
}

impl<'r> Asked<'r> {
    fn by(requests: &'r [StoreRequest]) -> Self {
        let mut asked = Self {
            streams: Vec::new(),
            commands: Vec::new(),
            consumers: Vec::new(),
            leases: false,
            events: false,
        };
        let (mut streams, mut consumers) = (HashSet::new(), HashSet::new());
        for request in requests {
            let StoreRequest::Append(waiting) = request else {
                asked.leases = true;
                continue;
            };
            let append = &waiting.append;
            let written = append.events.iter().filter_map(|event| event.stream.as_ref());
            let expected = append.condition.streams.iter().map(|(name, _)| name);
            streams.extend(written.chain(expected));
            asked.commands.extend(append.command.iter().map(|one| Uuid::from_bytes(one.id.0)));
            consumers.extend(append.checkpoint.as_ref().map(consumer_key));
            asked.leases |= append.fence.is_some();
            asked.events |= !append.condition.none_matching.is_empty();
        }
        asked.streams.extend(streams);
        asked.consumers.extend(consumers);
        asked
    }
}

/// Begins the transaction by `begin`, behind the lock of the head, and reads what the requests
/// depend on, all in one round trip.
pub(super) async fn load(
    client: &Rows,
    statements: &FactStatements,
    (begin, last): (&str, u64),
    requests: &[StoreRequest],
    known: &mut KnownState,
) -> Result<GroupFacts, NotDone> {
    let asked = Asked::by(requests);
    let names: Vec<_> = asked.streams.iter().map(|name| stored(name)).collect();
    let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
    let sources: Vec<Uuid> = asked.consumers.iter().map(|(_, source, _)| source.0).collect();
    let text = |label: &Label| stored(label).into_owned();
    let (consumers, partitions): (Vec<_>, Vec<_>) = asked
        .consumers
        .iter()
        .map(|(consumer, _, part)| (text(consumer), part.as_ref().map_or_else(String::new, text)))
        .unzip();
    let through = signed(known.recent.through().0);
    let last = signed(last);
    let (of_streams, of_commands): (Parameters<'_, 2>, Parameters<'_, 1>) =
        ([&names, &last], [&asked.commands]);
    let of_consumers: Parameters<'_, 3> = [&consumers, &sources, &partitions];
    let (of_leases, of_events): (Parameters<'_, 1>, Parameters<'_, 1>) =
        ([&known.lease_round], [&through]);
    // They are sent in this order. The first to fail says why; those behind it say that the
    // transaction is over.
    let (begun, head, versions, commands, found, leases, events) = tokio::join!(
        client.batch_execute(begin),
        client.query_one(&statements.head, &[]),
        client.query_one(&statements.versions, &of_streams),
        some(!asked.commands.is_empty(), client.query(&statements.commands, &of_commands)),
        some(!sources.is_empty(), client.query(&statements.consumers, &of_consumers)),
        some(asked.leases, client.query(&statements.leases, &of_leases)),
        some(asked.events, client.query(&statements.recent, &of_events)),
    );
    begun?;
    let head = rows::head(&head?, 0)?;
    let (versions, commands, found, leases, events) =
        (versions?, commands?, found?, leases?, events?);
    if asked.leases && known.lease_round != Some(head.lease_round) {
        known.leases = restored(&leases, head)?;
        known.lease_round = Some(head.lease_round);
    }
    if asked.events {
        follow(&mut known.recent, &events, head.head.position)?;
    }
    let (DatabaseTime(now), counts) = (versions.try_get(0)?, versions.try_get::<_, Vec<i64>>(1)?);
    let last = versions.try_get::<_, Option<&[u8]>>(2)?;
    let last = last.and_then(|hash| hash.try_into().ok()).map(Hash);
    let known_versions = asked.streams.iter().zip(counts);
    let mut positions = HashMap::new();
    for row in &found {
        let place = usize::try_from(row.try_get::<_, i64>(0)? - 1).unwrap_or(usize::MAX);
        let position = Position(unsigned(row.try_get(1)?));
        positions.extend(asked.consumers.get(place).map(|key| (key.clone(), position)));
    }
    Ok(GroupFacts {
        head,
        last,
        format: versions.try_get(3)?,
        now,
        versions: known_versions
            .map(|(name, count)| ((*name).clone(), Version(unsigned(count))))
            .collect(),
        answered: answered(&commands)?,
        consumers: positions,
    })
}

fn answered(found: &[Row]) -> Result<HashMap<CommandId, Answered>, NotDone> {
    let mut answered = HashMap::new();
    for row in found {
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

/// The leases that stand in the table.
fn restored(stored: &[Row], head: HeadRow) -> Result<Leases, NotDone> {
    let mut leases = Leases::default();
    leases.go_beyond(Fence(head.fence));
    for row in stored {
        let work = Label::new(original(row.try_get(0)?)).map_err(unreadable)?;
        let tenure = Tenure {
            holder: row.try_get::<_, Option<Uuid>>(1)?.map(Holder),
            fence: Fence(unsigned(row.try_get(2)?)),
            until: row.try_get::<_, DatabaseTime>(3)?.0,
            note: bytes::Bytes::copy_from_slice(row.try_get(4)?),
        };
        leases.restore(work, tenure);
    }
    Ok(leases)
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
