//! Answers of appends: outcomes, and errors with everything that they carry.

use bytes::Bytes;
use leftfold_core::store::{
    Answered, AppendError, Appended, CommandId, Conflict, Fence, Invalid, Label, Outcome, Position,
    ReadError, StreamName, Timestamp, Version,
};

use crate::malformed::{Malformed, exactly, kept, some};
use crate::wire::{self, append_answer, append_problem, conflict, invalid};

/// Returns the message with the answer of the append of that number, without the durable end.
#[must_use]
pub fn answer_of(number: u64, answer: Result<Outcome, AppendError>) -> wire::AppendAnswer {
    let outcome = match answer {
        Ok(Outcome::Appended(appended)) => append_answer::Outcome::Appended(appended.into()),
        Ok(Outcome::Repeated(answered)) => append_answer::Outcome::Repeated(answered.into()),
        Ok(Outcome::Conflict(conflict)) => append_answer::Outcome::Conflict(conflict.into()),
        Err(error) => append_answer::Outcome::Problem(error.into()),
    };
    wire::AppendAnswer { number, outcome: Some(outcome), head: None }
}

/// Reads the answer of an append.
///
/// # Errors
/// [`Malformed`] if it says neither what came of the append nor why there is no outcome.
pub fn outcome_of(
    outcome: append_answer::Outcome,
) -> Result<Result<Outcome, AppendError>, Malformed> {
    Ok(match outcome {
        append_answer::Outcome::Appended(appended) => Ok(Outcome::Appended(appended.into())),
        append_answer::Outcome::Repeated(answered) => Ok(Outcome::Repeated(answered.try_into()?)),
        append_answer::Outcome::Conflict(conflict) => Ok(Outcome::Conflict(conflict.try_into()?)),
        append_answer::Outcome::Problem(problem) => Err(problem.try_into()?),
    })
}

impl From<Appended> for wire::Appended {
    fn from(appended: Appended) -> Self {
        Self {
            first: appended.first.0,
            versions: appended.versions.into_iter().map(|version| version.0).collect(),
            recorded_at: appended.recorded_at.as_micros(),
        }
    }
}

impl From<wire::Appended> for Appended {
    fn from(appended: wire::Appended) -> Self {
        Self {
            first: Position(appended.first),
            versions: appended.versions.into_iter().map(Version).collect(),
            recorded_at: Timestamp::from_micros(appended.recorded_at),
        }
    }
}

impl From<Answered> for wire::AnsweredCommand {
    fn from(answered: Answered) -> Self {
        Self {
            record: Some(answered.record.into()),
            recorded_at: answered.recorded_at.as_micros(),
            first: answered.first.0,
            events: answered.events,
        }
    }
}

impl TryFrom<wire::AnsweredCommand> for Answered {
    type Error = Malformed;

    fn try_from(answered: wire::AnsweredCommand) -> Result<Self, Malformed> {
        Ok(Self {
            record: some("record", answered.record)?.try_into()?,
            recorded_at: Timestamp::from_micros(answered.recorded_at),
            first: Position(answered.first),
            events: answered.events,
        })
    }
}

impl From<Conflict> for wire::Conflict {
    fn from(conflict: Conflict) -> Self {
        let conflict = match conflict {
            Conflict::Stream { stream, expected, actual } => {
                conflict::Conflict::Stream(wire::StreamConflict {
                    stream: stream.as_str().to_owned(),
                    expected: Some(expected.into()),
                    actual: actual.0,
                })
            }
            Conflict::Matching { clause, after, found } => {
                conflict::Conflict::Matching(wire::MatchingConflict {
                    // A condition has few queries.
                    clause: u32::try_from(clause).unwrap_or(u32::MAX),
                    after: after.0,
                    found: found.0,
                })
            }
        };
        Self { conflict: Some(conflict) }
    }
}

impl TryFrom<wire::Conflict> for Conflict {
    type Error = Malformed;

    fn try_from(conflict: wire::Conflict) -> Result<Self, Malformed> {
        Ok(match some("conflict", conflict.conflict)? {
            conflict::Conflict::Stream(at) => Self::Stream {
                stream: StreamName::new(at.stream)?,
                expected: some("expected", at.expected)?.try_into()?,
                actual: Version(at.actual),
            },
            conflict::Conflict::Matching(at) => Self::Matching {
                clause: at.clause as usize,
                after: Position(at.after),
                found: Position(at.found),
            },
        })
    }
}

impl From<AppendError> for wire::AppendProblem {
    fn from(error: AppendError) -> Self {
        use append_problem::Problem;
        let message = error.to_string();
        let problem = match error {
            AppendError::Invalid(invalid) => Problem::Invalid(invalid.into()),
            AppendError::CommandIdReused { id } => {
                Problem::CommandIdReused(Bytes::copy_from_slice(&id.0))
            }
            AppendError::CheckpointMoved { consumer, current, from, proposed } => {
                Problem::CheckpointMoved(wire::CheckpointMoved {
                    consumer: consumer.as_str().to_owned(),
                    current: current.0,
                    from: Some(from.into()),
                    proposed: proposed.0,
                })
            }
            AppendError::Fenced { work, fence, current } => Problem::Fenced(wire::Fenced {
                work: work.as_str().to_owned(),
                fence: fence.0,
                current: current.map(|fence| fence.0),
            }),
            AppendError::Busy { waiting } => Problem::Busy(waiting as u64),
            AppendError::Full { detail } => Problem::Full(detail),
            AppendError::Unknown { detail } => Problem::Unknown(detail),
            AppendError::ReadOnly { detail } => Problem::ReadOnly(detail),
            AppendError::ReadModel { projection, detail } => {
                let projection = projection.to_owned();
                Problem::ReadModel(wire::ReadModelProblem { projection, detail })
            }
            AppendError::Unavailable { detail } => Problem::Unavailable(detail),
            AppendError::Denied { detail } => Problem::Denied(detail),
            AppendError::Closed => Problem::Closed(wire::Empty {}),
            AppendError::Read(error) => Problem::Read(error.into()),
        };
        Self { message, problem: Some(problem) }
    }
}

impl From<Malformed> for wire::AppendProblem {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Invalid(invalid) => AppendError::Invalid(invalid).into(),
            other => Self {
                message: other.to_string(),
                problem: Some(append_problem::Problem::Malformed(other.to_string())),
            },
        }
    }
}

impl TryFrom<wire::AppendProblem> for AppendError {
    type Error = Malformed;

    fn try_from(problem: wire::AppendProblem) -> Result<Self, Malformed> {
        use append_problem::Problem;
        // A problem of a later version of the protocol has a message, and nothing was written:
        // only `unknown` means that something may have been.
        let Some(known) = problem.problem else {
            return Ok(Self::Unavailable { detail: problem.message });
        };
        Ok(match known {
            Problem::Invalid(invalid) => Self::Invalid(invalid.try_into()?),
            Problem::CommandIdReused(id) => {
                Self::CommandIdReused { id: CommandId(exactly("command id", &id)?) }
            }
            Problem::CheckpointMoved(moved) => Self::CheckpointMoved {
                consumer: Label::new(moved.consumer)?,
                current: Position(moved.current),
                from: some("from", moved.from)?.try_into()?,
                proposed: Position(moved.proposed),
            },
            Problem::Fenced(fenced) => Self::Fenced {
                work: Label::new(fenced.work)?,
                fence: Fence(fenced.fence),
                current: fenced.current.map(Fence),
            },
            Problem::Busy(waiting) => {
                Self::Busy { waiting: usize::try_from(waiting).unwrap_or(usize::MAX) }
            }
            Problem::Full(detail) => Self::Full { detail },
            Problem::Unknown(detail) => Self::Unknown { detail },
            Problem::ReadOnly(detail) => Self::ReadOnly { detail },
            Problem::ReadModel(refused) => Self::ReadModel {
                projection: kept(&refused.projection, "of the server"),
                detail: refused.detail,
            },
            Problem::Unavailable(detail) | Problem::Malformed(detail) => {
                Self::Unavailable { detail }
            }
            Problem::Denied(detail) => Self::Denied { detail },
            Problem::Closed(_) => Self::Closed,
            Problem::Read(error) => Self::Read(ReadError::try_from(error)?),
        })
    }
}

impl From<Invalid> for wire::Invalid {
    fn from(invalid: Invalid) -> Self {
        let invalid = match invalid {
            Invalid::TooLarge { what, size, limit } => invalid::Invalid::TooLarge(wire::TooLarge {
                what: what.to_owned(),
                size: size as u64,
                limit: limit as u64,
            }),
            Invalid::Empty { what } => invalid::Invalid::Empty(what.to_owned()),
            Invalid::Reserved { what, name } => {
                invalid::Invalid::Reserved(wire::Reserved { what: what.to_owned(), name })
            }
            Invalid::Category { category } => invalid::Invalid::Category(category),
        };
        Self { invalid: Some(invalid) }
    }
}

impl TryFrom<wire::Invalid> for Invalid {
    type Error = Malformed;

    fn try_from(invalid: wire::Invalid) -> Result<Self, Malformed> {
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(match some("invalid", invalid.invalid)? {
            invalid::Invalid::TooLarge(large) => Self::TooLarge {
                what: kept(&large.what, "a value"),
                size: count(large.size),
                limit: count(large.limit),
            },
            invalid::Invalid::Empty(what) => Self::Empty { what: kept(&what, "a value") },
            invalid::Invalid::Reserved(reserved) => {
                Self::Reserved { what: kept(&reserved.what, "a name"), name: reserved.name }
            }
            invalid::Invalid::Category(category) => Self::Category { category },
        })
    }
}
