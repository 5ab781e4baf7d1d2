//! Snapshots of instances: a cached fold at a version, never the truth.
//!
//! An instance is folded from its stream since its present life began, and each of its reactions
//! from the event that it speaks of. One that never ends would take ever longer to be read. A
//! snapshot is used only if it belongs to this very history and reads as it was written; the first
//! that are used after a start are compared with a fold without them.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Process;
use super::instance::{Instance, InstanceReader, Lifecycle, PendingTimer};
use super::trust::InstanceSnapshotUse;
use crate::fold::LoadError;
use crate::json;
use crate::runtime::json::Json;
use crate::store::{Label, Position, Read, StoreId, StreamName, Timestamp, Version};

/// Rule for the snapshots of a process's instances.
pub struct InstanceSnapshots<P> {
    every: u64,
    code: Option<StateCode<P>>,
}

/// Functions that write and read a state.
struct StateCode<P> {
    write: fn(&P) -> Option<Json>,
    read: fn(&Json) -> Option<P>,
    is_same: fn(&P, &P) -> bool,
}

impl<P> InstanceSnapshots<P> {
    /// None: most instances end after a few reactions.
    #[must_use]
    pub const fn never() -> Self {
        Self { every: 0, code: None }
    }

    /// A snapshot after this number of records of the instance since the last one, at least 1. No
    /// snapshot is made of an instance that waits for a person.
    #[must_use]
    pub fn every_reactions(reactions: u64) -> Self
    where
        P: Serialize + DeserializeOwned,
    {
        let write = |state: &P| Json::of(state).ok();
        // What does not read as it was written was written of another shape.
        let read = |json: &Json| {
            let state: P = json.read().ok()?;
            json.is_of(&state).then_some(state)
        };
        Self {
            every: reactions.max(1),
            code: Some(StateCode { write, read, is_same: json::is_same }),
        }
    }
}

impl<P> fmt::Debug for InstanceSnapshots<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceSnapshots").field("every", &self.every).finish_non_exhaustive()
    }
}

/// An instance as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredInstance {
    version: u64,
    position: u64,
    began: u64,
    ended: bool,
    timers: BTreeMap<String, (Timestamp, u64, bool)>,
    correlation: Option<String>,
    state: Json,
}

fn key<P: Process>(store: StoreId, stream: &StreamName) -> Bytes {
    let mut key = Vec::with_capacity(32 + stream.len());
    key.extend_from_slice(b"instance");
    key.extend_from_slice(store.0.as_bytes());
    key.extend_from_slice(&P::FOLD_VERSION.to_le_bytes());
    key.extend_from_slice(stream.as_bytes());
    Bytes::from(key)
}

impl InstanceReader {
    /// Makes a snapshot of an instance that agrees with its stream, if one is due.
    pub(super) fn keep_snapshot<P: Process>(&self, instance: &mut Instance<P>) {
        let InstanceSnapshots { every, code: Some(code) } = P::snapshots() else { return };
        let waits = !instance.parked.is_empty() || !instance.unread.is_empty();
        if waits || instance.version.0 - instance.snapshot_version.0 < every {
            return;
        }
        let Ok(state) = &instance.state else { return };
        let Some(state) = (code.write)(state) else { return };
        let set = |(name, set): (&String, &PendingTimer)| {
            (name.clone(), (set.due, set.at.0, set.at_once))
        };
        let stored = StoredInstance {
            version: instance.version.0,
            position: instance.last.0,
            began: instance.began.0,
            ended: instance.life == Lifecycle::Ended,
            timers: instance.timers.iter().map(set).collect(),
            correlation: instance.correlation.as_ref().map(ToString::to_string),
            state,
        };
        let Ok(json) = serde_json::to_vec(&stored) else { return };
        let mut bytes = blake3::hash(&json).as_bytes()[..8].to_vec();
        bytes.extend_from_slice(&json);
        self.store.keep_snapshot(
            key::<P>(self.store.identity().store, &instance.stream),
            Bytes::from(bytes),
        );
        instance.snapshot_version = instance.version;
    }

    /// The instance of a snapshot that belongs to this history and can be trusted.
    pub(super) async fn snapshotted<P: Process>(
        &self,
        key: &str,
        stream: &StreamName,
    ) -> Result<Option<Instance<P>>, LoadError> {
        let Some(code) = P::snapshots().code else { return Ok(None) };
        let Some(bytes) =
            self.store.snapshot(self::key::<P>(self.store.identity().store, stream)).await?
        else {
            return Ok(None);
        };
        let Some((stored, state)) = decode(&bytes, &code) else { return Ok(None) };
        let page = self
            .store
            .page(Read::stream(stream.clone(), Version(stored.version)).page_of(1))
            .await?;
        let last = page.events.first().map(|record| (record.version().0, record.position.0));
        if last != Some((stored.version, stored.position)) {
            tracing::warn!(%stream, stored.version, "a snapshot does not belong to this history and is not used");
            return Ok(None);
        }
        let Some(instance) = stored.instance::<P>(stream.clone(), state) else { return Ok(None) };
        match self.trust.of::<P>(instance.version) {
            InstanceSnapshotUse::Taken => return Ok(Some(instance)),
            InstanceSnapshotUse::Refused => return Ok(None),
            InstanceSnapshotUse::Checked => {}
        }
        let refolded = self.fold::<P>(key, None, instance.version).await?;
        if !is_same(&code, &refolded, &instance) {
            self.trust.lose::<P>();
            let (process, fold_version) = (P::NAME, P::FOLD_VERSION);
            tracing::error!(%stream, process, fold_version, "a snapshot differs from the fold of its records: raise FOLD_VERSION");
            return Ok(None);
        }
        Ok(Some(instance))
    }
}

fn decode<P>(bytes: &[u8], code: &StateCode<P>) -> Option<(StoredInstance, P)> {
    let (sum, json) = bytes.split_at_checked(8)?;
    if blake3::hash(json).as_bytes()[..8] != *sum {
        return None;
    }
    let stored: StoredInstance = serde_json::from_slice(json).ok()?;
    let state = (code.read)(&stored.state)?;
    Some((stored, state))
}

fn is_same<P: Process>(code: &StateCode<P>, refolded: &Instance<P>, kept: &Instance<P>) -> bool {
    let states = match (&refolded.state, &kept.state) {
        (Ok(refolded), Ok(kept)) => (code.is_same)(refolded, kept),
        _ => false,
    };
    states
        && refolded.timers == kept.timers
        && refolded.life == kept.life
        && refolded.version == kept.version
}

impl StoredInstance {
    fn instance<P: Process>(self, stream: StreamName, state: P) -> Option<Instance<P>> {
        let set =
            |(name, (due, at, at_once))| (name, PendingTimer { due, at: Position(at), at_once });
        let correlation = match self.correlation {
            Some(correlation) => Some(Label::new(correlation).ok()?),
            None => None,
        };
        Some(Instance {
            version: Version(self.version),
            snapshot_version: Version(self.version),
            last: Position(self.position),
            state: Ok(state),
            life: if self.ended { Lifecycle::Ended } else { Lifecycle::Open },
            began: Position(self.began),
            timers: self.timers.into_iter().map(set).collect(),
            correlation,
            ..Instance::absent(stream)
        })
    }
}
