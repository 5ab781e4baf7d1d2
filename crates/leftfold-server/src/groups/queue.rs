//! The events that wait for a consumer to take them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::error::GroupEnd;
use super::machine::{GroupDelivery, ItemId};

/// Somebody who consumes, for those who look at a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConsumerName {
    /// Name that the consumer gave itself.
    pub(crate) name: String,
    /// User, empty if nobody has to say who they are.
    pub(crate) user: String,
    /// Address from which it calls, as far as known.
    pub(crate) from: String,
}

/// The events that were given to a consumer and that it has not taken. No more than its capacity:
/// what is given to another one goes out of it.
#[derive(Debug, Default)]
pub(super) struct ConsumerQueue {
    state: Mutex<QueueState>,
    changed: Notify,
    ended: Notify,
}

#[derive(Debug, Default)]
struct QueueState {
    /// By the order in which they came.
    given: BTreeMap<u64, GroupDelivery>,
    places: HashMap<ItemId, u64>,
    next: u64,
    end: Option<GroupEnd>,
}

impl ConsumerQueue {
    pub(super) fn give(&self, delivery: GroupDelivery) {
        let mut state = self.state();
        state.next += 1;
        let place = state.next;
        state.places.insert(delivery.id, place);
        state.given.insert(place, delivery);
        drop(state);
        self.changed.notify_one();
    }

    /// Takes an event out again, if it is there.
    pub(super) fn revoke(&self, id: ItemId) {
        let mut state = self.state();
        if let Some(place) = state.places.remove(&id) {
            state.given.remove(&place);
        }
    }

    /// Ends the consumer: it gets nothing more.
    pub(super) fn end(&self, end: GroupEnd) {
        let mut state = self.state();
        state.given.clear();
        state.places.clear();
        state.end.get_or_insert(end);
        drop(state);
        self.changed.notify_one();
        self.ended.notify_waiters();
    }

    /// Waits for the end.
    pub(super) async fn ended(&self) {
        let ended = self.ended.notified();
        // From here on an end is noticed.
        if self.state().end.is_none() {
            ended.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn next(&self) -> Result<GroupDelivery, GroupEnd> {
        loop {
            {
                let mut state = self.state();
                if let Some(end) = &state.end {
                    return Err(end.clone());
                }
                if let Some((_, delivery)) = state.given.pop_first() {
                    state.places.remove(&delivery.id);
                    return Ok(delivery);
                }
            }
            self.changed.notified().await;
        }
    }
}
