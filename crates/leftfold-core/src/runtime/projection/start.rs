//! Registration of projections with a runtime, and their start.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::batch::query_of;
use super::desk::{Desk, ProjectionReaders};
use super::handle::{ProjectionRequest, VersionEntry};
use super::parked::Parked;
use super::places::{BESIDE, Role};
use super::runner::{Runner, RunnerParts};
use super::{Projection, Target};
use crate::fold::EventError;
use crate::runtime::consumer::unheard::{Asks, announced, of_enum};
use crate::runtime::{ASKED_MAX, Host, Named, Running, Start, StartError, Starting};
use crate::store::{Query, Store};

/// Bytes of a projection's name.
const NAME_BYTES_MAX: usize = 40;

/// A version of a projection, before it is started.
pub(in crate::runtime) struct Registered {
    name: &'static str,
    type_name: &'static str,
    version: u32,
    rebuilds: bool,
    query: fn(&Store) -> Result<Query, EventError>,
    asks: Asks,
    make: ProjectionStarter,
}

type ProjectionStarter =
    Box<dyn FnOnce(Arc<Desk>, mpsc::Receiver<ProjectionRequest>, Role) -> Starting + Send>;

/// One that has its place among the others.
pub(in crate::runtime) struct PlacedProjection {
    pub(in crate::runtime) named: Named,
    pub(in crate::runtime) entry: VersionEntry,
    pub(in crate::runtime) starting: Starting,
}

impl Registered {
    pub(in crate::runtime) fn new<T: Target, P: Projection<T>>(projection: P, target: T) -> Self {
        let make = move |desk: Arc<Desk>, asks, role| -> Starting {
            Box::new(move |host: Host, stop: watch::Receiver<bool>| -> Start {
                Box::pin(async move {
                    let parts = RunnerParts {
                        host,
                        target,
                        projection,
                        desk,
                        asks,
                        role,
                        stop,
                        leased: true,
                    };
                    let runner = on_own_thread::<T, _>(Runner::new(parts)).await?;
                    Ok(Box::pin(on_own_thread::<T, _>(runner.run())) as Running)
                })
            })
        };
        let (name, version, rebuilds) = (P::NAME, P::VERSION, T::REBUILDS);
        let (type_name, query, asks) =
            (std::any::type_name::<P>(), query_of::<T, P>, of_enum::<P::Event>);
        Self { name, type_name, version, rebuilds, query, asks, make: Box::new(make) }
    }

    /// Gives each version its label and role: its name in status, and whether it is the newest.
    pub(in crate::runtime) fn place_all(
        all: Vec<Self>,
        rebuild: &BTreeSet<String>,
        store: &Store,
    ) -> Result<Vec<PlacedProjection>, StartError> {
        let named: Vec<(&'static str, u32)> =
            all.iter().map(|one| (one.name, one.version)).collect();
        for name in rebuild {
            match all.iter().find(|one| one.name == name) {
                None => return Err(StartError::UnknownProjection { name: name.clone() }),
                Some(one) if !one.rebuilds => {
                    let (projection, name) = (one.type_name, one.name);
                    return Err(StartError::CannotRebuild { projection, name });
                }
                Some(_) => {}
            }
        }
        let versions = all.iter().map(|one| ((one.name, one.version), one.type_name));
        if let Some(((name, _), types)) = crate::runtime::twice(versions) {
            return Err(StartError::NameTaken { name, types });
        }
        let mut readers: Vec<(&'static str, Arc<ProjectionReaders>)> = Vec::new();
        let mut placed = Vec::with_capacity(all.len());
        for one in all {
            check(&one)?;
            let versions: Vec<u32> = named
                .iter()
                .filter(|(name, _)| *name == one.name)
                .map(|(_, version)| *version)
                .collect();
            let newest = versions.iter().all(|version| *version <= one.version);
            let label = if versions.len() == 1 {
                one.name
            } else {
                kept(format!("{} v{}", one.name, one.version))
            };
            let known = readers
                .iter()
                .find(|(name, _)| *name == one.name)
                .map(|(_, readers)| readers.clone());
            let shared = known.unwrap_or_else(|| Arc::new(ProjectionReaders::new(versions)));
            readers.push((one.name, shared.clone()));
            let named = Named { name: label, type_name: one.type_name };
            let query = (one.query)(store).map_err(|error| named.error(error.into()))?;
            let desk = Arc::new(Desk::new(one.name, one.version, label, query, shared));
            let (asks, asked) = mpsc::channel(ASKED_MAX);
            let role = Role { newest, rebuild: rebuild.contains(one.name) };
            let starting = announced(label, one.asks, (one.make)(desk.clone(), asked, role));
            placed.push(PlacedProjection { named, entry: VersionEntry { desk, asks }, starting });
        }
        Ok(placed)
    }
}

/// A projection that runs in the task that polls it, without a runtime: for explorers.
pub(crate) struct StandaloneProjection {
    /// Runs until it is told to stop.
    pub(crate) running: Pin<Box<dyn Future<Output = Result<(), StartError>> + Send>>,
    desk: Arc<Desk>,
}

impl StandaloneProjection {
    pub(crate) fn new<T: Target, P: Projection<T>>(
        host: Host,
        projection: P,
        target: T,
        stop: watch::Receiver<bool>,
        leased: bool,
    ) -> Result<Self, EventError> {
        let readers = Arc::new(ProjectionReaders::new(vec![P::VERSION]));
        let desk = Arc::new(Desk::new(
            P::NAME,
            P::VERSION,
            P::NAME,
            query_of::<T, P>(&host.store)?,
            readers,
        ));
        let (asker, asks) = mpsc::channel(1);
        let role = Role { newest: true, rebuild: false };
        let parts =
            RunnerParts { host, target, projection, desk: desk.clone(), asks, role, stop, leased };
        let running = Box::pin(async move {
            // Nobody asks, but somebody might.
            let _asker = asker;
            let runner = Runner::new(parts).await;
            runner.map_err(|fault| Named::of::<P>(P::NAME).error(fault))?.run().await;
            Ok(())
        });
        Ok(Self { running, desk })
    }

    /// Returns a function that lists its parked items at any time.
    pub(crate) fn parked(&self) -> impl Fn() -> Vec<Parked> + Send + 'static {
        let desk = self.desk.clone();
        move || desk.parked().items().cloned().collect()
    }
}

/// Runs a consumer whose target blocks in a thread of its own, so that nobody else waits for it.
async fn on_own_thread<T: Target, F>(consumer: F) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    if !T::BLOCKING {
        return consumer.await;
    }
    let here = Handle::current();
    match tokio::task::spawn_blocking(move || here.block_on(consumer)).await {
        Ok(ended) => ended,
        Err(panic) => match panic.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime that it runs on is shutting down: nobody waits for it any more.
            Err(_) => std::future::pending().await,
        },
    }
}

/// A name that targets can take into names of their own, and a version that leaves room for the
/// other place.
fn check(one: &Registered) -> Result<(), StartError> {
    let Registered { name, version, type_name: projection, .. } = *one;
    if version >= BESIDE {
        return Err(StartError::ProjectionVersion { projection, name, version });
    }
    let mut bytes = name.bytes();
    let begins = bytes.next().is_some_and(|byte| byte.is_ascii_lowercase());
    let goes_on =
        bytes.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    match begins && goes_on && name.len() <= NAME_BYTES_MAX {
        true => Ok(()),
        false => Err(StartError::ProjectionName { projection, name }),
    }
}

/// Keeps a name for the rest of the process. There is one for each version that code names.
fn kept(label: String) -> &'static str {
    static KEPT: OnceLock<Mutex<BTreeSet<&'static str>>> = OnceLock::new();
    let mut kept = KEPT.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    match kept.get(label.as_str()) {
        Some(label) => label,
        None => {
            let label: &'static str = Box::leak(label.into_boxed_str());
            kept.insert(label);
            label
        }
    }
}
