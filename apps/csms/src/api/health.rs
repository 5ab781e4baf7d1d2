//! `/health`, for whoever balances or watches, and `/metrics`, for Prometheus.
//!
//! `status` is `ok`; `degraded`, with the `problems`, while something is behind or waits for a person, or the last report of
//! a station could not be recorded: it serves all the same, so that it is 200 then too; `readOnly` or `closed` with 503.

use std::sync::{Arc, PoisonError};

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use leftfold::runtime::ConsumerStatus;
use leftfold::store;
use serde_json::{Value, json};

use super::behind::consumer_json;
use super::guard::admit;
use super::json_body;
use crate::Csms;

/// How the server is. Whoever may not call the API hears only the status, not what is wrong in detail.
pub(super) async fn health(State(csms): State<Arc<Csms>>, headers: HeaderMap) -> Response {
    let status = csms.store.status().borrow().clone();
    let consumers = csms.consumers();
    let mut problems: Vec<Value> = consumers.iter().filter(|consumer| is_stuck(consumer)).map(problem_json).collect();
    if let Some(error) = &*csms.unrecorded.lock().unwrap_or_else(PoisonError::into_inner) {
        problems.push(json!({ "of": "store", "detail": format!("the last report of a station was not recorded: {error}") }));
    }
    let state = match &status.state {
        store::State::Open if problems.is_empty() => "ok",
        store::State::Open => "degraded",
        store::State::ReadOnly { detail } => {
            problems.push(json!({ "of": "store", "detail": detail }));
            "readOnly"
        }
        store::State::Closed => "closed",
    };
    let code = if status.state == store::State::Open { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!({
        "status": state,
        "position": status.head.position.0,
        "connected": csms.registry.connected(),
    });
    if admit(&csms, &Method::GET, &headers).is_ok() {
        body["problems"] = problems.into();
        body["consumers"] = consumers.iter().map(consumer_json).collect();
    }
    (code, json_body(&body)).into_response()
}

/// The same as figures.
pub(super) async fn metrics(State(csms): State<Arc<Csms>>) -> Response {
    let text = csms.metrics();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Whether a consumer of the log is behind and does not move, or waits for a person. One that waits for events only has
/// not taken up yet what came this very moment.
pub(crate) fn is_stuck(consumer: &ConsumerStatus) -> bool {
    let waits_for_events = ["new events", "new intents", "events"].iter().any(|usual| consumer.waits_for.starts_with(usual));
    consumer.stalled || (consumer.lag() > 0 && consumer.per_second == 0 && !waits_for_events)
}

fn problem_json(consumer: &ConsumerStatus) -> Value {
    let detail = format!("{} events behind, waits for {}", consumer.lag(), consumer.waits_for);
    json!({ "of": consumer.name, "detail": detail })
}
