//! What time it is: given to the runtime from outside, so that tests and explorers can own it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::store::Timestamp;

/// A wait until some moment.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// What time it is. Deadlines and due times are moments in the log, that other processes read too: so it is a wall
/// clock that they are held against.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The moment that it is now.
    fn now(&self) -> Timestamp;

    /// Waits until [`now`](Clock::now) is the moment, or later; also where the clock is set in between.
    fn sleep_until(&self, moment: Timestamp) -> Sleep<'_>;
}

/// The machine's clock, kept from jumping.
///
/// It follows the wall clock, but not where that is set by more than [`CLOCK_JUMP_MAX`], either way: then it goes on
/// from where it was, as time passes, until the wall clock comes back or the program is started again. So a broken clock
/// does not fire the deadlines of a year at once. The embedded log treats recorded time in the same way, so both go on
/// together. A machine that sleeps for longer than that has to start the program again.
#[derive(Debug)]
pub struct SystemClock(Mutex<Believed>);

/// How far the wall clock may be set before it is not believed any more: a day.
pub const CLOCK_JUMP_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What the clock last said, by both clocks of the machine.
#[derive(Clone, Copy, Debug)]
struct Believed {
    wall: Timestamp,
    at: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self(Mutex::new(Believed { wall: Timestamp::now(), at: Instant::now() }))
    }
}

impl Believed {
    /// What it is to say when the machine's clocks say this.
    fn tick(&mut self, wall: Timestamp, at: Instant) -> Timestamp {
        let expected = self.wall.plus(at.saturating_duration_since(self.at));
        let jump = wall.since(expected).max(expected.since(wall));
        *self = Self { wall: if jump > CLOCK_JUMP_MAX { expected } else { wall }, at };
        self.wall
    }
}

/// How long a sleep is at most before it looks at the clock: clocks are set, and sleeps do not notice.
const SLEEP_MAX: Duration = Duration::from_secs(1);

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).tick(Timestamp::now(), Instant::now())
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
        let mut clock = Believed { wall: start, at: began };
        assert_eq!(clock.tick(start.plus(HOUR), began + HOUR), start.plus(HOUR));
        assert_eq!(clock.tick(start.plus(HOUR * 24), began + HOUR * 2), start.plus(HOUR * 24), "a jump that is believed");
        assert_eq!(clock.tick(start.plus(HOUR * 3), began + HOUR * 3), start.plus(HOUR * 3), "and back");
        for wall in [start.plus(HOUR * 24 * 365), start.minus(HOUR * 24 * 365), Timestamp::MAX, Timestamp::MIN] {
            assert_eq!(clock.tick(wall, began + HOUR * 4), start.plus(HOUR * 4));
        }
        assert_eq!(clock.tick(start.plus(HOUR * 5), began + HOUR * 5), start.plus(HOUR * 5), "it came back");
        let mut jumps = clock;
        for hour in 6..2_000 {
            let wall = start.plus(HOUR * (24 * 365 + hour));
            assert_eq!(jumps.tick(wall, began + HOUR * hour), start.plus(HOUR * hour), "it stays where it jumped to");
        }
    }
}
