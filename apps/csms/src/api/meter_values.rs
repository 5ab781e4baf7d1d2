//! `/api/meter-values`: what meters said, over time.

use std::sync::Arc;

use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::json_body;
use super::reading::{
    At, PageBounds, cut, list as page, moment, path, query, shown, unknown_transaction,
};
use crate::app::Csms;
use crate::http::Problem;
use crate::read::meter_values::{self, MeterFilter, MeterSample};
use crate::read::signed_values::SignedValue;
use crate::read::transactions;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MeterValuesQuery {
    station: Option<String>,
    connector_id: Option<u32>,
    transaction_id: Option<i64>,
    measurand: Option<String>,
    from: Option<String>,
    to: Option<String>,
}

/// Lists values, the earliest first.
pub(super) async fn list(
    State(csms): State<Arc<Csms>>,
    headers: HeaderMap,
    which: Result<Query<MeterValuesQuery>, QueryRejection>,
    bounds: Result<Query<PageBounds>, QueryRejection>,
    at: Result<Query<At>, QueryRejection>,
) -> Result<Response, Problem> {
    let bounds = query(bounds)?;
    let MeterValuesQuery { station, connector_id, transaction_id, measurand, from, to } =
        query(which)?;
    let (from, to) = (moment("from", from.as_deref())?, moment("to", to.as_deref())?);
    let after = bounds.after_meter()?;
    let filter = MeterFilter { station, connector_id, transaction_id, measurand, from, to, after };
    let position = shown(&csms, meter_values::NAME, &headers, query(at)?).await?;
    let mut samples = csms.read.meter_values(&filter, bounds.limit() + 1).await?;
    let next = cut(&mut samples, bounds.limit(), |last| last.cursor.to_string());
    Ok((position, json_body(&page(samples.iter().map(sample_json).collect(), next)))
        .into_response())
}

pub(super) fn sample_json(sample: &MeterSample) -> Value {
    json!({
        "at": sample.cursor.at,
        "station": sample.station,
        "connectorId": sample.connector_id,
        "transactionId": sample.transaction_id,
        "measurand": sample.measurand,
        "value": sample.value,
        "unit": sample.unit.as_deref().or((sample.measurand.starts_with("Energy.Active")).then_some("Wh")),
        "phase": sample.phase,
        "location": sample.location,
        "context": sample.context,
    })
}

/// Signed values of a page at most: each may have 128 KiB.
const SIGNED_LIMIT_MAX: usize = 50;

/// Returns the signed values of a transaction in the order of arrival, each byte for byte as it
/// came.
pub(super) async fn signed(
    State(csms): State<Arc<Csms>>,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
    bounds: Result<Query<PageBounds>, QueryRejection>,
    at: Result<Query<At>, QueryRejection>,
) -> Result<Response, Problem> {
    let (id, bounds) = (path(id)?, query(bounds)?);
    let (after, limit) = (bounds.after_signed()?, bounds.limit().min(SIGNED_LIMIT_MAX));
    let id: i64 = id.parse().map_err(|_| unknown_transaction())?;
    let position = shown(&csms, transactions::NAME, &headers, query(at)?).await?;
    let transaction = csms.read.transaction(id).await?.ok_or_else(unknown_transaction)?;
    let mut found = csms.read.signed_values(&transaction.station, id, after, limit + 1).await?;
    let next = cut(&mut found, limit, |last| last.cursor.to_string());
    let items = found.iter().map(SignedItem::of).collect::<Result<Vec<_>, _>>();
    let page = items.and_then(|items| serde_json::to_string(&SignedPage { items, next }));
    let page = page.map_err(|error| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "unreadable-value", error.to_string())
    })?;
    Ok((position, [(header::CONTENT_TYPE, "application/json")], page).into_response())
}

/// A page of signed values.
#[derive(Serialize)]
struct SignedPage<'a> {
    items: Vec<SignedItem<'a>>,
    next: Option<String>,
}

/// A signed value, as the API tells it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SignedItem<'a> {
    at: Option<Timestamp>,
    received_at: Timestamp,
    came_with_stop: bool,
    context: Option<&'a str>,
    measurand: Option<&'a str>,
    phase: Option<&'a str>,
    location: Option<&'a str>,
    unit: Option<&'a str>,
    /// JSON text of the value, as it came.
    value: Box<RawValue>,
}

impl<'a> SignedItem<'a> {
    fn of(signed: &'a SignedValue) -> serde_json::Result<Self> {
        let sample = &signed.sample;
        Ok(Self {
            at: signed.at,
            received_at: signed.received_at,
            came_with_stop: signed.came_with_stop,
            context: sample.context.as_ref().map(|context| context.as_str()),
            measurand: sample.measurand.as_ref().map(|measurand| measurand.as_str()),
            phase: sample.phase.as_ref().map(|phase| phase.as_str()),
            location: sample.location.as_ref().map(|location| location.as_str()),
            unit: sample.unit.as_ref().map(|unit| unit.as_str()),
            value: RawValue::from_string(sample.raw_json())?,
        })
    }
}
