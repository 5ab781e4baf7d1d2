//! Recorded time: what the machine's clock says, made strictly increasing, and kept from jumping.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime};

use leftfold_core::store::{SleepGauge, Timestamp};

/// Source of a log's time. A simulated one makes a test repeatable.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// use leftfold_core::store::{Append, Backend, EventType, NewEvent, Outcome, Timestamp};
/// use leftfold_log::disk::Simulated;
/// use leftfold_log::{Log, LogClock, Options};
///
/// /// A clock that stands still.
/// #[derive(Debug)]
/// struct Noon;
///
/// impl LogClock for Noon {
///     fn wall(&self) -> Timestamp {
///         Timestamp::from_micros(1_769_940_000_000_000)
///     }
///
///     fn monotonic(&self) -> Duration {
///         Duration::ZERO
///     }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let options = Options { clock: Arc::new(Noon), ..Options::default() };
/// let (log, _) = Log::open_on(Arc::new(Simulated::new(7)), options)?;
/// let sold = NewEvent::new(EventType::new("shop.Sold")?, "{}");
/// let outcome = log.append(Append::of(vec![sold])).await?;
/// let Outcome::Appended(appended) = outcome else { unreachable!("there is no condition") };
/// assert!(appended.recorded_at.since(Noon.wall()) < Duration::from_secs(1));
/// # Ok(()) }
/// ```
pub trait LogClock: Debug + Send + Sync + 'static {
    /// Returns the time of the wall clock. It may be wrong, and may be set.
    fn wall(&self) -> Timestamp;

    /// Returns the time since some fixed moment; it only increases.
    fn monotonic(&self) -> Duration;

    /// Returns the time that [`monotonic`](Self::monotonic) did not count since its beginning
    /// because the machine slept, as far as that is known. Called only if the two clocks differ.
    fn slept(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns the moment at which the program was made, as far as that is known apart from this
    /// clock: it is later now. `None` if it is not known.
    fn program_made(&self) -> Option<Timestamp> {
        None
    }
}

/// The machine's clocks.
#[derive(Debug)]
pub struct MachineClock {
    began: Instant,
    sleep: SleepGauge,
}

impl Default for MachineClock {
    fn default() -> Self {
        Self { began: Instant::now(), sleep: SleepGauge::default() }
    }
}

impl LogClock for MachineClock {
    fn wall(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.began.elapsed()
    }

    fn slept(&self) -> Duration {
        self.sleep.slept()
    }

    /// The time of the program's own file; builds that are to be repeatable often set it far back,
    /// so no earlier than the first release of this crate.
    fn program_made(&self) -> Option<Timestamp> {
        let modified = std::env::current_exe().and_then(|file| file.metadata()?.modified());
        let file = modified.ok().and_then(moment_of);
        let first_release = Timestamp::from_micros(FIRST_RELEASE_MICROS);
        Some(file.map_or(first_release, |made| made.max(first_release)))
    }
}

/// 2025-01-01T00:00:00Z: no release is older.
const FIRST_RELEASE_MICROS: i64 = 1_735_689_600_000_000;

/// Converts a time of a file; `None` if it is beyond what a log can hold.
pub(crate) fn moment_of(time: SystemTime) -> Option<Timestamp> {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Timestamp::from_micros(i64::try_from(since_1970.as_micros()).ok()?))
}

/// Largest change of the wall clock that an open log still believes, and largest distance that the
/// wall clock may be behind the last record when a log is opened.
pub const CLOCK_JUMP_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Gives every group its recorded time, in stored microseconds.
///
/// A wall clock that goes back a little is waited for, in steps of a microsecond. One that is set
/// by more than [`CLOCK_JUMP_MAX`], either way, is not followed: time goes on from its last value
/// at the pace of the monotonic clock, until the wall clock comes back, or
/// [`Log::follow_clock`](crate::Log::follow_clock) says that it is right, or the log is opened
/// again. A machine that slept has not set its clock: that time passed. One that is that far behind
/// the last record when the log is opened is not followed either.
#[derive(Debug)]
pub(crate) struct RecordedTime {
    /// Time that the wall clock should show, as far as the log believes.
    wall: Timestamp,
    monotonic: Duration,
    slept: Duration,
    last: i64,
    /// The wall clock and the other one when it began.
    began: (Timestamp, Duration),
}

/// A recorded time, and how far the wall clock is from what the log believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tick {
    pub(crate) micros: i64,
    /// Microseconds that the wall clock is ahead of the log if it is not believed; else 0.
    pub(crate) skew_micros: i64,
}

impl RecordedTime {
    pub(crate) fn starting(clock: &dyn LogClock, last: i64) -> Self {
        let (wall, monotonic) = (clock.wall(), clock.monotonic());
        let recorded = Timestamp::from_micros(last);
        let believed = if recorded.since(wall) > CLOCK_JUMP_MAX { recorded } else { wall };
        Self { wall: believed, monotonic, slept: clock.slept(), last, began: (wall, monotonic) }
    }

    /// Returns the time of the wall clock at the beginning plus the time that has passed since: for
    /// leases, which last some time and whose times are not recorded.
    pub(crate) fn steady(&self, clock: &dyn LogClock) -> Timestamp {
        self.began.0.plus(clock.monotonic().saturating_sub(self.began.1))
    }

    /// From now on the wall clock is believed as it is.
    pub(crate) fn follow(&mut self, clock: &dyn LogClock) {
        (self.wall, self.monotonic, self.slept) = (clock.wall(), clock.monotonic(), clock.slept());
    }

    /// Returns the time for the next group.
    pub(crate) fn tick(&mut self, clock: &dyn LogClock) -> Tick {
        let (now, skew_micros) = self.look(clock);
        self.last = now.as_micros().max(self.last.saturating_add(1));
        Tick { micros: self.last, skew_micros }
    }

    /// Returns the time as far as the log believes the wall clock, with the microseconds that the
    /// wall clock is ahead of it if it is not believed.
    pub(crate) fn look(&mut self, clock: &dyn LogClock) -> (Timestamp, i64) {
        let (wall, monotonic) = (clock.wall(), clock.monotonic());
        let mut expected = self.wall.plus(monotonic.saturating_sub(self.monotonic));
        if distance(wall, expected) >= DIFFERENCE_MIN {
            let slept = clock.slept();
            expected = expected.plus(slept.saturating_sub(self.slept));
            self.slept = self.slept.max(slept);
        }
        let believed = distance(wall, expected) <= CLOCK_JUMP_MAX;
        let now = if believed { wall } else { expected };
        (self.wall, self.monotonic) = (now, monotonic);
        (now, if believed { 0 } else { wall.as_micros() - expected.as_micros() })
    }
}

/// Clocks that differ by less differ by chance.
const DIFFERENCE_MIN: Duration = Duration::from_secs(1);

fn distance(a: Timestamp, b: Timestamp) -> Duration {
    a.since(b).max(b.since(a))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug)]
    struct Set(Mutex<(i64, u64)>, Mutex<u64>);

    impl Set {
        fn at(wall: i64) -> Self {
            Self(Mutex::new((wall, 0)), Mutex::default())
        }

        fn to(&self, wall: i64, monotonic: u64) {
            *self.0.lock().unwrap() = (wall, monotonic);
        }

        fn nap(&self, micros: i64) {
            *self.1.lock().unwrap() += micros.unsigned_abs();
        }
    }

    impl LogClock for Set {
        fn wall(&self) -> Timestamp {
            Timestamp::from_micros(self.0.lock().unwrap().0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_micros(self.0.lock().unwrap().1)
        }

        fn slept(&self) -> Duration {
            Duration::from_micros(*self.1.lock().unwrap())
        }
    }

    const DAY: i64 = 24 * 60 * 60 * 1_000_000;

    #[test]
    fn time_increases_strictly_whatever_the_clock_does() {
        let clock = Set::at(1_000);
        let mut time = RecordedTime::starting(&clock, 5_000);
        assert_eq!(time.tick(&clock), Tick { micros: 5_001, skew_micros: 0 });
        clock.to(4_000, 1);
        assert_eq!(time.tick(&clock).micros, 5_002);
        clock.to(9_000, 2);
        assert_eq!(time.tick(&clock).micros, 9_000);
    }

    #[test]
    fn a_clock_far_behind_the_last_record_is_not_followed_until_it_is_near() {
        let clock = Set::at(1_000);
        let mut time = RecordedTime::starting(&clock, 1_000 + 10 * 365 * DAY);
        clock.to(1_500, 500);
        assert_eq!(
            time.tick(&clock),
            Tick { micros: 1_500 + 10 * 365 * DAY, skew_micros: -10 * 365 * DAY }
        );
        clock.to(2_000 + 10 * 365 * DAY - DAY, 1_000);
        assert_eq!(time.tick(&clock), Tick { micros: 1_501 + 10 * 365 * DAY, skew_micros: 0 });
        clock.to(3_000 + 10 * 365 * DAY, 2_000 + DAY as u64);
        assert_eq!(time.tick(&clock).micros, 3_000 + 10 * 365 * DAY);
    }

    #[test]
    fn a_clock_that_jumps_is_not_believed_until_it_is_back() {
        let clock = Set::at(1_000);
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

    /// The monotonic clock stands still while a machine sleeps. After more than a day of it the
    /// wall clock looked as if it had been set, and recorded time stayed behind for as long as the
    /// log was open.
    #[test]
    fn a_machine_that_slept_for_days_has_not_set_its_clock() {
        let clock = Set::at(1_000);
        let mut time = RecordedTime::starting(&clock, 0);
        clock.to(2_000, 1_000);
        assert_eq!(time.tick(&clock).micros, 2_000);
        clock.nap(3 * DAY);
        clock.to(3_000 + 3 * DAY, 2_000);
        assert_eq!(time.tick(&clock), Tick { micros: 3_000 + 3 * DAY, skew_micros: 0 });
        // Short sleeps that were believed anyway do not add up to a jump that is believed later.
        for day in 1..=4 {
            clock.nap(DAY / 2);
            clock.to(3_000 + 3 * DAY + day * DAY / 2, 2_000);
            assert_eq!(time.tick(&clock).skew_micros, 0);
        }
        clock.to(3_000 + 7 * DAY, 3_000);
        assert_eq!(
            time.tick(&clock),
            Tick { micros: 4_000 + 5 * DAY, skew_micros: 2 * DAY - 1_000 }
        );
        // A clock that was set while the machine slept is not believed, and the sleep counts all
        // the same.
        clock.nap(2 * DAY);
        clock.to(365 * DAY, 4_000);
        assert_eq!(time.tick(&clock).micros, 5_000 + 7 * DAY);
    }

    #[test]
    fn a_clock_is_followed_again_when_someone_says_that_it_is_right() {
        let clock = Set::at(1_000);
        let mut time = RecordedTime::starting(&clock, 0);
        clock.to(30 * DAY, 1);
        assert!(time.tick(&clock).skew_micros > 29 * DAY);
        time.follow(&clock);
        assert_eq!(time.tick(&clock), Tick { micros: 30 * DAY, skew_micros: 0 });
        clock.to(2 * DAY, 2);
        assert_eq!(time.tick(&clock).micros, 30 * DAY + 1);
        time.follow(&clock);
        clock.to(2 * DAY + 10, 12);
        assert_eq!(time.tick(&clock), Tick { micros: 30 * DAY + 2, skew_micros: 0 });
    }
}
