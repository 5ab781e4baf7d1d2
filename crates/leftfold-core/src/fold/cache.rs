//! Folded aggregates that are kept in memory: bounded by bytes, shared by all commands of the
//! process.

use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::aggregate::Aggregate;
use super::error::EventError;
use crate::panic::caught;
use crate::store::{Measured, Metrics, Position, Store, StreamName, Timestamp, Version};

/// The fold of one stream: the state after the event that gave it this version.
#[derive(Clone, Debug, PartialEq)]
pub struct Folded<A> {
    /// The left fold of the stream's events.
    pub state: A,
    /// Number of events that were folded; 0 if the stream does not exist.
    pub version: Version,
    /// The position of the last of them.
    pub position: Position,
}

impl<A: Default> Folded<A> {
    /// The fold of no event.
    pub(super) fn empty() -> Result<Self, EventError> {
        let state = EventError::caught::<A, _>("default()", A::default)?;
        Ok(Self { state, version: Version::ABSENT, position: Position::START })
    }
}

/// A fold that is kept, with what is known of its snapshot.
#[derive(Debug)]
pub(super) struct KeptFold<A> {
    pub(super) folded: Folded<A>,
    pub(super) snapshot_version: Version,
    /// Recorded time of the first event that is in no snapshot; `None` if there is no such event.
    pub(super) unsaved_since: Option<Timestamp>,
}

impl<A: Default> KeptFold<A> {
    pub(super) fn empty() -> Result<Self, EventError> {
        Ok(Self {
            folded: Folded::empty()?,
            snapshot_version: Version::ABSENT,
            unsaved_since: None,
        })
    }
}

/// The place of one aggregate. The holder of the lock runs its commands; the others queue, in the
/// order they came.
///
/// The fold stays in its place while a command runs, and is a fold of the stream's events at every
/// await: so a command that fails, or is dropped, costs the next one no more than what was recorded
/// since. Nothing is left only if `apply` panics.
#[derive(Debug)]
pub(super) struct FoldSlot<A> {
    pub(super) stream: StreamName,
    pub(super) fold: tokio::sync::Mutex<Option<KeptFold<A>>>,
}

/// All folds of one store that are kept.
///
/// The weight of a fold is the length of its state as JSON, measured whenever its version has
/// doubled. Beyond the bound the folds that were not used for the longest time go (second chance),
/// those in use excepted.
#[derive(Debug)]
pub(super) struct FoldCache {
    bytes_max: usize,
    shelves: Mutex<CachedFolds>,
    figures: Arc<FoldCacheFigures>,
}

/// Figures of the cache.
#[derive(Debug, Default)]
struct FoldCacheFigures {
    hits: AtomicU64,
    misses: AtomicU64,
    bytes: AtomicU64,
    places: AtomicU64,
}

impl Measured for FoldCacheFigures {
    fn measure(&self, metrics: &mut Metrics) {
        let now = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let hits = "Commands and loads that found their aggregate's fold in memory.";
        metrics.counter("leftfold_fold_cache_hits_total", hits, &[], now(&self.hits));
        let misses = "Commands and loads that folded their aggregate from the store.";
        metrics.counter("leftfold_fold_cache_misses_total", misses, &[], now(&self.misses));
        metrics.gauge(
            "leftfold_fold_cache_bytes",
            "Bytes that the kept folds count for.",
            &[],
            now(&self.bytes),
        );
        metrics.gauge("leftfold_fold_cache_folds", "Folds that are kept.", &[], now(&self.places));
    }
}

#[derive(Debug, Default)]
struct CachedFolds {
    bytes: usize,
    folds: HashMap<TypeId, HashMap<Arc<str>, CacheEntry>>,
    /// Second-chance order, the oldest first.
    ring: VecDeque<(TypeId, Arc<str>)>,
}

#[derive(Debug)]
struct CacheEntry {
    slot: Arc<dyn Any + Send + Sync>,
    weight: usize,
    used: bool,
}

/// Bytes that the place of a fold counts for, beside its state.
const SLOT_BYTES: usize = 512;

impl FoldCache {
    /// Usual bound of the bytes of folds that a store keeps: 64 MiB.
    pub(super) const BYTES_USUAL: usize = 64 << 20;

    /// Returns the folds that a store keeps; makes them with a bound if there are none.
    pub(super) fn of(store: &Store, bytes_max: usize) -> Arc<Self> {
        store.attached(|| {
            let figures: Arc<FoldCacheFigures> = Arc::default();
            store.measures(&figures);
            Self { bytes_max, shelves: Mutex::default(), figures }
        })
    }

    /// Counts a request for a fold, by whether the fold was there.
    pub(super) fn count(&self, is_hit: bool) {
        let figure = if is_hit { &self.figures.hits } else { &self.figures.misses };
        figure.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Returns the place of an aggregate; makes it by `stream` if there is none.
    pub(super) fn slot<A: Aggregate, E>(
        &self,
        id: &str,
        stream: impl FnOnce() -> Result<StreamName, E>,
    ) -> Result<Arc<FoldSlot<A>>, E> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = TypeId::of::<A>();
        let shelf = shelves.folds.entry(kind).or_default();
        if let Some(held) = shelf.get_mut(id) {
            held.used = true;
            return Ok(downcast(&held.slot));
        }
        let slot =
            Arc::new(FoldSlot::<A> { stream: stream()?, fold: tokio::sync::Mutex::new(None) });
        let id: Arc<str> = id.into();
        let any: Arc<dyn Any + Send + Sync> = slot.clone();
        shelf.insert(id.clone(), CacheEntry { slot: any, weight: SLOT_BYTES, used: true });
        shelves.ring.push_back((kind, id));
        shelves.bytes += SLOT_BYTES;
        self.shrink(&mut shelves);
        Ok(slot)
    }

    /// Says what the state of an aggregate weighs now.
    pub(super) fn weigh<A: Aggregate>(&self, id: &str, state_bytes: usize) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(held) =
            shelves.folds.get_mut(&TypeId::of::<A>()).and_then(|shelf| shelf.get_mut(id))
        else {
            return;
        };
        let before = std::mem::replace(&mut held.weight, SLOT_BYTES + state_bytes);
        shelves.bytes = shelves.bytes + SLOT_BYTES + state_bytes - before;
        self.shrink(&mut shelves);
    }

    fn shrink(&self, shelves: &mut CachedFolds) {
        shelves.shrink(self.bytes_max);
        self.figures.bytes.store(shelves.bytes as u64, Ordering::Relaxed);
        self.figures.places.store(shelves.ring.len() as u64, Ordering::Relaxed);
    }
}

impl CachedFolds {
    fn shrink(&mut self, bytes_max: usize) {
        // Each fold is looked at twice at most: once to lose its chance, once to go.
        let mut looks = self.ring.len() * 2;
        while self.bytes > bytes_max && looks > 0 {
            looks -= 1;
            let Some((kind, id)) = self.ring.pop_front() else { return };
            let Some(shelf) = self.folds.get_mut(&kind) else { continue };
            let Some(held) = shelf.get_mut(&id) else { continue };
            let in_use = Arc::strong_count(&held.slot) > 1;
            if in_use || std::mem::take(&mut held.used) {
                self.ring.push_back((kind, id));
            } else {
                self.bytes -= held.weight;
                shelf.remove(&id);
            }
        }
    }
}

fn downcast<A: Aggregate>(slot: &Arc<dyn Any + Send + Sync>) -> Arc<FoldSlot<A>> {
    // Slots stand on the shelf of their own type id.
    Arc::clone(slot).downcast().expect("a slot is of the type whose shelf it stands on")
}

/// Returns the bytes that a state has as JSON, without writing it anywhere.
pub(super) fn state_bytes(state: &impl serde::Serialize) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // A state that does not serialize, or panics at it, has no snapshots and counts as what was
    // written of it.
    let _ = caught(|| serde_json::to_writer(&mut count, state));
    count.0
}
