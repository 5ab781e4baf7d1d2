//! Operations of the profile of smart charging.

use serde_json::{Value, json};

use super::parts::{object, stamp};
use crate::domain::moment;
use crate::domain::operation::{
    ChargingProfile, ChargingSchedule, OperationResult, PERIODS_MAX, ProfileKind, ProfilePurpose,
    RateUnit, Recurrence, ReportedSchedule, SchedulePeriod, StationOperation,
};
use crate::ocpp::reading::{Fields, Notes, Presence, cut};

/// Returns the payload of an operation of this profile.
pub(super) fn payload(operation: &StationOperation) -> Option<Value> {
    Some(match operation {
        StationOperation::SetChargingProfile { connector_id, profile } => json!({
            "connectorId": connector_id.get(),
            "csChargingProfiles": charging_profile(profile),
        }),
        StationOperation::ClearChargingProfiles { id, connector_id, purpose, stack_level } => {
            object([
                ("id", id.map(|id| id.get().into())),
                ("connectorId", connector_id.map(|id| id.get().into())),
                ("chargingProfilePurpose", purpose.map(|purpose| purpose_name(purpose).into())),
                ("stackLevel", stack_level.map(|level| level.get().into())),
            ])
        }
        StationOperation::ReadCompositeSchedule { connector_id, duration_s, unit } => object([
            ("connectorId", Some(connector_id.get().into())),
            ("duration", Some(duration_s.get().into())),
            ("chargingRateUnit", unit.map(|unit| unit_name(unit).into())),
        ]),
        _ => return None,
    })
}

/// Returns a profile in the names of the specification.
pub(crate) fn charging_profile(profile: &ChargingProfile) -> Value {
    let kind = match profile.kind {
        ProfileKind::Absolute => "Absolute",
        ProfileKind::Recurring => "Recurring",
        ProfileKind::Relative => "Relative",
    };
    let recurrence = profile.recurrence.map(|recurrence| match recurrence {
        Recurrence::Daily => "Daily",
        Recurrence::Weekly => "Weekly",
    });
    object([
        ("chargingProfileId", Some(profile.id.get().into())),
        ("transactionId", profile.transaction_id.map(Value::from)),
        ("stackLevel", Some(profile.stack_level.get().into())),
        ("chargingProfilePurpose", Some(purpose_name(profile.purpose).into())),
        ("chargingProfileKind", Some(kind.into())),
        ("recurrencyKind", recurrence.map(Value::from)),
        ("validFrom", profile.valid_from.map(stamp)),
        ("validTo", profile.valid_to.map(stamp)),
        ("chargingSchedule", Some(charging_schedule(&profile.schedule))),
    ])
}

/// Returns a schedule in the names of the specification.
fn charging_schedule(schedule: &ChargingSchedule) -> Value {
    object([
        ("duration", schedule.duration_s.map(|duration| duration.get().into())),
        ("startSchedule", schedule.start.map(stamp)),
        ("chargingRateUnit", Some(unit_name(schedule.unit).into())),
        ("chargingSchedulePeriod", Some(schedule.periods.iter().map(period).collect())),
        ("minChargingRate", schedule.rate_min.map(|rate| rate.json())),
    ])
}

fn period(period: &SchedulePeriod) -> Value {
    object([
        ("startPeriod", Some(period.start_s.get().into())),
        ("limit", Some(period.limit.json())),
        ("numberPhases", period.phases.map(|phases| phases.get().into())),
    ])
}

fn purpose_name(purpose: ProfilePurpose) -> &'static str {
    match purpose {
        ProfilePurpose::StationMax => "ChargePointMaxProfile",
        ProfilePurpose::TransactionDefault => "TxDefaultProfile",
        ProfilePurpose::Transaction => "TxProfile",
    }
}

fn unit_name(unit: RateUnit) -> &'static str {
    match unit {
        RateUnit::Amperes => "A",
        RateUnit::Watts => "W",
    }
}

/// Reads the limits that hold together; `None` if the station tells none.
pub(super) fn composite(fields: &mut Fields<'_>, notes: &mut Notes) -> Option<OperationResult> {
    let connector_id = fields.ordinal("connectorId", Presence::Optional, notes);
    let start = fields.timestamp("scheduleStart", Presence::Optional, notes).map(moment);
    let mut schedule = fields.object("chargingSchedule", Presence::Optional, notes)?;
    let duration_s = schedule.ordinal("duration", Presence::Optional, notes);
    let own_start = schedule.timestamp("startSchedule", Presence::Optional, notes).map(moment);
    let unit = schedule.text("chargingRateUnit", 1, Presence::Required, notes).unwrap_or_default();
    schedule.tenths("minChargingRate", Presence::Optional, notes);
    let listed = schedule.list("chargingSchedulePeriod", Presence::Required, notes);
    let read = |(path, raw): (String, &serde_json::value::RawValue)| {
        let mut fields = Fields::of(raw.get(), format!("{path}."))?;
        let start_s = fields.ordinal("startPeriod", Presence::Required, notes);
        let limit = fields.tenths("limit", Presence::Required, notes);
        fields.ordinal("numberPhases", Presence::Optional, notes);
        fields.finish(notes);
        start_s.zip(limit)
    };
    let periods = listed.into_iter().take(PERIODS_MAX).filter_map(read).collect();
    schedule.finish(notes);
    let (start, unit) = (start.or(own_start), cut(&unit, 10));
    let reported = ReportedSchedule { connector_id, start, duration_s, unit, periods };
    Some(OperationResult::CompositeSchedule(reported))
}
