//! The energy of a transaction over time, and by day.

use std::collections::BTreeMap;

use leftfold::prelude::Timestamp;

/// A day in microseconds.
pub(crate) const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// Energy since the start, by moment: it never falls.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Curve {
    /// Moments in microseconds, each with the energy up to then in mWh; the first has 0.
    points: Vec<(i64, i64)>,
}

impl Curve {
    /// Adds a point. A moment before the last one, or less energy, counts as the same.
    pub(super) fn push(&mut self, at: i64, mwh: i64) {
        let (at_before, mwh_before) = self.points.last().copied().unwrap_or((i64::MIN, 0));
        self.points.push((at.max(at_before), mwh.max(mwh_before)));
    }

    /// Returns all of the energy in Wh, rounded to the nearest; `None` if it is not known.
    #[must_use]
    pub(crate) fn total_wh(&self) -> Option<i64> {
        self.points.last().map(|(_, mwh)| rounded_wh(*mwh))
    }

    /// Returns the energy up to each moment, in Wh.
    pub(crate) fn points(&self) -> impl Iterator<Item = (Timestamp, i64)> {
        self.points.iter().map(|(at, mwh)| (Timestamp::from_micros(*at), rounded_wh(*mwh)))
    }

    /// Returns the energy of each day in Wh; the days add up to the total. A rise counts on the day
    /// of the number that shows it, and a number at midnight closes the day before.
    #[must_use]
    pub(crate) fn days(&self) -> BTreeMap<i64, i64> {
        let mut days = BTreeMap::new();
        let mut before = 0;
        for (at, wh) in self.points().skip(usize::from(self.points.len() > 1)) {
            *days.entry(day_of(at)).or_default() += wh - before;
            before = wh;
        }
        days
    }
}

fn rounded_wh(mwh: i64) -> i64 {
    (mwh + 500).div_euclid(1_000)
}

/// Returns the day that a number closes or falls into, counted from 1970-01-01 in UTC.
fn day_of(at: Timestamp) -> i64 {
    (at.as_micros() - 1).div_euclid(DAY_MICROS)
}

/// Returns the days of a transaction whose energy a person has said: in the proportions of what was
/// computed, or all of it on the day of the end.
#[must_use]
pub(crate) fn days_corrected(
    computed: &BTreeMap<i64, i64>,
    corrected_wh: i64,
    ended_at: Timestamp,
) -> BTreeMap<i64, i64> {
    let total = i128::from(computed.values().sum::<i64>());
    if total == 0 {
        return BTreeMap::from([(day_of(ended_at), corrected_wh)]);
    }
    let (mut up_to, mut before) = (0_i128, 0_i64);
    let part = |(day, wh): (&i64, &i64)| {
        up_to += i128::from(*wh);
        // At most the corrected energy itself.
        let share = (i128::from(corrected_wh) * up_to / total) as i64;
        (*day, share - std::mem::replace(&mut before, share))
    };
    computed.iter().map(part).collect()
}
