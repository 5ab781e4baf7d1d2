//! The machine under random consumers, answers, times and crashes, beside a model of what may be.

use std::collections::{BTreeMap, BTreeSet};

use leftfold::store::{
    EventId, EventType, InStream, NewEvent, Query, StreamName, Tags, Timestamp, Version,
};

use super::*;
use crate::groups::settings::{ConsumerStrategy, KeyOf};

const STREAMS: u64 = 4;

fn event(position: u64) -> RecordedEvent {
    let stream = StreamName::of("order", &(position % STREAMS).to_string()).unwrap();
    let new = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}")
        .tagged(Tags::none().with(format!("user:{}", position % 3)));
    let at = InStream { name: stream, version: Version(position) };
    let id = EventId(uuid::Uuid::from_u128(position.into()));
    RecordedEvent::of(new, Position(position), Timestamp::MIN, Some(at), id)
}

fn settings() -> GroupSettings {
    GroupSettings { message_timeout_ms: 100, retries_max: 3, ..GroupSettings::of(Query::all()) }
}

fn places([read, replayed, retried]: [u64; 3]) -> GroupPlaces {
    let [read, replayed, retried] = [read, replayed, retried].map(Position);
    GroupPlaces { read, replayed, retried }
}

fn machine(settings: GroupSettings) -> GroupMachine {
    GroupMachine::new(settings, &places([0; 3]), 0)
}

fn page(positions: impl IntoIterator<Item = u64>) -> Vec<(Position, RecordedEvent)> {
    positions.into_iter().map(|at| (Position(at), event(at))).collect()
}

fn read(position: u64) -> ItemId {
    ItemId { source: ItemSource::Read, position: Position(position) }
}

/// The deliveries, each as the numbers of its consumer and its event.
fn given(machine: &mut GroupMachine) -> Vec<(u64, u64)> {
    machine.deliveries().into_iter().map(|(to, given)| (to.0, given.id.position.0)).collect()
}

#[test]
fn each_strategy_chooses_its_consumers() {
    let with = |strategy: ConsumerStrategy| {
        let mut machine = machine(GroupSettings { strategy, ..settings() });
        for consumer in [1, 2] {
            machine.enter(ConsumerId(consumer), 3, 0);
        }
        machine.take(ItemSource::Read, page(1..=4), Position(4), 0);
        given(&mut machine)
    };
    assert_eq!(with(ConsumerStrategy::RoundRobin), [(1, 1), (2, 2), (1, 3), (2, 4)]);
    assert_eq!(with(ConsumerStrategy::DispatchToSingle), [(1, 1), (1, 2), (1, 3), (2, 4)]);
    let mut pinned =
        machine(GroupSettings { strategy: ConsumerStrategy::Pinned(KeyOf::Stream), ..settings() });
    for consumer in [1, 2, 3] {
        pinned.enter(ConsumerId(consumer), 100, 0);
    }
    pinned.take(ItemSource::Read, page(1..=40), Position(40), 0);
    let mut of: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for (consumer, position) in given(&mut pinned) {
        of.entry(position % STREAMS).or_default().insert(consumer);
    }
    assert!(of.len() == 4 && of.values().all(|consumers| consumers.len() == 1), "{of:?}");
}

#[test]
fn an_event_goes_round_until_it_was_given_out_too_often_and_is_parked() {
    let mut machine = machine(settings());
    machine.enter(ConsumerId(1), 10, 0);
    machine.take(ItemSource::Read, page([1, 2]), Position(2), 0);
    assert_eq!(given(&mut machine), [(1, 1), (1, 2)]);
    machine.answer(ConsumerId(1), &[read(1)], &ConsumerAnswer::Retry, 0);
    assert_eq!(machine.deliveries()[0].1.retries, 1);
    // Neither is answered in time.
    assert_eq!(machine.next_tick(), Some(100));
    machine.tick(100);
    assert_eq!(machine.revoked().len(), 2);
    assert_eq!(given(&mut machine), [(1, 1), (1, 2)]);
    // What comes too late, but before anybody else has it, is taken.
    machine.leave(ConsumerId(1), 150);
    machine.enter(ConsumerId(2), 1, 150);
    assert_eq!(given(&mut machine), [(2, 1)]);
    machine.answer(ConsumerId(1), &[read(1), read(2)], &ConsumerAnswer::Ack, 150);
    assert_eq!(machine.settled_through(ItemSource::Read), Position::START);
    machine.answer(ConsumerId(2), &[read(1)], &ConsumerAnswer::Retry, 160);
    assert!(given(&mut machine).is_empty());
    let parks = machine.parks();
    assert_eq!((parks.len(), parks[0].retries, parks[0].is_wish), (1, 3, false));
    // Only what is durably parked is settled.
    assert_eq!(machine.settled_through(ItemSource::Read), Position::START);
    machine.parked(&[read(1)], 170);
    assert_eq!(machine.settled_through(ItemSource::Read), Position(2));
}

#[test]
fn with_an_order_a_key_waits_for_its_oldest_and_others_go_on() {
    let mut machine =
        machine(GroupSettings { ordered: Some(KeyOf::Tag("user:".to_owned())), ..settings() });
    machine.enter(ConsumerId(1), 10, 0);
    machine.enter(ConsumerId(2), 10, 0);
    machine.take(ItemSource::Read, page(1..=6), Position(6), 0);
    let first: BTreeSet<_> = given(&mut machine).into_iter().map(|(_, at)| at).collect();
    assert_eq!(first, BTreeSet::from([1, 2, 3]));
    let of = |machine: &GroupMachine, at| match machine.items.get(read(at)).unwrap().state {
        ItemState::With(consumer) => consumer,
        other => panic!("{other:?}"),
    };
    let consumer = of(&machine, 2);
    machine.answer(consumer, &[read(2)], &ConsumerAnswer::Ack, 0);
    assert_eq!(given(&mut machine).into_iter().map(|(_, at)| at).collect::<Vec<_>>(), [5]);
    let consumer = of(&machine, 1);
    machine.answer(consumer, &[read(1)], &ConsumerAnswer::Park { reason: String::new() }, 0);
    assert_eq!(given(&mut machine).into_iter().map(|(_, at)| at).collect::<Vec<_>>(), [4]);
}

#[test]
fn checkpoints_come_by_count_by_time_and_at_the_end() {
    let mut machine = machine(GroupSettings {
        checkpoint_events_min: 2,
        checkpoint_events_max: 4,
        checkpoint_after_ms: 50,
        ..settings()
    });
    machine.enter(ConsumerId(1), 10, 0);
    machine.take(ItemSource::Read, page(1..=8), Position(8), 0);
    let due = |machine: &GroupMachine, now, is_end| {
        machine.due_checkpoint(ItemSource::Read, now, is_end).map(|at| at.position.0)
    };
    machine.answer(ConsumerId(1), &[read(1)], &ConsumerAnswer::Ack, 0);
    assert_eq!((due(&machine, 60, false), due(&machine, 0, true)), (None, Some(1)));
    machine.answer(ConsumerId(1), &[read(2)], &ConsumerAnswer::Skip, 0);
    assert_eq!((due(&machine, 40, false), due(&machine, 60, false)), (None, Some(2)));
    assert_eq!(machine.next_checkpoint(), Some(50));
    // What a checkpoint would not take in does not count for it.
    machine.answer(ConsumerId(1), &[read(4), read(5)], &ConsumerAnswer::Ack, 0);
    assert_eq!(due(&machine, 0, false), None);
    let two = machine.due_checkpoint(ItemSource::Read, 60, false).unwrap();
    machine.answer(ConsumerId(1), &[read(3)], &ConsumerAnswer::Ack, 0);
    machine.checkpointed(ItemSource::Read, two, 60);
    // What was settled while it was written counts for the next one.
    assert_eq!((due(&machine, 60, false), due(&machine, 110, false)), (None, Some(5)));
    assert_eq!(machine.next_checkpoint(), Some(110));
    machine.answer(ConsumerId(1), &[read(6), read(7), read(8)], &ConsumerAnswer::Ack, 0);
    assert_eq!(due(&machine, 60, false), Some(8));
}

fn padded(position: u64, bytes: usize) -> (Position, RecordedEvent) {
    let mut event = event(position);
    event.data = vec![0; bytes].into();
    (Position(position), event)
}

#[test]
fn a_reason_of_any_length_is_cut_and_kept_once_for_all_events_that_it_is_given_for() {
    let mut machine = machine(settings());
    machine.enter(ConsumerId(1), 2_000, 0);
    machine.take(ItemSource::Read, page(1..=2_000), Position(2_000), 0);
    let ids: Vec<_> = machine.deliveries().iter().map(|(_, given)| given.id).collect();
    // The cut would be within a character.
    let reason = format!("x{}", "ä".repeat(2 << 20));
    machine.answer(ConsumerId(1), &ids, &ConsumerAnswer::Park { reason }, 0);
    let parks = machine.parks();
    assert_eq!(parks.len(), 2_000);
    assert_eq!(parks[0].reason.len(), REASON_BYTES_MAX - 1);
    assert!(parks.iter().all(|order| Arc::ptr_eq(&order.reason, &parks[0].reason)));
}

#[test]
fn what_is_taken_back_before_it_was_handed_out_is_never_handed_out() {
    let mut machine = machine(settings());
    machine.enter(ConsumerId(1), 1, 0);
    machine.enter(ConsumerId(2), 1, 0);
    machine.take(ItemSource::Read, page([1]), Position(1), 0);
    machine.tick(100);
    assert!(machine.revoked().is_empty());
    assert_eq!(given(&mut machine), [(2, 1)]);
    // It times out again, and the late answer comes while it is on its way to the same consumer.
    machine.leave(ConsumerId(1), 100);
    machine.tick(200);
    assert_eq!(machine.revoked(), [(ConsumerId(2), read(1))]);
    machine.answer(ConsumerId(2), &[read(1)], &ConsumerAnswer::Ack, 200);
    assert!(given(&mut machine).is_empty());
    assert_eq!(machine.load(), MachineLoad::default());
}

#[test]
fn memory_is_bounded_by_all_that_an_event_has_and_by_what_consumers_have() {
    let mut tagged = machine(settings());
    tagged.enter(ConsumerId(1), 1, 0);
    let tags = (0..64).fold(Tags::none(), |tags, tag| tags.with(format!("{tag:0500}")));
    let mut at = 0;
    while tagged.room() > 0 {
        at += 1;
        let event = RecordedEvent { tags: tags.clone(), ..event(at) };
        tagged.take(ItemSource::Read, vec![(Position(at), event)], Position(at), 0);
        tagged.settings.buffer_events = 1_000_000;
    }
    assert!((at as usize) <= 1 + HELD_BYTES_MAX / (64 * 500), "{at} events are held");
    // What one consumer has does not stop the others.
    let mut large = machine(GroupSettings { message_timeout_ms: 0, ..settings() });
    large.enter(ConsumerId(1), 10_000, 0);
    let of = 64 << 10;
    large.take(ItemSource::Read, (1..=500).map(|at| padded(at, of)).collect(), Position(500), 0);
    let had = given(&mut large);
    assert!((200..=OUT_BYTES_MAX / of).contains(&had.len()), "{} are out", had.len());
    large.enter(ConsumerId(2), 10, 0);
    let mut through = 500;
    for _ in 0..50 {
        let ids: Vec<_> = given(&mut large).iter().map(|(to, at)| (*to, read(*at))).collect();
        assert!(!ids.is_empty() && ids.iter().all(|(to, _)| *to == 2), "{ids:?}");
        let ids: Vec<_> = ids.into_iter().map(|(_, id)| id).collect();
        large.answer(ConsumerId(2), &ids, &ConsumerAnswer::Ack, 0);
        if large.room() > 0 {
            through += 1;
            large.take(ItemSource::Read, vec![padded(through, of)], Position(through), 0);
        }
    }
    assert!(through > 500, "nothing more is read");
    assert!(large.items.bytes() <= 2 * HELD_BYTES_MAX);
}

#[test]
fn an_order_by_one_key_for_all_events_costs_no_more_than_other_orders() {
    let ordered = Some(KeyOf::Tag("all".to_owned()));
    let settings = GroupSettings { ordered, message_timeout_ms: 0, ..settings() };
    let mut machine = machine(settings);
    machine.enter(ConsumerId(1), 10_000, 0);
    let count = 20_000;
    let one_key = |at| RecordedEvent { tags: Tags::none().with("all"), ..event(at) };
    let events = (1..=count).map(|at| (Position(at), one_key(at))).collect();
    // With a look at all events of the key for each of them, this takes minutes.
    machine.take(ItemSource::Read, events, Position(count), 0);
    for at in 1..=count {
        assert_eq!(given(&mut machine), [(1, at)]);
        machine.answer(ConsumerId(1), &[read(at)], &ConsumerAnswer::Ack, 0);
    }
    assert_eq!(machine.settled_through(ItemSource::Read), Position(count));
}

#[test]
fn a_time_out_that_is_given_later_holds_for_what_is_out() {
    let never = GroupSettings { message_timeout_ms: 0, ..settings() };
    let mut machine = machine(never.clone());
    machine.enter(ConsumerId(1), 1, 0);
    machine.take(ItemSource::Read, page([1]), Position(1), 0);
    assert_eq!((given(&mut machine), machine.next_tick()), (vec![(1, 1)], None));
    machine.configure(settings(), 50);
    assert_eq!(machine.next_tick(), Some(150));
    machine.configure(never, 60);
    assert_eq!(machine.next_tick(), None);
    machine.configure(GroupSettings { message_timeout_ms: 1, ..settings() }, 60);
    assert_eq!(machine.next_tick(), Some(160));
}

/// A group with its store: what is durable outlives a crash of the machine.
struct RandomGroup {
    random: fastrand::Rng,
    settings: GroupSettings,
    machine: GroupMachine,
    now: Millis,
    head: u64,
    checkpoint: [Position; 2],
    /// Events that were parked, in the order of their records.
    parked: Vec<u64>,
    /// Orders on their way, as an append that was not answered.
    parking: Vec<ParkOrder>,
    /// Records up to here are to be replayed.
    replayed: u64,
    /// Events that each consumer has, in its queue or taken out of it, when all was handed out.
    out: BTreeMap<ConsumerId, BTreeSet<ItemId>>,
    settled: BTreeSet<ItemId>,
    consumers: u64,
}

impl RandomGroup {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let strategies = [
            ConsumerStrategy::RoundRobin,
            ConsumerStrategy::DispatchToSingle,
            ConsumerStrategy::Pinned(KeyOf::Stream),
            ConsumerStrategy::Pinned(KeyOf::Correlation),
        ];
        let orders = [None, Some(KeyOf::Stream), Some(KeyOf::Tag("user:".to_owned()))];
        let settings = GroupSettings {
            strategy: random.choice(strategies).unwrap(),
            ordered: random.choice(orders).unwrap(),
            retries_max: random.u32(0..4),
            buffer_events: random.u32(1..20),
            batch_events: random.u32(1..8),
            message_timeout_ms: if random.u8(0..4) == 0 { 0 } else { 100 },
            ..settings()
        };
        Self {
            random,
            machine: machine(settings.clone()),
            settings,
            now: 0,
            head: 0,
            checkpoint: [Position::START; 2],
            parked: Vec::new(),
            parking: Vec::new(),
            replayed: 0,
            out: BTreeMap::new(),
            settled: BTreeSet::new(),
            consumers: 0,
        }
    }

    fn step(&mut self) {
        match self.random.u8(0..16) {
            0 | 1 => self.head += self.random.u64(0..10),
            2..=4 => self.fetch(),
            5 if self.out.len() < 4 => {
                self.consumers += 1;
                let id = ConsumerId(self.consumers);
                self.out.insert(id, BTreeSet::new());
                self.machine.enter(id, self.random.usize(1..6), self.now);
            }
            6 if self.random.u8(0..3) == 0 => {
                let Some(id) = self.random.choice(self.out.keys().copied()) else { return };
                self.out.remove(&id);
                self.machine.leave(id, self.now);
            }
            7 => {
                self.now += self.random.u64(0..60);
                self.machine.tick(self.now);
            }
            8 => self.park(),
            9 => self.write_checkpoint(),
            10 if self.random.u8(0..8) == 0 => self.crash(),
            11 if self.random.u8(0..8) == 0 => self.replayed = self.parked.len() as u64,
            12 if self.random.u8(0..8) == 0 => {
                self.settings.retries_max = self.random.u32(0..4);
                self.machine.configure(self.settings.clone(), self.now);
            }
            14 => self.go_back(),
            _ => self.answer(),
        }
        // The driver does several things before it hands out.
        if self.random.u8(0..3) != 0 {
            self.look();
        }
    }

    /// Reads what is behind some place once more. What is not settled comes no second time.
    fn go_back(&mut self) {
        let done = self.machine.taken_through(ItemSource::Read).0;
        let to = self.random.u64(self.checkpoint[0].0..=done);
        self.machine.go_back(ItemSource::Read, Position(to));
        let again = |id: &ItemId| id.source == ItemSource::Read && id.position.0 > to;
        self.settled.retain(|id| !again(id));
    }

    fn fetch(&mut self) {
        let room = self.machine.room() as u64;
        if room == 0 {
            return;
        }
        let done = self.machine.taken_through(ItemSource::Parked).0;
        if done < self.replayed {
            let through = (done + room).min(self.replayed);
            let records = done + 1..=through;
            let events =
                records.map(|at| (Position(at), event(self.parked[at as usize - 1]))).collect();
            self.machine.take(ItemSource::Parked, events, Position(through), self.now);
        } else {
            let done = self.machine.taken_through(ItemSource::Read).0;
            let through = (done + room).min(self.head);
            self.machine.take(
                ItemSource::Read,
                page(done + 1..=through),
                Position(through),
                self.now,
            );
        }
    }

    fn answer(&mut self) {
        let Some(id) = self.random.choice(self.out.keys().copied()) else { return };
        let mut has: Vec<_> = self.out[&id].iter().copied().collect();
        self.random.shuffle(&mut has);
        has.truncate(self.random.usize(0..4));
        let answer = match self.random.u8(0..8) {
            0 => ConsumerAnswer::Retry,
            1 => ConsumerAnswer::Park { reason: "bad".to_owned() },
            2 => ConsumerAnswer::Skip,
            _ => ConsumerAnswer::Ack,
        };
        if matches!(answer, ConsumerAnswer::Ack | ConsumerAnswer::Skip) {
            // It may have gone to another one meanwhile.
            let counts = |of: &&ItemId| {
                self.machine.items.get(**of).is_some_and(|item| match item.state {
                    ItemState::With(holder) => holder == id,
                    ItemState::Waiting => item.last == Some(id),
                    ItemState::Parking => false,
                })
            };
            self.settled.extend(has.iter().filter(counts));
        }
        for taken in &has {
            self.out.get_mut(&id).unwrap().remove(taken);
        }
        self.machine.answer(id, &has, &answer, self.now);
    }

    /// Writes what is to be parked, as an append that is answered some time later.
    fn park(&mut self) {
        let ids: Vec<_> = self.parking.iter().map(|order| order.id).collect();
        for order in std::mem::take(&mut self.parking) {
            self.parked.push(order.position.0);
            self.settled.insert(order.id);
        }
        self.machine.parked(&ids, self.now);
        self.parking = self.machine.parks();
    }

    fn write_checkpoint(&mut self) {
        for (at, source) in [ItemSource::Read, ItemSource::Parked].into_iter().enumerate() {
            if let Some(due) = self.machine.due_checkpoint(source, self.now, self.random.bool()) {
                self.machine.checkpointed(source, due, self.now);
                self.checkpoint[at] = due.position;
            }
        }
    }

    /// The server ends: another one begins from what is durable.
    fn crash(&mut self) {
        let [read, replayed] = self.checkpoint;
        let places = places([read.0, replayed.0, 0]);
        self.machine = GroupMachine::new(self.settings.clone(), &places, self.now);
        self.out.clear();
        self.parking.clear();
    }

    /// Takes what goes out, and holds everything against what must be.
    fn look(&mut self) {
        for (consumer, id) in self.machine.revoked() {
            // What was answered is out of it already.
            if let Some(has) = self.out.get_mut(&consumer) {
                has.remove(&id);
            }
        }
        for (consumer, delivery) in self.machine.deliveries() {
            let holders: Vec<_> =
                self.out.iter().filter(|(_, has)| has.contains(&delivery.id)).collect();
            assert!(holders.is_empty(), "{:?} is with {holders:?} already", delivery.id);
            assert!(delivery.retries <= 4, "{delivery:?}");
            self.out.get_mut(&consumer).unwrap().insert(delivery.id);
        }
        for (consumer, has) in &self.out {
            let load = &self.machine.consumers()[consumer];
            assert!(has.len() <= load.capacity && has.len() == load.in_flight, "{load:?} {has:?}");
        }
        if let Some(by) = &self.settings.ordered {
            let mut keys = BTreeSet::new();
            for id in self.out.values().flatten() {
                let key = by.of(&self.machine.items.get(*id).unwrap().event);
                assert!(keys.insert(key), "two events of one key are out");
            }
        }
        for (at, source) in [ItemSource::Read, ItemSource::Parked].into_iter().enumerate() {
            let settled = self.machine.settled_through(source);
            assert!(self.checkpoint[at] <= settled);
            let unsettled = (1..=settled.0)
                .map(|position| ItemId { source, position: Position(position) })
                .find(|id| !self.settled.contains(id));
            assert_eq!(unsettled, None, "the checkpoint is ahead of it");
        }
        let buffer = self.settings.buffer_events as usize;
        let out: usize = self.out.values().map(BTreeSet::len).sum();
        let load = self.machine.load();
        assert_eq!(load.in_flight, out);
        // What came back was in memory before.
        assert!(load.waiting <= buffer + 4 * 6, "{load:?}");
    }

    /// Everything that was recorded is settled in the end.
    fn end(&mut self) {
        let id = ConsumerId(self.consumers + 1);
        self.out.insert(id, BTreeSet::new());
        self.machine.enter(id, 5, self.now);
        self.replayed = self.parked.len() as u64;
        loop {
            self.fetch();
            self.park();
            self.look();
            let (read, replayed) = (
                self.machine.settled_through(ItemSource::Read).0,
                self.machine.settled_through(ItemSource::Parked).0,
            );
            if read == self.head && replayed == self.replayed {
                break;
            }
            for (consumer, has) in &mut self.out {
                let has: Vec<_> = std::mem::take(has).into_iter().collect();
                self.settled.extend(&has);
                self.machine.answer(*consumer, &has, &ConsumerAnswer::Ack, self.now);
            }
            self.look();
        }
        assert_eq!(self.machine.load(), MachineLoad::default());
    }
}

#[test]
fn nothing_is_lost_doubled_or_passed_over_whatever_happens() {
    let seed = leftfold::testing::seed();
    for run in 0..leftfold::testing::extent(300, 20_000) {
        let mut group = RandomGroup::new(seed.wrapping_add(run));
        for _ in 0..200 {
            group.step();
        }
        group.end();
    }
}
