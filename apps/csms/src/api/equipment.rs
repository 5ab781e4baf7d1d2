//! `GET /api/stations/{id}/…` for what is known of a station by the operations that were asked of
//! it: configuration, local list, charging profiles, firmware, diagnostics, security, certificates.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use leftfold::prelude::{Timestamp, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::reading::{path, query};
use super::requests::Id;
use super::stations::unknown;
use super::{camel, json_body};
use crate::app::Csms;
use crate::domain::operation::{
    COMPOSITE_S_MAX, CompositeQuery, FileProgress, InstalledProfile, InstalledProfiles, LocalList,
    RateUnit, Setting, is_secret,
};
use crate::domain::request::StationAnswer;
use crate::domain::station::Station;
use crate::http::Problem;
use crate::ocpp::v16::{certificate_hash, charging_profile, terms_of_tag, use_name};

async fn load(csms: &Csms, id: Id) -> Result<Station, Problem> {
    let folded = csms.stations.load(&path(id)?).await?;
    match folded.version {
        Version::ABSENT => Err(unknown()),
        _ => Ok(folded.state),
    }
}

fn shown(json: &Value) -> Result<Response, Problem> {
    Ok(json_body(json).into_response())
}

/// Returns a value in camel case.
fn camel_of(value: &impl Serialize) -> Value {
    camel(&serde_json::to_value(value).unwrap_or_default())
}

/// Returns an answer of a station: its word, with the reason if it did not come to it.
fn answer_json(answer: &StationAnswer) -> Value {
    match answer {
        StationAnswer::Accepted => json!({ "status": "Accepted" }),
        StationAnswer::Rejected { status } => json!({ "status": status }),
        StationAnswer::NotDone { reason } => json!({ "status": null, "reason": reason }),
    }
}

/// Shows the configuration of a station.
pub(super) async fn configuration(
    State(csms): State<Arc<Csms>>,
    id: Id,
) -> Result<Response, Problem> {
    let station = load(&csms, id).await?;
    let settings = &station.operations.settings;
    let items: Vec<Value> =
        settings.by_key.iter().map(|(key, setting)| setting_json(key, setting)).collect();
    shown(&json!({
        "readAt": settings.read_at,
        "rebootRequired": settings.restart_required,
        "items": items,
    }))
}

fn setting_json(key: &str, setting: &Setting) -> Value {
    let reported = setting.reported.as_ref();
    // Its value may have been recorded when it was not known for a secret yet.
    let is_hidden = is_secret(key);
    let asked = setting.asked.as_ref().map(|asked| {
        let status = match (&asked.answer, asked.restart_required) {
            (StationAnswer::Accepted, true) => json!({ "status": "RebootRequired" }),
            (answer, _) => answer_json(answer),
        };
        let value = asked.value.as_deref().filter(|_| !is_hidden);
        json!({ "value": value, "at": asked.at, "answer": status })
    });
    json!({
        "key": key,
        "value": reported.and_then(|reported| reported.value.as_deref()).filter(|_| !is_hidden),
        "readonly": reported.map(|reported| reported.readonly),
        "hidden": is_hidden,
        "reportedAt": setting.reported_at,
        "unknown": setting.is_unknown,
        "asked": asked,
    })
}

/// Shows the local list of a station.
pub(super) async fn local_list(State(csms): State<Arc<Csms>>, id: Id) -> Result<Response, Problem> {
    let station = load(&csms, id).await?;
    let list: &LocalList = &station.operations.local_list;
    let entry = |(id_tag, terms): (&String, _)| json!({ "idTag": id_tag, "idTagInfo": terms_of_tag(terms) });
    let update = list.update.as_ref().map(|update| {
        json!({
            "listVersion": update.version,
            "updateType": update.extent,
            "at": update.at,
            "answer": answer_json(&update.answer),
        })
    });
    shown(&json!({
        "listVersion": list.version,
        "listVersionAt": list.version_at,
        "entriesKnown": list.is_known(),
        "localAuthorizationList": list.entries.iter().map(entry).collect::<Vec<_>>(),
        "update": update,
    }))
}

/// Shows the charging profiles of a station.
pub(super) async fn charging_profiles(
    State(csms): State<Arc<Csms>>,
    id: Id,
) -> Result<Response, Problem> {
    let station = load(&csms, id).await?;
    let installed = |installed: &InstalledProfile| {
        json!({
            "connectorId": installed.connector_id,
            "acceptedAt": installed.accepted_at,
            "chargingProfile": charging_profile(&installed.profile),
        })
    };
    let items: Vec<Value> = station.operations.profiles.all.iter().map(installed).collect();
    shown(&json!({ "items": items, "next": null }))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CompositeBounds {
    #[serde(default)]
    connector_id: u32,
    duration: u32,
    #[serde(default)]
    charging_rate_unit: Option<RateUnit>,
}

/// Computes the composite schedule from now on, beside what the station told last of this
/// connector.
pub(super) async fn composite_schedule(
    State(csms): State<Arc<Csms>>,
    id: Id,
    bounds: Result<Query<CompositeBounds>, QueryRejection>,
) -> Result<Response, Problem> {
    let CompositeBounds { connector_id, duration, charging_rate_unit } = query(bounds)?;
    if duration > COMPOSITE_S_MAX {
        let detail = format!("duration is a number of seconds up to {COMPOSITE_S_MAX}");
        return Err(Problem::bad_request("invalid-query", detail));
    }
    let station = load(&csms, id).await?;
    let profiles: &InstalledProfiles = &station.operations.profiles;
    let first = profiles.all.first().map(|installed| installed.profile.schedule.unit);
    let unit = charging_rate_unit.or(first).unwrap_or(RateUnit::Amperes);
    let now = Timestamp::now();
    let running = station.transaction_on(connector_id);
    let composite = CompositeQuery {
        connector_id,
        from: now,
        duration_s: duration,
        unit,
        transaction: running.map(|(id, start)| (id, start.unwrap_or(now))),
    };
    let told = profiles.told.as_ref().filter(|told| told.connector_id == connector_id);
    let told = told.map(|told| {
        let differs = told.schedule.start.is_some_and(|start| {
            let at_that_time = CompositeQuery { from: start, ..composite };
            at_that_time.differs(&profiles.all, &told.schedule)
        });
        json!({
            "at": told.at,
            "duration": told.duration_s,
            "scheduleStart": told.schedule.start,
            "chargingRateUnit": told.schedule.unit,
            "chargingSchedulePeriod": periods_json(
                told.schedule.periods.iter().map(|(start, limit)| (*start, Some(*limit))),
            ),
            "differs": differs,
        })
    });
    let parts = composite.compute(&profiles.all);
    shown(&json!({
        "connectorId": connector_id,
        "scheduleStart": composite.from,
        "chargingSchedule": {
            "duration": duration,
            "chargingRateUnit": unit,
            "chargingSchedulePeriod": periods_json(
                parts.iter().map(|part| (part.start_s, part.limit)),
            ),
        },
        "told": told,
    }))
}

/// Returns periods in the names of OCPP; a limit is `null` if nothing limits.
fn periods_json(parts: impl Iterator<Item = (u32, Option<i64>)>) -> Vec<Value> {
    let amount = |tenths: i64| match tenths % 10 {
        0 => json!(tenths / 10),
        _ => json!(tenths as f64 / 10.0),
    };
    parts
        .map(|(start, limit)| json!({ "startPeriod": start, "limit": limit.map(amount) }))
        .collect()
}

/// Shows the update of a station's firmware.
pub(super) async fn firmware(State(csms): State<Arc<Csms>>, id: Id) -> Result<Response, Problem> {
    let station = load(&csms, id).await?;
    let version = station.booted.as_ref().and_then(|booted| booted.firmware_version.as_deref());
    let mut json = progress_json(&station.operations.firmware);
    json["firmwareVersion"] = version.into();
    shown(&json)
}

/// Shows the uploads of a station: diagnostics, and logs.
pub(super) async fn diagnostics(
    State(csms): State<Arc<Csms>>,
    id: Id,
) -> Result<Response, Problem> {
    let station = load(&csms, id).await?;
    shown(&json!({
        "diagnostics": progress_json(&station.operations.diagnostics),
        "log": progress_json(&station.operations.log),
    }))
}

/// Shows the departures of a station from the specification since the server has started, the
/// latest first.
pub(super) async fn violations(State(csms): State<Arc<Csms>>, id: Id) -> Result<Response, Problem> {
    let id = path(id)?;
    load(&csms, Ok(axum::extract::Path(id.clone()))).await?;
    let listed = csms.registry.violations.of(&id).into_iter().map(|violation| {
        json!({
            "message": violation.message,
            "path": violation.path,
            "kind": violation.kind,
            "count": violation.counted.count,
            "firstAt": violation.counted.first_at,
            "lastAt": violation.counted.last_at,
        })
    });
    shown(&json!({ "items": listed.collect::<Vec<_>>(), "next": null }))
}

fn progress_json(progress: &FileProgress) -> Value {
    let asked = progress.asked.as_ref().map(|asked| {
        json!({
            "location": asked.location,
            "requestId": asked.request_id,
            "requestedAt": asked.requested_at,
            "fileName": asked.file_name,
            "replaced": asked.has_replaced,
            "answer": answer_json(&asked.answer),
        })
    });
    let reports = progress.reports.iter().rev();
    json!({
        "status": progress.reports.back().map(|report| report.status.as_str()),
        "asked": asked,
        "reports": reports.map(camel_of).collect::<Vec<_>>(),
    })
}

/// Shows the security events of a station, the newest first.
pub(super) async fn security_events(
    State(csms): State<Arc<Csms>>,
    id: Id,
) -> Result<Response, Problem> {
    let station = load(&csms, id).await?;
    let security = &station.operations.security;
    let items = security.latest.iter().rev().map(|event| {
        json!({
            "type": event.kind,
            "timestamp": event.timestamp,
            "techInfo": event.details,
            "receivedAt": event.received_at,
        })
    });
    let items: Vec<Value> = items.collect();
    shown(&json!({ "count": security.count, "items": items, "next": null }))
}

/// Shows the certificates of a station.
pub(super) async fn certificates(
    State(csms): State<Arc<Csms>>,
    id: Id,
) -> Result<Response, Problem> {
    let station = load(&csms, id).await?;
    let certificates = &station.operations.certificates;
    let trusted = certificates.trusted.iter().map(|(purpose, told)| {
        json!({
            "certificateType": use_name(*purpose),
            "at": told.at,
            "certificateHashData":
                told.certificates.iter().map(certificate_hash).collect::<Vec<_>>(),
        })
    });
    let installations = certificates.installations.iter().rev().map(|installation| {
        json!({
            "certificateType": use_name(installation.purpose),
            "at": installation.at,
            "answer": answer_json(&installation.answer),
        })
    });
    let own = certificates
        .own
        .as_ref()
        .map(|own| json!({ "at": own.at, "answer": answer_json(&own.answer) }));
    shown(&json!({
        "items": trusted.collect::<Vec<_>>(),
        "next": null,
        "installations": installations.collect::<Vec<_>>(),
        "requested": certificates.requested.as_ref().map(camel_of),
        "own": own,
    }))
}
