//! Charging profiles: limits of power over time.

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::bounded::{Natural, Tenths};

/// Periods of a schedule at most.
pub(crate) const PERIODS_MAX: usize = 500;

/// Limits of power, with their rank among others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChargingProfile {
    /// Id of the profile.
    #[serde(alias = "charging_profile_id")]
    pub(crate) id: Natural,
    /// Transaction that it is for, by the id that the station knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) transaction_id: Option<i64>,
    /// Rank: of several profiles of a purpose that hold, the highest counts.
    pub(crate) stack_level: Natural,
    /// Purpose.
    #[serde(alias = "charging_profile_purpose")]
    pub(crate) purpose: ProfilePurpose,
    /// Beginning of its schedule.
    #[serde(alias = "charging_profile_kind")]
    pub(crate) kind: ProfileKind,
    /// Interval at which it begins anew; only of recurring ones.
    #[serde(default, alias = "recurrency_kind", skip_serializing_if = "Option::is_none")]
    pub(crate) recurrence: Option<Recurrence>,
    /// Moment from which it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) valid_from: Option<Timestamp>,
    /// Moment from which it no longer holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) valid_to: Option<Timestamp>,
    /// Limits over time.
    #[serde(alias = "charging_schedule")]
    pub(crate) schedule: ChargingSchedule,
}

/// Purpose of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum ProfilePurpose {
    /// Limit of the station as a whole.
    #[serde(alias = "ChargePointMaxProfile")]
    StationMax,
    /// Limit of transactions that have none of their own.
    #[serde(alias = "TxDefaultProfile")]
    TransactionDefault,
    /// Limit of one transaction.
    #[serde(alias = "TxProfile")]
    Transaction,
}

/// Beginning of a profile's schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ProfileKind {
    /// At a moment; without one, with the transaction.
    Absolute,
    /// At a moment, and anew every day or week.
    Recurring,
    /// With the transaction.
    Relative,
}

/// Interval of a recurring profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Recurrence {
    /// Every day.
    Daily,
    /// Every week.
    Weekly,
}

/// Unit of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RateUnit {
    /// Amperes by phase.
    #[serde(rename = "A")]
    Amperes,
    /// Watts.
    #[serde(rename = "W")]
    Watts,
}

/// Limits over time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChargingSchedule {
    /// Length in seconds; `None` if the last period has no end.
    #[serde(
        default,
        rename = "duration_s",
        alias = "duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub(crate) duration_s: Option<Natural>,
    /// Moment of its beginning; `None` if it begins with the transaction.
    #[serde(default, alias = "start_schedule", skip_serializing_if = "Option::is_none")]
    pub(crate) start: Option<Timestamp>,
    /// Unit of the limits.
    #[serde(alias = "charging_rate_unit")]
    pub(crate) unit: RateUnit,
    /// Periods by their beginning, at most [`PERIODS_MAX`].
    #[serde(alias = "charging_schedule_period")]
    pub(crate) periods: Vec<SchedulePeriod>,
    /// Rate below which a vehicle does not charge well.
    #[serde(default, alias = "min_charging_rate", skip_serializing_if = "Option::is_none")]
    pub(crate) rate_min: Option<Tenths>,
}

/// Limit of a part of a schedule; it lasts until the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SchedulePeriod {
    /// Beginning, in seconds from the schedule's.
    #[serde(rename = "start_s", alias = "start_period")]
    pub(crate) start_s: Natural,
    /// Limit.
    pub(crate) limit: Tenths,
    /// Phases that may be used; `None` means three.
    #[serde(default, alias = "number_phases", skip_serializing_if = "Option::is_none")]
    pub(crate) phases: Option<Natural>,
}

/// Limits that hold together, as a station tells them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReportedSchedule {
    /// Connector.
    pub(crate) connector_id: Option<u32>,
    /// Moment of the beginning.
    pub(crate) start: Option<Timestamp>,
    /// Length in seconds.
    pub(crate) duration_s: Option<u32>,
    /// Unit of the limits, as it came.
    pub(crate) unit: String,
    /// Beginning in seconds, and limit in tenths, of each period.
    pub(crate) periods: Vec<(u32, i64)>,
}

/// Fault of a profile: no station can make sense of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum ProfileFault {
    /// There is no period, or too many.
    #[error("{periods} periods; give 1 to {PERIODS_MAX}")]
    Periods {
        /// Number of periods.
        periods: usize,
    },
    /// The first period does not begin with the schedule, or a later one not after the one before.
    #[error("the periods begin at 0 and each later than the one before; put them in order")]
    Order,
    /// A recurring schedule without its beginning.
    #[error("a recurring schedule begins at a moment; give startSchedule")]
    NoStart,
    /// A relative schedule with a moment.
    #[error("a relative schedule begins with its transaction; leave startSchedule out")]
    StartOfRelative,
    /// A recurring profile without its interval, or another one with an interval.
    #[error("recurrencyKind belongs to recurring profiles, and to them only")]
    Recurrence,
    /// It ends before it holds.
    #[error("validTo is not after validFrom; choose a later one")]
    Validity,
    /// A transaction's id in a profile for others.
    #[error("a transactionId belongs to a TxProfile only; leave it out")]
    TransactionOfOther,
}

impl ChargingProfile {
    /// Checks what a station would have to reject, whatever its state.
    pub(crate) fn check(&self) -> Result<(), ProfileFault> {
        let periods = &self.schedule.periods;
        if periods.is_empty() || periods.len() > PERIODS_MAX {
            return Err(ProfileFault::Periods { periods: periods.len() });
        }
        let ascend = periods.windows(2).all(|two| two[0].start_s < two[1].start_s);
        if periods[0].start_s.get() != 0 || !ascend {
            return Err(ProfileFault::Order);
        }
        match (self.kind, self.schedule.start) {
            (ProfileKind::Relative, Some(_)) => return Err(ProfileFault::StartOfRelative),
            (ProfileKind::Recurring, None) => return Err(ProfileFault::NoStart),
            _ => {}
        }
        if (self.kind == ProfileKind::Recurring) != self.recurrence.is_some() {
            return Err(ProfileFault::Recurrence);
        }
        if self.valid_from.zip(self.valid_to).is_some_and(|(from, to)| to <= from) {
            return Err(ProfileFault::Validity);
        }
        if self.transaction_id.is_some() && self.purpose != ProfilePurpose::Transaction {
            return Err(ProfileFault::TransactionOfOther);
        }
        Ok(())
    }
}
