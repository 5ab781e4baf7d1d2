//! The time of a simulation: it stands until the schedule moves it.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::runtime::{Clock, Sleep};
use crate::store::Timestamp;

/// When every simulation begins: 2020-01-01T00:00:00Z.
pub(super) const BEGIN: i64 = 1_577_836_800_000_000;

/// A clock that is moved by hand, and knows who waits for which moment.
#[derive(Debug)]
pub(super) struct HandClock(Mutex<Hands>);

#[derive(Debug)]
struct Hands {
    now: Timestamp,
    /// The latest that it ever was.
    latest: Timestamp,
    sleeping: BTreeMap<(Timestamp, u64), Sleeper>,
    sleeps: u64,
    /// How often the clock was read since the last point.
    looks: u32,
}

#[derive(Debug)]
struct Sleeper {
    waker: Waker,
    /// Whether something must happen then.
    matters: bool,
}

/// The same clock, for whoever sleeps until something must happen.
#[derive(Debug)]
pub(super) struct DueClock(pub(super) Arc<HandClock>);

/// Whoever reads the clock more often between two points runs in circles.
const LOOKS_MAX: u32 = 100_000;

impl HandClock {
    pub(super) fn new() -> Self {
        let now = Timestamp::from_micros(BEGIN);
        Self(Mutex::new(Hands { now, latest: now, sleeping: BTreeMap::new(), sleeps: 0, looks: 0 }))
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everyone waits, and something is carried out now.
    pub(super) fn begin_point(&self) {
        self.hands().looks = 0;
    }

    /// Sets the clock, and wakes who waited for that.
    pub(super) fn set(&self, now: Timestamp) {
        let mut hands = self.hands();
        hands.now = now;
        hands.latest = hands.latest.max(now);
        for sleeper in hands.sleeping.range(..=(now, u64::MAX)).map(|(_, sleeper)| sleeper) {
            sleeper.waker.wake_by_ref();
        }
    }

    /// Whether it was that late at any time: the world outside does not turn its clock back.
    pub(super) fn has_been(&self, moment: Timestamp) -> bool {
        self.hands().latest >= moment
    }

    /// The first moment from `at_least` on, before another one, that someone waits for.
    pub(super) fn awaited(&self, at_least: Timestamp, before: Timestamp) -> Option<Timestamp> {
        let hands = self.hands();
        let from = at_least.max(hands.now.plus(Duration::from_micros(1)));
        if from >= before {
            return None;
        }
        hands.sleeping.range((from, 0)..(before, 0)).next().map(|((moment, _), _)| *moment)
    }

    /// The next moment at which something must happen.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let hands = self.hands();
        let mut due = hands.sleeping.iter().filter(|((moment, _), sleeper)| sleeper.matters && *moment > hands.now);
        due.next().map(|((moment, _), _)| *moment)
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        let mut hands = self.hands();
        hands.looks += 1;
        // The simulation takes the panic as a failure of whoever runs.
        assert!(hands.looks < LOOKS_MAX, "it runs in circles, without waiting for anything");
        hands.now
    }

    fn sleep_until(&self, moment: Timestamp) -> Sleep<'_> {
        Box::pin(Sleeping { clock: self, moment, matters: false, number: None })
    }
}

impl Clock for DueClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep_until(&self, moment: Timestamp) -> Sleep<'_> {
        Box::pin(Sleeping { clock: &self.0, moment, matters: true, number: None })
    }
}

struct Sleeping<'a> {
    clock: &'a HandClock,
    moment: Timestamp,
    matters: bool,
    number: Option<u64>,
}

impl Future for Sleeping<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock;
        let mut hands = clock.hands();
        if hands.now >= self.moment {
            return Poll::Ready(());
        }
        let number = *self.number.get_or_insert_with(|| {
            hands.sleeps += 1;
            hands.sleeps
        });
        let sleeper = Sleeper { waker: context.waker().clone(), matters: self.matters };
        hands.sleeping.insert((self.moment, number), sleeper);
        Poll::Pending
    }
}

impl Drop for Sleeping<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.clock.hands().sleeping.remove(&(self.moment, number));
        }
    }
}
