//! Keeping the index in files: freezing the table in memory, writing it as a run, merging runs.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use hashbrown::DefaultHashBuilder;
use leftfold_core::store::StoreId;

use super::cache::Cache;
use super::error::IndexError;
use super::key::RawKey;
use super::levels::{Levels, PlaceOfRetired, RetiredTable, read};
use super::manifest::{self, IndexManifest, RunEntry, remove_if_there, run_name, temporary};
use super::memtable::{Memtable, Value};
use super::merge;
use super::run::SortedRun;
use super::run_writer::RunWriter;
use super::{Covered, Upkeep};
use crate::disk::Disk;

/// State shared by the writer, the readers and the thread of an index.
///
/// Locks are taken in this order: shown, files, status, levels, a table.
#[derive(Debug)]
pub(super) struct SharedIndex {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) store: StoreId,
    pub(super) upkeep: Upkeep,
    /// Bytes of one table in memory.
    pub(super) table_bytes: usize,
    pub(super) hasher: DefaultHashBuilder,
    pub(super) cache: Arc<Cache>,
    pub(super) levels: RwLock<Arc<Levels>>,
    /// Held by the writer while the records of a group and the head that includes them come to be
    /// seen.
    pub(super) shown: RwLock<()>,
    /// End of the active table.
    pub(super) end: Mutex<Covered>,
    /// Held by the thread that changes files.
    pub(super) files: Mutex<FilesState>,
    pub(super) status: Mutex<UpkeepStatus>,
    /// There is work, or an end.
    pub(super) asked: Condvar,
    /// A flush came to an end, well or not.
    pub(super) tried: Condvar,
    /// A merge under way is to be given up.
    pub(super) hurry: AtomicBool,
}

/// State of the files.
#[derive(Debug)]
pub(super) struct FilesState {
    pub(super) next_run: u64,
    /// Part of the log that the manifest says is covered.
    pub(super) covered: Covered,
    /// Runs that were merged into others. Their files go when no reader has them any more.
    pub(super) merged: Vec<Arc<SortedRun>>,
    /// After damage there is no manifest, so that opening rebuilds; runs go on being written, to
    /// relieve memory.
    pub(super) manifest: ManifestState,
}

/// State of the manifest: kept, or given up after damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ManifestState {
    Kept,
    Given,
}

#[derive(Debug, Default)]
pub(super) struct UpkeepStatus {
    pub(super) request: UpkeepRequest,
    /// Flushes that came to an end, well or not.
    tries: u64,
    /// Error of the last flush; `None` if it succeeded.
    fault: Option<IndexError>,
    /// First damage that was found in a file.
    pub(super) damage: Option<IndexError>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum UpkeepRequest {
    #[default]
    None,
    Asked,
    /// No more of it.
    Ended,
}

impl SharedIndex {
    pub(super) fn levels(&self) -> Arc<Levels> {
        Arc::clone(&self.levels.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The address of a record. One in a file was shown long ago: a table is frozen when all in it
    /// is.
    pub(super) fn address(
        &self,
        key: RawKey<'_>,
        in_memory: impl Fn(&Memtable) -> Option<u64>,
    ) -> Result<Option<u64>, IndexError> {
        let shown = self.shown.read().unwrap_or_else(PoisonError::into_inner);
        let levels = self.levels();
        let found = levels.tables().find_map(|table| in_memory(&read(table)));
        drop(shown);
        match found {
            Some(address) => Ok(Some(address)),
            None => self.heed(levels.address_in_runs(key)),
        }
    }

    /// Sees to damage that a lookup found.
    pub(super) fn heed<T>(&self, result: Result<T, IndexError>) -> Result<T, IndexError> {
        if let Err(error @ IndexError::Damaged { .. }) = &result {
            let mut status = lock(&self.status);
            if status.damage.is_none() {
                tracing::warn!(%error, "the index is damaged and will be rebuilt when the store is opened again");
                status.damage = Some(error.clone());
            }
            drop(status);
            if self.upkeep == Upkeep::Thread {
                self.ask();
            }
        }
        result
    }

    /// Freezes the active table if it is full and nothing is before it, and sees that it is
    /// written.
    pub(super) fn relieve(&self) {
        if read(&self.levels().active).is_over(self.table_bytes) && self.freeze() {
            self.work_or_ask();
        }
    }

    /// Waits until there is room in the active table.
    pub(super) fn make_room(&self) -> Result<(), IndexError> {
        loop {
            if !read(&self.levels().active).is_over(self.table_bytes) {
                return Ok(());
            }
            if self.freeze() {
                self.work_or_ask();
                return Ok(());
            }
            let tries = lock(&self.status).tries;
            self.work_or_ask();
            let mut status = lock(&self.status);
            // A flush changes the levels first and the status then, so none is missed here.
            while status.tries == tries
                && status.request != UpkeepRequest::Ended
                && self.levels().frozen().is_some()
            {
                status = self.tried.wait(status).unwrap_or_else(PoisonError::into_inner);
            }
            if self.levels().frozen().is_some()
                && let Some(fault) = &status.fault
            {
                return Err(fault.clone());
            }
        }
    }

    /// Brings everything into files.
    pub(super) fn flush(&self) -> Result<(), IndexError> {
        self.hurry.store(true, Ordering::Relaxed);
        let mut files = lock(&self.files);
        self.hurry.store(false, Ordering::Relaxed);
        self.heed_damage(&mut files);
        self.flush_frozen(&mut files)?;
        if !read(&self.levels().active).is_empty() || *lock(&self.end) != files.covered {
            self.freeze();
            self.flush_frozen(&mut files)?;
        }
        if let Some(range) = merge::choose_at_close(&self.run_entries()) {
            self.merge(&mut files, range, Patience::UntilDone);
        }
        self.heed_damage(&mut files);
        self.bury(&mut files);
        Ok(())
    }

    /// The thread of an index: works whenever it is asked.
    pub(super) fn run_thread(&self) {
        let _gone = PanicReport(self);
        loop {
            let mut status = lock(&self.status);
            while status.request == UpkeepRequest::None {
                status = self.asked.wait(status).unwrap_or_else(PoisonError::into_inner);
            }
            if status.request == UpkeepRequest::Ended {
                return;
            }
            status.request = UpkeepRequest::None;
            drop(status);
            self.work();
        }
    }

    pub(super) fn ask(&self) {
        let mut status = lock(&self.status);
        if status.request == UpkeepRequest::None {
            status.request = UpkeepRequest::Asked;
        }
        self.asked.notify_one();
    }

    /// No more work is begun, and a merge under way is given up.
    pub(super) fn end_work(&self) {
        self.hurry.store(true, Ordering::Relaxed);
        lock(&self.status).request = UpkeepRequest::Ended;
        self.asked.notify_all();
        self.tried.notify_all();
    }

    fn work_or_ask(&self) {
        match self.upkeep {
            Upkeep::Thread => self.ask(),
            Upkeep::Inline => self.work(),
        }
    }

    fn work(&self) {
        let mut files = lock(&self.files);
        self.heed_damage(&mut files);
        if self.flush_frozen(&mut files).is_ok() {
            while files.manifest == ManifestState::Kept
                && let Some(range) = merge::choose(&self.run_entries())
                && self.merge(&mut files, range, Patience::UntilHurried)
            {}
        }
        self.heed_damage(&mut files);
        self.bury(&mut files);
    }

    /// Puts an empty table in the place of the active one, unless the one before is not yet in a
    /// file.
    fn freeze(&self) -> bool {
        let mut levels = self.levels.write().unwrap_or_else(PoisonError::into_inner);
        if levels.frozen().is_some() {
            return false;
        }
        let since = levels.previous.as_ref().map_or(levels.since, |previous| previous.covered);
        let covered = *lock(&self.end);
        let previous = RetiredTable {
            table: Arc::clone(&levels.active),
            covered,
            place: PlaceOfRetired::Memory,
        };
        *levels = Arc::new(Levels {
            active: Arc::new(RwLock::new(Memtable::new(self.hasher.clone()))),
            previous: Some(previous),
            since,
            runs: levels.runs.clone(),
        });
        true
    }

    /// Makes a run of the frozen table, if there is one.
    fn flush_frozen(&self, files: &mut FilesState) -> Result<(), IndexError> {
        let levels = self.levels();
        let Some(frozen) = levels.frozen() else { return Ok(()) };
        let number = files.next_run;
        let written = self.write_run(files, &levels, frozen);
        let result = written.map(|run| {
            let mut levels = self.levels.write().unwrap_or_else(PoisonError::into_inner);
            let mut next = Levels::clone(&levels);
            next.runs.extend(run.map(Arc::new));
            if let Some(previous) = &mut next.previous {
                previous.place = PlaceOfRetired::File;
            }
            *levels = Arc::new(next);
        });
        if let Err(error) = &result {
            tracing::warn!(%error, "the index could not be written, it will be tried again");
            self.remove_remains(number);
        }
        let mut status = lock(&self.status);
        status.tries += 1;
        status.fault = result.as_ref().err().cloned();
        self.tried.notify_all();
        result
    }

    /// The file of a table, named in the manifest; none for a table that adds nothing.
    fn write_run(
        &self,
        files: &mut FilesState,
        levels: &Levels,
        frozen: &RetiredTable,
    ) -> Result<Option<SortedRun>, IndexError> {
        let after = levels.runs.last().map_or(0, |run| run.entry.through);
        let table = read(&frozen.table);
        let covered = frozen.covered;
        let mut run = None;
        if !table.is_empty() || covered.position.0 != after {
            let mut writer = RunWriter::create(&*self.disk, self.store, files.next_run)?;
            files.next_run += 1;
            for entry in table.sorted() {
                writer.push_sorted(entry.key, &entry.value)?;
            }
            let entry = writer.finish(after, covered.position.0)?;
            run = Some(SortedRun::open(&*self.disk, self.store, entry, Arc::clone(&self.cache))?);
        }
        let runs = levels.runs.iter().map(|run| run.entry).chain(run.as_ref().map(|run| run.entry));
        self.replace_manifest(files, covered, runs.collect())?;
        Ok(run)
    }

    /// Merges neighbouring runs. Returns false if that was given up, or failed: the runs stay as
    /// they are.
    fn merge(&self, files: &mut FilesState, range: Range<usize>, patience: Patience) -> bool {
        let old = self.levels().runs[range].to_vec();
        let number = files.next_run;
        files.next_run += 1;
        let mut go_on = || match patience {
            Patience::UntilDone => true,
            // Memory goes first: the writer may be waiting for it.
            Patience::UntilHurried => {
                !self.hurry.load(Ordering::Relaxed) && self.flush_frozen(files).is_ok()
            }
        };
        let merged = RunWriter::create(&*self.disk, self.store, number)
            .and_then(|writer| merge::merge(&old, writer, &mut go_on))
            .and_then(|entry| {
                entry.map(|entry| self.install_merged(files, &old, entry)).transpose()
            });
        if !matches!(merged, Ok(Some(()))) {
            self.remove_remains(number);
        }
        match self.heed(merged) {
            Ok(done) => done.is_some(),
            Err(error) => {
                tracing::warn!(%error, "parts of the index could not be merged");
                false
            }
        }
    }

    fn install_merged(
        &self,
        files: &mut FilesState,
        old: &[Arc<SortedRun>],
        entry: RunEntry,
    ) -> Result<(), IndexError> {
        let run =
            Arc::new(SortedRun::open(&*self.disk, self.store, entry, Arc::clone(&self.cache))?);
        let mut runs = self.levels().runs.clone();
        let start = runs.iter().position(|run| Arc::ptr_eq(run, &old[0])).unwrap_or(0);
        runs.splice(start..start + old.len(), [run]);
        self.replace_manifest(files, files.covered, runs.iter().map(|run| run.entry).collect())?;
        let mut levels = self.levels.write().unwrap_or_else(PoisonError::into_inner);
        *levels = Arc::new(Levels { runs, ..Levels::clone(&levels) });
        files.merged.extend_from_slice(old);
        Ok(())
    }

    fn replace_manifest(
        &self,
        files: &mut FilesState,
        covered: Covered,
        runs: Vec<RunEntry>,
    ) -> Result<(), IndexError> {
        if files.manifest == ManifestState::Kept {
            IndexManifest { covered, next_run: files.next_run, runs }
                .replace(&*self.disk, self.store)?;
        }
        files.covered = covered;
        Ok(())
    }

    /// Takes the manifest away once damage was found, so that opening rebuilds the index.
    fn heed_damage(&self, files: &mut FilesState) {
        if files.manifest == ManifestState::Kept && lock(&self.status).damage.is_some() {
            match manifest::remove_manifest(&*self.disk) {
                Ok(()) => files.manifest = ManifestState::Given,
                Err(error) => {
                    tracing::warn!(%error, "the manifest of the damaged index could not be removed")
                }
            }
        }
    }

    /// Removes the files of merged runs that nobody reads. What stays is removed by a later
    /// opening.
    fn bury(&self, files: &mut FilesState) {
        files.merged.retain(|run| {
            let read = Arc::strong_count(run) > 1;
            read || remove_if_there(&*self.disk, &run_name(run.entry.number)).is_err()
        });
    }

    /// Removes what a failed flush or merge left.
    fn remove_remains(&self, number: u64) {
        for name in [temporary(&run_name(number)), run_name(number)] {
            // It takes room, but harms nothing: opening removes it.
            let _ = remove_if_there(&*self.disk, &name);
        }
    }

    fn run_entries(&self) -> Vec<RunEntry> {
        self.levels().runs.iter().map(|run| run.entry).collect()
    }
}

/// Patience of a merge: until it is done, or until a flush is in a hurry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    UntilDone,
    UntilHurried,
}

impl RunWriter<'_> {
    fn push_sorted(&mut self, key: &[u8], value: &Value<'_>) -> Result<(), IndexError> {
        use super::block::IndexEntry;
        match value {
            Value::Positions { ordinal, positions } => {
                self.push_positions(key, *ordinal, positions)
            }
            Value::Address(address) => {
                self.push(IndexEntry { key, at: *address, ordinal: 0, value: &[] })
            }
            Value::Bytes(value) => self.push(IndexEntry { key, at: 0, ordinal: 0, value }),
        }
    }
}

/// No invariant of these values spans a panic. Says so when the index's thread ends by a panic: the
/// writer, which waits for room, is told instead of left waiting.
struct PanicReport<'a>(&'a SharedIndex);

impl Drop for PanicReport<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let panicked = io::Error::other("the index's thread panicked, open the store again");
            lock(&self.0.status).fault = Some(IndexError::io("index", &panicked));
            self.0.end_work();
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
