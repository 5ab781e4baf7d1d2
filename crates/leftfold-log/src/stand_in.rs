//! A stand-in for the index, in memory.
#![allow(missing_docs)]
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, RwLock};

use bytes::Bytes;
use bytestring::ByteString;
use leftfold_core::store::{Direction, Hash, Position, StoreId, Version};

use crate::disk::Disk;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("{file} {offset} {detail}")]
    Damaged { file: String, offset: u64, detail: &'static str },
    #[error("{file} {kind} {detail}")]
    Io { file: String, kind: io::ErrorKind, detail: String },
}
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListError {
    #[error("too many")]
    TooMany { prefix: String, limit: usize },
    #[error(transparent)]
    Index(#[from] IndexError),
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key<'a> {
    Stream(&'a str),
    Category(&'a str),
    Type(&'a str),
    Tag(&'a str),
    EventId(&'a [u8; 16]),
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Stream = 1,
    Type = 3,
}
fn raw(key: Key<'_>) -> Vec<u8> {
    let (kind, bytes) = match key {
        Key::Stream(name) => (1, name.as_bytes()),
        Key::Category(name) => (2, name.as_bytes()),
        Key::Type(name) => (3, name.as_bytes()),
        Key::Tag(name) => (4, name.as_bytes()),
        Key::EventId(id) => (5, id.as_slice()),
    };
    let mut out = vec![kind];
    out.extend_from_slice(bytes);
    out
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covered {
    pub(crate) position: Position,
    pub(crate) address: u64,
    pub(crate) hash: Hash,
}
impl Covered {
    pub(crate) const NONE: Self = Self { position: Position::START, address: 0, hash: Hash::EMPTY };
}
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) memory_bytes: usize,
    pub(crate) upkeep: Upkeep,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upkeep {
    Thread,
    Inline,
}
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) index: Index,
    pub(crate) covered: Covered,
    pub(crate) discarded: Option<String>,
}
#[derive(Debug, Default, Clone)]
pub(crate) struct Memtable {
    lists: BTreeMap<Vec<u8>, Vec<u64>>,
    versions: HashMap<String, Version>,
    addresses: HashMap<Vec<u8>, u64>,
    snapshots: HashMap<Vec<u8>, Bytes>,
}
impl Memtable {
    pub(crate) fn add_event<'a>(
        &mut self,
        position: Position,
        event_type: &str,
        stream: Option<(&str, Version)>,
        tags: impl IntoIterator<Item = &'a str>,
        id: Option<&[u8; 16]>,
    ) {
        let mut add = |key| self.lists.entry(raw(key)).or_default().push(position.0);
        add(Key::Type(event_type));
        if let Some((stream, version)) = stream {
            add(Key::Stream(stream));
            add(Key::Category(stream.split_once('-').map_or(stream, |(c, _)| c)));
            self.versions.insert(stream.to_owned(), version);
        }
        for tag in tags {
            add(Key::Tag(tag));
        }
        if let Some(id) = id {
            add(Key::EventId(id));
        }
    }
    pub(crate) fn add_command(&mut self, id: &[u8; 16], address: u64) {
        self.addresses.insert([&[6], id.as_slice()].concat(), address);
    }
    pub(crate) fn add_checkpoint(&mut self, consumer: &str, address: u64) {
        self.addresses.insert([&[7], consumer.as_bytes()].concat(), address);
    }
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
    pub(crate) fn version(&self, stream: &str) -> Option<Version> {
        self.versions.get(stream).copied()
    }
    pub(crate) fn first_after(&self, key: Key<'_>, after: Position) -> Option<Position> {
        let list = self.lists.get(&raw(key))?;
        list.get(list.partition_point(|p| *p <= after.0)).copied().map(Position)
    }
    pub(crate) fn command(&self, id: &[u8; 16]) -> Option<u64> {
        self.addresses.get(&[&[6], id.as_slice()].concat()).copied()
    }
    pub(crate) fn checkpoint(&self, consumer: &str) -> Option<u64> {
        self.addresses.get(&[&[7], consumer.as_bytes()].concat()).copied()
    }
}
#[derive(Debug)]
pub(crate) struct Postings(std::vec::IntoIter<u64>, Option<u64>, Direction);
impl Postings {
    pub(crate) fn seek(&mut self, position: Position) {
        while let Some(p) = self.0.as_slice().first() {
            if if self.2 == Direction::Forwards { *p < position.0 } else { *p > position.0 } { self.0.next(); } else { break; }
        }
    }
}
impl Iterator for Postings {
    type Item = Result<Position, IndexError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|p| Ok(Position(p)))
    }
}
#[derive(Debug, Clone)]
pub(crate) struct Index(Arc<RwLock<Memtable>>);
#[derive(Debug, Clone)]
pub(crate) struct Recent(Arc<RwLock<Memtable>>);
impl Index {
    pub(crate) fn open(_disk: Arc<dyn Disk>, _store: StoreId, settings: Settings) -> Result<Opened, IndexError> {
        let _ = (settings.memory_bytes, settings.upkeep);
        Ok(Opened { index: Self(Arc::default()), covered: Covered::NONE, discarded: None })
    }
    pub(crate) fn pending(&self) -> Memtable {
        Memtable::default()
    }
    pub(crate) fn make_room(&self) -> Result<(), IndexError> {
        Ok(())
    }
    pub(crate) fn insert_group(&self, group: &mut Memtable, _covered: Covered) {
        let mut all = self.0.write().unwrap();
        for (key, list) in std::mem::take(&mut group.lists) {
            all.lists.entry(key).or_default().extend(list);
        }
        all.versions.extend(std::mem::take(&mut group.versions));
        all.addresses.extend(std::mem::take(&mut group.addresses));
    }
    pub(crate) fn flush(&self, _covered: Covered) -> Result<(), IndexError> {
        Ok(())
    }
    fn list(&self, key: Key<'_>, through: Position) -> Vec<u64> {
        let all = self.0.read().unwrap();
        let list = all.lists.get(&raw(key)).cloned().unwrap_or_default();
        list.into_iter().filter(|p| *p <= through.0).collect()
    }
    pub(crate) fn stream_version(&self, stream: &str, through: Position) -> Result<Version, IndexError> {
        Ok(Version(self.list(Key::Stream(stream), through).len() as u64))
    }
    pub(crate) fn position_of(&self, stream: &str, version: Version) -> Result<Option<Position>, IndexError> {
        Ok(self.list(Key::Stream(stream), Position::END).get(version.0 as usize - 1).copied().map(Position))
    }
    pub(crate) fn postings(&self, key: Key<'_>, from: Position, direction: Direction, through: Position) -> Postings {
        let mut list = self.list(key, through);
        if direction == Direction::Backwards {
            list.reverse();
            list.retain(|p| *p <= from.0);
        } else {
            list.retain(|p| *p >= from.0);
        }
        Postings(list.into_iter(), None, direction)
    }
    pub(crate) fn command(&self, id: &[u8; 16]) -> Result<Option<u64>, IndexError> {
        Ok(self.0.read().unwrap().command(id))
    }
    pub(crate) fn checkpoint(&self, consumer: &str) -> Result<Option<u64>, IndexError> {
        Ok(self.0.read().unwrap().checkpoint(consumer))
    }
    pub(crate) fn snapshot(&self, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        Ok(self.0.read().unwrap().snapshots.get(key).cloned())
    }
    pub(crate) fn keep_snapshot(&self, key: &[u8], value: Bytes) {
        self.0.write().unwrap().snapshots.insert(key.to_vec(), value);
    }
    pub(crate) fn keys_with_prefix(&self, kind: Kind, prefix: &str, limit: usize) -> Result<Vec<ByteString>, ListError> {
        let all = self.0.read().unwrap();
        let keys = all.lists.keys().filter(|k| k[0] == kind as u8 && k[1..].starts_with(prefix.as_bytes()));
        let keys: Vec<ByteString> = keys.map(|k| std::str::from_utf8(&k[1..]).unwrap().into()).collect();
        if keys.len() > limit { return Err(ListError::TooMany { prefix: prefix.into(), limit }); }
        Ok(keys)
    }
    pub(crate) fn recent(&self) -> Recent {
        Recent(Arc::clone(&self.0))
    }
}
impl Recent {
    pub(crate) fn since(&self) -> Position {
        Position::START
    }
    pub(crate) fn version(&self, stream: &str) -> Option<Version> {
        self.0.read().unwrap().version(stream)
    }
    pub(crate) fn first_after(&self, key: Key<'_>, after: Position) -> Option<Position> {
        self.0.read().unwrap().first_after(key, after)
    }
    pub(crate) fn command(&self, id: &[u8; 16]) -> Option<u64> {
        self.0.read().unwrap().command(id)
    }
    pub(crate) fn checkpoint(&self, consumer: &str) -> Option<u64> {
        self.0.read().unwrap().checkpoint(consumer)
    }
}
