//! Errors of a broker: those that pass, and those of a message that is never taken.

use std::time::Duration;

use lapin::ErrorKind;

/// Error of a broker. None has a password.
#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    /// The broker cannot be reached.
    #[error("the broker at {address} cannot be reached: {source}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// Error of the connection.
        source: lapin::Error,
    },
    /// The broker gives no answer.
    #[error("the broker at {address} gave no answer within {} s", within.as_secs())]
    Late {
        /// Host and port.
        address: String,
        /// Time that was waited.
        within: Duration,
    },
    /// The broker does not know the user or the password.
    #[error("the broker at {address} refuses the user {user}: check its name and password")]
    LoginRefused {
        /// Host and port.
        address: String,
        /// Name of the user.
        user: String,
    },
    /// The virtual host is not there, or not for this user.
    #[error(
        "the broker at {address} has no virtual host {virtual_host} for the user {user}: create \
         it, and grant the user permissions there"
    )]
    NoVirtualHost {
        /// Host and port.
        address: String,
        /// Name of the user.
        user: String,
        /// Name of the virtual host.
        virtual_host: String,
    },
    /// The connection was lost, or the broker closed it.
    #[error("the connection to the broker at {address} ended: {source}")]
    Lost {
        /// Host and port.
        address: String,
        /// Error of the connection.
        source: lapin::Error,
    },
    /// The broker is short of memory or disk and reads nothing from those who publish.
    #[error(
        "the broker at {address} takes no messages now, it is short of memory or disk: give it \
         some, or let the messages in its queues be consumed"
    )]
    Blocked {
        /// Host and port.
        address: String,
    },
    /// The broker did not take a message: a queue has a limit that is reached, or cannot write.
    #[error("the broker did not take a message for {destination}: the queue is full or failed")]
    NotTaken {
        /// Destination of the message.
        destination: String,
    },
    /// The broker ended the reading of a queue: it was deleted, or its node went away.
    #[error("the broker ended the reading of queue {queue}: it was deleted, or its node is gone")]
    QueueGone {
        /// Name of the queue.
        queue: String,
    },
    /// The broker refuses the use of a queue.
    #[error("the broker refuses queue {queue} ({code}): {detail}")]
    QueueRefused {
        /// Name of the queue.
        queue: String,
        /// Code of AMQP: 403 no permission, 404 missing, 405 exclusive to another connection.
        code: u16,
        /// Message of the broker.
        detail: String,
    },
    /// No queue takes the message. It was not sent.
    #[error(
        "no queue takes messages for {destination}: declare or bind one, and retry the parked event"
    )]
    Unroutable {
        /// Destination of the message.
        destination: String,
    },
    /// The broker will never take the message: the exchange is missing, it is too large.
    #[error("the broker refuses a message for {destination} ({code}): {detail}")]
    MessageRefused {
        /// Destination of the message.
        destination: String,
        /// Code of AMQP: 404 no such exchange, 406 too large.
        code: u16,
        /// Message of the broker.
        detail: String,
    },
    /// The destination is not a name that AMQP has.
    #[error(
        "{destination:?} is not a destination: a queue's name, or EXCHANGE/ROUTING_KEY, each of at \
         most 255 bytes, and a queue's name not empty"
    )]
    Destination {
        /// The text.
        destination: String,
    },
}

impl AmqpError {
    /// Tells whether waiting helps: the broker can take the message later, as it is.
    #[must_use]
    pub const fn is_away(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Late { .. }
            | Self::LoginRefused { .. }
            | Self::NoVirtualHost { .. }
            | Self::Lost { .. }
            | Self::Blocked { .. }
            | Self::NotTaken { .. }
            | Self::QueueGone { .. }
            | Self::QueueRefused { .. } => true,
            Self::Unroutable { .. } | Self::MessageRefused { .. } | Self::Destination { .. } => {
                false
            }
        }
    }

    /// Returns the code of an error that the broker sent.
    pub(crate) fn code(error: &lapin::Error) -> Option<u16> {
        match error.kind() {
            ErrorKind::ProtocolError(sent) => Some(sent.get_id()),
            _ => None,
        }
    }

    /// Returns the meaning of an error on a channel that publishes.
    pub(crate) fn of_publishing(address: &str, destination: &str, error: lapin::Error) -> Self {
        match (Self::code(&error), error.kind()) {
            (Some(code @ (404 | 406)), ErrorKind::ProtocolError(sent)) => Self::MessageRefused {
                destination: destination.to_owned(),
                code,
                detail: sent.get_message().to_string(),
            },
            _ => Self::Lost { address: address.to_owned(), source: error },
        }
    }

    /// Returns the meaning of an error on a channel that declares or reads a queue.
    pub(crate) fn of_queue(address: &str, queue: &str, error: lapin::Error) -> Self {
        match (Self::code(&error), error.kind()) {
            (Some(code @ (403..=406)), ErrorKind::ProtocolError(sent)) => Self::QueueRefused {
                queue: queue.to_owned(),
                code,
                detail: sent.get_message().to_string(),
            },
            _ => Self::Lost { address: address.to_owned(), source: error },
        }
    }
}
