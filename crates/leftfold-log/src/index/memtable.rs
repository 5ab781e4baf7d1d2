//! The part of the index that is in memory. The same type is the writer's view of the group that it gathers.

use bytes::Bytes;
use leftfold_core::store::{Position, Version};

use super::Key;

/// Entries in memory, unsorted.
///
/// Positions must be added in increasing order. Made by [`Index::pending`](super::Index::pending), so that all tables
/// of one index share one random hash seed and a key is hashed once.
#[derive(Debug)]
pub(crate) struct Memtable;

impl Memtable {
    /// Adds an event: its type, its stream and the category of that, its tags, and the id that its caller brought.
    pub(crate) fn add_event<'a>(
        &mut self,
        _position: Position,
        _event_type: &str,
        _stream: Option<(&str, Version)>,
        _tags: impl IntoIterator<Item = &'a str>,
        _id: Option<&[u8; 16]>,
    ) {
    }
    /// Adds the place of a command record.
    pub(crate) fn add_command(&mut self, _id: &[u8; 16], _address: u64) {}
    /// Adds the place of a consumer's checkpoint record, which is from now on its latest.
    pub(crate) fn add_checkpoint(&mut self, _consumer: &str, _address: u64) {}
    /// Adds a cached value, which replaces one under the same key.
    pub(crate) fn put_snapshot(&mut self, _key: &[u8], _value: Bytes) {}
    /// Whether it has no entry.
    pub(crate) fn is_empty(&self) -> bool {
        true
    }
    /// Drops what was added: a group that was given up.
    pub(crate) fn clear(&mut self) {}
    /// The version of a stream after what was added; nothing where none of its events was.
    pub(crate) fn version(&self, _stream: &str) -> Option<Version> {
        None
    }
    /// The first position after `after` in the list of a key.
    pub(crate) fn first_after(&self, _key: Key<'_>, _after: Position) -> Option<Position> {
        None
    }
    /// The address of a command record.
    pub(crate) fn command(&self, _id: &[u8; 16]) -> Option<u64> {
        None
    }
    /// The address of a consumer's latest checkpoint record.
    pub(crate) fn checkpoint(&self, _consumer: &str) -> Option<u64> {
        None
    }
}
