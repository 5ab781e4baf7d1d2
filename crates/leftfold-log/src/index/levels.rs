//! All parts of the index at one moment. Parts cover disjoint ranges of positions, the newest in
//! memory.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use bytes::Bytes;
use leftfold_core::store::{Direction, Position, Version};

use super::chunk::CHUNK_POSITIONS;
use super::error::IndexError;
use super::key::{PostingKey, RawKey};
use super::memtable::Memtable;
use super::run::SortedRun;
use super::{Covered, Memory};

/// Levels that readers see. Replaced as a whole, so that a flush or a merge is seen at once or not
/// at all; only the active table changes, and it only grows.
#[derive(Clone, Debug)]
pub(super) struct Levels {
    /// Takes new entries.
    pub(super) active: Memory,
    /// Took them before. It stays when it is in a file, so that the writer's questions find at
    /// least one full table in memory, and goes when the active one takes its place.
    pub(super) previous: Option<RetiredTable>,
    /// Everything after this is in memory.
    pub(super) since: Covered,
    /// Oldest first.
    pub(super) runs: Vec<Arc<SortedRun>>,
}

/// A table that takes nothing any more.
#[derive(Clone, Debug)]
pub(super) struct RetiredTable {
    pub(super) table: Memory,
    /// End of the table.
    pub(super) covered: Covered,
    /// Place of the table: if it is in a run too, readers need not ask both.
    pub(super) place: PlaceOfRetired,
}

/// Place of a table that takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PlaceOfRetired {
    /// Only in memory.
    Memory,
    /// In the newest runs too.
    File,
}

/// A table, to be read.
pub(super) fn read(table: &RwLock<Memtable>) -> RwLockReadGuard<'_, Memtable> {
    // A table whose change panicked was fed wrongly; what it holds is still sorted and within
    // bounds.
    table.read().unwrap_or_else(PoisonError::into_inner)
}

impl Levels {
    /// Returns the previous table if it is not in a file yet.
    pub(super) fn frozen(&self) -> Option<&RetiredTable> {
        self.previous.as_ref().filter(|previous| previous.place == PlaceOfRetired::Memory)
    }

    /// Returns the tables in memory, newest first.
    pub(super) fn tables(&self) -> impl Iterator<Item = &RwLock<Memtable>> {
        std::iter::once(&*self.active)
            .chain(self.previous.as_ref().map(|previous| &*previous.table))
    }

    /// Returns the number of parts that hold positions, each position in one part:
    /// [`positions`](Self::positions) numbers them from the oldest.
    pub(super) fn parts(&self) -> usize {
        self.runs.len() + usize::from(self.frozen().is_some()) + 1
    }

    /// Adds some positions of a key in one part to `out`, from `bound` on in a direction, in that
    /// order; none if there are no more.
    pub(super) fn positions(
        &self,
        part: usize,
        key: RawKey<'_>,
        raw: &[u8],
        bound: u64,
        direction: Direction,
        out: &mut Vec<u64>,
    ) -> Result<(), IndexError> {
        let Some(run) = self.runs.get(part) else {
            let frozen = self.frozen().filter(|_| part == self.runs.len());
            let table = frozen.map_or(&self.active, |frozen| &frozen.table);
            read(table).positions(key, bound, direction, CHUNK_POSITIONS, out);
            return Ok(());
        };
        let outside = match direction {
            Direction::Forwards => run.entry.through < bound,
            Direction::Backwards => run.entry.after >= bound,
        };
        if outside { Ok(()) } else { run.positions(raw, bound, direction, out) }
    }

    pub(super) fn stream_version(
        &self,
        stream: &str,
        through: Position,
    ) -> Result<Version, IndexError> {
        if let Some(version) =
            self.tables().find_map(|table| read(table).version_through(stream, through))
        {
            return Ok(version);
        }
        let raw = RawKey::from(PostingKey::Stream(stream)).to_vec();
        for run in self.runs.iter().rev().filter(|run| run.entry.after < through.0) {
            if let Some(version) = run.version_through(&raw, through.0)? {
                return Ok(version);
            }
        }
        Ok(Version::ABSENT)
    }

    pub(super) fn position_of(
        &self,
        stream: &str,
        version: Version,
    ) -> Result<Option<Position>, IndexError> {
        if let Some(position) =
            self.tables().find_map(|table| read(table).position_of(stream, version))
        {
            return Ok(Some(position));
        }
        let raw = RawKey::from(PostingKey::Stream(stream)).to_vec();
        for run in self.runs.iter().rev() {
            if let Some(position) = run.position_of(&raw, version)? {
                return Ok(Some(Position(position)));
            }
        }
        Ok(None)
    }

    #[cfg(test)]
    pub(super) fn first_after(
        &self,
        key: PostingKey<'_>,
        after: Position,
    ) -> Result<Option<Position>, IndexError> {
        let Some(bound) = after.0.checked_add(1) else { return Ok(None) };
        if after >= self.since.position {
            return Ok(self.recent_first_after(key, after));
        }
        let key = RawKey::from(key);
        let raw = key.to_vec();
        let mut found = Vec::new();
        for part in 0..self.parts() {
            self.positions(part, key, &raw, bound, Direction::Forwards, &mut found)?;
            if let Some(&first) = found.first() {
                return Ok(Some(Position(first)));
            }
        }
        Ok(None)
    }

    pub(super) fn recent_first_after(
        &self,
        key: PostingKey<'_>,
        after: Position,
    ) -> Option<Position> {
        let previous = self
            .previous
            .as_ref()
            .and_then(|previous| read(&previous.table).first_after(key, after));
        previous.or_else(|| read(&self.active).first_after(key, after))
    }

    /// The address of a record that is in files.
    pub(super) fn address_in_runs(&self, key: RawKey<'_>) -> Result<Option<u64>, IndexError> {
        self.in_runs(&key.to_vec(), |entry| entry.at)
    }

    pub(super) fn snapshot(&self, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        match self.tables().find_map(|table| read(table).snapshot(key)) {
            Some(value) => Ok(Some(value)),
            None => self.in_runs(&RawKey::snapshot(key).to_vec(), |entry| {
                Bytes::copy_from_slice(entry.value)
            }),
        }
    }

    fn in_runs<T>(
        &self,
        raw: &[u8],
        of: impl Fn(super::block::IndexEntry<'_>) -> T,
    ) -> Result<Option<T>, IndexError> {
        for run in self.runs.iter().rev() {
            if let Some(found) = run.value(raw, &of)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}
