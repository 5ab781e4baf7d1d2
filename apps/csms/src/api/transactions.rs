//! `/api/transactions`: what was charged.
//!
//! A transaction is `open` while it runs. Its `state` is `replaced` if another one started on its
//! connector and nothing was heard of its stop, `ended` if its connector was reported as free,
//! `closed` if a person closed it, and `stopped` once its stop was reported.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use leftfold::prelude::{Aggregate, Timestamp};
use leftfold::store::StreamName;
use serde::Deserialize;
use serde_json::{Value, json};

use super::json_body;
use super::meter_values::sample_json;
use super::reading::{
    At, PageBounds, at_position, body, cut, list as page, moment, parse, path, query, shown,
    unknown_transaction,
};
use crate::app::Csms;
use crate::domain::energy::EnergyCorrected;
use crate::domain::station::{CorrectEnergy, Station, StationCommand};
use crate::http::Problem;
use crate::ocpp::v16::TransactionId;
use crate::people::Act;
use crate::read::energy::EnergyColumns;
use crate::read::meter_values::{self, MeterFilter};
use crate::read::transactions::{self, TransactionFilter, TransactionRow, TransactionState};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TransactionsQuery {
    station: Option<String>,
    connector_id: Option<u32>,
    id_tag: Option<String>,
    open: Option<bool>,
    needs_person: Option<bool>,
    from: Option<String>,
    to: Option<String>,
}

impl TransactionsQuery {
    fn filter(self, before: Option<i64>) -> Result<TransactionFilter, Problem> {
        let Self { station, connector_id, id_tag, open, needs_person, from, to } = self;
        let (from, to) = (moment("from", from.as_deref())?, moment("to", to.as_deref())?);
        Ok(TransactionFilter {
            station,
            connector_id,
            id_tag,
            open,
            needs_person,
            from,
            to,
            before,
        })
    }
}

/// Lists the transactions, the newest first.
pub(super) async fn list(
    State(csms): State<Arc<Csms>>,
    headers: HeaderMap,
    which: Result<Query<TransactionsQuery>, QueryRejection>,
    bounds: Result<Query<PageBounds>, QueryRejection>,
    at: Result<Query<At>, QueryRejection>,
) -> Result<Response, Problem> {
    let bounds = query(bounds)?;
    let before = match bounds.after_number()? {
        0 => None,
        after => Some(i64::try_from(after).unwrap_or(i64::MAX)),
    };
    let filter = query(which)?.filter(before)?;
    let position = shown(&csms, transactions::NAME, &headers, query(at)?).await?;
    let mut found = csms.read.transactions(&filter, bounds.limit() + 1).await?;
    let next = cut(&mut found, bounds.limit(), |last| last.id.to_string());
    Ok((position, json_body(&page(found.iter().map(transaction_json).collect(), next)))
        .into_response())
}

/// Returns one transaction, with a page of its meter values.
pub(super) async fn one(
    State(csms): State<Arc<Csms>>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    bounds: Result<Query<PageBounds>, QueryRejection>,
    at: Result<Query<At>, QueryRejection>,
) -> Result<Response, Problem> {
    let (id, bounds, at) = (path(id)?, query(bounds)?, query(at)?);
    let id: i64 = id.parse().map_err(|_| unknown_transaction())?;
    let position = shown(&csms, transactions::NAME, &headers, at.clone()).await?;
    shown(&csms, meter_values::NAME, &headers, at).await?;
    let transaction = csms.read.transaction(id).await?.ok_or_else(unknown_transaction)?;
    // A station may name any number: only what the transaction's own one says of it belongs to it.
    let station = Some(transaction.station.clone());
    let filter = MeterFilter {
        station,
        transaction_id: Some(id),
        after: bounds.after_meter()?,
        ..MeterFilter::default()
    };
    let mut samples = csms.read.meter_values(&filter, bounds.limit() + 1).await?;
    let next = cut(&mut samples, bounds.limit(), |last| last.cursor.to_string());
    let mut json = transaction_json(&transaction);
    json["meterValues"] = page(samples.iter().map(sample_json).collect(), next);
    json["transactionData"] = super::camel(&json!(transaction.transaction_data));
    Ok((position, json_body(&json)).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CorrectEnergyBody {
    energy_wh: i64,
    reason: String,
    /// Corrected energy that this one takes the place of.
    #[serde(default)]
    replaces_wh: Option<i64>,
}

impl CorrectEnergyBody {
    fn check(&self) -> Result<(), Problem> {
        let (energy_wh_max, chars_max) =
            (CorrectEnergy::ENERGY_WH_MAX, CorrectEnergy::REASON_CHARS_MAX);
        if !(0..=energy_wh_max).contains(&self.energy_wh) {
            let detail = format!("energyWh is 0 to {energy_wh_max}");
            return Err(Problem::bad_request("invalid-energy", detail));
        }
        if self.reason.trim().is_empty() || self.reason.chars().count() > chars_max {
            let detail = format!("reason is 1 to {chars_max} characters");
            return Err(Problem::bad_request("invalid-reason", detail));
        }
        Ok(())
    }
}

/// Takes a person's word on the energy of a transaction that is over.
pub(super) async fn correct_energy(
    State(csms): State<Arc<Csms>>,
    Extension(act): Extension<Act>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let id: i64 = path(id)?.parse().map_err(|_| unknown_transaction())?;
    let wanted: CorrectEnergyBody = parse(&body(bytes)?)?;
    wanted.check()?;
    shown(&csms, transactions::NAME, &headers, At::default()).await?;
    let station = csms.read.transaction(id).await?.ok_or_else(unknown_transaction)?.station;
    let open = csms.stations.load(&station).await?.state.transactions.remove(&id);
    let corrected = EnergyCorrected {
        transaction_id: TransactionId::new(id).map_err(|_| unknown_transaction())?,
        energy_wh: wanted.energy_wh,
        reason: wanted.reason,
        by: act.by().to_owned(),
        at: Timestamp::now(),
    };
    let correct = CorrectEnergy {
        stream: StreamName::of(Station::CATEGORY, &station)
            .map_err(|error| Problem::bad_request("invalid-id", error.to_string()))?,
        is_superseded: open.is_some_and(|transaction| transaction.superseded),
        corrected: corrected.clone(),
        replaces_wh: wanted.replaces_wh,
    };
    let position = act.on_decision(csms.store.decision(&correct)).execute().await?.position;
    let answer = json!({
        "transactionId": id,
        "energyWh": corrected.energy_wh,
        "reason": corrected.reason,
        "by": corrected.by,
        "at": corrected.at,
    });
    Ok((at_position(position), json_body(&answer)).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CloseBody {
    reason: String,
}

/// Closes a transaction that its station has forgotten.
pub(super) async fn close(
    State(csms): State<Arc<Csms>>,
    Extension(act): Extension<Act>,
    id: Result<Path<String>, PathRejection>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let (id, CloseBody { reason }) =
        (path(id)?.parse::<i64>().map_err(|_| unknown_transaction())?, parse(&body(bytes)?)?);
    let (reason, reason_chars_max) = (reason.trim(), CorrectEnergy::REASON_CHARS_MAX);
    if reason.is_empty() || reason.chars().count() > reason_chars_max {
        let detail = format!("the reason has 1 to {reason_chars_max} characters");
        return Err(Problem::bad_request("invalid-body", detail));
    }
    let transaction = csms.read.transaction(id).await?.ok_or_else(unknown_transaction)?;
    let close = StationCommand::CloseTransaction {
        transaction_id: id,
        by: act.by().to_owned(),
        reason: reason.to_owned(),
        now: Timestamp::now(),
    };
    let close = csms.stations.command(&transaction.station, close);
    let executed = act.on(close).execute().await?;
    Ok((at_position(executed.position), json_body(&json!({ "closed": id }))).into_response())
}

fn transaction_json(transaction: &TransactionRow) -> Value {
    json!({
        "id": transaction.id,
        "station": transaction.station,
        "connectorId": transaction.connector_id,
        "idTag": transaction.id_tag,
        "authorization": transaction.authorization,
        "open": transaction.state == TransactionState::Running,
        "state": transaction.state.word(),
        "flags": transaction.flags.iter().map(|flag| flag.word()).collect::<Vec<_>>(),
        "possibleRepeatOf": transaction.possible_repeat_of,
        "reportedId": transaction.reported_id,
        "startedAt": transaction.started_at,
        "meterStartWh": transaction.meter_start_wh,
        "reservationId": transaction.reservation_id,
        "remoteStart": transaction.remote_start,
        "stoppedAt": transaction.stopped_at,
        "meterStopWh": transaction.meter_stop_wh,
        "stopReason": transaction.stop_reason,
        "stopIdTag": transaction.stop_id_tag,
        "endedAt": transaction.ended_at,
        "closedBy": transaction.closed.as_ref().map(|(by, _)| by),
        "closeReason": transaction.closed.as_ref().map(|(_, reason)| reason),
        "energyWh": transaction.energy.energy_wh(),
        "energy": energy_json(&transaction.energy),
        "meterMessages": transaction.meter_messages,
    })
}

fn energy_json(energy: &EnergyColumns) -> Value {
    let correction = energy.correction.as_ref().map(|corrected| {
        json!({
            "energyWh": corrected.energy_wh,
            "reason": corrected.reason,
            "by": corrected.by,
            "at": corrected.at,
        })
    });
    json!({
        "computedWh": energy.computed_wh,
        "source": energy.source,
        "flags": energy.flags,
        "correction": correction,
        "needsPerson": energy.needs_person,
    })
}
