//! Parts that every command has, whether an aggregate or a decision carries it out: its id, its
//! cause, its bounds, its answer, and the ways in which it can fail.

use bytes::Bytes;
use tracing::Span;

use super::error::{EventError, MetadataError};
use crate::json::{self, JsonReadError, Unfaithful};
use crate::span;
use crate::store::{
    Answered, AppendError, CheckpointRecord, CommandId, CommandRecord, Conflict, Digest, Expected,
    Fence, Invalid, Label, Metadata, Mismatch, NewEvent, NoneMatching, Position, Query, QueryItem,
    ReadError, RecordedEvent, Store, StreamName, TraceContext, Version,
};

// ANCHOR: limits
/// Attempts of a command at most: it is decided again if others were faster.
pub const ATTEMPTS_MAX: u32 = 32;
/// Events that a decision may read, unless it says otherwise.
pub const DECISION_EVENTS_MAX: usize = 10_000;
/// Intervening events that a stale client is given; it reads the rest itself.
pub const STALE_EVENTS_MAX: u32 = 1_000;
// ANCHOR_END: limits

/// Result of a command that was carried out.
#[derive(Clone, Debug, PartialEq)]
pub struct Executed<E> {
    /// Events that it recorded; empty if there was nothing to do.
    pub events: Vec<E>,
    /// The version of the aggregate after them. For a decision, the version of the stream of its
    /// last event.
    pub version: Version,
    /// The position of the last of them; without events, of the last event that the decision rests
    /// on.
    pub position: Position,
    /// Answer that tells whether this request was carried out now, or earlier under the same
    /// command id.
    pub answer: Answer,
}

/// Kind of an answer: the first one to a request, or a repeated one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The request was carried out now.
    First,
    /// The request was carried out earlier: nothing was done now, and this is what was answered
    /// then.
    Again,
}

/// Error of a command or of a decision.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ExecuteError<R> {
    /// The domain said no.
    #[error("refused: {0}")]
    Refused(R),
    /// The caller stated a version that is not the aggregate's.
    #[error(
        "version {expected} was expected, the aggregate has {actual}; look at what came since and decide again"
    )]
    Stale {
        /// The version that the caller saw.
        expected: Version,
        /// Version that the aggregate has.
        actual: Version,
        /// Events after the version that the caller saw, at most [`STALE_EVENTS_MAX`].
        since: Vec<RecordedEvent>,
    },
    /// Others were faster, every time.
    #[error("others were faster {attempts} times, try again later")]
    Contended {
        /// Number of attempts.
        attempts: u32,
    },
    /// A stream is not as the decision expects, though nothing that it reads is new: it would
    /// decide the same again.
    #[error(
        "stream {stream} has version {actual}, the decision expects {expected:?}; let its query read what decides that"
    )]
    Unexpected {
        /// Name of the stream.
        stream: StreamName,
        /// Expectation that failed.
        expected: Expected,
        /// Version that the stream had.
        actual: Version,
    },
    /// An event is stored that matches a query of which the decision demands that there is none,
    /// though nothing that it reads is new.
    #[error(
        "an event at position {found} matches {query}, and the decision demands that no event does; choose another"
    )]
    Taken {
        /// Query of which the decision demands that no event matches.
        query: Query,
        /// The first event that matches.
        found: Position,
    },
    /// The decision reads more events than it may.
    #[error("the decision reads more than {limit} events, narrow its query or raise its limit")]
    TooManyEvents {
        /// Number of events that it may read.
        limit: usize,
    },
    /// The command id belongs to a refusal that cannot be read as this command's.
    #[error("command id {id} was answered with a refusal that does not parse here: {detail}")]
    AnswerUnreadable {
        /// Command id.
        id: CommandId,
        /// Reason, for people.
        detail: String,
    },
    /// An event cannot be written or read.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The cause, trace or metadata given for the command cannot be recorded.
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
    /// Records the result in the span of the command.
    pub(super) fn say(&self, span: &Span) {
        span.record("events", self.events.len())
            .record("version", self.version.0)
            .record("position", self.position.0);
        span.record("outcome", if self.answer == Answer::First { "done" } else { "repeated" });
    }
}

impl<R> ExecuteError<R> {
    /// Records the kind of the error in the span of the command, without its words, which may be
    /// about a person.
    pub(super) fn say(&self, span: &Span) {
        let outcome = match self {
            Self::Refused(_) => "refused",
            Self::Stale { .. } | Self::Unexpected { .. } => "conflict",
            Self::Contended { .. } => "contended",
            _ => "failed",
        };
        span.record("outcome", outcome);
    }

    /// Returns the refusal if there is one, and any failure as an error: for a caller that answers
    /// a person.
    ///
    /// ```
    /// use leftfold_core::fold::ExecuteError;
    /// use leftfold_core::store::Invalid;
    ///
    /// #[derive(Clone, Debug, PartialEq, thiserror::Error)]
    /// #[error("the course is full")]
    /// struct Full;
    ///
    /// fn answer(result: Result<(), ExecuteError<Full>>) -> Result<String, ExecuteError<Full>> {
    ///     match result {
    ///         Ok(()) => Ok("booked".to_owned()),
    ///         Err(error) => error.into_refusal().map(|refusal| refusal.to_string()),
    ///     }
    /// }
    ///
    /// assert_eq!(answer(Err(ExecuteError::Refused(Full))), Ok("the course is full".to_owned()));
    /// let failure = ExecuteError::Invalid(Invalid::Empty { what: "an aggregate's id" });
    /// assert_eq!(answer(Err(failure.clone())), Err(failure));
    /// ```
    pub fn into_refusal(self) -> Result<R, Self> {
        match self {
            Self::Refused(refusal) => Ok(refusal),
            failure => Err(failure),
        }
    }

    /// Tells how what is stored differs from what was asked for, if this is a
    /// [conflict](crate::store::Kind::Conflict) about a stream or an event:
    /// [`Mismatch::AlreadyThere`] for a name that is taken, [`Mismatch::ChangedSince`] for a page
    /// that is old. `None` for any other error.
    #[must_use]
    pub fn mismatch(&self) -> Option<Mismatch> {
        match self {
            Self::Stale { expected, actual, .. } => {
                Some(Expected::Exact(*expected).mismatch(*actual))
            }
            Self::Unexpected { expected, actual, .. } => Some(expected.mismatch(*actual)),
            Self::Taken { .. } => Some(Mismatch::AlreadyThere),
            _ => None,
        }
    }

    /// Tells whether the store failed, and the same command may succeed later.
    pub(crate) fn is_of_the_store(&self) -> bool {
        match self {
            Self::Append(error) => !matches!(
                error,
                AppendError::Invalid(_)
                    | AppendError::CommandIdReused { .. }
                    | AppendError::Denied { .. }
            ),
            Self::Read(error) => !matches!(error, ReadError::Denied { .. }),
            _ => false,
        }
    }
}

/// Cause of a command: it goes into the metadata of its events.
///
/// ```
/// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
/// use leftfold_core::fold::Cause;
/// use leftfold_core::store::{Store, Version};
/// use wallet::{Wallet, WalletCommand};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let wallets = Store::memory().aggregate::<Wallet>();
/// let message = Cause::message("bank message 4711")?;
/// let deposit = wallets.command("ada", WalletCommand::Deposit { cents: 500 });
/// deposit.caused_by(message).execute().await?;
///
/// // What follows from the deposit belongs to the same conversation.
/// let deposited = &wallets.history("ada", Version(1))?.all().await?[0];
/// let withdraw = wallets.command("ada", WalletCommand::Withdraw { cents: 200 });
/// withdraw.caused_by(deposited).execute().await?;
/// let withdrawn = &wallets.history("ada", Version(2))?.all().await?[0];
/// assert_eq!(withdrawn.correlation(), Some("bank message 4711"));
/// assert_eq!(withdrawn.causation(), Some(&*deposited.envelope.id.to_string()));
/// # Ok(()) }
/// ```
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

/// Origin of a command: its request, its cause and its metadata.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) request: Option<Request>,
    pub(crate) metadata: Metadata,
    /// First part of the origin that cannot be recorded; `None` if all of it can.
    pub(super) fault: Option<MetadataError>,
}

/// Id of a request, with the digest by which another request under the same id is found out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) id: CommandId,
    /// Digest of its bytes as they came, or [`Digest::UNCHECKED`].
    digest: Digest,
}

/// A command, a decision or facts under a command id. Its caller has yet to say how another request
/// under that id is found out.
///
/// Nothing is digested but bytes as they came: what is serialized again may look different after an
/// upgrade, and then a repetition would be taken for another request.
///
/// ```
/// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
/// use leftfold_core::fold::Answer;
/// use leftfold_core::store::Store;
/// use wallet::{Wallet, WalletCommand};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let wallets = Store::memory().aggregate::<Wallet>();
/// let send = || {
///     let command = wallets.command("ada", WalletCommand::Deposit { cents: 500 });
///     command.id("POST /deposits by ada", "f3a9").request(br#"{"cents":500}"#)
/// };
/// let first = send().execute().await?;
/// let again = send().execute().await?;
/// assert_eq!((first.answer, again.answer), (Answer::First, Answer::Again));
/// assert_eq!(again.events, first.events);
/// assert_eq!(wallets.load("ada").await?.state.cents, 500);
/// # Ok(()) }
/// ```
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

    /// Takes the caller's own request bytes, as they came. A request with other bytes under the
    /// same id is refused, and so is the id if it was used [without a
    /// check](Identified::without_request_check).
    pub fn request(self, bytes: &[u8]) -> C {
        self.with(Digest::of(bytes))
    }

    /// Lets the id alone name the request: for callers that never use a key twice, and for keys
    /// made of all that is asked.
    ///
    /// Another request under the same id about the same target (the same aggregate, the same stream
    /// of facts, a decision with the same query) is then answered as the first one, with the events
    /// of the first one. A request about another target is refused, and so is the id if it was used
    /// with [request bytes](Identified::request).
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

/// Target of a request: the aggregate's stream, or the boundary of a decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestTarget {
    /// Digest that is kept with the answer; `None` if the request's bytes say it all.
    name: Option<Digest>,
    /// Digest that was written up to release 0.1 for a request without bytes.
    unchecked_once: Digest,
}

impl RequestTarget {
    pub(super) fn stream(stream: &StreamName) -> Self {
        let digest = Digest::of(stream.as_bytes());
        Self { name: Some(digest), unchecked_once: digest }
    }

    /// Makes the target of a decision. A query may be written differently in a later release, so it
    /// counts only if the request's bytes are not checked; its order never counts.
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

    /// Looks up the answer to an earlier sending of the request; `None` if there is none, or it has
    /// no id.
    pub(super) async fn answered(&self, store: &Store) -> Result<Option<Answered>, ReadError> {
        match self.id() {
            Some(id) => store.answered(id).await,
            None => Ok(None),
        }
    }

    /// Makes the record that is kept of the request; `None` if it has no id.
    pub(crate) fn record(
        &self,
        target: &RequestTarget,
        said: RequestAnswer,
    ) -> Option<CommandRecord> {
        let Request { id, digest } = self.request?;
        Some(CommandRecord {
            id,
            digest,
            answer: KeptAnswer { target: target.name, said }.encode(),
        })
    }

    /// Returns what was said to an earlier request under the same id; `None` if the model did not
    /// say it. It is refused if that was another request.
    pub(crate) fn said(
        &self,
        answered: &Answered,
        target: &RequestTarget,
    ) -> Result<Option<RequestAnswer>, AppendError> {
        let record = &answered.record;
        let digest = self.request.map_or(Digest::UNCHECKED, |request| request.digest);
        let is_same = digest == record.digest
            || (digest == Digest::UNCHECKED && record.digest == target.unchecked_once);
        let kept = KeptAnswer::decode(&record.answer);
        let kept_target = kept.as_ref().and_then(|kept| kept.target);
        let is_elsewhere =
            kept_target.is_some_and(|kept| target.name.is_some_and(|target| target != kept));
        if !is_same || is_elsewhere {
            return Err(AppendError::CommandIdReused { id: record.id });
        }
        Ok(kept.map(|kept| kept.said))
    }
}

/// Additions to the append of a command's events: the runtime's way to make an outcome and what
/// follows from it one. If one of their conditions fails the command is not decided again, for a
/// fresher fold does not help.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alongside {
    pub(crate) events: Vec<NewEvent>,
    pub(crate) expected: Vec<(StreamName, Expected)>,
    pub(crate) none_matching: Option<NoneMatching>,
    pub(crate) checkpoint: Option<CheckpointRecord>,
    /// Work that the runtime does in this, and the fence of its lease; `None` if it is done under
    /// no lease.
    pub(crate) fence: Option<(Label, Fence)>,
}

/// Error of a command with additions to its append.
#[derive(Debug)]
pub(crate) enum AlongsideError<R> {
    /// A condition of the additions failed: somebody else was there before.
    Overtaken,
    /// The command itself failed.
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

    /// Tells whether a conflict is about these additions, not about the command's own stream.
    pub(crate) fn is_about(&self, conflict: &Conflict, own: &StreamName) -> bool {
        match conflict {
            Conflict::Stream { stream, .. } => {
                stream != own && self.expected.iter().any(|(name, _)| name == stream)
            }
            Conflict::Matching { .. } => self.none_matching.is_some(),
        }
    }
}

/// The answer that is kept with a command id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeptAnswer {
    /// Target of the request; `None` if the request's bytes say it all, or release 0.1 kept the
    /// answer.
    pub(crate) target: Option<Digest>,
    pub(crate) said: RequestAnswer,
}

/// Answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RequestAnswer {
    /// The request was carried out; the aggregate had this version then.
    Accepted(Version),
    /// The request was refused; the refusal as JSON.
    Refused(Bytes),
}

const ACCEPTED: u8 = 0;
const REFUSED: u8 = 1;
/// Added to either if the target stands before what was said.
const OF_TARGET: u8 = 2;
const TARGET_BYTES: usize = 16;

impl KeptAnswer {
    pub(crate) fn encode(&self) -> Bytes {
        let (kind, said) = match &self.said {
            RequestAnswer::Accepted(version) => (ACCEPTED, &version.0.to_le_bytes()[..]),
            RequestAnswer::Refused(refusal) => (REFUSED, &refusal[..]),
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

    /// Decodes a kept answer; `None` if a client of another kind kept something of its own under
    /// the id.
    pub(crate) fn decode(bytes: &Bytes) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let target = match kind {
            ACCEPTED | REFUSED => None,
            _ => Some(Digest(*rest.first_chunk()?)),
        };
        let said = bytes.slice(1 + target.map_or(0, |_| TARGET_BYTES)..);
        let kind = if target.is_some() { kind - OF_TARGET } else { kind };
        let said = match kind {
            ACCEPTED => {
                RequestAnswer::Accepted(Version(u64::from_le_bytes((*said).try_into().ok()?)))
            }
            REFUSED => RequestAnswer::Refused(said),
            _ => return None,
        };
        Some(Self { target, said })
    }
}

/// Functions that write and read a remembered refusal.
pub(crate) struct RefusalCodec<R> {
    pub(crate) encode: fn(&R) -> Result<Vec<u8>, Unfaithful>,
    pub(crate) decode: fn(&[u8]) -> Result<R, JsonReadError>,
}

impl<R: serde::Serialize + serde::de::DeserializeOwned> RefusalCodec<R> {
    pub(crate) fn as_json() -> Self {
        Self { encode: json::encode, decode: json::decode }
    }
}

impl<R> RefusalCodec<R> {
    /// Returns the refusal that was kept, or the error that it cannot be read as this command's.
    pub(crate) fn again(remember: Option<&Self>, id: CommandId, refusal: &[u8]) -> ExecuteError<R> {
        let unreadable = |detail: String| ExecuteError::AnswerUnreadable { id, detail };
        match remember {
            None => unreadable(
                "the command was repeated without asking for remembered refusals".to_owned(),
            ),
            Some(remember) => match (remember.decode)(refusal) {
                Ok(refusal) => ExecuteError::Refused(refusal),
                Err(error) => unreadable(error.to_string()),
            },
        }
    }
}
