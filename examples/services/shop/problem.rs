//! Errors as answers: a status, a word for programs, a sentence for people.

use std::error::Error;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use leftfold::fold::{EventError, LoadError};
use leftfold::prelude::*;
use leftfold::runtime::projection::{NotReached, with_causes};
use leftfold::sqlite::SqliteError;
use leftfold::store::AppendError;
use serde_json::json;

use crate::refusal::Refusal;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
}

// ANCHOR: problem
impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, code, detail: detail.into() }
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    pub(crate) fn refused(refusal: &Refusal) -> Self {
        let (kind, code) = refusal.meaning();
        Self { code, ..Self::of(kind, refusal) }
    }

    /// Says what an error of Leftfold means to the caller. A bug is for the log of the program: it
    /// names places and types.
    fn of(kind: Kind, error: &(dyn Error + 'static)) -> Self {
        let (code, detail) = match kind {
            Kind::Refused | Kind::Conflict | Kind::NotFound | Kind::Invalid => {
                ("not-possible", error.to_string())
            }
            Kind::InDoubt => {
                ("in-doubt", "it may have taken effect: send it again with the same key".to_owned())
            }
            kind if kind.may_be_tried_again() => {
                ("later", "send it again, with the same key".to_owned())
            }
            _ => ("bug", "something is wrong here, and not with the request".to_owned()),
        };
        let status =
            StatusCode::from_u16(kind.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if status.is_server_error() {
            eprintln!("a request was answered with {status}: {}", with_causes(error));
        }
        Self::new(status, code, detail)
    }
}

impl From<ExecuteError<Refusal>> for Problem {
    fn from(error: ExecuteError<Refusal>) -> Self {
        match error {
            ExecuteError::Refused(refusal) => Self::refused(&refusal),
            ExecuteError::Append(AppendError::CommandIdReused { .. }) => {
                let detail =
                    "the Idempotency-Key was sent with another request before; take a new one";
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", detail)
            }
            error => Self::of(error.kind(), &error),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { status, code, detail } = self;
        let body = json!({ "status": status.as_u16(), "code": code, "detail": detail }).to_string();
        let mut response =
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        }
        response
    }
}
// ANCHOR_END: problem

const RETRY_AFTER_SECONDS: u16 = 1;

impl From<LoadError> for Problem {
    fn from(error: LoadError) -> Self {
        Self::of(error.kind(), &error)
    }
}

impl From<EventError> for Problem {
    fn from(error: EventError) -> Self {
        Self::of(error.kind(), &error)
    }
}

impl From<NotReached> for Problem {
    fn from(error: NotReached) -> Self {
        Self::of(error.kind(), &error)
    }
}

/// The list is being built, its files cannot be read, or a statement is wrong.
impl From<SqliteError> for Problem {
    fn from(error: SqliteError) -> Self {
        Self::of(error.kind(), &error)
    }
}

impl From<tokio::task::JoinError> for Problem {
    fn from(error: tokio::task::JoinError) -> Self {
        Self::of(Kind::Bug, &error)
    }
}
