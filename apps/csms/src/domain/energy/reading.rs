//! Readings of a meter, as evidence, from the messages of a station.

use leftfold::prelude::Timestamp;

use super::{POWER_W_MAX, REGISTER_WH_MAX};
use crate::domain::clock::believed_as_shown;
use crate::domain::moment;
use crate::ocpp::v16::{
    Location, Measurand, MeterValue, Phase, ReadingContext, SampledValue, UnitOfMeasure,
    ValueFormat,
};

/// Returns the moment by the station's clock, if it can be believed, or that of the arrival; and if
/// it is the station's.
#[must_use]
pub(crate) fn believed_moment(
    timestamp: Option<Timestamp>,
    received_at: Timestamp,
) -> (Timestamp, bool) {
    believed_as_shown(timestamp, received_at).map_or((received_at, false), |at| (at, true))
}

/// One number that was read from a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MeterReading {
    /// Moment; that of the arrival if the clock of the station was not to be believed.
    pub(crate) at: Timestamp,
    /// True if the moment is by the station's clock.
    pub(crate) is_by_station: bool,
    /// Place in the order of arrival.
    pub(crate) arrival: i64,
    /// The quantity, and its place.
    pub(crate) channel: MeterChannel,
    /// The number, in mWh or mW.
    pub(crate) amount: i64,
    /// Earliest of the intervals that it stands for, each at its moment; `None` if it stands for
    /// itself only.
    pub(crate) since: Option<Timestamp>,
}

/// Quantity that a number is of, the place where it is measured, and the unit that was named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MeterChannel {
    /// The quantity.
    pub(super) quantity: Quantity,
    /// True if it is measured at the outlet, which serves the driver.
    pub(super) is_at_outlet: bool,
    /// Phase, 1 to 3; 0 for all together.
    pub(super) phase: u8,
    /// True if the moment of the reading is one of the clock, such as each full quarter of an hour.
    pub(super) is_by_clock: bool,
    /// The unit that was named.
    pub(super) unit: NamedUnit,
}

/// Quantity of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Quantity {
    /// Register of imported active energy.
    Register,
    /// Imported active energy of an interval.
    Interval,
    /// Imported active power.
    Power,
}

/// Unit that a station named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum NamedUnit {
    /// None: Wh or W is meant.
    Missing,
    /// Wh or W.
    One,
    /// kWh or kW, or greater.
    Kilo,
}

impl MeterChannel {
    /// Returns the channel as a number, to be stored.
    #[must_use]
    pub(crate) fn code(self) -> i64 {
        let (quantity, unit) = (self.quantity as i64, self.unit as i64);
        let (is_at_outlet, is_by_clock) =
            (i64::from(self.is_at_outlet), i64::from(self.is_by_clock));
        (((quantity * 2 + is_at_outlet) * 2 + is_by_clock) * 3 + unit) * 4 + i64::from(self.phase)
    }

    /// Returns the channel of a [`code`](Self::code); `None` if there is none.
    #[must_use]
    pub(crate) fn of_code(code: i64) -> Option<Self> {
        let (phase, rest) = (code.rem_euclid(4) as u8, code.div_euclid(4));
        let unit =
            [NamedUnit::Missing, NamedUnit::One, NamedUnit::Kilo][rest.rem_euclid(3) as usize];
        let rest = rest.div_euclid(3);
        let quantity = match rest.div_euclid(4) {
            0 => Quantity::Register,
            1 => Quantity::Interval,
            2 => Quantity::Power,
            _ => return None,
        };
        let (is_by_clock, is_at_outlet) = (rest & 1 == 1, rest & 2 == 2);
        Some(Self { quantity, is_at_outlet, phase, is_by_clock, unit })
    }
}

/// Returns the readings in a message that are evidence. A total is taken, and only if there is none
/// at that moment the phases. `arrival` is the place of the message in the order of all.
#[must_use]
pub(crate) fn readings_of(
    values: &[MeterValue],
    received_at: Timestamp,
    arrival: i64,
) -> Vec<MeterReading> {
    let mut readings: Vec<MeterReading> = Vec::new();
    for value in values {
        let (at, is_by_station) = believed_moment(value.timestamp.map(moment), received_at);
        let from = readings.len();
        for sample in &value.sampled_values {
            let Some((channel, amount)) = evidence_of(sample) else { continue };
            // Of several numbers of one channel the first counts.
            if readings[from..].iter().any(|before| is_same_place(before.channel, channel)) {
                continue;
            }
            let arrival = arrival.saturating_add(readings.len() as i64);
            let since = None;
            readings.push(MeterReading { at, is_by_station, arrival, channel, amount, since });
        }
        let totals: Vec<MeterChannel> =
            readings[from..].iter().map(|it| it.channel).filter(|it| it.phase == 0).collect();
        let mut place = 0;
        readings.retain(|reading| {
            place += 1;
            let total = MeterChannel { phase: 0, ..reading.channel };
            place <= from
                || reading.channel.phase == 0
                || !totals.iter().any(|found| is_same_place(*found, total))
        });
    }
    readings
}

fn is_same_place(one: MeterChannel, other: MeterChannel) -> bool {
    MeterChannel { unit: NamedUnit::One, ..one } == MeterChannel { unit: NamedUnit::One, ..other }
}

/// Returns the channel and the amount of a sampled value; `None` if it is no evidence of energy.
fn evidence_of(sample: &SampledValue) -> Option<(MeterChannel, i64)> {
    if !matches!(sample.format, None | Some(ValueFormat::Raw)) {
        return None;
    }
    let quantity = match &sample.measurand {
        None | Some(Measurand::EnergyActiveImportRegister) => Quantity::Register,
        Some(Measurand::EnergyActiveImportInterval) => Quantity::Interval,
        Some(Measurand::PowerActiveImport) => Quantity::Power,
        Some(_) => return None,
    };
    let phase = match &sample.phase {
        None => 0,
        Some(Phase::L1 | Phase::L1N) => 1,
        Some(Phase::L2 | Phase::L2N) => 2,
        Some(Phase::L3 | Phase::L3N) => 3,
        Some(_) => return None,
    };
    let (unit, factor) = unit_of(quantity, sample.unit.as_ref())?;
    let amount = decimal(&sample.value)? * factor;
    let amount_max = match quantity {
        Quantity::Register | Quantity::Interval => REGISTER_WH_MAX,
        Quantity::Power => POWER_W_MAX,
    };
    if !(0.0..=amount_max as f64).contains(&amount) {
        return None;
    }
    let channel = MeterChannel {
        quantity,
        is_at_outlet: matches!(sample.location, None | Some(Location::Outlet)),
        phase,
        is_by_clock: sample.context == Some(ReadingContext::SampleClock),
        unit,
    };
    // At most 10^15, which a float and an integer hold exactly.
    Some((channel, (amount * 1_000.0).round() as i64))
}

/// Returns the unit and its factor; `None` if it is none of the quantity.
fn unit_of(quantity: Quantity, unit: Option<&UnitOfMeasure>) -> Option<(NamedUnit, f64)> {
    let Some(unit) = unit else { return Some((NamedUnit::Missing, 1.0)) };
    let unit = unit.as_str().trim();
    let base = match quantity {
        Quantity::Register | Quantity::Interval => "wh",
        Quantity::Power => "w",
    };
    let unit = unit.to_ascii_lowercase();
    match unit.strip_suffix(base)? {
        "" => Some((NamedUnit::One, 1.0)),
        "k" => Some((NamedUnit::Kilo, 1_000.0)),
        "m" => Some((NamedUnit::Kilo, 1_000_000.0)),
        _ => None,
    }
}

/// Reads a decimal number, also with a comma and with an exponent. The infinities and NaN, which
/// Rust reads too, are `None`.
fn decimal(text: &str) -> Option<f64> {
    let text = text.trim();
    let number: f64 = match text.parse() {
        Ok(number) => number,
        Err(_) => text.replacen(',', ".", 1).parse().ok()?,
    };
    number.is_finite().then_some(number)
}
