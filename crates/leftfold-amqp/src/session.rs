//! A connection from which the messages of a queue come.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;

use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, BasicProperties, Connection, Consumer};
use leftfold_core::runtime::inbox::{Arrival, BrokerQueue, QueueSession};

use crate::error::AmqpError;
use crate::properties;
use crate::publisher::{Envelope, Publisher};
use crate::queue::AmqpQueue;
use crate::topology;

/// A connection from which the messages of a queue come. If it is dropped, or the process dies, the
/// broker delivers what was not acknowledged again.
#[derive(Debug)]
pub struct AmqpSession {
    queue: AmqpQueue,
    connection: Connection,
    consumer: Consumer,
    /// Publishes dead letters, by a connection of its own: a broker that is short of memory reads
    /// nothing from one that publishes, no acknowledgements either.
    dead_letters: Publisher,
}

/// Handle of a message that is not settled.
#[derive(Debug)]
pub struct AmqpHandle {
    acker: Acker,
    properties: BasicProperties,
    payload: Bytes,
}

impl BrokerQueue for AmqpQueue {
    type Session = AmqpSession;

    fn name(&self) -> &str {
        &self.name
    }

    async fn connect(&mut self) -> Result<AmqpSession, AmqpError> {
        AmqpSession::new(self.clone()).await
    }
}

impl AmqpSession {
    async fn new(queue: AmqpQueue) -> Result<Self, AmqpError> {
        let address = queue.broker.address();
        let refused = |error| AmqpError::of_queue(&address, &queue.name, error);
        let name = topology::queue_name(&queue.name)?;
        topology::queue_name(&queue.poison)?;
        let connection = queue.broker.connect().await?;
        if queue.broker.declares() {
            topology::declare(&connection, &address, &queue.name).await?;
            topology::declare(&connection, &address, &queue.poison).await?;
        }
        let channel = connection.create_channel().await.map_err(refused)?;
        channel.basic_qos(queue.prefetch, BasicQosOptions::default()).await.map_err(refused)?;
        let tag = ShortString::default();
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let consumer = channel.basic_consume(name, tag, options, arguments);
        let consumer = consumer.await.map_err(refused)?;
        let dead_letters = Publisher::new(queue.broker.clone());
        Ok(Self { queue, connection, consumer, dead_letters })
    }

    fn arrival(&self, delivery: Delivery) -> Arrival<AmqpHandle> {
        let Delivery { properties, data, acker, .. } = delivery;
        let payload = Bytes::from(data);
        Arrival {
            source: self.queue.source_of(&properties),
            id: self.queue.id_of(&properties, &payload),
            payload: payload.clone(),
            trace: properties::trace(&properties),
            handle: AmqpHandle { acker, properties, payload },
        }
    }

    fn lost(&self, source: lapin::Error) -> AmqpError {
        AmqpError::Lost { address: self.queue.broker.address(), source }
    }
}

impl QueueSession for AmqpSession {
    type Handle = AmqpHandle;
    type Error = AmqpError;

    async fn next(&mut self) -> Result<Arrival<AmqpHandle>, AmqpError> {
        match self.consumer.next().await {
            Some(Ok(delivery)) => Ok(self.arrival(delivery)),
            Some(Err(error)) => Err(self.lost(error)),
            None => Err(AmqpError::QueueGone { queue: self.queue.name.clone() }),
        }
    }

    async fn acknowledge(&mut self, handle: AmqpHandle) -> Result<(), AmqpError> {
        let told = handle.acker.ack(BasicAckOptions::default()).await;
        told.map(drop).map_err(|error| self.lost(error))
    }

    async fn dead_letter(&mut self, handle: AmqpHandle, reason: &str) -> Result<(), AmqpError> {
        let envelope = Envelope {
            exchange: ShortString::default(),
            routing_key: topology::queue_name(&self.queue.poison)?,
            properties: properties::of_dead_letter(&handle.properties, &self.queue.name, reason),
            payload: handle.payload.clone(),
        };
        self.dead_letters.publish(&[envelope]).await?;
        self.acknowledge(handle).await
    }

    /// The broker delivers at once what a connection leaves behind; the receiver waits before it
    /// connects again.
    async fn give_back(self, _: Vec<AmqpHandle>, _: Duration) {
        // A connection that is lost already leaves as much behind.
        let _ = self.connection.close(200, ShortString::default()).await;
    }
}
