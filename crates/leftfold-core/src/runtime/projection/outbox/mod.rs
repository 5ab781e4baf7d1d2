//! The outbox: messages that follow from events, handed to a bus in order, at least once.

mod keep;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Mutex as BusMutex;
use uuid::Uuid;

use super::{Place, ProjectionError, Session, Target};
use crate::store::{Position, Store};
use keep::Keep;
pub(in crate::runtime) use keep::OWNER;

/// Carries messages to whoever is to get them: a broker, another service.
pub trait Bus: Send + 'static {
    /// Hands over the messages of one transaction, in their order. Once this is done they are not lost any more.
    ///
    /// Where it fails, or the process dies before that is noted, the same messages come again, under the same ids.
    fn publish(&mut self, messages: Vec<Message>) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Whether an error means that the bus cannot be used now, so that it is waited for. Where not, the event that made
    /// the message is found and parked.
    fn is_away(error: &ProjectionError) -> bool {
        let _ = error;
        true
    }
}

/// A message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Where it goes: a queue, a topic, an address.
    pub destination: String,
    /// The same whenever it is sent: who gets it tells repetitions by this.
    pub id: Uuid,
    /// What it must stay in order with.
    pub key: String,
    /// The event that it follows from: what is sent later has no lower one.
    pub sequence: Position,
    /// What it says.
    pub payload: Bytes,
}

/// A target that sends: a [`Projection`](super::Projection) whose rows are the messages that its events ask for.
///
/// Messages go out in the order of the log, at least once; who gets them leaves out ids that it knows. Where the outbox
/// stands is kept in the event store itself, in the stream `$outbox-NAME`. What was sent cannot be taken back: another
/// version goes on where the last one stood and sends nothing again.
pub struct Outbox<B> {
    store: Store,
    bus: Arc<BusMutex<B>>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    open: BTreeSet<&'static str>,
    serving: BTreeMap<String, u32>,
}

impl<B: Bus> Outbox<B> {
    /// An outbox that keeps where it stands in a store, which is the one that its projection reads.
    #[must_use]
    pub fn new(store: &Store, bus: B) -> Self {
        Self { store: store.clone(), bus: Arc::new(BusMutex::new(bus)), state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
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
    /// Names the ids of messages, with the store: its projection.
    name: &'static str,
    store: Uuid,
    position: Position,
    /// Messages of the event that is applied.
    number: u32,
    messages: Vec<Message>,
}

impl Outgoing {
    /// Sends a message with the transaction, and its id.
    pub fn send(&mut self, destination: impl Into<String>, key: impl Into<String>, payload: impl Into<Bytes>) -> Uuid {
        let Self { name, position, number, .. } = self;
        let id = Uuid::new_v5(&self.store, format!("{name}/{position}/{number}").as_bytes());
        self.number += 1;
        let (destination, key, payload) = (destination.into(), key.into(), payload.into());
        self.messages.push(Message { destination, id, key, sequence: self.position, payload });
        id
    }

    fn at(&mut self, position: Position) {
        // Several events may stem from one position; they go on counting.
        if position != self.position {
            (self.position, self.number) = (position, 0);
        }
    }

    fn clear(&mut self) {
        self.messages.clear();
        (self.position, self.number) = (Position::START, 0);
    }
}

/// What the bus or the store says of a transaction.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the bus does not take the messages: {0}")]
    Bus(ProjectionError),
    #[error("where the outbox stands cannot be kept: {0}")]
    Kept(String),
}

impl<B: Bus> Target for Outbox<B> {
    type Session = OutboxSession<B>;
    const REBUILDS: bool = false;

    async fn open(&self, place: &Place) -> Result<OutboxSession<B>, ProjectionError> {
        if !self.state().open.insert(place.name) {
            return Err(ProjectionError::message(format!("the outbox {} is open already in this process", place.name)));
        }
        let opened = Opened { state: self.state.clone(), name: place.name };
        let kept = |error: String| ProjectionError::from(SendError::Kept(error));
        let keep = Keep::load(self.store.clone(), place.name).await.map_err(kept)?;
        let store = self.store.identity().store.0;
        let outgoing = Outgoing { name: place.name, store, position: Position::START, number: 0, messages: Vec::new() };
        Ok(OutboxSession { bus: self.bus.clone(), keep, outgoing, _opened: opened })
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
            Some(SendError::Kept(_)) => true,
            None => false,
        }
    }
}

/// An outbox, while a runner has it.
#[derive(Debug)]
pub struct OutboxSession<B> {
    bus: Arc<BusMutex<B>>,
    keep: Keep,
    outgoing: Outgoing,
    _opened: Opened,
}

/// The right to send, given back in the end.
#[derive(Debug)]
struct Opened {
    state: Arc<Mutex<State>>,
    name: &'static str,
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).open.remove(self.name);
    }
}

impl<B: Bus> Session for OutboxSession<B> {
    type Rows = Outgoing;

    async fn begin(&mut self) -> Result<(), ProjectionError> {
        self.outgoing.clear();
        self.keep.undo();
        Ok(())
    }

    fn at(&mut self, position: Position) {
        self.outgoing.at(position);
    }

    fn rows(&mut self) -> &mut Outgoing {
        &mut self.outgoing
    }

    async fn note(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), ProjectionError> {
        self.keep.note(key, value);
        Ok(())
    }

    async fn notes(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, ProjectionError> {
        Ok(self.keep.notes(prefix, after, at_most))
    }

    /// Sends, and then keeps that it did: in between lies the repetition that receivers must bear.
    async fn commit(&mut self) -> Result<(), ProjectionError> {
        let messages = std::mem::take(&mut self.outgoing.messages);
        if !messages.is_empty() {
            self.bus.lock().await.publish(messages).await.map_err(SendError::Bus)?;
        }
        Ok(self.keep.commit().await.map_err(SendError::Kept)?)
    }

    async fn rollback(&mut self) -> Result<(), ProjectionError> {
        self.outgoing.clear();
        self.keep.undo();
        Ok(())
    }
}
