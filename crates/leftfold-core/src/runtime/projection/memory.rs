//! Rows in memory: a value that is built at every start.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedRwLockWriteGuard, RwLock};

use super::{BESIDE, Place, ProjectionError, Session, Target};

/// Rows of one projection as a value in memory.
///
/// They are built at every start, so a reader that needs all of them waits for that. Readers see
/// whole batches, never a part of one. If [`apply`](super::Projection::apply) refuses an event, it
/// must do so before it changes anything. After one that panics or gives no answer the rows are
/// rebuilt without its event, which is parked; until they have caught up, readers see the rows as
/// it left them.
///
/// ```
/// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
/// # mod balances {
/// #     use super::wallet::*;
/// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/balances.rs"));
/// # }
/// use balances::Balances;
/// use leftfold_core::runtime::Runtime;
/// use leftfold_core::runtime::projection::Memory;
/// use leftfold_core::store::Store;
/// use wallet::{Wallet, WalletEvent};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::memory();
/// for (id, cents) in [("ada", 500), ("bob", 200)] {
///     store.aggregate::<Wallet>().record(id, &[WalletEvent::Deposited { cents }]).await?;
/// }
/// let rows = Memory::new();
/// Runtime::new(&store).project(Balances, rows.clone()).run_until_idle().await?;
/// assert_eq!(rows.read(|rows| rows.values().sum::<u64>()).await, 700);
/// assert_eq!(rows.read_version(2, |rows| rows.len()).await, None);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Memory<S>(Arc<Mutex<Versions<S>>>);

#[derive(Debug)]
struct Versions<S> {
    /// The projection that has its rows here.
    name: Option<&'static str>,
    all: BTreeMap<u32, MemoryVersion<S>>,
    serving: Option<u32>,
}

#[derive(Debug)]
struct MemoryVersion<S> {
    rows: Arc<RwLock<S>>,
    notes: Arc<Mutex<VersionNotes>>,
    open: Arc<()>,
    /// True if a session was dropped half-way: the next one begins again with empty rows.
    spoiled: Arc<AtomicBool>,
}

type VersionNotes = BTreeMap<String, Vec<u8>>;

impl<S> Clone for Memory<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<S: Default> Default for Memory<S> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Versions { name: None, all: BTreeMap::new(), serving: None })))
    }
}

impl<S: Default + Send + Sync + 'static> Memory<S> {
    /// Rows of no version yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the rows of the version that serves; if none does yet, at the default value. Waits
    /// while a batch goes in.
    pub async fn read<R>(&self, look: impl FnOnce(&S) -> R) -> R {
        let rows = {
            let versions = self.versions();
            versions
                .serving
                .and_then(|version| versions.all.get(&version))
                .map(|version| version.rows.clone())
        };
        match rows {
            Some(rows) => look(&*rows.read().await),
            None => look(&S::default()),
        }
    }

    /// Looks at the rows of a version, whether it serves or not.
    pub async fn read_version<R>(&self, version: u32, look: impl FnOnce(&S) -> R) -> Option<R> {
        let rows = {
            let versions = self.versions();
            let beside = versions.serving.filter(|serving| *serving == version ^ BESIDE);
            let place = beside.unwrap_or(version);
            let found = versions.all.get(&place).or_else(|| versions.all.get(&(version ^ BESIDE)));
            found?.rows.clone()
        };
        let rows = rows.read().await;
        Some(look(&*rows))
    }

    fn versions(&self) -> MutexGuard<'_, Versions<S>> {
        locked(&self.0)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Default + Send + Sync + 'static> Target for Memory<S> {
    type Session = MemorySession<S>;
    const DURABLE: bool = false;
    const UNDOES: bool = false;

    async fn open(&self, place: &Place) -> Result<MemorySession<S>, ProjectionError> {
        let mut versions = self.versions();
        let name = *versions.name.get_or_insert(place.name);
        if name != place.name {
            let text =
                format!("the rows of {name} are here, give {} a memory of its own", place.name);
            return Err(ProjectionError::message(text));
        }
        let version = versions.all.entry(place.version).or_insert_with(|| MemoryVersion {
            rows: Arc::default(),
            notes: Arc::default(),
            open: Arc::default(),
            spoiled: Arc::default(),
        });
        if Arc::strong_count(&version.open) > 1 {
            let text =
                format!("version {} of {name} is open already in this process", place.version);
            return Err(ProjectionError::message(text));
        }
        if version.spoiled.swap(false, Ordering::Relaxed) {
            // Anyone who looks at the old rows still has them.
            version.rows = Arc::default();
            locked(&version.notes).clear();
        }
        let (rows, notes, open) =
            (version.rows.clone(), version.notes.clone(), version.open.clone());
        let (spoiled, changed, none) = (version.spoiled.clone(), HashMap::new(), S::default());
        Ok(MemorySession { rows, notes, changed, guard: None, none, spoiled, _open: open })
    }

    async fn serving(&self, _: &str) -> Result<Option<u32>, ProjectionError> {
        Ok(self.versions().serving)
    }

    async fn serve(&self, _: &str, version: u32) -> Result<(), ProjectionError> {
        self.versions().serving = Some(version);
        Ok(())
    }

    async fn versions(&self, name: &str) -> Result<Vec<u32>, ProjectionError> {
        let versions = self.versions();
        Ok(if versions.name == Some(name) {
            versions.all.keys().copied().collect()
        } else {
            Vec::new()
        })
    }

    async fn discard(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        let mut versions = self.versions();
        if versions.name != Some(name) {
            return Ok(());
        }
        if versions.all.get(&version).is_some_and(|version| Arc::strong_count(&version.open) > 1) {
            let text =
                format!("version {version} of {name} is written by a session of this process");
            return Err(ProjectionError::message(text));
        }
        versions.all.remove(&version);
        if versions.serving == Some(version) {
            versions.serving = None;
        }
        Ok(())
    }

    fn is_away(&self, _: &ProjectionError) -> bool {
        false
    }
}

/// The rows of one version, while a runner has them.
#[derive(Debug)]
pub struct MemorySession<S: Default + Send + Sync + 'static> {
    rows: Arc<RwLock<S>>,
    notes: Arc<Mutex<VersionNotes>>,
    /// The notes of the open transaction.
    changed: HashMap<String, Option<Vec<u8>>>,
    /// Held while a transaction is open, so that readers see whole ones.
    guard: Option<OwnedRwLockWriteGuard<S>>,
    /// Rows that are written to while no transaction is open.
    none: S,
    spoiled: Arc<AtomicBool>,
    _open: Arc<()>,
}

impl<S: Default + Send + Sync + 'static> Session for MemorySession<S> {
    type Rows = S;

    async fn begin(&mut self) -> Result<(), ProjectionError> {
        self.guard = Some(self.rows.clone().write_owned().await);
        Ok(())
    }

    fn rows(&mut self) -> &mut S {
        self.guard.as_deref_mut().unwrap_or(&mut self.none)
    }

    async fn note(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), ProjectionError> {
        self.changed.insert(key.to_owned(), value.map(<[u8]>::to_vec));
        Ok(())
    }

    async fn notes(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, ProjectionError> {
        let notes = locked(&self.notes);
        let from =
            after.filter(|after| *after >= prefix).map_or(Bound::Included(prefix), Bound::Excluded);
        let kept = notes
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix));
        let kept = kept
            .filter(|(key, _)| !self.changed.contains_key(*key))
            .map(|(key, value)| (key.clone(), value.clone()));
        let is_meant = |key: &str| key.starts_with(prefix) && after.is_none_or(|after| key > after);
        let changed = self.changed.iter().filter(|(key, _)| is_meant(key));
        let changed = changed.filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        // No more of those kept are needed than of all.
        let mut all: Vec<_> = kept.take(at_most).chain(changed).collect();
        all.sort_unstable();
        all.truncate(at_most);
        Ok(all)
    }

    async fn commit(&mut self) -> Result<(), ProjectionError> {
        let mut notes = locked(&self.notes);
        for (key, value) in self.changed.drain() {
            match value {
                Some(value) => notes.insert(key, value),
                None => notes.remove(&key),
            };
        }
        self.guard = None;
        Ok(())
    }

    /// Empties the version, which begins again: the changes of an open transaction are not known.
    async fn rollback(&mut self) -> Result<(), ProjectionError> {
        self.changed.clear();
        if let Some(mut rows) = self.guard.take() {
            locked(&self.notes).clear();
            *rows = S::default();
        }
        Ok(())
    }
}

impl<S: Default + Send + Sync + 'static> Drop for MemorySession<S> {
    fn drop(&mut self) {
        if self.guard.take().is_some() {
            self.spoiled.store(true, Ordering::Relaxed);
        }
    }
}
