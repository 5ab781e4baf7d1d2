//! Moments at equal distances.

use std::time::Duration;

use crate::store::Timestamp;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * 60 * 60 * SECOND;
/// A thousand years: no plan has a longer period.
const PERIOD_MAX: i64 = 365_250 * DAY;

/// Plan of a command that recurs: moments at equal distances in UTC, whenever a program was started.
///
/// ```
/// use leftfold_core::runtime::Plan;
/// use leftfold_core::store::Timestamp;
///
/// let moment: Timestamp = "2026-02-01T10:00:00Z".parse().unwrap();
/// let nightly = Plan::daily_at(3, 30);
/// assert_eq!(nightly.after(moment).to_string(), "2026-02-02T03:30:00Z");
/// assert_eq!(nightly.by(moment).to_string(), "2026-02-01T03:30:00Z");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    period: i64,
    offset: i64,
}

impl Plan {
    /// Every so long, counted from 1970: every hour is on the hour. At least a second, at most a thousand years.
    #[must_use]
    pub fn every(period: Duration) -> Self {
        let period = i64::try_from(period.as_micros()).unwrap_or(PERIOD_MAX).clamp(SECOND, PERIOD_MAX);
        Self { period, offset: 0 }
    }

    /// Every day at this time, in UTC. An hour of 24, or a minute of 60, is one of the next.
    #[must_use]
    pub fn daily_at(hour: u8, minute: u8) -> Self {
        Self { period: DAY, offset: 0 }.later_by(Duration::from_secs(60 * (60 * u64::from(hour) + u64::from(minute))))
    }

    /// The same moments, each so much later: every hour at five past.
    #[must_use]
    pub fn later_by(self, offset: Duration) -> Self {
        let offset = i64::try_from(offset.as_micros() % self.period.unsigned_abs() as u128).unwrap_or(0);
        Self { offset: (self.offset + offset) % self.period, ..self }
    }

    /// The last moment at or before another.
    #[must_use]
    pub fn by(&self, moment: Timestamp) -> Timestamp {
        let periods = moment.as_micros().saturating_sub(self.offset).div_euclid(self.period);
        Timestamp::from_micros(periods.saturating_mul(self.period).saturating_add(self.offset))
    }

    /// The first moment after another.
    #[must_use]
    pub fn after(&self, moment: Timestamp) -> Timestamp {
        Timestamp::from_micros(self.by(moment).as_micros().saturating_add(self.period))
    }

    /// How many moments are after one and at or before another.
    pub(super) fn count(&self, after: Timestamp, through: Timestamp) -> u64 {
        let micros = self.by(through).as_micros().saturating_sub(self.by(after).as_micros());
        u64::try_from(micros / self.period).unwrap_or(0)
    }

    /// The moment so many earlier.
    pub(super) fn back(&self, moment: Timestamp, count: u64) -> Timestamp {
        let micros = self.period.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX));
        Timestamp::from_micros(moment.as_micros().saturating_sub(micros))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn moments_are_at_equal_distances_before_and_after_1970() {
        let hourly = Plan::every(Duration::from_secs(3_600)).later_by(Duration::from_secs(300));
        for (moment, by, after) in [
            ("2026-02-01T10:05:00Z", "2026-02-01T10:05:00Z", "2026-02-01T11:05:00Z"),
            ("2026-02-01T10:04:59Z", "2026-02-01T09:05:00Z", "2026-02-01T10:05:00Z"),
            ("1969-12-31T23:00:00Z", "1969-12-31T22:05:00Z", "1969-12-31T23:05:00Z"),
        ] {
            assert_eq!((hourly.by(at(moment)), hourly.after(at(moment))), (at(by), at(after)), "{moment}");
        }
        assert_eq!(hourly.count(at("2026-02-01T10:05:00Z"), at("2026-02-01T13:00:00Z")), 2);
        assert_eq!(hourly.back(at("2026-02-01T10:05:00Z"), 2), at("2026-02-01T08:05:00Z"));
    }

    #[test]
    fn plans_beyond_what_time_can_say_are_the_nearest_that_can() {
        assert_eq!(Plan::every(Duration::ZERO), Plan::every(Duration::from_secs(1)));
        assert_eq!(Plan::every(Duration::MAX).after(Timestamp::MAX), Timestamp::MAX);
        assert_eq!(Plan::daily_at(24, 60), Plan::daily_at(1, 0));
        assert_eq!(Plan::daily_at(255, 255).by(Timestamp::MIN), Timestamp::MIN);
    }
}
