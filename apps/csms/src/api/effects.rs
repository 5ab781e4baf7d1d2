//! `/api/effects`: requests to stations, and their outcomes.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use leftfold::prelude::Position;
use leftfold::runtime::{
    EffectFilter, EffectId, EffectState, EffectStatus, Effects, ResolveError, Verdict,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::reading::{PageBounds, body, list as page, parse, path, query};
use super::{camel, json_body};
use crate::app::Csms;
use crate::connections::NO_ANSWER;
use crate::domain::operation::OperationRequested;
use crate::domain::request::StationAnswer;
use crate::effects::{OPERATION, OperationOutcome};
use crate::http::Problem;
use crate::ocpp::v16::{action_of, payload_of, route_of};
use crate::people::{Act, OperatorAct};

#[derive(Debug, Default, Deserialize)]
pub(super) struct EffectsQuery {
    state: Option<String>,
}

/// Lists the effects, the oldest first.
pub(super) async fn list(
    State(csms): State<Arc<Csms>>,
    which: Result<Query<EffectsQuery>, QueryRejection>,
    bounds: Result<Query<PageBounds>, QueryRejection>,
) -> Result<Response, Problem> {
    let (which, bounds) = (query(which)?, query(bounds)?);
    let filter = match which.state.as_deref() {
        None | Some("all") => EffectFilter::All,
        Some("open") => EffectFilter::Open,
        Some("inDoubt") => EffectFilter::InDoubt,
        Some("concluded") => EffectFilter::Concluded,
        Some(_) => {
            return Err(Problem::bad_request(
                "invalid-query",
                "state is one of all, open, inDoubt, concluded",
            ));
        }
    };
    let after = EffectId(Position(bounds.after_number()?));
    let found = effects(&csms)?.list(filter, after, bounds.limit()).await?;
    let items = found.effects.iter().map(effect_json).collect();
    Ok(json_body(&page(items, found.next.map(|next| next.to_string()))).into_response())
}

/// Returns one effect.
pub(super) async fn one(
    State(csms): State<Arc<Csms>>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let id = effect_id(&path(id)?)?;
    let status = effects(&csms)?.find(id).await?.ok_or_else(unknown)?;
    Ok(json_body(&effect_json(&status)).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resolve {
    verdict: String,
    #[serde(default)]
    reason: Option<String>,
}

/// Takes a person's verdict on an effect in doubt.
pub(super) async fn resolve(
    State(csms): State<Arc<Csms>>,
    Extension(act): Extension<Act>,
    id: Result<Path<String>, PathRejection>,
    bytes: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let id = effect_id(&path(id)?)?;
    let Resolve { verdict: said, reason } = parse(&body(bytes)?)?;
    let effects = effects(&csms)?;
    let found = effects.find(id).await?.ok_or_else(unknown)?;
    let verdict = verdict(&said, reason.as_deref(), found.name == OPERATION)?;
    let status = effects.resolve(id, verdict, act.by()).await?;
    let resolved = OperatorAct::EffectResolved { effect: id.to_string(), verdict: said };
    act.record(&csms.store, resolved).await?;
    Ok(json_body(&effect_json(&status)).into_response())
}

/// Reads the verdict of a person.
fn verdict(said: &str, reason: Option<&str>, of_operation: bool) -> Result<Verdict, Problem> {
    let reason: String = reason.unwrap_or("a person said so").chars().take(500).collect();
    let outcome = |answer: StationAnswer| {
        let outcome = match of_operation {
            true => serde_json::to_value(OperationOutcome::from(answer)),
            false => serde_json::to_value(answer),
        };
        outcome.unwrap_or_default()
    };
    match said {
        "done" => Ok(Verdict::Done(outcome(StationAnswer::Accepted))),
        "rejected" => Ok(Verdict::Done(outcome(StationAnswer::Rejected { status: reason }))),
        "notDone" => Ok(Verdict::NotDone { reason }),
        _ => Err(Problem::bad_request("invalid-json", "verdict is one of done, rejected, notDone")),
    }
}

impl From<ResolveError> for Problem {
    fn from(error: ResolveError) -> Self {
        let (status, code) = match &error {
            ResolveError::NotOpen { .. } => (StatusCode::CONFLICT, "effect-concluded"),
            ResolveError::NotInDoubt { .. } => (StatusCode::CONFLICT, "effect-not-in-doubt"),
            ResolveError::TooEarly { .. } => (StatusCode::CONFLICT, "effect-under-way"),
            ResolveError::Busy { .. } => (StatusCode::CONFLICT, "effect-busy"),
            ResolveError::Outcome { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "invalid-outcome"),
            ResolveError::Store { .. } => (StatusCode::SERVICE_UNAVAILABLE, "store-failed"),
            ResolveError::Stopped => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        };
        Self::new(status, code, error.to_string())
    }
}

fn effects(csms: &Csms) -> Result<&Effects, Problem> {
    Ok(&csms.consumers()?.effects)
}

fn effect_id(text: &str) -> Result<EffectId, Problem> {
    text.parse().map_err(|_| unknown())
}

fn unknown() -> Problem {
    Problem::not_found(
        "unknown-effect",
        "there is no such effect; take its id from the answer to the request",
    )
}

/// Returns an effect as JSON. `state` is the state of the effect, `answer` its meaning for the
/// caller who asked.
#[must_use]
pub(super) fn effect_json(status: &EffectStatus) -> Value {
    let mut response = None;
    let mut outcome = |outcome: &Value| {
        if status.name != OPERATION {
            return serde_json::from_value::<StationAnswer>(outcome.clone()).ok();
        }
        let outcome: OperationOutcome = serde_json::from_value(outcome.clone()).ok()?;
        response = outcome.response;
        Some(outcome.answer)
    };
    let (state, answer, reason, by) = match &status.state {
        EffectState::Pending => ("pending", None, None, None),
        EffectState::InFlight { .. } => ("inFlight", None, None, None),
        EffectState::Waiting { reason, .. } => ("waiting", None, Some(reason.clone()), None),
        EffectState::Parked { reason } => ("parked", None, Some(reason.clone()), None),
        EffectState::InDoubt { reason, .. } if reason == NO_ANSWER => {
            ("inDoubt", Some("noAnswer"), Some(reason.clone()), None)
        }
        EffectState::InDoubt { reason, .. } => {
            ("inDoubt", Some("inDoubt"), Some(reason.clone()), None)
        }
        EffectState::NotDone { reason, by } => {
            ("notDone", Some("notDone"), Some(reason.clone()), Some(by))
        }
        EffectState::Done { outcome: value, by } => match outcome(value) {
            Some(StationAnswer::Rejected { status }) => {
                ("done", Some("rejected"), Some(status), Some(by))
            }
            Some(StationAnswer::NotDone { reason }) => {
                ("notDone", Some("notDone"), Some(reason), Some(by))
            }
            Some(StationAnswer::Accepted) | None => ("done", Some("done"), None, Some(by)),
        },
    };
    json!({
        "id": status.id.to_string(),
        "kind": route_of(&status.intent["operation"]).unwrap_or(status.name),
        "station": status.stream.as_ref().map(|stream| stream.id()),
        "request": request_json(&status.intent),
        "requestedAt": status.requested_at,
        "state": state,
        "answer": answer,
        "reason": reason,
        "response": response,
        "by": by,
        "attempts": status.attempts,
        "refused": status.report_refused,
        "link": format!("/api/effects/{}", status.id),
    })
}

/// Returns what was asked for: an operation in the names of OCPP, as it was sent.
fn request_json(intent: &Value) -> Value {
    let mut request = camel(intent);
    let asked = serde_json::from_value::<OperationRequested>(intent.clone());
    if let (Ok(asked), Some(fields)) = (asked, request.as_object_mut()) {
        let mut payload = payload_of(&asked.operation);
        if asked.has_secret && payload.get("value").is_some() {
            payload["value"] = "[hidden]".into();
        }
        fields.remove("operation");
        fields.insert("action".to_owned(), action_of(&asked.operation).into());
        fields.insert("payload".to_owned(), payload);
    }
    request
}
