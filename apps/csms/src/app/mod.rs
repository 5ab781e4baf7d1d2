//! What requests need, whether of stations or of people: the handles of the store, of what follows
//! it, and of the connections. `start` makes it and ends it.
//!
//! - `operating`: operations that are asked of stations
//! - `secrets`: secret parts of requests, until they are sent
//! - `station_places`: work of which there is one piece at a time for each station
//! - `unaccepted`: stations that are to wait
//! - `transaction_numbers`: free transaction ids
//! - `caller_bounds`: limits of connections, guesses and refusals
//! - `station_authority`: what signs the certificates of stations
//! - `station_keys`: keys of stations, and their hashes

mod caller_bounds;
mod operating;
mod secrets;
mod station_authority;
mod station_keys;
mod station_places;
mod transaction_numbers;
mod unaccepted;

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use leftfold::postgres::PostgresError;
use leftfold::prelude::{Aggregates, Store};
use leftfold::runtime::process::Processes;
use leftfold::runtime::projection::Projections;
use leftfold::runtime::{ConsumerStatus, Effects, RunningRuntime, RuntimeHandle};
use leftfold_callers::Refusals;
use tokio::sync::{Semaphore, watch};

pub(crate) use caller_bounds::CallerBounds;
pub(crate) use secrets::RequestSecrets;
pub(crate) use station_authority::{SigningError, StationAuthority};
pub(crate) use station_keys::{StationKey, StationKeys};
pub(crate) use station_places::{StationPlace, StationPlaces};
pub(crate) use transaction_numbers::{NoNumber, TransactionNumbers};
pub(crate) use unaccepted::UnacceptedStations;

use crate::config::Config;
use crate::connections::{Liveness, Registry};
use crate::domain::id_tag::IdTag;
use crate::domain::server::ServerId;
use crate::domain::station::Station;
use crate::people::People;
use crate::read::ReadModels;

/// Boots that are worked on at a time. After a restart all stations come at once.
const BOOTS_MAX: usize = 64;

/// Configurations of stations that are read at a time after their starts.
const CONFIGURATION_READINGS_MAX: usize = 16;

/// Handles of everything that requests need.
#[derive(Debug)]
pub(crate) struct Csms {
    /// The configuration.
    pub(crate) config: Config,
    /// This server, among those that share the store.
    pub(crate) server: ServerId,
    /// Store that records all events.
    pub(crate) store: Store,
    /// The stations.
    pub(crate) stations: Aggregates<Station>,
    /// The id tags.
    pub(crate) tags: Aggregates<IdTag>,
    /// Users, their sessions, and tokens.
    pub(crate) people: People,
    /// Callers that were refused in this minute.
    pub(crate) refusals: Refusals,
    /// Free transaction ids.
    pub(crate) transaction_numbers: TransactionNumbers,
    /// Connections of the stations.
    pub(crate) registry: Registry,
    /// Stations that are connected here and are not accepted.
    pub(crate) unaccepted: UnacceptedStations,
    /// Permits for configurations that are read at the same time.
    pub(crate) configuration_readings: Semaphore,
    /// Stations whose configuration is read, or waits to be, or was asked for lately.
    pub(crate) configuration_places: StationPlaces,
    /// Stations that are asked for the state of their connectors after a start.
    pub(crate) state_places: StationPlaces,
    /// Secret parts of requests to stations.
    pub(crate) secrets: RequestSecrets,
    /// Stations that were heard of lately.
    pub(crate) liveness: Liveness,
    /// Read models for lists, reports and the dashboard.
    pub(crate) read: ReadModels,
    /// Bounds on those who call.
    pub(crate) bounds: CallerBounds,
    /// Hashes of the keys of stations.
    pub(crate) station_keys: StationKeys,
    /// Authority that signs certificates of stations; `None` if there is none.
    pub(crate) station_authority: Option<StationAuthority>,
    /// Permits for boots that are worked on at the same time.
    pub(crate) boots: Semaphore,
    /// Error of the last report that could not be recorded; `None` if a report was recorded since.
    pub(crate) unrecorded: Mutex<Option<String>>,
    consumers: OnceLock<Consumers>,
    runtime: Mutex<Option<RunningRuntime>>,
    stop: watch::Sender<bool>,
}

/// Handles of the consumers of the log: effects, read models and processes.
#[derive(Debug)]
pub(crate) struct Consumers {
    /// Requests to stations.
    pub(crate) effects: Effects,
    /// The read models.
    pub(crate) projections: Projections,
    /// Deadlines.
    pub(crate) processes: Processes,
}

/// The server is starting: no consumer of the log runs yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server is starting; try again")]
pub(crate) struct Starting;

impl Csms {
    /// Creates the handles of a store and its people. No consumer of the log runs yet.
    ///
    /// # Errors
    /// [`PostgresError::Url`] if the URL of the read models is not valid.
    pub(crate) fn new(config: Config, store: Store, people: People) -> Result<Self, PostgresError> {
        Ok(Self {
            server: ServerId::random(),
            stations: store.aggregate(),
            tags: store.aggregate(),
            bounds: CallerBounds::new(&config.way_in, people.password_pool()),
            people,
            refusals: Refusals::default(),
            transaction_numbers: TransactionNumbers::new(&store),
            registry: Registry::default(),
            unaccepted: UnacceptedStations::default(),
            configuration_readings: Semaphore::new(CONFIGURATION_READINGS_MAX),
            configuration_places: StationPlaces::default(),
            state_places: StationPlaces::default(),
            secrets: RequestSecrets::default(),
            liveness: Liveness::new(config.offline_after),
            read: ReadModels::at(&config.read_models)?,
            station_keys: StationKeys::new(config.way_in.pepper.as_ref()),
            station_authority: StationAuthority::of(&config.way_in),
            boots: Semaphore::new(BOOTS_MAX),
            unrecorded: Mutex::default(),
            consumers: OnceLock::new(),
            runtime: Mutex::default(),
            stop: watch::Sender::new(false),
            store,
            config,
        })
    }

    /// Returns the handles of the consumers of the log.
    pub(crate) fn consumers(&self) -> Result<&Consumers, Starting> {
        self.consumers.get().ok_or(Starting)
    }

    /// Returns the status of every consumer of the log; empty while the system starts or ends.
    #[must_use]
    pub(crate) fn consumer_statuses(&self) -> Vec<ConsumerStatus> {
        self.runtime().as_ref().map(|runtime| runtime.status()).unwrap_or_default()
    }

    /// Returns the handle of the runtime of the consumers.
    pub(crate) fn runtime_handle(&self) -> Result<RuntimeHandle, Starting> {
        self.runtime().as_ref().map(RunningRuntime::handle).ok_or(Starting)
    }

    /// Returns the metrics of the store and of the consumers, in the text format of Prometheus.
    #[must_use]
    pub(crate) fn metrics(&self) -> String {
        self.store.metrics()
    }

    /// Tells whether a station is connected: to this server, or as far as is known to another one.
    #[must_use]
    pub(crate) fn is_connected(&self, id: &str, station: &Station) -> bool {
        let is_elsewhere = station.heard_by.is_some_and(|server| server != self.server);
        self.registry.is_connected(id) || (station.online && is_elsewhere)
    }

    /// Has effects in doubt looked at again, since something has happened that may resolve a doubt.
    pub(crate) fn look_again(&self) {
        if let Ok(consumers) = self.consumers() {
            consumers.effects.look_again();
        }
    }

    /// Waits until the system is told to stop.
    pub(crate) async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as this.
        let _ = stop.wait_for(|stop| *stop).await;
    }

    /// Keeps the runtime of the consumers, and its handles.
    pub(crate) fn keep_runtime(&self, runtime: RunningRuntime) {
        let consumers = Consumers {
            effects: runtime.effects(),
            projections: runtime.projections(),
            processes: runtime.processes(),
        };
        // Nothing else sets it.
        let _ = self.consumers.set(consumers);
        *self.runtime() = Some(runtime);
    }

    /// Tells everything that waits for it that the system stops, and hands the runtime over to be
    /// stopped; `None` if no runtime was started.
    pub(crate) fn stop(&self) -> Option<RunningRuntime> {
        self.stop.send_replace(true);
        self.runtime().take()
    }

    fn runtime(&self) -> MutexGuard<'_, Option<RunningRuntime>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
