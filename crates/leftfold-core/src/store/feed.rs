//! What a subscription tells, and events that a backend brings by itself, as they are recorded.

use std::fmt;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};

use futures_util::{Stream, StreamExt};

use super::{Position, ReadError, RecordedEvent};

/// Next thing that a subscription tells.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly every signal is an event")]
pub enum Signal {
    /// An event that matches.
    Event(RecordedEvent),
    /// Everything up to here was looked at; all events that match have been delivered.
    Progress(Position),
    /// As [`Signal::Progress`], and this is the durable end: the events that follow are live.
    CaughtUp(Position),
    /// More than a page was recorded since the subscription was live.
    FellBehind(Position),
}

impl Signal {
    pub(super) fn position(&self) -> Position {
        match self {
            Self::Event(event) => event.position,
            Self::Progress(position) | Self::CaughtUp(position) | Self::FellBehind(position) => {
                *position
            }
        }
    }
}

/// Events that came together, and the mark behind them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FedEvents {
    /// Events that match, in their order.
    pub events: Vec<RecordedEvent>,
    /// Mark that follows them: any signal but an event.
    pub mark: Option<Signal>,
}

/// Events that match a query, as a backend brings them: those that are there, then those that come,
/// none skipped. After an error it goes on where it was, when it is asked again.
pub struct EventFeed(Mutex<FedStream>);

type FedStream = Pin<Box<dyn Stream<Item = Result<FedEvents, ReadError>> + Send>>;

impl EventFeed {
    /// Takes a stream as a feed. Nothing may be lost if somebody stops waiting for its next item;
    /// its end means that the store is closed.
    #[must_use]
    pub fn new(events: impl Stream<Item = Result<FedEvents, ReadError>> + Send + 'static) -> Self {
        Self(Mutex::new(Box::pin(events)))
    }

    /// Waits for more. Safe to cancel.
    pub(super) async fn next(&mut self) -> Result<FedEvents, ReadError> {
        let events = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        events.next().await.unwrap_or(Err(ReadError::Closed))
    }
}

impl fmt::Debug for EventFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventFeed").finish_non_exhaustive()
    }
}
