//! Problems of users, sessions and tokens.

use axum::http::StatusCode;
use leftfold::prelude::{ExecuteError, Kind};

use super::Problem;
use super::problem::execute_failed;
use crate::domain::person::{ApiTokenRefusal, UserAccountRefusal};
use crate::people::{LoginError, PasswordFault, PeopleError};

impl From<PeopleError> for Problem {
    fn from(error: PeopleError) -> Self {
        match error {
            PeopleError::User(ExecuteError::Refused(refusal)) => refused(&refusal),
            PeopleError::User(error) => execute_failed(error),
            PeopleError::Token(ExecuteError::Refused(refusal @ ApiTokenRefusal::Unknown)) => {
                Self::not_found("unknown-token", refusal.to_string())
            }
            PeopleError::Token(error) => execute_failed(error),
            PeopleError::Add(ExecuteError::Refused(taken)) => {
                Self::new(StatusCode::CONFLICT, "name-taken", taken.to_string())
            }
            PeopleError::Add(error) => execute_failed(error),
            PeopleError::Password(fault @ PasswordFault::Busy) => busy(fault.to_string()),
            PeopleError::Password(fault) => {
                Self::bad_request("invalid-password", fault.to_string())
            }
            PeopleError::Name => Self::bad_request("invalid-name", error.to_string()),
            PeopleError::Keys(error) => Self::internal(error.kind(), &error),
            PeopleError::Load(error) => error.into(),
            PeopleError::Read(error) => error.into(),
            error => Self::internal(Kind::Unavailable, &error),
        }
    }
}

fn refused(refusal: &UserAccountRefusal) -> Problem {
    match refusal {
        UserAccountRefusal::Unknown => Problem::not_found(refusal.code(), refusal.to_string()),
        _ => Problem::new(StatusCode::CONFLICT, refusal.code(), refusal.to_string()),
    }
}

fn busy(detail: String) -> Problem {
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-passwords", detail)
}

impl From<LoginError> for Problem {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Wrong => Self::unauthorized("wrong-login", error.to_string()),
            LoginError::Disabled => Self::forbidden("user-disabled", error.to_string()),
            LoginError::People(error) => error.into(),
        }
    }
}
