//! The five fields of a cron expression: how they are written, and which minutes of which days they
//! name.

use std::ops::RangeInclusive;

use jiff::ToSpan;
use jiff::civil::{Date, DateTime};

/// Days that are searched for one that is named: a 29th of February may be eight years away.
const DAYS_MAX: usize = 8 * 366 + 1;
const MINUTES_PER_HOUR: u16 = 60;
const MINUTES_PER_DAY: u16 = 24 * MINUTES_PER_HOUR;

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Field of a cron expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CronField {
    /// The minute of the hour.
    Minute,
    /// The hour of the day.
    Hour,
    /// The day of the month.
    DayOfMonth,
    /// The month.
    Month,
    /// The day of the week; 0 and 7 are Sunday.
    DayOfWeek,
}

/// Error of a cron expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CronError {
    /// It has another number of fields.
    #[error(
        "{expression:?} has {count} fields, write five: minute, hour, day of month, month, day of week"
    )]
    Fields {
        /// The expression.
        expression: String,
        /// Number of fields that it has.
        count: usize,
    },
    /// A field has a value that it does not know.
    #[error("the {field} of a cron expression cannot be {value:?}, write {}", field.allowed_text())]
    Value {
        /// The field.
        field: CronField,
        /// Text of the field.
        value: String,
    },
    /// A range ends before it begins.
    #[error(
        "the range {value:?} in the {field} ends before it begins, write two ranges with a comma"
    )]
    Range {
        /// The field.
        field: CronField,
        /// The range.
        value: String,
    },
    /// A step is not a number of its field, or follows a single value.
    #[error(
        "{value:?} is not a step of the {field}, write */N or FROM-TO/N with N from 1 to {}",
        field.allowed().end()
    )]
    Step {
        /// The field.
        field: CronField,
        /// The part of the field.
        value: String,
    },
    /// No month that it names has a day that it names.
    #[error("{expression:?} is never due: none of its months has one of its days, change either")]
    Never {
        /// The expression.
        expression: String,
    },
    /// The time zone is not known to the system.
    #[error(
        "the time zone {name:?} is not known, write a name such as Europe/Berlin and install the system's time \
         zone database: {detail}"
    )]
    Zone {
        /// The name.
        name: String,
        /// The cause.
        detail: String,
    },
}

/// Values that an expression names: a bit for each value of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CronFields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    names_hours: bool,
    either_day: bool,
}

impl CronField {
    /// The values of the field.
    #[must_use]
    pub const fn allowed(self) -> RangeInclusive<u8> {
        match self {
            Self::Minute => 0..=59,
            Self::Hour => 0..=23,
            Self::DayOfMonth => 1..=31,
            Self::Month => 1..=12,
            Self::DayOfWeek => 0..=7,
        }
    }

    fn allowed_text(self) -> String {
        let (allowed, names) = (self.allowed(), self.names());
        let range = format!("{} to {}", allowed.start(), allowed.end());
        match (names.first(), names.last()) {
            (Some(first), Some(last)) => format!("{range} or {first} to {last}"),
            _ => range,
        }
    }

    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Month => &MONTHS,
            Self::DayOfWeek => &WEEKDAYS,
            Self::Minute | Self::Hour | Self::DayOfMonth => &[],
        }
    }

    /// The bits of the values that a field names.
    fn parse(self, text: &str) -> Result<u64, CronError> {
        text.split(',').try_fold(0, |bits, part| Ok(bits | self.part(part)?))
    }

    /// The bits of one part: `*`, a value or a range, with a step behind it.
    fn part(self, part: &str) -> Result<u64, CronError> {
        let (values, step) =
            part.split_once('/').map_or((part, None), |(values, step)| (values, Some(step)));
        let (from, to) = match values.split_once('-') {
            Some((from, to)) => self.range(values, from, to)?,
            None if values == "*" => (*self.allowed().start(), *self.allowed().end()),
            None if step.is_some() => {
                return Err(CronError::Step { field: self, value: part.to_owned() });
            }
            None => self.value(values).map(|value| (value, value))?,
        };
        let step = match step {
            None => 1,
            Some(step) => number(step)
                .filter(|step| *step > 0 && step <= self.allowed().end())
                .ok_or_else(|| CronError::Step { field: self, value: part.to_owned() })?,
        };
        let mut bits = (from..=to).step_by(step.into()).fold(0, |bits, value| bits | 1 << value);
        if self == Self::DayOfWeek {
            // `*` and its steps are of seven days, and the seventh day is the one numbered 0.
            bits = if values == "*" { bits & 0x7f } else { bits & 0x7f | bits >> 7 };
        }
        Ok(bits)
    }

    fn range(self, range: &str, from: &str, to: &str) -> Result<(u8, u8), CronError> {
        let (from, mut to) = (self.value(from)?, self.value(to)?);
        if self == Self::DayOfWeek && to == 0 {
            // A week may end with its Sunday.
            to = 7 * u8::from(from > 0);
        }
        if to < from {
            return Err(CronError::Range { field: self, value: range.to_owned() });
        }
        Ok((from, to))
    }

    fn value(self, text: &str) -> Result<u8, CronError> {
        let named = self.names().iter().position(|name| name.eq_ignore_ascii_case(text));
        let first = *self.allowed().start();
        named
            .and_then(|at| u8::try_from(at).ok().map(|at| at + first))
            .or_else(|| number(text))
            .filter(|value| self.allowed().contains(value))
            .ok_or_else(|| CronError::Value { field: self, value: text.to_owned() })
    }
}

/// A number in digits and nothing else.
fn number(text: &str) -> Option<u8> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl std::fmt::Display for CronField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::DayOfMonth => "day of the month",
            Self::Month => "month",
            Self::DayOfWeek => "day of the week",
        })
    }
}

impl CronFields {
    pub(super) fn parse(expression: &str) -> Result<Self, CronError> {
        let texts: Vec<&str> = expression.split_ascii_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = texts[..] else {
            return Err(CronError::Fields {
                expression: expression.to_owned(),
                count: texts.len(),
            });
        };
        let fields = Self {
            minutes: CronField::Minute.parse(minutes)?,
            hours: CronField::Hour.parse(hours)?,
            days: CronField::DayOfMonth.parse(days)?,
            months: CronField::Month.parse(months)?,
            weekdays: CronField::DayOfWeek.parse(weekdays)?,
            names_hours: !hours.starts_with('*'),
            either_day: days != "*" && weekdays != "*",
        };
        match fields.is_ever_due() {
            true => Ok(fields),
            false => Err(CronError::Never { expression: expression.to_owned() }),
        }
    }

    /// Tells whether the hours are named, and not counted from `*`.
    pub(super) fn names_hours(&self) -> bool {
        self.names_hours
    }

    /// The first time that is named, from one on.
    pub(super) fn first_from(&self, from: DateTime) -> Option<DateTime> {
        let whole = whole_minute(from)?;
        let from = if whole < from { whole.checked_add(1.minute()).ok()? } else { whole };
        let (mut date, mut earliest) = (from.date(), minute_of_day(from));
        for _ in 0..DAYS_MAX {
            if self.names_day(date)
                && let Some(minute) =
                    (earliest..MINUTES_PER_DAY).find(|minute| self.names_minute(*minute))
            {
                return at_minute(date, minute);
            }
            (date, earliest) = (date.tomorrow().ok()?, 0);
        }
        None
    }

    /// The last time that is named, up to one.
    pub(super) fn last_by(&self, by: DateTime) -> Option<DateTime> {
        let (mut date, mut latest) = (by.date(), minute_of_day(by));
        for _ in 0..DAYS_MAX {
            if self.names_day(date)
                && let Some(minute) = (0..=latest).rev().find(|minute| self.names_minute(*minute))
            {
                return at_minute(date, minute);
            }
            (date, latest) = (date.yesterday().ok()?, MINUTES_PER_DAY - 1);
        }
        None
    }

    /// Counts the times that are named from one to another, both included.
    pub(super) fn count(&self, from: DateTime, to: DateTime) -> u64 {
        let per_day = u64::from(self.hours.count_ones() * self.minutes.count_ones());
        let (mut count, mut next) = (0, self.first_from(from));
        while let Some(time) = next.filter(|time| *time <= to) {
            let (date, tomorrow) = (time.date(), time.date().tomorrow().ok());
            let (first, last) = (
                minute_of_day(time),
                if date < to.date() { MINUTES_PER_DAY - 1 } else { minute_of_day(to) },
            );
            let is_whole = first == self.first_minute() && last == MINUTES_PER_DAY - 1;
            count += match is_whole {
                true => per_day,
                false => (first..=last).filter(|minute| self.names_minute(*minute)).count() as u64,
            };
            next = tomorrow.and_then(|date| self.first_from(date.at(0, 0, 0, 0)));
        }
        count
    }

    fn first_minute(&self) -> u16 {
        (self.hours.trailing_zeros() * 60 + self.minutes.trailing_zeros()) as u16
    }

    fn names_minute(&self, minute: u16) -> bool {
        has(self.hours, minute / MINUTES_PER_HOUR) && has(self.minutes, minute % MINUTES_PER_HOUR)
    }

    /// A day is named by its number or by its day of the week, if both fields say something.
    fn names_day(&self, date: Date) -> bool {
        let by_number = has(self.days, date.day().unsigned_abs().into());
        let by_weekday =
            has(self.weekdays, date.weekday().to_sunday_zero_offset().unsigned_abs().into());
        let is_named =
            if self.either_day { by_number || by_weekday } else { by_number && by_weekday };
        is_named && has(self.months, date.month().unsigned_abs().into())
    }

    fn is_ever_due(&self) -> bool {
        let longest = |month: u16| match month {
            2 => 29,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        let has_day = |month| (1..=longest(month)).any(|day| has(self.days, day));
        self.either_day || (1..=12).any(|month| has(self.months, month) && has_day(month))
    }
}

fn has(bits: u64, value: u16) -> bool {
    bits >> value & 1 == 1
}

fn minute_of_day(time: DateTime) -> u16 {
    u16::from(time.hour().unsigned_abs()) * MINUTES_PER_HOUR
        + u16::from(time.minute().unsigned_abs())
}

fn at_minute(date: Date, minute: u16) -> Option<DateTime> {
    let (hour, minute) = (minute / MINUTES_PER_HOUR, minute % MINUTES_PER_HOUR);
    let (hour, minute) = (i8::try_from(hour).ok()?, i8::try_from(minute).ok()?);
    date.to_datetime(jiff::civil::Time::MIN).with().hour(hour).minute(minute).build().ok()
}

fn whole_minute(time: DateTime) -> Option<DateTime> {
    at_minute(time.date(), minute_of_day(time))
}
