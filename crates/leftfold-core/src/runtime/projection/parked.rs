//! Parked items: events that wait for a person, and those that wait behind them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::runtime::consumer::shortened_to;
use crate::store::{Position, RecordedEvent};

/// Bytes of an error, or of a person's name, that are kept.
pub(super) const ERROR_BYTES_MAX: usize = 1_000;

/// An event that was not applied, and waits for a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Position of the event in the log.
    pub position: Position,
    /// The key that waits with it; if the event cannot be read, its stream.
    pub key: String,
    /// The stream of the event, empty if it is in none.
    pub stream: String,
    /// Reason why it was not applied.
    pub state: ParkedState,
}

/// Reason why an event was not applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParkedState {
    /// It failed.
    Failed {
        /// Message of the last failure.
        error: String,
        /// Number of tries.
        attempts: u32,
    },
    /// It cannot be read, or has no key: later events of its stream wait too.
    Unreadable {
        /// Reason, for people.
        error: String,
    },
    /// An earlier event of its key, or one of its stream that cannot be read, is parked.
    Waits,
}

impl ParkedState {
    pub(super) fn failed(error: &str, attempts: u32) -> Self {
        Self::Failed { error: shortened_to(ERROR_BYTES_MAX, error.to_owned()), attempts }
    }

    pub(super) fn unreadable(error: &str) -> Self {
        Self::Unreadable { error: shortened_to(ERROR_BYTES_MAX, error.to_owned()) }
    }

    /// Returns the message of the failure, if there is one.
    #[must_use]
    pub fn error(&self) -> Option<&str> {
        match self {
            Self::Failed { error, .. } | Self::Unreadable { error } => Some(error),
            Self::Waits => None,
        }
    }

    fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }
}

/// The stream of an event as parked items name it.
pub(super) fn stream_of(event: &RecordedEvent) -> &str {
    event.stream.as_ref().map_or("", |at| at.name.as_str())
}

/// Everything that is parked, at most [`PARKED_MAX`](super::PARKED_MAX) items.
#[derive(Clone, Debug, Default)]
pub(super) struct ParkedSet {
    items: BTreeMap<Position, Parked>,
    /// The items of each key.
    keys: HashMap<String, BTreeSet<Position>>,
    /// The unreadable events of each stream.
    streams: HashMap<String, BTreeSet<Position>>,
}

impl ParkedSet {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn extend(&mut self, other: Self) {
        other.items.into_values().for_each(|item| self.insert(item));
    }

    pub(super) fn items(&self) -> impl Iterator<Item = &Parked> {
        self.items.values()
    }

    pub(super) fn find(&self, position: Position) -> Option<&Parked> {
        self.items.get(&position)
    }

    /// The first item of a key.
    pub(super) fn first_of(&self, key: &str) -> Option<&Parked> {
        self.items.get(self.keys.get(key)?.first()?)
    }

    /// The first item of each key, in order of the log.
    pub(super) fn firsts(&self) -> Vec<Parked> {
        let is_first = |item: &&Parked| {
            self.keys.get(&item.key).and_then(BTreeSet::first) == Some(&item.position)
        };
        self.items.values().filter(is_first).cloned().collect()
    }

    pub(super) fn has_key(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Tells whether an event of a stream waits because an earlier one of it cannot be read. Other
    /// lanes may know of a later one.
    pub(super) fn has_unreadable_before(&self, stream: &str, position: Position) -> bool {
        let first = self.streams.get(stream).and_then(BTreeSet::first);
        first.is_some_and(|first| *first < position)
    }

    /// Tells whether an event of a stream cannot be read.
    pub(super) fn has_unreadable(&self, stream: &str) -> bool {
        self.streams.contains_key(stream)
    }

    /// The keys of a stream's items that wait, each once.
    pub(super) fn keys_in(&self, stream: &str) -> Vec<String> {
        let mut keys: Vec<String> = self
            .items
            .values()
            .filter(|item| item.stream == stream)
            .map(|item| item.key.clone())
            .collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub(super) fn insert(&mut self, item: Parked) {
        self.remove(item.position);
        self.keys.entry(item.key.clone()).or_default().insert(item.position);
        if item.state.is_unreadable() {
            self.streams.entry(item.stream.clone()).or_default().insert(item.position);
        }
        self.items.insert(item.position, item);
    }

    pub(super) fn remove(&mut self, position: Position) -> Option<Parked> {
        let item = self.items.remove(&position)?;
        forget(&mut self.keys, &item.key, position);
        forget(&mut self.streams, &item.stream, position);
        Some(item)
    }
}

fn forget(all: &mut HashMap<String, BTreeSet<Position>>, of: &str, position: Position) {
    if let Some(positions) = all.get_mut(of) {
        positions.remove(&position);
        if positions.is_empty() {
            all.remove(of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(position: u64, key: &str, stream: &str, state: ParkedState) -> Parked {
        Parked {
            position: Position(position),
            key: key.to_owned(),
            stream: stream.to_owned(),
            state,
        }
    }

    #[test]
    fn a_key_is_free_when_its_last_item_is_gone() {
        let mut set = ParkedSet::default();
        set.insert(item(1, "a", "s", ParkedState::failed("no", 3)));
        set.insert(item(2, "a", "s", ParkedState::Waits));
        set.insert(item(1, "a", "s", ParkedState::failed("still no", 4)));
        assert_eq!(set.first_of("a").map(|item| item.position), Some(Position(1)));
        set.remove(Position(1));
        assert!(set.has_key("a"));
        set.remove(Position(2));
        assert!(!set.has_key("a") && set.is_empty());
    }

    #[test]
    fn an_item_waits_for_what_cannot_be_read_before_it_in_its_stream() {
        let mut set = ParkedSet::default();
        set.insert(item(3, "s", "s", ParkedState::unreadable("no JSON")));
        for (stream, position, waits) in [("s", 5, true), ("s", 2, false), ("t", 5, false)] {
            assert_eq!(
                set.has_unreadable_before(stream, Position(position)),
                waits,
                "{stream} {position}"
            );
        }
        set.insert(item(3, "s", "s", ParkedState::failed("no", 1)));
        assert!(!set.has_unreadable_before("s", Position(5)));
    }

    #[test]
    fn an_error_is_cut_between_characters() {
        let error = "ä".repeat(600);
        let ParkedState::Failed { error, .. } = ParkedState::failed(&error, 1) else { panic!() };
        assert_eq!(error, "ä".repeat(500));
    }
}
