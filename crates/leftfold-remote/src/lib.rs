//! A store that a server keeps, as a backend like any other one: the server is `leftfold serve`, or
//! a program with a server inside.
//!
//! ```no_run
//! use leftfold_core::store::Store;
//! use leftfold_remote::RemoteStore;
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Store::new(RemoteStore::open("leftfold://127.0.0.1:2113/orders").await?);
//! # Ok(()) }
//! ```
//!
//! # What is promised
//! - Everything that a backend promises. Appends are judged in the order in which they were handed
//!   over, any number of them under way at once.
//! - A connection that breaks is made again. Appends that the server had taken are not sent again:
//!   their answers come on the new connection. So nothing is doubled and nothing is in doubt while
//!   the server runs, with a command id or without.
//! - If the server itself ended, appends that it may have taken are
//!   [`Unknown`](leftfold_core::store::AppendError::Unknown), unless they have a command id: those
//!   are sent again under it, and take effect once. If the first one did, the answer is
//!   [`Repeated`](leftfold_core::store::Outcome::Repeated). A server that stops in good order
//!   answers what it took.
//! - What cannot be carried out within [`RemoteOptions::patience`] of a lost connection is
//!   `Unavailable`, or `Unknown` if it had been sent; from then on requests fail at once until the
//!   server is back.
//! - A server that has not answered for three seconds is told by the status
//!   ([`State::Away`](leftfold_core::store::State::Away), with the reason), until it answers again;
//!   so is a store that is away from its server.
//! - A server with another store, another life of it, or one that has lost what was acknowledged,
//!   ends the handle, with an error that says so.
//! - To close it closes this handle, and not the store of the server.
//!
//! [`RemoteStore::groups`] has the groups of consumers: workers that share a subscription.

// `options` has the place and the limits, `error` the error of opening. `connect` makes a
// connection, which `tls` encrypts, over which `channel` carries calls. `shared` is what all parts
// of a handle know. `presence` notices that nothing answers. `appends` is the queue of appends,
// `link` the task that keeps a connection and works it off, `calls` everything that is asked once,
// `feed` the events of a subscription, `snapshots` what is kept without a promise, and `backend`
// the contract. `groups` has groups of consumers, beside the contract.

mod appends;
mod backend;
mod calls;
mod channel;
mod connect;
mod error;
mod feed;
mod groups;
mod link;
mod options;
mod presence;
mod shared;
mod snapshots;
#[cfg(feature = "tls")]
mod tls;

pub use backend::RemoteStore;
#[doc(hidden)]
pub use channel::Channel;
#[doc(hidden)]
pub use connect::{ByteStream, dial, dial_http1};
pub use error::RemoteError;
pub use groups::{
    ConsumerFigures, GivenEvent, GroupCallError, GroupKey, GroupOptions, GroupPlace, GroupRunning,
    GroupState, GroupStrategy, ParkedEvent, RemoteConsumer, RemoteGroups,
};
pub use options::{RemoteOptions, RemoteTls, RemoteUser};
