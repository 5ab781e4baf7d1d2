//! Trust in snapshots: the first that are used after a start, and some of the others, are held
//! against a fold without them.

use std::any::TypeId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::Process;
use crate::store::Version;

/// Number of snapshots of a process that are compared with a fold without them when they are first
/// used after a program's start; afterwards one in [`CHECKED_ONE_IN`] is.
const CHECKED_FIRST: u32 = 4;
const CHECKED_ONE_IN: u32 = 64;
/// Longer streams are not folded again for that, but for the very first of a process.
const CHECKED_RECORDS_MAX: u64 = 2_000;

/// Extent to which the snapshots of the processes of a store are believed.
#[derive(Debug, Default)]
pub(super) struct InstanceTrust(Mutex<HashMap<TypeId, InstanceBelief>>);

#[derive(Clone, Copy, Debug)]
enum InstanceBelief {
    /// This number of snapshots were used.
    Used(u32),
    /// One was not equal to the fold: the others were made by the same code.
    Lost,
}

/// Treatment of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InstanceSnapshotUse {
    Taken,
    Checked,
    Refused,
}

impl InstanceTrust {
    pub(super) fn of<P: Process>(&self, version: Version) -> InstanceSnapshotUse {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let belief = all.entry(TypeId::of::<P>()).or_insert(InstanceBelief::Used(0));
        let InstanceBelief::Used(used) = *belief else { return InstanceSnapshotUse::Refused };
        *belief = InstanceBelief::Used(used.saturating_add(1));
        let is_long = version.0 > CHECKED_RECORDS_MAX;
        let meant = used < CHECKED_FIRST || fastrand::u32(..CHECKED_ONE_IN) == 0;
        if used == 0 || meant && !is_long {
            InstanceSnapshotUse::Checked
        } else {
            InstanceSnapshotUse::Taken
        }
    }

    pub(super) fn lose<P: Process>(&self) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(TypeId::of::<P>(), InstanceBelief::Lost);
    }
}
