//! Fewer readings of a long transaction, with the same energy.
//!
//! What goes is chosen by moment, for all phases alike, since phases add up only if none is
//! missing. Moments at which the same was read (quantity, place, phases) stay as far apart as is
//! needed, so that old ones do not get rarer than new ones: power is known for an hour only. The
//! first and the last of each day stay, so the days keep their energy. What an interval says is
//! said nowhere else, so one that goes is added to the next; from then on that one stands for all
//! since, and what a station tells of them again is a repetition.

use std::collections::BTreeMap;

use super::chain::{MeterPoint, rise_max};
use super::estimate::POWER_GAP_MICROS_MAX;
use super::reading::Quantity;
use super::{DAY_MICROS, MeterReading, READINGS_MAX, STEP_MWH_MAX};

/// Time by which moments are kept apart at first, in microseconds; it is doubled until enough goes.
const APART_MICROS_MIN: i64 = 1_000_000;

/// Returns the readings to keep: none that an interval already stands for, and if there are more
/// than [`READINGS_MAX`], about half as many.
#[must_use]
pub(crate) fn thinned(mut readings: Vec<MeterReading>) -> Vec<MeterReading> {
    forget_repetitions(&mut readings);
    match readings.len() > READINGS_MAX {
        true => thinned_to(readings, READINGS_MAX / 2),
        false => readings,
    }
}

/// Takes out the intervals that another one stands for.
fn forget_repetitions(readings: &mut Vec<MeterReading>) {
    let mut spans: BTreeMap<(ReadingPlace, u8), BTreeMap<i64, i64>> = BTreeMap::new();
    for reading in readings.iter() {
        let Some(since) = reading.since else { continue };
        let spans = spans.entry((ReadingPlace::of(reading), reading.channel.phase)).or_default();
        spans.insert(reading.at.as_micros(), since.as_micros());
    }
    if spans.is_empty() {
        return;
    }
    readings.retain(|reading| {
        let at = reading.at.as_micros();
        let spans = spans.get(&(ReadingPlace::of(reading), reading.channel.phase));
        let span = spans.and_then(|spans| spans.range(at..).next());
        reading.since.is_some() || span.is_none_or(|(_, since)| at < *since)
    });
}

/// Keeps so many readings, or if energy would be lost then, at most [`READINGS_MAX`]; but in any
/// case two moments of each kind.
pub(super) fn thinned_to(readings: Vec<MeterReading>, count_max: usize) -> Vec<MeterReading> {
    let mut kinds = moments_by_kind(readings);
    let count = |kinds: &BTreeMap<MomentKind, Vec<MeterMoment>>| -> usize {
        kinds.values().flatten().map(|moment| moment.readings.len()).sum()
    };
    let mut apart = APART_MICROS_MIN;
    while apart < i64::MAX {
        let count_max = if apart > DAY_MICROS { READINGS_MAX } else { count_max };
        if count(&kinds) <= count_max {
            break;
        }
        kinds.iter_mut().for_each(|(kind, moments)| kind.keep_apart(moments, apart));
        apart = apart.saturating_mul(2);
    }
    kinds.into_values().flatten().flat_map(|moment| moment.readings).collect()
}

/// Quantity of a reading, and the place where and the occasion on which it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ReadingPlace {
    quantity: Quantity,
    is_at_outlet: bool,
    is_by_clock: bool,
}

/// Kind of moments of which one can stand for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MomentKind {
    place: ReadingPlace,
    /// Phases that were read, a bit each; the lowest is the total.
    phases: u8,
    /// False if no connector can have delivered so much in the interval: it is added to none.
    is_possible: bool,
}

/// Readings of one place at one moment.
#[derive(Clone, Debug, PartialEq)]
struct MeterMoment {
    at: i64,
    readings: Vec<MeterReading>,
}

impl ReadingPlace {
    fn of(reading: &MeterReading) -> Self {
        let channel = reading.channel;
        let (is_at_outlet, is_by_clock) = (channel.is_at_outlet, channel.is_by_clock);
        Self { quantity: channel.quantity, is_at_outlet, is_by_clock }
    }
}

/// Returns the moments of each kind in their order.
fn moments_by_kind(mut readings: Vec<MeterReading>) -> BTreeMap<MomentKind, Vec<MeterMoment>> {
    readings.sort_by_key(|it| (ReadingPlace::of(it), it.at, it.channel, it.amount, it.arrival));
    let mut kinds: BTreeMap<MomentKind, Vec<MeterMoment>> = BTreeMap::new();
    let mut latest: BTreeMap<(ReadingPlace, u8), MeterPoint> = BTreeMap::new();
    for of_moment in readings.chunk_by(|one, other| {
        (ReadingPlace::of(one), one.at) == (ReadingPlace::of(other), other.at)
    }) {
        let moment = MeterMoment::of(of_moment);
        let place = ReadingPlace::of(&of_moment[0]);
        let phases = of_moment.iter().fold(0, |phases, it| phases | 1 << it.channel.phase);
        let point = MeterPoint {
            at: moment.at,
            is_timed: of_moment.iter().all(|it| it.is_by_station),
            amount: moment.counted(),
            weight: 0,
        };
        let before = latest.insert((place, phases), point);
        let rise_max = before.map_or(STEP_MWH_MAX, |before| rise_max(&before, &point));
        let is_possible = place.quantity != Quantity::Interval
            || point.amount <= rise_max
            || of_moment.iter().any(|it| it.since.is_some());
        kinds.entry(MomentKind { place, phases, is_possible }).or_default().push(moment);
    }
    kinds
}

impl MomentKind {
    /// Tells whether the first of the moments can go without a loss: neither does the next one
    /// become an interval that is not believed, nor is the power unknown from what is kept to it.
    fn may_miss(self, kept: &[MeterMoment], moments: &[MeterMoment]) -> bool {
        let ([.., before], [moment, after, ..]) = (kept, moments) else { return false };
        match self.place.quantity {
            Quantity::Register => true,
            Quantity::Interval => moment.counted() + after.counted() <= STEP_MWH_MAX,
            Quantity::Power => after.at - before.at <= POWER_GAP_MICROS_MAX,
        }
    }

    /// Keeps the first and the last moment of each day, and what is so far apart. Beyond a day,
    /// days are no longer told apart.
    fn keep_apart(self, moments: &mut Vec<MeterMoment>, apart: i64) {
        let adds = self.place.quantity == Quantity::Interval && self.is_possible;
        let days = |moment: &MeterMoment| (moment.at - 1).div_euclid(apart.max(DAY_MICROS));
        // In the order of arrival, too, the first and the last tell the energy.
        let first = moments.iter().min_by_key(|it| it.arrival()).map(|it| it.at);
        let last = moments.iter().max_by_key(|it| it.arrival()).map(|it| it.at);
        let mut all = std::mem::take(moments);
        for place in 0..all.len() {
            let moment = &all[place];
            let is_inner = place > 0
                && place + 1 < all.len()
                && days(&all[place - 1]) == days(&all[place + 1])
                && ![first, last].contains(&Some(moment.at));
            let is_near = moments.last().is_some_and(|it| moment.at - it.at < apart);
            match is_inner
                && is_near
                && (apart > DAY_MICROS || self.may_miss(moments, &all[place..]))
            {
                false => moments.push(moment.clone()),
                true if adds => {
                    let (gone, next) = all.split_at_mut(place + 1);
                    next[0].add(&gone[place]);
                }
                true => {}
            }
        }
    }
}

impl MeterMoment {
    /// Takes the least and the greatest number of each channel; they are sorted.
    fn of(sorted: &[MeterReading]) -> Self {
        let of_channel = sorted.chunk_by(|one, other| one.channel == other.channel);
        let readings = of_channel.flat_map(|numbers| match numbers {
            [least, .., greatest] => vec![*least, *greatest],
            _ => numbers.to_vec(),
        });
        Self { at: sorted[0].at.as_micros(), readings: readings.collect() }
    }

    fn arrival(&self) -> i64 {
        self.readings.iter().map(|it| it.arrival).max().unwrap_or_default()
    }

    /// Returns the reading of a phase that counts, as [`Series`](super::series::Series) takes it.
    fn of_phase(&self, phase: u8) -> Option<&MeterReading> {
        let of_phase = self.readings.iter().filter(|it| it.channel.phase == phase);
        match phase {
            0 => of_phase.min_by_key(|it| (it.amount, it.arrival)),
            _ => of_phase.max_by_key(|it| (it.amount, it.arrival)),
        }
    }

    /// Returns the total, or the sum of the phases.
    fn counted(&self) -> i64 {
        let amount = |phase| self.of_phase(phase).map(|it| it.amount);
        amount(0).unwrap_or_else(|| (1..4).filter_map(amount).sum())
    }

    /// Adds the intervals of a moment of the same kind that was before.
    fn add(&mut self, before: &Self) {
        let sums = (0..4).filter_map(|phase| {
            let (own, other) = (self.of_phase(phase)?, before.of_phase(phase)?);
            let since = Some(other.since.unwrap_or(other.at));
            Some(MeterReading { amount: own.amount + other.amount, since, ..*own })
        });
        self.readings = sums.collect();
    }
}
