//! Groups of consumers: several workers, in any number of programs, share the events that a query
//! finds. The server gives each event to one worker at a time until it is answered.
//!
//! Workers that send invoices, several at once in each program:
//!
//! ```no_run
//! use leftfold_core::store::{EventType, Query};
//! use leftfold_remote::{GroupOptions, RemoteStore};
//!
//! # use leftfold_core::store::RecordedEvent;
//! # async fn send(_: &RecordedEvent) -> Result<(), std::io::Error> { Ok(()) }
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let groups = RemoteStore::open("leftfold://127.0.0.1:2113/billing").await?.groups();
//! let issued = Query::types([EventType::new("invoice.Issued")?]);
//! groups.create_if_absent("invoices", &GroupOptions::of(issued).retries(5)).await?;
//! let mut invoices = groups.consume("invoices", 8);
//! loop {
//!     let delivery = invoices.next().await?;
//!     tokio::spawn(async move {
//!         match send(&delivery.event).await {
//!             Ok(()) => delivery.acknowledge(),
//!             Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
//!                 delivery.park(&error.to_string());
//!             }
//!             Err(_) => delivery.retry(),
//!         }
//!     });
//! }
//! # }
//! ```
//!
//! A reader that keeps the state of each station in memory: with an order and pinned keys the
//! events of one station come one after the other, to one reader as long as the readers stay the
//! same:
//!
//! ```no_run
//! use std::collections::HashMap;
//!
//! use leftfold_core::store::Query;
//! use leftfold_remote::{GroupKey, GroupOptions, RemoteStore};
//!
//! # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let groups = RemoteStore::open("leftfold://127.0.0.1:2113/csms").await?.groups();
//! let stations = GroupOptions::of(Query::category("station"));
//! let stations = stations.ordered(GroupKey::Stream).pinned(GroupKey::Stream);
//! groups.create_if_absent("stations", &stations).await?;
//! let mut events_of: HashMap<String, u64> = HashMap::new();
//! let mut consumer = groups.consume("stations", 64).named("reader 1");
//! loop {
//!     let delivery = consumer.next().await?;
//!     if let Some(station) = &delivery.event.stream {
//!         *events_of.entry(station.name.to_string()).or_default() += 1;
//!     }
//!     delivery.acknowledge();
//! }
//! # }
//! ```

// `options` are what a group is, `info` is its state for those who look, `consumer` takes events
// and answers them, `error` says why something is not done.

mod consumer;
mod error;
mod info;
mod options;

use std::sync::Arc;

use leftfold_protocol::wire::{self, release_parked_request::To};
use tonic::Status;

pub use consumer::{GivenEvent, RemoteConsumer};
pub use error::GroupCallError;
pub use info::{ConsumerFigures, GroupRunning, GroupState, ParkedEvent};
pub use options::{GroupKey, GroupOptions, GroupPlace, GroupStrategy};

use crate::calls::{call, call_once};
use crate::channel::Client;
use crate::connect::request;
use crate::shared::RemoteShared;

/// The groups of a store that a server keeps.
#[derive(Clone)]
pub struct RemoteGroups {
    shared: Arc<RemoteShared>,
}

impl RemoteGroups {
    pub(crate) fn new(shared: Arc<RemoteShared>) -> Self {
        Self { shared }
    }

    /// Makes a group, which needs the role `admin`. If the answer was lost on its way, the group is
    /// there and the error says so.
    ///
    /// # Errors
    /// [`GroupCallError::Exists`] if there is one of that name, [`GroupCallError::Invalid`] for a
    /// name or an option beyond its limits.
    pub async fn create(&self, name: &str, options: &GroupOptions) -> Result<(), GroupCallError> {
        let message = wire::CreateGroupRequest {
            name: name.to_owned(),
            settings: Some(options.settings()),
            start: Some(options.start.into()),
        };
        let make = |mut client: Client| {
            let call = request(&self.shared.options, message.clone());
            async move { client.create_group(call).await }
        };
        call_once(&self.shared, make).await?;
        Ok(())
    }

    /// Makes a group unless there is one of that name, whatever its options are.
    ///
    /// # Errors
    /// As for [`create`](Self::create).
    pub async fn create_if_absent(
        &self,
        name: &str,
        options: &GroupOptions,
    ) -> Result<(), GroupCallError> {
        match self.create(name, options).await {
            Err(GroupCallError::Exists) => Ok(()),
            other => other,
        }
    }

    /// Gives a group other options, which needs the role `admin`. Its consumers stay, and get what
    /// the options say. Its start holds only if nothing was settled and nobody consumes.
    ///
    /// # Errors
    /// [`GroupCallError::NotFound`] if there is no group of that name, [`GroupCallError::Invalid`]
    /// for an option beyond its limits.
    pub async fn update(&self, name: &str, options: &GroupOptions) -> Result<(), GroupCallError> {
        let message = wire::UpdateGroupRequest {
            name: name.to_owned(),
            settings: Some(options.settings()),
            start: Some(options.start.into()),
            ends_consumers: false,
        };
        let make = |mut client: Client| {
            let call = request(&self.shared.options, message.clone());
            async move { client.update_group(call).await }
        };
        call_once(&self.shared, make).await?;
        Ok(())
    }

    /// Deletes a group, which needs the role `admin`: its consumers are ended, its parked events
    /// are forgotten.
    ///
    /// # Errors
    /// [`GroupCallError::NotFound`] if there is no group of that name.
    pub async fn delete(&self, name: &str) -> Result<(), GroupCallError> {
        let make = |mut client: Client| {
            let message = wire::DeleteGroupRequest { name: name.to_owned() };
            let call = request(&self.shared.options, message);
            async move { client.delete_group(call).await }
        };
        call_once(&self.shared, make).await?;
        Ok(())
    }

    /// Tells how a group is doing, to whoever may read everything.
    ///
    /// # Errors
    /// [`GroupCallError::NotFound`] if there is no group of that name.
    pub async fn info(&self, name: &str) -> Result<GroupState, GroupCallError> {
        let make = |mut client: Client| {
            let message = wire::GetGroupRequest { name: name.to_owned() };
            let call = request(&self.shared.options, message);
            async move { client.get_group(call).await }
        };
        let reply = call_once(&self.shared, make).await?;
        GroupState::read(reply.group.ok_or_else(|| GroupCallError::strange("no group"))?)
    }

    /// Lists all groups by name, to whoever may read everything.
    ///
    /// # Errors
    /// [`GroupCallError::Unavailable`] if the server cannot be asked.
    pub async fn list(&self) -> Result<Vec<GroupState>, GroupCallError> {
        let make = |mut client: Client| {
            let call = request(&self.shared.options, wire::ListGroupsRequest {});
            async move {
                let mut replies = client.list_groups(call).await?.into_inner();
                let mut all = Vec::new();
                while let Some(group) = replies.message().await? {
                    all.push(group);
                }
                Ok::<_, Status>(all)
            }
        };
        call(&self.shared, make).await?.into_iter().map(GroupState::read).collect()
    }

    /// Lists parked events of a group, to whoever may read everything: at most 100 behind a number,
    /// in the order in which they were parked. Those that are being replayed are left out.
    ///
    /// # Errors
    /// [`GroupCallError::NotFound`] if there is no group of that name.
    pub async fn parked(&self, name: &str, after: u64) -> Result<Vec<ParkedEvent>, GroupCallError> {
        let make = |mut client: Client| {
            let message = wire::ListParkedRequest { name: name.to_owned(), after, at_most: 0 };
            let call = request(&self.shared.options, message);
            async move { client.list_parked(call).await }
        };
        let reply = call_once(&self.shared, make).await?;
        reply.parked.into_iter().map(ParkedEvent::read).collect()
    }

    /// Gives parked events to consumers again: those up to a number, or all.
    ///
    /// # Errors
    /// [`GroupCallError::NotFound`] if there is no group of that name.
    pub async fn replay(&self, name: &str, through: Option<u64>) -> Result<(), GroupCallError> {
        let make = |mut client: Client| {
            let message = wire::ReplayParkedRequest { name: name.to_owned(), through };
            let call = request(&self.shared.options, message);
            async move { client.replay_parked(call).await }
        };
        call_once(&self.shared, make).await?;
        Ok(())
    }

    /// Gives parked events to consumers again, by their numbers: 1 to 100 of them, all or none.
    ///
    /// # Errors
    /// [`GroupCallError::Invalid`] if the group has not parked one of them, or not any more;
    /// [`GroupCallError::NotFound`] if there is no group of that name.
    pub async fn retry(&self, name: &str, numbers: &[u64]) -> Result<(), GroupCallError> {
        self.release(name, numbers, To::Consumers(wire::Empty {})).await
    }

    /// Forgets parked events, by their numbers: nobody handles them any more. 1 to 100 of them, all
    /// or none.
    ///
    /// # Errors
    /// As for [`retry`](Self::retry).
    pub async fn discard(&self, name: &str, numbers: &[u64]) -> Result<(), GroupCallError> {
        self.release(name, numbers, To::Nobody(wire::Empty {})).await
    }

    async fn release(&self, name: &str, numbers: &[u64], to: To) -> Result<(), GroupCallError> {
        let make = |mut client: Client| {
            let (name, numbers) = (name.to_owned(), numbers.to_vec());
            let message = wire::ReleaseParkedRequest { name, numbers, to: Some(to) };
            let call = request(&self.shared.options, message);
            async move { client.release_parked(call).await }
        };
        call_once(&self.shared, make).await?;
        Ok(())
    }

    /// A consumer of a group, which has at most so many events at once, 1 to 10,000. It connects
    /// when it is asked for its first event.
    #[must_use]
    pub fn consume(&self, name: &str, credit: u32) -> RemoteConsumer {
        RemoteConsumer::new(Arc::clone(&self.shared), name.to_owned(), credit)
    }
}
