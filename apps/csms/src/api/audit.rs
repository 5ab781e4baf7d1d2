//! `/api/audit`: what people and programs did, the newest first.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use leftfold::prelude::Position;
use serde::Deserialize;
use serde_json::{Value, json};

use super::json_body;
use super::reading::{PageBounds, list as page, query};
use crate::app::Csms;
use crate::http::Problem;
use crate::people::AuditEntry;

#[derive(Debug, Default, Deserialize)]
pub(super) struct AuditQuery {
    by: Option<String>,
}

/// Lists acts. The cursor is a place in the store: a page may be empty and still have a next one.
pub(super) async fn list(
    State(csms): State<Arc<Csms>>,
    which: Result<Query<AuditQuery>, QueryRejection>,
    bounds: Result<Query<PageBounds>, QueryRejection>,
) -> Result<Response, Problem> {
    let (AuditQuery { by }, bounds) = (query(which)?, query(bounds)?);
    let before = match bounds.after_number()? {
        0 => None,
        position => Some(Position(position)),
    };
    let (acts, next) = csms.people.acts(before, by.as_deref(), bounds.limit()).await?;
    let mut names: HashMap<String, Option<String>> = HashMap::new();
    for act in &acts {
        if !names.contains_key(&act.by) {
            names.insert(act.by.clone(), csms.people.name_of_caller(&act.by).await?);
        }
    }
    let name = |act: &AuditEntry| names.get(&act.by).cloned().flatten();
    let items = acts.iter().map(|act| act_json(act, name(act))).collect();
    Ok(json_body(&page(items, next.map(|next| next.0.to_string()))).into_response())
}

fn act_json(act: &AuditEntry, name: Option<String>) -> Value {
    let event = &act.event;
    let stream = event.stream.as_ref();
    json!({
        "position": event.position.0,
        "at": event.recorded_at,
        "by": act.by,
        "name": name,
        "type": event.event_type.as_str(),
        "of": stream.map(|at| at.name.category()),
        "id": stream.map(|at| at.name.id()),
        "version": stream.map(|at| at.version.0),
    })
}
