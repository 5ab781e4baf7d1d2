//! Readings of one quantity in an order, with the phases added up.

use std::collections::BTreeMap;

use super::reading::{NamedUnit, Quantity};
use super::{Evidence, MeterReading};

/// One number of a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EnergySample {
    /// Moment in microseconds.
    pub(super) at: i64,
    /// True if the moment is by the station's clock.
    pub(super) is_by_station: bool,
    /// Place in the order of arrival.
    pub(super) arrival: i64,
    /// The number, in mWh or mW.
    pub(super) amount: i64,
    /// The unit that was named.
    pub(super) unit: NamedUnit,
}

/// The numbers of a quantity in the order of their moments.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Series {
    pub(super) samples: Vec<EnergySample>,
    /// True if phases were added up.
    pub(super) is_of_phases: bool,
}

impl Series {
    /// Returns the readings of a quantity: those at the outlet, or if there are none, those of
    /// other places; of intervals those that were sampled, or else those by the clock, which would
    /// count the same energy again.
    pub(super) fn of(evidence: &Evidence, quantity: Quantity) -> Self {
        let end = evidence.end.filter(|_| evidence.is_end_reported).map(|end| end.at);
        let mut found: Vec<MeterReading> = evidence
            .readings
            .iter()
            .filter(|it| it.channel.quantity == quantity)
            .filter(|it| end.is_none_or(|end| it.at <= end || !it.is_by_station))
            .copied()
            .collect();
        prefer(&mut found, |it| it.channel.is_at_outlet);
        if quantity == Quantity::Interval {
            prefer(&mut found, |it| !it.channel.is_by_clock);
        }
        let mut phases = [false; 4];
        found.iter().for_each(|it| phases[usize::from(it.channel.phase)] = true);
        let phases_seen = phases[1..].iter().filter(|seen| **seen).count();

        let mut moments: BTreeMap<i64, Vec<MeterReading>> = BTreeMap::new();
        for reading in found {
            moments.entry(reading.at.as_micros()).or_default().push(reading);
        }
        let mut series = Self::default();
        for readings in moments.into_values() {
            series.take(readings, phases_seen, quantity);
        }
        series
    }

    /// Takes the readings of one moment: the totals, or the sum of the phases if none is missing.
    fn take(&mut self, mut readings: Vec<MeterReading>, phases_seen: usize, quantity: Quantity) {
        readings.sort_by_key(|it| (it.amount, it.arrival));
        let mut totals: Vec<EnergySample> =
            readings.iter().filter(|it| it.channel.phase == 0).map(EnergySample::of).collect();
        totals.dedup_by_key(|it| it.amount);
        if quantity != Quantity::Register {
            // A register may show two numbers within the second; another quantity has one.
            totals.truncate(1);
        }
        if !totals.is_empty() {
            return self.samples.append(&mut totals);
        }
        let by_phase: BTreeMap<u8, &MeterReading> =
            readings.iter().map(|it| (it.channel.phase, it)).collect();
        if by_phase.len() < phases_seen {
            return;
        }
        let sum = by_phase.into_values().map(EnergySample::of).reduce(|sum, it| EnergySample {
            amount: sum.amount + it.amount,
            arrival: sum.arrival.max(it.arrival),
            unit: sum.unit.min(it.unit),
            ..sum
        });
        self.samples.extend(sum);
        self.is_of_phases |= phases_seen > 1;
    }
}

impl EnergySample {
    fn of(reading: &MeterReading) -> Self {
        let MeterReading { at, is_by_station, arrival, channel, amount, .. } = *reading;
        Self { at: at.as_micros(), is_by_station, arrival, amount, unit: channel.unit }
    }
}

/// Keeps those of a kind, if there are any.
fn prefer(readings: &mut Vec<MeterReading>, is_of_kind: impl Fn(&MeterReading) -> bool) {
    if readings.iter().any(&is_of_kind) {
        readings.retain(is_of_kind);
    }
}
