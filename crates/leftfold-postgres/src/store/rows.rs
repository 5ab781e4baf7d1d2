//! Rows of the tables as what they were stored from.

use std::ops::Deref;

use bytes::Bytes;
use leftfold_core::store::{
    Answered, Checkpoint, CommandId, CommandRecord, Digest, EventId, EventType, Hash, Head,
    InStream, Invalid, Label, Metadata, Partition, Position, ReadError, RecordedEvent, StoreId,
    StreamName, Tag, Tags, Timestamp, TraceContext, Version,
};
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;
use uuid::Uuid;

use super::payload::content_type;
use super::text::{is_plain, original};
use super::values::{DatabaseTime, JsonText, unsigned};

/// Columns of an event, as [`event`] reads them.
pub(super) const EVENT: &str = "e.position, e.continues, e.recorded_at, e.stream, e.version, e.type, \
    e.schema_version, e.id, e.content_type, e.data, e.data_bytes, e.metadata, e.metadata_bytes, \
    e.tags, e.correlation, e.causation, e.traceparent, e.tracestate, e.key_ids";

/// Columns of an append, as [`append`] reads them.
pub(super) const APPEND: &str = "a.append, a.first, a.events, a.recorded_at, a.hash, a.bytes, \
    a.command, a.digest, a.answer, a.consumer, a.source, a.partition, a.checkpoint, a.checkpoint_hash";

/// Columns of the head, as [`head`] reads them.
pub(super) const HEAD: &str = "h.append, h.position, h.chain, h.recorded_at, h.fence, h.lease_round, \
    h.inline_round, h.epoch";

/// The head of the history as its row has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HeadRow {
    /// Number of the last append.
    pub(super) append: u64,
    pub(super) head: Head,
    /// The last fence that was given.
    pub(super) fence: u64,
    /// Number of changes of leases.
    pub(super) lease_round: i64,
    /// Number of changes of inline projections.
    pub(super) inline_round: i64,
    pub(super) epoch: i64,
}

/// An append without its events.
#[derive(Clone, Debug)]
pub(super) struct AppendRow {
    pub(super) number: u64,
    pub(super) first: Position,
    pub(super) events: u64,
    pub(super) recorded_at: Timestamp,
    pub(super) hash: Hash,
    /// Bytes that it counts for in a page of appends.
    pub(super) bytes: i64,
    pub(super) command: Option<Answered>,
    pub(super) checkpoint: Option<(Label, Checkpoint)>,
}

/// A value in a row that nothing of ours writes.
struct Unreadable(String);

impl<E: std::error::Error> From<E> for Unreadable {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

/// Reads an event whose columns begin at an index. What it has in common with the event `before`
/// it, it shares with that one.
pub(super) fn event(
    row: &Row,
    from: usize,
    before: Option<&RecordedEvent>,
) -> Result<RecordedEvent, ReadError> {
    let position = row.try_get::<_, i64>(from).map_or(0, unsigned);
    try_event(row, from, Position(position), before)
        .map_err(|why| damaged(&format!("events, position {position}"), why))
}

fn try_event(
    row: &Row,
    from: usize,
    position: Position,
    before: Option<&RecordedEvent>,
) -> Result<RecordedEvent, Unreadable> {
    let mut columns = Columns { row, next: from + 1 };
    let append_continues = columns.take()?;
    let DatabaseTime(recorded_at) = columns.take()?;
    let like = before.and_then(|before| before.stream.as_ref()).map(|at| &at.name);
    let stream = columns.take::<Option<&str>>()?.map(|text| shared(text, like, StreamName::new));
    let (stream, version) = (stream.transpose()?, columns.take::<Option<i64>>()?);
    let like = before.map(|before| &before.event_type);
    let event_type = shared(columns.take()?, like, EventType::new)?;
    let schema_version = u32::try_from(columns.take::<i64>()?)?;
    let id = EventId(columns.take()?);
    let media_type = original(columns.take()?);
    let data = payload(&mut columns)?;
    let user = payload(&mut columns)?.unwrap_or_default();
    let like = before.map_or(&[][..], |before| before.tags.as_slice());
    let tags = columns.take::<Vec<&str>>()?;
    let tags = tags.into_iter().enumerate();
    let tags = tags.map(|(index, tag)| shared(tag, like.get(index), Tag::new));
    let tags = tags.collect::<Result<Tags, _>>()?;
    let (correlation, causation) = (label(&mut columns)?, label(&mut columns)?);
    let (parent, state) = (columns.take::<Option<String>>()?, columns.take::<Option<String>>()?);
    let trace = parent.map(|parent| TraceContext::parse(&parent, state.as_deref())).transpose()?;
    let keys = columns.take::<Option<Vec<String>>>()?.unwrap_or_default();
    let key_ids =
        keys.into_iter().map(|key| Label::new(original(key))).collect::<Result<Vec<_>, _>>()?;
    Ok(RecordedEvent {
        position,
        recorded_at,
        stream: stream
            .zip(version)
            .map(|(name, version)| InStream { name, version: Version(unsigned(version)) }),
        id,
        event_type,
        schema_version,
        content_type: content_type(&media_type).ok_or(Unreadable(media_type))?,
        data: data.ok_or_else(|| Unreadable("it has no data".to_owned()))?,
        metadata: Metadata { correlation, causation, user, trace },
        tags,
        key_ids,
        append_continues,
    })
}

/// A name as it was before it was stored; the one that it is `like`, if they are the same.
fn shared<T: Clone + Deref<Target = str>>(
    stored: &str,
    like: Option<&T>,
    new: impl FnOnce(String) -> Result<T, Invalid>,
) -> Result<T, Invalid> {
    match like {
        Some(like) if **like == *stored && is_plain(stored) => Ok(like.clone()),
        _ => new(original(stored.to_owned())),
    }
}

/// The columns of a row, one after the other.
struct Columns<'r> {
    row: &'r Row,
    next: usize,
}

impl<'r> Columns<'r> {
    fn take<T: FromSql<'r>>(&mut self) -> Result<T, Unreadable> {
        self.next += 1;
        Ok(self.row.try_get(self.next - 1)?)
    }
}

/// The two columns of a payload; `None` if both are empty.
fn payload(columns: &mut Columns<'_>) -> Result<Option<Bytes>, Unreadable> {
    let (json, bytes) = (columns.take::<Option<JsonText<'_>>>()?, columns.take::<Option<&[u8]>>()?);
    Ok(json.map(|JsonText(text)| text).or(bytes).map(Bytes::copy_from_slice))
}

fn label(columns: &mut Columns<'_>) -> Result<Option<Label>, Unreadable> {
    let text = columns.take::<Option<String>>()?;
    Ok(text.map(|text| Label::new(original(text))).transpose()?)
}

/// Reads an append whose columns begin at an index.
pub(super) fn append(row: &Row, from: usize) -> Result<AppendRow, ReadError> {
    let number = row.try_get::<_, i64>(from).map_or(0, unsigned);
    try_append(row, from, number).map_err(|why| damaged(&format!("appends, append {number}"), why))
}

fn try_append(row: &Row, from: usize, number: u64) -> Result<AppendRow, Unreadable> {
    let mut columns = Columns { row, next: from + 1 };
    let first = Position(unsigned(columns.take()?));
    let events = unsigned(columns.take()?);
    let DatabaseTime(recorded_at) = columns.take()?;
    let (hash, bytes) = (hash(columns.take()?)?, columns.take()?);
    let (id, digest, answer) = (
        columns.take::<Option<Uuid>>()?,
        columns.take::<Option<&[u8]>>()?,
        columns.take::<Option<&[u8]>>()?,
    );
    let command = match (id, digest, answer) {
        (Some(id), Some(digest), Some(answer)) => Some(Answered {
            record: CommandRecord {
                id: CommandId(id.into_bytes()),
                digest: Digest(digest.try_into()?),
                answer: Bytes::copy_from_slice(answer),
            },
            recorded_at,
            first,
            events: u32::try_from(events)?,
        }),
        (None, ..) => None,
        _ => return Err(Unreadable("its command has no digest, or no answer".to_owned())),
    };
    let consumer = label(&mut columns)?;
    let source = columns.take::<Option<Uuid>>()?;
    let partition = label(&mut columns)?;
    let position = columns.take::<Option<i64>>()?;
    let checkpoint_hash = columns.take::<Option<&[u8]>>()?;
    let checkpoint = match (consumer, source, position, checkpoint_hash) {
        (Some(consumer), Some(source), Some(position), Some(bytes)) => Some((
            consumer,
            Checkpoint {
                store: StoreId(source),
                partition: Partition(partition),
                position: Position(unsigned(position)),
                hash: self::hash(bytes)?,
            },
        )),
        (None, ..) => None,
        _ => return Err(Unreadable("its checkpoint is not whole".to_owned())),
    };
    Ok(AppendRow { number, first, events, recorded_at, hash, bytes, command, checkpoint })
}

/// Reads a checkpoint from its columns `checkpoint` and `checkpoint_hash`.
pub(super) fn checkpoint(
    row: &Row,
    store: StoreId,
    partition: Partition,
) -> Result<Checkpoint, ReadError> {
    let read =
        || -> Result<_, Unreadable> { Ok((row.try_get::<_, i64>(0)?, hash(row.try_get(1)?)?)) };
    let (position, hash) = read().map_err(|why| damaged("appends", why))?;
    Ok(Checkpoint { store, partition, position: Position(unsigned(position)), hash })
}

/// Reads the head, whose columns begin at an index.
pub(super) fn head(row: &Row, from: usize) -> Result<HeadRow, ReadError> {
    try_head(row, from).map_err(|why| damaged("head", why))
}

fn try_head(row: &Row, from: usize) -> Result<HeadRow, Unreadable> {
    let mut columns = Columns { row, next: from };
    let append = unsigned(columns.take()?);
    let position = Position(unsigned(columns.take()?));
    let chain = hash(columns.take()?)?;
    let recorded_at =
        columns.take::<Option<DatabaseTime>>()?.map_or(Timestamp::MIN, |DatabaseTime(at)| at);
    let fence = unsigned(columns.take()?);
    let (lease_round, inline_round) = (columns.take()?, columns.take()?);
    let epoch = columns.take()?;
    let head = Head { position, chain, recorded_at };
    Ok(HeadRow { append, head, fence, lease_round, inline_round, epoch })
}

fn hash(bytes: &[u8]) -> Result<Hash, Unreadable> {
    Ok(Hash(bytes.try_into()?))
}

fn damaged(place: &str, Unreadable(detail): Unreadable) -> ReadError {
    ReadError::Damaged { place: format!("table {place}"), detail }
}
