//! The system as a whole: its parts, how they start, and how they end.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::serve::ListenerExt;
use futures_util::{StreamExt, TryStreamExt, stream};
use leftfold::prelude::{Aggregates, ExecuteError, Store, Timestamp};
use leftfold::runtime::{Effects, RunningRuntime, Runtime};
use leftfold::store::{CloseError, ReadError};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::domain::id_tag::{IdTag, Strangers};
use crate::domain::station::{OfflineReason, Station, StationCommand, StationRefusal};
use crate::effects::{RemoteStart, RemoteStop, Unlock};
use crate::fault::Fault;
use crate::gateway::{Liveness, Registry, is_identity, watch_for_silence};
use crate::transaction_numbers::TransactionNumbers;
use crate::view::{View, ViewError};
use crate::{api, gateway, web};

/// Boots that are worked on at a time. After a restart all stations come at once.
const BOOTS_MAX: usize = 64;
/// Stations that are marked at a time when the server starts.
const MARKED_AT_ONCE: usize = 256;
/// How long an orderly end may take.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The parts of the system.
#[derive(Debug)]
pub struct Csms {
    /// What is set.
    pub config: Config,
    /// Where everything is recorded.
    pub store: Store,
    /// The stations.
    pub stations: Aggregates<Station>,
    /// The id tags.
    pub tags: Aggregates<IdTag>,
    /// Free transaction ids.
    pub transaction_numbers: TransactionNumbers,
    /// Who is connected.
    pub registry: Registry,
    /// Who was heard of lately.
    pub liveness: Liveness,
    /// What lists and the dashboard show.
    pub view: Arc<View>,
    /// Turns for boots.
    pub boots: Semaphore,
    effects: OnceLock<Effects>,
    stop: watch::Sender<bool>,
}

impl Csms {
    /// The effects; none while the system starts.
    #[must_use]
    pub fn effects(&self) -> Option<&Effects> {
        self.effects.get()
    }

    /// Something has happened that may resolve a doubt.
    pub fn look_again(&self) {
        if let Some(effects) = self.effects.get() {
            effects.look_again();
        }
    }

    /// Waits until the system is told to stop.
    pub async fn stopping(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as this.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}

/// Why the system does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened.
    #[error("the store {store} cannot be opened: {error}")]
    Store {
        /// Which.
        store: String,
        /// Why.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The list of stations cannot be read.
    #[error("the list of stations {} cannot be read: {error}", .path.display())]
    StationsFile {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A line of the list is no identity.
    #[error("line {line} of {} is no identity; write one a line, up to 128 bytes", .path.display())]
    Identity {
        /// Which list.
        path: PathBuf,
        /// Which line.
        line: usize,
    },
    /// Nobody may connect.
    #[error(
        "without open mode stations must be registered, and none is: list them with --stations FILE; \
         further ones are registered with PUT /api/stations/{{id}}"
    )]
    NoStations,
    /// What is recorded cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The store does not take what has to be recorded.
    #[error(transparent)]
    Record(#[from] ExecuteError<StationRefusal>),
    /// The effects cannot be carried out.
    #[error(transparent)]
    Runtime(#[from] leftfold::runtime::StartError),
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {error}; choose another address with --listen")]
    Listen {
        /// Which.
        listen: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The system at work.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    csms: Arc<Csms>,
    runtime: RunningRuntime,
    serving: JoinHandle<std::io::Result<()>>,
    watching: JoinHandle<()>,
}

/// Starts the system.
pub async fn start(config: Config) -> Result<Running, StartError> {
    // A port that is taken is found out before a store is made.
    let listen = config.listen;
    let bound = TcpListener::bind(listen).await.and_then(|listener| Ok((listener.local_addr()?, listener)));
    let (address, listener) = bound.map_err(|error| StartError::Listen { listen, error })?;
    let opened = leftfold::open(&config.store).await;
    let store = opened.map_err(|error| StartError::Store { store: config.store.clone(), error: error.into() })?;
    let view = View::follow(&store).await?;
    let csms = Arc::new(Csms {
        stations: store.aggregate(),
        tags: store.aggregate(),
        transaction_numbers: TransactionNumbers::new(&store),
        registry: Registry::default(),
        liveness: Liveness::new(config.offline_after),
        view,
        boots: Semaphore::new(BOOTS_MAX),
        effects: OnceLock::new(),
        stop: watch::Sender::new(false),
        store: store.clone(),
        config,
    });
    let registered = register_listed(&csms).await?;
    if csms.config.strangers() == Strangers::Refused && registered == 0 && !csms.view.has_registered_station() {
        return Err(StartError::NoStations);
    }
    assume_nobody_online(&csms).await?;
    let mut runtime = Runtime::new(&store);
    if !Fault::BeforeAttempt.is_set() {
        let (start, stop, unlock) = (RemoteStart(csms.clone()), RemoteStop(csms.clone()), Unlock(csms.clone()));
        runtime = runtime.effect(start).effect(stop).effect(unlock);
    }
    let runtime = runtime.start().await?;
    // Nothing else sets it.
    let _ = csms.effects.set(runtime.effects());
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
    let served = axum::serve(listener, router).with_graceful_shutdown(async move { stopping.stopping().await });
    let serving = tokio::spawn(served.into_future());
    let watching = tokio::spawn(watch_for_silence(csms.clone()));
    Ok(Running { address, csms, runtime, serving, watching })
}

impl Running {
    /// Ends it in order: no new work, then what is under way, then the store.
    ///
    /// A store that does not close is an error; it recovers when it is opened, and nothing that was acknowledged is lost.
    pub async fn stop(self) -> Result<(), CloseError> {
        self.csms.stop.send_replace(true);
        let Self { csms, runtime, serving, watching, .. } = self;
        watching.abort();
        let ended = tokio::time::timeout(STOP_WITHIN, async {
            let served = serving.await;
            tracing::debug!(?served, "the listener has ended");
            if let Err(error) = runtime.stop().await {
                tracing::error!(%error, "an effect's runner ended badly");
            }
        });
        if ended.await.is_err() {
            tracing::warn!("not everything ended in time; what is under way is looked at when the server starts again");
        }
        csms.store.close().await
    }
}

/// Registers the stations of the list; how many there are.
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

/// While the server was away nobody was heard: whoever was online then has to be heard of anew.
async fn assume_nobody_online(csms: &Csms) -> Result<(), StartError> {
    let (at, reason) = (Timestamp::now(), OfflineReason::ServerRestarted);
    let mark = async |station: String| csms.stations.execute(&station, StationCommand::MarkOffline { at, reason }).await;
    stream::iter(csms.view.online_stations()).map(mark).buffer_unordered(MARKED_AT_ONCE).try_for_each(async |_| Ok(())).await?;
    Ok(())
}
