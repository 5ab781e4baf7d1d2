//! `/api/meter-values`: what meters said, over time.

use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::json_body;
use super::reading::{At, PageBounds, list as page, moment, query, shown};
use crate::app::Csms;
use crate::http::Problem;
use crate::read::meter_values::{self, MeterFilter, MeterSample};

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
    let more = samples.len() > bounds.limit();
    samples.truncate(bounds.limit());
    let next = samples.last().filter(|_| more).map(|last| last.cursor.to_string());
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
