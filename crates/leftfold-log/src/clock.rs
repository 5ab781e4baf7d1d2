//! Recorded time: what the machine's clock says, made strictly increasing, and kept from jumping.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use leftfold_core::store::Timestamp;

/// Where a log takes time from. A simulated one makes a test repeatable.
pub trait Clock: Debug + Send + Sync + 'static {
    /// What the wall clock says. It may be wrong, and may be set.
    fn wall(&self) -> Timestamp;

    /// Time that only passes, since some beginning.
    fn monotonic(&self) -> Duration;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    began: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { began: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }
}

/// How far the wall clock may be set while a log is open before it is not believed any more, and how far it may be
/// behind the last record when a log is opened.
pub const CLOCK_JUMP_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Gives every group its recorded time, in stored microseconds.
///
/// A wall clock that goes back a little is waited for, in steps of a microsecond. One that is set by more than
/// [`CLOCK_JUMP_MAX`], either way, is not followed: time goes on from where it was, as the monotonic clock says, until
/// the wall clock comes back or the log is opened again. One that is that far behind the last record when the log is
/// opened is not followed either.
#[derive(Debug)]
pub(crate) struct RecordedTime {
    /// What the log believes that the wall clock should say.
    wall: Timestamp,
    monotonic: Duration,
    last: i64,
    /// The wall clock and the other one when it began.
    began: (Timestamp, Duration),
}

/// A recorded time, and how far the wall clock is from what the log believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tick {
    pub(crate) micros: i64,
    /// Microseconds that the wall clock is ahead of the log, where it is not believed; else 0.
    pub(crate) skew_micros: i64,
}

impl RecordedTime {
    pub(crate) fn starting(clock: &dyn Clock, last: i64) -> Self {
        let (wall, monotonic) = (clock.wall(), clock.monotonic());
        let recorded = Timestamp::from_micros(last);
        let believed = if recorded.since(wall) > CLOCK_JUMP_MAX { recorded } else { wall };
        Self { wall: believed, monotonic, last, began: (wall, monotonic) }
    }

    /// What the wall clock said at the beginning, and what has passed since: for what lasts so long, and is not recorded.
    pub(crate) fn steady(&self, clock: &dyn Clock) -> Timestamp {
        self.began.0.plus(clock.monotonic().saturating_sub(self.began.1))
    }

    pub(crate) fn tick(&mut self, clock: &dyn Clock) -> Tick {
        let (wall, monotonic) = (clock.wall(), clock.monotonic());
        let expected = self.wall.plus(monotonic.saturating_sub(self.monotonic));
        let jump = wall.since(expected).max(expected.since(wall));
        let believed = jump <= CLOCK_JUMP_MAX;
        let now = if believed { wall } else { expected };
        (self.wall, self.monotonic) = (now, monotonic);
        self.last = now.as_micros().max(self.last.saturating_add(1));
        let skew_micros = if believed { 0 } else { wall.as_micros() - expected.as_micros() };
        Tick { micros: self.last, skew_micros }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug)]
    struct Set(Mutex<(i64, u64)>);

    impl Set {
        fn to(&self, wall: i64, monotonic: u64) {
            *self.0.lock().unwrap() = (wall, monotonic);
        }
    }

    impl Clock for Set {
        fn wall(&self) -> Timestamp {
            Timestamp::from_micros(self.0.lock().unwrap().0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_micros(self.0.lock().unwrap().1)
        }
    }

    const DAY: i64 = 24 * 60 * 60 * 1_000_000;

    #[test]
    fn time_increases_strictly_whatever_the_clock_does() {
        let clock = Set(Mutex::new((1_000, 0)));
        let mut time = RecordedTime::starting(&clock, 5_000);
        assert_eq!(time.tick(&clock), Tick { micros: 5_001, skew_micros: 0 });
        clock.to(4_000, 1);
        assert_eq!(time.tick(&clock).micros, 5_002);
        clock.to(9_000, 2);
        assert_eq!(time.tick(&clock).micros, 9_000);
    }

    #[test]
    fn a_clock_far_behind_the_last_record_is_not_followed_until_it_is_near() {
        let clock = Set(Mutex::new((1_000, 0)));
        let mut time = RecordedTime::starting(&clock, 1_000 + 10 * 365 * DAY);
        clock.to(1_500, 500);
        assert_eq!(time.tick(&clock), Tick { micros: 1_500 + 10 * 365 * DAY, skew_micros: -10 * 365 * DAY });
        clock.to(2_000 + 10 * 365 * DAY - DAY, 1_000);
        assert_eq!(time.tick(&clock), Tick { micros: 1_501 + 10 * 365 * DAY, skew_micros: 0 });
        clock.to(3_000 + 10 * 365 * DAY, 2_000 + DAY as u64);
        assert_eq!(time.tick(&clock).micros, 3_000 + 10 * 365 * DAY);
    }

    #[test]
    fn a_clock_that_jumps_is_not_believed_until_it_is_back() {
        let clock = Set(Mutex::new((1_000, 0)));
        let mut time = RecordedTime::starting(&clock, 0);
        clock.to(1_000 + 10 * 365 * DAY, 10);
        let tick = time.tick(&clock);
        assert_eq!(tick.micros, 1_010);
        assert_eq!(tick.skew_micros, 10 * 365 * DAY - 10);
        clock.to(1_030, 30);
        assert_eq!(time.tick(&clock), Tick { micros: 1_030, skew_micros: 0 });
        clock.to(1_040 - 2 * DAY, 40);
        assert_eq!(time.tick(&clock).micros, 1_040);
    }
}
