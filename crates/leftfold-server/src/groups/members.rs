//! The consumers of a group that this server serves, and the way by which its task is told things.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leftfold::store::{Holder, Lease, LeaseError, LeaseRequest, Leased, Position, Store};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::LensMaker;
use super::command::{GroupCommand, NewConsumer};
use super::error::{GroupEnd, GroupError};
use super::figures::GroupTotals;
use super::info::ConsumerInfo;
use super::machine::{ConsumerId, ItemId, Millis};
use super::queue::{ConsumerName, ConsumerQueue};
use super::settings::GroupName;

/// Time for which a group is leased: for so long its consumers get nothing after the server was
/// killed that served it.
const LEASE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });
/// Time after a failure before something is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 500 });

/// Counts of how often events of a group were given out, between its tenures and while it has no
/// consumers: an event that kills its only worker is parked in the end.
#[derive(Clone, Debug, Default)]
pub(super) struct GivenBefore(Arc<Mutex<GivenCounts>>);

#[derive(Debug, Default)]
struct GivenCounts {
    /// Position of the record that made the group.
    created: Position,
    counts: BTreeMap<ItemId, u32>,
}

impl GivenBefore {
    pub(super) fn keep(&self, created: Position, counts: BTreeMap<ItemId, u32>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = GivenCounts { created, counts };
    }

    pub(super) fn take(&self, created: Position) -> BTreeMap<ItemId, u32> {
        let kept = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if kept.created == created { kept.counts } else { BTreeMap::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts.is_empty()
    }
}

/// A consumer that is in.
pub(super) struct GroupMember {
    pub(super) queue: Arc<ConsumerQueue>,
    pub(super) capacity: usize,
    who: ConsumerName,
    since: Instant,
}

/// A group with its consumers at this server.
pub(super) struct GroupMembers {
    pub(super) store: Store,
    pub(super) name: GroupName,
    pub(super) lenses: LensMaker,
    pub(super) all: BTreeMap<ConsumerId, GroupMember>,
    pub(super) commands: mpsc::UnboundedReceiver<GroupCommand>,
    pub(super) given: GivenBefore,
    pub(super) totals: GroupTotals,
    holder: Holder,
    began: Instant,
}

/// If the task of the group fails, its consumers hear of it.
impl Drop for GroupMembers {
    fn drop(&mut self) {
        let detail = "the task of the group ended".to_owned();
        self.end_all(&GroupEnd::Away { detail });
    }
}

impl GroupMembers {
    pub(super) fn new(
        store: Store,
        name: GroupName,
        lenses: LensMaker,
        commands: mpsc::UnboundedReceiver<GroupCommand>,
        given: GivenBefore,
        totals: GroupTotals,
    ) -> Self {
        let (holder, began) = (Holder::random(), Instant::now());
        let all = BTreeMap::new();
        Self { store, name, lenses, all, commands, given, totals, holder, began }
    }

    pub(super) fn lease_request(&self) -> LeaseRequest {
        LeaseRequest::new(self.name.consumer(), self.holder, self.lease_time())
    }

    pub(super) async fn ask_for_lease(&self) -> Result<Leased, LeaseError> {
        self.store.backend().lease(self.lease_request()).await
    }

    pub(super) async fn give_lease_back(&self, lease: Lease) {
        let _ = self.store.release(lease).await;
    }

    /// Time for which the group is leased: longer than a writer can stand still.
    pub(super) fn lease_time(&self) -> Duration {
        LEASE.max(self.store.backend().writer_ended_within() * 2 + Duration::from_secs(1))
    }

    pub(super) fn now(&self) -> Millis {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(Millis::MAX)
    }

    /// The moment that a time of the machine means.
    pub(super) fn moment(&self, at: Millis) -> Instant {
        self.began + Duration::from_millis(at)
    }

    /// Lets a consumer in, if there is room; returns its number.
    pub(super) fn let_in(&mut self, new: NewConsumer, consumers_max: usize) -> Option<ConsumerId> {
        let NewConsumer { id, queue, capacity, who, reply } = new;
        if self.all.len() >= consumers_max {
            let _ = reply.send(Err(GroupError::ConsumersMax { limit: consumers_max }));
            return None;
        }
        if reply.send(Ok(())).is_err() {
            return None;
        }
        self.all.insert(id, GroupMember { queue, capacity, who, since: Instant::now() });
        Some(id)
    }

    pub(super) fn end_all(&mut self, end: &GroupEnd) {
        for member in std::mem::take(&mut self.all).into_values() {
            member.queue.end(end.clone());
        }
    }

    /// Figures of the consumers; `load` has what each of them has and was given.
    pub(super) fn infos(&self, load: impl Fn(ConsumerId) -> (usize, u64)) -> Vec<ConsumerInfo> {
        let info = |(id, member): (&ConsumerId, &GroupMember)| {
            let (in_flight, given) = load(*id);
            let there = member.since.elapsed().as_millis();
            ConsumerInfo {
                who: member.who.clone(),
                capacity: member.capacity,
                in_flight,
                given,
                there_ms: u64::try_from(there).unwrap_or(u64::MAX),
            }
        };
        self.all.iter().map(info).collect()
    }
}
