//! The meanings that the numbers of a transaction may have, and the best of them.
//!
//! Each supposition has a cost: what is unusual needs more evidence than what is plain.

use std::collections::BTreeSet;

use super::chain::{self, MARK_WEIGHT, MeterChain, MeterPoint, READING_WEIGHT, ZERO_WEIGHT};
use super::estimate::Estimate;
use super::reading::{NamedUnit, Quantity};
use super::series::{EnergySample, Series};
use super::{Curve, EnergyFlag, EnergySource, Evidence};

/// Score of a supposition whose energy is about that of the intervals or the power.
const ESTIMATE_BONUS: i64 = 6;
/// Energy that is compared with an estimate at least, in mWh.
const COMPARED_MWH_MIN: i64 = 100_000;
/// A kWh in mWh: the resolution of numbers in kWh.
const KILOWATT_HOUR_MWH: i64 = 1_000_000;

/// Energy by registers that was believed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Believed {
    pub(super) chain: Curve,
    pub(super) source: EnergySource,
    pub(super) flags: BTreeSet<EnergyFlag>,
}

/// Meaning of the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Supposition {
    marks: MarkUnit,
    readings: ReadingUnit,
    binding: RegisterBinding,
    order: ReadingOrder,
}

/// Unit of the meter at the start and at the stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MarkUnit {
    WattHours,
    KilowattHours,
}

/// Unit of the readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadingUnit {
    AsNamed,
    /// Numbers without a unit are in kWh.
    KilowattHoursIfMissing,
    /// Numbers without a unit and those in Wh are in kWh.
    KilowattHours,
    /// Numbers in kWh are in Wh.
    WattHours,
}

/// Relation of the readings to the meter at the start and at the stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RegisterBinding {
    /// All are of one register.
    SameRegister,
    /// The readings count from the start of the session.
    SessionReadings,
    /// The readings and the meter at the stop count from the start of the session.
    SessionReadingsAndStop,
    /// The meter at start and stop counts the session, the readings all that there ever was.
    SessionMarks,
}

/// Order in which the readings are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadingOrder {
    Moment,
    Arrival,
}

impl Supposition {
    const PLAIN: Self = Self {
        marks: MarkUnit::WattHours,
        readings: ReadingUnit::AsNamed,
        binding: RegisterBinding::SameRegister,
        order: ReadingOrder::Moment,
    };

    /// Returns all suppositions, the plain one first.
    fn all() -> impl Iterator<Item = Self> {
        use RegisterBinding::{
            SameRegister, SessionMarks, SessionReadings, SessionReadingsAndStop,
        };
        let units = [
            (MarkUnit::WattHours, ReadingUnit::AsNamed),
            (MarkUnit::WattHours, ReadingUnit::KilowattHoursIfMissing),
            (MarkUnit::WattHours, ReadingUnit::KilowattHours),
            (MarkUnit::WattHours, ReadingUnit::WattHours),
            (MarkUnit::KilowattHours, ReadingUnit::AsNamed),
        ];
        let bindings = [SameRegister, SessionReadings, SessionReadingsAndStop, SessionMarks];
        [ReadingOrder::Moment, ReadingOrder::Arrival].into_iter().flat_map(move |order| {
            units.into_iter().flat_map(move |(marks, readings)| {
                bindings.map(|binding| Self { marks, readings, binding, order })
            })
        })
    }

    fn has_plain_units(self) -> bool {
        self.marks == MarkUnit::WattHours && self.readings == ReadingUnit::AsNamed
    }

    fn cost(self) -> i64 {
        let marks = if self.marks == MarkUnit::KilowattHours { 4 } else { 0 };
        let readings = match self.readings {
            ReadingUnit::AsNamed => 0,
            ReadingUnit::KilowattHoursIfMissing => 3,
            ReadingUnit::KilowattHours | ReadingUnit::WattHours => 5,
        };
        let binding = if self.binding == RegisterBinding::SameRegister { 0 } else { 4 };
        let order = if self.order == ReadingOrder::Arrival { 3 } else { 0 };
        marks + readings + binding + order
    }

    /// Returns the number of a reading as it is supposed to be meant.
    fn meant(self, sample: &EnergySample) -> i64 {
        match (self.readings, sample.unit) {
            (ReadingUnit::KilowattHoursIfMissing, NamedUnit::Missing)
            | (ReadingUnit::KilowattHours, NamedUnit::Missing | NamedUnit::One) => {
                sample.amount * 1_000
            }
            (ReadingUnit::WattHours, NamedUnit::Kilo) => sample.amount / 1_000,
            _ => sample.amount,
        }
    }
}

/// Numbers of a supposition in their order, and the places of start and stop among them.
struct Numbers {
    points: Vec<MeterPoint>,
    has_start: bool,
    has_stop: bool,
}

/// Returns the energy under the best supposition; `None` if no two numbers fit each other under
/// any.
pub(super) fn believed(evidence: &Evidence, estimate: Option<&Estimate>) -> Option<Believed> {
    let series = Series::of(evidence, Quantity::Register);
    let mut best: Option<(i64, Supposition, Numbers, MeterChain)> = None;
    for supposition in Supposition::all() {
        let Some(numbers) = numbers(evidence, &series, supposition) else { continue };
        let chain = chain::best(&numbers.points);
        if chain.links.len() < 2 {
            continue;
        }
        let likeness = Likeness::of(&chain, estimate);
        let is_whole = chain.links.len() == numbers.points.len() && chain.resets + chain.jumps == 0;
        if supposition == Supposition::PLAIN && is_whole && likeness != Likeness::FarOff {
            best = Some((0, supposition, numbers, chain));
            break;
        }
        let bonus = if likeness == Likeness::Near { ESTIMATE_BONUS } else { 0 };
        let score = chain.score - supposition.cost() + bonus;
        if best.as_ref().is_none_or(|(highest, ..)| score > *highest) {
            best = Some((score, supposition, numbers, chain));
        }
    }
    let (_, supposition, numbers, chain) = best?;
    Some(conclude(evidence, &series, supposition, &numbers, &chain))
}

/// Likeness of an energy to an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Likeness {
    Unknown,
    Near,
    Off,
    FarOff,
}

impl Likeness {
    fn of(chain: &MeterChain, estimate: Option<&Estimate>) -> Self {
        let total = chain.links.last().map_or(0, |(_, total)| *total);
        let estimate = estimate.and_then(|it| it.curve.total_wh()).map_or(0, |wh| wh * 1_000);
        if estimate < COMPARED_MWH_MIN {
            return Self::Unknown;
        }
        if (estimate / 2..=estimate.saturating_mul(2)).contains(&total) {
            Self::Near
        } else if (estimate / 100..=estimate.saturating_mul(100)).contains(&total) {
            Self::Off
        } else {
            Self::FarOff
        }
    }
}

/// Returns the numbers as a supposition means them; `None` if it does not apply.
fn numbers(evidence: &Evidence, series: &Series, supposition: Supposition) -> Option<Numbers> {
    let mut samples = series.samples.clone();
    if supposition.order == ReadingOrder::Arrival {
        if samples.is_sorted_by_key(|it| it.arrival) {
            return None;
        }
        samples.sort_by_key(|it| it.arrival);
    }
    let readings: Vec<MeterPoint> = samples
        .iter()
        .map(|sample| MeterPoint {
            at: sample.at,
            is_timed: sample.is_by_station && supposition.order == ReadingOrder::Moment,
            amount: supposition.meant(sample),
            weight: if sample.amount == 0 { ZERO_WEIGHT } else { READING_WEIGHT },
        })
        .collect();
    let as_named = samples.iter().map(|it| it.amount).eq(readings.iter().map(|it| it.amount));
    if as_named && supposition.readings != ReadingUnit::AsNamed {
        return None;
    }
    let factor = if supposition.marks == MarkUnit::KilowattHours { 1_000 } else { 1 };
    let is_timed = supposition.order == ReadingOrder::Moment;
    let mark = |mark: super::MeterMark| {
        let amount = mark.meter_mwh()? * factor;
        let is_timed = is_timed && mark.is_by_station;
        Some(MeterPoint { at: mark.at.as_micros(), is_timed, amount, weight: MARK_WEIGHT })
    };
    let (start, stop) = (mark(evidence.start), evidence.end.and_then(mark));
    let (start, stop) = match supposition.binding {
        RegisterBinding::SameRegister if factor == 1 => (start, stop),
        RegisterBinding::SameRegister => {
            (start.map(|it| near(it, readings.first())), stop.map(|it| near(it, readings.last())))
        }
        // Two peculiarities at once would fit anything.
        _ if !supposition.has_plain_units() || readings.is_empty() => return None,
        RegisterBinding::SessionReadings => {
            let start = start.filter(|start| start.amount > 0)?;
            let rise = |stop: MeterPoint| MeterPoint { amount: stop.amount - start.amount, ..stop };
            (
                Some(MeterPoint { amount: 0, ..start }),
                stop.map(rise).filter(|stop| stop.amount >= 0),
            )
        }
        RegisterBinding::SessionReadingsAndStop => {
            let start = start?;
            let stop = stop.filter(|stop| stop.amount < start.amount)?;
            (Some(MeterPoint { amount: 0, ..start }), Some(stop))
        }
        RegisterBinding::SessionMarks => {
            let (start, stop) = around(start?, &readings, stop?)?;
            (Some(start), Some(stop))
        }
    };
    let (has_start, has_stop) = (start.is_some(), stop.is_some());
    let points = start.into_iter().chain(readings).chain(stop).collect();
    Some(Numbers { points, has_start, has_stop })
}

/// Returns a number in whole kWh as the reading beside it, which says the same in Wh.
fn near(mark: MeterPoint, reading: Option<&MeterPoint>) -> MeterPoint {
    let is_near = |it: &&MeterPoint| (it.amount - mark.amount).abs() < KILOWATT_HOUR_MWH;
    reading.filter(is_near).map_or(mark, |it| MeterPoint { amount: it.amount, ..mark })
}

/// Returns start and stop of a session as numbers of the register that the readings are of: what
/// the readings do not show was charged before and after them, in proportion to the times.
fn around(
    start: MeterPoint,
    readings: &[MeterPoint],
    stop: MeterPoint,
) -> Option<(MeterPoint, MeterPoint)> {
    let chain = chain::best(readings);
    let (first, last) = (readings[chain.links.first()?.0], readings[chain.links.last()?.0]);
    let total = stop.amount - start.amount;
    let beside = total - (last.amount - first.amount);
    if beside < 0 || chain.resets + chain.jumps > 0 {
        return None;
    }
    let (before, after) = ((first.at - start.at).max(0), (stop.at - last.at).max(0));
    let head = match i128::from(before) + i128::from(after) {
        0 => 0,
        time => (i128::from(beside) * i128::from(before) / time) as i64,
    };
    let start_amount = first.amount - head;
    let stop = MeterPoint { amount: start_amount + total, ..stop };
    Some((MeterPoint { amount: start_amount, ..start }, stop))
}

/// Returns the energy of a chain, with the flags of all that it leaves out.
fn conclude(
    evidence: &Evidence,
    series: &Series,
    supposition: Supposition,
    numbers: &Numbers,
    chain: &MeterChain,
) -> Believed {
    let mut curve = Curve::default();
    chain.links.iter().for_each(|(place, total)| curve.push(numbers.points[*place].at, *total));
    let has_link = |place: usize| chain.links.iter().any(|(link, _)| *link == place);
    let start_fits = numbers.has_start && has_link(0);
    let stop_fits = numbers.has_stop && has_link(numbers.points.len() - 1);
    let readings_fit = chain.links.len() - usize::from(start_fits) - usize::from(stop_fits);

    let stop_wh = evidence.end.and_then(|end| end.meter_wh);
    let is_below = stop_wh.is_some_and(|stop| {
        stop < 0 || evidence.start.meter_mwh().is_some_and(|start| stop < start / 1_000)
    });
    let is_session = supposition.binding != RegisterBinding::SameRegister;
    let found = [
        (evidence.start.meter_mwh().is_some() && !start_fits, EnergyFlag::StartNotBelieved),
        (stop_wh.is_some() && !stop_fits && is_below, EnergyFlag::StopBelowStart),
        (stop_wh.is_some() && !stop_fits && !is_below, EnergyFlag::StopNotBelieved),
        (readings_fit < series.samples.len(), EnergyFlag::ReadingsNotBelieved),
        (chain.resets > 0, EnergyFlag::RegisterReset),
        (chain.jumps > 0, EnergyFlag::RegisterJumped),
        (is_session, EnergyFlag::SessionRegister),
        (
            supposition.marks == MarkUnit::KilowattHours
                || matches!(
                    supposition.readings,
                    ReadingUnit::KilowattHoursIfMissing | ReadingUnit::KilowattHours
                ),
            EnergyFlag::KilowattHoursSupposed,
        ),
        (supposition.readings == ReadingUnit::WattHours, EnergyFlag::WattHoursSupposed),
        (supposition.order == ReadingOrder::Arrival, EnergyFlag::OrderOfArrival),
        (series.is_of_phases && readings_fit > 0, EnergyFlag::PhasesSummed),
    ];
    let source =
        if start_fits && stop_fits { EnergySource::StartAndStop } else { EnergySource::Register };
    let flags = found.into_iter().filter(|(is_so, _)| *is_so).map(|(_, flag)| flag).collect();
    Believed { chain: curve, source, flags }
}
