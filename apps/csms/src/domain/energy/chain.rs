//! The longest chain of numbers that a meter can show.
//!
//! Numbers come in an order. A chain goes from a number to a later one by a *step*, which rises no
//! faster than is possible, or by a *break*: the register was reset or exchanged between them. Each
//! number has a weight, a break has a cost, and the chain with the greatest sum wins. So one wrong
//! number is left out, and only several that fit each other make a break.

use super::{POWER_W_MAX, SLACK_MWH, STEP_MWH_MAX};

/// Weight of a reading. Weights and costs are in quarters of it.
pub(super) const READING_WEIGHT: i64 = 4;
/// Weight of a reading of 0, which meters also show when they cannot be read.
pub(super) const ZERO_WEIGHT: i64 = 1;
/// Weight of the meter at the start, and of that at the stop: what a bill rests on.
pub(super) const MARK_WEIGHT: i64 = 6;
/// Cost of a break: more than one number can justify, less than two readings.
const BREAK_COST: i64 = 7;
/// Numbers before a number that a step or a break may lead to it from.
const LOOKBACK: usize = 64;
/// Number after a reset that counts from 0 however slowly the meter rose before, in mWh.
const FROM_ZERO_MWH: i64 = 100_000;
/// Time over which a rise shows a pace at least, in microseconds: registers that tick in kWh show
/// none within a second.
const PACE_MICROS_MIN: i64 = 5 * 1_000_000;

/// A number in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MeterPoint {
    pub(super) at: i64,
    /// True if the moment is one of the station's clock, in the order of that clock.
    pub(super) is_timed: bool,
    pub(super) amount: i64,
    pub(super) weight: i64,
}

/// A chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MeterChain {
    /// Sum of the weights, less the breaks.
    pub(super) score: i64,
    /// Places of its numbers in the order, each with the energy since its first one in mWh.
    pub(super) links: Vec<(usize, i64)>,
    pub(super) resets: usize,
    pub(super) jumps: usize,
}

/// Best chain that ends at a number.
#[derive(Clone, Copy, Debug)]
struct ChainEnd {
    score: i64,
    breaks: usize,
    before: Option<usize>,
    first: usize,
    total: i64,
    /// Fastest rise so far, in mWh a second.
    rate: i64,
}

/// Returns the best chain of numbers in their order.
pub(super) fn best(points: &[MeterPoint]) -> MeterChain {
    let mut ends: Vec<ChainEnd> = Vec::with_capacity(points.len());
    // Greatest score up to each number: beyond it nothing better is to be found.
    let mut highest: Vec<i64> = Vec::with_capacity(points.len());
    for (to, point) in points.iter().enumerate() {
        let score = point.weight;
        let mut best = ChainEnd { score, breaks: 0, before: None, first: to, total: 0, rate: 0 };
        for from in (to.saturating_sub(LOOKBACK)..to).rev() {
            if best.score > highest[from] + point.weight {
                break;
            }
            let candidate = ends[from].step(points, from, to);
            let candidate = candidate.unwrap_or_else(|| ends[from].break_off(points, from, to));
            if candidate.rank() > best.rank() {
                best = candidate;
            }
        }
        highest.push(best.score.max(highest.last().copied().unwrap_or_default()));
        ends.push(best);
    }
    let Some((last, _)) = ends.iter().enumerate().max_by_key(|(place, end)| (end.rank(), *place))
    else {
        return MeterChain::default();
    };
    let mut chain = MeterChain { score: ends[last].score, ..MeterChain::default() };
    let mut place = Some(last);
    while let Some(to) = place {
        chain.links.push((to, ends[to].total));
        place = ends[to].before;
        if let Some(from) = place.filter(|from| ends[*from].breaks < ends[to].breaks) {
            match points[to].amount < points[from].amount {
                true => chain.resets += 1,
                false => chain.jumps += 1,
            }
        }
    }
    chain.links.reverse();
    chain
}

impl ChainEnd {
    /// Of equal scores fewer breaks are better, then less energy: nobody pays for a doubt.
    fn rank(&self) -> (i64, std::cmp::Reverse<usize>, std::cmp::Reverse<i64>) {
        (self.score, std::cmp::Reverse(self.breaks), std::cmp::Reverse(self.total))
    }

    /// Goes on to a number that the meter can have risen to; `None` if it cannot.
    fn step(&self, points: &[MeterPoint], from: usize, to: usize) -> Option<Self> {
        let (before, point) = (&points[from], &points[to]);
        let rise = point.amount - before.amount;
        let total = self.total + rise;
        if rise < 0
            || rise > rise_max(before, point)
            || (total > rise && !is_possible(&points[self.first], point, total))
        {
            return None;
        }
        let rate = self.rate.max(rate_of(before, point, rise));
        let score = self.score + point.weight;
        Some(Self { score, before: Some(from), total, rate, ..*self })
    }

    /// Goes on after a break. A register that fell counts from 0 if it cannot have risen further
    /// since, judged by the pace before and by what any connector can deliver.
    fn break_off(&self, points: &[MeterPoint], from: usize, to: usize) -> Self {
        let (before, point) = (&points[from], &points[to]);
        let seconds = (point.at - before.at).max(0) / 1_000_000;
        let from_zero_max = (2 * self.rate).saturating_mul(seconds).max(FROM_ZERO_MWH);
        let total = self.total + point.amount;
        let counts_from_zero = point.amount < before.amount
            && point.amount <= from_zero_max.min(rise_max(before, point))
            && is_possible(&points[self.first], point, total);
        Self {
            score: self.score + point.weight - BREAK_COST,
            breaks: self.breaks + 1,
            before: Some(from),
            total: if counts_from_zero { total } else { self.total },
            ..*self
        }
    }
}

/// Returns the greatest rise between two numbers that is believed, in mWh.
pub(super) fn rise_max(from: &MeterPoint, to: &MeterPoint) -> i64 {
    possible(from, to).min(STEP_MWH_MAX)
}

fn is_possible(first: &MeterPoint, to: &MeterPoint, total: i64) -> bool {
    !(first.is_timed && to.is_timed) || total <= possible(first, to)
}

/// Energy that a connector can deliver between two moments, in mWh; without bound if the moments
/// are not known.
pub(super) fn possible(from: &MeterPoint, to: &MeterPoint) -> i64 {
    if !(from.is_timed && to.is_timed) || to.at < from.at {
        return i64::MAX;
    }
    // A watt is a milliwatt-hour in 3,600,000 microseconds.
    (to.at - from.at).saturating_mul(POWER_W_MAX / 1_000).saturating_add(SLACK_MWH * 3_600) / 3_600
}

fn rate_of(from: &MeterPoint, to: &MeterPoint, rise: i64) -> i64 {
    let micros = to.at - from.at;
    if micros <= 0 || !(from.is_timed && to.is_timed) {
        return 0;
    }
    rise.saturating_mul(1_000_000) / micros.max(PACE_MICROS_MIN)
}
