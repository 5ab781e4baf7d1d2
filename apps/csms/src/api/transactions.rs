//! `/api/transactions`: what was charged.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use leftfold::fold::Schema;
use leftfold::prelude::{Position, StreamName, Unknown};
use leftfold::store::{QueryItem, Read, StreamMatch, Tag};
use serde::Deserialize;
use serde_json::{Value, json};

use super::reading::{Bounds, LIMIT_MAX, list as page, path, query};
use super::{Problem, json_body};
use crate::Csms;
use crate::domain::meter::{self, MeterEvent, transaction_tag};
use crate::view::TransactionRow;

#[derive(Debug, Default, Deserialize)]
pub(super) struct Which {
    station: Option<String>,
    open: Option<bool>,
}

/// Lists the transactions, the newest first.
pub(super) async fn list(
    State(csms): State<Arc<Csms>>,
    which: Result<Query<Which>, QueryRejection>,
    bounds: Result<Query<Bounds>, QueryRejection>,
) -> Result<Response, Problem> {
    let (which, bounds) = (query(which)?, query(bounds)?);
    let before = match bounds.after_number()? {
        0 => i64::MAX,
        after => i64::try_from(after).unwrap_or(i64::MAX),
    };
    csms.view.caught_up(&csms.store).await;
    let model = csms.view.read();
    let wanted = |row: &&TransactionRow| {
        which.station.as_ref().is_none_or(|station| *station == row.station)
            && which.open.is_none_or(|open| open == row.stopped.is_none())
    };
    let mut rows = model.transactions.range(..before).rev().map(|(_, row)| row).filter(wanted);
    let found: Vec<&TransactionRow> = rows.by_ref().take(bounds.limit()).collect();
    let next = rows.next().and_then(|_| found.last().map(|row| row.started.transaction_id.value().to_string()));
    Ok(json_body(&page(found.into_iter().map(transaction_json).collect(), next)).into_response())
}

/// One transaction, with a page of its meter values.
pub(super) async fn one(
    State(csms): State<Arc<Csms>>,
    id: Result<Path<String>, PathRejection>,
    bounds: Result<Query<Bounds>, QueryRejection>,
) -> Result<Response, Problem> {
    let (id, bounds) = (path(id)?, query(bounds)?);
    let unknown = || Problem::not_found("unknown-transaction", "there is no such transaction; list them to find its id");
    let id: i64 = id.parse().map_err(|_| unknown())?;
    csms.view.caught_up(&csms.store).await;
    let row = csms.view.read().transactions.get(&id).cloned().ok_or_else(unknown)?;
    let after = Position(bounds.after_number()?);
    let mut transaction = transaction_json(&row);
    transaction["meterValues"] = meter_values(&csms, &row.station, id, after, bounds.limit().min(LIMIT_MAX)).await?;
    transaction["transactionData"] = json!(row.stopped.map(|stopped| stopped.transaction_data).unwrap_or_default());
    Ok(json_body(&transaction).into_response())
}

/// The messages with meter values that the transaction's own station sent.
async fn meter_values(csms: &Csms, station: &str, id: i64, after: Position, limit: usize) -> Result<Value, Problem> {
    let invalid = |error: leftfold::store::Invalid| Problem::bad_request("invalid-id", error.to_string());
    let event = |error: leftfold::fold::EventError| Problem::from(leftfold::fold::LoadError::from(error));
    let schema = Schema::of::<MeterEvent>().map_err(event)?;
    let tag = Tag::new(transaction_tag(id)).map_err(invalid)?;
    let stream = StreamName::of(meter::CATEGORY, station).map_err(invalid)?;
    let item = QueryItem { tags: vec![tag], streams: Some(StreamMatch::Exact(stream)), ..QueryItem::default() };
    let mut events = csms.store.read(Read::matching(item.into(), after.next()).page_of(limit as u32 + 1));
    let mut items = Vec::new();
    let mut last = after;
    let mut more = false;
    while let Some(recorded) = events.next().await? {
        if items.len() == limit {
            more = true;
            break;
        }
        last = recorded.position;
        for MeterEvent::ValuesRecorded { connector_id, values, received_at, .. } in
            schema.decode(&recorded, Unknown::Refuse).map_err(event)?
        {
            items.push(json!({ "connectorId": connector_id, "receivedAt": received_at, "values": values }));
        }
    }
    Ok(page(items, more.then(|| last.to_string())))
}

fn transaction_json(row: &TransactionRow) -> Value {
    let started = &row.started;
    let stopped = row.stopped.as_ref();
    json!({
        "id": started.transaction_id,
        "station": row.station,
        "connectorId": started.connector_id,
        "idTag": started.id_tag,
        "authorization": started.authorization,
        "open": stopped.is_none(),
        "startedAt": started.timestamp.unwrap_or(started.received_at),
        "meterStartWh": started.meter_start_wh,
        "remoteStart": started.remote_start,
        "stoppedAt": stopped.map(|stopped| stopped.timestamp.unwrap_or(stopped.received_at)),
        "meterStopWh": stopped.and_then(|stopped| stopped.meter_stop_wh),
        "stopReason": stopped.map(|stopped| stopped.reason.as_ref().map_or("Local", |reason| reason.as_str())),
        "stopIdTag": stopped.and_then(|stopped| stopped.id_tag.as_deref()),
        "energyWh": row.energy_wh(),
        "meterMessages": row.meter_messages,
    })
}
