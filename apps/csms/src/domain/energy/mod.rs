//! The energy of one transaction, from all that a station said about it: never negative, and null
//! rather than guessed.
//!
//! The evidence is the meter at the start and at the stop, and the readings between them. A
//! *supposition* says what the numbers mean: all are of one register in Wh, or the readings count
//! from the start of the session, or a number without a unit is in kWh. Under each supposition the
//! longest *chain* of numbers is looked for that a meter can show: it never falls, and rises no
//! faster than [`POWER_W_MAX`]. The supposition under which most of the evidence fits is believed,
//! of equals the plainest. What does not fit is left out, and a flag says so. The energy is the
//! rise of the chain; so if the meter at the stop fits, it has the last word.
//!
//! Registers that fall or leap and go on from there were reset or exchanged: the rises on both
//! sides add up. If no two numbers of registers fit each other, intervals are summed up; if there
//! are none, power is integrated, which is an estimate. If there is nothing of all that, the energy
//! is not known, and a person has to say it.
//!
//! - `reading`: readings of a meter, as evidence, from the messages
//! - `thinning`: fewer readings of a long transaction, with the same energy
//! - `series`: readings of one quantity in an order, with the phases added up
//! - `chain`: the longest chain of numbers that a meter can show
//! - `supposition`: the meanings that the numbers may have, and the best of them
//! - `estimate`: intervals and power, if there is no register
//! - `curve`: the energy over time, by day
//! - `correction`: the word of a person

mod chain;
mod correction;
mod curve;
mod estimate;
mod reading;
mod series;
mod supposition;
mod thinning;

use std::collections::BTreeSet;

use leftfold::prelude::Timestamp;

pub(crate) use correction::EnergyCorrected;
pub(crate) use curve::{Curve, DAY_MICROS, days_corrected};
pub(crate) use reading::{MeterChannel, MeterReading, believed_moment, readings_of};
use supposition::Believed;
pub(crate) use thinning::thinned;

/// Power that no connector exceeds, in W: a megawatt. A register that rises faster is not believed.
const POWER_W_MAX: i64 = 1_000_000;
/// Rise between two numbers that is not believed however long it took, in mWh: 1 MWh is more than
/// any vehicle takes, and so no single number moves a report by more.
const STEP_MWH_MAX: i64 = 1_000_000_000;
/// Rise that is believed in no time, in mWh: clocks tick in seconds, and some registers in kWh.
const SLACK_MWH: i64 = 2_000_000;
/// Number of a register that is taken for one, in Wh: 1,000 GWh, so that no sum overflows.
pub(crate) const REGISTER_WH_MAX: i64 = 1_000_000_000_000;
/// Readings of a transaction that are kept as evidence at most; about half of them goes then.
const READINGS_MAX: usize = 2_048;

/// Evidence of the energy of one transaction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Evidence {
    /// Start of the transaction.
    pub(crate) start: MeterMark,
    /// End of the transaction; `None` while it runs.
    pub(crate) end: Option<MeterMark>,
    /// True if the station reported the end: readings after it are not the transaction's.
    pub(crate) is_end_reported: bool,
    /// Readings in any order.
    pub(crate) readings: Vec<MeterReading>,
}

/// Start or end of a transaction, with the meter at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MeterMark {
    /// Moment; that of the arrival if the clock of the station was not to be believed.
    pub(crate) at: Timestamp,
    /// True if the moment is by the station's clock.
    pub(crate) is_by_station: bool,
    /// The meter in Wh, as it came; `None` if it was not said.
    pub(crate) meter_wh: Option<i64>,
}

impl MeterMark {
    /// Takes a moment by the station's clock, if that clock can be believed.
    #[must_use]
    pub(crate) fn new(
        timestamp: Option<Timestamp>,
        received_at: Timestamp,
        meter_wh: Option<i64>,
    ) -> Self {
        let (at, is_by_station) = believed_moment(timestamp, received_at);
        Self { at, is_by_station, meter_wh }
    }

    /// Returns the meter in mWh; `None` if it was not said, or is beyond any register.
    fn meter_mwh(&self) -> Option<i64> {
        self.meter_wh.filter(|wh| (0..=REGISTER_WH_MAX).contains(wh)).map(|wh| wh * 1_000)
    }
}

/// Energy of a transaction, as far as the evidence shows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ComputedEnergy {
    /// The energy in Wh; `None` if nothing can be believed.
    pub(crate) energy_wh: Option<i64>,
    /// Evidence that it rests on.
    pub(crate) source: EnergySource,
    /// Peculiarities of the evidence; empty if all of it fits.
    pub(crate) flags: BTreeSet<EnergyFlag>,
    /// The energy since the start, over time; empty if it is not known.
    pub(crate) curve: Curve,
}

/// Evidence that an energy rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnergySource {
    /// The meter at the start and at the stop.
    StartAndStop,
    /// Readings of the register, perhaps with one of start and stop.
    Register,
    /// Energies of intervals.
    Intervals,
    /// Power over time: an estimate.
    Power,
    /// Nothing.
    Nothing,
}

impl EnergySource {
    /// Returns a word for programs.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::StartAndStop => "startAndStop",
            Self::Register => "register",
            Self::Intervals => "intervals",
            Self::Power => "power",
            Self::Nothing => "nothing",
        }
    }
}

/// Peculiarity of the evidence of an energy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum EnergyFlag {
    /// The station did not say the meter at the start.
    StartMissing,
    /// The meter at the start does not fit: what was charged before the first reading is missing.
    StartNotBelieved,
    /// The transaction ended without a meter at the stop.
    StopMissing,
    /// The meter at the stop is below that at the start, 0 and -1 included.
    StopBelowStart,
    /// The meter at the stop does not fit.
    StopNotBelieved,
    /// Some readings do not fit, and were left out.
    ReadingsNotBelieved,
    /// The register fell and went on from there.
    RegisterReset,
    /// The register rose faster than is possible, and went on from there.
    RegisterJumped,
    /// The readings and the meter at start and stop count from different moments.
    SessionRegister,
    /// Numbers were taken for kWh, which the station did not say.
    KilowattHoursSupposed,
    /// Numbers that the station gave in kWh were taken for Wh.
    WattHoursSupposed,
    /// The readings only fit in the order of their arrival: the clock of the station was set.
    OrderOfArrival,
    /// Moments are those of arrival, since the clock of the station was not to be believed.
    ClockNotBelieved,
    /// Phases were added up.
    PhasesSummed,
    /// Energies of intervals were summed up, since no register can be believed.
    IntervalsSummed,
    /// Power was integrated, since nothing else can be believed.
    PowerEstimated,
    /// Nothing can be believed, and the transaction is over: a person has to say the energy.
    Unknown,
}

impl EnergyFlag {
    /// Returns a word for programs.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::StartMissing => "startMissing",
            Self::StartNotBelieved => "startNotBelieved",
            Self::StopMissing => "stopMissing",
            Self::StopBelowStart => "stopBelowStart",
            Self::StopNotBelieved => "stopNotBelieved",
            Self::ReadingsNotBelieved => "readingsNotBelieved",
            Self::RegisterReset => "registerReset",
            Self::RegisterJumped => "registerJumped",
            Self::SessionRegister => "sessionRegister",
            Self::KilowattHoursSupposed => "kilowattHoursSupposed",
            Self::WattHoursSupposed => "wattHoursSupposed",
            Self::OrderOfArrival => "orderOfArrival",
            Self::ClockNotBelieved => "clockNotBelieved",
            Self::PhasesSummed => "phasesSummed",
            Self::IntervalsSummed => "intervalsSummed",
            Self::PowerEstimated => "powerEstimated",
            Self::Unknown => "unknown",
        }
    }
}

impl Evidence {
    /// Returns the energy that the evidence shows.
    #[must_use]
    pub(crate) fn energy(&self) -> ComputedEnergy {
        let mut flags = BTreeSet::new();
        if self.start.meter_mwh().is_none() {
            flags.insert(EnergyFlag::StartMissing);
        }
        if self.end.is_some_and(|end| end.meter_wh.is_none()) {
            flags.insert(EnergyFlag::StopMissing);
        }
        let marks = [Some(self.start), self.end];
        if marks.into_iter().flatten().any(|mark| !mark.is_by_station)
            || self.readings.iter().any(|reading| !reading.is_by_station)
        {
            flags.insert(EnergyFlag::ClockNotBelieved);
        }
        let estimated = estimate::best(self);
        let (source, curve) = match supposition::believed(self, estimated.as_ref()) {
            Some(Believed { chain, source, flags: found }) => {
                flags.extend(found);
                (source, chain)
            }
            None => match estimated {
                Some(estimate) => {
                    flags.insert(estimate.flag);
                    (estimate.source, estimate.curve)
                }
                None => (EnergySource::Nothing, Curve::default()),
            },
        };
        if source != EnergySource::StartAndStop && source != EnergySource::Register {
            self.flag_marks_without_use(&mut flags);
        }
        let energy_wh = curve.total_wh();
        if energy_wh.is_none() && self.end.is_some() {
            flags.insert(EnergyFlag::Unknown);
        }
        if self.end.is_none() && energy_wh.is_none() {
            // A transaction that has just begun is no peculiarity.
            flags.remove(&EnergyFlag::StartNotBelieved);
        }
        ComputedEnergy { energy_wh, source, flags, curve }
    }

    /// Adds the flags of a start and a stop that nothing was made of.
    fn flag_marks_without_use(&self, flags: &mut BTreeSet<EnergyFlag>) {
        let Some(stop_wh) = self.end.and_then(|end| end.meter_wh) else { return };
        let is_below = self.start.meter_mwh().is_some_and(|start| stop_wh < start / 1_000);
        flags.insert(match is_below || stop_wh < 0 {
            true => EnergyFlag::StopBelowStart,
            false => EnergyFlag::StopNotBelieved,
        });
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
