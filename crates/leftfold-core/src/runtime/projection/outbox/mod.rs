//! The outbox (also called transactional outbox): messages that follow from events, handed to a bus
//! in order, at least once.
//!
//! This file has the bus and the target of a projection that collects messages; a commit sends
//! them, and then records checkpoint and parked items as the outbox's `notes`, in the store.

mod notes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Mutex as BusMutex;
use uuid::Uuid;

use super::{Place, ProjectionError, Session, Target};
use crate::store::{EventId, Fence, Label, Position, RecordedEvent, Store};
pub(in crate::runtime) use notes::OWNER;
pub(super) use notes::consumer;
use notes::{NotesError, OutboxNotes};

/// Carries messages to their receivers: a broker, another service.
///
/// ```
/// use leftfold_core::runtime::projection::{Bus, Message, ProjectionError};
/// use tokio::sync::mpsc;
///
/// /// Hands messages to a task of the same program.
/// struct Channel(mpsc::Sender<Message>);
///
/// impl Bus for Channel {
///     async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
///         for message in messages {
///             self.0.send(message).await?;
///         }
///         Ok(())
///     }
///
///     /// If the task has ended, nobody will ever take the message.
///     fn is_away(error: &ProjectionError) -> bool {
///         error.downcast_ref::<mpsc::error::SendError<Message>>().is_none()
///     }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (sender, receiver) = mpsc::channel(10);
/// drop(receiver);
/// # let message = Message {
/// #     destination: "receipts".to_owned(),
/// #     id: Default::default(),
/// #     key: "ada".to_owned(),
/// #     sequence: leftfold_core::store::Position(1),
/// #     payload: Default::default(),
/// # };
/// let error = Channel(sender).publish(vec![message]).await.unwrap_err();
/// assert!(!Channel::is_away(&error));
/// # Ok(()) }
/// ```
pub trait Bus: Send + 'static {
    /// Hands over the messages of one transaction, in their order. Once this is done they cannot be
    /// lost.
    ///
    /// If it fails, or the process dies before that is noted, the same messages come again, under
    /// the same ids.
    fn publish(
        &mut self,
        messages: Vec<Message>,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Tells whether an error means that the bus cannot be used now, so that it is waited for. If
    /// not, the event that made the message is found and parked.
    fn is_away(error: &ProjectionError) -> bool {
        let _ = error;
        true
    }
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Destination of the message: a queue, a topic, an address.
    pub destination: String,
    /// The same whenever it is sent: who gets it tells repetitions by this.
    pub id: Uuid,
    /// Key of the messages that it must stay in order with.
    pub key: String,
    /// Position of the event that it follows from: no later message has a lower one.
    pub sequence: Position,
    /// Content of the message.
    pub payload: Bytes,
}

/// A target that sends: a [`Projection`](super::Projection) whose rows are the messages that its
/// events ask for.
///
/// Messages go out in the order of the log, at least once; the receiver leaves out ids that it
/// knows. The position of the outbox is kept in the event store itself, in the stream
/// `$outbox-NAME`. A message that was sent cannot be taken back: another version goes on from the
/// position of the last one and sends nothing again.
///
/// Of several runtimes on one store one sends, by a lease, which is looked at before messages are
/// handed over; the others stand by. A holder that sleeps between that look and the handing over,
/// for longer than its lease, can still send the messages that another one sends meanwhile: under
/// the same ids.
///
/// ```
/// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
/// use leftfold_core::fold::Recorded;
/// use leftfold_core::runtime::Runtime;
/// use leftfold_core::runtime::projection::{Bus, Message, Outbox, Outgoing, Projection};
/// use leftfold_core::runtime::projection::ProjectionError;
/// use leftfold_core::store::Store;
/// # use tokio::sync::mpsc;
/// use wallet::{Wallet, WalletEvent};
///
/// # struct Channel(mpsc::UnboundedSender<Message>);
/// # impl Bus for Channel {
/// #     async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
/// #         for message in messages {
/// #             self.0.send(message)?;
/// #         }
/// #         Ok(())
/// #     }
/// # }
/// /// A line of a statement for each deposit.
/// struct Statements;
///
/// impl Projection<Outbox<Channel>> for Statements {
///     const NAME: &'static str = "statements";
///     type Event = WalletEvent;
///
///     async fn apply(
///         &self,
///         outgoing: &mut Outgoing,
///         event: &Recorded<WalletEvent>,
///     ) -> Result<(), ProjectionError> {
///         if let WalletEvent::Deposited { cents } = event.event {
///             outgoing.send("statements", event.stream_id(), format!("{cents} cents"));
///         }
///         Ok(())
///     }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::memory();
/// let deposit = [WalletEvent::Deposited { cents: 500 }];
/// store.aggregate::<Wallet>().record("ada", &deposit).await?;
///
/// let (sender, mut receiver) = mpsc::unbounded_channel();
/// let outbox = Outbox::new(&store, Channel(sender));
/// Runtime::new(&store).project(Statements, outbox).run_until_idle().await?;
/// let message = receiver.recv().await.ok_or("a message was sent")?;
/// assert_eq!((&*message.destination, &*message.payload), ("statements", &b"500 cents"[..]));
/// # Ok(()) }
/// ```
pub struct Outbox<B> {
    store: Store,
    bus: Arc<BusMutex<B>>,
    state: Arc<Mutex<OutboxState>>,
}

#[derive(Debug, Default)]
struct OutboxState {
    open: BTreeSet<&'static str>,
    serving: BTreeMap<String, u32>,
}

impl<B: Bus> Outbox<B> {
    /// An outbox that keeps its position in a store, which is the one that its projection reads.
    #[must_use]
    pub fn new(store: &Store, bus: B) -> Self {
        Self { store: store.clone(), bus: Arc::new(BusMutex::new(bus)), state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, OutboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Clone for Outbox<B> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), bus: self.bus.clone(), state: self.state.clone() }
    }
}

impl<B> fmt::Debug for Outbox<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").field("state", &self.state).finish_non_exhaustive()
    }
}

/// The messages of one transaction.
#[derive(Debug)]
pub struct Outgoing {
    /// Names the ids of messages, with their event: its projection.
    name: &'static str,
    event: EventId,
    position: Position,
    /// Messages of the event that is applied.
    number: u32,
    messages: Vec<Message>,
}

impl Outgoing {
    /// No messages yet, for a projection.
    pub(crate) fn of(name: &'static str) -> Self {
        Self {
            name,
            event: EventId(Uuid::nil()),
            position: Position::START,
            number: 0,
            messages: Vec::new(),
        }
    }

    /// The messages so far.
    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Sends a message with the transaction, and its id: made of the id of the event, so that it
    /// stays the same in a copy of the store, and never comes again after the store was restored.
    pub fn send(
        &mut self,
        destination: impl Into<String>,
        key: impl Into<String>,
        payload: impl Into<Bytes>,
    ) -> Uuid {
        let id = self.event.derived(&format!("{}/{}", self.name, self.number));
        self.number += 1;
        let (destination, key, payload) = (destination.into(), key.into(), payload.into());
        self.messages.push(Message { destination, id, key, sequence: self.position, payload });
        id
    }

    pub(crate) fn takes(&mut self, event: &RecordedEvent) {
        // Several events may stem from one position; they go on counting.
        if event.position != self.position {
            (self.event, self.position, self.number) = (event.id, event.position, 0);
        }
    }

    fn clear(&mut self) {
        self.messages.clear();
        (self.position, self.number) = (Position::START, 0);
    }
}

/// Error of the bus or the store in a transaction.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the bus does not take the messages: {0}")]
    Bus(ProjectionError),
    #[error("the position of the outbox cannot be recorded: {0}")]
    Kept(NotesError),
}

impl<B: Bus> Target for Outbox<B> {
    type Session = OutboxSession<B>;
    const REBUILDS: bool = false;
    const KEPT_IN_STORE: bool = true;

    async fn open(&self, place: &Place) -> Result<OutboxSession<B>, ProjectionError> {
        if !self.state().open.insert(place.name) {
            return Err(ProjectionError::message(format!(
                "the outbox {} is open already in this process",
                place.name
            )));
        }
        let opened = SendingRight { state: self.state.clone(), name: place.name };
        let kept = |error: String| ProjectionError::from(SendError::Kept(NotesError::Away(error)));
        let notes = OutboxNotes::load(self.store.clone(), place.name).await.map_err(kept)?;
        Ok(OutboxSession {
            bus: self.bus.clone(),
            notes,
            outgoing: Outgoing::of(place.name),
            fence: None,
            _opened: opened,
        })
    }

    async fn serving(&self, name: &str) -> Result<Option<u32>, ProjectionError> {
        Ok(self.state().serving.get(name).copied())
    }

    async fn serve(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        self.state().serving.insert(name.to_owned(), version);
        Ok(())
    }

    async fn versions(&self, name: &str) -> Result<Vec<u32>, ProjectionError> {
        Ok(self.state().serving.get(name).copied().into_iter().collect())
    }

    async fn discard(&self, _: &str, _: u32) -> Result<(), ProjectionError> {
        Err(ProjectionError::message("what was sent cannot be taken back"))
    }

    fn is_away(&self, error: &ProjectionError) -> bool {
        match error.downcast_ref::<SendError>() {
            Some(SendError::Bus(error)) => B::is_away(error),
            Some(SendError::Kept(NotesError::TooMany { .. } | NotesError::Invalid(_))) | None => {
                false
            }
            Some(SendError::Kept(NotesError::Fenced | NotesError::Away(_))) => true,
        }
    }

    fn is_in_use(&self, error: &ProjectionError) -> bool {
        matches!(error.downcast_ref(), Some(SendError::Kept(NotesError::Fenced)))
    }
}

/// An outbox, while a runner has it.
#[derive(Debug)]
pub struct OutboxSession<B> {
    bus: Arc<BusMutex<B>>,
    notes: OutboxNotes,
    outgoing: Outgoing,
    /// Fence of its appends.
    fence: Option<(Label, Fence)>,
    _opened: SendingRight,
}

/// The right to send, given back in the end.
#[derive(Debug)]
struct SendingRight {
    state: Arc<Mutex<OutboxState>>,
    name: &'static str,
}

impl Drop for SendingRight {
    fn drop(&mut self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).open.remove(self.name);
    }
}

impl<B: Bus> Session for OutboxSession<B> {
    type Rows = Outgoing;

    async fn begin(&mut self) -> Result<(), ProjectionError> {
        self.outgoing.clear();
        self.notes.undo();
        Ok(())
    }

    fn under(&mut self, fence: Option<(Label, Fence)>) {
        self.fence = fence;
    }

    fn takes(&mut self, event: &RecordedEvent) {
        self.outgoing.takes(event);
    }

    fn rows(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    async fn note(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), ProjectionError> {
        self.notes.note(key, value);
        Ok(())
    }

    async fn notes(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, ProjectionError> {
        Ok(self.notes.notes(prefix, after, at_most))
    }

    /// Sends, and then keeps that it did: in between lies the repetition that receivers must bear.
    async fn commit(&mut self) -> Result<(), ProjectionError> {
        // What is sent and cannot be kept would be sent again and again.
        self.notes.check().map_err(SendError::Kept)?;
        let messages = std::mem::take(&mut self.outgoing.messages);
        if !messages.is_empty() {
            self.bus.lock().await.publish(messages).await.map_err(SendError::Bus)?;
        }
        Ok(self.notes.commit(self.fence.clone()).await.map_err(SendError::Kept)?)
    }

    async fn rollback(&mut self) -> Result<(), ProjectionError> {
        self.outgoing.clear();
        self.notes.undo();
        Ok(())
    }
}
