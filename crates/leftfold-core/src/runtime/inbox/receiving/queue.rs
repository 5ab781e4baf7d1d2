//! The contract of a broker's queue, which an adapter implements.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;

use crate::store::TraceContext;

/// A queue of a broker, from which an inbox receives: what an adapter implements.
///
/// The receiver connects, reads and settles, and connects again after a failure, with a wait that
/// doubles from 0.1 s to 30 s. Whatever an adapter loses between two connections the broker has to
/// deliver again.
pub trait BrokerQueue: Send + 'static {
    /// A connection to the broker, from which messages come.
    type Session: QueueSession;

    /// Returns the name of the queue, for status and errors. It is the source of its messages
    /// unless they [name one](Arrival::source).
    fn name(&self) -> &str;

    /// Connects, and asks the broker for messages. It has
    /// [`CONNECT_WITHIN`](super::CONNECT_WITHIN) for that.
    fn connect(
        &mut self,
    ) -> impl Future<Output = Result<Self::Session, <Self::Session as QueueSession>::Error>> + Send;
}

/// A connection to a broker, from which messages come. If it is dropped, the broker delivers what
/// was not settled again.
pub trait QueueSession: Send + 'static {
    /// Handle of a message that is not settled, with all that settling needs.
    type Handle: Send + 'static;
    /// Error of the connection. It ends the session. Its text has no secrets.
    type Error: Error + Send + Sync + 'static;

    /// Waits for the next message. Cancel safe: no message is lost if the future is dropped.
    ///
    /// # Errors
    /// If no more message will come: the connection is lost, the queue is gone.
    fn next(&mut self) -> impl Future<Output = Result<Arrival<Self::Handle>, Self::Error>> + Send;

    /// Tells the broker to forget a message: the inbox has it. It has
    /// [`SETTLE_WITHIN`](super::SETTLE_WITHIN) for that.
    fn acknowledge(
        &mut self,
        handle: Self::Handle,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Puts a message where people look for dead letters, with the reason, and then tells the
    /// broker to forget it. It has [`SETTLE_WITHIN`](super::SETTLE_WITHIN) for that.
    fn dead_letter(
        &mut self,
        handle: Self::Handle,
        reason: &str,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Ends the session and gives messages back: the broker delivers them again, to whoever asks,
    /// best not before a time has passed.
    fn give_back(
        self,
        handles: Vec<Self::Handle>,
        after: Duration,
    ) -> impl Future<Output = ()> + Send;
}

/// A message that came from a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival<H> {
    /// Source of the message; `None` for the name of the queue. Messages of one source are taken
    /// in the order in which they come, and different sources side by side.
    pub source: Option<String>,
    /// Id by which a repetition is known; `None` if it has none, and then it is poison.
    pub id: Option<String>,
    /// Content, as JSON.
    pub payload: Bytes,
    /// Trace that it is part of.
    pub trace: Option<TraceContext>,
    /// Handle to settle it by.
    pub handle: H,
}
