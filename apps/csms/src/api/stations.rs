//! `/api/stations`: the stations, now and in the past.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use leftfold::fold::Moment;
use leftfold::prelude::{Folded, Recorded, Timestamp, Version};
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::access_json;
use super::reading::{At, PageBounds, at_position, body, list as page, parse, path, query, shown};
use super::{camel, json_body};
use crate::app::Csms;
use crate::domain::connector::Connector;
use crate::domain::request::{RemoteStart, Reservation};
use crate::domain::station::{Station, StationCommand, StationEvent, StationRefusal, is_identity};
use crate::http::Problem;
use crate::ocpp::v16::{CentralRequest, MessageTrigger, RegistrationStatus};
use crate::people::Act;
use crate::read::fleet::{self, Fleet};

/// Lists the stations by identity.
pub(super) async fn list(
    State(csms): State<Arc<Csms>>,
    headers: HeaderMap,
    bounds: Result<Query<PageBounds>, QueryRejection>,
    at: Result<Query<At>, QueryRejection>,
) -> Result<Response, Problem> {
    let bounds = query(bounds)?;
    let position = shown(&csms, fleet::NAME, &headers, query(at)?).await?;
    let after = bounds.after.clone().unwrap_or_default();
    let list = |fleet: &Fleet| {
        let mut rows = fleet
            .stations
            .range::<String, _>((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        let items: Vec<(String, Value)> = rows
            .by_ref()
            .take(bounds.limit())
            .map(|(id, row)| {
                (id.clone(), station_json(&csms, id, &row.state, row.version, Timestamp::now()))
            })
            .collect();
        let next = rows.next().and_then(|_| items.last().map(|(id, _)| id.clone()));
        page(items.into_iter().map(|(_, item)| item).collect(), next)
    };
    Ok((position, json_body(&csms.read.fleet(list).await)).into_response())
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct MomentQuery {
    version: Option<u64>,
    at: Option<String>,
}

/// Returns one station, now, or at a version or a time.
pub(super) async fn one(
    State(csms): State<Arc<Csms>>,
    id: Result<Path<String>, PathRejection>,
    when: Result<Query<MomentQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let (id, when) = (path(id)?, query(when)?);
    let moment: Option<Moment> = match (when.version, &when.at) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad_request(
                "invalid-query",
                "give a version or a time, not both",
            ));
        }
        (Some(version), None) => Some(Version(version).into()),
        (None, Some(at)) => {
            let at: Timestamp = at
                .parse()
                .map_err(|error| Problem::bad_request("invalid-query", format!("{error}")))?;
            Some(at.into())
        }
        (None, None) => None,
    };
    let Folded { state, version, .. } = match moment {
        None => csms.stations.load(&id).await?,
        Some(moment) => csms.stations.load_at(&id, moment).await?,
    };
    if version == Version::ABSENT {
        return Err(unknown());
    }
    if when.version.is_some_and(|wanted| wanted > version.0) {
        let detail =
            format!("the station has had {version} events so far; ask for one of these versions");
        return Err(Problem::not_found("unknown-version", detail));
    }
    let now = match moment {
        Some(Moment::Time(at)) => at,
        _ => Timestamp::now(),
    };
    let mut station = station_json(&csms, &id, &state, version.0, now);
    if moment.is_some() {
        // Who is connected now says nothing of the past.
        station["connected"] = Value::Null;
    }
    Ok(json_body(&station).into_response())
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PutStationBody {
    #[serde(default)]
    max_transactions: Option<u32>,
    #[serde(default)]
    registration: Option<RegistrationStatus>,
}

/// Registers a station, and sets its limit of transactions at a time.
pub(super) async fn put(
    State(csms): State<Arc<Csms>>,
    Extension(act): Extension<Act>,
    id: Result<Path<String>, PathRejection>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (id, bytes) = (path(id)?, body(bytes)?);
    if !is_identity(&id) {
        return Err(Problem::bad_request(
            "invalid-id",
            "an identity has up to 128 bytes and no control characters",
        ));
    }
    let PutStationBody { max_transactions, registration } =
        if bytes.is_empty() { PutStationBody::default() } else { parse(&bytes)? };
    let limit = StationCommand::LimitTransactions { transactions_max: max_transactions };
    let decide = StationCommand::DecideRegistration { registration };
    let commands = csms.stations.commands(&id, vec![StationCommand::Register, limit, decide]);
    let executed = act.on(commands).execute().await?;
    let is_new = executed.version.0 == executed.events.len() as u64 && !executed.events.is_empty();
    let Folded { state, version, .. } = csms.stations.load(&id).await?;
    let wanted = registration.unwrap_or(csms.config.registration);
    if state.booted.is_some() && state.told() != wanted {
        // It learns of the decision when it starts, or says again that it has.
        let trigger = CentralRequest::TriggerMessage {
            requested_message: MessageTrigger::BootNotification,
            connector_id: None,
        };
        let (csms, id) = (csms.clone(), id.clone());
        tokio::spawn(async move {
            let called = csms.registry.call(&id, None, &trigger, csms.config.call_timeout).await;
            tracing::debug!(station = id, ?called, "asked to boot again");
        });
    }
    let code = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let position = at_position(executed.position);
    Ok((code, position, json_body(&station_json(&csms, &id, &state, version.0, Timestamp::now())))
        .into_response())
}

/// Lists the events of a station with their metadata, from the first on.
pub(super) async fn history(
    State(csms): State<Arc<Csms>>,
    id: Result<Path<String>, PathRejection>,
    bounds: Result<Query<PageBounds>, QueryRejection>,
) -> Result<Response, Problem> {
    let (id, bounds) = (path(id)?, query(bounds)?);
    let after = bounds.after_number()?;
    let mut events = csms.stations.history(&id, Version(after.saturating_add(1)))?;
    let mut items = Vec::new();
    let mut last = after;
    while items.len() < bounds.limit()
        && let Some(recorded) = events.next().await?
    {
        last = recorded.version().0;
        items.push(event_json(&recorded));
    }
    if items.is_empty() && after == 0 {
        return Err(unknown());
    }
    let more = items.len() == bounds.limit() && events.next().await?.is_some();
    Ok(json_body(&page(items, more.then(|| last.to_string()))).into_response())
}

pub(super) fn unknown() -> Problem {
    Problem::not_found(StationRefusal::Unknown.code(), StationRefusal::Unknown.to_string())
}

fn event_json(recorded: &Recorded<StationEvent>) -> Value {
    let envelope = &recorded.envelope;
    let label = |label: &Option<leftfold::store::Label>| {
        label.as_ref().map(|label| label.as_str().to_owned())
    };
    json!({
        "version": envelope.version().0,
        "position": envelope.position.0,
        "recordedAt": envelope.recorded_at,
        "id": envelope.id.to_string(),
        "type": envelope.event_type.as_str(),
        "data": event_data(recorded),
        "metadata": {
            "correlation": label(&envelope.metadata.correlation),
            "causation": label(&envelope.metadata.causation),
            "traceparent": envelope.metadata.trace.as_ref().map(ToString::to_string),
            "note": serde_json::from_slice::<Value>(&envelope.metadata.user)
                .ok()
                .map(|note| camel(&note)),
        },
    })
}

/// Returns what an event says, without the hash of a credential.
fn event_data(recorded: &Recorded<StationEvent>) -> Value {
    let stored = serde_json::from_slice::<Value>(&recorded.envelope.data).unwrap_or_default();
    let mut data = camel(&stored);
    let credential = match &recorded.event {
        StationEvent::CredentialSet(set) => &set.credential,
        StationEvent::CredentialOffered(offered) => &offered.credential,
        _ => return data,
    };
    data["credential"] = json!(credential.kind());
    data
}

fn station_json(csms: &Csms, id: &str, state: &Station, version: u64, now: Timestamp) -> Value {
    let connectors: Vec<Value> = state
        .connectors
        .iter()
        .map(|(id, connector)| connector_json(*id, connector, state, now))
        .collect();
    json!({
        "id": id,
        "version": version,
        "registered": state.registered,
        "online": state.online,
        "onlineChangedAt": state.online_changed_at,
        "connected": csms.is_connected(id, state),
        "security": access_json(&state.access),
        "registration": {
            "decided": state.registration,
            "told": state.booted.as_ref().map(|_| state.told()),
        },
        "maxTransactions": state.transactions_max,
        "boot": camel(&json!(state.booted)),
        "connectors": connectors,
        "transactions": state.transactions.keys().collect::<Vec<_>>(),
        "reservations": state.reservations.values().map(reservation_json).collect::<Vec<_>>(),
        "remoteStarts": state.remote_starts.iter().map(remote_start_json).collect::<Vec<_>>(),
    })
}

fn reservation_json(reservation: &Reservation) -> Value {
    let asked = &reservation.asked;
    json!({
        "id": asked.reservation_id,
        "connectorId": asked.connector_id,
        "idTag": asked.id_tag,
        "parentIdTag": asked.parent_id_tag,
        "requestedAt": asked.requested_at,
        "expiryDate": asked.expiry_date,
        "accepted": reservation.accepted,
    })
}

fn remote_start_json(start: &RemoteStart) -> Value {
    json!({
        "request": start.asked.request,
        "connectorId": start.asked.connector_id,
        "idTag": start.asked.id_tag,
        "requestedAt": start.asked.requested_at,
        "until": start.asked.until,
        "accepted": start.accepted,
        "transactionId": start.transaction,
    })
}

fn connector_json(id: u32, connector: &Connector, state: &Station, now: Timestamp) -> Value {
    let report = connector.report.as_ref();
    let claim = state.claim_on(id, now);
    json!({
        "id": id,
        "status": report.map(|report| report.status.as_str()),
        "errorCode": report.map(|report| report.error_code.as_str()),
        "info": report.and_then(|report| report.info.as_deref()),
        "vendorId": report.and_then(|report| report.vendor_id.as_deref()),
        "vendorErrorCode": report.and_then(|report| report.vendor_error_code.as_deref()),
        "since": report.map(|report| report.since()),
        "transactionId": connector.transaction,
        "reservationId": state.reservation_on(id, now).map(|reservation| reservation.asked.reservation_id),
        "claimedUntil": claim.map(|claim| claim.asked.until),
    })
}
