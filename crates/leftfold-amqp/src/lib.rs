//! Outbox and inbox over AMQP 0.9.1: RabbitMQ, and what speaks as it does.
//!
//! [`Amqp`] names a broker (`broker`, its `url`). [`Amqp::bus`] is the [`Bus`] of an outbox
//! (`bus`): it publishes persistent messages and waits until the broker has confirmed them
//! (`publisher`, for which `topology` finds or declares the queues). [`Amqp::queue`] is what an
//! inbox receives from (`queue`, `session`). What a message carries beside its bytes stands in
//! `properties`; `error` says what failed, and if waiting helps.
//!
//! ```no_run
//! use leftfold_amqp::Amqp;
//! use leftfold_core::fold::Recorded;
//! use leftfold_core::runtime::Runtime;
//! use leftfold_core::runtime::inbox::Inbox;
//! use leftfold_core::runtime::projection::{Outbox, Projection};
//! use leftfold_core::store::Store;
//! use leftfold_amqp::AmqpBus;
//!
//! # async fn run<P: Projection<Outbox<AmqpBus>>, I: Inbox>(
//! #     store: &Store,
//! #     receipts: P,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! let broker = Amqp::at("amqp://shop:secret@broker.example/%2f")?.named("shop");
//! let runtime = Runtime::new(store)
//!     .project(receipts, Outbox::new(store, broker.bus()))
//!     .inbox::<I>()
//!     .start()
//!     .await?;
//! let receiver = store.inbox::<I>().receive_from(broker.queue("shop.orders"));
//! println!("{}", *receiver.status().borrow());
//! # receiver.stop().await?;
//! # runtime.stop().await?;
//! # Ok(()) }
//! ```
//!
//! # Promises
//!
//! - A message of an outbox is sent at least once: it counts as sent when the broker has confirmed
//!   it, and a durable queue has it on its disk. A message that no queue takes is not sent; its
//!   event is parked.
//! - A message for an inbox is acknowledged after the inbox has it durably. It takes effect once.
//! - Messages of one outbox are published in the order of the log. Those of one source of an inbox
//!   are taken in the order in which the broker delivers them; a message that comes again after a
//!   failure may come behind later ones that another process was given meanwhile.
//! - A broker that is away is waited for, without end, and the status says so.
//!
//! [`Bus`]: leftfold_core::runtime::projection::Bus

mod broker;
mod bus;
mod error;
mod properties;
mod publisher;
mod queue;
mod session;
mod topology;
mod url;

pub use broker::Amqp;
pub use bus::AmqpBus;
pub use error::AmqpError;
pub use properties::{KEY_HEADER, POSITION_HEADER, QUEUE_HEADER, REASON_HEADER};
pub use publisher::PUBLISH_WITHIN;
pub use queue::{AmqpMessageId, AmqpQueue, PREFETCH};
pub use session::{AmqpHandle, AmqpSession};
pub use url::AmqpUrlError;
