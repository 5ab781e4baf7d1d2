//! The system as a whole: its parts, how they start, and how they end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::serve::ListenerExt;
use futures_util::{StreamExt, TryStreamExt, stream};
use leftfold::postgres::PostgresError;
use leftfold::prelude::{Aggregates, ExecuteError, Store, Timestamp};
use leftfold::runtime::process::Processes;
use leftfold::runtime::projection::{NotReached, Projections};
use leftfold::runtime::{ConsumerStatus, Effects, RunningRuntime, Runtime};
use leftfold::store::{CloseError, ReadError};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::app::TransactionNumbers;
use crate::config::Config;
use crate::connections::{Liveness, Registry, watch_for_silence};
use crate::domain::id_tag::{IdTag, Strangers};
use crate::domain::station::{OfflineReason, Station, StationCommand, StationRefusal};
use crate::effects::{CancelReservation, Fault, RemoteStart, RemoteStop, Reserve, Unlock};
use crate::gateway::is_identity;
use crate::processes::{RemoteStartDeadline, ReservationExpiry};
use crate::read::ReadModels;
use crate::read::fleet::{self, Fleet, StationRow};
use crate::{api, gateway, web};

/// Boots that are worked on at a time. After a restart all stations come at once.
const BOOTS_MAX: usize = 64;
/// Stations that are marked at a time when the server starts.
const MARKED_AT_ONCE: usize = 256;
/// Time that an orderly stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Interval at which a long start is logged.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// The parts of the system.
#[derive(Debug)]
pub struct Csms {
    /// The configuration.
    pub config: Config,
    /// Store that records all events.
    pub store: Store,
    /// The stations.
    pub stations: Aggregates<Station>,
    /// The id tags.
    pub tags: Aggregates<IdTag>,
    /// Free transaction ids.
    pub transaction_numbers: TransactionNumbers,
    /// Connections of the stations.
    pub registry: Registry,
    /// Stations that were heard of lately.
    pub liveness: Liveness,
    /// Read models for lists, reports and the dashboard.
    pub read: ReadModels,
    /// Permits for boots that are worked on at the same time.
    pub boots: Semaphore,
    /// Error of the last report that could not be recorded; `None` if a report was recorded since.
    pub unrecorded: Mutex<Option<String>>,
    behind: OnceLock<Behind>,
    runtime: Mutex<Option<RunningRuntime>>,
    stop: watch::Sender<bool>,
}

/// Handles of the consumers of the log: effects, read models and processes.
#[derive(Debug)]
pub struct Behind {
    /// Requests to stations.
    pub effects: Effects,
    /// The read models.
    pub projections: Projections,
    /// Deadlines.
    pub processes: Processes,
}

impl Csms {
    /// Returns the handles of the consumers of the log; `None` while the system starts.
    #[must_use]
    pub fn behind(&self) -> Option<&Behind> {
        self.behind.get()
    }

    /// Returns the status of every consumer of the log; empty while the system starts or ends.
    #[must_use]
    pub fn consumers(&self) -> Vec<ConsumerStatus> {
        self.runtime().as_ref().map(|runtime| runtime.status()).unwrap_or_default()
    }

    /// Returns the metrics of the store and of the consumers, in the text format of Prometheus.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.store.metrics()
    }

    fn runtime(&self) -> MutexGuard<'_, Option<RunningRuntime>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn runs(&self, runtime: RunningRuntime) {
        let behind = Behind {
            effects: runtime.effects(),
            projections: runtime.projections(),
            processes: runtime.processes(),
        };
        // Nothing else sets it.
        let _ = self.behind.set(behind);
        *self.runtime() = Some(runtime);
    }

    /// Has effects in doubt looked at again, since something has happened that may resolve a doubt.
    pub fn look_again(&self) {
        if let Some(behind) = self.behind.get() {
            behind.effects.look_again();
        }
    }

    /// Waits until the system is told to stop.
    pub async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as this.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// Error of [`start`].
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error("the store {store} cannot be opened: {error}")]
    Store {
        /// Store that was to be opened: a folder or a URL.
        store: String,
        /// Error of opening it.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The list of stations cannot be read.
    #[error("the list of stations {} cannot be read: {error}", .path.display())]
    StationsFile {
        /// Path of the list.
        path: PathBuf,
        /// Error of reading it.
        error: std::io::Error,
    },
    /// A line of the list is not an identity.
    #[error("line {line} of {} is no identity; write one a line, up to 128 bytes", .path.display())]
    Identity {
        /// Path of the list.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
    /// No station may connect.
    #[error(
        "without open mode stations must be registered, and none is: list them with --stations FILE; \
         further ones are registered with PUT /api/stations/{{id}}"
    )]
    NoStations,
    /// The URL of the read models' database is not valid.
    #[error(transparent)]
    ReadModels(#[from] PostgresError),
    /// The read models belong to another store, or to an earlier state of this one.
    #[error("{0}; start once with --rebuild-read-models")]
    ForeignReadModels(leftfold::runtime::StartError),
    /// The store does not take what has to be recorded.
    #[error(transparent)]
    Record(#[from] ExecuteError<StationRefusal>),
    /// The consumers of the log cannot start.
    #[error(transparent)]
    Runtime(leftfold::runtime::StartError),
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {error}; choose another address with --listen")]
    Listen {
        /// Address to listen on.
        listen: SocketAddr,
        /// Error of listening.
        error: std::io::Error,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The system at work.
#[derive(Debug)]
pub struct Running {
    /// Address that the server listens on.
    pub address: SocketAddr,
    csms: Arc<Csms>,
    serving: JoinHandle<std::io::Result<()>>,
    watching: JoinHandle<()>,
}

/// Starts the system.
pub async fn start(config: Config) -> Result<Running, StartError> {
    // A port that is taken is found out before a store is made.
    let listen = config.listen;
    let bound =
        TcpListener::bind(listen).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.map_err(|error| StartError::Listen { listen, error })?;
    let opened = leftfold::open(&config.store).await;
    let store = opened
        .map_err(|error| StartError::Store { store: config.store.clone(), error: error.into() })?;
    let read = ReadModels::at(&config.read_models)?;
    let csms = Arc::new(Csms {
        stations: store.aggregate(),
        tags: store.aggregate(),
        transaction_numbers: TransactionNumbers::new(&store),
        registry: Registry::default(),
        liveness: Liveness::new(config.offline_after),
        read,
        boots: Semaphore::new(BOOTS_MAX),
        unrecorded: Mutex::default(),
        behind: OnceLock::new(),
        runtime: Mutex::default(),
        stop: watch::Sender::new(false),
        store: store.clone(),
        config,
    });
    run_behind(&csms).await?;
    let registered = register_listed(&csms).await?;
    let is_any_registered = |fleet: &Fleet| fleet.stations.values().any(|row| row.state.registered);
    if csms.config.strangers() == Strangers::Refused
        && registered == 0
        && !csms.read.fleet(is_any_registered).await
    {
        return Err(StartError::NoStations);
    }
    assume_nobody_online(&csms).await?;
    let router = axum::Router::new()
        .route("/ocpp/{identity}", axum::routing::any(gateway::connect))
        .merge(api::router(csms.clone()))
        .merge(web::router(csms.clone()))
        .fallback(api::not_found)
        .with_state(csms.clone());
    let listener = listener.tap_io(|stream| {
        // Only slower without it.
        let _ = stream.set_nodelay(true);
    });
    let stopping = csms.clone();
    let served = axum::serve(listener, router)
        .with_graceful_shutdown(async move { stopping.stopping().await });
    let serving = tokio::spawn(served.into_future());
    let watching = tokio::spawn(watch_for_silence(csms.clone()));
    Ok(Running { address, csms, serving, watching })
}

/// Starts the consumers of the log, and waits until all stations are known.
async fn run_behind(csms: &Arc<Csms>) -> Result<(), StartError> {
    let runtime =
        Runtime::new(&csms.store).process::<RemoteStartDeadline>().process::<ReservationExpiry>();
    let mut runtime = csms.read.follow(runtime);
    if csms.config.rebuild_read_models {
        runtime = csms.read.rebuild(runtime);
    }
    if !Fault::BeforeAttempt.is_set() {
        let (start, stop, unlock) =
            (RemoteStart(csms.clone()), RemoteStop(csms.clone()), Unlock(csms.clone()));
        let (reserve, cancel) = (Reserve(csms.clone()), CancelReservation(csms.clone()));
        runtime = runtime.effect(start).effect(stop).effect(unlock).effect(reserve).effect(cancel);
    }
    let runtime = runtime.start().await.map_err(|error| match error {
        error @ leftfold::runtime::StartError::ForeignProjection { .. } => {
            StartError::ForeignReadModels(error)
        }
        error => StartError::Runtime(error),
    })?;
    let (projections, head) = (runtime.projections(), csms.store.head().position);
    runtime.show_progress();
    csms.runs(runtime);
    // What is parked waits for a person, and not the start for it.
    while let Err(late @ NotReached::Late { .. }) =
        projections.wait_until(fleet::NAME, head, SAY_EVERY).await
    {
        tracing::info!(%late, "reading the stations from the log");
    }
    Ok(())
}

impl Running {
    /// Ends it in order: no new work, then what is under way, then the store.
    ///
    /// A store that does not close is an error; it recovers when it is opened, and nothing that was
    /// acknowledged is lost.
    pub async fn stop(self) -> Result<(), CloseError> {
        self.csms.stop.send_replace(true);
        let Self { csms, serving, watching, .. } = self;
        let runtime = csms.runtime().take();
        watching.abort();
        let ended = tokio::time::timeout(STOP_WITHIN, async {
            let served = serving.await;
            tracing::debug!(?served, "the listener has ended");
            if let Some(runtime) = runtime
                && let Err(error) = runtime.stop().await
            {
                tracing::error!(%error, "a consumer of the log ended badly");
            }
        });
        if ended.await.is_err() {
            tracing::warn!(
                "not everything ended in time; what is under way is looked at when the server starts again"
            );
        }
        csms.store.close().await
    }
}

/// Registers the stations of the list; returns their number.
async fn register_listed(csms: &Csms) -> Result<usize, StartError> {
    let Some(path) = &csms.config.stations else { return Ok(0) };
    let read = std::fs::read_to_string(path);
    let text = read.map_err(|error| StartError::StationsFile { path: path.clone(), error })?;
    let mut registered = 0;
    for (index, line) in text.lines().enumerate() {
        let identity = line.trim();
        if identity.is_empty() || identity.starts_with('#') {
            continue;
        }
        if !is_identity(identity) {
            return Err(StartError::Identity { path: path.clone(), line: index + 1 });
        }
        csms.stations.execute(identity, StationCommand::Register).await?;
        registered += 1;
    }
    Ok(registered)
}

/// Marks the stations that were online before the restart as offline, until they are heard of
/// again.
async fn assume_nobody_online(csms: &Csms) -> Result<(), StartError> {
    let (at, reason) = (Timestamp::now(), OfflineReason::ServerRestarted);
    let is_online = |(id, row): (&String, &StationRow)| row.state.online.then(|| id.clone());
    let online: Vec<String> =
        csms.read.fleet(|fleet| fleet.stations.iter().filter_map(is_online).collect()).await;
    let mark = async |station: String| {
        csms.stations.execute(&station, StationCommand::MarkOffline { at, reason }).await
    };
    stream::iter(online)
        .map(mark)
        .buffer_unordered(MARKED_AT_ONCE)
        .try_for_each(async |_| Ok(()))
        .await?;
    Ok(())
}
