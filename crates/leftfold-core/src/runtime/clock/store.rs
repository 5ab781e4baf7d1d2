//! The clock of a store, as the runtimes behind it follow it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::runtime::clock::{Clock, Sleep};
use crate::store::{ReadError, Store, Timestamp};

/// Time between two questions for the store's time.
const ASKED_EVERY: Duration = Duration::from_secs(2);
/// Longest sleep before the clock is read again: what the store tells may change it.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// Part of the time that passes by which the clock may be wrong as a clock of the machine: those
/// that are kept right are steered by half of this at most, and this is one thousandth.
const DRIFT_PART: u32 = 1_000;
/// An answer that came within this time is good enough to begin with, as is the best of several.
const ANSWERED_SOON: Duration = Duration::from_millis(500);
const FIRST_QUESTIONS: u32 = 3;

/// The clock by which a store records, as far as it is known here.
///
/// It is never ahead of the store's: no timer fires before the store's clock shows that it is due,
/// whatever the machine's wall clock shows, which is not asked. It is behind by the time that an
/// answer of the store takes, and by the two milliseconds or so that clocks may drift apart between
/// two answers. If the store's clock is set, it follows with the next answer.
#[derive(Debug)]
pub(in crate::runtime) struct StoreClock {
    store: Store,
    known: Mutex<StoreTime>,
}

/// A moment that the store's clock had reached at an instant of this machine.
#[derive(Clone, Copy, Debug)]
struct StoreTime {
    shown: Timestamp,
    at: Instant,
}

impl StoreTime {
    /// Returns a moment that the store's clock has reached at the instant.
    fn at(self, instant: Instant) -> Timestamp {
        let passed = instant.saturating_duration_since(self.at);
        self.shown.plus(passed - passed / DRIFT_PART)
    }

    /// Takes an answer of the store. It was true at some instant after the question.
    fn told(self, told: Timestamp, asked: Instant, answered: Instant) -> Self {
        let expected = self.at(answered);
        let took = answered.saturating_duration_since(asked);
        let latest = told.plus(took + took / DRIFT_PART);
        // Beyond what the answer allows, the store's clock was set back.
        let shown = if expected > latest { told } else { expected.max(told) };
        Self { shown, at: answered }
    }
}

impl StoreClock {
    /// The clock of a store that was not asked yet: it has reached the time of the last append.
    pub(in crate::runtime) fn of(store: &Store) -> Self {
        let known = StoreTime { shown: store.head().recorded_at, at: Instant::now() };
        Self { store: store.clone(), known: Mutex::new(known) }
    }

    /// Asks until the store has told its time well enough to begin with, or is closed.
    pub(in crate::runtime) async fn begin(&self) -> Result<(), ReadError> {
        for _ in 0..FIRST_QUESTIONS {
            if self.ask().await? <= ANSWERED_SOON {
                break;
            }
        }
        Ok(())
    }

    /// Follows the store's clock until it is dropped, or the store is closed.
    pub(in crate::runtime) async fn follow(&self) {
        loop {
            sleep(ASKED_EVERY).await;
            match self.ask().await {
                Ok(_) => {}
                Err(ReadError::Closed) => return,
                // Until there is an answer, the clock goes on by itself.
                Err(error) => tracing::debug!(%error, "the store does not tell its time"),
            }
        }
    }

    /// Asks for the time. Returns how long the answer took.
    async fn ask(&self) -> Result<Duration, ReadError> {
        let asked = Instant::now();
        let told = self.store.now().await?;
        let answered = Instant::now();
        let mut known = self.known();
        *known = known.told(told, asked, answered);
        Ok(answered.saturating_duration_since(asked))
    }

    fn known(&self) -> MutexGuard<'_, StoreTime> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for StoreClock {
    fn now(&self) -> Timestamp {
        self.known().at(Instant::now())
    }

    fn sleep_until(&self, moment: Timestamp) -> Sleep<'_> {
        Box::pin(async move {
            loop {
                let left = moment.since(self.now());
                if left.is_zero() {
                    return;
                }
                sleep(left.min(SLEEP_MAX)).await;
            }
        })
    }
}

/// The task that follows the clock of a store. Dropped, it ends, and the clock goes on by itself.
#[derive(Debug)]
pub(in crate::runtime) struct FollowedClock(JoinHandle<()>);

impl FollowedClock {
    pub(in crate::runtime) fn new(clock: Arc<StoreClock>) -> Self {
        Self(tokio::spawn(async move { clock.follow().await }))
    }
}

impl Drop for FollowedClock {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const MINUTE: Duration = Duration::from_secs(60);
    const MILLI: Duration = Duration::from_millis(1);

    /// Has a store whose clock, and a machine whose clocks do as they like, and looks that no
    /// moment is told before the store's clock has reached it.
    #[test]
    fn the_clock_is_never_ahead_of_the_stores_and_close_behind_it() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut chance = fastrand::Rng::with_seed(seed);
        let (began, start) = (Instant::now(), Timestamp::from_micros(1_700_000_000_000_000));
        for _ in 0..200 {
            // The machine's clock goes faster or slower by up to half of a thousandth.
            let part = i64::from(chance.i32(-500..500));
            let of_store = |passed: Duration| {
                let drift = passed / 1_000_000 * part.unsigned_abs() as u32;
                start.plus(if part < 0 { passed - drift } else { passed + drift })
            };
            let (mut passed, mut soonest) = (Duration::ZERO, Duration::MAX);
            let mut known = StoreTime { shown: start, at: began };
            for _ in 0..50 {
                let (there, back) = (chance.u32(0..80) * MILLI, chance.u32(0..80) * MILLI);
                let told = of_store(passed + there);
                let answered = passed + there + back;
                known = known.told(told, began + passed, began + answered);
                (passed, soonest) = (answered, back.min(soonest.saturating_add(6 * MILLI)));
                let until = passed + chance.u32(0..3_000) * MILLI;
                while passed < until {
                    passed += 100 * MILLI;
                    let (shown, is) = (known.at(began + passed), of_store(passed));
                    assert!(shown <= is, "{shown} is shown at {is}");
                    let behind = is.since(shown);
                    assert!(behind <= soonest + 6 * MILLI, "{behind:?} behind");
                }
            }
        }
    }

    #[test]
    fn a_clock_that_is_set_is_followed_with_the_next_answer_either_way() {
        let (began, start) = (Instant::now(), Timestamp::from_micros(1_700_000_000_000_000));
        let known = StoreTime { shown: start, at: began };
        let later = began + SECOND;
        let forwards = known.told(start.plus(5 * MINUTE), later, later + MILLI);
        assert_eq!(forwards.at(later + MILLI), start.plus(5 * MINUTE));
        let back = known.told(start.minus(5 * MINUTE), later, later + MILLI);
        assert_eq!(back.at(later + MILLI), start.minus(5 * MINUTE));
        // An answer that took long says that the clock may well be where it was thought to be.
        let slow = known.told(start.plus(MILLI), began, later);
        assert_eq!(slow.at(later), start.plus(SECOND - MILLI));
    }

    #[tokio::test]
    async fn a_store_that_was_not_asked_has_come_to_its_last_append() {
        let store = Store::memory();
        let clock = StoreClock::of(&store);
        assert!(clock.now() < Timestamp::now().minus(MINUTE));
        let before = Timestamp::now();
        clock.begin().await.unwrap();
        assert!(clock.now() >= before);
    }
}
