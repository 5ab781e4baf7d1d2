//! The state of a group, without I/O: events come in, consumers come and go, answers come, time
//! passes; out go deliveries, events to be parked, and the checkpoint.
//!
//! What always holds, and the tests of this folder look at after each step:
//!
//! - An event is with one consumer at a time, and a consumer has no more than its capacity.
//! - With an order, one event of a key is out at a time, and it is the oldest that is not settled.
//! - The checkpoint is before the oldest event that is not settled. Settled is what was
//!   acknowledged, skipped, or is durably parked.

// `items` has the events and their keys, `lanes` those that are ready and their consumers,
// `cursor` the place up to which a source is settled.

mod cursor;
mod items;
mod lanes;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use leftfold::store::{Position, RecordedEvent};

use super::settings::GroupSettings;
use cursor::SettledCursor;
pub(super) use cursor::SettledPlace;
use items::{GroupItem, GroupItems, ItemState};
use lanes::ReadyLanes;

/// Milliseconds of the clock of the driver.
pub(super) type Millis = u64;

/// Bytes of events that no consumer has, beyond which nothing more is read: the last page may go
/// beyond.
const HELD_BYTES_MAX: usize = 16 << 20;

/// Bytes of events that all consumers have, in equal shares. One of them always gets one event, and
/// the last one that it gets may go beyond its share.
const OUT_BYTES_MAX: usize = 16 << 20;

/// Bytes of the reason for which an event is parked: what is longer is cut.
pub(super) const REASON_BYTES_MAX: usize = 1 << 10;

/// Events of which it is remembered how often they were given out while a group has no consumers.
const REMEMBERED_MAX: usize = 1_000;

/// Number of a consumer within its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ConsumerId(pub(super) u64);

/// Way by which an event came to be given out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum ItemSource {
    /// It was parked, and is replayed.
    Parked,
    /// It was parked, and taken out to be given out again by itself.
    Retried,
    /// It was read.
    Read,
}

impl ItemSource {
    pub(super) const ALL: [Self; 3] = [Self::Parked, Self::Retried, Self::Read];
}

/// Places that a group has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::groups) struct GroupPlaces {
    /// Everything up to here is settled.
    pub(in crate::groups) read: Position,
    /// Every parked event whose record is at or before is settled after a replay.
    pub(in crate::groups) replayed: Position,
    /// Every parked event that was taken out by a record at or before is settled.
    pub(in crate::groups) retried: Position,
}

/// An event of a group that is not settled, as consumers name it in their answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ItemId {
    pub(crate) source: ItemSource,
    /// Position of the event; of the record that it was parked, if it is replayed, or taken out.
    pub(crate) position: Position,
}

/// An event on its way to a consumer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct GroupDelivery {
    pub(crate) id: ItemId,
    pub(crate) event: RecordedEvent,
    /// Number of times that it was given out before.
    pub(crate) retries: u32,
}

/// Answer of a consumer to an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConsumerAnswer {
    /// It was handled.
    Ack,
    /// It is to be given out again, and parked if that was done often enough.
    Retry,
    /// It is to be parked. The reason is cut at 1 KiB.
    Park { reason: String },
    /// It is settled without being handled.
    Skip,
}

/// An event that is to be parked.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct ParkOrder {
    pub(super) id: ItemId,
    /// Position of the event.
    pub(super) position: Position,
    pub(super) retries: u32,
    pub(super) reason: Arc<str>,
    /// A consumer asked for it; if not, it was given out too often.
    pub(super) is_wish: bool,
}

/// Figures of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ConsumerLoad {
    pub(super) capacity: usize,
    pub(super) in_flight: usize,
    /// Bytes of those.
    pub(super) in_flight_bytes: usize,
    /// Events that were given to it.
    pub(super) given: u64,
}

impl ConsumerLoad {
    fn of(capacity: usize) -> Self {
        Self { capacity, in_flight: 0, in_flight_bytes: 0, given: 0 }
    }

    fn has_room(&self, bytes_max: usize) -> bool {
        self.in_flight == 0 || (self.in_flight < self.capacity && self.in_flight_bytes < bytes_max)
    }
}

/// Figures of what is not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct MachineLoad {
    pub(super) in_flight: usize,
    pub(super) waiting: usize,
    /// Those of the waiting that were given out before.
    pub(super) retrying: usize,
    /// On their way to be parked.
    pub(super) parking: usize,
}

/// The state of a group.
#[derive(Debug)]
pub(super) struct GroupMachine {
    settings: GroupSettings,
    items: GroupItems,
    lanes: ReadyLanes,
    consumers: BTreeMap<ConsumerId, ConsumerLoad>,
    /// The place of each source.
    cursors: [SettledCursor; ItemSource::ALL.len()],
    /// Consumers that were chosen, with the numbers of the choices.
    deliveries: Vec<(ConsumerId, ItemId, u64)>,
    revoked: Vec<(ConsumerId, ItemId)>,
    parks: Vec<ParkOrder>,
    /// Events that were settled since the beginning.
    settled: u64,
    /// Events that were given out before the beginning, and how often.
    given_before: BTreeMap<ItemId, u32>,
}

impl GroupMachine {
    /// A group that has settled everything up to the places of its sources.
    pub(super) fn new(settings: GroupSettings, places: &GroupPlaces, now: Millis) -> Self {
        let place = |source| match source {
            ItemSource::Read => places.read,
            ItemSource::Parked => places.replayed,
            ItemSource::Retried => places.retried,
        };
        Self {
            items: GroupItems::new(settings.ordered.clone()),
            lanes: ReadyLanes::new(settings.strategy.clone()),
            settings,
            consumers: BTreeMap::new(),
            cursors: ItemSource::ALL.map(|source| SettledCursor::new(place(source), now)),
            deliveries: Vec::new(),
            revoked: Vec::new(),
            parks: Vec::new(),
            settled: 0,
            given_before: BTreeMap::new(),
        }
    }

    /// Takes how often events were given out before the beginning.
    pub(super) fn remember(&mut self, given_before: BTreeMap<ItemId, u32>) {
        self.given_before = given_before;
    }

    /// Returns how often events that are not settled were given out, for the next beginning: of the
    /// oldest ones, at most [`REMEMBERED_MAX`].
    pub(super) fn given(self) -> BTreeMap<ItemId, u32> {
        let mut given = self.given_before;
        given.extend(self.items.retries());
        given.into_iter().take(REMEMBERED_MAX).collect()
    }

    /// Takes other settings. Events that are out stay where they are; another time-out holds for
    /// them from now on.
    pub(super) fn configure(&mut self, settings: GroupSettings, now: Millis) {
        self.items.reorder(settings.ordered.clone());
        self.lanes = ReadyLanes::new(settings.strategy.clone());
        let before = std::mem::replace(&mut self.settings, settings);
        if before.message_timeout() != self.settings.message_timeout() {
            self.items.set_deadlines(self.deadline(now));
        }
        for consumer in self.consumers.keys() {
            self.lanes.enter(*consumer);
        }
        self.spread(now);
    }

    pub(super) fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    /// Lets a consumer in, who takes so many events at once.
    pub(super) fn enter(&mut self, consumer: ConsumerId, capacity: usize, now: Millis) {
        self.consumers.insert(consumer, ConsumerLoad::of(capacity));
        self.lanes.enter(consumer);
        self.spread(now);
    }

    /// Lets a consumer go. What it had goes to others.
    pub(super) fn leave(&mut self, consumer: ConsumerId, now: Millis) {
        if self.consumers.remove(&consumer).is_none() {
            return;
        }
        self.lanes.leave(consumer);
        for id in self.items.with(consumer) {
            self.give_back(id, "its consumer went without an answer");
        }
        self.spread(now);
    }

    /// Returns the number of events to be read now; 0 if there are enough.
    pub(super) fn room(&self) -> usize {
        let buffer = usize::try_from(self.settings.buffer_events).unwrap_or(usize::MAX);
        if self.consumers.is_empty() || self.items.bytes() >= HELD_BYTES_MAX {
            return 0;
        }
        let batch = usize::try_from(self.settings.batch_events).unwrap_or(usize::MAX);
        batch.min(buffer.saturating_sub(self.items.waiting()))
    }

    /// Position up to which events of a source were taken.
    pub(super) fn taken_through(&self, source: ItemSource) -> Position {
        self.cursor(source).through()
    }

    /// Takes the next events of a source, in their order, and that there are no others up to a
    /// position. Replayed ones come with the position of their record.
    pub(super) fn take(
        &mut self,
        source: ItemSource,
        events: Vec<(Position, RecordedEvent)>,
        through: Position,
        now: Millis,
    ) {
        for (position, event) in events {
            if position <= self.taken_through(source) {
                continue;
            }
            let id = ItemId { source, position };
            let before = self.cursor_mut(source).take(position);
            // It is known already if the cursor went back.
            if self.items.get(id).is_some() {
                continue;
            }
            let retries = self.given_before.remove(&id).unwrap_or(0);
            self.items.insert(id, event.detached(), retries, before);
            self.queue_next(id);
        }
        self.cursor_mut(source).pass(through);
        self.spread(now);
    }

    /// Goes back, since what is behind a position was read by a query that holds no longer. What
    /// is known is not taken twice; what was settled meanwhile comes again.
    pub(super) fn go_back(&mut self, source: ItemSource, to: Position) {
        self.cursor_mut(source).go_back(to);
    }

    /// Takes the answer of a consumer to events that it has, or had last. Others are left out.
    pub(super) fn answer(
        &mut self,
        consumer: ConsumerId,
        ids: &[ItemId],
        answer: &ConsumerAnswer,
        now: Millis,
    ) {
        let reason: Arc<str> = match answer {
            ConsumerAnswer::Park { reason } => cut(reason).into(),
            _ => Arc::default(),
        };
        for id in ids {
            let Some(item) = self.items.get(*id) else { continue };
            let counts = match item.state {
                ItemState::With(holder) => holder == consumer,
                // One that comes too late may still settle what nobody else has.
                ItemState::Waiting => {
                    item.last == Some(consumer)
                        && matches!(answer, ConsumerAnswer::Ack | ConsumerAnswer::Skip)
                }
                ItemState::Parking => false,
            };
            if !counts {
                continue;
            }
            // What is answered is not in the queue a second time.
            if item.retries > 0 && item.is_handed {
                self.revoked.push((consumer, *id));
            }
            self.take_off(*id);
            match answer {
                ConsumerAnswer::Ack | ConsumerAnswer::Skip => self.settle(*id),
                ConsumerAnswer::Retry => {
                    self.give_back(*id, "it was given out as often as it may be")
                }
                ConsumerAnswer::Park { .. } => self.park(*id, Arc::clone(&reason), true),
            }
        }
        self.spread(now);
    }

    /// Takes that events are durably parked.
    pub(super) fn parked(&mut self, ids: &[ItemId], now: Millis) {
        for id in ids {
            self.settle(*id);
        }
        self.spread(now);
    }

    /// Takes the time: what was not answered in time is given out again.
    pub(super) fn tick(&mut self, now: Millis) {
        for (id, consumer) in self.items.overdue(now) {
            // One that was not handed out yet never is.
            if self.items.get(id).is_some_and(|item| item.is_handed) {
                self.revoked.push((consumer, id));
            }
            self.take_off(id);
            self.give_back(id, "it was not answered in time");
        }
        self.spread(now);
    }

    /// Time of the next [`tick`](Self::tick) that changes anything.
    pub(super) fn next_tick(&self) -> Option<Millis> {
        self.items.first_deadline()
    }

    /// Takes out what is to be given to consumers.
    pub(super) fn deliveries(&mut self) -> Vec<(ConsumerId, GroupDelivery)> {
        let chosen = std::mem::take(&mut self.deliveries).into_iter();
        let handed = chosen.filter_map(|(consumer, id, grant)| {
            let GroupItem { event, retries, .. } = self.items.hand(id, grant)?;
            Some((consumer, GroupDelivery { id, event: event.clone(), retries: *retries }))
        });
        handed.collect()
    }

    /// Takes out what is to go out of the queues of consumers: what they have no longer. Comes
    /// before the [deliveries](Self::deliveries).
    pub(super) fn revoked(&mut self) -> Vec<(ConsumerId, ItemId)> {
        std::mem::take(&mut self.revoked)
    }

    /// Takes out what is to be parked.
    pub(super) fn parks(&mut self) -> Vec<ParkOrder> {
        std::mem::take(&mut self.parks)
    }

    /// Position up to which everything of a source is settled.
    pub(super) fn settled_through(&self, source: ItemSource) -> Position {
        self.settled_place(source).position
    }

    fn settled_place(&self, source: ItemSource) -> SettledPlace {
        self.cursor(source).settled(self.items.before_oldest(source))
    }

    /// Returns the checkpoint of a source if it is to be written now; always if it has moved and
    /// this is the end.
    pub(super) fn due_checkpoint(
        &self,
        source: ItemSource,
        now: Millis,
        is_end: bool,
    ) -> Option<SettledPlace> {
        let settled = self.settled_place(source);
        self.cursor(source).is_due(settled, &self.settings, now, is_end).then_some(settled)
    }

    /// Time at which a checkpoint may be due; `None` if nothing was settled.
    pub(super) fn next_checkpoint(&self) -> Option<Millis> {
        let of = |source| self.cursor(source).next(self.settled_place(source), &self.settings);
        ItemSource::ALL.into_iter().filter_map(of).min()
    }

    /// Takes that a checkpoint was written.
    pub(super) fn checkpointed(&mut self, source: ItemSource, at: SettledPlace, now: Millis) {
        self.cursor_mut(source).written(at, now);
    }

    /// Last checkpoint of a source.
    pub(super) fn checkpoint(&self, source: ItemSource) -> Position {
        self.cursor(source).checkpoint()
    }

    pub(super) fn consumers(&self) -> &BTreeMap<ConsumerId, ConsumerLoad> {
        &self.consumers
    }

    pub(super) fn load(&self) -> MachineLoad {
        self.items.load()
    }

    /// Events that were settled since the beginning.
    pub(super) fn settled(&self) -> u64 {
        self.settled
    }

    fn cursor(&self, source: ItemSource) -> &SettledCursor {
        &self.cursors[source as usize]
    }

    fn cursor_mut(&mut self, source: ItemSource) -> &mut SettledCursor {
        &mut self.cursors[source as usize]
    }

    /// Takes an event from the consumer that has it.
    fn take_off(&mut self, id: ItemId) {
        if let Some(item) = self.items.get(id)
            && let ItemState::With(consumer) = item.state
            && let Some(load) = self.consumers.get_mut(&consumer)
        {
            load.in_flight -= 1;
            load.in_flight_bytes -= item.bytes;
        }
    }

    /// Gives out an event once more, or parks it if that was done often enough.
    fn give_back(&mut self, id: ItemId, reason: &str) {
        let Some(item) = self.items.get(id) else { return };
        if item.retries >= self.settings.retries_max {
            let given = u64::from(item.retries) + 1;
            let reason = format!("given out {given} times: {reason}");
            return self.park(id, reason.into(), false);
        }
        self.items.wait_again(id);
        self.queue_next(id);
    }

    fn park(&mut self, id: ItemId, reason: Arc<str>, is_wish: bool) {
        self.items.park(id);
        self.lanes.remove(id);
        let Some(GroupItem { event, retries, .. }) = self.items.get(id) else { return };
        let (position, retries) = (event.position, *retries);
        self.parks.push(ParkOrder { id, position, retries, reason, is_wish });
        self.queue_next(id);
    }

    fn settle(&mut self, id: ItemId) {
        self.lanes.remove(id);
        let Some(next) = self.items.remove(id) else { return };
        self.settled += 1;
        if let Some(next) = next {
            self.lanes.push(next, self.items.pin(next, self.lanes.pins_by()));
        }
    }

    /// Makes ready what may go next: the event, or with an order the first of its key.
    fn queue_next(&mut self, id: ItemId) {
        if let Some(next) = self.items.next_of_key(id) {
            self.lanes.push(next, self.items.pin(next, self.lanes.pins_by()));
        }
    }

    /// Gives to consumers what is ready and for which they have room.
    fn spread(&mut self, now: Millis) {
        if self.lanes.is_unsorted() {
            let ready = self.items.ready();
            let pins_by = self.lanes.pins_by().cloned();
            let pinned = ready.map(|id| (id, self.items.pin(id, pins_by.as_ref())));
            self.lanes.sort(pinned.collect());
        }
        let deadline = self.deadline(now);
        let share = OUT_BYTES_MAX / self.consumers.len().max(1);
        let has_room = |consumers: &BTreeMap<ConsumerId, ConsumerLoad>, consumer: &ConsumerId| {
            consumers.get(consumer).is_some_and(|load| load.has_room(share))
        };
        while let Some((id, consumer)) =
            self.lanes.next(|consumer| has_room(&self.consumers, consumer))
        {
            // An older one of its key may have come meanwhile, which was parked.
            if self.items.next_of_key(id) != Some(id) {
                continue;
            }
            let Some((grant, bytes)) = self.items.give(id, consumer, deadline) else { continue };
            if let Some(load) = self.consumers.get_mut(&consumer) {
                load.in_flight += 1;
                load.in_flight_bytes += bytes;
                load.given += 1;
            }
            self.deliveries.push((consumer, id, grant));
        }
    }

    /// Time until which what is given out now is to be answered.
    fn deadline(&self, now: Millis) -> Option<Millis> {
        self.settings.message_timeout().map(|timeout| {
            now.saturating_add(u64::try_from(timeout.as_millis()).unwrap_or(Millis::MAX))
        })
    }
}

/// The beginning of a reason, as much of it as is kept.
fn cut(reason: &str) -> &str {
    let end = (0..=REASON_BYTES_MAX.min(reason.len())).rev();
    let end = end.into_iter().find(|end| reason.is_char_boundary(*end));
    &reason[..end.unwrap_or(0)]
}
