//! The index of the log: from streams, categories, types, tags and ids to positions, and from
//! command ids and consumers to addresses. Derived: deleted and rebuilt from the log whenever it is
//! doubted.
//!
//! What is new goes into the `memtable`, under its `key`. `upkeep` freezes that table and has
//! `run_writer` write it as a `run`: sorted pages (`block`) behind a filter (`bloom`). `merge`
//! makes one large run of several small ones, and the `manifest` says which runs count. A reader
//! takes the `levels` of one moment, the pages of runs from the `cache`, and goes through the
//! positions of a key by `postings`, which are cut into pieces by `chunk`. A file that cannot be
//! read or used is an `error`, and leads to a new index.

mod block;
mod bloom;
mod cache;
mod chunk;
mod error;
mod key;
mod levels;
mod manifest;
mod memtable;
mod merge;
mod postings;
mod run;
mod run_writer;
#[cfg(test)]
mod tests;
mod upkeep;

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;

use bytes::Bytes;
use bytestring::ByteString;
use hashbrown::DefaultHashBuilder;
use leftfold_core::store::limits::SNAPSHOT_BYTES_MAX;
use leftfold_core::store::{Direction, Hash, Position, StoreId, Version};

use crate::disk::Disk;
use crate::options::Upkeep;
use cache::Cache;
use key::RawKey;
use levels::{Levels, read};
use manifest::IndexManifest;
use run::SortedRun;
use upkeep::{FilesState, ManifestState, SharedIndex, UpkeepStatus, lock};

pub(crate) use cache::CacheFigures;
pub(crate) use error::{IndexError, ListError, unreadable};
pub(crate) use key::PostingKey;
pub(crate) use manifest::is_file;
pub(crate) use memtable::Memtable;
pub(crate) use postings::Postings;

/// Part of the log that an index covers: everything up to the end of some group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    /// The last position.
    pub(crate) position: Position,
    /// The address of the last covered group: opening the log compares the group there with this
    /// value.
    pub(crate) address: u64,
    /// The chain hash there.
    pub(crate) hash: Hash,
}

impl Covered {
    /// Nothing is covered: the index is to be built from the first segment on.
    pub(crate) const NONE: Self = Self { position: Position::START, address: 0, hash: Hash::EMPTY };
}

/// Settings of an index.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IndexSettings {
    /// Bytes of memory for all of it. A quarter is for entries that are gathered, a quarter for
    /// those gathered before (on their way to a file, or kept for [`Recent`] when they are there),
    /// and half for pages of files.
    ///
    /// Beyond it go the last group that filled a table, the buffers of one flush or merge (under 1
    /// MiB, or one snapshot), and the root pages of runs, about a thousandth of the files.
    pub(crate) memory_bytes: usize,
    /// Place where files are written and merged: a thread of the index, or the caller.
    pub(crate) upkeep: Upkeep,
}

/// An index that was opened.
#[derive(Debug)]
pub(crate) struct OpenedIndex {
    /// The index.
    pub(crate) index: Index,
    /// Covered part of the log: insert the groups that follow it.
    pub(crate) covered: Covered,
    /// Reason why the files of an index were deleted; `None` if none were. If they were, the index
    /// is empty and covers nothing.
    pub(crate) discarded: Option<String>,
}

/// A table that one writer fills while others read.
type Memory = Arc<RwLock<Memtable>>;

/// Entries that are inserted under one lock, so that readers never wait long for a large group.
const SLICE_ENTRIES: usize = 2048;

/// The index. Shared by one writer and any number of readers.
///
/// Levels: a table in memory that takes the entries of each group, the table before it, and runs,
/// which are sorted files. Each covers a range of positions of its own, the older ones first, so
/// that a list is the lists of all levels one after the other, and merging is joining. Dropping the
/// index ends its thread, and loses what was not [flushed](Self::flush); the log still has it.
#[derive(Debug)]
pub(crate) struct Index {
    shared: Arc<SharedIndex>,
    thread: Option<JoinHandle<()>>,
}

impl Index {
    /// Opens the index in the files. If they are damaged, foreign, or of another version, they are
    /// deleted.
    ///
    /// The caller checks that the log holds the groups up to [`OpenedIndex::covered`]: an index
    /// that goes further is a witness of lost groups, so nothing of a sound index is deleted here.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        store: StoreId,
        settings: IndexSettings,
    ) -> Result<OpenedIndex, IndexError> {
        let cache = Arc::new(Cache::new(settings.memory_bytes / 2));
        let (manifest, runs, discarded) = match open_files(&*disk, store, &cache) {
            Ok((manifest, runs)) => {
                let orphans =
                    manifest::sweep(&*disk, &manifest.runs)? && manifest == IndexManifest::EMPTY;
                (
                    manifest,
                    runs,
                    orphans.then(|| "index.manifest is missing, or was never written".to_owned()),
                )
            }
            Err(error @ IndexError::Damaged { .. }) => {
                Self::discard(&*disk)?;
                (IndexManifest::EMPTY, Vec::new(), Some(error.to_string()))
            }
            Err(error) => return Err(error),
        };
        if let Some(reason) = &discarded {
            tracing::warn!(%reason, "the index is rebuilt from the log");
        }
        let covered = manifest.covered;
        let hasher = DefaultHashBuilder::default();
        let active = Arc::new(RwLock::new(Memtable::new(hasher.clone())));
        let levels = Levels { active, previous: None, since: covered, runs };
        let files = FilesState {
            next_run: manifest.next_run,
            covered,
            merged: Vec::new(),
            manifest: ManifestState::Kept,
        };
        let shared = Arc::new(SharedIndex {
            disk,
            store,
            upkeep: settings.upkeep,
            table_bytes: settings.memory_bytes / 4,
            hasher,
            cache,
            levels: RwLock::new(Arc::new(levels)),
            shown: RwLock::default(),
            end: Mutex::new(covered),
            files: Mutex::new(files),
            status: Mutex::new(UpkeepStatus::default()),
            asked: Condvar::new(),
            tried: Condvar::new(),
            hurry: AtomicBool::new(false),
        });
        let thread = match settings.upkeep {
            Upkeep::Inline => None,
            Upkeep::Thread => Some(start_thread(&shared)?),
        };
        Ok(OpenedIndex { index: Self { shared, thread }, covered, discarded })
    }

    /// Deletes every file of an index that is not open: when a person declares that the log was
    /// restored.
    pub(crate) fn discard(disk: &dyn Disk) -> Result<(), IndexError> {
        manifest::remove_manifest(disk)?;
        manifest::sweep(disk, &[]).map(|_| ())
    }

    /// An empty table for the group that the writer gathers.
    pub(crate) fn pending(&self) -> Memtable {
        Memtable::new(self.shared.hasher.clone())
    }

    /// Makes room for the next group: called by the writer before it gathers one. Returns at once,
    /// except if the table in memory is full and the one before it is not yet in a file: then it
    /// waits for that.
    ///
    /// An error means that memory cannot be relieved (the disk is full, or broken): append nothing
    /// until a later call succeeds. Each call tries again.
    pub(crate) fn make_room(&self) -> Result<(), IndexError> {
        self.shared.make_room()
    }

    /// Takes the entries of a durable group over and leaves `group` empty. Called by the single
    /// writer, before it publishes the head that includes the group. `covered` is the end of the
    /// group; its position is that of the last event ever inserted.
    ///
    /// It never fails and never waits for the disk (with [`Upkeep::Inline`] it does use the disk,
    /// and what fails is tried again, and reported, by [`make_room`](Self::make_room)).
    pub(crate) fn insert_group(&self, group: &mut Memtable, covered: Covered) {
        self.show_group(group, covered, || ());
    }

    /// The same, with `show`, which publishes the head that includes the group. Nobody sees the
    /// group's records, of commands and consumers, before that head, nor that head without them;
    /// its lists are read up to a head anyway.
    pub(crate) fn show_group(&self, group: &mut Memtable, covered: Covered, show: impl FnOnce()) {
        let active = Arc::clone(&self.shared.levels().active);
        let mut start = 0;
        while start < group.len() {
            let end = group.len().min(start + SLICE_ENTRIES);
            active.write().unwrap_or_else(PoisonError::into_inner).absorb(group, start..end);
            start = end;
        }
        let showing = self.shared.shown.write().unwrap_or_else(PoisonError::into_inner);
        active.write().unwrap_or_else(PoisonError::into_inner).absorb_records(group);
        show();
        drop(showing);
        group.clear();
        *lock(&self.shared.end) = covered;
        self.shared.relieve();
    }

    /// Brings everything into files, merges small ones, and makes that durable: called by the
    /// writer at a close, with what the seal covers. A merge of large ones that is under way is
    /// given up.
    pub(crate) fn flush(&self, covered: Covered) -> Result<(), IndexError> {
        *lock(&self.shared.end) = covered;
        self.shared.flush()
    }

    /// Returns the first damage that was found in a file, if there is any. Lookups that need the
    /// damaged part fail, others and inserts go on; the manifest is taken away, so that the next
    /// opening rebuilds the index.
    #[cfg(test)]
    pub(crate) fn damage(&self) -> Option<IndexError> {
        lock(&self.shared.status).damage.clone()
    }

    /// The version of a stream, counting its events up to and including `through`.
    pub(crate) fn stream_version(
        &self,
        stream: &str,
        through: Position,
    ) -> Result<Version, IndexError> {
        self.shared.heed(self.shared.levels().stream_version(stream, through))
    }

    /// Returns the position of the event that has this version in its stream, `None` if there is no
    /// such event.
    pub(crate) fn position_of(
        &self,
        stream: &str,
        version: Version,
    ) -> Result<Option<Position>, IndexError> {
        self.shared.heed(self.shared.levels().position_of(stream, version))
    }

    /// The positions of a key: forwards those at and after `from`, backwards those at and before
    /// it; none after `through`, which is the head that the caller reads at.
    pub(crate) fn postings(
        &self,
        key: PostingKey<'_>,
        from: Position,
        direction: Direction,
        through: Position,
    ) -> Postings {
        Postings::new(Arc::clone(&self.shared), key.into(), from, direction, through)
    }

    /// The first position after `after` in the list of a key: the question of a condition.
    #[cfg(test)]
    pub(crate) fn first_after(
        &self,
        key: PostingKey<'_>,
        after: Position,
    ) -> Result<Option<Position>, IndexError> {
        self.shared.heed(self.shared.levels().first_after(key, after))
    }

    /// The address of the record of a command.
    pub(crate) fn command(&self, id: &[u8; 16]) -> Result<Option<u64>, IndexError> {
        self.shared.address(RawKey::command(id), |table| table.command(id))
    }

    /// The address of the latest checkpoint record under a key: see [`Memtable::add_checkpoint`].
    pub(crate) fn checkpoint(&self, consumer: &[u8]) -> Result<Option<u64>, IndexError> {
        self.shared.address(RawKey::consumer(consumer), |table| table.checkpoint(consumer))
    }

    /// The value last kept under a key, if it is still there.
    pub(crate) fn snapshot(&self, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        self.shared.heed(self.shared.levels().snapshot(key))
    }

    /// Keeps a value, from any thread. It waits for no disk: if memory is full, or the value is
    /// over [`SNAPSHOT_BYTES_MAX`], it is not kept.
    pub(crate) fn keep_snapshot(&self, key: &[u8], value: Bytes) {
        if value.len() > SNAPSHOT_BYTES_MAX {
            return;
        }
        // Held while the value is put in, so that the table is not frozen, and written, before it
        // is.
        let levels = self.shared.levels.read().unwrap_or_else(PoisonError::into_inner);
        let mut active = levels.active.write().unwrap_or_else(PoisonError::into_inner);
        if !active.is_over(self.shared.table_bytes) {
            active.put_snapshot(key, value);
        }
    }

    /// The texts of a kind of key that begin as `prefix` does, in order. Some may have no position
    /// up to the caller's head. Ids are no texts: none is found.
    pub(crate) fn keys_with_prefix(
        &self,
        prefix: PostingKey<'_>,
        limit: usize,
    ) -> Result<Vec<ByteString>, ListError> {
        let prefix = RawKey::from(prefix).to_vec();
        let mut found: BTreeSet<Vec<u8>> = BTreeSet::new();
        let levels = self.shared.levels();
        for table in levels.tables() {
            let count = read(table).len();
            for start in (0..count).step_by(SLICE_ENTRIES) {
                let table = read(table);
                let keys = table.keys(start..count.min(start + SLICE_ENTRIES));
                found.extend(keys.filter(|key| key.starts_with(&prefix)).map(<[u8]>::to_vec));
                if found.len() > limit {
                    return Err(ListError::too_many(&prefix, limit));
                }
            }
        }
        for run in &levels.runs {
            let mut add = |key: &[u8]| {
                found.insert(key.to_vec());
                found.len() <= limit
            };
            self.shared.heed(run.keys_with_prefix(&prefix, &mut add))?;
            if found.len() > limit {
                return Err(ListError::too_many(&prefix, limit));
            }
        }
        let text = |key: Vec<u8>| ByteString::try_from(Bytes::from(key).slice(1..)).ok();
        Ok(found.into_iter().filter_map(text).collect())
    }

    /// Returns the number of runs, and their bytes.
    pub(crate) fn files(&self) -> (usize, u64) {
        let levels = self.shared.levels();
        (levels.runs.len(), levels.runs.iter().map(|run| run.entry.bytes).sum())
    }

    /// Returns the figures of the cache of pages.
    pub(crate) fn cache_figures(&self) -> CacheFigures {
        self.shared.cache.figures()
    }

    /// Returns the part of the index that is in memory, for the writer: asking it never touches the
    /// disk.
    pub(crate) fn recent(&self) -> Recent {
        Recent { levels: self.shared.levels() }
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        self.shared.end_work();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(
                "the thread of the index panicked; the index is as its last manifest says"
            );
        }
    }
}

/// Part of the index that is in memory, as the writer asks for it. It always goes back over at
/// least one full table, or to the point at which the index was opened; so a condition that was
/// checked against files a moment ago needs no file again.
#[derive(Clone, Debug)]
pub(crate) struct Recent {
    levels: Arc<Levels>,
}

impl Recent {
    /// Everything after this is in memory: for a later `after`, and for records at later addresses,
    /// the answers below are complete.
    pub(crate) fn since(&self) -> Covered {
        self.levels.since
    }

    /// The version of a stream that has an event after [`since`](Self::since).
    pub(crate) fn version(&self, stream: &str) -> Option<Version> {
        self.levels.tables().find_map(|table| read(table).version(stream))
    }

    /// The first position after `after` in the list of a key.
    pub(crate) fn first_after(&self, key: PostingKey<'_>, after: Position) -> Option<Position> {
        self.levels.recent_first_after(key, after)
    }

    /// The address of the record of a command.
    pub(crate) fn command(&self, id: &[u8; 16]) -> Option<u64> {
        self.levels.tables().find_map(|table| read(table).command(id))
    }

    /// The address of the latest checkpoint record under a key.
    pub(crate) fn checkpoint(&self, consumer: &[u8]) -> Option<u64> {
        self.levels.tables().find_map(|table| read(table).checkpoint(consumer))
    }
}

/// Opens the manifest, and the runs that it names. If another process has the directory, it may
/// merge runs in between: then there is another manifest.
fn open_files(
    disk: &dyn Disk,
    store: StoreId,
    cache: &Arc<Cache>,
) -> Result<(IndexManifest, Vec<Arc<SortedRun>>), IndexError> {
    let mut manifest = IndexManifest::read(disk, store)?.unwrap_or(IndexManifest::EMPTY);
    for _ in 0..MANIFESTS_MAX {
        let open = |entry: &manifest::RunEntry| {
            SortedRun::open(disk, store, *entry, Arc::clone(cache)).map(Arc::new)
        };
        let fault = match manifest.runs.iter().map(open).collect::<Result<_, _>>() {
            Ok(runs) => return Ok((manifest, runs)),
            Err(fault) => fault,
        };
        let now = IndexManifest::read(disk, store)?.unwrap_or(IndexManifest::EMPTY);
        if now == manifest {
            return Err(fault);
        }
        manifest = now;
    }
    Err(IndexError::damaged(manifest::NAME, 0, "it changes faster than it can be read"))
}

/// Manifests that are read before it is given up that one stays as it is.
const MANIFESTS_MAX: usize = 16;

/// Starts the thread of an index, which first looks whether an earlier life left something to
/// merge.
fn start_thread(shared: &Arc<SharedIndex>) -> Result<JoinHandle<()>, IndexError> {
    let own = Arc::clone(shared);
    let thread = std::thread::Builder::new()
        .name("leftfold-index".to_owned())
        .spawn(move || own.run_thread());
    let thread = thread.map_err(|error| IndexError::io(&shared.disk.place(), &error))?;
    shared.ask();
    Ok(thread)
}
