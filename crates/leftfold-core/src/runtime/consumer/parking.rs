//! Parking: what fails again and again waits for a person, with what must come after it.
//!
//! Processes and projections keep what they park each in their own way; the limit and the errors
//! of what people ask are the same.

use crate::store::{Kind, Position};

// ANCHOR: limits
/// Triggers that one process parks, or items that one version of a projection parks, at most; at
/// the next one that would be one more, it stops.
pub const PARKED_MAX: usize = 10_000;
// ANCHOR_END: limits

/// Error of a request about what is parked that could not be carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No process of this runtime has the name.
    #[error(
        "no process of this runtime is named {name}, register it with Runtime::process or write the NAME of one that is"
    )]
    UnknownProcess {
        /// The name.
        name: String,
    },
    /// No projection of this runtime has the name.
    #[error(
        "no projection of this runtime is named {name}, register it with Runtime::project or write the NAME of one that is"
    )]
    UnknownProjection {
        /// The name.
        name: String,
    },
    /// It is not parked, or no longer.
    #[error("{}, list what is", not_parked(*position))]
    NotParked {
        /// The event, if one of a projection was named; `None` for what is asked of a process.
        position: Option<Position>,
    },
    /// It fails again.
    #[error("it fails again at {position}, mend that or skip it: {why}")]
    FailsAgain {
        /// Position of the trigger.
        position: Position,
        /// Reason, for people.
        why: String,
    },
    /// The target of a projection failed. The request may have been carried out, or not.
    #[error("the target cannot be used, look again what is parked when it is back: {detail}")]
    Away {
        /// Message of the target.
        detail: String,
    },
    /// The store failed, or another runtime has the work.
    #[error("it could not be done: {detail}")]
    Store {
        /// Description of the failure.
        detail: String,
    },
    /// The runtime has stopped.
    #[error("the runtime has stopped")]
    Stopped,
}

impl AskError {
    /// Returns the meaning of the error to a caller. The cause of a repeated failure has to be
    /// fixed.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::UnknownProcess { .. }
            | Self::UnknownProjection { .. }
            | Self::NotParked { .. } => Kind::NotFound,
            Self::FailsAgain { .. } => Kind::Bug,
            Self::Away { .. } | Self::Store { .. } | Self::Stopped => Kind::Unavailable,
        }
    }
}

fn not_parked(position: Option<Position>) -> String {
    match position {
        Some(position) => format!("the event at {position} is not parked"),
        None => "nothing is parked there".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_requests_about_what_is_parked_read_as_they_did_when_each_kind_had_its_own() {
        let (name, detail) = ("x".to_owned(), "no".to_owned());
        let table = [
            (
                AskError::UnknownProcess { name: name.clone() },
                "no process of this runtime is named x, register it with Runtime::process or write \
                 the NAME of one that is",
                Kind::NotFound,
            ),
            (
                AskError::UnknownProjection { name },
                "no projection of this runtime is named x, register it with Runtime::project or \
                 write the NAME of one that is",
                Kind::NotFound,
            ),
            (
                AskError::NotParked { position: None },
                "nothing is parked there, list what is",
                Kind::NotFound,
            ),
            (
                AskError::NotParked { position: Some(Position(7)) },
                "the event at 7 is not parked, list what is",
                Kind::NotFound,
            ),
            (
                AskError::FailsAgain { position: Position(7), why: detail.clone() },
                "it fails again at 7, mend that or skip it: no",
                Kind::Bug,
            ),
            (
                AskError::Away { detail: detail.clone() },
                "the target cannot be used, look again what is parked when it is back: no",
                Kind::Unavailable,
            ),
            (AskError::Store { detail }, "it could not be done: no", Kind::Unavailable),
            (AskError::Stopped, "the runtime has stopped", Kind::Unavailable),
        ];
        for (error, says, kind) in table {
            assert_eq!((error.to_string().as_str(), error.kind()), (says, kind));
        }
    }
}
