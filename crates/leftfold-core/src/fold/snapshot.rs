//! Snapshots: a cached fold at a version, never the truth.
//!
//! A snapshot is used only if it was made by the same fold (its explicit version), of the same shape, from this very
//! history: the event that it ends with must stand in the stream where the snapshot says. Anything else is ignored,
//! and replaced by the next one. Now and then a fold from a snapshot is compared with a fold from the beginning, which
//! finds the fold version that someone forgot to raise.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::Aggregate;
use super::cache::Folded;
use super::shape::fingerprint;
use crate::store::{Position, StoreId, StreamName, Version};

/// When a snapshot is made: with the command, or the load, that finds either bound reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotPolicy {
    every_events: Option<u64>,
    every: Option<Duration>,
}

impl SnapshotPolicy {
    /// No snapshots: most streams are short.
    #[must_use]
    pub const fn never() -> Self {
        Self { every_events: None, every: None }
    }

    /// After so many events since the last one, at least 1.
    #[must_use]
    pub const fn every_events(events: u64) -> Self {
        Self { every_events: Some(if events == 0 { 1 } else { events }), every: None }
    }

    /// When the oldest event that is in no snapshot is so old.
    #[must_use]
    pub const fn every(duration: Duration) -> Self {
        Self { every_events: None, every: Some(duration) }
    }

    /// Also when the oldest event that is in no snapshot is so old.
    #[must_use]
    pub const fn or_every(mut self, duration: Duration) -> Self {
        self.every = Some(duration);
        self
    }

    /// Whether there are snapshots at all.
    pub(super) fn is_never(self) -> bool {
        self == Self::never()
    }

    pub(super) fn is_due(self, events: u64, waiting: Duration) -> bool {
        events > 0 && (self.every_events.is_some_and(|n| events >= n) || self.every.is_some_and(|d| waiting >= d))
    }
}

/// A stored snapshot.
#[derive(Serialize, Deserialize)]
struct Stored<A> {
    version: u64,
    position: u64,
    state: A,
}

/// The key of an aggregate's snapshot: another store, fold version or shape is another key.
pub(super) fn key<A: Aggregate>(store: StoreId, stream: &StreamName) -> Bytes {
    let mut key = Vec::with_capacity(40 + stream.len());
    key.extend_from_slice(b"fold");
    key.extend_from_slice(store.0.as_bytes());
    key.extend_from_slice(&A::FOLD_VERSION.to_le_bytes());
    key.extend_from_slice(&fingerprint::<A>());
    key.extend_from_slice(stream.as_bytes());
    Bytes::from(key)
}

/// The bytes of a snapshot; none where the state does not serialize, which costs speed and nothing else.
pub(super) fn encode<A: Aggregate>(folded: &Folded<A>) -> Option<Bytes> {
    let stored = Stored { version: folded.version.0, position: folded.position.0, state: &folded.state };
    let json = serde_json::to_vec(&stored).ok()?;
    let mut bytes = blake3::hash(&json).as_bytes()[..8].to_vec();
    bytes.extend_from_slice(&json);
    Some(Bytes::from(bytes))
}

/// The snapshot, unless it is damaged; still to be held against the stream.
pub(super) fn decode<A: Aggregate>(bytes: &[u8]) -> Option<Folded<A>> {
    let (sum, json) = bytes.split_at_checked(8)?;
    if blake3::hash(json).as_bytes()[..8] != *sum {
        return None;
    }
    let stored: Stored<A> = serde_json::from_slice(json).ok()?;
    Some(Folded { state: stored.state, version: Version(stored.version), position: Position(stored.position) })
}
