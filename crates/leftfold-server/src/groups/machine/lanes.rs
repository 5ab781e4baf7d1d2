//! The events that are ready, and the choice of a consumer for each.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use super::{ConsumerId, ItemId};
use crate::groups::settings::{ConsumerStrategy, KeyOf};

/// Events that are ready to be given out: in one lane, or in one for each consumer if they are
/// pinned.
#[derive(Debug)]
pub(super) struct ReadyLanes {
    strategy: ConsumerStrategy,
    /// Of whoever has room.
    common: BTreeSet<ItemId>,
    /// Of one consumer each.
    own: BTreeMap<ConsumerId, BTreeSet<ItemId>>,
    /// The consumer whose lane has an event.
    lane_of: HashMap<ItemId, ConsumerId>,
    consumers: BTreeSet<ConsumerId>,
    /// The consumer that was served last.
    last: Option<ConsumerId>,
    /// Consumers came or went: everything is to be sorted anew.
    is_unsorted: bool,
}

impl ReadyLanes {
    pub(super) fn new(strategy: ConsumerStrategy) -> Self {
        Self {
            strategy,
            common: BTreeSet::new(),
            own: BTreeMap::new(),
            lane_of: HashMap::new(),
            consumers: BTreeSet::new(),
            last: None,
            is_unsorted: true,
        }
    }

    pub(super) fn enter(&mut self, consumer: ConsumerId) {
        self.consumers.insert(consumer);
        self.is_unsorted |= self.pins_by().is_some();
    }

    pub(super) fn leave(&mut self, consumer: ConsumerId) {
        self.consumers.remove(&consumer);
        self.is_unsorted |= self.pins_by().is_some();
    }

    /// Key by which events are pinned; `None` if they are not.
    pub(super) fn pins_by(&self) -> Option<&KeyOf> {
        match &self.strategy {
            ConsumerStrategy::Pinned(by) => Some(by),
            ConsumerStrategy::RoundRobin | ConsumerStrategy::DispatchToSingle => None,
        }
    }

    pub(super) fn is_unsorted(&self) -> bool {
        self.is_unsorted
    }

    /// Puts all ready events into the lanes anew.
    pub(super) fn sort(&mut self, ready: Vec<(ItemId, u64)>) {
        self.is_unsorted = false;
        self.common.clear();
        self.own.clear();
        self.lane_of.clear();
        for (id, pin) in ready {
            self.push(id, pin);
        }
    }

    /// Puts an event, with the hash that pins it, into a lane.
    pub(super) fn push(&mut self, id: ItemId, pin: u64) {
        let pinned = self.pins_by().and_then(|_| pinned_to(&self.consumers, pin));
        match pinned {
            Some(consumer) => {
                self.own.entry(consumer).or_default().insert(id);
                self.lane_of.insert(id, consumer);
            }
            None => {
                self.common.insert(id);
            }
        }
    }

    pub(super) fn remove(&mut self, id: ItemId) {
        self.common.remove(&id);
        if let Some(consumer) = self.lane_of.remove(&id)
            && let Some(lane) = self.own.get_mut(&consumer)
        {
            lane.remove(&id);
        }
    }

    /// Takes out the next event and the consumer that is to have it; `None` if nobody has room for
    /// anything that is ready.
    pub(super) fn next(
        &mut self,
        has_room: impl Fn(&ConsumerId) -> bool,
    ) -> Option<(ItemId, ConsumerId)> {
        let (id, consumer) = if self.pins_by().is_some() {
            let ready = self.own.iter().filter(|(consumer, _)| has_room(consumer));
            ready.filter_map(|(consumer, lane)| Some((*lane.first()?, *consumer))).min()?
        } else {
            let consumer = self.chosen(has_room).filter(|_| !self.common.is_empty())?;
            (*self.common.first()?, consumer)
        };
        self.remove(id);
        self.last = Some(consumer);
        Some((id, consumer))
    }

    fn chosen(&self, has_room: impl Fn(&ConsumerId) -> bool) -> Option<ConsumerId> {
        let mut from_first = self.consumers.iter();
        match (&self.strategy, self.last) {
            (ConsumerStrategy::RoundRobin, Some(last)) => {
                let behind = self.consumers.range((Bound::Excluded(last), Bound::Unbounded));
                behind.chain(from_first).find(|consumer| has_room(consumer)).copied()
            }
            _ => from_first.find(|consumer| has_room(consumer)).copied(),
        }
    }
}

/// The consumer with the greatest weight for a hash: when one goes, only what it had is pinned
/// anew, and when one comes, only what it gets.
fn pinned_to(consumers: &BTreeSet<ConsumerId>, pin: u64) -> Option<ConsumerId> {
    consumers.iter().copied().max_by_key(|consumer| mixed(pin ^ mixed(consumer.0)))
}

/// Spreads the bits of a number.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
