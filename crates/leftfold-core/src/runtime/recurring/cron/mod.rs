//! Moments of a cron expression on the clock of a time zone.
//!
//! `fields` reads an expression, and knows which minutes of which days it names; here they become
//! moments. A time zone is a row of segments, in each of which its clock stands at one distance
//! from UTC: within a segment a civil time is one moment, and what is special happens only where
//! one begins.

mod fields;
#[cfg(test)]
mod oracle;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use fields::CronFields;
pub use fields::{CronError, CronField};

/// Segments that are searched for a moment: more than any zone has in the eight years that a 29th
/// of February may be away.
const SEGMENTS_MAX: usize = 200;
/// Least time between two moments.
const TICK: SignedDuration = SignedDuration::from_micros(1);

/// An expression and the zone whose clock it is read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cron {
    fields: CronFields,
    zone: TimeZone,
}

/// A stretch of time in which the clock of a zone stands at one distance from UTC.
#[derive(Debug)]
struct OffsetPeriod {
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    offset: Offset,
    /// The distance before the start.
    before: Offset,
}

impl Cron {
    /// Reads an expression, on the clock of UTC.
    pub(super) fn parse(expression: &str) -> Result<Self, CronError> {
        Ok(Self { fields: CronFields::parse(expression)?, zone: TimeZone::UTC })
    }

    /// The same, on the clock of a zone of the system's database.
    pub(super) fn in_zone(self, name: &str) -> Result<Self, CronError> {
        let unknown = |error: jiff::Error| CronError::Zone {
            name: name.to_owned(),
            detail: error.to_string(),
        };
        Ok(Self { zone: TimeZone::get(name).map_err(unknown)?, ..self })
    }

    /// The first moment after another, if time can say it.
    pub(super) fn after(&self, moment: Timestamp) -> Option<Timestamp> {
        let mut from = moment.checked_add(TICK).ok()?;
        for _ in 0..SEGMENTS_MAX {
            let segment = OffsetPeriod::of(&self.zone, from);
            if let Some(found) = self.first_in(&segment, from) {
                return Some(found);
            }
            from = segment.end?;
        }
        None
    }

    /// The last moment at or before another, if time can say it.
    pub(super) fn by(&self, moment: Timestamp) -> Option<Timestamp> {
        let mut by = moment;
        for _ in 0..SEGMENTS_MAX {
            let segment = OffsetPeriod::of(&self.zone, by);
            if let Some(found) = self.last_in(&segment, by) {
                return Some(found);
            }
            by = segment.start?.checked_sub(TICK).ok()?;
        }
        None
    }

    /// Counts the moments after one and at or before another.
    pub(super) fn count(&self, after: Timestamp, through: Timestamp) -> u64 {
        let (mut count, mut from) = (0, after.checked_add(TICK).ok());
        while let Some(begin) = from.filter(|from| *from <= through) {
            let segment = OffsetPeriod::of(&self.zone, begin);
            let last = segment
                .end
                .and_then(|end| end.checked_sub(TICK).ok())
                .map_or(through, |last| last.min(through));
            let low = self.earliest(&segment, begin);
            let is_first = segment.start == Some(begin) && self.is_jumped_over(&segment);
            // The end of a gap may be a moment by itself, too: they are one.
            let first =
                is_first && self.fields.first_from(low) != Some(segment.offset.to_datetime(begin));
            count += u64::from(first) + self.fields.count(low, segment.offset.to_datetime(last));
            from = segment.end;
        }
        count
    }

    fn first_in(&self, segment: &OffsetPeriod, from: Timestamp) -> Option<Timestamp> {
        if segment.start == Some(from) && self.is_jumped_over(segment) {
            return segment.start;
        }
        let civil = self.fields.first_from(self.earliest(segment, from))?;
        let found = segment.offset.to_timestamp(civil).ok()?;
        segment.end.is_none_or(|end| found < end).then_some(found)
    }

    fn last_in(&self, segment: &OffsetPeriod, by: Timestamp) -> Option<Timestamp> {
        let earliest = segment.start.map(|start| self.earliest(segment, start));
        let civil = self.fields.last_by(segment.offset.to_datetime(by));
        match civil.filter(|civil| earliest.is_none_or(|earliest| *civil >= earliest)) {
            Some(civil) => segment.offset.to_timestamp(civil).ok(),
            None => segment.start.filter(|_| self.is_jumped_over(segment)),
        }
    }

    /// The civil time from which a segment has moments. Named hours that the clock shows again have
    /// had theirs.
    fn earliest(&self, segment: &OffsetPeriod, from: Timestamp) -> DateTime {
        let civil = segment.offset.to_datetime(from);
        match segment.start.filter(|_| self.fields.names_hours()) {
            Some(start) => civil.max(segment.before.to_datetime(start)),
            None => civil,
        }
    }

    /// Tells whether named hours have a moment that the clock jumps over at the start of a segment.
    fn is_jumped_over(&self, segment: &OffsetPeriod) -> bool {
        let Some(start) = segment.start.filter(|_| self.fields.names_hours()) else { return false };
        let (from, to) = (segment.before.to_datetime(start), segment.offset.to_datetime(start));
        from < to && self.fields.first_from(from).is_some_and(|civil| civil < to)
    }
}

impl OffsetPeriod {
    /// The segment that a moment is in.
    fn of(zone: &TimeZone, moment: Timestamp) -> Self {
        let offset = zone.to_offset(moment);
        let just_after = moment.checked_add(SignedDuration::from_nanos(1)).unwrap_or(moment);
        let start = zone.preceding(just_after).next().map(|transition| transition.timestamp());
        let earlier = start.and_then(|start| start.checked_sub(TICK).ok());
        let end = zone.following(moment).next().map(|transition| transition.timestamp());
        Self {
            start,
            end,
            offset,
            before: earlier.map_or(offset, |earlier| zone.to_offset(earlier)),
        }
    }
}
