//! Two services: one sends notes by an outbox, the other pins them to a board by an inbox.
#![allow(unreachable_pub, reason = "a module of one test binary")]

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use leftfold_amqp::{Amqp, AmqpBus};
use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::inbox::{Delivery, Inbox, ReceiverStatus, RunningReceiver};
use leftfold_core::runtime::process::{Reaction, Targets};
use leftfold_core::runtime::projection::{Outbox, Outgoing, Projection, ProjectionError};
use leftfold_core::runtime::{RunningRuntime, Runtime};
use leftfold_core::store::Store;
use leftfold_proving::RabbitMqServer;
use serde::{Deserialize, Serialize};

/// A guard for tests that wait in vain.
pub const SOON: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum NoteEvent {
    Written { to: String, text: String },
}

impl Event for NoteEvent {
    const NAMESPACE: &'static str = "note";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("never")]
pub struct Never;

/// Notes of one writer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Notes;

impl Aggregate for Notes {
    const CATEGORY: &'static str = "note";
    type Event = NoteEvent;
    type Command = NoteEvent;
    type Refusal = Never;

    fn apply(&mut self, _: &NoteEvent) {}

    fn decide(&self, write: &NoteEvent) -> Result<Vec<NoteEvent>, Never> {
        Ok(vec![write.clone()])
    }
}

pub struct Letters;

impl Projection<Outbox<AmqpBus>> for Letters {
    const NAME: &'static str = "letters";
    type Event = NoteEvent;

    async fn apply(
        &self,
        out: &mut Outgoing,
        event: &Recorded<NoteEvent>,
    ) -> Result<(), ProjectionError> {
        let NoteEvent::Written { to, text } = &event.event;
        out.send(to, event.stream_id(), serde_json::to_vec(&Note { text: text.clone() })?);
        Ok(())
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Note {
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum BoardEvent {
    Pinned { text: String },
}

impl Event for BoardEvent {
    const NAMESPACE: &'static str = "board";
}

/// A board with all notes in the order in which they took effect.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Board {
    pub notes: Vec<String>,
}

impl Aggregate for Board {
    const CATEGORY: &'static str = "board";
    type Event = BoardEvent;
    type Command = String;
    type Refusal = Never;

    fn apply(&mut self, event: &BoardEvent) {
        let BoardEvent::Pinned { text } = event;
        self.notes.push(text.clone());
    }

    fn decide(&self, text: &String) -> Result<Vec<BoardEvent>, Never> {
        Ok(vec![BoardEvent::Pinned { text: text.clone() }])
    }
}

pub struct Mail;

impl Inbox for Mail {
    const NAME: &'static str = "mail";
    type Message = Note;

    fn targets() -> Targets {
        Targets::of::<Board>()
    }

    fn deliver(note: &Note, _: &Delivery) -> Reaction {
        Reaction::none().command::<Board>("all", note.text.clone())
    }
}

/// The broker that tests share which leave it alone.
pub fn shared() -> Amqp {
    Amqp::at(&RabbitMqServer::shared().url()).unwrap().named("test")
}

/// A name that no other test has.
pub fn queue_named(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub async fn write(store: &Store, writer: &str, to: &str, text: &str) {
    let written = NoteEvent::Written { to: to.to_owned(), text: text.to_owned() };
    store.aggregate::<Notes>().record(writer, &[written]).await.unwrap();
}

pub async fn sends(store: &Store, broker: &Amqp) -> RunningRuntime {
    let outbox = Outbox::new(store, broker.bus());
    Runtime::new(store).project(Letters, outbox).start().await.unwrap()
}

/// Waits until the outbox has handed over all that is recorded.
pub async fn until_sent(store: &Store, sending: &RunningRuntime) {
    let head = store.head().position;
    sending.projections().wait_until("letters", head, SOON).await.unwrap();
}

/// Delivers all that the inbox has taken, and returns the notes on the board.
pub async fn pinned(store: &Store) -> Vec<String> {
    Runtime::new(store).inbox::<Mail>().run_until_idle().await.unwrap();
    store.aggregate::<Board>().load("all").await.unwrap().state.notes
}

/// Waits until a receiver has a status, and returns it.
pub async fn reached(
    receiver: &RunningReceiver,
    what: &str,
    holds: impl FnMut(&ReceiverStatus) -> bool,
) -> ReceiverStatus {
    let mut status = receiver.status();
    let reached = tokio::time::timeout(SOON, status.wait_for(holds)).await;
    match reached {
        Ok(Ok(status)) => status.clone(),
        Ok(Err(_)) => panic!("the receiver ended"),
        Err(_) => panic!("waited in vain until {what}: {}", *receiver.status().borrow()),
    }
}

/// Gives every task its turn until something holds.
pub async fn until(what: impl fmt::Display, holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(SOON, waiting).await.is_ok(), "waited in vain until {what}");
}

/// Another program at the broker, that knows nothing of Leftfold.
pub struct Stranger {
    _connection: Connection,
    pub channel: Channel,
}

impl Stranger {
    pub async fn connect(url: &str) -> Self {
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        Self { _connection: connection, channel }
    }

    pub async fn shared() -> Self {
        Self::connect(&RabbitMqServer::shared().url()).await
    }

    pub async fn declare(&self, queue: &str) {
        let options = lapin::options::QueueDeclareOptions { durable: true, ..Default::default() };
        self.channel.queue_declare(queue.into(), options, FieldTable::default()).await.unwrap();
    }

    pub async fn publish(&self, queue: &str, payload: &str, properties: BasicProperties) {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let payload = payload.as_bytes();
        let sent =
            self.channel.basic_publish("".into(), queue.into(), options, payload, properties);
        let confirmed = sent.await.unwrap().await.unwrap();
        assert!(confirmed.is_ack() && confirmed.take_message().is_none());
    }

    pub async fn note(&self, queue: &str, id: &str, text: &str) {
        let payload = serde_json::to_string(&Note { text: text.to_owned() }).unwrap();
        let properties = BasicProperties::default().with_message_id(id.into());
        self.publish(queue, &payload, properties).await;
    }

    /// Number of messages that wait in a queue, without those that are handed out.
    pub async fn waiting(&self, queue: &str) -> u32 {
        let look = lapin::options::QueueDeclareOptions { passive: true, ..Default::default() };
        let found = self.channel.queue_declare(queue.into(), look, FieldTable::default()).await;
        found.unwrap().message_count()
    }

    /// Takes everything that waits in a queue.
    pub async fn take(&self, queue: &str) -> Vec<(BasicProperties, String)> {
        let mut all = Vec::new();
        let at_once = BasicGetOptions { no_ack: true };
        while let Some(got) = self.channel.basic_get(queue.into(), at_once).await.unwrap() {
            let text = String::from_utf8(got.delivery.data).unwrap();
            all.push((got.delivery.properties, text));
        }
        all
    }
}
