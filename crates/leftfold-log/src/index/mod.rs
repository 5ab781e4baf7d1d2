//! The index of the log: from streams, categories, types, tags and ids to positions, and from command ids and consumers
//! to addresses. Derived: deleted and rebuilt from the log whenever it is doubted.

mod error;
mod key;
mod memtable;
mod postings;

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use leftfold_core::store::{Direction, Hash, Position, StoreId, Version};

use crate::disk::Disk;

pub(crate) use error::{IndexError, ListError};
pub(crate) use key::{Key, Kind};
pub(crate) use memtable::Memtable;
pub(crate) use postings::Postings;

/// How far into the log an index goes: to the end of some group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    /// The last position.
    pub(crate) position: Position,
    /// The address where the next group begins.
    pub(crate) address: u64,
    /// The chain hash there.
    pub(crate) hash: Hash,
}

impl Covered {
    /// Nothing is covered: the index is to be built from the first segment on.
    pub(crate) const NONE: Self = Self { position: Position::START, address: 0, hash: Hash::EMPTY };
}

/// How an index lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Bytes of memory for all of it. A quarter is for entries that are gathered, a quarter for those gathered before
    /// (on their way to a file, or kept for [`Recent`] when they are there), and half for pages of files.
    pub(crate) memory_bytes: usize,
    /// Who writes and merges files.
    pub(crate) upkeep: Upkeep,
}

/// Who writes and merges files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upkeep {
    /// A thread of the index.
    Thread,
    /// Whoever inserts: every use of the disk has its fixed place, so that a simulated run can be repeated.
    Inline,
}

/// An index that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    /// The index.
    pub(crate) index: Index,
    /// What it covers: insert what the log holds from there on.
    pub(crate) covered: Covered,
    /// Why files that were there were deleted, where they were: the index is empty then, and covers nothing.
    pub(crate) discarded: Option<String>,
}

/// The index. Shared by one writer and any number of readers.
#[derive(Debug)]
pub(crate) struct Index;

impl Index {
    /// Opens what the files hold. Where they are damaged, foreign, or of another version, they are deleted.
    pub(crate) fn open(_disk: Arc<dyn Disk>, _store: StoreId, _settings: Settings) -> Result<Opened, IndexError> {
        Ok(Opened { index: Self, covered: Covered::NONE, discarded: None })
    }

    /// Deletes every file of an index that is not open: when it covers more than the log holds, or another history.
    pub(crate) fn discard(_disk: &dyn Disk) -> Result<(), IndexError> {
        Ok(())
    }

    /// An empty table for the group that the writer gathers.
    pub(crate) fn pending(&self) -> Memtable {
        Memtable
    }

    /// Makes room for the next group: called by the writer before it gathers one. Returns at once, but where the table
    /// in memory is full and the one before it is not yet in a file, it waits for that.
    ///
    /// An error means that memory cannot be relieved (the disk is full, broken, or a file damaged): append nothing
    /// until a later call succeeds. Each call tries again, but after damage, which only opening again mends.
    pub(crate) fn make_room(&self) -> Result<(), IndexError> {
        Ok(())
    }

    /// Takes the entries of a durable group over and leaves `group` empty. Called by the single writer, before it
    /// publishes the head that includes the group.
    ///
    /// It never fails and never waits for the disk (with [`Upkeep::Inline`] it does use the disk, and what fails is
    /// reported by the next [`make_room`](Self::make_room)).
    pub(crate) fn insert_group(&self, _group: &mut Memtable, _covered: Covered) {}

    /// Brings everything into files, merges small ones, and makes that durable: at a close, with what the seal covers.
    pub(crate) fn flush(&self, _covered: Covered) -> Result<(), IndexError> {
        Ok(())
    }

    /// The version of a stream, counting its events up to and including `through`.
    pub(crate) fn stream_version(&self, _stream: &str, _through: Position) -> Result<Version, IndexError> {
        Ok(Version::ABSENT)
    }

    /// Where the event is that has this version in its stream.
    pub(crate) fn position_of(&self, _stream: &str, _version: Version) -> Result<Option<Position>, IndexError> {
        Ok(None)
    }

    /// The positions of a key: forwards those at and after `from`, backwards those at and before it; none after
    /// `through`, which is the head that the caller reads at.
    pub(crate) fn postings(&self, _key: Key<'_>, _from: Position, _direction: Direction, _through: Position) -> Postings {
        Postings
    }

    /// The first position after `after` in the list of a key: the question of a condition.
    pub(crate) fn first_after(&self, _key: Key<'_>, _after: Position) -> Result<Option<Position>, IndexError> {
        Ok(None)
    }

    /// The address of the record of a command.
    pub(crate) fn command(&self, _id: &[u8; 16]) -> Result<Option<u64>, IndexError> {
        Ok(None)
    }

    /// The address of the latest checkpoint record of a consumer.
    pub(crate) fn checkpoint(&self, _consumer: &str) -> Result<Option<u64>, IndexError> {
        Ok(None)
    }

    /// The value last kept under a key, if it is still there.
    pub(crate) fn snapshot(&self, _key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        Ok(None)
    }

    /// Keeps a value, from any thread. It waits for no disk: where memory is full, or the value is over
    /// `SNAPSHOT_BYTES_MAX`, it is not kept.
    pub(crate) fn keep_snapshot(&self, _key: &[u8], _value: Bytes) {}

    /// The keys of a kind of text that begin so, in order. Some may have no position up to the caller's head.
    pub(crate) fn keys_with_prefix(&self, _kind: Kind, _prefix: &str, _limit: usize) -> Result<Vec<ByteString>, ListError> {
        Ok(Vec::new())
    }

    /// What is in memory, for the writer: it never touches the disk.
    pub(crate) fn recent(&self) -> Recent {
        Recent
    }
}

/// What is in memory, as the writer asks for it. It always goes back over at least one full table, or to the position
/// where the index was opened.
#[derive(Clone, Debug)]
pub(crate) struct Recent;

impl Recent {
    /// Everything after this position is in memory: for a later `after`, the answers below are complete.
    pub(crate) fn since(&self) -> Position {
        Position::START
    }

    /// The version of a stream that has an event after [`since`](Self::since).
    pub(crate) fn version(&self, _stream: &str) -> Option<Version> {
        None
    }

    /// The first position after `after` in the list of a key.
    pub(crate) fn first_after(&self, _key: Key<'_>, _after: Position) -> Option<Position> {
        None
    }

    /// The address of the record of a command.
    pub(crate) fn command(&self, _id: &[u8; 16]) -> Option<u64> {
        None
    }

    /// The address of the latest checkpoint record of a consumer.
    pub(crate) fn checkpoint(&self, _consumer: &str) -> Option<u64> {
        None
    }
}
