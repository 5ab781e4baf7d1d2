//! Error of a call about a group.

use leftfold_core::store::Kind;
use leftfold_protocol::group_problem;
use leftfold_protocol::wire::group_problem::Problem;
use tonic::Code;

use crate::calls::UnansweredCall;

/// Error of a call about a group, or reason for which a consumer gets no more events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupCallError {
    /// There is no such group.
    #[error("there is no group of this name, create it first")]
    NotFound,
    /// There is such a group already.
    #[error("there is a group of this name, update it or choose another name")]
    Exists,
    /// The group has as many consumers as it may.
    #[error("the group has {limit} consumers, which is all that its options allow")]
    ConsumersMax {
        /// Consumers that the group may have.
        limit: u64,
    },
    /// A name or an option is beyond its limits.
    #[error("{detail}")]
    Invalid {
        /// Description of the fault.
        detail: String,
    },
    /// Another protocol has made the group.
    #[error("a client of another protocol made the group, change and consume it over that one")]
    Foreign,
    /// The user has not the right to it.
    #[error("{detail}")]
    Denied {
        /// Message of the server.
        detail: String,
    },
    /// The server, or the store, cannot be used now.
    #[error("{detail}")]
    Unavailable {
        /// Reason, for people.
        detail: String,
    },
    /// The server refused the call for another reason, or answered in an unknown way.
    #[error("the server refused: {detail}")]
    Refused {
        /// Message of the server.
        detail: String,
    },
}

impl GroupCallError {
    pub(crate) fn strange(what: impl ToString) -> Self {
        Self::Refused { detail: format!("the server answered with {}", what.to_string()) }
    }

    /// Returns what the error means to a caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound => Kind::NotFound,
            Self::Exists | Self::Foreign => Kind::Conflict,
            Self::ConsumersMax { .. } => Kind::Busy,
            Self::Invalid { .. } => Kind::Invalid,
            Self::Denied { .. } => Kind::Refused,
            Self::Unavailable { .. } => Kind::Unavailable,
            Self::Refused { .. } => Kind::Bug,
        }
    }
}

impl From<UnansweredCall> for GroupCallError {
    fn from(error: UnansweredCall) -> Self {
        let status = match error {
            UnansweredCall::Away(detail) => return Self::Unavailable { detail },
            UnansweredCall::Refused(status) => status,
        };
        let detail = status.message().to_owned();
        match group_problem(&status) {
            Some(Problem::NotFound(_)) => Self::NotFound,
            Some(Problem::Exists(_)) => Self::Exists,
            Some(Problem::ConsumersMax(limit)) => Self::ConsumersMax { limit },
            Some(Problem::Invalid(detail)) => Self::Invalid { detail },
            Some(Problem::Foreign(_)) => Self::Foreign,
            Some(
                Problem::Contended(_)
                | Problem::Unavailable(_)
                | Problem::Updated(_)
                | Problem::Stopped(_),
            ) => Self::Unavailable { detail },
            None => match status.code() {
                Code::PermissionDenied | Code::Unauthenticated => Self::Denied { detail },
                Code::InvalidArgument => Self::Invalid { detail },
                _ => Self::Refused { detail },
            },
        }
    }
}
