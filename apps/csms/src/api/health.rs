//! `/health`, for load balancers and monitoring, and `/metrics`, for Prometheus.
//!
//! `status` is `ok`; or `degraded`, with the `problems`, if a consumer of the log stands still or
//! waits for a person (parked events, stuck commands), or if the last report of a station could not
//! be recorded: the server still serves, so the code is 200 then too; or, with 503, `readOnly`,
//! `away` if the store cannot be reached, or `closed`. Effects in doubt are those of stations that
//! did not answer, no problem of the server: they are counted, as `inDoubt`.

use std::sync::{Arc, PoisonError};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use leftfold::runtime::ConsumerStatus;
use leftfold::store;
use serde_json::{Value, json};

use super::consumers::consumer_json;
use super::json_body;
use crate::app::Csms;
use crate::http::identify;

/// Returns the health of the server. Callers that may not use the API get only the status, without
/// the problems in detail.
pub(super) async fn health(State(csms): State<Arc<Csms>>, headers: HeaderMap) -> Response {
    let status = csms.store.status().borrow().clone();
    let consumers = csms.consumer_statuses();
    let mut problems: Vec<Value> =
        consumers.iter().filter(|consumer| has_problem(consumer)).map(problem_json).collect();
    if let Some(error) = &*csms.unrecorded.lock().unwrap_or_else(PoisonError::into_inner) {
        problems.push(json!({ "of": "store", "detail": format!("the last report of a station was not recorded: {error}") }));
    }
    let state = match &status.state {
        store::State::Away { detail, .. } => {
            // It is the reason of all the others.
            problems.insert(0, json!({ "of": "store", "detail": detail }));
            "away"
        }
        store::State::Open if csms.registry.is_shut() => "away",
        store::State::Open if problems.is_empty() => "ok",
        store::State::Open => "degraded",
        store::State::ReadOnly { detail } => {
            problems.push(json!({ "of": "store", "detail": detail }));
            "readOnly"
        }
        store::State::Closed => "closed",
    };
    let code = match state {
        "ok" | "degraded" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut body = json!({
        "status": state,
        "position": status.head.position.0,
        "connected": csms.registry.connected(),
        "inDoubt": consumers.iter().map(|consumer| consumer.in_doubt).sum::<usize>(),
    });
    if matches!(identify(&csms, &headers).await, Ok(Some(_))) {
        body["problems"] = problems.into();
        body["consumers"] = consumers.iter().map(consumer_json).collect();
    }
    (code, json_body(&body)).into_response()
}

/// Returns the metrics in the text format of Prometheus.
pub(super) async fn metrics(State(csms): State<Arc<Csms>>) -> Response {
    let text = csms.metrics();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Tells whether a consumer of the log is behind and does not move, or has something of the
/// server's own that waits for a person. Not a problem are effects in doubt, a consumer that stands
/// by, and one that waits for events only: an event that was recorded at this very moment is not
/// taken up yet.
pub(crate) fn has_problem(consumer: &ConsumerStatus) -> bool {
    consumer.parked > 0 || consumer.stuck > 0 || stands_still(consumer)
}

/// Tells whether a consumer of the log as a whole does not move.
pub(crate) fn stands_still(consumer: &ConsumerStatus) -> bool {
    let waits_for_events = ["new events", "new intents", "events"]
        .iter()
        .any(|usual| consumer.waits_for.starts_with(usual));
    let behind =
        consumer.lag() > 0 && consumer.per_second == 0 && !waits_for_events && !consumer.standby;
    consumer.stalled || behind
}

fn problem_json(consumer: &ConsumerStatus) -> Value {
    let mut detail = Vec::new();
    if stands_still(consumer) {
        detail.push(format!("{} events behind, waits for {}", consumer.lag(), consumer.waits_for));
    }
    let waiting = [(consumer.parked, "events parked"), (consumer.stuck, "commands stuck")];
    detail.extend(
        waiting
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}")),
    );
    json!({ "of": consumer.name, "detail": detail.join(", ") })
}

#[cfg(test)]
mod tests {
    use leftfold::store::Position;

    use super::*;

    fn consumer() -> ConsumerStatus {
        ConsumerStatus {
            name: "transactions",
            through: Position(7),
            head: Position(7),
            waits_for: "new events".to_owned(),
            unheard_types: Vec::new(),
            under_way: 0,
            waiting: 0,
            parked: 0,
            in_doubt: 0,
            stuck: 0,
            standby: false,
            stalled: false,
            needs_person: false,
            events: 7,
            per_second: 0,
        }
    }

    #[test]
    fn what_stands_still_or_waits_for_a_person_is_a_problem_and_nothing_else() {
        let behind = ConsumerStatus { head: Position(9), ..consumer() };
        let standby =
            ConsumerStatus { standby: true, waits_for: "its turn".to_owned(), ..behind.clone() };
        let in_doubt = ConsumerStatus { in_doubt: 1, needs_person: true, ..consumer() };
        for calm in [consumer(), behind.clone(), standby, in_doubt] {
            assert!(!has_problem(&calm), "{calm:?}");
        }
        let away = ConsumerStatus {
            stalled: true,
            waits_for: "its target to come back: no".to_owned(),
            ..behind
        };
        assert_eq!(
            problem_json(&away)["detail"],
            "2 events behind, waits for its target to come back: no"
        );
        let parked = ConsumerStatus { parked: 3, needs_person: true, ..consumer() };
        let stuck = ConsumerStatus { stuck: 1, needs_person: true, ..consumer() };
        assert!(has_problem(&away) && has_problem(&parked) && has_problem(&stuck));
        assert_eq!(problem_json(&parked)["detail"], "3 events parked");
        assert_eq!(problem_json(&stuck)["detail"], "1 commands stuck");
    }
}
