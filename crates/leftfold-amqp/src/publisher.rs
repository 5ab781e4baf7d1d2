//! Publishing with confirms.

use std::collections::HashSet;
use std::fmt;
use std::future::pending;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionStatus, Event, PublisherConfirm,
};
use tokio::time::timeout;

use crate::broker::Amqp;
use crate::error::AmqpError;
use crate::topology;

/// Time that a broker may take to confirm the messages of one transaction.
pub const PUBLISH_WITHIN: Duration = Duration::from_secs(20);

/// Time that a broker may be short of memory or disk before that is an error.
const BLOCKED_WITHIN: Duration = Duration::from_secs(2);

/// A connection that publishes. It connects when it is first used, and again after a failure.
pub(crate) struct Publisher {
    broker: Amqp,
    link: Option<ConfirmingChannel>,
}

struct ConfirmingChannel {
    connection: Connection,
    channel: Channel,
    /// Queues that are known to be there.
    queues: HashSet<String>,
}

/// A message with its place in the broker.
pub(crate) struct Envelope {
    pub(crate) exchange: ShortString,
    pub(crate) routing_key: ShortString,
    pub(crate) properties: BasicProperties,
    pub(crate) payload: Bytes,
}

impl Envelope {
    /// Name of the queue, if it is addressed to one.
    fn queue(&self) -> Option<&str> {
        self.exchange.as_str().is_empty().then(|| self.routing_key.as_str())
    }

    fn destination(&self) -> String {
        match self.queue() {
            Some(queue) => queue.to_owned(),
            None => format!("{}/{}", self.exchange, self.routing_key),
        }
    }
}

impl Publisher {
    pub(crate) fn new(broker: Amqp) -> Self {
        Self { broker, link: None }
    }

    /// Publishes messages in their order, and waits until the broker has confirmed all of them. If
    /// it fails, some may have been sent.
    pub(crate) async fn publish(&mut self, envelopes: &[Envelope]) -> Result<(), AmqpError> {
        let address = self.broker.address();
        // A call that is given up leaves nothing behind: the next one connects again.
        let mut link = match self.link.take().filter(ConfirmingChannel::is_usable) {
            Some(link) => link,
            None => ConfirmingChannel::new(&self.broker).await?,
        };
        let status = link.connection.status().clone();
        let events = pin!(link.connection.events_listener());
        let published = async {
            if self.broker.declares() {
                link.declare(&address, envelopes).await?;
            }
            link.publish(&address, envelopes).await
        };
        let published = tokio::select! {
            biased;
            () = blocked(&status, events) => {
                Err(AmqpError::Blocked { address: address.clone() })
            }
            published = timeout(PUBLISH_WITHIN, published) => published.unwrap_or_else(|_| {
                Err(AmqpError::Late { address: address.clone(), within: PUBLISH_WITHIN })
            }),
        };
        // One that is blocked is kept: a new one would be blocked too, after another message.
        if !matches!(published, Err(AmqpError::Late { .. })) {
            self.link = Some(link);
        }
        published
    }
}

impl ConfirmingChannel {
    async fn new(broker: &Amqp) -> Result<Self, AmqpError> {
        let lost = |source| AmqpError::Lost { address: broker.address(), source };
        let connection = broker.connect().await?;
        let channel = connection.create_channel().await.map_err(lost)?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(lost)?;
        Ok(Self { connection, channel, queues: HashSet::new() })
    }

    fn is_usable(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }

    async fn declare(&mut self, address: &str, envelopes: &[Envelope]) -> Result<(), AmqpError> {
        for queue in envelopes.iter().filter_map(Envelope::queue) {
            if !self.queues.contains(queue) {
                topology::declare(&self.connection, address, queue).await?;
                self.queues.insert(queue.to_owned());
            }
        }
        Ok(())
    }

    async fn publish(&mut self, address: &str, envelopes: &[Envelope]) -> Result<(), AmqpError> {
        let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let mut confirms = Vec::with_capacity(envelopes.len());
        let mut failed = Ok(());
        for envelope in envelopes {
            let Envelope { exchange, routing_key, properties, payload } = envelope;
            let (exchange, key) = (exchange.clone(), routing_key.clone());
            let sent =
                self.channel.basic_publish(exchange, key, mandatory, payload, properties.clone());
            match sent.await {
                Ok(confirm) => confirms.push((envelope, confirm)),
                Err(error) => {
                    failed = Err(AmqpError::of_publishing(address, &envelope.destination(), error));
                    break;
                }
            }
        }
        // A channel that was closed says why to those that wait, and only that it is closed to
        // those that come later.
        for (envelope, confirm) in confirms {
            self.confirmed(address, envelope, confirm).await?;
        }
        failed
    }

    async fn confirmed(
        &mut self,
        address: &str,
        envelope: &Envelope,
        confirm: PublisherConfirm,
    ) -> Result<(), AmqpError> {
        let destination = envelope.destination();
        match confirm.await {
            Ok(Confirmation::Ack(None)) => Ok(()),
            Ok(Confirmation::Ack(Some(returned))) => {
                // The queue may have been deleted since it was found.
                self.queues.remove(returned.routing_key.as_str());
                let (exchange, key) = (&returned.exchange, &returned.routing_key);
                let destination = match exchange.as_str() {
                    "" => key.to_string(),
                    exchange => format!("{exchange}/{key}"),
                };
                Err(AmqpError::Unroutable { destination })
            }
            Ok(Confirmation::Nack(_) | Confirmation::NotRequested) => {
                Err(AmqpError::NotTaken { destination })
            }
            Err(error) => Err(AmqpError::of_publishing(address, &destination, error)),
        }
    }
}

/// Waits until the broker has not read from a connection for [`BLOCKED_WITHIN`].
async fn blocked(status: &ConnectionStatus, mut events: Pin<&mut impl Stream<Item = Event>>) {
    loop {
        // The events since before the state was looked at, so that none is missed in between.
        while !status.blocked() {
            if events.next().await.is_none() {
                return pending().await;
            }
        }
        let unblocked = async { while status.blocked() && events.next().await.is_some() {} };
        if timeout(BLOCKED_WITHIN, unblocked).await.is_err() {
            return;
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_connected = self.link.as_ref().is_some_and(ConfirmingChannel::is_usable);
        f.debug_struct("Publisher")
            .field("broker", &self.broker)
            .field("is_connected", &is_connected)
            .finish()
    }
}
