//! `/api/read-models` and `/api/processes`: the progress of the consumers of the log, and the
//! parked events that wait for a person.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection};
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use leftfold::prelude::Position;
use leftfold::runtime::ConsumerStatus;
use leftfold::runtime::process::{AskError, ParkedTrigger, Whose};
use leftfold::runtime::projection::{self, Parked, ParkedState, ProjectionStatus};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::json_body;
use super::reading::{body, list as page, parse, path};
use crate::app::Csms;
use crate::http::Problem;
use crate::people::{Act, OperatorAct};
use crate::processes::PROCESSES;

type Id = Result<Path<String>, PathRejection>;
type Body = Result<Bytes, BytesRejection>;

/// Parked items of one list at most: a person looks at the first ones first.
const PARKED_SHOWN_MAX: usize = 1_000;

/// Lists the read models, in the versions that run.
pub(super) async fn read_models(State(csms): State<Arc<Csms>>) -> Result<Response, Problem> {
    let items = csms.consumers()?.projections.list().iter().map(projection_json).collect();
    Ok(json_body(&page(items, None)).into_response())
}

/// Lists the events that a read model has parked.
pub(super) async fn parked_events(
    State(csms): State<Arc<Csms>>,
    name: Id,
) -> Result<Response, Problem> {
    let parked = csms.consumers()?.projections.parked(&path(name)?)?;
    let items = parked.iter().take(PARKED_SHOWN_MAX).map(parked_json).collect();
    Ok(json_body(&page(items, None)).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RetryKey {
    key: String,
}

/// Tries the parked events of a key again.
pub(super) async fn retry_events(
    State(csms): State<Arc<Csms>>,
    Extension(act): Extension<Act>,
    name: Id,
    bytes: Body,
) -> Result<Response, Problem> {
    let (name, RetryKey { key }): (String, _) = (path(name)?, parse(&body(bytes)?)?);
    let done = csms.consumers()?.projections.retry(&name, &key).await?;
    act.record(&csms.store, OperatorAct::ParkedRetried { consumer: name, key }).await?;
    retried(done)
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SkipEvent {
    position: u64,
}

/// Lets one parked event go.
pub(super) async fn skip_event(
    State(csms): State<Arc<Csms>>,
    Extension(act): Extension<Act>,
    name: Id,
    bytes: Body,
) -> Result<Response, Problem> {
    let (name, SkipEvent { position }): (String, _) = (path(name)?, parse(&body(bytes)?)?);
    let skipped = csms.consumers()?.projections.skip(&name, Position(position), act.by()).await?;
    act.record(&csms.store, OperatorAct::ParkedSkipped { consumer: name, position }).await?;
    retried(skipped)
}

/// Answers a retry or a skip: the events that were applied, and the event that failed again.
fn retried(retried: projection::Retried) -> Result<Response, Problem> {
    let applied: Vec<u64> = retried.applied.iter().map(|position| position.0).collect();
    let stopped_by = retried.stopped_by.as_ref().map(parked_json);
    Ok(json_body(&json!({ "applied": applied, "stoppedBy": stopped_by })).into_response())
}

/// Lists the processes.
pub(super) async fn processes(State(csms): State<Arc<Csms>>) -> Response {
    let statuses = csms.consumer_statuses();
    let items = statuses.iter().filter(|consumer| PROCESSES.contains(&consumer.name));
    let items = items.map(|consumer| Value::Object(consumer_json(consumer))).collect();
    json_body(&page(items, None)).into_response()
}

/// Lists the triggers that a process has parked.
pub(super) async fn parked_triggers(
    State(csms): State<Arc<Csms>>,
    name: Id,
) -> Result<Response, Problem> {
    let parked = csms.consumers()?.processes.parked(&process_name(name)?).await?;
    let items = parked.iter().take(PARKED_SHOWN_MAX).map(trigger_json).collect();
    Ok(json_body(&page(items, None)).into_response())
}

/// Body of a request about parked triggers: an instance of a process, or a stream that it cannot
/// read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ParkedTriggerBody {
    #[serde(default)]
    instance: Option<String>,
    #[serde(default)]
    stream: Option<String>,
    #[serde(default)]
    position: Option<u64>,
}

impl ParkedTriggerBody {
    fn whose(&self) -> Result<Whose, Problem> {
        match (&self.instance, &self.stream) {
            (Some(instance), None) => Ok(Whose::Instance(instance.clone())),
            (None, Some(stream)) => Ok(Whose::Stream(stream.clone())),
            _ => Err(Problem::bad_request(
                "invalid-json",
                "name an instance or a stream, as in the list of what is parked",
            )),
        }
    }
}

/// Lets a process react to its parked triggers.
pub(super) async fn retry_triggers(
    State(csms): State<Arc<Csms>>,
    Extension(act): Extension<Act>,
    name: Id,
    bytes: Body,
) -> Result<Response, Problem> {
    let (name, waiting): (String, ParkedTriggerBody) = (process_name(name)?, parse(&body(bytes)?)?);
    let whose = waiting.whose()?;
    let done = csms.consumers()?.processes.retry(&name, &whose).await?;
    let key = match whose {
        Whose::Instance(key) | Whose::Stream(key) => key,
    };
    act.record(&csms.store, OperatorAct::ParkedRetried { consumer: name, key }).await?;
    Ok(json_body(&json!({ "done": done })).into_response())
}

/// Lets one trigger go without a reaction.
pub(super) async fn skip_trigger(
    State(csms): State<Arc<Csms>>,
    Extension(act): Extension<Act>,
    name: Id,
    bytes: Body,
) -> Result<Response, Problem> {
    let (name, waiting): (String, ParkedTriggerBody) = (process_name(name)?, parse(&body(bytes)?)?);
    let position = waiting.position.ok_or_else(|| {
        Problem::bad_request("invalid-json", "name the position of what is parked")
    })?;
    let (whose, at) = (waiting.whose()?, Position(position));
    let done = csms.consumers()?.processes.skip(&name, &whose, at, act.by()).await?;
    act.record(&csms.store, OperatorAct::ParkedSkipped { consumer: name, position }).await?;
    Ok(json_body(&json!({ "done": done })).into_response())
}

fn process_name(name: Id) -> Result<String, Problem> {
    let name = path(name)?;
    if !PROCESSES.contains(&name.as_str()) {
        return Err(Problem::not_found(
            "unknown-process",
            "there is no such process; list them at /api/processes",
        ));
    }
    Ok(name)
}

fn projection_json(status: &ProjectionStatus) -> Value {
    let mut json = consumer_json(&status.consumer);
    json.insert("name".to_owned(), status.name.into());
    json.insert("version".to_owned(), status.version.into());
    json.insert("serves".to_owned(), status.serves.into());
    json.insert("parked".to_owned(), status.parked.into());
    Value::Object(json)
}

/// Returns the status of a consumer of the log as JSON.
pub(super) fn consumer_json(status: &ConsumerStatus) -> Map<String, Value> {
    let json = json!({
        "name": status.name,
        "position": status.through.0,
        "behind": status.lag(),
        "eventsPerSecond": status.per_second,
        "secondsLeft": status.time_left().map(|left| left.as_secs_f64()),
        "waitsFor": status.waits_for,
        "waiting": status.waiting,
        "stalled": status.stalled,
        "standby": status.standby,
        "needsPerson": status.needs_person,
        "parked": status.parked,
        "inDoubt": status.in_doubt,
        "stuck": status.stuck,
    });
    match json {
        Value::Object(json) => json,
        _ => Map::new(),
    }
}

fn parked_json(parked: &Parked) -> Value {
    let (state, attempts) = match &parked.state {
        ParkedState::Failed { attempts, .. } => ("failed", Some(attempts)),
        ParkedState::Unreadable { .. } => ("unreadable", None),
        ParkedState::Waits => ("waits", None),
    };
    json!({
        "position": parked.position.0,
        "key": parked.key,
        "stream": parked.stream,
        "state": state,
        "attempts": attempts,
        "error": parked.state.error(),
    })
}

fn trigger_json(parked: &ParkedTrigger) -> Value {
    let (instance, stream) = match &parked.whose {
        Whose::Instance(instance) => (Some(instance), None),
        Whose::Stream(stream) => (None, Some(stream)),
    };
    json!({
        "position": parked.position.0,
        "instance": instance,
        "stream": stream,
        "error": parked.error,
        "since": parked.since,
    })
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        let detail = error.to_string();
        match error {
            AskError::UnknownProcess { .. } => Self::not_found("unknown-process", detail),
            AskError::UnknownProjection { .. } => Self::not_found("unknown-read-model", detail),
            AskError::NotParked { .. } => Self::new(StatusCode::CONFLICT, "not-parked", detail),
            AskError::FailsAgain { .. } => Self::new(StatusCode::CONFLICT, "fails-again", detail),
            AskError::Away { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "read-model-away", detail)
            }
            AskError::Store { .. } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "store-failed", detail)
            }
            AskError::Stopped => Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", detail),
        }
    }
}
