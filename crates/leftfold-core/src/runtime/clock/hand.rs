//! A clock that is moved by hand: by a test, or by the schedule of a simulation.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::runtime::{Clock, Sleep};
use crate::store::Timestamp;

/// Clock that stands until a test moves it: no test waits for a deadline, or for an end of it.
///
/// A runtime takes it by [`Runtime::clock`](crate::runtime::Runtime::clock). A task that sleeps by
/// it is woken as soon as it is moved to the moment, or beyond. What is recorded in a store has the
/// time of the store's own clock: a clock that is [`going`](Self::going) agrees with that of the
/// machine.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use leftfold_core::runtime::{Clock, Runtime};
/// use leftfold_core::store::Store;
/// use leftfold_testing::HandClock;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = Arc::new(HandClock::default());
/// let running = Runtime::new(&Store::memory()).clock(clock.clone()).start().await?;
/// let deadline = clock.now().plus(Duration::from_secs(3_600));
/// let waiting = clock.sleep_until(deadline);
/// clock.advance(Duration::from_secs(3_600));
/// waiting.await;
/// running.stop().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct HandClock(Mutex<HandClockState>);

#[derive(Debug)]
struct HandClockState {
    set_to: Timestamp,
    /// Moment since which it goes on from there; `None` if it stands.
    goes_since: Option<Instant>,
    /// The latest to which it was ever set.
    latest: Timestamp,
    sleeping: BTreeMap<(Timestamp, u64), Sleeper>,
    sleeps: u64,
    /// Number of readings of the clock since the last point of a simulation.
    looks: u32,
    looks_max: Option<u32>,
}

#[derive(Debug)]
struct Sleeper {
    waker: Waker,
    /// True if something must happen then.
    matters: bool,
}

/// The same clock, for tasks that sleep until something must happen.
#[derive(Debug)]
#[doc(hidden)]
pub struct DueClock(pub Arc<HandClock>);

/// Number of readings of the clock between two points beyond which a task runs in circles.
const LOOKS_MAX: u32 = 100_000;

impl HandClockState {
    fn now(&self) -> Timestamp {
        self.goes_since.map_or(self.set_to, |since| self.set_to.plus(since.elapsed()))
    }

    fn set(&mut self, now: Timestamp) {
        self.set_to = now;
        self.goes_since = self.goes_since.map(|_| Instant::now());
        self.latest = self.latest.max(now);
        for sleeper in self.sleeping.range(..=(now, u64::MAX)).map(|(_, sleeper)| sleeper) {
            sleeper.waker.wake_by_ref();
        }
    }
}

/// A clock that stands at the machine's time.
impl Default for HandClock {
    fn default() -> Self {
        Self::at(Timestamp::now())
    }
}

impl HandClock {
    /// A clock that stands at a moment.
    #[must_use]
    pub fn at(now: Timestamp) -> Self {
        let hands = HandClockState {
            set_to: now,
            goes_since: None,
            latest: now,
            sleeping: BTreeMap::new(),
            sleeps: 0,
            looks: 0,
            looks_max: None,
        };
        Self(Mutex::new(hands))
    }

    /// A clock that goes by itself, from the machine's time on, and is moved beside: for stories
    /// over a real store, whose records have the machine's time.
    #[must_use]
    pub fn going() -> Self {
        let clock = Self::default();
        clock.hands().goes_since = Some(Instant::now());
        clock
    }

    /// A clock of a simulation, at which nobody may look forever without waiting for anything.
    #[doc(hidden)]
    pub fn of_simulation(now: Timestamp) -> Self {
        let clock = Self::at(now);
        clock.hands().looks_max = Some(LOOKS_MAX);
        clock
    }

    /// Lets time pass.
    pub fn advance(&self, time: Duration) {
        let mut hands = self.hands();
        let now = hands.now().plus(time);
        hands.set(now);
    }

    /// Sets the clock, forwards or back, and wakes the tasks that wait for that moment.
    pub fn set(&self, now: Timestamp) {
        self.hands().set(now);
    }

    fn hands(&self) -> MutexGuard<'_, HandClockState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everyone waits, and something is carried out now.
    #[doc(hidden)]
    pub fn begin_point(&self) {
        self.hands().looks = 0;
    }

    /// Waits until it has come to a moment by going.
    async fn comes_to(&self, moment: Timestamp) {
        loop {
            let left = moment.since(self.hands().now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left).await;
        }
    }

    /// Tells whether the clock was ever at the moment or later: the world outside does not turn its
    /// clock back.
    #[doc(hidden)]
    pub fn has_been(&self, moment: Timestamp) -> bool {
        self.hands().latest >= moment
    }

    /// The first moment from `at_least` on, before another one, that someone waits for.
    #[doc(hidden)]
    pub fn awaited(&self, at_least: Timestamp, before: Timestamp) -> Option<Timestamp> {
        let hands = self.hands();
        let from = at_least.max(hands.set_to.plus(Duration::from_micros(1)));
        if from >= before {
            return None;
        }
        hands.sleeping.range((from, 0)..(before, 0)).next().map(|((moment, _), _)| *moment)
    }

    /// The next moment at which something must happen.
    #[doc(hidden)]
    pub fn due(&self) -> Option<Timestamp> {
        let hands = self.hands();
        let mut due = hands
            .sleeping
            .iter()
            .filter(|((moment, _), sleeper)| sleeper.matters && *moment > hands.set_to);
        due.next().map(|((moment, _), _)| *moment)
    }
}

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        let mut hands = self.hands();
        hands.looks = hands.looks.saturating_add(1);
        // The simulation takes the panic as a failure of the consumer that runs.
        assert!(
            hands.looks_max.is_none_or(|max| hands.looks < max),
            "it runs in circles, without waiting for anything"
        );
        hands.now()
    }

    fn sleep_until(&self, moment: Timestamp) -> Sleep<'_> {
        let sleeping = SleepFuture { clock: self, moment, matters: false, number: None };
        if self.hands().goes_since.is_none() {
            return Box::pin(sleeping);
        }
        Box::pin(async move {
            tokio::select! {
                biased;
                () = sleeping => {}
                () = self.comes_to(moment) => {}
            }
        })
    }
}

impl Clock for DueClock {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep_until(&self, moment: Timestamp) -> Sleep<'_> {
        Box::pin(SleepFuture { clock: &self.0, moment, matters: true, number: None })
    }
}

struct SleepFuture<'a> {
    clock: &'a HandClock,
    moment: Timestamp,
    matters: bool,
    number: Option<u64>,
}

impl Future for SleepFuture<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let clock = self.clock;
        let mut hands = clock.hands();
        if hands.now() >= self.moment {
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

impl Drop for SleepFuture<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.clock.hands().sleeping.remove(&(self.moment, number));
        }
    }
}
