//! An append: what goes in together, under which condition, and what came of it.

use super::limits::{
    ANSWER_BYTES_MAX, APPEND_BYTES_MAX, APPEND_EVENTS_MAX, DATA_BYTES_MAX, EXPECTATIONS_MAX,
    KEY_IDS_MAX, METADATA_BYTES_MAX, QUERIES_MAX, QUERY_ITEMS_MAX, TAGS_MAX,
};
use super::{
    Answered, Authority, CheckpointRecord, CommandId, CommandRecord, ContentType, Fence, Invalid,
    Label, Lease, MoveFrom, NewEvent, Position, Query, StreamName, Tag, Timestamp, TraceContext,
    Version,
};

/// Everything that becomes durable together, or not at all.
///
/// Each part may be absent: events without a condition are facts that nothing depends on; a command
/// record alone remembers a refusal, or an acceptance without events; a checkpoint record alone
/// moves a consumer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Append {
    /// The events, in order; they get consecutive positions, and versions in their streams.
    pub events: Vec<NewEvent>,
    /// Condition that must hold for the append to happen.
    pub condition: Condition,
    /// Request that this append answers; `None` if it answers none.
    pub command: Option<CommandRecord>,
    /// Checkpoint that this append records for a consumer; `None` if it moves no consumer.
    pub checkpoint: Option<CheckpointRecord>,
    /// Work that this append is part of, and the fence of its author's lease; `None` if it is made
    /// under no lease. The append is refused if the fence is not the latest that was given for that
    /// work. Nothing of it is stored.
    pub fence: Option<(Label, Fence)>,
    /// Right by which the append is made: an application's, unless the runtime or a copy made it.
    /// Nothing of it is stored.
    pub authority: Authority,
}

impl Append {
    /// An append of events without a condition.
    #[must_use]
    pub fn of(events: Vec<NewEvent>) -> Self {
        Self { events, ..Self::default() }
    }

    /// The same append, under a condition.
    #[must_use]
    pub fn when(mut self, condition: Condition) -> Self {
        self.condition = condition;
        self
    }

    /// The same append, as part of the work of a lease.
    #[must_use]
    pub fn under(mut self, lease: &Lease) -> Self {
        self.fence = Some((lease.work.clone(), lease.fence));
        self
    }

    /// The same append, made by another right than an application's.
    #[must_use]
    pub(crate) fn by(mut self, authority: Authority) -> Self {
        self.authority = authority;
        self
    }

    /// Checks the append against its limits, and against the right by which it is made.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.authority.check(&self.events, self.checkpoint.as_ref())?;
        Invalid::if_over("the events of an append", self.events.len(), APPEND_EVENTS_MAX)?;
        let mut bytes = 0;
        for event in &self.events {
            bytes += validate_event(event)?;
        }
        Invalid::if_over("the bytes of an append", bytes, APPEND_BYTES_MAX)?;
        self.condition.validate()?;
        if let Some(command) = &self.command {
            Invalid::if_over(
                "the answer kept with a command id",
                command.answer.len(),
                ANSWER_BYTES_MAX,
            )?;
        }
        Ok(())
    }
}

/// Returns the bytes that the event adds to its append.
fn validate_event(event: &NewEvent) -> Result<usize, Invalid> {
    Invalid::if_over("the data of an event", event.data.len(), DATA_BYTES_MAX)?;
    Invalid::if_over(
        "the user metadata of an event",
        event.metadata.user.len(),
        METADATA_BYTES_MAX,
    )?;
    Invalid::if_over("the tags of an event", event.tags.len(), TAGS_MAX)?;
    let mut bytes = event.data.len() + event.metadata.user.len() + event.event_type.len();
    bytes += event.stream.as_ref().map_or(0, |name| name.len());
    bytes += event.metadata.trace.as_ref().map_or(0, TraceContext::bytes);
    for tag in &event.tags {
        Tag::try_from(tag.as_str())?;
        bytes += tag.len();
    }
    let labels = [&event.metadata.correlation, &event.metadata.causation];
    Invalid::if_over("the key ids of an event", event.key_ids.len(), KEY_IDS_MAX)?;
    bytes +=
        labels.into_iter().flatten().chain(&event.key_ids).map(|label| label.len()).sum::<usize>();
    if let ContentType::Other(label) = &event.content_type {
        bytes += label.len();
    }
    Ok(bytes)
}

/// Condition of an append, checked against everything that is ordered before it: the append happens
/// only if it holds.
///
/// ```
/// use leftfold_core::store::{Condition, Expected, Position, Query, StreamName, Version};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let order = StreamName::of("order", "7")?;
/// let customer = StreamName::of("customer", "ada")?;
/// // The order is as it was read, the customer is known, and nobody took the number since.
/// let condition = Condition::stream(order, Expected::Exact(Version(3)))
///     .and_stream(customer, Expected::Exists)
///     .and_none_matching(Query::tag("invoice:2026-17"), Position(120));
/// assert_eq!((condition.streams.len(), condition.none_matching.len()), (2, 1));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// Expectations on streams, also on ones that are not written. The first that fails is
    /// reported.
    pub streams: Vec<(StreamName, Expected)>,
    /// Queries that no event may match, each after a position of its own. The first that fails is
    /// reported, after every expectation on a stream.
    pub none_matching: Vec<NoneMatching>,
}

impl Condition {
    /// Always holds.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One stream must be as expected.
    #[must_use]
    pub fn stream(name: StreamName, expected: Expected) -> Self {
        Self { streams: vec![(name, expected)], none_matching: Vec::new() }
    }

    /// No event after a position may match a query.
    #[must_use]
    pub fn none_matching(query: Query, after: Position) -> Self {
        Self { streams: Vec::new(), none_matching: vec![NoneMatching { query, after }] }
    }

    /// The same condition, and one more stream must be as expected.
    #[must_use]
    pub fn and_stream(mut self, name: StreamName, expected: Expected) -> Self {
        self.streams.push((name, expected));
        self
    }

    /// The same condition, and no event after a position may match one more query. Each query is
    /// judged by its own position, up to which its caller has read.
    #[must_use]
    pub fn and_none_matching(mut self, query: Query, after: Position) -> Self {
        self.none_matching.push(NoneMatching { query, after });
        self
    }

    /// Tells whether the condition always holds.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.none_matching.is_empty()
            && self.streams.iter().all(|(_, expected)| *expected == Expected::Any)
    }

    fn validate(&self) -> Result<(), Invalid> {
        Invalid::if_over("the expectations of a condition", self.streams.len(), EXPECTATIONS_MAX)?;
        Invalid::if_over("the queries of a condition", self.none_matching.len(), QUERIES_MAX)?;
        let mut items = 0;
        for none in &self.none_matching {
            none.query.validate()?;
            items += none.query.items().len();
        }
        Invalid::if_over("the query items of a condition", items, QUERY_ITEMS_MAX)
    }
}

/// State that a stream is expected to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Anything.
    Any,
    /// It does not exist.
    Absent,
    /// It has at least one event.
    Exists,
    /// It has exactly this version. `Exact(Version::ABSENT)` is the same as [`Expected::Absent`].
    Exact(Version),
}

impl Expected {
    /// Tells whether a stream of this version is as expected.
    #[must_use]
    pub fn holds(self, actual: Version) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => actual == Version::ABSENT,
            Self::Exists => actual > Version::ABSENT,
            Self::Exact(version) => actual == version,
        }
    }

    /// Tells how a version that is not as expected differs from the expectation.
    pub(crate) fn mismatch(self, actual: Version) -> Mismatch {
        match self {
            Self::Absent | Self::Exact(Version::ABSENT) => Mismatch::AlreadyThere,
            Self::Exact(version) if actual > version => Mismatch::ChangedSince,
            Self::Exact(_) | Self::Exists | Self::Any => Mismatch::Missing,
        }
    }
}

/// No event after a position matches a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoneMatching {
    /// The events that must not be there.
    pub query: Query,
    /// Up to here (inclusive) they may; [`Position::START`] asks for none at all.
    pub after: Position,
}

/// Outcome of an append that the store could judge.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It is durable.
    Appended(Appended),
    /// A request with this command id and digest took effect before; nothing was appended. All that
    /// this answer rests on is durable.
    Repeated(Answered),
    /// The condition failed; nothing was appended. All that this answer rests on is durable.
    Conflict(Conflict),
}

/// A durable append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Position of the first event; if there were no events, of the last event before the append.
    pub first: Position,
    /// The version of each event in its stream; 0 for an event in none.
    pub versions: Vec<Version>,
    /// Recorded time of the append.
    pub recorded_at: Timestamp,
}

impl Appended {
    /// Returns the position of the last event; if there were no events, of the last event before
    /// the append.
    #[must_use]
    pub fn last(&self) -> Position {
        Position(self.first.0 + (self.versions.len() as u64).saturating_sub(1))
    }
}

/// Failed condition of an append: the first clause that failed, and what is stored instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// A stream is not as expected.
    #[error("stream {stream} has version {actual}, expected {expected:?}; {}", self.mismatch().advice())]
    Stream {
        /// Name of the stream.
        stream: StreamName,
        /// Expectation that failed.
        expected: Expected,
        /// Version that the stream has.
        actual: Version,
    },
    /// An event matches that must not be there.
    #[error("an event at position {found} matches query {clause}, none was expected after {after}; {}", self.mismatch().advice())]
    Matching {
        /// The query of the condition that failed, counted from 0.
        clause: usize,
        /// Position after which that query allows no match.
        after: Position,
        /// An event that matches it: the first one.
        found: Position,
    },
}

/// Difference between what is stored and what a condition asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// Something is stored that must not be there at all, whenever it came: a stream that was to be
    /// new, an event that was to be the first of its kind. To decide again does not help.
    AlreadyThere,
    /// Something came after what the caller had seen: load what is new and decide again.
    ChangedSince,
    /// Something is missing that must be there: a stream that was to exist, or a version that the
    /// caller claims to have seen.
    Missing,
}

impl Mismatch {
    const fn advice(self) -> &'static str {
        match self {
            Self::AlreadyThere => "it is taken, choose another",
            Self::ChangedSince => "load what is new and decide again",
            Self::Missing => "look at what is there and decide again",
        }
    }
}

impl Conflict {
    /// Tells how what is stored differs from what was asked for.
    #[must_use]
    pub fn mismatch(&self) -> Mismatch {
        match self {
            Self::Stream { expected, actual, .. } => expected.mismatch(*actual),
            Self::Matching { after: Position::START, .. } => Mismatch::AlreadyThere,
            Self::Matching { .. } => Mismatch::ChangedSince,
        }
    }

    /// Tells whether an event that matches was recorded at or before a position: if so, a caller
    /// that had read up to there could have seen it and was not overtaken. `None` for a conflict on
    /// a stream, of which only the version is known.
    #[must_use]
    pub fn was_there_at(&self, position: Position) -> Option<bool> {
        match self {
            Self::Stream { .. } => None,
            Self::Matching { found, .. } => Some(*found <= position),
        }
    }
}

/// Error of an append that has no [`Outcome`]: it was refused, or whether it is durable is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The append is beyond a limit. Nothing was written.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The command id named another request before. Nothing was written.
    #[error(
        "command id {id} was used before by another request (other bytes, or once with bytes and once without, or another target), choose a new key for a new request"
    )]
    CommandIdReused {
        /// Command id that was used before.
        id: CommandId,
    },
    /// The consumer does not have the position that the checkpoint was to be moved from. Nothing
    /// was written.
    #[error(
        "consumer {consumer} stands at {current} and cannot go to {proposed} from {from:?}; another runner moved it"
    )]
    CheckpointMoved {
        /// Name of the consumer.
        consumer: Label,
        /// Position that the consumer has.
        current: Position,
        /// Position that the append expected it to have.
        from: MoveFrom,
        /// Position that the append was to move it to.
        proposed: Position,
    },
    /// The work went to another holder, or the lease on it is over and was forgotten. Nothing was
    /// written.
    #[error(
        "fence {fence} is not the latest of {work}; stop that work, forget what was read for it, and ask for the lease anew"
    )]
    Fenced {
        /// Name of the work.
        work: Label,
        /// Fence that the append carried.
        fence: Fence,
        /// Latest fence that was given for the work; `None` if the store knows of none.
        current: Option<Fence>,
    },
    /// More waits to be written than the store holds in memory. Nothing was written.
    #[error("{waiting} bytes of appends wait to be written, append again when some were answered")]
    Busy {
        /// Bytes that wait.
        waiting: usize,
    },
    /// The disk is full, or the process has no file handle left, or the system no memory. Nothing
    /// was written, and the store goes on as soon as there is room.
    #[error(
        "there is no room to write (disk, file handles or memory), free some and append again: {detail}"
    )]
    Full {
        /// Message of the system.
        detail: String,
    },
    /// Writing failed half-way: the append may be there after the store is opened again, or not.
    #[error("whether the append is durable is unknown, open the store again and look: {detail}")]
    Unknown {
        /// Message of the system.
        detail: String,
    },
    /// An earlier write failed, the disk is read-only, or the store was opened to be read. Nothing
    /// was written.
    #[error("the store is read-only until it is opened again: {detail}")]
    ReadOnly {
        /// Reason, for people.
        detail: String,
    },
    /// A read model that is written in the same transaction does not take the events. Nothing was
    /// written.
    #[error("the read model {projection}, which is written with the append, refused it: {detail}")]
    ReadModel {
        /// Name of the projection.
        projection: &'static str,
        /// Reason, for people.
        detail: String,
    },
    /// The database that keeps the store cannot be used now. Nothing was written.
    #[error("the store cannot be reached now, append again: {detail}")]
    Unavailable {
        /// Reason, for people.
        detail: String,
    },
    /// The user of this handle has not the right to it, and will not have it if asked again.
    /// Nothing was written.
    #[error("the append is not allowed: {detail}")]
    Denied {
        /// Reason, for people.
        detail: String,
    },
    /// The store is closed, or its writer is gone. Nothing was written.
    #[error("the store is closed, open it again")]
    Closed,
    /// Something that the append depends on could not be read. Nothing was written.
    #[error(transparent)]
    Read(#[from] super::ReadError),
}

impl From<super::Gone> for AppendError {
    fn from(_: super::Gone) -> Self {
        Self::Unknown { detail: "the writer ended without an answer".to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::EventType;
    use crate::store::Tags;

    fn event(data: Vec<u8>) -> NewEvent {
        NewEvent::new(EventType::new("test.Happened").unwrap(), data)
    }

    #[test]
    fn every_limit_refuses_what_is_beyond_it() {
        let size = |append: &Append| match append.validate() {
            Err(Invalid::TooLarge { what, .. }) => what,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            size(&Append::of(vec![event(vec![0; DATA_BYTES_MAX + 1])])),
            "the data of an event"
        );
        assert_eq!(
            size(&Append::of(vec![event(vec![0; DATA_BYTES_MAX]); 3])),
            "the bytes of an append"
        );
        assert_eq!(
            size(&Append::of(vec![event(vec![]); APPEND_EVENTS_MAX + 1])),
            "the events of an append"
        );
        let overlong = event(vec![]).tagged(Tags::none().with("x".repeat(600)));
        assert_eq!(size(&Append::of(vec![overlong])), "a tag");
        assert_eq!(Append::of(vec![event(vec![0; DATA_BYTES_MAX])]).validate(), Ok(()));
    }
}
