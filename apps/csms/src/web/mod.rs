//! Serves the dashboard, whose HTML is rendered by [`dashboard`].
//!
//! - `live`: fills the first page, and sends it again whenever something was recorded
//! - `consumers`: the part of it about what follows the log
//! - `pages`: fills the other pages; `people` those about people

mod consumers;
mod live;
mod pages;
mod people;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, header};
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse};
use axum::routing::get;

use crate::app::Csms;
use crate::dashboard;
use crate::http::guard;

/// Time that a page waits for read models that are behind.
const PAGE_WITHIN: Duration = Duration::from_secs(2);

/// Bytes of a form at most.
const FORM_BYTES_MAX: usize = 16 * 1024;

/// Returns the routes of the dashboard, for callers that may use the API.
pub(crate) fn router(csms: Arc<Csms>) -> Router<Arc<Csms>> {
    Router::new()
        .route("/", get(live::page))
        .route("/live", get(live::live))
        .route("/transactions", get(pages::transactions))
        .route("/energy", get(pages::energy))
        .route(
            "/dashboard.css",
            get(([(header::CONTENT_TYPE, "text/css; charset=utf-8")], dashboard::STYLE)),
        )
        .route(
            "/dashboard.js",
            get(([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], dashboard::SCRIPT)),
        )
        .route(
            "/people.js",
            get((
                [(header::CONTENT_TYPE, "text/javascript; charset=utf-8")],
                dashboard::PEOPLE_SCRIPT,
            )),
        )
        .route("/login", get(people::login).post(people::log_in))
        .route("/account", get(people::account))
        .route("/users", get(people::people))
        .layer(axum::extract::DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(from_fn_with_state(csms, guard))
}

/// A page that may load and run nothing but its own.
fn document(html: String) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 3] = [
        (header::CONTENT_SECURITY_POLICY, dashboard::CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, Html(html))
}
