//! The door of an inbox: what comes in, and what people see of it.

use std::marker::PhantomData;

use super::source::{InboxOccurrence, Occurrence, Refusal, Source, SourceCommand};
use super::{ID_BYTES_MAX, Inbox, MESSAGE_BYTES_MAX, MESSAGE_DEPTH_MAX};
use crate::fold::{
    Aggregate, Aggregates, Answer, Event, ExecuteError, LoadError, Schema, Unknown, events_of,
};
use crate::json;
use crate::runtime::json::{Json, NotKept, ValueLimits};
use crate::store::{
    AppendError, CommandId, EventType, Invalid, Position, Query, Read, ReadError, Store, Timestamp,
    TraceContext,
};

/// Takes what comes from outside, of one kind. Cheap to clone.
pub struct Intake<I: Inbox> {
    sources: Aggregates<Source<I>>,
    /// Trace context given to the messages that it receives.
    trace: Option<TraceContext>,
    inbox: PhantomData<fn() -> I>,
}

/// Result of receiving a message. It is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It is delivered, after what was accepted before it.
    Accepted,
    /// It waits for those before it.
    Held {
        /// The first number that is missing.
        missing: u64,
    },
    /// Its gap was released before it came: it is delivered, as late.
    Late,
    /// It was received before; nothing was done now.
    Duplicate,
}

/// Error of a message that was not received. Nothing of it is recorded, unless the store does not
/// know whether it is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReceiveError {
    /// The source sent something else under this id before.
    #[error(
        "source {source_name} sent another message under the id {id} before, each needs its own"
    )]
    OtherMessage {
        /// Name of the source.
        source_name: String,
        /// The id.
        id: String,
    },
    /// Its number cannot be taken.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A name or the message is beyond its limit.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The bytes are no message of this inbox.
    #[error("the bytes of message {id} are no message of this inbox: {detail}")]
    Unreadable {
        /// The id.
        id: String,
        /// Description of the fault in them.
        detail: String,
    },
    /// The message cannot be written as JSON, or would not be read as it was written.
    #[error("the message cannot be written: {detail}")]
    Unwritable {
        /// Message of serde.
        detail: String,
    },
    /// The store did not take it; send it again, under the same id.
    #[error(transparent)]
    Store(Box<ExecuteError<Refusal>>),
}

/// State of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// The number that is awaited next.
    pub next: u64,
    /// Number of messages that are held until it comes.
    pub held: usize,
    /// True if the gap was reported to people.
    pub is_reported: bool,
}

/// Numbers that did not come, the first and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first.
    pub from: u64,
    /// The last.
    pub to: u64,
}

/// A fact that people are to know of, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Position of its record.
    pub position: Position,
    /// Time of its record.
    pub at: Timestamp,
    /// Name of the source.
    pub source: String,
    /// Content of the report.
    pub what: Reported,
}

/// Fact that people are to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reported {
    /// A gap was not filled in time; the messages behind it wait.
    Gap(Gap),
    /// A gap is no longer waited for.
    Released {
        /// The gap.
        gap: Gap,
        /// Author of the release: the time, or a person.
        by: String,
    },
    /// A message came after its gap was released, and was delivered.
    Late {
        /// Its id.
        id: String,
        /// Its number.
        sequence: u64,
    },
    /// A command that a message meant was refused.
    Refused {
        /// The aggregate's stream.
        target: String,
        /// Reason, for people.
        reason: String,
    },
}

/// Some of the reports, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportPage {
    /// The reports.
    pub reports: Vec<Report>,
    /// Position after which the next page begins; `None` at the end.
    pub next: Option<Position>,
}

impl<I: Inbox> Intake<I> {
    pub(super) fn new(store: &Store) -> Self {
        Self { sources: store.aggregate(), trace: None, inbox: PhantomData }
    }

    /// Returns the store that keeps what it receives.
    pub(super) fn store(&self) -> &Store {
        self.sources.store()
    }

    /// The same inbox, for messages of one distributed trace: that of the header `traceparent` that
    /// a message came with. What is delivered of them, and whatever comes of that, goes on in it.
    ///
    /// ```
    /// # use leftfold_core::runtime::inbox::{Inbox, ReceiveError, Receipt};
    /// # use leftfold_core::store::{Store, TraceContext};
    /// # async fn received<I: Inbox>(
    /// #     store: &Store,
    /// #     parent: TraceContext,
    /// #     m: I::Message,
    /// # ) -> Result<Receipt, ReceiveError> {
    /// store.inbox::<I>().trace(parent).receive("depot", "m1", None, m).await
    /// # }
    /// ```
    #[must_use]
    pub fn trace(self, parent: TraceContext) -> Self {
        Self { trace: Some(parent), ..self }
    }

    /// Receives a message. When this returns, it is durable, and the sender may forget it; until
    /// then it may come again, under the same id.
    ///
    /// A source and an id have 1 to [`ID_BYTES_MAX`] bytes, a message at most [`MESSAGE_BYTES_MAX`]
    /// as JSON, nested at most [`MESSAGE_DEPTH_MAX`] deep. The same id with another message or
    /// number is refused, and so is a number that another message has. While
    /// [`HELD_MAX`](super::HELD_MAX) messages of a source are held, only messages that fill the gap
    /// are taken.
    ///
    /// Earlier messages are read as today's [`Message`](Inbox::Message) to be compared: so a
    /// message stays the same if its type gets another field with a default, and if a set in it is
    /// ordered otherwise.
    pub async fn receive(
        &self,
        source: &str,
        id: &str,
        sequence: Option<u64>,
        message: I::Message,
    ) -> Result<Receipt, ReceiveError> {
        check_ids(source, id)?;
        self.take(source, id, sequence, MESSAGE.write(&message)?).await
    }

    /// Receives the bytes of a message as they came: JSON, that is kept and delivered just so.
    ///
    /// The same as [`receive`](Intake::receive), for callers that have the bytes: parts that the
    /// type does not know are kept too, and a later release may read them.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod incoming {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/incoming.rs"));
    /// # }
    /// use incoming::Incoming;
    /// use leftfold_core::runtime::inbox::{ReceiveError, Receipt};
    /// use leftfold_core::store::Store;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let inbox = Store::memory().inbox::<Incoming>();
    /// let body = br#"{"wallet":"ada","cents":500,"branch":"Ulm"}"#;
    /// assert_eq!(inbox.receive_bytes("bank", "m1", None, body).await?, Receipt::Accepted);
    ///
    /// let other = inbox.receive_bytes("bank", "m2", None, b"{}").await;
    /// assert!(matches!(other, Err(ReceiveError::Unreadable { .. })));
    /// # Ok(()) }
    /// ```
    pub async fn receive_bytes(
        &self,
        source: &str,
        id: &str,
        sequence: Option<u64>,
        message: &[u8],
    ) -> Result<Receipt, ReceiveError> {
        check_ids(source, id)?;
        Invalid::if_over("a message", message.len(), MESSAGE_BYTES_MAX)?;
        let unreadable = |detail: String| ReceiveError::Unreadable { id: id.to_owned(), detail };
        let text = std::str::from_utf8(message).map_err(|error| unreadable(error.to_string()))?;
        let json = Json::parse(text).map_err(|error| unreadable(error.to_string()))?;
        MESSAGE.check(&json)?;
        json.read::<I::Message>().map_err(|error| unreadable(error.to_string()))?;
        self.take(source, id, sequence, json).await
    }

    async fn take(
        &self,
        source: &str,
        id: &str,
        sequence: Option<u64>,
        message: Json,
    ) -> Result<Receipt, ReceiveError> {
        let heard =
            SourceCommand::Message { id: id.to_owned(), sequence, message: message.clone() };
        let request = CommandId::of_runtime(
            Source::<I>::CATEGORY,
            &format!("{} {source} {id}", source.len()),
        );
        // What was received is kept whole, so it is compared itself.
        let command = self
            .sources
            .command(source, heard)
            .with_id(request)
            .without_request_check()
            .trace(self.trace.clone());
        let received = match command.execute().await {
            Ok(done) if done.answer == Answer::Again => done.events,
            Ok(done) => return Ok(receipt(&done.events)),
            Err(ExecuteError::Refused(refusal)) => return Err(refusal.into()),
            // It came with a digest, under an earlier release.
            Err(ExecuteError::Append(AppendError::CommandIdReused { id })) => {
                self.received(id).await?
            }
            Err(ExecuteError::Invalid(invalid)) => return Err(invalid.into()),
            Err(error) => return Err(ReceiveError::Store(Box::new(error))),
        };
        match received.iter().find_map(|event| event.what.received(id)) {
            Some((number, before)) if number == sequence && is_same::<I>(before, &message) => {
                Ok(Receipt::Duplicate)
            }
            _ => Err(ReceiveError::OtherMessage {
                source_name: source.to_owned(),
                id: id.to_owned(),
            }),
        }
    }

    /// Returns the records of a request that was answered.
    async fn received(&self, id: CommandId) -> Result<Vec<InboxOccurrence<I>>, ReceiveError> {
        let failed = |error: ReadError| ReceiveError::Store(Box::new(error.into()));
        let store = self.sources.store();
        let Some(answered) = store.answered(id).await.map_err(failed)? else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for record in events_of(store, &answered).await.map_err(failed)? {
            let events = self
                .sources
                .decode(&record)
                .map_err(|error| ReceiveError::Store(Box::new(error.into())))?;
            all.extend(events);
        }
        Ok(all)
    }

    /// Gives up the gaps that a source's messages are held for: all of them are delivered. How many
    /// were.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod incoming {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/incoming.rs"));
    /// # }
    /// use incoming::Incoming;
    /// use leftfold_core::runtime::inbox::Receipt;
    /// use leftfold_core::store::Store;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let inbox = Store::memory().inbox::<Incoming>();
    /// let message = Incoming { wallet: "ada".to_owned(), cents: 500 };
    /// // The first message is missing.
    /// let second = inbox.receive("bank", "m2", Some(2), message).await?;
    /// assert_eq!(second, Receipt::Held { missing: 1 });
    /// assert_eq!(inbox.source("bank").await?.held, 1);
    ///
    /// // The bank says that it will never come.
    /// assert_eq!(inbox.release("bank", "bob").await?, 1);
    /// assert_eq!(inbox.source("bank").await?.next, 3);
    /// # Ok(()) }
    /// ```
    pub async fn release(&self, source: &str, by: &str) -> Result<usize, ReceiveError> {
        check_id("a source's name", source)?;
        check_id("the name of who releases a gap", by)?;
        let released =
            self.sources.execute(source, SourceCommand::Release { by: by.to_owned() }).await;
        let done = released.map_err(|error| ReceiveError::Store(Box::new(error)))?;
        Ok(done
            .events
            .iter()
            .filter(|event| matches!(event.what, Occurrence::Accepted { .. }))
            .count())
    }

    /// Returns the state of a source.
    pub async fn source(&self, source: &str) -> Result<SourceStatus, LoadError> {
        let state = self.sources.load(source).await?.state.state;
        let is_reported = state.held() > 0 && state.reported_through >= state.next;
        Ok(SourceStatus { next: state.next, held: state.held(), is_reported })
    }

    /// Lists the facts that people are to know of, after a position, the oldest first, at most the
    /// given number and at most 1,000.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod incoming {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/incoming.rs"));
    /// # }
    /// use incoming::Incoming;
    /// use leftfold_core::runtime::inbox::{Gap, Reported};
    /// use leftfold_core::store::{Position, Store};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let inbox = Store::memory().inbox::<Incoming>();
    /// let message = Incoming { wallet: "ada".to_owned(), cents: 500 };
    /// inbox.receive("bank", "m2", Some(2), message).await?;
    /// inbox.release("bank", "bob").await?;
    ///
    /// let page = inbox.reports(Position::START, 100).await?;
    /// let released = Reported::Released { gap: Gap { from: 1, to: 1 }, by: "bob".to_owned() };
    /// assert_eq!((&*page.reports[0].source, &page.reports[0].what), ("bank", &released));
    /// # Ok(()) }
    /// ```
    pub async fn reports(&self, after: Position, at_most: u32) -> Result<ReportPage, LoadError> {
        let schema = Schema::of::<InboxOccurrence<I>>()?;
        let types = ["GapReported", "GapReleased", "CameLate", "DeliveryRefused"];
        let types =
            types.map(|name| EventType::new(format!("{}.{name}", InboxOccurrence::<I>::NAMESPACE)));
        let types: Vec<EventType> = types.into_iter().collect::<Result<_, _>>()?;
        let read = Read::matching(Query::types(types), after.next())
            .page_of(at_most.clamp(1, REPORTS_MAX));
        let page = self.sources.store().page(read).await?;
        let mut reports = Vec::with_capacity(page.events.len());
        for event in &page.events {
            let source = event.stream.as_ref().map_or("", |at| at.name.id());
            for of in schema.decode::<InboxOccurrence<I>>(event, Unknown::Ignore)? {
                let report = |what| Report {
                    position: event.position,
                    at: event.recorded_at,
                    source: source.to_owned(),
                    what,
                };
                reports.extend(reported(of.what).map(report));
            }
        }
        Ok(ReportPage { reports, next: page.next.map(|_| page.through) })
    }
}

const MESSAGE: ValueLimits = ValueLimits {
    value: "a message",
    depth: "the depth of a message",
    bytes_max: MESSAGE_BYTES_MAX,
    depth_max: MESSAGE_DEPTH_MAX,
};

/// Reports in one page.
const REPORTS_MAX: u32 = 1_000;

impl<I: Inbox> Clone for Intake<I> {
    fn clone(&self) -> Self {
        Self { sources: self.sources.clone(), trace: self.trace.clone(), inbox: PhantomData }
    }
}

impl<I: Inbox> std::fmt::Debug for Intake<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("name", &I::NAME).finish_non_exhaustive()
    }
}

fn check_ids(source: &str, id: &str) -> Result<(), Invalid> {
    check_id("a source's name", source)?;
    check_id("a message's id", id)
}

fn check_id(what: &'static str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::Empty { what });
    }
    Invalid::if_over(what, text.len(), ID_BYTES_MAX)
}

impl From<NotKept> for ReceiveError {
    fn from(not_kept: NotKept) -> Self {
        match not_kept {
            NotKept::Invalid(invalid) => invalid.into(),
            NotKept::Unwritable(detail) => Self::Unwritable { detail },
        }
    }
}

/// Tells whether two messages are the same to today's type. One that this type cannot read any more
/// is compared as it is.
fn is_same<I: Inbox>(before: &Json, now: &Json) -> bool {
    before.says_the_same(now)
        || matches!(
            (before.read::<I::Message>(), now.read::<I::Message>()),
            (Ok(a), Ok(b)) if json::is_same(&a, &b)
        )
}

/// Returns the receipt that the first event of the message stands for.
fn receipt<I>(events: &[InboxOccurrence<I>]) -> Receipt {
    match events.first().map(|event| &event.what) {
        Some(Occurrence::Held { missing, .. }) => Receipt::Held { missing: *missing },
        Some(Occurrence::CameLate { .. }) => Receipt::Late,
        _ => Receipt::Accepted,
    }
}

fn reported(what: Occurrence) -> Option<Reported> {
    match what {
        Occurrence::GapReported { from, to } => Some(Reported::Gap(Gap { from, to })),
        Occurrence::GapReleased { from, to, by } => {
            Some(Reported::Released { gap: Gap { from, to }, by })
        }
        Occurrence::CameLate { id, sequence, .. } => Some(Reported::Late { id, sequence }),
        Occurrence::DeliveryRefused { target, reason } => {
            Some(Reported::Refused { target, reason })
        }
        Occurrence::Accepted { .. } | Occurrence::Held { .. } => None,
    }
}
