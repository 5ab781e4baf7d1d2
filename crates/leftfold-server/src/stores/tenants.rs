//! Stores that are opened when a call names them, and closed when nobody uses them any more.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leftfold::OpenError;
use leftfold::store::{Kind, Store};
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;
use tonic::Status;

use super::{ServedStore, StoreUse, is_store_name, no_store};
use crate::stopping::Stopping;
use crate::users::{Caller, UserRole, Wish};

/// Part of the URL of tenants that the name of a store takes the place of.
const NAME: &str = "{name}";

/// Stores that are opened on demand, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenants {
    place: TenantPlace,
    /// Stores that are open at once. If all are used, a call that names one more is refused.
    pub open_max: usize,
    /// Time after which a store that nobody has used is closed.
    pub close_after: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum TenantPlace {
    Directory(PathBuf),
    Url(String),
}

/// Error of a URL for tenants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is no URL for several stores, write {{name}} where the name of the store goes")]
pub struct TenantsError {
    /// Text that was given.
    pub url: String,
}

impl Tenants {
    /// Stores in the directories below one. A store that is not there yet is made when a caller who
    /// has the role [`Admin`](UserRole::Admin) to it appends to it, or opens it to be created.
    #[must_use]
    pub fn in_directory(path: impl Into<PathBuf>) -> Self {
        Self::at(TenantPlace::Directory(path.into()))
    }

    /// Stores at URLs that `leftfold::open` takes: the name of the store takes the place of
    /// `{name}`. One that is not there yet is made for the same callers as a directory.
    ///
    /// ```
    /// use leftfold_server::Tenants;
    ///
    /// assert!(Tenants::at_urls("postgres://shop@db/shop?schema={name}").is_ok());
    /// assert!(Tenants::at_urls("postgres://shop@db/shop").is_err());
    /// ```
    ///
    /// # Errors
    /// [`TenantsError`] if the name is nowhere in it.
    pub fn at_urls(url: &str) -> Result<Self, TenantsError> {
        if !url.contains(NAME) {
            return Err(TenantsError { url: url.to_owned() });
        }
        Ok(Self::at(TenantPlace::Url(url.to_owned())))
    }

    const fn at(place: TenantPlace) -> Self {
        Self { place, open_max: 256, close_after: Duration::from_secs(300) }
    }

    /// Returns the URL of a store.
    fn url(&self, name: &str) -> Result<String, Status> {
        let path = match &self.place {
            TenantPlace::Url(url) => return Ok(url.replace(NAME, name)),
            TenantPlace::Directory(path) => path.join(name),
        };
        let path = path.to_str().ok_or_else(|| Status::internal("the directory is not UTF-8"))?;
        Ok(format!("file:{path}"))
    }
}

/// The tenants of a server, as far as somebody has asked for them.
pub(crate) struct OpenTenants {
    tenants: Tenants,
    of: Mutex<BTreeMap<Arc<str>, Tenant>>,
}

/// A store that is open, or was, or is to be.
#[derive(Clone)]
struct Tenant {
    /// Locked while it is opened or closed.
    served: Arc<tokio::sync::Mutex<Option<ServedStore>>>,
    used: Arc<Mutex<Instant>>,
}

impl OpenTenants {
    pub(super) fn new(tenants: Tenants) -> Arc<Self> {
        Arc::new(Self { tenants, of: Mutex::default() })
    }

    /// Returns the store of that name, which is opened if it is not open.
    pub(super) async fn open(
        self: &Arc<Self>,
        name: &str,
        caller: &Caller,
        wished: StoreUse,
        make: impl FnOnce(Arc<str>, Store) -> ServedStore + Send + 'static,
    ) -> Result<ServedStore, Status> {
        if !is_store_name(name) {
            return Err(no_store(name));
        }
        if let Some(tenant) = self.tenant(name)
            && let Some(served) = &*tenant.served.lock().await
        {
            *tenant.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            return Ok(served.clone());
        }
        let url = self.tenants.url(name)?;
        let makes =
            wished == StoreUse::Create && caller.may(name, Wish::Role(UserRole::Admin)).is_ok();
        let tenant = self.make_room(name).await?;
        let served = Arc::clone(&tenant.served).lock_owned().await;
        if let Some(served) = &*served {
            return Ok(served.clone());
        }
        let name: Arc<str> = name.into();
        // A caller who does not wait any more leaves it whole.
        let opening = tokio::spawn(open(Arc::clone(&name), (url, makes), served, make));
        let opened = opening.await;
        let opened =
            opened.unwrap_or_else(|_| Err(Status::internal("the store could not be opened")));
        if opened.is_err() {
            // A name that is misspelt takes no place.
            self.close(&name, &tenant).await;
        }
        opened
    }

    fn tenant(&self, name: &str) -> Option<Tenant> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Returns a place for a store, for which an unused one is closed if there are too many.
    async fn make_room(&self, name: &str) -> Result<Tenant, Status> {
        loop {
            {
                let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
                if of.contains_key(name) || of.len() < self.tenants.open_max {
                    return Ok(of.entry(name.into()).or_insert_with(Tenant::new).clone());
                }
            }
            if !self.close_unused(Duration::ZERO, 1).await {
                return Err(Status::resource_exhausted("too many stores are open, ask again soon"));
            }
        }
    }

    /// Closes stores that nobody uses, until the server stops.
    pub(crate) async fn close_unused_ones(self: Arc<Self>, mut stopping: Stopping) {
        let pause = (self.tenants.close_after / 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        while tokio::time::timeout(pause, stopping.wanted()).await.is_err() {
            self.close_unused(self.tenants.close_after, usize::MAX).await;
        }
    }

    /// Closes at most so many stores that nobody has used for long, those first that were used
    /// longest ago. Tells whether one was closed.
    async fn close_unused(&self, unused_for: Duration, at_most: usize) -> bool {
        let now = Instant::now();
        let mut unused: Vec<_> = {
            let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
            let used =
                |tenant: &Tenant| *tenant.used.lock().unwrap_or_else(PoisonError::into_inner);
            let all = of.iter().map(|(name, tenant)| (used(tenant), name.clone(), tenant.clone()));
            all.filter(|(used, ..)| now.duration_since(*used) >= unused_for).collect()
        };
        unused.sort_by_key(|(used, ..)| *used);
        let mut closed = 0;
        for (_, name, tenant) in unused {
            if closed >= at_most {
                break;
            }
            closed += usize::from(self.close(&name, &tenant).await);
        }
        closed > 0
    }

    /// Closes a store if nobody uses it. One that is asked for meanwhile is opened again.
    async fn close(&self, name: &Arc<str>, tenant: &Tenant) -> bool {
        // It is being opened: somebody uses it.
        let Ok(mut served) = Arc::clone(&tenant.served).try_lock_owned() else { return false };
        if served.as_ref().is_some_and(ServedStore::is_used) {
            *tenant.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
            return false;
        }
        if let Some(served) = served.take()
            && let Err(error) = served.store.close().await
        {
            tracing::warn!(store = %name, %error, "a store did not close cleanly");
        }
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever has a place of it already waits for the lock.
        if of.get(name).is_some_and(|there| Arc::strong_count(&there.served) <= HOLDERS) {
            of.remove(name);
        }
        true
    }

    /// Returns the stores that are open now.
    pub(super) fn all(&self) -> Vec<ServedStore> {
        let of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let open =
            |tenant: &Tenant| tenant.served.try_lock().ok().and_then(|served| served.clone());
        of.values().filter_map(open).collect()
    }
}

/// Holders of a place that is closed: the map, the one who closes it, and the lock.
const HOLDERS: usize = 3;
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

impl Tenant {
    fn new() -> Self {
        Self { served: Arc::default(), used: Arc::new(Mutex::new(Instant::now())) }
    }
}

async fn open(
    name: Arc<str>,
    (url, makes): (String, bool),
    mut place: OwnedMutexGuard<Option<ServedStore>>,
    make: impl FnOnce(Arc<str>, Store) -> ServedStore,
) -> Result<ServedStore, Status> {
    let opened = match makes {
        true => leftfold::open(&url).await,
        false => open_existing(&url).await,
    };
    match opened {
        Ok(store) => {
            tracing::info!(store = %name, "a store was opened");
            let served = make(name, store);
            *place = Some(served.clone());
            Ok(served)
        }
        Err(error) if error.kind() == Kind::NotFound => Err(no_store(&name)),
        Err(error) => {
            // The URL may have a password, and is nobody's business.
            tracing::warn!(store = %name, %error, "a store cannot be opened");
            Err(Status::unavailable(format!("the store {name:?} cannot be opened now")))
        }
    }
}

/// Opens a store that is there: one of an older release too, which is migrated.
async fn open_existing(url: &str) -> Result<Store, OpenError> {
    match leftfold::open_existing(url).await {
        Err(error) if error.kind() == Kind::Bug => leftfold::open(url).await,
        opened => opened,
    }
}
