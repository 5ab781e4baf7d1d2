//! JSON over HTTP under `/api`, `/health`, and `/metrics`.
//!
//! Lists are `{"items": [...], "next": cursor or null}` with `?limit=` and `?after=`; errors are
//! problem documents of RFC 9457 with a `code`. An `Idempotency-Key` is for the requests to
//! stations (remote-start, remote-stop, unlock, reserve, cancel-reservation): such a POST takes
//! effect at most once. Other routes ignore it: their writes do no harm when they are repeated.
//!
//! Lists and reports come from read models, which are a moment behind. Every answer to a write and
//! from a read model has the header `leftfold-position`. If a read sends this header, or `?at=`,
//! its answer waits until the read model has reached that position, or tells what the read model
//! waits for (503). All names are spelt in camel case.
//!
//! This file has the routes. Each other file has those of the name that it bears; beside them:
//!
//! - `reading`: parts of requests: paths, queries, bodies, keys and positions
//! - `requests` and `operations`: what is asked of a station; `effects` tells what became of it
//! - `equipment`: what is known of a station by what was asked of it
//! - `login`: sessions of people, and who the caller is
//! - `access`: keys and security profiles of stations
//! - `consumers`: read models and processes, with what they have parked

mod access;
mod audit;
mod availability;
mod consumers;
mod effects;
mod energy;
mod equipment;
mod health;
mod login;
mod meter_values;
mod operations;
mod reading;
mod requests;
mod servers;
mod stations;
mod tags;
mod tokens;
mod transactions;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::IntoResponse;
use axum::routing::{delete, get, patch, post, put};
use serde_json::Value;

use crate::app::Csms;
use crate::http::{Problem, guard};
use crate::ocpp::v16::ACTIONS;
pub(crate) use energy::EnergyQuery;
pub(crate) use health::stands_still;
pub(crate) use login::sign_in;
pub(crate) use tokens::token_state;
pub(crate) use users::standing_name;

/// The longest body, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Returns the routes of the API.
pub(crate) fn router(csms: Arc<Csms>) -> Router<Arc<Csms>> {
    let api = ACTIONS
        .iter()
        .fold(Router::new(), |router, action| {
            let path = format!("/api/stations/{{id}}/{}", action.route);
            router.route(&path, post(operations::ask))
        })
        .route("/api/stations", get(stations::list))
        .route("/api/stations/{id}", get(stations::one).put(stations::put))
        .route("/api/stations/{id}/history", get(stations::history))
        .route("/api/stations/{id}/availability", get(availability::one))
        .route("/api/stations/{id}/key", post(access::set_key))
        .route("/api/stations/{id}/change-key", post(operations::change_key))
        .route("/api/stations/{id}/security-profile", put(access::set_profile))
        .route("/api/stations/{id}/remote-start", post(requests::remote_start))
        .route("/api/stations/{id}/remote-start-transaction", post(requests::remote_start))
        .route("/api/stations/{id}/remote-stop", post(requests::remote_stop))
        .route("/api/stations/{id}/remote-stop-transaction", post(requests::remote_stop))
        .route("/api/stations/{id}/unlock", post(requests::unlock))
        .route("/api/stations/{id}/unlock-connector", post(requests::unlock))
        .route("/api/stations/{id}/reserve", post(requests::reserve))
        .route("/api/stations/{id}/reserve-now", post(requests::reserve))
        .route("/api/stations/{id}/cancel-reservation", post(requests::cancel_reservation))
        .route("/api/stations/{id}/configuration", get(equipment::configuration))
        .route("/api/stations/{id}/local-list", get(equipment::local_list))
        .route("/api/stations/{id}/charging-profiles", get(equipment::charging_profiles))
        .route("/api/stations/{id}/composite-schedule", get(equipment::composite_schedule))
        .route("/api/stations/{id}/firmware", get(equipment::firmware))
        .route("/api/stations/{id}/diagnostics", get(equipment::diagnostics))
        .route("/api/stations/{id}/security-events", get(equipment::security_events))
        .route("/api/stations/{id}/violations", get(equipment::violations))
        .route("/api/stations/{id}/certificates", get(equipment::certificates))
        .route("/api/transactions", get(transactions::list))
        .route("/api/transactions/{id}", get(transactions::one))
        .route("/api/transactions/{id}/correct-energy", post(transactions::correct_energy))
        .route("/api/transactions/{id}/signed-meter-values", get(meter_values::signed))
        .route("/api/transactions/{id}/close", post(transactions::close))
        .route("/api/effects", get(effects::list))
        .route("/api/effects/{id}", get(effects::one))
        .route("/api/effects/{id}/resolve", post(effects::resolve))
        .route("/api/meter-values", get(meter_values::list))
        .route("/api/energy", get(energy::list))
        .route("/api/read-models", get(consumers::read_models))
        .route("/api/read-models/{name}/parked", get(consumers::parked_events))
        .route("/api/read-models/{name}/retry", post(consumers::retry_events))
        .route("/api/read-models/{name}/skip", post(consumers::skip_event))
        .route("/api/processes", get(consumers::processes))
        .route("/api/processes/{name}/parked", get(consumers::parked_triggers))
        .route("/api/processes/{name}/retry", post(consumers::retry_triggers))
        .route("/api/processes/{name}/skip", post(consumers::skip_trigger))
        .route("/api/servers", get(servers::servers))
        .route("/metrics", get(health::metrics))
        .route("/api/login", post(login::log_in))
        .route("/api/logout", post(login::log_out))
        .route("/api/me", get(login::me))
        .route("/api/users", get(users::list).post(users::add))
        .route("/api/users/{id}", patch(users::patch).delete(users::forget))
        .route("/api/users/{id}/password", post(users::change_password))
        .route("/api/tokens", get(tokens::list).post(tokens::create))
        .route("/api/tokens/{id}", delete(tokens::revoke))
        .route("/api/audit", get(audit::list))
        .route("/api/tags/{id_tag}", get(tags::one).put(tags::put).delete(tags::delete))
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(csms, guard));
    Router::new().route("/health", get(health::health)).merge(api)
}

/// Answers a request for a path without a route.
pub(crate) async fn not_found(uri: Uri) -> Problem {
    Problem::not_found(
        "no-such-route",
        format!("there is nothing under {}; the routes begin with /api", uri.path()),
    )
}

async fn method_not_allowed(method: Method, uri: Uri) -> Problem {
    let detail = format!("{method} is not for {}; see the header Allow", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", detail)
}

/// Returns the same value with all names in camel case; the names in events are in snake case.
pub(crate) fn camel(value: &Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields.iter().map(|(name, value)| (camel_name(name), camel(value))).collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(camel).collect()),
        value => value.clone(),
    }
}

fn camel_name(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| {
        let mut characters = part.chars();
        name + &characters
            .next()
            .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
    })
}

/// Returns a response of JSON.
pub(crate) fn json_body(value: &Value) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "application/json")], value.to_string())
}
