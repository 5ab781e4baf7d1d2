//! The two buses between the services: queues within the process for the story, RabbitMQ for real.

use std::collections::HashMap;
use std::time::Duration;

use lapin::message::Delivery as Delivered;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicNackOptions, BasicPublishOptions, BasicQosOptions,
    BasicRejectOptions, ConfirmSelectOptions, QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties};
use leftfold::prelude::*;
use leftfold::runtime::inbox::ReceiveError;
use leftfold::runtime::projection::{Bus, Message};
use leftfold::store::State;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_stream::StreamExt;

/// Queues within one process. What is in them is lost with it: good for a story.
#[derive(Clone)]
pub(crate) struct Wire(HashMap<&'static str, mpsc::UnboundedSender<Message>>);

impl Wire {
    /// A wire with one queue, and its other end.
    pub(crate) fn new(queue: &'static str) -> (Self, mpsc::UnboundedReceiver<Message>) {
        let (send, sent) = mpsc::unbounded_channel();
        (Self(HashMap::from([(queue, send)])), sent)
    }
}

impl Bus for Wire {
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
        for message in messages {
            let queue = self.0.get(message.destination.as_str());
            queue
                .ok_or_else(|| ProjectionError::message("there is no such queue"))?
                .send(message)?;
        }
        Ok(())
    }
}

/// Brings what comes over a wire into an inbox.
pub(crate) async fn receive<I: Inbox>(store: Store, mut wire: mpsc::UnboundedReceiver<Message>) {
    let inbox = store.inbox::<I>();
    while let Some(message) = wire.recv().await {
        if let Ok(heard) = serde_json::from_slice(&message.payload) {
            // A store that is closed takes nothing more.
            let _ = inbox.receive(&message.destination, &message.id.to_string(), None, heard).await;
        }
    }
}

/// Publishes to RabbitMQ, with confirms: a message counts as sent once the broker has it on its
/// disk.
pub(crate) struct RabbitMq {
    url: String,
    channel: Option<Channel>,
}

impl RabbitMq {
    pub(crate) fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), channel: None }
    }

    async fn channel(&mut self) -> Result<Channel, lapin::Error> {
        if let Some(channel) = self.channel.take().filter(|channel| channel.status().connected()) {
            return Ok(channel);
        }
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(channel)
    }
}

impl Bus for RabbitMq {
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
        let channel = self.channel().await?;
        let mut sent = Vec::with_capacity(messages.len());
        for message in messages {
            declare(&channel, &message.destination).await?;
            let properties = BasicProperties::default()
                .with_message_id(message.id.to_string().into())
                .with_delivery_mode(2);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let queue = message.destination.as_str().into();
            sent.push(
                channel
                    .basic_publish("".into(), queue, options, &message.payload, properties)
                    .await?,
            );
        }
        for confirm in sent {
            match confirm.await? {
                Confirmation::Ack(None) => {}
                Confirmation::Ack(Some(_)) => {
                    return Err(ProjectionError::message("the broker has no such queue"));
                }
                Confirmation::Nack(_) | Confirmation::NotRequested => {
                    return Err(ProjectionError::message("the broker did not take a message"));
                }
            }
        }
        self.channel = Some(channel);
        Ok(())
    }
}

/// Durable queues: a broker that comes back has them.
async fn declare(channel: &Channel, queue: &str) -> Result<(), lapin::Error> {
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(queue.into(), durable, FieldTable::default()).await.map(drop)
}

/// Waits until a broker can be reached.
pub(crate) async fn reached(url: &str) {
    while Connection::connect(url, ConnectionProperties::default()).await.is_err() {
        sleep(AGAIN).await;
    }
}

/// The wait before a broker that is away is called again.
const AGAIN: Duration = Duration::from_millis(200);
/// Messages that are on their way at a time.
const UNACKNOWLEDGED_MAX: u16 = 64;

/// Brings what comes from a queue of RabbitMQ into an inbox, until the store is closed. A message
/// is acknowledged when the inbox has it; what comes again is known by its id.
pub(crate) async fn consume<I: Inbox>(store: Store, url: String, queue: &'static str) {
    loop {
        match consume_once::<I>(&store, &url, queue).await {
            Ok(()) => return,
            // The broker is away, or went away: what was not acknowledged comes again.
            Err(_) => sleep(AGAIN).await,
        }
    }
}

async fn consume_once<I: Inbox>(
    store: &Store,
    url: &str,
    queue: &'static str,
) -> Result<(), lapin::Error> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    declare(&channel, queue).await?;
    channel.basic_qos(UNACKNOWLEDGED_MAX, BasicQosOptions::default()).await?;
    let tag = store.identity().store.to_string();
    let options = BasicConsumeOptions::default();
    let mut deliveries =
        channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default()).await?;
    while let Some(delivered) = deliveries.next().await {
        let delivered = delivered?;
        match hear::<I>(store, queue, &delivered).await {
            Heard::Kept => delivered.ack(BasicAckOptions::default()).await.map(drop)?,
            Heard::Nonsense => {
                delivered.reject(BasicRejectOptions { requeue: false }).await.map(drop)?
            }
            Heard::Later => {
                sleep(AGAIN).await;
                delivered
                    .nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() })
                    .await
                    .map(drop)?;
            }
            Heard::Closed => return Ok(()),
        }
    }
    Err(lapin::ErrorKind::InvalidChannel(channel.id()).into())
}

enum Heard {
    Kept,
    /// No message of this kind: the broker's dead letters are where it belongs.
    Nonsense,
    /// The store cannot take it now.
    Later,
    /// The store is closed.
    Closed,
}

async fn hear<I: Inbox>(store: &Store, queue: &str, delivered: &Delivered) -> Heard {
    let id = delivered.properties.message_id().as_ref().map(|id| id.as_str().to_owned());
    let (Some(id), Ok(message)) = (id, serde_json::from_slice(&delivered.data)) else {
        return Heard::Nonsense;
    };
    match store.inbox::<I>().receive(queue, &id, None, message).await {
        Ok(_) => Heard::Kept,
        Err(ReceiveError::Store(_)) if store.status().borrow().state == State::Closed => {
            Heard::Closed
        }
        Err(ReceiveError::Store(_)) => Heard::Later,
        Err(nonsense) => {
            eprintln!("a message from {queue} is none for this service: {nonsense}");
            Heard::Nonsense
        }
    }
}
