//! The events of a group that are not settled, and with an order those of each key.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use leftfold::store::{Position, RecordedEvent};

use super::{ConsumerId, ItemId, ItemSource, MachineLoad, Millis};
use crate::groups::settings::KeyOf;

/// State of an event that is not settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemState {
    /// It is to be given out.
    Waiting,
    /// A consumer has it.
    With(ConsumerId),
    /// It is to be parked, and given out no more.
    Parking,
}

/// An event that is not settled.
#[derive(Debug)]
pub(super) struct GroupItem {
    pub(super) event: RecordedEvent,
    pub(super) state: ItemState,
    pub(super) retries: u32,
    /// GroupConsumer that had it last.
    pub(super) last: Option<ConsumerId>,
    deadline: Option<Millis>,
    key: Option<u64>,
    bytes: usize,
}

/// All events of a group that are not settled.
#[derive(Debug)]
pub(super) struct GroupItems {
    items: BTreeMap<ItemId, GroupItem>,
    deadlines: BTreeSet<(Millis, ItemId)>,
    ordered: Option<KeyOf>,
    /// Waiting and out, by key, if an order is kept.
    keys: HashMap<u64, BTreeSet<ItemId>>,
    bytes: usize,
    load: MachineLoad,
}

impl GroupItems {
    pub(super) fn new(ordered: Option<KeyOf>) -> Self {
        Self {
            items: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            ordered,
            keys: HashMap::new(),
            bytes: 0,
            load: MachineLoad::default(),
        }
    }

    /// Keeps another order from now on.
    pub(super) fn reorder(&mut self, ordered: Option<KeyOf>) {
        self.ordered = ordered;
        self.keys.clear();
        for (id, item) in &mut self.items {
            item.key = self.ordered.as_ref().and_then(|by| by.of(&item.event));
            if let Some(key) = item.key.filter(|_| item.state != ItemState::Parking) {
                self.keys.entry(key).or_default().insert(*id);
            }
        }
    }

    pub(super) fn get(&self, id: ItemId) -> Option<&GroupItem> {
        self.items.get(&id)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn waiting(&self) -> usize {
        self.load.waiting
    }

    pub(super) fn load(&self) -> MachineLoad {
        self.load
    }

    /// The oldest event of a source that is not settled.
    pub(super) fn oldest(&self, source: ItemSource) -> Option<Position> {
        let first = ItemId { source, position: Position::START };
        let found = self.items.range(first..).next().map(|(id, _)| *id);
        found.filter(|id| id.source == source).map(|id| id.position)
    }

    pub(super) fn insert(&mut self, id: ItemId, event: RecordedEvent, retries: u32) {
        let key = self.ordered.as_ref().and_then(|by| by.of(&event));
        if let Some(key) = key {
            self.keys.entry(key).or_default().insert(id);
        }
        let bytes = event.data.len() + event.metadata.user.len() + size_of::<GroupItem>();
        self.bytes += bytes;
        self.load.waiting += 1;
        self.load.retrying += usize::from(retries > 0);
        let state = ItemState::Waiting;
        let item = GroupItem { event, state, retries, last: None, deadline: None, key, bytes };
        self.items.insert(id, item);
    }

    /// Removes an event that is settled. Returns what may go next in its place; `None` if it was
    /// not there.
    pub(super) fn remove(&mut self, id: ItemId) -> Option<Option<ItemId>> {
        self.set_state(id, ItemState::Parking);
        let item = self.items.remove(&id)?;
        self.load.parking -= 1;
        self.bytes -= item.bytes;
        Some(item.key.and_then(|key| self.first_of(key)))
    }

    /// Gives a waiting event to a consumer.
    pub(super) fn give(
        &mut self,
        id: ItemId,
        consumer: ConsumerId,
        deadline: Option<Millis>,
    ) -> Option<&GroupItem> {
        self.set_state(id, ItemState::With(consumer));
        let item = self.items.get_mut(&id)?;
        item.last = Some(consumer);
        item.deadline = deadline;
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
        Some(item)
    }

    /// Lets an event wait again after it was given out.
    pub(super) fn wait_again(&mut self, id: ItemId) {
        self.set_state(id, ItemState::Waiting);
        let Some(item) = self.items.get_mut(&id) else { return };
        item.retries += 1;
        if item.retries == 1 {
            self.load.retrying += 1;
        }
    }

    /// Gives an event out no more, since it is to be parked.
    pub(super) fn park(&mut self, id: ItemId) {
        self.set_state(id, ItemState::Parking);
    }

    /// The events that a consumer has.
    pub(super) fn with(&self, consumer: ConsumerId) -> Vec<ItemId> {
        let has = |item: &GroupItem| item.state == ItemState::With(consumer);
        self.items.iter().filter(|(_, item)| has(item)).map(|(id, _)| *id).collect()
    }

    /// The events whose consumers did not answer in time.
    pub(super) fn overdue(&self, now: Millis) -> Vec<(ItemId, ConsumerId)> {
        let due = self.deadlines.iter().take_while(|(deadline, _)| *deadline <= now);
        due.filter_map(|(_, id)| match self.items.get(id)?.state {
            ItemState::With(consumer) => Some((*id, consumer)),
            _ => None,
        })
        .collect()
    }

    pub(super) fn first_deadline(&self) -> Option<Millis> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The events that were given out more than once, and how often again.
    pub(super) fn retries(&self) -> impl Iterator<Item = (ItemId, u32)> {
        let retried = self.items.iter().filter(|(_, item)| item.retries > 0);
        retried.map(|(id, item)| (*id, item.retries))
    }

    /// Everything that may be given out now.
    pub(super) fn ready(&self) -> impl Iterator<Item = ItemId> {
        let may_go = |id: &ItemId, item: &GroupItem| {
            item.state == ItemState::Waiting
                && item.key.is_none_or(|key| self.first_of(key) == Some(*id))
        };
        self.items.iter().filter(move |(id, item)| may_go(id, item)).map(|(id, _)| *id)
    }

    /// Returns what may be given out next, if an event came or is not given out any more: the event
    /// itself, or with an order the first of its key.
    pub(super) fn next_of_key(&self, id: ItemId) -> Option<ItemId> {
        let item = self.items.get(&id)?;
        match item.key {
            Some(key) => self.first_of(key),
            None => (item.state == ItemState::Waiting).then_some(id),
        }
    }

    /// Hash by which an event is pinned to a consumer.
    pub(super) fn pin(&self, id: ItemId, by: Option<&KeyOf>) -> u64 {
        let key = self.items.get(&id).zip(by).and_then(|(item, by)| by.of(&item.event));
        key.unwrap_or(id.position.0)
    }

    /// The first event of a key, if it waits and no other of the key is out.
    fn first_of(&self, key: u64) -> Option<ItemId> {
        let of = self.keys.get(&key)?;
        let waits =
            |id: &ItemId| self.items.get(id).is_some_and(|item| item.state == ItemState::Waiting);
        // At most one is out, unless the order was asked for later: those are few.
        if of.iter().any(|id| !waits(id)) { None } else { of.first().copied() }
    }

    fn set_state(&mut self, id: ItemId, state: ItemState) {
        let Some(item) = self.items.get_mut(&id) else { return };
        let load = &mut self.load;
        match item.state {
            ItemState::Waiting => {
                load.waiting -= 1;
                load.retrying -= usize::from(item.retries > 0);
            }
            ItemState::With(_) => load.in_flight -= 1,
            ItemState::Parking => load.parking -= 1,
        }
        match state {
            ItemState::Waiting => {
                load.waiting += 1;
                load.retrying += usize::from(item.retries > 0);
            }
            ItemState::With(_) => load.in_flight += 1,
            ItemState::Parking => load.parking += 1,
        }
        item.state = state;
        if let Some(deadline) = item.deadline.take() {
            self.deadlines.remove(&(deadline, id));
        }
        if state == ItemState::Parking
            && let Some(key) = item.key
            && let Some(of) = self.keys.get_mut(&key)
        {
            of.remove(&id);
            if of.is_empty() {
                self.keys.remove(&key);
            }
        }
    }
}
