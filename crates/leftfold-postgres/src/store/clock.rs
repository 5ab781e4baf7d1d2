//! The clock of the database, held against the time that passes in this process: one that is set by
//! more than a day is not believed while the store is open.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use leftfold_core::store::{SleepGauge, Timestamp};

/// Largest change of the database's clock that an open store still believes: a day.
pub const DATABASE_CLOCK_JUMP_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Clocks that differ by less differ by chance.
const DIFFERENCE_MIN_MICROS: u64 = 1_000_000;

/// Knowledge of the database's clock.
#[derive(Debug, Default)]
pub(super) struct DatabaseClock {
    /// The time that was believed last; `None` if none was.
    believed: Mutex<Option<BelievedTime>>,
    sleep: SleepGauge,
    /// Microseconds that the clock is ahead of what was expected, if it is not believed; else 0.
    skew_micros: AtomicI64,
}

/// A time of the database's clock, and the clocks of this machine that nobody sets.
#[derive(Clone, Copy, Debug)]
struct BelievedTime {
    shown: Timestamp,
    at: Instant,
    slept: Duration,
}

impl DatabaseClock {
    /// Looks at a time that the database has just shown. Returns the reason why it is not believed,
    /// if it is not: then nothing may be recorded, and no lease be judged by it.
    pub(super) fn look(&self, shown: Timestamp) -> Option<String> {
        self.look_at(shown, Instant::now(), || self.sleep.slept())
    }

    fn look_at(
        &self,
        shown: Timestamp,
        at: Instant,
        slept: impl Fn() -> Duration,
    ) -> Option<String> {
        let mut believed = self.believed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(before) = *believed else {
            *believed = Some(BelievedTime { shown, at, slept: slept() });
            self.skew_micros.store(0, Ordering::Relaxed);
            return None;
        };
        let mut now = BelievedTime { shown, at, ..before };
        if now.skew_micros(before).unsigned_abs() >= DIFFERENCE_MIN_MICROS {
            now.slept = slept().max(before.slept);
        }
        let skew_micros = now.skew_micros(before);
        let skew = Duration::from_micros(skew_micros.unsigned_abs());
        let is_believed = skew <= DATABASE_CLOCK_JUMP_MAX;
        // A look that began earlier may come later.
        if is_believed && before.at <= at {
            *believed = Some(now);
        }
        self.skew_micros.store(if is_believed { 0 } else { skew_micros }, Ordering::Relaxed);
        (!is_believed).then(|| doubt(skew_micros))
    }

    /// Believes the clock as it is shown next.
    pub(super) fn follow(&self) {
        *self.believed.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns the microseconds that the clock is ahead if it is not believed; else 0.
    pub(super) fn skew_micros(&self) -> i64 {
        self.skew_micros.load(Ordering::Relaxed)
    }
}

impl BelievedTime {
    /// Returns the microseconds that this is ahead of what could be expected after a time before.
    fn skew_micros(self, before: Self) -> i64 {
        let passed = self.at.saturating_duration_since(before.at);
        let slept = self.slept.saturating_sub(before.slept);
        let expected = before.shown.plus(passed).plus(slept);
        self.shown.as_micros().saturating_sub(expected.as_micros())
    }
}

fn doubt(skew_micros: i64) -> String {
    let by = Duration::from_secs(skew_micros.unsigned_abs() / 1_000_000);
    let way = if skew_micros > 0 { "ahead" } else { "back" };
    format!(
        "the clock of the database was set {way} by {by:?} while the store was open; set it right, \
         or accept it by PostgresStore::follow_clock or by opening the store again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);

    fn noon() -> Timestamp {
        Timestamp::from_micros(1_769_940_000_000_000)
    }

    #[test]
    fn a_clock_that_is_set_by_more_than_a_day_is_not_believed_until_it_comes_back() {
        let (clock, began) = (DatabaseClock::default(), Instant::now());
        let look = |shown: u32, hours: u32| {
            clock.look_at(noon().plus(HOUR * shown), began + HOUR * hours, || Duration::ZERO)
        };
        assert_eq!(look(0, 0), None);
        assert_eq!(look(100, 100), None, "time passes though nobody looks");
        assert_eq!(look(124, 101), None, "within a day");
        let doubt = look(152, 102).expect("a day and three hours");
        assert!(doubt.contains("set ahead by 97200s"), "{doubt}");
        assert_eq!(clock.skew_micros(), 27 * 3_600_000_000);
        assert_eq!(look(126, 103), None, "it came back");
        assert_eq!(clock.skew_micros(), 0);
        let doubt = look(0, 104).expect("five days back");
        assert!(doubt.contains("set back by"), "{doubt}");
        clock.follow();
        assert_eq!(look(0, 105), None);
    }

    #[test]
    fn what_a_machine_slept_is_no_jump_and_is_counted_once() {
        let (clock, began) = (DatabaseClock::default(), Instant::now());
        let look = |shown: u32, slept: u32| {
            clock.look_at(noon().plus(HOUR * shown), began, || HOUR * slept)
        };
        assert_eq!(look(0, 0), None);
        for days in 1..=10 {
            assert_eq!(look(days * 8, days * 8), None);
        }
        assert_eq!(look(80 + 72, 80 + 72), None);
        assert!(look(80 + 72 + 30, 80 + 72).is_some());
    }
}
