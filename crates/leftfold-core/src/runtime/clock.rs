//! Time, given to the runtime from outside, so that tests and explorers can own it. It is that of
//! the `store`, unless a caller gives another one.

#[cfg(any(test, feature = "drive"))]
mod hand;
mod store;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::store::{SleepGauge, Timestamp};

#[cfg(any(test, feature = "drive"))]
pub use hand::{DueClock, HandClock};
pub(in crate::runtime) use store::{FollowedClock, StoreClock};

/// A wait until some moment.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Source of the time. Deadlines and due times are moments in the log, that other processes read
/// too: so they are compared with a wall clock.
///
/// ```
/// use std::time::Duration;
///
/// use leftfold_core::runtime::{Clock, Sleep, SystemClock};
/// use leftfold_core::store::Timestamp;
///
/// /// The machine's time, and a rehearsal of tomorrow.
/// #[derive(Debug, Default)]
/// struct Tomorrow(SystemClock);
///
/// const DAY: Duration = Duration::from_secs(24 * 60 * 60);
///
/// impl Clock for Tomorrow {
///     fn now(&self) -> Timestamp {
///         self.0.now().plus(DAY)
///     }
///
///     fn sleep_until(&self, moment: Timestamp) -> Sleep<'_> {
///         self.0.sleep_until(moment.minus(DAY))
///     }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let clock = Tomorrow::default();
/// clock.sleep_until(Timestamp::now()).await;
/// assert!(clock.now() >= Timestamp::now().plus(DAY / 2));
/// # Ok(()) }
/// ```
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// Returns the present moment.
    fn now(&self) -> Timestamp;

    /// Waits until [`now`](Clock::now) is the moment, or later; also if the clock is set in
    /// between.
    fn sleep_until(&self, moment: Timestamp) -> Sleep<'_>;
}

/// The machine's clock, kept from jumping.
///
/// It follows the wall clock, but not if that is set by more than [`CLOCK_JUMP_MAX`], either way:
/// then it goes on from its last time, as time passes, until the wall clock comes back, or someone
/// says that it is right ([`follow_clock`](Self::follow_clock)), or the program is started again.
/// So a broken clock does not fire the deadlines of a year at once. The embedded log treats
/// recorded time in the same way, so both go on together. Time that the machine slept has passed,
/// and is not a jump.
#[derive(Debug, Default)]
pub struct SystemClock {
    believed: Mutex<ClockReading>,
    sleep: SleepGauge,
}

/// Greatest jump of the wall clock that is still believed: a day.
pub const CLOCK_JUMP_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Last answer of the clock, by both clocks of the machine.
#[derive(Clone, Copy, Debug)]
struct ClockReading {
    wall: Timestamp,
    at: Instant,
    /// Time that the machine had slept by then.
    slept: Duration,
}

impl Default for ClockReading {
    fn default() -> Self {
        Self { wall: Timestamp::now(), at: Instant::now(), slept: Duration::ZERO }
    }
}

impl SystemClock {
    /// Says that the wall clock is right, and is to be followed from here on: if it was set by more
    /// than a day and that was meant, as after a virtual machine stood still for that long.
    pub fn follow_clock(&self) {
        *self.believed() = ClockReading { slept: self.sleep.slept(), ..ClockReading::default() };
    }

    fn believed(&self) -> MutexGuard<'_, ClockReading> {
        self.believed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClockReading {
    /// Returns the time for these readings of the machine's clocks. The time slept is asked for
    /// only if the clocks differ.
    fn tick(&mut self, wall: Timestamp, at: Instant, slept: impl Fn() -> Duration) -> Timestamp {
        let mut expected = self.wall.plus(at.saturating_duration_since(self.at));
        let jump = |expected: Timestamp| wall.since(expected).max(expected.since(wall));
        if jump(expected) >= DIFFERENCE_MIN {
            let slept = slept();
            expected = expected.plus(slept.saturating_sub(self.slept));
            self.slept = self.slept.max(slept);
        }
        self.wall = if jump(expected) > CLOCK_JUMP_MAX { expected } else { wall };
        self.at = at;
        self.wall
    }
}

/// Clocks that differ by less differ by chance.
const DIFFERENCE_MIN: Duration = Duration::from_secs(1);

/// Longest sleep before the clock is read again: clocks are set, and sleeps do not notice.
const SLEEP_MAX: Duration = Duration::from_secs(1);

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.believed().tick(Timestamp::now(), Instant::now(), || self.sleep.slept())
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn a_wall_clock_that_jumps_is_followed_for_a_day_and_not_for_a_year() {
        let (began, start) = (Instant::now(), Timestamp::from_micros(1_700_000_000_000_000));
        let mut clock = ClockReading { wall: start, at: began, slept: Duration::ZERO };
        let awake = || Duration::ZERO;
        assert_eq!(clock.tick(start.plus(HOUR), began + HOUR, awake), start.plus(HOUR));
        assert_eq!(
            clock.tick(start.plus(HOUR * 24), began + HOUR * 2, awake),
            start.plus(HOUR * 24),
            "a jump that is believed"
        );
        assert_eq!(
            clock.tick(start.plus(HOUR * 3), began + HOUR * 3, awake),
            start.plus(HOUR * 3),
            "and back"
        );
        for wall in [
            start.plus(HOUR * 24 * 365),
            start.minus(HOUR * 24 * 365),
            Timestamp::MAX,
            Timestamp::MIN,
        ] {
            assert_eq!(clock.tick(wall, began + HOUR * 4, awake), start.plus(HOUR * 4));
        }
        assert_eq!(
            clock.tick(start.plus(HOUR * 5), began + HOUR * 5, awake),
            start.plus(HOUR * 5),
            "it came back"
        );
        let mut jumps = clock;
        for hour in 6..2_000 {
            let wall = start.plus(HOUR * (24 * 365 + hour));
            assert_eq!(
                jumps.tick(wall, began + HOUR * hour, awake),
                start.plus(HOUR * hour),
                "it stays where it jumped to"
            );
        }
    }

    #[test]
    fn what_a_machine_slept_is_no_jump_and_counts_once() {
        let (began, start) = (Instant::now(), Timestamp::from_micros(1_700_000_000_000_000));
        let mut clock = ClockReading { wall: start, at: began, slept: Duration::ZERO };
        let slept = || HOUR * 72;
        assert_eq!(clock.tick(start.plus(HOUR * 73), began + HOUR, slept), start.plus(HOUR * 73));
        assert_eq!(
            clock.tick(start.plus(HOUR * 200), began + HOUR * 2, slept),
            start.plus(HOUR * 74),
            "it slept no more"
        );
    }

    #[test]
    fn a_clock_that_was_set_is_followed_when_someone_says_that_it_is_right() {
        let clock = SystemClock::default();
        clock.believed().wall = Timestamp::now().minus(HOUR * 24 * 30);
        assert!(Timestamp::now().since(clock.now()) > HOUR * 24 * 29);
        clock.follow_clock();
        assert!(Timestamp::now().since(clock.now()) < HOUR);
    }
}
