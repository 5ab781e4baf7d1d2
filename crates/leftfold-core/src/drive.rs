//! The door of the testing kit: consumers of a runtime that run step by step, in the hands of
//! anyone who polls them.
//!
//! Not part of the API of this crate: anything here may change with any release. The kit itself is
//! `leftfold-testing`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};

use crate::fold::{EventError, ExecuteError, Schema};
use crate::json;
use crate::runtime::inbox::{Delivering, Inbox};
use crate::runtime::process::Process;
use crate::runtime::projection::{
    Message, Outgoing, Parked, Projection, StandaloneProjection, Target,
};
use crate::runtime::{Clock, Effect, EffectRunner, Host, Named, ProcessRunner, StartError};
use crate::store::{EventType, MemoryBackend, Position, Query, RecordedEvent, Store, Timestamp};

pub use crate::panic::message as panic_message;
#[cfg(feature = "drive")]
pub use crate::runtime::clock::{DueClock, HandClock};
pub use crate::runtime::effect::{LedgerEvent, entry_of};
pub use crate::runtime::process::describe::{
    DescribedRecord, DescribedTrigger, RecordDescription, describe_record,
};

/// A consumer that runs until it is told to stop, for as long as it is polled.
pub type DrivenConsumer = Pin<Box<dyn Future<Output = Result<(), StartError>> + Send>>;

/// The list of items that a projection has parked, at any time.
pub type ParkedList = Box<dyn Fn() -> Vec<Parked> + Send>;

/// One program of an application, whose consumers are driven from outside.
#[derive(Clone, Debug)]
pub struct Driver {
    /// The store that all programs share.
    pub store: Store,
    /// The program's clock.
    pub clock: Arc<dyn Clock>,
    /// Tells its consumers to stop.
    pub stop: watch::Receiver<bool>,
    /// True if consumers take leases. They need none while no other program shares the store.
    pub leased: bool,
}

impl Driver {
    fn host(&self) -> Host {
        Host::new(self.store.clone(), self.clock.clone())
    }

    /// Runs a process.
    #[must_use]
    pub fn process<P: Process>(&self) -> DrivenConsumer {
        let (host, stop, leased) = (self.host(), self.stop.clone(), self.leased);
        Box::pin(async move {
            let (_asked, asks) = mpsc::channel(1);
            let named = Named::of::<P>(P::NAME);
            let runner = ProcessRunner::<P>::new(host, asks).await;
            let runner = runner.map_err(|fault| named.error(fault))?;
            let runner = if leased { runner.leased() } else { runner };
            runner.run(stop).await;
            Ok(())
        })
    }

    /// Delivers what an inbox accepts.
    #[must_use]
    pub fn inbox<I: Inbox>(&self) -> DrivenConsumer {
        self.process::<Delivering<I>>()
    }

    /// Carries out an effect.
    #[must_use]
    pub fn effect<E: Effect>(&self, effect: E) -> DrivenConsumer {
        let (host, stop, leased) = (self.host(), self.stop.clone(), self.leased);
        Box::pin(async move {
            let (_asked, asks) = mpsc::channel(1);
            let named = Named::of::<E>(E::NAME);
            let runner = EffectRunner::new(host, effect, asks).await;
            let runner =
                runner.and_then(|runner| if leased { runner.leased() } else { Ok(runner) });
            let runner = runner.map_err(|fault| named.error(fault))?;
            runner.run(stop).await;
            Ok(())
        })
    }

    /// Runs a projection or an outbox.
    ///
    /// # Errors
    /// If its events are no plain enum.
    pub fn projection<T: Target, P: Projection<T>>(
        &self,
        projection: P,
        target: T,
    ) -> Result<(DrivenConsumer, ParkedList), StartError> {
        let alone = StandaloneProjection::new(
            self.host(),
            projection,
            target,
            self.stop.clone(),
            self.leased,
        );
        let alone = alone.map_err(|error| Named::of::<P>(P::NAME).error(error.into()))?;
        let parked = Box::new(alone.parked());
        Ok((alone.running, parked))
    }
}

/// A store in memory that takes the time from elsewhere.
#[must_use]
pub fn memory_at(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> MemoryBackend {
    MemoryBackend::with_time(now)
}

/// Every event of a store in memory after a position.
#[must_use]
pub fn events_after(memory: &MemoryBackend, position: Position) -> Vec<RecordedEvent> {
    memory.events_after(position)
}

/// Messages of a projection's outbox for events that are applied to it by hand.
#[must_use]
pub fn outgoing(projection: &'static str) -> Outgoing {
    Outgoing::of(projection)
}

/// Begins with an event: the messages that are sent from now on stem from it.
pub fn begin_event(outgoing: &mut Outgoing, event: &RecordedEvent) {
    outgoing.takes(event);
}

/// The messages so far.
#[must_use]
pub fn messages(outgoing: &Outgoing) -> &[Message] {
    outgoing.messages()
}

/// A query as the store is asked it: of the enum's types if an item names none, and of their older
/// names.
#[must_use]
pub fn widened(schema: &Schema, query: Query) -> Query {
    schema.widened(query)
}

/// The data of an event in today's shape of one type.
///
/// # Errors
/// If the data cannot be read.
pub fn payload<T: DeserializeOwned>(
    schema: &Schema,
    event: &RecordedEvent,
    as_type: &EventType,
) -> Result<T, EventError> {
    schema.payload(event, as_type)
}

/// Tells whether a command failed because of the store, and may succeed later.
#[must_use]
pub fn is_of_the_store<R>(error: &ExecuteError<R>) -> bool {
    error.is_of_the_store()
}

/// Tells whether two states are one value, as it would be stored.
#[must_use]
pub fn is_same<T: Serialize + DeserializeOwned>(one: &T, other: &T) -> bool {
    json::is_same(one, other)
}

/// Writes a state as a snapshot does and reads it back.
///
/// # Errors
/// The part of the state that does not come back, with its type and place.
pub fn survives_snapshot<T: Serialize + DeserializeOwned>(state: &T) -> Result<(), String> {
    json::encode(state).map(drop).map_err(|lost| lost.with_name())
}

/// The append, made by the right of the runtime: it may write names that begin with `$`. For tests
/// of a backend, which has to keep such names apart; what an application wrote that way would be
/// taken for the runtime's own memory.
#[cfg(feature = "drive")]
#[must_use]
pub fn by_runtime(append: crate::store::Append) -> crate::store::Append {
    append.by(crate::store::Authority::RUNTIME)
}

/// The id of one of the runtime's own requests, as it is stored. For tests of what is recorded
/// under it; [`CommandId::new`](crate::store::CommandId::new) never gives such an id.
///
/// # Panics
/// If the scope is none of the runtime's.
#[cfg(feature = "drive")]
#[must_use]
pub fn command_id_of_runtime(scope: &str, key: &str) -> crate::store::CommandId {
    crate::store::CommandId::of_runtime(scope, key)
}
