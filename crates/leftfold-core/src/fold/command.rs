//! What every command has, whether an aggregate or a decision carries it out: its id, its cause, its bounds, its
//! answer, and the ways in which it can fail.

use bytes::Bytes;
use tracing::Span;

use super::{EventError, MetadataError};
use crate::json::{self, Unfaithful, Unread};
use crate::span;
use crate::store::{
    Answered, AppendError, CheckpointRecord, CommandId, CommandRecord, Conflict, Digest, Expected, Fence, Invalid, Label,
    Metadata, Mismatch, NewEvent, NoneMatching, Position, Query, QueryItem, ReadError, RecordedEvent, StreamName, TraceContext,
    Version,
};

// ANCHOR: limits
/// How often a command is decided anew because others were faster.
pub const ATTEMPTS_MAX: u32 = 32;
/// Events that a decision may read, where it does not say otherwise.
pub const DECISION_EVENTS_MAX: usize = 10_000;
/// Intervening events that a stale client is given; it reads the rest itself.
pub const STALE_EVENTS_MAX: u32 = 1_000;
// ANCHOR_END: limits

/// What a command did.
#[derive(Clone, Debug, PartialEq)]
pub struct Executed<E> {
    /// The events that it recorded; none where there was nothing to do.
    pub events: Vec<E>,
    /// The version of the aggregate after them. For a decision, the version of the stream of its last event.
    pub version: Version,
    /// The position of the last of them; without events, of the last event that the decision rests on.
    pub position: Position,
    /// Whether this request was carried out now, or earlier under the same command id.
    pub answer: Answer,
}

/// Whether a request was carried out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Now.
    First,
    /// Earlier: nothing was done now, and this is what was answered then.
    Again,
}

/// Why a command did nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExecuteError<R> {
    /// The domain said no.
    #[error("refused: {0}")]
    Refused(R),
    /// The caller stated a version that is not the aggregate's.
    #[error("version {expected} was expected, the aggregate has {actual}; look at what came since and decide again")]
    Stale {
        /// The version that the caller saw.
        expected: Version,
        /// The version that is.
        actual: Version,
        /// What came after the version that the caller saw, at most [`STALE_EVENTS_MAX`] events.
        since: Vec<RecordedEvent>,
    },
    /// Others were faster, every time.
    #[error("others were faster {attempts} times, try again later")]
    Contended {
        /// How often it was decided.
        attempts: u32,
    },
    /// A stream is not as the decision expects, though nothing that it reads is new: it would decide the same again.
    #[error("stream {stream} has version {actual}, the decision expects {expected:?}; let its query read what decides that")]
    Unexpected {
        /// The stream.
        stream: StreamName,
        /// What the decision expects.
        expected: Expected,
        /// What the stream had.
        actual: Version,
    },
    /// An event is there that matches what the decision demands none of, though nothing that it reads is new.
    #[error("an event at position {found} matches {query}, of which the decision demands that there is none; choose another")]
    Taken {
        /// What the decision demands none of.
        query: Query,
        /// The first event that matches.
        found: Position,
    },
    /// The decision reads more events than it may.
    #[error("the decision reads more than {limit} events, narrow its query or raise its limit")]
    TooManyEvents {
        /// How many it may.
        limit: usize,
    },
    /// The command id belongs to a refusal that cannot be read as this command's.
    #[error("command id {id} was answered with a refusal that does not parse here: {detail}")]
    AnswerUnreadable {
        /// The id.
        id: CommandId,
        /// What is wrong.
        detail: String,
    },
    /// An event cannot be written or read.
    #[error(transparent)]
    Event(#[from] EventError),
    /// What was said of where the command comes from cannot be recorded.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// A name or size is beyond its limit.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The store did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl<E> Executed<E> {
    /// Says in the span of the command what it did.
    pub(super) fn say(&self, span: &Span) {
        span.record("events", self.events.len()).record("version", self.version.0).record("position", self.position.0);
        span.record("outcome", if self.answer == Answer::First { "done" } else { "repeated" });
    }
}

impl<R> ExecuteError<R> {
    /// Says in the span of the command why it did nothing, without its words, which may be about a person.
    pub(super) fn say(&self, span: &Span) {
        let outcome = match self {
            Self::Refused(_) => "refused",
            Self::Stale { .. } | Self::Unexpected { .. } => "conflict",
            Self::Contended { .. } => "contended",
            _ => "failed",
        };
        span.record("outcome", outcome);
    }

    /// The refusal where there is one, and any failure as an error: what a caller who answers a
    /// person needs.
    pub fn into_refusal(self) -> Result<R, Self> {
        match self {
            Self::Refused(refusal) => Ok(refusal),
            failure => Err(failure),
        }
    }

    /// How what is there differs from what was asked for, if this is a [conflict](crate::store::Kind::Conflict) about a stream
    /// or an event: [`Mismatch::AlreadyThere`] for a name that is taken, [`Mismatch::ChangedSince`] for a page that is old.
    #[must_use]
    pub fn mismatch(&self) -> Option<Mismatch> {
        match self {
            Self::Stale { expected, actual, .. } => Some(Expected::Exact(*expected).mismatch(*actual)),
            Self::Unexpected { expected, actual, .. } => Some(expected.mismatch(*actual)),
            Self::Taken { .. } => Some(Mismatch::AlreadyThere),
            _ => None,
        }
    }

    /// Whether the store failed, and the same command may succeed later.
    pub(crate) fn is_of_the_store(&self) -> bool {
        match self {
            Self::Append(error) => !matches!(error, AppendError::Invalid(_) | AppendError::CommandIdReused { .. }),
            Self::Read(_) => true,
            _ => false,
        }
    }
}

/// What caused a command: goes into the metadata of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The message that caused it.
    pub causation: Label,
    /// The conversation that the message belongs to.
    pub correlation: Label,
    /// The distributed trace that the message belongs to.
    pub trace: Option<TraceContext>,
}

impl Cause {
    /// A message from outside, that begins a conversation.
    pub fn message(id: &str) -> Result<Self, Invalid> {
        let id = Label::try_from(id)?;
        Ok(Self { causation: id.clone(), correlation: id, trace: None })
    }
}

impl From<&RecordedEvent> for Cause {
    /// The conversation goes on, or begins with the event.
    fn from(event: &RecordedEvent) -> Self {
        // A UUID has 36 bytes, well within a label's limit.
        let id = Label::new(event.id.to_string()).expect("an id is a label");
        let correlation = event.metadata.correlation.clone().unwrap_or_else(|| id.clone());
        Self { causation: id, correlation, trace: event.metadata.trace.clone() }
    }
}

/// Where a command comes from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) request: Option<Request>,
    pub(crate) metadata: Metadata,
    /// The first thing that was said of it and cannot be recorded.
    pub(super) fault: Option<MetadataError>,
}

/// Names a request, and says how another under the same id is found out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) id: CommandId,
    /// Of its bytes as they came, or [`Digest::UNCHECKED`].
    digest: Digest,
}

/// A command, a decision or facts under a command id; still to be said is how another request under that id is found out.
///
/// Nothing is digested but bytes as they came: what is serialized anew may look different after an upgrade, and then a
/// repetition would be taken for another request.
#[must_use = "say the request's bytes, or that they are not checked"]
pub struct Identified<C> {
    command: C,
    id: CommandId,
    origin: fn(&mut C) -> &mut Origin,
}

impl<C> Identified<C> {
    pub(super) fn new(command: C, id: CommandId, origin: fn(&mut C) -> &mut Origin) -> Self {
        Self { command, id, origin }
    }

    /// The caller's own request bytes, as they came. Other bytes under the same id are refused, and so is the id where it
    /// was used [without a check](Identified::without_request_check).
    pub fn request(self, bytes: &[u8]) -> C {
        self.with(Digest::of(bytes))
    }

    /// The request is known by its id alone: for callers that never use a key twice, and for keys made of all that is
    /// asked.
    ///
    /// Another request under the same id about the same target (the same aggregate, the same stream of facts, a decision
    /// with the same query) is then answered as the first one, with the events of the first one. One about another target
    /// is refused, and so is the id where it was used with [request bytes](Identified::request).
    pub fn without_request_check(self) -> C {
        self.with(Digest::UNCHECKED)
    }

    fn with(mut self, digest: Digest) -> C {
        (self.origin)(&mut self.command).request = Some(Request { id: self.id, digest });
        self.command
    }
}

impl<C> std::fmt::Debug for Identified<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identified").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a request is about: the aggregate's stream, or the boundary of a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// As it is kept with the answer; none where the request's bytes say it all.
    name: Option<Digest>,
    /// What was written up to release 0.1 as the digest of a request without bytes.
    unchecked_once: Digest,
}

impl Target {
    pub(super) fn stream(stream: &StreamName) -> Self {
        let digest = Digest::of(stream.as_bytes());
        Self { name: Some(digest), unchecked_once: digest }
    }

    /// A query may be written differently in a later release, so it counts only where there is nothing better; its order
    /// never does.
    pub(super) fn boundary(query: &Query, origin: &Origin) -> Self {
        let is_checked = origin.request.is_some_and(|request| request.digest != Digest::UNCHECKED);
        let name = (!is_checked).then(|| {
            let mut items: Vec<String> = query.items().iter().cloned().map(in_order).collect();
            items.sort_unstable();
            Digest::of(items.concat().as_bytes())
        });
        Self { name, unchecked_once: Digest::of(query.to_string().as_bytes()) }
    }
}

pub(super) fn in_order(mut item: QueryItem) -> String {
    item.types.sort_by(|a, b| a.text().cmp(b.text()));
    item.tags.sort();
    Query::from(item).to_string()
}

impl Origin {
    pub(crate) fn caused_by(&mut self, cause: Cause) {
        self.metadata.causation = Some(cause.causation);
        self.metadata.correlation = Some(cause.correlation);
        // What the caller said of the trace is meant.
        self.metadata.trace = self.metadata.trace.take().or(cause.trace);
    }

    /// Lets the span of the command continue the trace, and the events of the command say so.
    pub(super) fn goes_on_in(&mut self, span: &Span) {
        span::continues(span, self.metadata.trace.as_ref());
        span::carries(span, &mut self.metadata);
    }

    pub(crate) fn id(&self) -> Option<CommandId> {
        self.request.map(|request| request.id)
    }

    /// What to remember of the request, where it has an id.
    pub(crate) fn record(&self, target: &Target, said: Said) -> Option<CommandRecord> {
        let Request { id, digest } = self.request?;
        Some(CommandRecord { id, digest, answer: KeptAnswer { target: target.name, said }.encode() })
    }

    /// What was said to an earlier request under the same id, none where the model did not say it; refused where that was
    /// another request.
    pub(crate) fn said(&self, answered: &Answered, target: &Target) -> Result<Option<Said>, AppendError> {
        let record = &answered.record;
        let digest = self.request.map_or(Digest::UNCHECKED, |request| request.digest);
        let is_same = digest == record.digest || (digest == Digest::UNCHECKED && record.digest == target.unchecked_once);
        let kept = KeptAnswer::decode(&record.answer);
        let kept_target = kept.as_ref().and_then(|kept| kept.target);
        let is_elsewhere = kept_target.is_some_and(|kept| target.name.is_some_and(|target| target != kept));
        if !is_same || is_elsewhere {
            return Err(AppendError::CommandIdReused { id: record.id });
        }
        Ok(kept.map(|kept| kept.said))
    }
}

/// What goes into the same append as a command's events: the runtime's way to make an outcome and what follows from
/// it one. Where a condition of its own fails the command is not decided again, for a fresher fold does not help.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alongside {
    pub(crate) events: Vec<NewEvent>,
    pub(crate) expected: Vec<(StreamName, Expected)>,
    pub(crate) none_matching: Option<NoneMatching>,
    pub(crate) checkpoint: Option<CheckpointRecord>,
    /// The work that the runtime does in this, and the fence of its lease.
    pub(crate) fence: Option<(Label, Fence)>,
}

/// Why a command with something alongside did nothing.
#[derive(Debug)]
pub(crate) enum AlongsideError<R> {
    /// A condition of what goes alongside failed: somebody else was there before.
    Overtaken,
    /// The command itself did nothing.
    Command(ExecuteError<R>),
}

impl<R, E: Into<ExecuteError<R>>> From<E> for AlongsideError<R> {
    fn from(error: E) -> Self {
        Self::Command(error.into())
    }
}

impl Alongside {
    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.checkpoint.is_none()
    }

    /// Whether it is this that a conflict is about, not the command's own stream.
    pub(crate) fn is_about(&self, conflict: &Conflict, own: &StreamName) -> bool {
        match conflict {
            Conflict::Stream { stream, .. } => stream != own && self.expected.iter().any(|(name, _)| name == stream),
            Conflict::Matching { .. } => self.none_matching.is_some(),
        }
    }
}

/// The answer that is kept with a command id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptAnswer {
    /// Whom the request was about; none where its bytes say it all, or release 0.1 kept it.
    pub(crate) target: Option<Digest>,
    pub(crate) said: Said,
}

/// What was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// It was carried out; the aggregate had this version then.
    Accepted(Version),
    /// It was refused; the refusal as JSON.
    Refused(Bytes),
}

const ACCEPTED: u8 = 0;
const REFUSED: u8 = 1;
/// Added to either where the target stands before what was said.
const OF_TARGET: u8 = 2;
const TARGET_BYTES: usize = 16;

impl KeptAnswer {
    pub(crate) fn encode(&self) -> Bytes {
        let (kind, said) = match &self.said {
            Said::Accepted(version) => (ACCEPTED, &version.0.to_le_bytes()[..]),
            Said::Refused(refusal) => (REFUSED, &refusal[..]),
        };
        let mut bytes = Vec::with_capacity(1 + TARGET_BYTES + said.len());
        match self.target {
            None => bytes.push(kind),
            Some(target) => {
                bytes.push(kind + OF_TARGET);
                bytes.extend_from_slice(&target.0);
            }
        }
        bytes.extend_from_slice(said);
        Bytes::from(bytes)
    }

    /// None where a client of another kind kept something of its own under the id.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let target = match kind {
            ACCEPTED | REFUSED => None,
            _ => Some(Digest(*rest.first_chunk()?)),
        };
        let said = bytes.slice(1 + target.map_or(0, |_| TARGET_BYTES)..);
        let kind = if target.is_some() { kind - OF_TARGET } else { kind };
        let said = match kind {
            ACCEPTED => Said::Accepted(Version(u64::from_le_bytes((*said).try_into().ok()?))),
            REFUSED => Said::Refused(said),
            _ => return None,
        };
        Some(Self { target, said })
    }
}

/// How a refusal is remembered, where it is.
pub(crate) struct Remember<R> {
    pub(crate) encode: fn(&R) -> Result<Vec<u8>, Unfaithful>,
    pub(crate) decode: fn(&[u8]) -> Result<R, Unread>,
}

impl<R: serde::Serialize + serde::de::DeserializeOwned> Remember<R> {
    pub(crate) fn as_json() -> Self {
        Self { encode: json::encode, decode: json::decode }
    }
}

impl<R> Remember<R> {
    /// The refusal that was kept, or why it is none of this command's.
    pub(crate) fn again(remember: Option<&Self>, id: CommandId, refusal: &[u8]) -> ExecuteError<R> {
        let unreadable = |detail: String| ExecuteError::AnswerUnreadable { id, detail };
        match remember {
            None => unreadable("the command was repeated without asking for remembered refusals".to_owned()),
            Some(remember) => match (remember.decode)(refusal) {
                Ok(refusal) => ExecuteError::Refused(refusal),
                Err(error) => unreadable(error.to_string()),
            },
        }
    }
}
