//! The door of an inbox: what comes in, and what people see of it.

use std::marker::PhantomData;

use super::source::{Heard, Occurrence, Of, Refusal, Source};
use super::{ID_BYTES_MAX, Inbox, MESSAGE_BYTES_MAX};
use crate::fold::{Aggregate, Aggregates, Answer, Event, ExecuteError, LoadError, Schema, Unknown};
use crate::store::{AppendError, EventType, Invalid, Position, Query, Read, Store, Timestamp};

/// Takes what comes from outside, of one kind. Cheap to clone.
pub struct Intake<I: Inbox> {
    sources: Aggregates<Source<I>>,
    inbox: PhantomData<fn() -> I>,
}

/// What became of a message that was received. It is durable.
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

/// Why a message was not received. Nothing of it is recorded, unless the store does not know that.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ReceiveError {
    /// The source sent something else under this id before.
    #[error("source {source_name} sent another message under the id {id} before, each needs its own")]
    OtherMessage {
        /// Who sent it.
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
    /// The message cannot be written as JSON.
    #[error("the message cannot be written: {detail}")]
    Unwritable {
        /// What serde said.
        detail: String,
    },
    /// The store did not take it; send it again, under the same id.
    #[error(transparent)]
    Store(Box<ExecuteError<Refusal>>),
}

/// How a source stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceStatus {
    /// The number that is awaited next.
    pub next: u64,
    /// How many messages are held until it comes.
    pub held: usize,
    /// Whether people were told of the gap.
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

/// Something that people are to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Where it is recorded.
    pub position: Position,
    /// Since when.
    pub at: Timestamp,
    /// Whose messages.
    pub source: String,
    /// What.
    pub what: Reported,
}

/// What people are to know of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reported {
    /// A gap was not filled in time; what is behind it waits.
    Gap(Gap),
    /// A gap is not waited for any more.
    Released {
        /// Which.
        gap: Gap,
        /// Who said so: the time, or a person.
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
        /// Why.
        reason: String,
    },
}

/// Some of the reports, the oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportPage {
    /// The reports.
    pub reports: Vec<Report>,
    /// Where to go on; none at the end.
    pub next: Option<Position>,
}

impl<I: Inbox> Intake<I> {
    pub(super) fn new(store: &Store) -> Self {
        Self { sources: store.aggregate(), inbox: PhantomData }
    }

    /// Receives a message. When this returns, it is durable, and the sender may forget it; until then it may come again,
    /// under the same id.
    ///
    /// A source and an id have 1 to [`ID_BYTES_MAX`] bytes, a message at most [`MESSAGE_BYTES_MAX`] as JSON. The same id
    /// with another message or number is refused, and so is a number that another message has. While
    /// [`HELD_MAX`](super::HELD_MAX) messages of a source are held, only what fills the gap is taken.
    pub async fn receive(
        &self,
        source: &str,
        id: &str,
        sequence: Option<u64>,
        message: I::Message,
    ) -> Result<Receipt, ReceiveError> {
        check_id("a source's name", source)?;
        check_id("a message's id", id)?;
        let message = serde_json::to_value(&message).map_err(|error| ReceiveError::Unwritable { detail: error.to_string() })?;
        let text = message.to_string();
        Invalid::if_over("a message", text.len(), MESSAGE_BYTES_MAX)?;
        let request = format!("{sequence:?} {text}");
        let heard = Heard::Message { id: id.to_owned(), sequence, message };
        let command = self.sources.command(source, heard).id(Source::<I>::CATEGORY, &format!("{} {source} {id}", source.len()));
        match command.request(request.as_bytes()).execute().await {
            Ok(done) if done.answer == Answer::Again => Ok(Receipt::Duplicate),
            Ok(done) => Ok(receipt(&done.events)),
            Err(ExecuteError::Refused(refusal)) => Err(refusal.into()),
            Err(ExecuteError::Append(AppendError::CommandIdReused { .. })) => {
                Err(ReceiveError::OtherMessage { source_name: source.to_owned(), id: id.to_owned() })
            }
            Err(ExecuteError::Invalid(invalid)) => Err(invalid.into()),
            Err(error) => Err(ReceiveError::Store(Box::new(error))),
        }
    }

    /// Gives up the gaps that a source's messages are held for: all of them are delivered. How many were.
    pub async fn release(&self, source: &str, by: &str) -> Result<usize, ReceiveError> {
        check_id("a source's name", source)?;
        check_id("the name of who releases a gap", by)?;
        let released = self.sources.execute(source, Heard::Release { by: by.to_owned() }).await;
        let done = released.map_err(|error| ReceiveError::Store(Box::new(error)))?;
        Ok(done.events.iter().filter(|event| matches!(event.what, Occurrence::Accepted { .. })).count())
    }

    /// How a source stands.
    pub async fn source(&self, source: &str) -> Result<SourceStatus, LoadError> {
        let state = self.sources.load(source).await?.state.state;
        let is_reported = state.held() > 0 && state.reported_through >= state.next;
        Ok(SourceStatus { next: state.next, held: state.held(), is_reported })
    }

    /// What people are to know of, after a position, the oldest first, at most so many and at most 1,000.
    pub async fn reports(&self, after: Position, at_most: u32) -> Result<ReportPage, LoadError> {
        let schema = Schema::of::<Of<I>>()?;
        let types = ["GapReported", "GapReleased", "CameLate", "DeliveryRefused"];
        let types = types.map(|name| EventType::new(format!("{}.{name}", Of::<I>::NAMESPACE)));
        let types: Vec<EventType> = types.into_iter().collect::<Result<_, _>>()?;
        let read = Read::matching(Query::types(types), after.next()).page_of(at_most.clamp(1, REPORTS_MAX));
        let page = self.sources.store().page(read).await?;
        let mut reports = Vec::with_capacity(page.events.len());
        for event in &page.events {
            let source = event.stream.as_ref().map_or("", |at| at.name.id());
            for of in schema.decode::<Of<I>>(event, Unknown::Ignore)? {
                let report = |what| Report { position: event.position, at: event.recorded_at, source: source.to_owned(), what };
                reports.extend(reported(of.what).map(report));
            }
        }
        Ok(ReportPage { reports, next: page.next.map(|_| page.through) })
    }
}

/// Reports in one page.
const REPORTS_MAX: u32 = 1_000;

impl<I: Inbox> Clone for Intake<I> {
    fn clone(&self) -> Self {
        Self { sources: self.sources.clone(), inbox: PhantomData }
    }
}

impl<I: Inbox> std::fmt::Debug for Intake<I> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Intake").field("name", &I::NAME).finish_non_exhaustive()
    }
}

fn check_id(what: &'static str, text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid::Empty { what });
    }
    Invalid::if_over(what, text.len(), ID_BYTES_MAX)
}

/// What the first event says of the message.
fn receipt<I>(events: &[Of<I>]) -> Receipt {
    match events.first().map(|event| &event.what) {
        Some(Occurrence::Held { missing, .. }) => Receipt::Held { missing: *missing },
        Some(Occurrence::CameLate { .. }) => Receipt::Late,
        _ => Receipt::Accepted,
    }
}

fn reported(what: Occurrence) -> Option<Reported> {
    match what {
        Occurrence::GapReported { from, to } => Some(Reported::Gap(Gap { from, to })),
        Occurrence::GapReleased { from, to, by } => Some(Reported::Released { gap: Gap { from, to }, by }),
        Occurrence::CameLate { id, sequence, .. } => Some(Reported::Late { id, sequence }),
        Occurrence::DeliveryRefused { target, reason } => Some(Reported::Refused { target, reason }),
        Occurrence::Accepted { .. } | Occurrence::Held { .. } => None,
    }
}
