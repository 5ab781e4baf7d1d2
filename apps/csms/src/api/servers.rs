//! `/api/servers`: the servers that share the store, and the work that each does for all of them.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use leftfold::runtime::{MemberStatus, SharedWork};
use serde_json::{Value, json};

use super::json_body;
use super::reading::list;
use crate::app::Csms;
use crate::http::Problem;

/// Lists the servers by their names. Each server has the whole list, which is as of the last
/// renewal of each lease.
pub(super) async fn servers(State(csms): State<Arc<Csms>>) -> Result<Response, Problem> {
    let servers = csms.runtime_handle()?.members().await?;
    let items = servers.iter().map(server_json).collect();
    Ok(json_body(&list(items, None)).into_response())
}

fn server_json(server: &MemberStatus) -> Value {
    json!({
        "id": server.id,
        "name": server.name,
        "stops": server.stops,
        "until": server.until.to_string(),
        "works": server.works.iter().map(work_json).collect::<Vec<_>>(),
    })
}

fn work_json(work: &SharedWork) -> Value {
    json!({
        "consumer": work.consumer,
        "position": work.through.0,
        "waitsFor": work.waits_for,
        "since": work.since.to_string(),
        "until": work.until.to_string(),
    })
}
