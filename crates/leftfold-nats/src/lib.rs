//! Outbox and inbox over NATS JetStream: an outbox publishes into streams, an inbox receives from
//! them.
//!
//! [`Nats`] names the servers. [`Nats::bus`] is the bus of an
//! [outbox](leftfold_core::runtime::projection::Outbox), [`Nats::queue`] is what an
//! [inbox](leftfold_core::runtime::inbox::Inbox) receives from. Both connect by themselves, wait for
//! servers that are away, and connect again.
//!
//! ```no_run
//! use leftfold_core::runtime::Runtime;
//! use leftfold_core::runtime::inbox::Inbox;
//! use leftfold_core::runtime::projection::{Outbox, Projection};
//! use leftfold_core::store::Store;
//! use leftfold_nats::{Nats, NatsBus, StreamOptions};
//!
//! # async fn run<P: Projection<Outbox<NatsBus>>, I: Inbox>(
//! #     store: &Store,
//! #     receipts: P,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let servers = Nats::at("nats://shop:secret@nats.example")?.streams(StreamOptions::default());
//! let runtime = Runtime::new(store)
//!     .project(receipts, Outbox::new(store, servers.bus()))
//!     .inbox::<I>()
//!     .start()
//!     .await?;
//! let receiver = store.inbox::<I>().receive_from(servers.queue("shop.orders", "shop"));
//! println!("{}", *receiver.status().borrow());
//! # receiver.stop().await?;
//! # runtime.stop().await?;
//! # Ok(()) }
//! ```
//!
//! # What is promised
//! - A message is confirmed by its stream before the outbox goes on; until then it is sent again,
//!   under the same id (`Nats-Msg-Id`), by which the server leaves out repetitions for a while.
//! - It is acknowledged when the inbox has it durably. It comes at least once, and takes effect
//!   once: the inbox knows ids for ever.
//! - Messages of one key go out in the order of the log: the next one when those before it are
//!   confirmed. That costs a round trip for each message of a key in one transaction; the keys go
//!   side by side. If a transaction needs more than 15 s, what is left of it goes without waiting.
//! - A receiver takes messages of one source in the order of the stream. That order does not hold
//!   over several processes that share a consumer, nor for what is delivered again: let a message
//!   carry a version, or number them for the inbox.
//! - At most [`unacknowledged_max`](NatsQueue::unacknowledged_max) messages are under way to the
//!   processes of a consumer; all others wait in the stream.
//! - A message that no later try will take is published as it is on `poison.SUBJECT`, with the
//!   reason in the header `leftfold-reason`, and is not delivered again.
//! - A server that is away, without a leader, or full, and a password that is refused, are waited
//!   for. A message that the server can never take, because no stream captures its subject or
//!   because it is too large, is parked with its event.
//!
//! # Streams
//! A subject needs a stream that captures it, and so do dead letters. Whoever runs the servers
//! creates them; or [`Nats::streams`] says how to create those that are missing. Without either the
//! event of a message is parked, and a receiver waits; both say which subject it is.
//!
//! Needs NATS 2.9 or newer with JetStream. Connections are encrypted if the URL says `tls://` or if
//! the server wants it, and trust what the system trusts; for other certificates, client
//! certificates and credentials in files there is [`Nats::connecting`].

// `servers` has the URL and makes connections; `streams` finds and creates streams. `bus` is what
// an outbox sends through, `queue` what an inbox receives from, and `error` says which failures are
// of the servers and not of a message.

mod bus;
mod error;
mod queue;
mod servers;
mod streams;

pub use async_nats;
pub use bus::{KEY_HEADER, NatsBus, POSITION_HEADER};
pub use error::NatsError;
pub use queue::{
    ACKNOWLEDGE_WITHIN, ID_HEADER, NatsHandle, NatsMessageId, NatsQueue, NatsSession,
    REASON_HEADER, SUBJECT_HEADER, UNACKNOWLEDGED_MAX,
};
pub use streams::{Keep, StreamOptions};

use async_nats::ConnectOptions;
use servers::Servers;

/// NATS servers, and how to use them. Nothing is connected before it is used; each bus and each
/// receiver has a connection of its own.
#[derive(Clone, Debug)]
pub struct Nats {
    servers: Servers,
    streams: Option<StreamOptions>,
}

impl Nats {
    /// Names servers by a URL, or by several with commas between them: `nats://host:port`, with
    /// `user:password@` or `token@` before the host if they want it, percent-encoded where it has
    /// special characters. `tls://` is for an encrypted connection.
    ///
    /// # Errors
    /// [`NatsError::Url`] or [`NatsError::Credentials`] if the URL cannot be used. No message, here
    /// or later, has what is secret in it.
    pub fn at(urls: impl AsRef<str>) -> Result<Self, NatsError> {
        Ok(Self { servers: Servers::parse(urls.as_ref())?, streams: None })
    }

    /// Names the connections, for the servers' lists of them: best after the application.
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        self.servers.set_name(name);
        self
    }

    /// Connects by these options: certificates, credentials in a file. Name and credentials of the
    /// URL come on top; timeouts, callbacks and reconnecting are not taken from them.
    #[must_use]
    pub fn connecting(mut self, options: ConnectOptions) -> Self {
        self.servers.set_options(options);
        self
    }

    /// Creates streams for subjects that no stream captures.
    #[must_use]
    pub fn streams(mut self, options: StreamOptions) -> Self {
        self.streams = Some(options);
        self
    }

    /// The bus of an outbox. The destination of a message is its subject.
    #[must_use]
    pub fn bus(&self) -> NatsBus {
        NatsBus::new(self.clone())
    }

    /// A subject, which may have wildcards, for
    /// [`receive_from`](leftfold_core::runtime::inbox::Intake::receive_from).
    ///
    /// The durable consumer is best named after the application: all its processes share it, and
    /// each other application has one of its own. It has no dots, spaces and wildcards.
    #[must_use]
    pub fn queue(&self, subject: impl Into<String>, consumer: impl Into<String>) -> NatsQueue {
        NatsQueue::new(self.clone(), subject.into(), consumer.into())
    }

    /// Connects, and asks JetStream if it is there: for a health check.
    ///
    /// # Errors
    /// If the servers cannot be used now.
    pub async fn check(&self) -> Result<(), NatsError> {
        let connection = self.servers.connect().await?;
        let told = connection.jetstream.query_account().await;
        told.map(drop).map_err(|error| NatsError::NoJetStream { detail: error.to_string() })
    }
}
