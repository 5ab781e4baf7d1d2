//! Snapshots: a cached fold at a version, never the truth.
//!
//! A snapshot is used only if it was made by the same fold (its explicit version), of the same
//! shape, from this very history: the event that it ends with must stand in the stream where the
//! snapshot says. Anything else is ignored, and replaced by the next one. The first snapshots of
//! each type after a program's start, and later one now and then, are compared with a fold from the
//! beginning, which finds the fold version that someone forgot to raise.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::aggregate::Aggregate;
use super::cache::Folded;
use crate::json::{self, Unfaithful};
use crate::store::{Position, StoreId, StreamName, Version};

/// A stored snapshot.
#[derive(Serialize, Deserialize)]
struct StoredFold<A> {
    version: u64,
    position: u64,
    state: A,
}

/// Returns the key of an aggregate's snapshot: another store, fold version or type of state is
/// another key.
pub(super) fn key<A: Aggregate>(store: StoreId, stream: &StreamName) -> Bytes {
    let mut key = Vec::with_capacity(40 + stream.len());
    key.extend_from_slice(b"fold");
    key.extend_from_slice(store.0.as_bytes());
    key.extend_from_slice(&A::FOLD_VERSION.to_le_bytes());
    key.extend_from_slice(&blake3::hash(short_name::<A>().as_bytes()).as_bytes()[..16]);
    key.extend_from_slice(stream.as_bytes());
    Bytes::from(key)
}

/// The name of a type without modules and parameters: several folds of one category, each with a
/// state of its own, are told apart, and a type that was moved is still itself.
fn short_name<T>() -> &'static str {
    let name = std::any::type_name::<T>();
    let plain = name.split('<').next().unwrap_or(name);
    plain.rsplit("::").next().unwrap_or(plain)
}

/// Encodes a snapshot, if the state is read from its bytes as it is.
pub(super) fn encode<A: Aggregate>(folded: &Folded<A>) -> Result<Bytes, Unfaithful> {
    let state = json::encode(&folded.state)?;
    let mut json =
        format!(r#"{{"version":{},"position":{},"state":"#, folded.version.0, folded.position.0)
            .into_bytes();
    json.extend_from_slice(&state);
    json.push(b'}');
    let mut bytes = blake3::hash(&json).as_bytes()[..8].to_vec();
    bytes.extend_from_slice(&json);
    Ok(Bytes::from(bytes))
}

/// Decodes a snapshot; `None` if it is damaged or has another shape. It has yet to be compared with
/// the stream.
///
/// JSON of another shape may parse by accident, a renamed field with a default being silently
/// empty. So what was read is written again, and must be what is stored.
pub(super) fn decode<A: Aggregate>(bytes: &[u8]) -> Option<Folded<A>> {
    let (sum, json) = bytes.split_at_checked(8)?;
    if blake3::hash(json).as_bytes()[..8] != *sum {
        return None;
    }
    let stored: StoredFold<A> = json::decode(json).ok()?;
    if !json::is_written_so(&stored, json) {
        return None;
    }
    Some(Folded {
        state: stored.state,
        version: Version(stored.version),
        position: Position(stored.position),
    })
}

/// Loads from snapshots of each type that are compared with a fold of the events, after a program's
/// start.
pub(super) const FIRST_LOADS: u32 = 8;
/// After those, one load in this number is compared.
const REFOLD_ONE_IN: u32 = 64;
/// Longer histories are not folded again for that, but for the very first of a type.
const REFOLD_EVENTS_MAX: u64 = 100_000;

/// Trust in the snapshots of each type of state.
#[derive(Debug, Default)]
pub(super) struct SnapshotTrust(Mutex<HashMap<TypeId, Agreement>>);

#[derive(Clone, Copy, Debug)]
enum Agreement {
    /// This number of snapshots agreed with a fold of the events.
    Agreed(u32),
    /// One snapshot did not: the others were made by the same fold.
    Lost,
}

/// Use that is made of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SnapshotUse {
    AsItIs,
    IfItAgrees,
    Never,
}

impl SnapshotTrust {
    /// Tells what use to make of a snapshot of this number of events.
    pub(super) fn of<A: Aggregate>(&self, events: u64) -> SnapshotUse {
        let beliefs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match beliefs.get(&TypeId::of::<A>()).copied().unwrap_or(Agreement::Agreed(0)) {
            Agreement::Lost => SnapshotUse::Never,
            Agreement::Agreed(0) => SnapshotUse::IfItAgrees,
            Agreement::Agreed(_) if events > REFOLD_EVENTS_MAX => SnapshotUse::AsItIs,
            Agreement::Agreed(times)
                if times < FIRST_LOADS || fastrand::u32(..REFOLD_ONE_IN) == 0 =>
            {
                SnapshotUse::IfItAgrees
            }
            Agreement::Agreed(_) => SnapshotUse::AsItIs,
        }
    }

    pub(super) fn agreed<A: Aggregate>(&self) {
        let mut beliefs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Agreement::Agreed(times) =
            beliefs.entry(TypeId::of::<A>()).or_insert(Agreement::Agreed(0))
        {
            *times = times.saturating_add(1);
        }
    }

    pub(super) fn lost<A: Aggregate>(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(TypeId::of::<A>(), Agreement::Lost);
    }
}
