//! Errors as problem documents (RFC 9457).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use leftfold::fold::LoadError;
use leftfold::prelude::{ExecuteError, ProjectionError};
use leftfold::store::{AppendError, Kind, LeaseError, ReadError};
use serde_json::{Map, Value, json};

use crate::app::Starting;
use crate::domain::station::{CorrectionRefusal, StationRefusal};
use crate::read::ReadModelError;

/// An error, for programs and for people.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    more: Map<String, Value>,
}

impl Problem {
    /// Creates a problem. The code is a word for programs; the detail says what to do.
    #[must_use]
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into(), more: Map::new() }
    }

    /// Creates a problem with status 400: the request is not valid.
    #[must_use]
    pub(crate) fn bad_request(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// Creates a problem with status 401: nobody is known to call.
    #[must_use]
    pub(crate) fn unauthorized(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
    }

    /// Creates a problem with status 403: the caller may not do that.
    #[must_use]
    pub(crate) fn forbidden(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// Creates a problem with status 404: the thing does not exist.
    #[must_use]
    pub(crate) fn not_found(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, detail)
    }

    /// Adds a member.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// Returns the status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns what it says, for a page.
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// A failure that is not the caller's, with the status of its kind. Of what somebody has to
    /// mend the log has all, and the caller is told no more than that: it names places and types.
    pub(super) fn internal(kind: Kind, error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, ?kind, "a request failed");
        let status =
            StatusCode::from_u16(kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        match kind {
            Kind::Bug => Self::new(
                status,
                "internal",
                "the server's log says what is wrong; have somebody look at it",
            ),
            _ => Self::new(status, "store-failed", error.to_string()),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = json!({
            "type": format!("urn:leftfold:csms:{}", self.code),
            "title": self.code.replace('-', " "),
            "status": self.status.as_u16(),
            "detail": self.detail,
            "code": self.code,
        });
        if let Some(body) = body.as_object_mut() {
            body.extend(self.more);
        }
        let kind = HeaderValue::from_static("application/problem+json");
        (self.status, [(header::CONTENT_TYPE, kind)], body.to_string()).into_response()
    }
}

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Invalid(invalid) => Self::bad_request("invalid-id", invalid.to_string()),
            error => Self::internal(error.kind(), &error),
        }
    }
}

impl From<ReadModelError> for Problem {
    fn from(error: ReadModelError) -> Self {
        tracing::error!(%error, "a read model cannot be read");
        let error = ProjectionError::from(error);
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "read-model-away", format!("{error}; try again"))
    }
}

impl From<Starting> for Problem {
    fn from(starting: Starting) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "starting", starting.to_string())
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        Self::internal(error.kind(), &error)
    }
}

impl From<LeaseError> for Problem {
    fn from(error: LeaseError) -> Self {
        Self::internal(error.kind(), &error)
    }
}

impl From<ExecuteError<StationRefusal>> for Problem {
    fn from(error: ExecuteError<StationRefusal>) -> Self {
        match error {
            ExecuteError::Refused(refusal @ StationRefusal::Unknown) => {
                Self::not_found(refusal.code(), refusal.to_string())
            }
            ExecuteError::Refused(refusal) => {
                Self::new(StatusCode::CONFLICT, refusal.code(), refusal.to_string())
            }
            error => execute_failed(error),
        }
    }
}

impl From<ExecuteError<CorrectionRefusal>> for Problem {
    fn from(error: ExecuteError<CorrectionRefusal>) -> Self {
        match error {
            ExecuteError::Refused(refusal @ CorrectionRefusal::UnknownTransaction { .. }) => {
                Self::not_found(refusal.code(), refusal.to_string())
            }
            ExecuteError::Refused(refusal) => {
                Self::new(StatusCode::CONFLICT, refusal.code(), refusal.to_string())
            }
            error => execute_failed(error),
        }
    }
}

/// Returns the problem of a command that failed without a refusal by the domain.
pub(crate) fn execute_failed<R: std::error::Error>(error: ExecuteError<R>) -> Problem {
    match error {
        ExecuteError::Append(AppendError::CommandIdReused { .. }) => Problem::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency-key-reused",
            "the Idempotency-Key was used for another request before; choose a new one",
        ),
        ExecuteError::Invalid(invalid) => Problem::bad_request("invalid-id", invalid.to_string()),
        error => Problem::internal(error.kind(), &error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_status_of_its_kind_and_a_bug_tells_strangers_nothing() {
        let doubt = AppendError::Unknown { detail: "the sync failed".to_owned() };
        let failed = |error| Problem::from(ExecuteError::<StationRefusal>::Append(error));
        assert_eq!(
            (failed(doubt).status.as_u16(), failed(AppendError::Closed).status.as_u16()),
            (504, 503)
        );
        let damaged = Problem::from(ReadError::Damaged {
            place: "/srv/events/0001.log".to_owned(),
            detail: "a checksum".to_owned(),
        });
        assert_eq!((damaged.status.as_u16(), damaged.code), (500, "internal"));
        assert!(!damaged.detail.contains("/srv"), "{damaged:?}");
    }
}
