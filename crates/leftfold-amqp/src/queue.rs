//! A queue that an inbox receives from.

use lapin::BasicProperties;
use leftfold_core::runtime::inbox::RECEIVED_MAX;

use crate::broker::Amqp;
use crate::properties;

/// Messages that a queue hands out before they are acknowledged, if nothing else is said.
pub const PREFETCH: u16 = 64;

/// Part of a message that is its id: the same whenever it is sent, and different for every message
/// of its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AmqpMessageId {
    /// The property `message-id`, as an outbox sets it.
    #[default]
    MessageId,
    /// A header that is a text or a whole number.
    Header(String),
    /// A digest of the bytes, for senders that give no ids: messages with the same bytes are one
    /// message. Two equal orders on purpose are one, too.
    Content,
}

/// A queue of a broker, for [`receive_from`](leftfold_core::runtime::inbox::Intake::receive_from).
///
/// At most [`PREFETCH`] messages come before the first is acknowledged; that bounds what waits in
/// memory, together with the broker's limit of a message's size. A message that can never be taken
/// is published to the queue `NAME.poison`, with its properties and headers, the
/// [reason](crate::REASON_HEADER) and the [queue](crate::QUEUE_HEADER), and acknowledged then. To
/// take one again after a correction, move it back (the shovel plugin, or any client).
///
/// A quorum queue counts deliveries, and from RabbitMQ 4 on it drops a message after 20: set its
/// `delivery-limit` to -1, or give it a dead-letter exchange, because messages that wait for a
/// store come again and again.
#[derive(Clone, Debug)]
pub struct AmqpQueue {
    pub(crate) broker: Amqp,
    pub(crate) name: String,
    pub(crate) poison: String,
    pub(crate) prefetch: u16,
    id: AmqpMessageId,
    by_key: bool,
}

impl Amqp {
    /// A queue, for [`receive_from`](leftfold_core::runtime::inbox::Intake::receive_from).
    #[must_use]
    pub fn queue(&self, name: impl Into<String>) -> AmqpQueue {
        let name = name.into();
        AmqpQueue {
            broker: self.clone(),
            poison: format!("{name}.poison"),
            name,
            prefetch: PREFETCH,
            id: AmqpMessageId::default(),
            by_key: false,
        }
    }
}

impl AmqpQueue {
    /// Sets how many messages may come before the first is acknowledged: 1 to 1,000.
    #[must_use]
    pub fn prefetch(self, messages: u16) -> Self {
        let most = u16::try_from(RECEIVED_MAX).unwrap_or(u16::MAX);
        Self { prefetch: messages.clamp(1, most), ..self }
    }

    /// Sets where the id of a message is: senders that are no outbox may have it elsewhere.
    #[must_use]
    pub fn id(self, id: AmqpMessageId) -> Self {
        Self { id, ..self }
    }

    /// Makes a source of every key ([`KEY_HEADER`](crate::KEY_HEADER)), named `QUEUE/KEY`: order is
    /// kept within a key only, messages of different keys are taken side by side, and one that
    /// parks its source parks that key and no other. A key costs a stream of its own.
    #[must_use]
    pub fn by_key(self) -> Self {
        Self { by_key: true, ..self }
    }

    /// Sets the name of the queue for messages that can never be taken: `NAME.poison` if it is not
    /// set.
    #[must_use]
    pub fn poison_to(self, queue: impl Into<String>) -> Self {
        Self { poison: queue.into(), ..self }
    }

    pub(crate) fn id_of(&self, properties: &BasicProperties, payload: &[u8]) -> Option<String> {
        match &self.id {
            AmqpMessageId::MessageId => {
                properties.message_id().as_ref().map(|id| id.as_str().to_owned())
            }
            AmqpMessageId::Header(name) => properties::header(properties, name),
            AmqpMessageId::Content => Some(blake3::hash(payload).to_hex().to_string()),
        }
    }

    pub(crate) fn source_of(&self, properties: &BasicProperties) -> Option<String> {
        let key = self.by_key.then(|| properties::header(properties, properties::KEY_HEADER));
        key.flatten().map(|key| format!("{}/{key}", self.name))
    }
}
