//! What callers send: bodies, bounds of lists, keys.

use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, PathRejection, QueryRejection};
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Problem;

/// Items of a list where the caller does not say.
const LIMIT: usize = 50;
/// Items of a list at most.
pub(super) const LIMIT_MAX: usize = 500;

/// The bounds of a list.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Bounds {
    limit: Option<usize>,
    /// The cursor: the list goes on after it.
    pub(super) after: Option<String>,
}

impl Bounds {
    /// How many items are wanted.
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX)
    }

    /// The cursor as a number; 0 where there is none.
    pub(super) fn after_number(&self) -> Result<u64, Problem> {
        let Some(after) = &self.after else { return Ok(0) };
        after.parse().map_err(|_| Problem::bad_request("invalid-query", "after is no cursor; take it from \"next\" of a page"))
    }
}

/// A list, and how it goes on.
pub(super) fn list(items: Vec<Value>, next: Option<String>) -> Value {
    json!({ "items": items, "next": next })
}

/// The part of the path.
pub(super) fn path<T>(path: Result<Path<T>, PathRejection>) -> Result<T, Problem> {
    path.map(|Path(part)| part).map_err(|rejection| Problem::bad_request("invalid-path", rejection.body_text()))
}

/// The query.
pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|rejection| Problem::bad_request("invalid-query", rejection.body_text()))
}

/// The body.
pub(super) fn body(body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "send at most 64 KiB"),
        _ => Problem::bad_request("body-unreadable", rejection.body_text()),
    })
}

/// The body as JSON.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::bad_request("invalid-json", format!("the body is not as expected: {error}")))
}

/// The key that makes a request take effect at most once, 1 to 255 bytes.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Problem::bad_request("invalid-idempotency-key", "the Idempotency-Key must be 1 to 255 ASCII characters")),
    }
}
