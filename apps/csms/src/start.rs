//! Starts the system, serves, and stops it in order.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use futures_util::{StreamExt, TryStreamExt, stream};
use leftfold::OpenKeysError;
use leftfold::personal::Keys;
use leftfold::postgres::PostgresError;
use leftfold::prelude::{Position, Store, Timestamp};
use leftfold::runtime::projection::NotReached;
use leftfold::runtime::{Runtime, StartError};
use leftfold::store::{CloseError, Kind, ReadError, StoreId, SubscribeError};
use leftfold_callers::PasswordError;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::app::Csms;
use crate::confidential::StorePlace;
use crate::config::Config;
use crate::domain::id_tag::Strangers;
use crate::domain::station::{OfflineReason, StationCommand, is_identity};
use crate::listeners::{ListenError, Listeners, serve, station_or_not_found};
use crate::people::People;
use crate::read::fleet::{self, Fleet, StationRow};
use crate::{api, effects, gateway, processes, web};

/// Stations that are marked at a time when the server starts.
const MARKED_AT_ONCE: usize = 256;
/// Time that an orderly stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// Time that closing a store in a database may take: a database that is away answers nothing.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);
/// Wait before a database that is away is tried again.
const OPEN_AGAIN: Duration = Duration::from_secs(2);
/// Interval at which a long start is logged.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// Error of [`start`].
#[derive(Debug, thiserror::Error)]
pub enum ServerStartError {
    /// The store cannot be opened.
    #[error("the store {store} cannot be opened: {error}")]
    Store {
        /// Store that was to be opened.
        store: StorePlace,
        /// Error of opening it.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The keys of personal data cannot be opened.
    #[error("the keys of personal data cannot be opened: {0}; they are where --keys says")]
    Keys(OpenKeysError),
    /// Passwords cannot be hashed.
    #[error("the system gives no random bytes: {0}")]
    Passwords(#[from] PasswordError),
    /// Nobody could call.
    #[error(
        "without open mode callers must be known, and nobody is: add a person with \
         csms user add NAME --role admin, or set CSMS_API_TOKEN to a long random text"
    )]
    Nobody,
    /// The users cannot be read.
    #[error("the users cannot be read: {0}")]
    People(Box<dyn std::error::Error + Send + Sync>),
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
    /// The read models are those of another store.
    #[error(
        "the read model {name} is of store {expected}, but {store} is store {actual}; correct --store or --read-models, \
         or if this store took the place of the other, start once with --rebuild-read-models"
    )]
    ReadModelsOfOtherStore {
        /// The read model.
        name: &'static str,
        /// Place of the store that was opened.
        store: StorePlace,
        /// Store that the read model was built from.
        expected: StoreId,
        /// Store that was opened.
        actual: StoreId,
    },
    /// The read models have seen more than the store has: a copy of it was restored.
    #[error(
        "the read model {name} has seen position {checkpoint}, but {store}, which was restored from a copy, ends at {head}; \
         start once with --rebuild-read-models"
    )]
    ReadModelsAhead {
        /// The read model.
        name: &'static str,
        /// Place of the store.
        store: StorePlace,
        /// Position up to which the read model was built.
        checkpoint: Position,
        /// Durable end of the store.
        head: Position,
    },
    /// The read models have seen events that the store no longer has: a copy of it was restored,
    /// and others were recorded since.
    #[error(
        "the read model {name} has seen another event at position {position} than {store} has, which was restored from a \
         copy and has grown since; start once with --rebuild-read-models"
    )]
    ReadModelsOfOtherHistory {
        /// The read model.
        name: &'static str,
        /// Place of the store.
        store: StorePlace,
        /// Position of the read model's checkpoint.
        position: Position,
    },
    /// The store does not take what has to be recorded of a station.
    #[error("station {station} cannot be recorded: {error}")]
    Record {
        /// The station's identity.
        station: String,
        /// Error of recording it.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The consumers of the log cannot start.
    #[error(transparent)]
    Runtime(StartError),
    /// An address cannot be listened on.
    #[error("{0}")]
    Listen(Box<dyn std::error::Error + Send + Sync>),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<ListenError> for ServerStartError {
    fn from(error: ListenError) -> Self {
        Self::Listen(error.into())
    }
}

/// The system at work.
#[derive(Debug)]
pub struct RunningServer {
    /// Address that the server listens on.
    pub address: SocketAddr,
    csms: Arc<Csms>,
    /// Tasks of the addresses that are listened on.
    serving: Vec<JoinHandle<()>>,
    watching: JoinHandle<()>,
    /// Tasks about the servers that share the store.
    peers: Vec<JoinHandle<()>>,
}

/// Starts the system. A database that cannot be reached is waited for, until `interrupted`: then
/// nothing has begun, and there is no server.
pub async fn start(
    config: Config,
    interrupted: impl Future<Output = ()>,
) -> Result<Option<RunningServer>, ServerStartError> {
    // A port that is taken is found out before a store is made.
    let listeners = Listeners::bind(&config).await?;
    let address = listeners.address;
    let Some((store, keys)) = open(&config, interrupted).await? else { return Ok(None) };
    let people = People::new(&store, keys, config.sessions)?;
    let csms = Arc::new(Csms::new(config, store, people)?);
    let forgetting = csms.people.finish_forgetting().await;
    forgetting.map_err(|error| ServerStartError::People(error.into()))?;
    check_anyone_may_call(&csms).await?;
    let before = csms.store.head().position;
    start_consumers(&csms).await?;
    let registered = register_listed(&csms).await?;
    let is_any_registered = |fleet: &Fleet| fleet.stations.values().any(|row| row.state.registered);
    if csms.config.strangers() == Strangers::Refused
        && registered == 0
        && !csms.read.fleet(is_any_registered).await
    {
        return Err(ServerStartError::NoStations);
    }
    if !csms.config.shares_store() {
        assume_nobody_online(&csms).await?;
    }
    let served = csms.clone();
    let fallback = move |request: Request| station_or_not_found(served.clone(), request);
    let router = Router::new()
        .merge(api::router(csms.clone()))
        .merge(web::router(csms.clone()))
        .fallback(fallback)
        .with_state(csms.clone());
    let serving = serve(&csms, router, listeners);
    let watching = tokio::spawn(gateway::watch_for_silence(csms.clone()));
    let telling = csms.clone();
    let tell = async move { telling.refusals.tell(telling.stopping()).await };
    let mut peers = vec![tokio::spawn(tell)];
    if csms.config.shares_store() {
        peers.push(tokio::spawn(gateway::follow_stations(csms.clone(), before)));
        peers.push(tokio::spawn(gateway::watch_servers(csms.clone())));
    }
    Ok(Some(RunningServer { address, csms, serving, watching, peers }))
}

/// Opens the store and the keys of its personal data; `None` if it was interrupted while the
/// database was waited for.
async fn open(
    config: &Config,
    interrupted: impl Future<Output = ()>,
) -> Result<Option<(Store, Keys)>, ServerStartError> {
    let mut interrupted = pin!(interrupted);
    loop {
        let opening = open_once(config);
        let opened = if config.shares_store() {
            tokio::select! {
                biased;
                () = &mut interrupted => return Ok(None),
                opened = opening => opened,
            }
        } else {
            opening.await
        };
        let (error, kind) = match opened {
            Ok(opened) => return Ok(Some(opened)),
            Err(failed) => failed,
        };
        if !config.shares_store() || kind != Kind::Unavailable {
            return Err(error);
        }
        tracing::warn!(%error, "not open yet; waiting for its database");
        tokio::select! {
            () = &mut interrupted => return Ok(None),
            () = sleep(OPEN_AGAIN) => {}
        }
    }
}

/// Opens the store and its keys once. An error comes with its kind.
pub(crate) async fn open_once(config: &Config) -> Result<(Store, Keys), (ServerStartError, Kind)> {
    let store = leftfold::open(config.store.as_str()).await.map_err(|error| {
        let (store, kind) = (config.store.clone(), error.kind());
        (ServerStartError::Store { store, error: error.into() }, kind)
    })?;
    match leftfold::open_keys(&store, config.keys.reveal()).await {
        Ok(keys) => Ok((store, keys)),
        Err(error) => {
            // The error of the keys is the one to tell.
            let _ = store.close().await;
            let kind = error.kind();
            Err((ServerStartError::Keys(error), kind))
        }
    }
}

/// Checks that somebody may call: without open mode there is a token, or an admin who can log in.
async fn check_anyone_may_call(csms: &Csms) -> Result<(), ServerStartError> {
    if csms.config.api_token.is_some() {
        return Ok(());
    }
    let found = csms.people.has_admin().await;
    match found.map_err(|error| ServerStartError::People(error.into()))? {
        true if csms.config.open => {
            tracing::warn!(
                "there are users, but in open mode whoever is on this machine needs no login; \
                 start with --closed"
            );
            Ok(())
        }
        false if !csms.config.open => Err(ServerStartError::Nobody),
        _ => Ok(()),
    }
}

/// Starts the consumers of the log, and waits until all stations are known.
async fn start_consumers(csms: &Arc<Csms>) -> Result<(), ServerStartError> {
    let mut runtime = csms.read.follow(processes::register(Runtime::new(&csms.store)));
    if csms.config.rebuild_read_models {
        runtime = csms.read.rebuild(runtime);
    }
    let runtime = effects::register(runtime, csms);
    let runtime = runtime.start().await.map_err(|error| not_started(error, &csms.config.store))?;
    let (projections, head) = (runtime.projections(), csms.store.head().position);
    runtime.show_progress();
    csms.keep_runtime(runtime);
    // What is parked waits for a person, and not the start for it.
    while let Err(late @ NotReached::Late { .. }) =
        projections.wait_until(fleet::NAME, head, SAY_EVERY).await
    {
        tracing::info!(%late, "reading the stations from the log");
    }
    Ok(())
}

/// Returns the error of a start, in words for whoever starts the server.
fn not_started(error: StartError, store: &StorePlace) -> ServerStartError {
    let StartError::ForeignProjection { name, error: foreign, .. } = &error else {
        return ServerStartError::Runtime(error);
    };
    let (name, store) = (*name, store.clone());
    match *foreign {
        SubscribeError::OtherStore { expected, actual } => {
            ServerStartError::ReadModelsOfOtherStore { name, store, expected, actual }
        }
        SubscribeError::Ahead { checkpoint, head } => {
            ServerStartError::ReadModelsAhead { name, store, checkpoint, head }
        }
        SubscribeError::OtherHistory { position } => {
            ServerStartError::ReadModelsOfOtherHistory { name, store, position }
        }
        SubscribeError::Read(_) => ServerStartError::Runtime(error),
    }
}

impl RunningServer {
    /// Ends it in order: no new work, then what is under way, then the store.
    ///
    /// A store that does not close is an error; it recovers when it is opened, and nothing that was
    /// acknowledged is lost.
    pub async fn stop(self) -> Result<(), CloseError> {
        let Self { csms, serving, watching, peers, .. } = self;
        let runtime = csms.stop();
        watching.abort();
        let ended = tokio::time::timeout(STOP_WITHIN, async {
            for task in serving.into_iter().chain(peers) {
                // One that panicked has said so.
                let _ = task.await;
            }
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
        let closing = csms.store.close();
        if !csms.config.shares_store() {
            return closing.await;
        }
        tokio::time::timeout(CLOSE_WITHIN, closing).await.unwrap_or_else(|_| {
            tracing::warn!("the database does not answer; what waits to be recorded is given up");
            Ok(())
        })
    }
}

/// Registers the stations of the list; returns their number.
async fn register_listed(csms: &Csms) -> Result<usize, ServerStartError> {
    let Some(path) = &csms.config.stations else { return Ok(0) };
    let read = std::fs::read_to_string(path);
    let text =
        read.map_err(|error| ServerStartError::StationsFile { path: path.clone(), error })?;
    let mut registered = 0;
    for (index, line) in text.lines().enumerate() {
        let identity = line.trim();
        if identity.is_empty() || identity.starts_with('#') {
            continue;
        }
        if !is_identity(identity) {
            return Err(ServerStartError::Identity { path: path.clone(), line: index + 1 });
        }
        record(csms, identity, StationCommand::Register).await?;
        registered += 1;
    }
    Ok(registered)
}

/// Marks the stations that were online before the restart as offline, until they are heard of
/// again: no other server hears them.
async fn assume_nobody_online(csms: &Csms) -> Result<(), ServerStartError> {
    let (at, reason) = (Timestamp::now(), OfflineReason::ServerRestarted);
    let is_online = |(id, row): (&String, &StationRow)| {
        row.state.online.then(|| (id.clone(), row.state.heard_by))
    };
    let online: Vec<_> =
        csms.read.fleet(|fleet| fleet.stations.iter().filter_map(is_online).collect()).await;
    let mark = async |(station, heard_by): (String, _)| {
        record(csms, &station, StationCommand::MarkOffline { at, reason, heard_by }).await
    };
    stream::iter(online)
        .map(mark)
        .buffer_unordered(MARKED_AT_ONCE)
        .try_for_each(async |_| Ok(()))
        .await?;
    Ok(())
}

/// Records of a station what the start says of it.
async fn record(
    csms: &Csms,
    station: &str,
    command: StationCommand,
) -> Result<(), ServerStartError> {
    match csms.stations.execute(station, command).await {
        Ok(_) => Ok(()),
        Err(error) => {
            Err(ServerStartError::Record { station: station.to_owned(), error: error.into() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_models_of_another_history_are_told_with_the_one_remedy_of_their_case() {
        let (expected, actual) = (StoreId::random(), StoreId::random());
        let said = |error| {
            let (projection, name, version) = ("Transactions", "transactions", 1);
            let foreign = StartError::ForeignProjection { projection, name, version, error };
            not_started(foreign, &StorePlace::new("./data")).to_string()
        };
        let rebuild = "start once with --rebuild-read-models";
        let (checkpoint, head) = (Position(9), Position(7));
        let cases = [
            (
                said(SubscribeError::OtherStore { expected, actual }),
                format!("is of store {expected}, but ./data is store {actual}; correct --store or"),
            ),
            (
                said(SubscribeError::Ahead { checkpoint, head }),
                format!("restored from a copy, ends at 7; {rebuild}"),
            ),
            (
                said(SubscribeError::OtherHistory { position: Position(5) }),
                format!("has grown since; {rebuild}"),
            ),
        ];
        for (said, expected) in cases {
            assert!(said.contains(&expected) && said.ends_with(rebuild), "{said}");
            assert!(!said.contains("Runtime::rebuild") && !said.contains("consumer"), "{said}");
        }
        let unread = said(SubscribeError::Read(ReadError::Closed));
        assert!(!unread.contains(rebuild), "{unread}");
    }
}
