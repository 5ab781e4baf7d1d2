//! What a consumer and its runtime know of each other: which work it can do, and whether it is to
//! take the lease on it or to hand it over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use uuid::Uuid;

use super::note::{MemberNote, WorkNote, written};
use super::plan::WorkId;
use crate::runtime::consumer::status::Board;
use crate::store::{Holder, Label, Timestamp};

/// Ability of a consumer to do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum WorkAbility {
    Able,
    /// It failed lately: it takes the work only if no runtime is able to do it.
    LastResort,
    Unable,
}

/// Part of a consumer in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) enum WorkCall {
    /// It takes the lease, or keeps it.
    Take,
    /// It waits: this holder has the work until then, or another member is about to take it.
    Wait(Option<(Holder, Timestamp)>),
    /// It ends what is under way and gives the lease back.
    HandOver,
}

impl WorkCall {
    fn is_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Wait(one), Self::Wait(other)) => {
                one.map(|(one, _)| one) == other.map(|(other, _)| other)
            }
            (one, other) => one == other,
        }
    }
}

/// One runtime among those on its store.
#[derive(Debug)]
pub(in crate::runtime) struct Membership {
    pub(super) id: Uuid,
    pub(super) name: String,
    /// Time for which its leases are asked.
    pub(in crate::runtime) lease: Duration,
    shares: Mutex<Shares>,
    /// Counts the changes of what its consumers can do.
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Shares {
    drawn: u64,
    shares: BTreeMap<u64, ShareEntry>,
}

#[derive(Debug)]
struct ShareEntry {
    work: WorkId,
    holder: Holder,
    ability: WorkAbility,
    call: watch::Sender<WorkCall>,
}

impl Membership {
    pub(in crate::runtime) fn new(name: String, lease: Duration) -> Self {
        let (shares, changes) = (Mutex::default(), watch::Sender::new(0));
        Self { id: Uuid::new_v4(), name, lease, shares, changes }
    }

    /// Lets a consumer take part. It can do its work from now on, and takes it if it is free, until
    /// there is a plan.
    pub(in crate::runtime) fn share(
        self: &Arc<Self>,
        consumer: &'static str,
        work: &Label,
        holder: Holder,
    ) -> WorkShare {
        let (call, receiver) = watch::channel(WorkCall::Take);
        let mut shares = self.shares();
        shares.drawn += 1;
        let number = shares.drawn;
        let ability = WorkAbility::Able;
        let entry = ShareEntry { work: WorkId::of(work), holder, ability, call };
        shares.shares.insert(number, entry);
        drop(shares);
        self.changed();
        WorkShare { membership: self.clone(), number, consumer, call: receiver }
    }

    /// Returns the note of the runtime's own lease.
    pub(super) fn note(&self, stops: bool) -> MemberNote {
        MemberNote::new(&self.name, stops, &self.works_of(WorkAbility::Able))
    }

    /// Returns the works of its consumers that have an ability, each once.
    pub(super) fn works_of(&self, ability: WorkAbility) -> Vec<WorkId> {
        let mut works: Vec<WorkId> = self
            .shares()
            .shares
            .values()
            .filter(|share| share.ability == ability)
            .map(|share| share.work)
            .collect();
        works.sort_unstable();
        works.dedup();
        works
    }

    /// Tells each consumer its part, by its work and holder.
    pub(super) fn call(&self, of: impl Fn(WorkId, Holder) -> WorkCall) {
        for ShareEntry { work, holder, call, .. } in self.shares().shares.values() {
            let next = of(*work, *holder);
            call.send_if_modified(|call| {
                let is_new = !call.is_like(next);
                *call = next;
                is_new
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shares().shares.is_empty()
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn changed(&self) {
        self.changes.send_modify(|changes| *changes = changes.wrapping_add(1));
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of one consumer, as long as it runs.
#[derive(Debug)]
pub(in crate::runtime) struct WorkShare {
    membership: Arc<Membership>,
    number: u64,
    consumer: &'static str,
    call: watch::Receiver<WorkCall>,
}

impl WorkShare {
    /// Returns its part, and if that has changed since it was last asked for.
    pub(in crate::runtime) fn call(&mut self) -> (WorkCall, bool) {
        let is_new = self.call.has_changed().unwrap_or_default();
        (*self.call.borrow_and_update(), is_new)
    }

    /// Sets its part until there is a plan.
    pub(in crate::runtime) fn presume(&self, part: WorkCall) {
        if let Some(share) = self.membership.shares().shares.get(&self.number) {
            share.call.send_replace(part);
        }
    }

    /// Returns the latest part, without taking notice.
    pub(in crate::runtime) fn latest_call(&self) -> WorkCall {
        *self.call.borrow()
    }

    /// Waits until its part changes from the one that it last asked for.
    pub(in crate::runtime) fn called(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut call = self.call.clone();
        async move {
            if call.changed().await.is_err() {
                // Nobody plans any more.
                std::future::pending().await
            }
        }
    }

    /// Returns the note of its lease.
    pub(in crate::runtime) fn note(&self, since: Timestamp, board: &Board) -> Vec<u8> {
        let stands = board.stands(self.consumer);
        written(&WorkNote::new(self.membership.id, self.consumer, since, stands))
    }

    /// Says if it can do the work.
    pub(in crate::runtime) fn is_able(&self, ability: WorkAbility) {
        let mut shares = self.membership.shares();
        let Some(share) = shares.shares.get_mut(&self.number) else { return };
        let before = std::mem::replace(&mut share.ability, ability);
        drop(shares);
        if before != ability {
            self.membership.changed();
        }
    }
}

impl Drop for WorkShare {
    fn drop(&mut self) {
        self.membership.shares().shares.remove(&self.number);
        self.membership.changed();
    }
}
