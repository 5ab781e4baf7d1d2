//! What is answered over plain HTTP: `/health` and `/metrics`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router};
use leftfold::store::Metrics;
use leftfold_protocol::DEFAULT_STORE;
use serde::Deserialize;

use super::native::Sessions;
use crate::groups::ConsumerGroups;
use crate::stopping::Stopping;
use crate::stores::{ServedStore, Stores};
use crate::users::{Caller, UserRole, Wish};

/// Time that a store has to tell of its groups, for their figures.
const MEASURED_WITHIN: Duration = Duration::from_secs(2);

type Shared = (Arc<Stores>, Arc<Sessions>, Stopping);

pub(super) fn router(stores: Arc<Stores>, sessions: Arc<Sessions>, stopping: Stopping) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .with_state((stores, sessions, stopping))
}

#[derive(Deserialize)]
struct AskedHealth {
    #[serde(rename = "for", default)]
    wish: HealthWish,
}

/// Use that somebody who asks for the health of the server has for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum HealthWish {
    /// Calls, most of which are answered though there is no room for appends.
    #[default]
    Calls,
    /// Appends, which other servers may have room for.
    Appends,
}

/// Answers 200 while the server takes calls and every store is open to appends, 503 otherwise, with
/// the stores that are not and that the caller may read. One whose disk is full is open, and reads
/// are answered: then the server is degraded, which is a 503 only for `?for=appends`.
async fn health(
    State((stores, _, stopping)): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<AskedHealth>,
) -> impl IntoResponse {
    if stopping.is_wanted() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n".to_owned());
    }
    let is_known = |name: &Arc<str>| caller.has(name, Wish::Role(UserRole::Read));
    let named = |names: Vec<Arc<str>>| {
        let names: Vec<_> = names.into_iter().filter(is_known).collect();
        if names.is_empty() { String::new() } else { format!(": {}", names.join(", ")) }
    };
    let not_open = stores.not_open();
    if !not_open.is_empty() {
        return (StatusCode::SERVICE_UNAVAILABLE, format!("not open{}\n", named(not_open)));
    }
    let short = stores.short_of_room();
    if short.is_empty() {
        return (StatusCode::OK, "serving\n".to_owned());
    }
    let status = match asked.wish {
        HealthWish::Calls => StatusCode::OK,
        HealthWish::Appends => StatusCode::SERVICE_UNAVAILABLE,
    };
    let text = "degraded, appends are refused since there is no room, reads are answered";
    (status, format!("{text}{}\n", named(short)))
}

#[derive(Deserialize)]
struct AskedMetrics {
    store: Option<String>,
}

/// Answers figures in the text format of Prometheus: those of one store with `?store=NAME`, to
/// whoever may read all of it; without it those of the server, to whoever may read every store, and
/// those of the store `default`.
async fn metrics(
    State((stores, sessions, _)): State<Shared>,
    Extension(caller): Extension<Caller>,
    Query(asked): Query<AskedMetrics>,
) -> impl IntoResponse {
    let name = asked.store.as_deref().unwrap_or(DEFAULT_STORE);
    let plain = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    // They tell how much there is of everything.
    let may = |name: &str| caller.has(name, Wish::ReadAll);
    let mut open = stores.all();
    open.retain(|served| may(&served.name));
    // No store has an empty name: a right to it is one to every store that has none of its own.
    let own = asked.store.is_none() && may("");
    let of_server = own.then(|| {
        let mut metrics = Metrics::default();
        stores.measure(&mut metrics);
        sessions.measure(&mut metrics);
        metrics.to_string()
    });
    let of_store = open.iter().find(|served| *served.name == *name);
    let of_store = match of_store {
        Some(served) => Some(served.store.metrics() + &of_groups(served).await),
        None => None,
    };
    match (of_server, of_store) {
        (Some(of_server), of_store) => {
            (StatusCode::OK, plain, of_server + &of_store.unwrap_or_default())
        }
        (None, Some(of_store)) => (StatusCode::OK, plain, of_store),
        (None, None) => {
            let known = open.iter().map(|served| &*served.name).collect::<Vec<_>>().join(", ");
            let text =
                format!("no store {name:?}, ask with ?store= for one that is open: {known}\n");
            (StatusCode::NOT_FOUND, plain, text)
        }
    }
}

/// Returns the figures of the groups of a store; none if they cannot be read, so that the others
/// are there when the store is not.
async fn of_groups(served: &ServedStore) -> String {
    let mut metrics = Metrics::default();
    let groups = ConsumerGroups::of(&served.store);
    let measured = groups.measure(&served.store, &mut metrics);
    match tokio::time::timeout(MEASURED_WITHIN, measured).await {
        Ok(Ok(())) => metrics.to_string(),
        Ok(Err(error)) => {
            tracing::debug!(%error, "the groups of a store are not measured");
            String::new()
        }
        Err(_) => String::new(),
    }
}
