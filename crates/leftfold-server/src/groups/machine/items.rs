//! The events of a group that are not settled, and with an order those of each key.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use leftfold::store::{Position, RecordedEvent};

use super::cursor::SettledPlace;
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
    /// The consumer that had it last.
    pub(super) last: Option<ConsumerId>,
    /// Bytes that it takes in memory.
    pub(super) bytes: usize,
    /// It was handed out since a consumer was chosen for it last.
    pub(super) is_handed: bool,
    /// Number of events of its source that were taken before it.
    before: u64,
    /// Number of times that a consumer was chosen for it.
    grant: u64,
    deadline: Option<Millis>,
    key: Option<u64>,
}

/// The events of one key that wait or are out.
#[derive(Debug, Default)]
struct KeyItems {
    ids: BTreeSet<ItemId>,
    /// Those of them that are out.
    out: usize,
}

/// All events of a group that are not settled.
#[derive(Debug)]
pub(super) struct GroupItems {
    items: BTreeMap<ItemId, GroupItem>,
    deadlines: BTreeSet<(Millis, ItemId)>,
    ordered: Option<KeyOf>,
    /// Waiting and out, by key, if an order is kept.
    keys: HashMap<u64, KeyItems>,
    /// Bytes of those that are not with consumers.
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
                let of = self.keys.entry(key).or_default();
                of.ids.insert(*id);
                of.out += usize::from(matches!(item.state, ItemState::With(_)));
            }
        }
    }

    pub(super) fn get(&self, id: ItemId) -> Option<&GroupItem> {
        self.items.get(&id)
    }

    /// Bytes of the events that no consumer has.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn waiting(&self) -> usize {
        self.load.waiting
    }

    pub(super) fn load(&self) -> MachineLoad {
        self.load
    }

    /// Place before the oldest event of a source that is not settled.
    pub(super) fn before_oldest(&self, source: ItemSource) -> Option<SettledPlace> {
        let first = ItemId { source, position: Position::START };
        let (id, item) = self.items.range(first..).next()?;
        let position = Position(id.position.0.saturating_sub(1));
        (id.source == source).then_some(SettledPlace { position, count: item.before })
    }

    /// Adds an event that waits. So many of its source were taken before it.
    pub(super) fn insert(&mut self, id: ItemId, event: RecordedEvent, retries: u32, before: u64) {
        let key = self.ordered.as_ref().and_then(|by| by.of(&event));
        if let Some(key) = key {
            self.keys.entry(key).or_default().ids.insert(id);
        }
        let bytes = bytes_of(&event);
        self.bytes += bytes;
        self.load.waiting += 1;
        self.load.retrying += usize::from(retries > 0);
        let item = GroupItem {
            event,
            state: ItemState::Waiting,
            retries,
            last: None,
            bytes,
            is_handed: false,
            before,
            grant: 0,
            deadline: None,
            key,
        };
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

    /// Chooses a consumer for a waiting event. Returns the number of the choice, by which it is
    /// [handed](Self::hand) out, and the bytes of the event.
    pub(super) fn give(
        &mut self,
        id: ItemId,
        consumer: ConsumerId,
        deadline: Option<Millis>,
    ) -> Option<(u64, usize)> {
        self.set_state(id, ItemState::With(consumer));
        let item = self.items.get_mut(&id)?;
        item.last = Some(consumer);
        item.is_handed = false;
        item.grant += 1;
        let given = (item.grant, item.bytes);
        self.set_deadline(id, deadline);
        Some(given)
    }

    /// Hands an event out; `None` if it was taken back since the choice of that number.
    pub(super) fn hand(&mut self, id: ItemId, grant: u64) -> Option<&GroupItem> {
        let item = self.items.get_mut(&id)?;
        if !matches!(item.state, ItemState::With(_)) || item.grant != grant {
            return None;
        }
        item.is_handed = true;
        Some(item)
    }

    /// Gives all events that are out another deadline.
    pub(super) fn set_deadlines(&mut self, deadline: Option<Millis>) {
        let out = self.items.iter().filter(|(_, item)| matches!(item.state, ItemState::With(_)));
        for id in out.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.set_deadline(id, deadline);
        }
    }

    fn set_deadline(&mut self, id: ItemId, deadline: Option<Millis>) {
        let Some(item) = self.items.get_mut(&id) else { return };
        if let Some(before) = std::mem::replace(&mut item.deadline, deadline) {
            self.deadlines.remove(&(before, id));
        }
        if let Some(deadline) = deadline {
            self.deadlines.insert((deadline, id));
        }
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
        // At most one is out, unless the order was asked for later.
        self.keys.get(&key).filter(|of| of.out == 0)?.ids.first().copied()
    }

    fn set_state(&mut self, id: ItemId, state: ItemState) {
        self.set_deadline(id, None);
        let Some(item) = self.items.get_mut(&id) else { return };
        let (load, retrying) = (&mut self.load, usize::from(item.retries > 0));
        match item.state {
            ItemState::Waiting => {
                load.waiting -= 1;
                load.retrying -= retrying;
            }
            ItemState::With(_) => {
                load.in_flight -= 1;
                self.bytes += item.bytes;
            }
            ItemState::Parking => load.parking -= 1,
        }
        match state {
            ItemState::Waiting => {
                load.waiting += 1;
                load.retrying += retrying;
            }
            ItemState::With(_) => {
                load.in_flight += 1;
                self.bytes -= item.bytes;
            }
            ItemState::Parking => load.parking += 1,
        }
        let before = std::mem::replace(&mut item.state, state);
        // One that is to be parked has left its key.
        let key = item.key.filter(|_| before != ItemState::Parking);
        let Some((key, of)) = key.and_then(|key| Some((key, self.keys.get_mut(&key)?))) else {
            return;
        };
        of.out -= usize::from(matches!(before, ItemState::With(_)));
        of.out += usize::from(matches!(state, ItemState::With(_)));
        if state == ItemState::Parking {
            of.ids.remove(&id);
            if of.ids.is_empty() {
                self.keys.remove(&key);
            }
        }
    }
}

/// Bytes that an event takes in memory of its own, at most about.
fn bytes_of(event: &RecordedEvent) -> usize {
    /// Beside the text of a name that is kept by itself.
    const EACH: usize = 2 * size_of::<leftfold::store::Label>();
    /// Its state has 512 characters at most.
    const TRACE_BYTES_MAX: usize = 640;
    let metadata = &event.metadata;
    let tags = event.tags.as_slice().iter().map(|tag| tag.len() + EACH);
    let key_ids = event.key_ids.iter().map(|id| id.len() + EACH);
    let labels = [&metadata.correlation, &metadata.causation];
    let trace = if metadata.trace.is_some() { TRACE_BYTES_MAX } else { 0 };
    size_of::<GroupItem>()
        + event.data.len()
        + metadata.user.len()
        + event.event_type.len()
        + event.stream.as_ref().map_or(0, |at| at.name.len())
        + tags.chain(key_ids).sum::<usize>()
        + labels.into_iter().flatten().map(|label| label.len()).sum::<usize>()
        + trace
}
