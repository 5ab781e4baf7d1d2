//! Errors of the server and of messages, and those among them that mean that no message could be
//! sent just now.

use std::time::Duration;

/// Error of using a NATS server. None has a name, a password or a token in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NatsError {
    /// The URL cannot be parsed. It does not say why: the reason may be a part of the password.
    #[error(
        "the URL of the server cannot be used; write nats://user:password@host:port, or tls:// for \
         an encrypted connection, and commas between several servers"
    )]
    Url,
    /// The servers of one URL need different names or passwords.
    #[error("the servers of a URL have different credentials; give all of them the same")]
    Credentials,
    /// The server cannot be reached.
    #[error("cannot reach NATS at {servers}: {detail}")]
    Unreachable {
        /// The servers, without credentials.
        servers: String,
        /// Message of the client.
        detail: String,
    },
    /// The server does not accept the credentials.
    #[error("NATS at {servers} refuses the name and password, or the token; correct the URL")]
    Unauthorized {
        /// The servers, without credentials.
        servers: String,
    },
    /// The connection ended before everything was answered.
    #[error("the connection to NATS was lost")]
    Lost,
    /// The server did not confirm a message in time.
    #[error("NATS did not confirm a message on {subject} within {} s{}", within.as_secs(), told(said))]
    Unconfirmed {
        /// Subject of the message.
        subject: String,
        /// The time.
        within: Duration,
        /// Last complaint of the server on this connection, if it had any: of a permission that is
        /// missing, for example.
        said: Option<String>,
    },
    /// The server has no JetStream, or too few of its nodes are there.
    #[error(
        "JetStream does not answer ({detail}); turn it on for the server and the account, or start \
         the missing nodes of the cluster"
    )]
    NoJetStream {
        /// Message of the client or the server.
        detail: String,
    },
    /// A stream is there, and too few nodes that have it.
    #[error("the stream {stream} takes no messages now: it has no leader; start its missing nodes")]
    NoLeader {
        /// Name of the stream.
        stream: String,
    },
    /// The server did not take a message now: its stream or its disk is full, or it is too busy.
    #[error("NATS does not take a message on {subject} now: {detail}")]
    Refused {
        /// Subject of the message.
        subject: String,
        /// Message of the server.
        detail: String,
    },
    /// No stream keeps messages of a subject.
    #[error(
        "no stream captures the subject {subject}; create one, or let it be created by \
         `Nats::streams`"
    )]
    NoStream {
        /// The subject.
        subject: String,
    },
    /// A stream could not be created.
    #[error("the stream {stream} for {subject} cannot be created: {detail}")]
    Stream {
        /// Name of the stream.
        stream: String,
        /// Its subject.
        subject: String,
        /// Message of the server.
        detail: String,
    },
    /// The consumer of a receiver could not be created or found.
    #[error("the consumer {consumer} of the stream {stream} cannot be used: {detail}")]
    Consumer {
        /// Name of the stream.
        stream: String,
        /// Name of the consumer.
        consumer: String,
        /// Message of the server.
        detail: String,
    },
    /// A message cannot be sent, since its destination is no subject of NATS.
    #[error(
        "{subject:?} is no subject to publish on; it has tokens without spaces and wildcards, with \
         dots between them"
    )]
    Subject {
        /// The destination.
        subject: String,
    },
    /// A message is larger than the server or the stream allows.
    #[error(
        "a message on {subject} is too large for NATS: {detail}; raise the limit, or send less"
    )]
    TooLarge {
        /// Subject of the message.
        subject: String,
        /// Message of the client or the server, with the limit.
        detail: String,
    },
    /// A stream takes no more messages, ever.
    #[error("the stream for {subject} is sealed and takes no more messages: {detail}")]
    Sealed {
        /// Subject of the message.
        subject: String,
        /// Message of the server.
        detail: String,
    },
    /// Dead letters would come to the receiver again.
    #[error("dead letters on {poison} would come to the receiver of {subject} again; name another")]
    PoisonLoop {
        /// Subject of dead letters.
        poison: String,
        /// Subject that the receiver listens on.
        subject: String,
    },
}

fn told(said: &Option<String>) -> String {
    said.as_ref().map_or_else(String::new, |said| format!("; it said: {said}"))
}

impl NatsError {
    /// Tells whether the server, and not a message, is at fault: so that it is waited for, and no
    /// event is parked.
    #[must_use]
    pub fn is_away(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Unauthorized { .. }
            | Self::Lost
            | Self::Unconfirmed { .. }
            | Self::NoJetStream { .. }
            | Self::NoLeader { .. }
            | Self::Refused { .. }
            | Self::Stream { .. }
            | Self::Consumer { .. } => true,
            Self::Url
            | Self::Credentials
            | Self::NoStream { .. }
            | Self::Subject { .. }
            | Self::TooLarge { .. }
            | Self::Sealed { .. }
            | Self::PoisonLoop { .. } => false,
        }
    }

    /// Tells whether a new connection may help.
    pub(crate) fn ends_connection(&self) -> bool {
        matches!(self, Self::Lost | Self::Unconfirmed { .. } | Self::NoJetStream { .. })
    }
}
