//! Errors of calls about groups, and reasons for which consumers are ended.

use leftfold::store::{AppendError, LeaseError, ReadError, SubscribeError};

/// Error of a call about a group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GroupError {
    /// There is no such group.
    #[error("there is no group of this name, create it first")]
    NotFound,
    /// There is such a group already.
    #[error("there is a group of this name, update it or choose another name")]
    Exists,
    /// The group has as many consumers as it may.
    #[error("the group has {limit} consumers, which is all that its settings allow")]
    ConsumersMax {
        /// Consumers that the group may have.
        limit: usize,
    },
    /// A name or a setting is beyond its limits.
    #[error("{detail}")]
    Invalid {
        /// Description of the fault.
        detail: String,
    },
    /// Others change the group all the time.
    #[error("the group is changed by others all the time, ask again")]
    Contended,
    /// The store did not answer as it should.
    #[error("the store does not serve the group now, ask again: {detail}")]
    Unavailable {
        /// Reason, for people.
        detail: String,
    },
}

impl GroupError {
    pub(super) fn unavailable(why: impl ToString) -> Self {
        Self::Unavailable { detail: why.to_string() }
    }
}

impl From<ReadError> for GroupError {
    fn from(error: ReadError) -> Self {
        Self::unavailable(error)
    }
}

impl From<AppendError> for GroupError {
    fn from(error: AppendError) -> Self {
        Self::unavailable(error)
    }
}

impl From<LeaseError> for GroupError {
    fn from(error: LeaseError) -> Self {
        Self::unavailable(error)
    }
}

impl From<SubscribeError> for GroupError {
    fn from(error: SubscribeError) -> Self {
        Self::unavailable(error)
    }
}

/// Reason for which a consumer gets no more events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GroupEnd {
    /// The group was deleted.
    #[error("the group was deleted")]
    Deleted,
    /// The group was updated by somebody who wanted its consumers to come back.
    #[error("the group has other settings now, consume again")]
    Updated,
    /// The consumer, or somebody for it, asked for the end.
    #[error("the consumer was stopped")]
    Stopped,
    /// Another server serves the group, or its store does not answer.
    #[error("this server does not serve the group any more, consume again: {detail}")]
    Away {
        /// Reason, for people.
        detail: String,
    },
}
