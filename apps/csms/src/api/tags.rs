//! `/api/tags/{idTag}`: the terms of id tags.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use leftfold::prelude::{ExecuteError, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::json_body;
use super::reading::{at_position, body, parse, path};
use crate::app::Csms;
use crate::domain::id_tag::{IdTag, IdTagCommand, IdTagRefusal, TagStatus, Terms};
use crate::http::{Problem, execute_failed};
use crate::ocpp::v16::IdToken;
use crate::people::Act;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PutTagBody {
    status: TagStatus,
    #[serde(default)]
    parent_id_tag: Option<IdToken>,
    #[serde(default)]
    expiry_date: Option<Timestamp>,
}

type Id = Result<Path<String>, PathRejection>;

/// Defines the terms of a tag.
pub(super) async fn put(
    State(csms): State<Arc<Csms>>,
    Extension(act): Extension<Act>,
    id: Id,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let id_tag = token(id)?;
    let PutTagBody { status, parent_id_tag, expiry_date } = parse(&body(bytes)?)?;
    let id = IdTag::id(id_tag.as_str());
    let terms = Terms { id_tag, status, parent_id_tag, expiry_date };
    let define = csms.tags.command(&id, IdTagCommand::Define(terms.clone()));
    let executed = act.on(define).execute().await?;
    let code = if executed.version.0 == 1 && !executed.events.is_empty() {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok((code, at_position(executed.position), json_body(&tag_json(&terms))).into_response())
}

/// Returns the terms of a tag.
pub(super) async fn one(State(csms): State<Arc<Csms>>, id: Id) -> Result<Response, Problem> {
    let tag = csms.tags.load(&IdTag::id(token(id)?.as_str())).await?;
    let terms = tag
        .state
        .terms
        .ok_or_else(|| Problem::from(ExecuteError::Refused(IdTagRefusal::Unknown)))?;
    Ok(json_body(&tag_json(&terms)).into_response())
}

/// Removes the terms of a tag.
pub(super) async fn delete(
    State(csms): State<Arc<Csms>>,
    Extension(act): Extension<Act>,
    id: Id,
) -> Result<Response, Problem> {
    let id = IdTag::id(token(id)?.as_str());
    act.on(csms.tags.command(&id, IdTagCommand::Remove)).execute().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn token(id: Id) -> Result<IdToken, Problem> {
    IdToken::new(path(id)?).map_err(|error| Problem::bad_request("invalid-tag", error.to_string()))
}

fn tag_json(terms: &Terms) -> Value {
    json!({
        "idTag": terms.id_tag,
        "status": terms.status,
        "parentIdTag": terms.parent_id_tag,
        "expiryDate": terms.expiry_date,
    })
}

impl From<ExecuteError<IdTagRefusal>> for Problem {
    fn from(error: ExecuteError<IdTagRefusal>) -> Self {
        match error {
            ExecuteError::Refused(refusal @ IdTagRefusal::Unknown) => {
                Self::not_found("unknown-tag", refusal.to_string())
            }
            ExecuteError::Refused(refusal) => {
                Self::new(StatusCode::CONFLICT, "own-parent", refusal.to_string())
            }
            error => execute_failed(error),
        }
    }
}
