//! The pages of run files that were read lately, bounded by bytes.
//!
//! Own code, because all that is needed is a map with a second chance (CLOCK) behind a few locks: a
//! page that was used since the hand last passed stays, another goes. Merges read past it, so they
//! displace nothing.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hashbrown::DefaultHashBuilder;

use super::block::IndexPage;
use super::bloom::Bloom;

/// Location of a page: the number of its run file, and its offset.
pub(super) type PageId = (u64, u64);

/// Content of a cached page.
#[derive(Clone, Debug)]
pub(super) enum Cached {
    IndexPage(Arc<IndexPage>),
    Bloom(Arc<Bloom>),
}

/// Locks at most; fewer if each would guard only a few pages.
const SHARDS_MAX: usize = 8;
const SHARD_BYTES_MIN: usize = 256 << 10;

/// The cache, shared by all runs of an index.
#[derive(Debug)]
pub(super) struct Cache {
    shards: Vec<Mutex<Shard>>,
    shard_bytes_max: usize,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Pages that were asked for and found, or not, and the bytes that are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheFigures {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) bytes: usize,
}

#[derive(Debug, Default)]
struct Shard {
    places: HashMap<PageId, usize, DefaultHashBuilder>,
    slots: Vec<PageSlot>,
    hand: usize,
    bytes: usize,
}

#[derive(Debug)]
struct PageSlot {
    id: PageId,
    page: Cached,
    bytes: usize,
    used: bool,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        let shards = (bytes_max / SHARD_BYTES_MIN).clamp(1, SHARDS_MAX);
        let shards: Vec<_> = (0..shards).map(|_| Mutex::default()).collect();
        Self {
            shard_bytes_max: bytes_max / shards.len(),
            shards,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    pub(super) fn figures(&self) -> CacheFigures {
        let bytes =
            |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).bytes;
        CacheFigures {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            bytes: self.shards.iter().map(bytes).sum(),
        }
    }

    pub(super) fn page(&self, id: PageId) -> Option<Cached> {
        let found = self.look_up(id);
        let figure = if found.is_some() { &self.hits } else { &self.misses };
        figure.fetch_add(1, Ordering::Relaxed);
        found
    }

    fn look_up(&self, id: PageId) -> Option<Cached> {
        let mut shard = self.shard(id).lock().unwrap_or_else(PoisonError::into_inner);
        let place = *shard.places.get(&id)?;
        let slot = &mut shard.slots[place];
        slot.used = true;
        Some(slot.page.clone())
    }

    /// Keeps a page, unless it alone is more than a shard may hold.
    pub(super) fn keep(&self, id: PageId, page: Cached) {
        let bytes = page.memory_bytes() + size_of::<PageSlot>() + 32;
        if bytes > self.shard_bytes_max {
            return;
        }
        let mut shard = self.shard(id).lock().unwrap_or_else(PoisonError::into_inner);
        if shard.places.contains_key(&id) {
            return;
        }
        while shard.bytes + bytes > self.shard_bytes_max {
            shard.evict();
        }
        shard.bytes += bytes;
        let place = shard.slots.len();
        shard.places.insert(id, place);
        shard.slots.push(PageSlot { id, page, bytes, used: false });
    }

    fn shard(&self, (file, offset): PageId) -> &Mutex<Shard> {
        let spread = (file.rotate_left(32) ^ offset).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.shards[spread as usize % self.shards.len()]
    }
}

impl Shard {
    /// Lets one page go. There is one: the shard has bytes.
    fn evict(&mut self) {
        loop {
            if self.hand >= self.slots.len() {
                self.hand = 0;
            }
            let slot = &mut self.slots[self.hand];
            if !std::mem::take(&mut slot.used) {
                break;
            }
            self.hand += 1;
        }
        let gone = self.slots.swap_remove(self.hand);
        self.places.remove(&gone.id);
        self.bytes -= gone.bytes;
        if let Some(moved) = self.slots.get(self.hand) {
            self.places.insert(moved.id, self.hand);
        }
    }
}

impl Cached {
    fn memory_bytes(&self) -> usize {
        match self {
            Self::IndexPage(page) => page.memory_bytes(),
            Self::Bloom(bloom) => bloom.as_bytes().len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_its_bytes_and_keeps_what_is_used() {
        let cache = Cache::new(4_000);
        let bloom = || Cached::Bloom(Arc::new(Bloom::of(&[0; 800])));
        cache.keep((0, 0), bloom());
        for n in 1..10_000 {
            assert!(cache.page((0, 0)).is_some(), "the page in use was let go");
            cache.keep((n, n), bloom());
            let held: usize = cache.shards.iter().map(|shard| shard.lock().unwrap().bytes).sum();
            assert!(held <= 4_000);
        }
        cache.keep((1, 1), Cached::Bloom(Arc::new(Bloom::of(&[0; 100_000]))));
        assert!(cache.page((1, 1)).is_none(), "a page larger than the cache is not kept");
    }
}
