//! Errors of calls that answer once: a status of gRPC for every client, and the store's own error,
//! with all that it carries, in its details.

use bytes::Bytes;
use leftfold_core::store::{Kind, LeaseError, ReadError, SubscribeError};
use prost::Message;
use tonic::{Code, Status};

use crate::malformed::{Malformed, some, uuid_bytes};
use crate::wire::{self, group_problem, lease_problem, read_problem};

const READ_PROBLEM: &str = "type.googleapis.com/leftfold.v1.ReadProblem";
const LEASE_PROBLEM: &str = "type.googleapis.com/leftfold.v1.LeaseProblem";
const GROUP_PROBLEM: &str = "type.googleapis.com/leftfold.v1.GroupProblem";

/// Returns the status by which a server answers a read with an error.
#[must_use]
pub fn read_status(error: &ReadError) -> Status {
    let problem = wire::ReadProblem::from(error.clone());
    let code = match error {
        ReadError::Denied { .. } => Code::PermissionDenied,
        other => code(other.kind()),
    };
    status(code, error.to_string(), READ_PROBLEM, &problem)
}

/// Returns the status by which a server ends a subscription.
#[must_use]
pub fn subscribe_status(error: &SubscribeError) -> Status {
    use read_problem::Problem;
    let problem = match error {
        SubscribeError::OtherStore { expected, actual } => Problem::OtherStore(wire::OtherStore {
            expected: uuid_bytes(expected.0),
            actual: uuid_bytes(actual.0),
        }),
        SubscribeError::Ahead { checkpoint, head } => {
            Problem::Ahead(wire::CheckpointAhead { checkpoint: checkpoint.0, head: head.0 })
        }
        SubscribeError::OtherHistory { position } => Problem::OtherHistory(position.0),
        SubscribeError::Read(error) => return read_status(error),
    };
    let problem = wire::ReadProblem { problem: Some(problem) };
    status(code(error.kind()), error.to_string(), READ_PROBLEM, &problem)
}

/// Returns the status by which a server answers a request for a lease with an error.
#[must_use]
pub fn lease_status(error: &LeaseError) -> Status {
    let problem = wire::LeaseProblem::from(error.clone());
    let code = match error {
        LeaseError::Denied { .. } => Code::PermissionDenied,
        other => code(other.kind()),
    };
    status(code, error.to_string(), LEASE_PROBLEM, &problem)
}

/// Reads the error of a read from the status of a call; `None` if the store did not answer: the
/// server, or something on the way, refused the call.
#[must_use]
pub fn read_error(status: &Status) -> Option<ReadError> {
    detail::<wire::ReadProblem>(status, READ_PROBLEM)?.try_into().ok()
}

/// Reads the error of a request for a lease from the status of a call; `None` if the store did not
/// answer.
#[must_use]
pub fn lease_error(status: &Status) -> Option<LeaseError> {
    detail::<wire::LeaseProblem>(status, LEASE_PROBLEM)?.try_into().ok()
}

/// Returns the status by which a server refuses a call about a group, or ends a consumer.
#[must_use]
pub fn group_status(problem: group_problem::Problem, message: String) -> Status {
    use group_problem::Problem;
    let code = match &problem {
        Problem::NotFound(_) => Code::NotFound,
        Problem::Exists(_) => Code::AlreadyExists,
        Problem::ConsumersMax(_) => Code::ResourceExhausted,
        Problem::Invalid(_) => Code::InvalidArgument,
        Problem::Contended(_) | Problem::Updated(_) | Problem::Stopped(_) => Code::Aborted,
        Problem::Unavailable(_) => Code::Unavailable,
        Problem::Foreign(_) => Code::FailedPrecondition,
    };
    status(code, message, GROUP_PROBLEM, &wire::GroupProblem { problem: Some(problem) })
}

/// Reads the problem of a call about a group from its status; `None` if the call was refused, or
/// failed, for another reason.
#[must_use]
pub fn group_problem(status: &Status) -> Option<group_problem::Problem> {
    detail::<wire::GroupProblem>(status, GROUP_PROBLEM)?.problem
}

/// The code by which clients in other languages know what they can do about an error.
fn code(kind: Kind) -> Code {
    match kind {
        Kind::Invalid => Code::InvalidArgument,
        Kind::NotFound => Code::NotFound,
        Kind::Busy => Code::ResourceExhausted,
        Kind::Unavailable => Code::Unavailable,
        Kind::Refused | Kind::Conflict => Code::FailedPrecondition,
        Kind::InDoubt => Code::Unknown,
        Kind::Bug => Code::DataLoss,
        _ => Code::Internal,
    }
}

fn status(code: Code, message: String, type_url: &str, problem: &impl Message) -> Status {
    let detail =
        wire::StatusDetail { type_url: type_url.to_owned(), value: problem.encode_to_vec().into() };
    let details =
        wire::StatusDetails { code: code.into(), message: message.clone(), details: vec![detail] };
    Status::with_details(code, message, Bytes::from(details.encode_to_vec()))
}

fn detail<T: Message + Default>(status: &Status, type_url: &str) -> Option<T> {
    let details = wire::StatusDetails::decode(status.details()).ok()?;
    let detail = details.details.into_iter().find(|detail| detail.type_url == type_url)?;
    T::decode(detail.value).ok()
}

impl From<ReadError> for wire::ReadProblem {
    fn from(error: ReadError) -> Self {
        use read_problem::Problem;
        let problem = match error {
            ReadError::Invalid(invalid) => Problem::Invalid(invalid.into()),
            ReadError::Busy { waiting } => Problem::Busy(waiting as u64),
            ReadError::Damaged { place, detail } => {
                Problem::Damaged(wire::Damaged { place, detail })
            }
            ReadError::Io { detail } => Problem::Io(detail),
            ReadError::Denied { detail } => Problem::Denied(detail),
            ReadError::NoHistory => Problem::NoHistory(wire::Empty {}),
            ReadError::Closed => Problem::Closed(wire::Empty {}),
        };
        Self { problem: Some(problem) }
    }
}

impl TryFrom<wire::ReadProblem> for ReadError {
    type Error = Malformed;

    fn try_from(problem: wire::ReadProblem) -> Result<Self, Malformed> {
        use read_problem::Problem;
        Ok(match some("problem", problem.problem)? {
            Problem::Invalid(invalid) => Self::Invalid(invalid.try_into()?),
            Problem::Busy(waiting) => {
                Self::Busy { waiting: usize::try_from(waiting).unwrap_or(usize::MAX) }
            }
            Problem::Damaged(damaged) => {
                Self::Damaged { place: damaged.place, detail: damaged.detail }
            }
            Problem::Io(detail) => Self::Io { detail },
            Problem::Denied(detail) => Self::Denied { detail },
            Problem::NoHistory(_) => Self::NoHistory,
            Problem::Closed(_) => Self::Closed,
            // These end subscriptions, which are no reads.
            Problem::OtherStore(_) | Problem::Ahead(_) | Problem::OtherHistory(_) => {
                return Err(Malformed::Absent { field: "problem of a read" });
            }
        })
    }
}

impl From<LeaseError> for wire::LeaseProblem {
    fn from(error: LeaseError) -> Self {
        use lease_problem::Problem;
        let problem = match error {
            LeaseError::Invalid(invalid) => Problem::Invalid(invalid.into()),
            LeaseError::TooMany { limit } => Problem::TooMany(limit as u64),
            LeaseError::Unavailable { detail } => Problem::Unavailable(detail),
            LeaseError::Denied { detail } => Problem::Denied(detail),
            LeaseError::Closed => Problem::Closed(wire::Empty {}),
        };
        Self { problem: Some(problem) }
    }
}

impl TryFrom<wire::LeaseProblem> for LeaseError {
    type Error = Malformed;

    fn try_from(problem: wire::LeaseProblem) -> Result<Self, Malformed> {
        use lease_problem::Problem;
        Ok(match some("problem", problem.problem)? {
            Problem::Invalid(invalid) => Self::Invalid(invalid.try_into()?),
            Problem::TooMany(limit) => {
                Self::TooMany { limit: usize::try_from(limit).unwrap_or(usize::MAX) }
            }
            Problem::Unavailable(detail) => Self::Unavailable { detail },
            Problem::Denied(detail) => Self::Denied { detail },
            Problem::Closed(_) => Self::Closed,
        })
    }
}
