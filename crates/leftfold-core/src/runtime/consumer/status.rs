//! What the runtime's consumers are doing: for status pages, and for lists of what is open.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use tokio::sync::watch;

use super::unheard::though;
use crate::fold::UnheardTypes;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::effect::EffectId;
use crate::store::{EventType, Position, RecordedEvent, State, Status, Store, Timestamp};

/// State of one consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerStatus {
    /// Its name.
    pub name: &'static str,
    /// Position up to which it has taken up every event that concerns it.
    pub through: Position,
    /// End of the log.
    pub head: Position,
    /// Condition that it waits for, for people.
    pub waits_for: String,
    /// Types that it asks for and that nobody knows: no event of them was ever recorded, and no
    /// enum declares them that it names in `owners()`, or that records in the store. In a new
    /// program that passes by itself; otherwise the name that is read differs from the one that is
    /// written.
    pub unheard_types: Vec<EventType>,
    /// Number of its effects that are being carried out, or of other work under way.
    pub under_way: usize,
    /// Number of its effects or timers that wait, or are in doubt; for a projection, the number of
    /// parked items.
    pub waiting: usize,
    /// Number of events it has parked, including those that wait behind others.
    pub parked: usize,
    /// Number of its effects that are in doubt.
    pub in_doubt: usize,
    /// Number of its commands that fail for a reason that does not pass.
    pub stuck: usize,
    /// True if another runtime does its work, and this one waits to take over: which is as it
    /// should be.
    pub standby: bool,
    /// True if it does not go on at all: [`waits_for`](Self::waits_for) says why.
    pub stalled: bool,
    /// True if something of it goes on only when a person does something: all of it, parked events,
    /// effects in doubt, or commands that are stuck.
    pub needs_person: bool,
    /// Events of the log that it has gone past since it was started.
    pub events: u64,
    /// Number of them per second, over the last seconds.
    pub per_second: u64,
}

impl ConsumerStatus {
    /// Returns the number of events of the log that it has not gone past.
    #[must_use]
    pub fn lag(&self) -> u64 {
        self.head.0.saturating_sub(self.through.0)
    }

    /// Returns the time to the end of the log at its present speed; `None` if it does not move.
    #[must_use]
    pub fn time_left(&self) -> Option<Duration> {
        match (self.lag(), self.per_second) {
            (0, _) => Some(Duration::ZERO),
            (_, 0) => None,
            (lag, per_second) => {
                Some(Duration::from_millis(lag.saturating_mul(1_000) / per_second))
            }
        }
    }

    /// Tells whether it goes on by itself, now or when something comes back.
    pub(in crate::runtime) fn goes_on(&self) -> bool {
        !(self.stalled && self.needs_person)
    }

    /// Tells whether it has taken up everything, or as much as it can without others, and nothing
    /// is under way.
    pub(in crate::runtime) fn is_idle(&self) -> bool {
        (self.through >= self.head || !self.goes_on() || self.standby) && self.under_way == 0
    }
}

/// Counts of the items of a consumer that wait for a person.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::runtime) struct ForPerson {
    pub(in crate::runtime) parked: usize,
    pub(in crate::runtime) in_doubt: usize,
    pub(in crate::runtime) stuck: usize,
}

/// States of all consumers of one runtime.
///
/// A consumer says what is `under_way` before it waits for anything that may lead to another event:
/// so if all of them are at the end and nothing is under way, all is done.
#[derive(Debug)]
pub(in crate::runtime) struct Board {
    clock: Arc<dyn Clock>,
    open: Mutex<BTreeSet<EffectId>>,
    consumers: Mutex<HashMap<&'static str, ConsumerEntry>>,
    /// Counts requests to look up the effects in doubt.
    looks: watch::Sender<u64>,
    /// Waker of the task that waits for news of a consumer.
    waker: Mutex<Option<Waker>>,
}

#[derive(Debug)]
struct ConsumerEntry {
    status: ConsumerStatus,
    /// Number of events it had gone past at earlier moments.
    samples: VecDeque<(Timestamp, u64)>,
    doing: Option<Arc<Doing>>,
    unheard: Option<Arc<UnheardTypes>>,
    /// True if it has started and not ended.
    is_running: bool,
}

/// The speed is taken over this time, from samples this far apart.
const SPEED_OVER: Duration = Duration::from_secs(10);
const BETWEEN_SAMPLES: Duration = Duration::from_millis(250);
/// Time after which a call that is under way is named in the status.
const NAMED_AFTER: Duration = Duration::from_secs(2);
/// Time after which a call that cannot be interrupted counts as keeping its consumer from going on.
const STANDS_STILL_AFTER: Duration = Duration::from_secs(30);

impl Default for Board {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock::default()))
    }
}

impl Board {
    pub(in crate::runtime) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            open: Mutex::default(),
            consumers: Mutex::default(),
            looks: watch::Sender::new(0),
            waker: Mutex::default(),
        }
    }

    pub(in crate::runtime) fn clock(&self) -> Arc<dyn Clock> {
        self.clock.clone()
    }

    pub(in crate::runtime) fn opened(&self, id: EffectId) {
        self.open().insert(id);
    }

    pub(in crate::runtime) fn closed(&self, id: EffectId) {
        self.open().remove(&id);
    }

    /// The effects that were taken up and are not concluded, after one of them.
    pub(in crate::runtime) fn open_after(&self, after: EffectId, at_most: usize) -> Vec<EffectId> {
        use std::ops::Bound::{Excluded, Unbounded};
        self.open().range((Excluded(after), Unbounded)).take(at_most).copied().collect()
    }

    /// Everything up to here was taken up by all of these consumers.
    pub(in crate::runtime) fn taken_up(
        &self,
        names: impl Iterator<Item = &'static str>,
    ) -> Position {
        let consumers = self.consumers();
        let through =
            |name| consumers.get(name).map_or(Position::START, |consumer| consumer.status.through);
        names.map(through).min().unwrap_or_default()
    }

    pub(in crate::runtime) fn look_again(&self) {
        self.looks.send_modify(|looks| *looks = looks.wrapping_add(1));
    }

    /// Returns the count of requests to look up the effects in doubt.
    pub(in crate::runtime) fn looks(&self) -> watch::Receiver<u64> {
        self.looks.subscribe()
    }

    /// It is about to start, or has ended.
    pub(in crate::runtime) fn say(&self, name: &'static str, waits_for: &str) {
        self.with(name, |consumer| {
            let status = &mut consumer.status;
            waits_for.clone_into(&mut status.waits_for);
            (status.stalled, status.needs_person, status.standby) = (false, false, false);
            consumer.is_running = false;
        });
    }

    /// It does not go on until something comes back.
    pub(in crate::runtime) fn say_away(&self, name: &'static str, waits_for: &str) {
        self.with(name, |consumer| {
            let status = &mut consumer.status;
            waits_for.clone_into(&mut status.waits_for);
            (status.stalled, status.needs_person, status.standby, status.under_way) =
                (true, false, false, 1);
        });
    }

    /// Another does its work. Something is under way as long as it is not known that the other is
    /// alive.
    pub(in crate::runtime) fn say_standby(
        &self,
        name: &'static str,
        waits_for: &str,
        under_way: usize,
    ) {
        self.with(name, |consumer| {
            let status = &mut consumer.status;
            waits_for.clone_into(&mut status.waits_for);
            (status.stalled, status.needs_person, status.standby, status.under_way) =
                (false, false, true, under_way);
        });
    }

    /// Sets the counts of its items that wait for a person, until others are set.
    pub(in crate::runtime) fn say_for_person(&self, name: &'static str, what: ForPerson) {
        self.with(name, |consumer| {
            let status = &mut consumer.status;
            (status.parked, status.in_doubt, status.stuck) =
                (what.parked, what.in_doubt, what.stuck);
        });
    }

    /// Something is under way, until more is said.
    pub(in crate::runtime) fn begins(&self, name: &'static str) {
        self.with(name, |consumer| consumer.status.under_way = consumer.status.under_way.max(1));
    }

    /// It does not go on until a person does something.
    pub(in crate::runtime) fn say_stalled(&self, name: &'static str, waits_for: &str) {
        self.with(name, |consumer| {
            let status = &mut consumer.status;
            waits_for.clone_into(&mut status.waits_for);
            (status.stalled, status.needs_person, status.standby, status.under_way) =
                (true, true, false, 0);
        });
    }

    pub(in crate::runtime) fn say_where(
        &self,
        name: &'static str,
        through: Position,
        waits_for: &str,
        under_way: usize,
        waiting: usize,
    ) {
        let now = self.clock.now();
        self.with(name, |consumer| {
            let status = &mut consumer.status;
            // Where it begins, it has not gone past anything.
            let passed = if consumer.samples.is_empty() {
                0
            } else {
                through.0.saturating_sub(status.through.0)
            };
            status.events += passed;
            (status.through, status.under_way, status.waiting) = (through, under_way, waiting);
            (status.stalled, status.needs_person, status.standby) = (false, false, false);
            if status.waits_for != waits_for {
                waits_for.clone_into(&mut status.waits_for);
            }
            let events = status.events;
            consumer.is_running = true;
            consumer.sample(now, events);
        });
    }

    /// Names, from now on, the calls of a consumer that take long.
    pub(in crate::runtime) fn watch(&self, name: &'static str, doing: Arc<Doing>) {
        self.with(name, |consumer| consumer.doing = Some(doing));
    }

    /// Names, from now on, which of the types that a consumer asks for nobody knows.
    pub(in crate::runtime) fn asks_for(&self, name: &'static str, unheard: Arc<UnheardTypes>) {
        self.with(name, |consumer| consumer.unheard = Some(unheard));
    }

    /// The types that nobody knew when a consumer was started.
    pub(in crate::runtime) fn unheard(&self, name: &'static str) -> Option<Arc<UnheardTypes>> {
        self.consumers().get(name)?.unheard.clone()
    }

    /// A consumer has read events.
    pub(in crate::runtime) fn has_read<'e>(
        &self,
        name: &'static str,
        events: impl Iterator<Item = &'e RecordedEvent>,
    ) {
        if let Some(unheard) = self.unheard(name) {
            unheard.are_recorded(events.map(|event| &event.event_type));
        }
    }

    pub(in crate::runtime) fn statuses(&self, store: &Store) -> Vec<ConsumerStatus> {
        let (now, store) = (self.clock.now(), store.status().borrow().clone());
        let mut all: Vec<_> =
            self.consumers().values().map(|consumer| consumer.status(now, &store)).collect();
        all.sort_by_key(|status| status.name);
        all
    }

    /// Tells whether everything recorded was taken up and nothing is under way; if not, the waker
    /// is woken when that may be so.
    pub(in crate::runtime) fn is_idle(&self, store: &Store, waker: &Waker) -> bool {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
        let head = store.head().position;
        let at_end =
            |consumer: &ConsumerEntry| ConsumerStatus { head, ..consumer.status.clone() }.is_idle();
        // Whoever was under way when the end was looked at may have moved it.
        self.consumers().values().all(at_end) && store.head().position == head
    }

    /// Returns the position up to which a consumer has taken up everything, and what it waits for.
    pub(in crate::runtime) fn stands(&self, name: &'static str) -> (Position, String) {
        let consumers = self.consumers();
        let stands =
            |consumer: &ConsumerEntry| (consumer.status.through, consumer.status.waits_for.clone());
        consumers.get(name).map(stands).unwrap_or_default()
    }

    fn with(&self, name: &'static str, change: impl FnOnce(&mut ConsumerEntry)) {
        change(self.consumers().entry(name).or_insert_with(|| ConsumerEntry::new(name)));
        if let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take() {
            waker.wake();
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeSet<EffectId>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn consumers(&self) -> MutexGuard<'_, HashMap<&'static str, ConsumerEntry>> {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConsumerEntry {
    fn new(name: &'static str) -> Self {
        let status = ConsumerStatus {
            name,
            through: Position::START,
            head: Position::START,
            waits_for: String::new(),
            unheard_types: Vec::new(),
            under_way: 0,
            waiting: 0,
            parked: 0,
            in_doubt: 0,
            stuck: 0,
            standby: false,
            stalled: false,
            needs_person: false,
            events: 0,
            per_second: 0,
        };
        Self { status, samples: VecDeque::new(), doing: None, unheard: None, is_running: false }
    }

    fn sample(&mut self, now: Timestamp, events: u64) {
        if self.samples.back().is_none_or(|(at, _)| now.since(*at) >= BETWEEN_SAMPLES) {
            self.samples.push_back((now, events));
        }
        // One that is older stays: the speed is taken from there.
        while self.samples.get(1).is_some_and(|(at, _)| now.since(*at) >= SPEED_OVER) {
            self.samples.pop_front();
        }
    }

    fn status(&self, now: Timestamp, store: &Status) -> ConsumerStatus {
        let head = store.head.position.max(self.status.through);
        let mut status = ConsumerStatus { head, ..self.status.clone() };
        status.needs_person |= status.parked + status.in_doubt + status.stuck > 0;
        if let Some(unheard) = self.unheard.as_ref().filter(|_| self.is_running) {
            status.unheard_types = unheard.now();
            let waits_for_events =
                status.under_way == 0 && !status.stalled && !status.standby && !status.needs_person;
            if waits_for_events {
                status.waits_for.push_str(&though(&status.unheard_types));
            }
        }
        let from = self
            .samples
            .iter()
            .find(|(at, _)| now.since(*at) <= SPEED_OVER)
            .or(self.samples.back());
        if let Some((at, events)) = from {
            let millis = u64::try_from(now.since(*at).as_millis()).unwrap_or(u64::MAX).max(1);
            status.per_second = (status.events - events).saturating_mul(1_000) / millis;
        }
        if let Some((what, since)) = self.doing.as_ref().and_then(|doing| doing.named(now)) {
            status.waits_for = format!("{what}, under way since {} s", since.as_secs());
            status.stalled |= since >= STANDS_STILL_AFTER;
        }
        if let State::Away { detail, .. } = &store.state
            && self.is_running
            && !status.stalled
        {
            // It may not have noticed: it waits for news of the store.
            status.waits_for = format!("the store to come back: {detail}");
            status.stalled = true;
        }
        status
    }
}

/// Calls that a consumer has under way and that may take long: nobody can interrupt them.
#[derive(Debug, Default)]
pub(in crate::runtime) struct Doing(Mutex<CallsUnderWay>);

#[derive(Debug, Default)]
struct CallsUnderWay {
    begun: u64,
    under_way: Vec<CallUnderWay>,
}

#[derive(Debug)]
struct CallUnderWay {
    number: u64,
    what: &'static str,
    position: Position,
    since: Timestamp,
}

/// Something that is being done, until it is dropped.
pub(in crate::runtime) struct Begun<'d>(&'d Doing, u64);

impl Doing {
    pub(in crate::runtime) fn begin(
        &self,
        what: &'static str,
        position: Position,
        since: Timestamp,
    ) -> Begun<'_> {
        let mut calls = self.calls();
        calls.begun += 1;
        let number = calls.begun;
        calls.under_way.push(CallUnderWay { number, what, position, since });
        Begun(self, number)
    }

    /// Returns the call that has taken longest, and its time, if that is long.
    fn named(&self, now: Timestamp) -> Option<(String, Duration)> {
        let calls = self.calls();
        let CallUnderWay { what, position, since, .. } =
            calls.under_way.iter().min_by_key(|call| call.since)?;
        let since = now.since(*since);
        (since >= NAMED_AFTER).then(|| (format!("{what} {position}"), since))
    }

    fn calls(&self) -> MutexGuard<'_, CallsUnderWay> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.calls().under_way.retain(|call| call.number != self.1);
    }
}
