//! `/api/transactions`: what was charged.
//!
//! A transaction is `open` while it runs. It is `superseded` when another one started on its
//! connector and nothing was heard of its stop.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::json_body;
use super::meter_values::sample_json;
use super::reading::{At, PageBounds, list as page, moment, path, query, shown};
use crate::app::Csms;
use crate::http::Problem;
use crate::read::meter_values::{self, MeterFilter};
use crate::read::transactions::{self, TransactionFilter, TransactionRow, TransactionState};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TransactionsQuery {
    station: Option<String>,
    connector_id: Option<u32>,
    id_tag: Option<String>,
    open: Option<bool>,
    from: Option<String>,
    to: Option<String>,
}

impl TransactionsQuery {
    fn filter(self, before: Option<i64>) -> Result<TransactionFilter, Problem> {
        let Self { station, connector_id, id_tag, open, from, to } = self;
        let (from, to) = (moment("from", from.as_deref())?, moment("to", to.as_deref())?);
        Ok(TransactionFilter { station, connector_id, id_tag, open, from, to, before })
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
    let more = found.len() > bounds.limit();
    found.truncate(bounds.limit());
    let next = found.last().filter(|_| more).map(|last| last.id.to_string());
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
    let unknown = || {
        Problem::not_found(
            "unknown-transaction",
            "there is no such transaction; list them to find its id",
        )
    };
    let id: i64 = id.parse().map_err(|_| unknown())?;
    let position = shown(&csms, transactions::NAME, &headers, at.clone()).await?;
    shown(&csms, meter_values::NAME, &headers, at).await?;
    let transaction = csms.read.transaction(id).await?.ok_or_else(unknown)?;
    // A station may name any number: only what the transaction's own one says of it belongs to it.
    let station = Some(transaction.station.clone());
    let filter = MeterFilter {
        station,
        transaction_id: Some(id),
        after: bounds.after_meter()?,
        ..MeterFilter::default()
    };
    let mut samples = csms.read.meter_values(&filter, bounds.limit() + 1).await?;
    let more = samples.len() > bounds.limit();
    samples.truncate(bounds.limit());
    let next = samples.last().filter(|_| more).map(|last| last.cursor.to_string());
    let mut json = transaction_json(&transaction);
    json["meterValues"] = page(samples.iter().map(sample_json).collect(), next);
    json["transactionData"] = super::camel(&json!(transaction.transaction_data));
    Ok((position, json_body(&json)).into_response())
}

fn transaction_json(transaction: &TransactionRow) -> Value {
    json!({
        "id": transaction.id,
        "station": transaction.station,
        "connectorId": transaction.connector_id,
        "idTag": transaction.id_tag,
        "authorization": transaction.authorization,
        "open": transaction.state == TransactionState::Running,
        "superseded": transaction.state == TransactionState::Superseded,
        "startedAt": transaction.started_at,
        "meterStartWh": transaction.meter_start_wh,
        "reservationId": transaction.reservation_id,
        "remoteStart": transaction.remote_start,
        "stoppedAt": transaction.stopped_at,
        "meterStopWh": transaction.meter_stop_wh,
        "stopReason": transaction.stop_reason,
        "stopIdTag": transaction.stop_id_tag,
        "energyWh": transaction.energy_wh(),
        "meterMessages": transaction.meter_messages,
    })
}
