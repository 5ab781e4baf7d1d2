//! The energy without a register: intervals summed up, or power integrated.

use super::chain::{MeterPoint, possible, rise_max};
use super::reading::Quantity;
use super::series::{EnergySample, Series};
use super::{Curve, EnergyFlag, EnergySource, Evidence, POWER_W_MAX};

/// Time between two readings of power for which the power is taken to be known, in microseconds.
pub(super) const POWER_GAP_MICROS_MAX: i64 = 60 * 60 * 1_000_000;

/// Energy from other evidence than registers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Estimate {
    pub(super) curve: Curve,
    pub(super) source: EnergySource,
    pub(super) flag: EnergyFlag,
}

/// Returns the energy of the intervals, or if there are none, that of the power; `None` if neither
/// was read.
pub(super) fn best(evidence: &Evidence) -> Option<Estimate> {
    intervals(evidence).or_else(|| power(evidence))
}

fn intervals(evidence: &Evidence) -> Option<Estimate> {
    let series = Series::of(evidence, Quantity::Interval);
    if series.samples.is_empty() {
        return None;
    }
    let start = MeterPoint {
        at: evidence.start.at.as_micros(),
        is_timed: evidence.start.is_by_station,
        amount: 0,
        weight: 0,
    };
    let mut curve = Curve::default();
    let mut total = 0;
    curve.push(start.at, total);
    for sample in &series.samples {
        let EnergySample { at, is_by_station: is_timed, amount, .. } = *sample;
        let after = MeterPoint { at, is_timed, amount: total + amount, weight: 0 };
        // An interval that no connector can have delivered does not count.
        if amount <= rise_max(&start, &after) && after.amount <= possible(&start, &after) {
            total = after.amount;
            curve.push(at, total);
        }
    }
    let (source, flag) = (EnergySource::Intervals, EnergyFlag::IntervalsSummed);
    Some(Estimate { curve, source, flag })
}

fn power(evidence: &Evidence) -> Option<Estimate> {
    let mut samples = Series::of(evidence, Quantity::Power).samples;
    // Phases that add up to more than a connector delivers are not believed, as one number is not.
    samples.retain(|sample| sample.is_by_station && sample.amount <= POWER_W_MAX * 1_000);
    let (first, last) = (*samples.first()?, *samples.last()?);
    // What was measured next holds at the ends too, where they are near.
    if evidence.start.is_by_station && evidence.start.at.as_micros() < first.at {
        samples.insert(0, EnergySample { at: evidence.start.at.as_micros(), ..first });
    }
    if let Some(end) = evidence.end.filter(|end| end.is_by_station)
        && end.at.as_micros() > last.at
    {
        samples.push(EnergySample { at: end.at.as_micros(), ..last });
    }
    if samples.len() < 2 {
        return None;
    }
    let mut curve = Curve::default();
    let mut total = 0;
    curve.push(samples[0].at, total);
    for pair in samples.windows(2) {
        let micros = pair[1].at - pair[0].at;
        if micros <= POWER_GAP_MICROS_MAX {
            // At most 10^9 mW over an hour, 3.6 * 10^18, which 64 bits hold.
            total += (pair[0].amount + pair[1].amount) / 2 * micros / 3_600_000_000;
        }
        curve.push(pair[1].at, total);
    }
    Some(Estimate { curve, source: EnergySource::Power, flag: EnergyFlag::PowerEstimated })
}
