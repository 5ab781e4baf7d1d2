//! JSON over HTTP under `/api`, and `/health`.
//!
//! Lists are `{"items": [...], "next": cursor or null}` with `?limit=` and `?after=`; errors are problem documents of
//! RFC 9457 with a `code`. An `Idempotency-Key` is for the requests to stations (remote-start, remote-stop, unlock): such a
//! POST takes effect at most once. Elsewhere it is not looked at: the other writes do no harm when they are repeated.

mod availability;
mod effects;
mod guard;
mod problem;
mod reading;
mod requests;
mod stations;
mod tags;
mod transactions;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

pub use effects::{effect_json, verdict};
pub use guard::admit_station;
pub(crate) use guard::guard;
pub use problem::Problem;

use crate::Csms;

/// The longest body, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// The routes.
pub fn router(csms: Arc<Csms>) -> Router<Arc<Csms>> {
    let api = Router::new()
        .route("/api/stations", get(stations::list))
        .route("/api/stations/{id}", get(stations::one).put(stations::put))
        .route("/api/stations/{id}/history", get(stations::history))
        .route("/api/stations/{id}/availability", get(availability::one))
        .route("/api/stations/{id}/remote-start", post(requests::remote_start))
        .route("/api/stations/{id}/remote-stop", post(requests::remote_stop))
        .route("/api/stations/{id}/unlock", post(requests::unlock))
        .route("/api/transactions", get(transactions::list))
        .route("/api/transactions/{id}", get(transactions::one))
        .route("/api/effects", get(effects::list))
        .route("/api/effects/{id}", get(effects::one))
        .route("/api/effects/{id}/resolve", post(effects::resolve))
        .route("/api/tags/{id_tag}", get(tags::one).put(tags::put).delete(tags::delete))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(csms, guard));
    Router::new().route("/health", get(health)).merge(api)
}

/// What nothing is under.
pub async fn not_found(uri: Uri) -> Problem {
    Problem::not_found("no-such-route", format!("there is nothing under {}; the routes begin with /api", uri.path()))
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not for {}; see the header Allow", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
}

async fn health(State(csms): State<Arc<Csms>>) -> Response {
    let status = csms.store.status().borrow().clone();
    let shown = csms.view.changes().borrow().0;
    let (state, is_well) = match &status.state {
        leftfold::store::State::Open => ("ok", true),
        leftfold::store::State::ReadOnly { .. } => ("read-only", false),
        leftfold::store::State::Closed => ("closed", false),
    };
    let code = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let body = json!({
        "status": state,
        "position": status.head.position.0,
        "viewPosition": shown,
        "connected": csms.registry.connected(),
    });
    (code, json_body(&body)).into_response()
}

/// A response of JSON.
pub(crate) fn json_body(value: &Value) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string())
}
