//! The bus of an outbox.

use lapin::types::ShortString;
use leftfold_core::runtime::projection::{Bus, Message, ProjectionError};

use crate::broker::Amqp;
use crate::error::AmqpError;
use crate::properties;
use crate::publisher::{Envelope, Publisher};
use crate::topology;

/// A bus that publishes to a broker: the messages of a transaction one behind the other, and then
/// waits until all of them are confirmed.
///
/// The destination of a message is the name of a queue, or `EXCHANGE/ROUTING_KEY`: the exchange is
/// the part before the first `/`, and it is never declared. A message is persistent, and has the
/// id as property `message-id`, and headers for [key](crate::KEY_HEADER) and
/// [position](crate::POSITION_HEADER).
///
/// A broker that cannot be reached, refuses the login, is short of memory or disk, or has a full
/// queue is *away*: it is waited for. A message that no queue takes, of an exchange that is
/// missing, or that is too large for the broker is never sent: its event is parked.
#[derive(Debug)]
pub struct AmqpBus(Publisher);

impl Amqp {
    /// A bus for an outbox. The destination of a message is the name of a queue, or
    /// `EXCHANGE/ROUTING_KEY`.
    #[must_use]
    pub fn bus(&self) -> AmqpBus {
        AmqpBus(Publisher::new(self.clone()))
    }
}

impl Bus for AmqpBus {
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
        let envelopes: Result<Vec<Envelope>, AmqpError> =
            messages.into_iter().map(envelope).collect();
        Ok(self.0.publish(&envelopes?).await?)
    }

    fn is_away(error: &ProjectionError) -> bool {
        error.downcast_ref::<AmqpError>().is_none_or(AmqpError::is_away)
    }
}

fn envelope(message: Message) -> Result<Envelope, AmqpError> {
    let properties = properties::of_message(&message);
    let Message { destination, payload, .. } = message;
    let (exchange, routing_key) = match destination.split_once('/') {
        Some((exchange, key)) => (topology::short(exchange), ShortString::try_new(key).ok()),
        None => (Some(ShortString::default()), topology::short(&destination)),
    };
    let (Some(exchange), Some(routing_key)) = (exchange, routing_key) else {
        return Err(AmqpError::Destination { destination });
    };
    Ok(Envelope { exchange, routing_key, properties, payload })
}
