//! When a recurring command is due: at equal distances, or as a cron expression says.

use std::sync::Arc;
use std::time::Duration;

use super::cron::{Cron, CronError};
use crate::store::Timestamp;

const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * 60 * 60 * SECOND;
/// A thousand years: no plan has a longer period.
const PERIOD_MAX: i64 = 365_250 * DAY;

/// Plan of a command that recurs: moments that are the same whenever a program was started.
///
/// ```
/// use leftfold_core::runtime::Plan;
/// use leftfold_core::store::Timestamp;
///
/// let moment: Timestamp = "2026-02-01T10:00:00Z".parse().unwrap();
/// let nightly = Plan::daily_at(3, 30);
/// assert_eq!(nightly.after(moment).to_string(), "2026-02-02T03:30:00Z");
/// assert_eq!(nightly.by(moment).to_string(), "2026-02-01T03:30:00Z");
/// let workdays = Plan::cron("0 22 * * MON-FRI").unwrap();
/// assert_eq!(workdays.after(moment).to_string(), "2026-02-02T22:00:00Z");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    moments: Moments,
    /// Time by which each is later, in microseconds.
    offset: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Moments {
    Every { period: i64 },
    Cron(Arc<Cron>),
}

impl Plan {
    /// A plan with a fixed period, counted from 1970: every hour is on the hour. At least a second,
    /// at most a thousand years.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use leftfold_core::runtime::Plan;
    /// use leftfold_core::store::Timestamp;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // Every hour at five past.
    /// let plan = Plan::every(Duration::from_secs(3_600)).later_by(Duration::from_secs(300));
    /// let moment: Timestamp = "2026-02-01T10:00:00Z".parse()?;
    /// assert_eq!(plan.after(moment).to_string(), "2026-02-01T10:05:00Z");
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn every(period: Duration) -> Self {
        let period =
            i64::try_from(period.as_micros()).unwrap_or(PERIOD_MAX).clamp(SECOND, PERIOD_MAX);
        Self { moments: Moments::Every { period }, offset: 0 }
    }

    /// Every day at this time, in UTC. An hour of 24, or a minute of 60, is one of the next.
    #[must_use]
    pub fn daily_at(hour: u8, minute: u8) -> Self {
        let later = Duration::from_secs(60 * (60 * u64::from(hour) + u64::from(minute)));
        Self { moments: Moments::Every { period: DAY }, offset: 0 }.later_by(later)
    }

    /// The moments of a cron expression, in UTC: `minute hour day-of-month month day-of-week`.
    ///
    /// A field is `*`, or values and ranges with commas between them; a range and `*` may have a
    /// step (`*/15`, `9-17/2`). Months and days of the week have names, in any case; 0 and 7 are
    /// Sunday. If neither day field is `*`, a day that either of them names is meant, as POSIX has
    /// it for crontab.
    ///
    /// ```
    /// use leftfold_core::runtime::Plan;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let plan = Plan::cron("*/15 9-17 * * MON-FRI")?;
    /// let friday_evening = "2026-02-06T17:50:00Z".parse()?;
    /// assert_eq!(plan.after(friday_evening).to_string(), "2026-02-09T09:00:00Z");
    /// assert!(Plan::cron("0 0 30 FEB *").is_err(), "it would never be due");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`CronError`] names the field, its value and what is allowed. An expression that is never
    /// due is an error, too.
    pub fn cron(expression: &str) -> Result<Self, CronError> {
        Ok(Self { moments: Moments::Cron(Arc::new(Cron::parse(expression)?)), offset: 0 })
    }

    /// The moments of a cron expression on the clock of a time zone (`Europe/Berlin`), by the rules
    /// that the system's time zone database has when the program starts.
    ///
    /// If the hours are named (`30 2 * * *`), each time of a day fires once: one that the clock
    /// jumps over fires when it has jumped (several of them once), and one that it shows twice
    /// fires the first time. If the hour begins with `*` (`30 * * * *`, `0 */2 * * *`), the plan
    /// follows the clock: what it jumps over does not fire, and what it shows twice fires twice.
    /// A whole day that a zone leaves out, as Samoa did with the 30th of December 2011, is jumped
    /// over like an hour: all that named hours are due on it fires once, with the next day's first
    /// moment.
    ///
    /// ```
    /// use leftfold_core::runtime::Plan;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let reports = Plan::cron_in("0 8 * * MON-FRI", "Europe/Berlin")?;
    /// let next = reports.after("2026-07-03T12:00:00Z".parse()?);
    /// assert_eq!(next.to_string(), "2026-07-06T06:00:00Z");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`cron`](Self::cron), and [`CronError::Zone`] if the system does not know the zone.
    /// A program that runs without such a database can depend on `jiff` with its feature
    /// `tzdb-bundle-always`.
    pub fn cron_in(expression: &str, zone: &str) -> Result<Self, CronError> {
        Ok(Self {
            moments: Moments::Cron(Arc::new(Cron::parse(expression)?.in_zone(zone)?)),
            offset: 0,
        })
    }

    /// The same moments, each so much later: every hour at five past.
    #[must_use]
    pub fn later_by(self, offset: Duration) -> Self {
        let offset = match self.moments {
            Moments::Every { period } => {
                let offset = offset.as_micros() % u128::from(period.unsigned_abs());
                (self.offset + i64::try_from(offset).unwrap_or(0)) % period
            }
            Moments::Cron(_) => {
                self.offset.saturating_add(i64::try_from(offset.as_micros()).unwrap_or(i64::MAX))
            }
        };
        Self { offset, ..self }
    }

    /// The last moment at or before another; [`Timestamp::MIN`] if there is none.
    #[must_use]
    pub fn by(&self, moment: Timestamp) -> Timestamp {
        let moment = moment.as_micros().saturating_sub(self.offset);
        let by = match &self.moments {
            Moments::Every { period } => Some(moment.div_euclid(*period).saturating_mul(*period)),
            Moments::Cron(cron) => cron.by(instant(moment)).map(jiff::Timestamp::as_microsecond),
        };
        by.map_or(Timestamp::MIN, |by| Timestamp::from_micros(by.saturating_add(self.offset)))
    }

    /// The first moment after another; [`Timestamp::MAX`] if there is none.
    #[must_use]
    pub fn after(&self, moment: Timestamp) -> Timestamp {
        match &self.moments {
            Moments::Every { period } => {
                Timestamp::from_micros(self.by(moment).as_micros().saturating_add(*period))
            }
            Moments::Cron(cron) => {
                let after = cron.after(instant(moment.as_micros().saturating_sub(self.offset)));
                let after = after.map(jiff::Timestamp::as_microsecond);
                after.map_or(Timestamp::MAX, |after| {
                    Timestamp::from_micros(after.saturating_add(self.offset))
                })
            }
        }
    }

    /// Counts the moments after one and at or before another.
    pub(super) fn count(&self, after: Timestamp, through: Timestamp) -> u64 {
        match &self.moments {
            Moments::Every { period } => {
                let micros =
                    self.by(through).as_micros().saturating_sub(self.by(after).as_micros());
                u64::try_from(micros / period).unwrap_or(0)
            }
            Moments::Cron(cron) => {
                let [after, through] = [after, through]
                    .map(|moment| instant(moment.as_micros().saturating_sub(self.offset)));
                cron.count(after, through)
            }
        }
    }

    /// Returns the moment that is `count` moments of the plan earlier than one of them.
    pub(super) fn back(&self, moment: Timestamp, count: u64) -> Timestamp {
        match &self.moments {
            Moments::Every { period } => {
                let micros = period.saturating_mul(i64::try_from(count).unwrap_or(i64::MAX));
                Timestamp::from_micros(moment.as_micros().saturating_sub(micros))
            }
            Moments::Cron(_) => {
                let earlier =
                    |moment: Timestamp, _| self.by(moment.minus(Duration::from_micros(1)));
                (0..count).fold(moment, earlier)
            }
        }
    }
}

/// The moment in the words of the calendar.
fn instant(micros: i64) -> jiff::Timestamp {
    let limit = if micros < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    jiff::Timestamp::from_microsecond(micros).unwrap_or(limit)
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
            assert_eq!(
                (hourly.by(at(moment)), hourly.after(at(moment))),
                (at(by), at(after)),
                "{moment}"
            );
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

    #[test]
    fn the_moments_of_an_expression_are_counted_gone_back_over_and_shifted() {
        let hours = Plan::cron("0 9-17 * * MON-FRI").unwrap();
        let shifted = hours.clone().later_by(Duration::from_secs(300));
        // A Friday evening, and the Monday after.
        let (friday, monday) = (at("2026-02-06T18:00:00Z"), at("2026-02-09T10:30:00Z"));
        assert_eq!(
            (hours.after(friday), hours.by(monday)),
            (at("2026-02-09T09:00:00Z"), at("2026-02-09T10:00:00Z"))
        );
        assert_eq!((hours.count(friday, monday), hours.count(monday, friday)), (2, 0));
        assert_eq!(hours.back(at("2026-02-09T10:00:00Z"), 2), at("2026-02-06T17:00:00Z"));
        assert_eq!(
            (shifted.by(monday), shifted.count(friday, monday)),
            (at("2026-02-09T10:05:00Z"), 2)
        );
        assert_eq!(
            (hours.by(Timestamp::MIN), hours.after(Timestamp::MAX)),
            (Timestamp::MIN, Timestamp::MAX)
        );
        let never = hours.later_by(Duration::MAX);
        assert_eq!(
            (never.by(monday), never.after(Timestamp::MIN)),
            (Timestamp::MIN, Timestamp::MAX)
        );
    }
}
