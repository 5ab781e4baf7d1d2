//! Parts of requests: bodies, bounds of lists, keys, positions.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use leftfold::prelude::{Position, Timestamp};
use leftfold::runtime::projection::NotReached;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::app::Csms;
use crate::http::Problem;
use crate::read::meter_values::MeterCursor;
use crate::read::signed_values::SignedCursor;

/// Items of a list if the caller gives no limit.
const LIMIT: usize = 50;
/// Items of a list at most.
pub(super) const LIMIT_MAX: usize = 500;

/// The bounds of a list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PageBounds {
    limit: Option<usize>,
    /// The cursor: the list goes on after it.
    pub(super) after: Option<String>,
}

impl PageBounds {
    /// Returns the number of items to list, 1 to [`LIMIT_MAX`].
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX)
    }

    /// Returns the cursor as a number; 0 if there is none.
    pub(super) fn after_number(&self) -> Result<u64, Problem> {
        let Some(after) = &self.after else { return Ok(0) };
        after.parse().map_err(|_| no_cursor())
    }

    /// Returns the cursor as a place among signed values; `None` if there is none.
    pub(super) fn after_signed(&self) -> Result<Option<SignedCursor>, Problem> {
        self.after.as_deref().map(|after| after.parse().map_err(|_| no_cursor())).transpose()
    }

    /// Returns the cursor as a place among meter values; `None` if there is none.
    pub(super) fn after_meter(&self) -> Result<Option<MeterCursor>, Problem> {
        self.after.as_deref().map(|after| after.parse().map_err(|_| no_cursor())).transpose()
    }
}

fn no_cursor() -> Problem {
    Problem::bad_request("invalid-query", "after is no cursor; take it from \"next\" of a page")
}

/// Position that the caller wants to see at least.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct At {
    at: Option<u64>,
}

/// Waits until a read model shows the position that the caller asks for by `?at=` or the header;
/// without that, for a moment, until it shows all that is durable now. Returns the position that it
/// has reached, as a header.
pub(super) async fn shown(
    csms: &Csms,
    name: &'static str,
    headers: &HeaderMap,
    at: At,
) -> Result<[(HeaderName, String); 1], Problem> {
    let in_header =
        headers.get(POSITION).map(|value| value.to_str().ok().and_then(|text| text.parse().ok()));
    let wanted = match (at.at, in_header) {
        (Some(at), _) | (None, Some(Some(at))) => Some(Position(at)),
        (None, Some(None)) => {
            return Err(Problem::bad_request("invalid-position", "leftfold-position is a number"));
        }
        (None, None) => None,
    };
    let projections = &csms.consumers()?.projections;
    let (position, within) =
        wanted.map_or((csms.store.head().position, SHOWN_WITHIN.0), |at| (at, SHOWN_WITHIN.1));
    let reached = match projections.wait_until(name, position, within).await {
        Ok(reached) => reached,
        Err(NotReached::Late { stands_at, waits_for, .. }) if wanted.is_some() => {
            let detail = format!(
                "{name} stands at {stands_at} and not at {position} yet, it waits for {waits_for}; try again"
            );
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "behind", detail);
            return Err(problem.with("standsAt", stands_at.0).with("waitsFor", waits_for));
        }
        Err(NotReached::Late { stands_at, .. }) => stands_at,
        Err(NotReached::Parked { stands_at, .. }) if wanted.is_none() => stands_at,
        Err(parked @ NotReached::Parked { .. }) => {
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "parked",
                parked.to_string(),
            ));
        }
        Err(unknown) => {
            return Err(Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "starting",
                unknown.to_string(),
            ));
        }
    };
    Ok(at_position(reached))
}

/// Returns a position as a header: the position of a write, or the position that is shown.
pub(super) fn at_position(position: Position) -> [(HeaderName, String); 1] {
    [(POSITION, position.0.to_string())]
}

const POSITION: HeaderName = HeaderName::from_static("leftfold-position");

/// Time to wait for a read model: first if the caller names no position, second if the caller names
/// one.
const SHOWN_WITHIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));

/// Reads a moment of the query; `None` if it is missing or empty.
pub(super) fn moment(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let invalid = |error| {
        Problem::bad_request(
            "invalid-query",
            format!("{name} is no time such as 2026-05-04T10:00:00Z: {error}"),
        )
    };
    text.filter(|text| !text.is_empty()).map(|text| text.parse().map_err(invalid)).transpose()
}

/// Cuts what was read, one item more than a page has, to the page. Returns the cursor of the next
/// page; `None` if this one is the last.
pub(super) fn cut<T>(
    found: &mut Vec<T>,
    limit: usize,
    cursor: impl FnOnce(&T) -> String,
) -> Option<String> {
    let more = found.len() > limit;
    found.truncate(limit);
    found.last().filter(|_| more).map(cursor)
}

/// Returns a page of a list, with the cursor of the next page.
pub(super) fn list(items: Vec<Value>, next: Option<String>) -> Value {
    json!({ "items": items, "next": next })
}

/// Returns the refusal of a transaction that nobody told of.
pub(super) fn unknown_transaction() -> Problem {
    Problem::not_found(
        "unknown-transaction",
        "there is no such transaction; list them to find its id",
    )
}

/// Returns the part of the path.
pub(super) fn path<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Problem> {
    path.map(|Path(part)| part)
        .map_err(|rejection| Problem::bad_request("invalid-path", rejection.body_text()))
}

/// Returns the query.
pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query
        .map(|Query(query)| query)
        .map_err(|rejection| Problem::bad_request("invalid-query", rejection.body_text()))
}

/// Returns the body.
pub(super) fn body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "send at most 64 KiB")
        }
        _ => Problem::bad_request("body-unreadable", rejection.body_text()),
    })
}

/// Reads the body as JSON.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        Problem::bad_request("invalid-json", format!("the body is not as expected: {error}"))
    })
}

/// Returns the key that makes a request take effect at most once, 1 to 255 bytes; `None` if there
/// is none.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Problem::bad_request(
            "invalid-idempotency-key",
            "the Idempotency-Key must be 1 to 255 ASCII characters",
        )),
    }
}
