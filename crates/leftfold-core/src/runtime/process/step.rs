//! Results of a step of a process, and the reasons why one did not succeed.

use crate::fold::{EventError, LoadError};
use crate::store::{ReadError, SubscribeError, Timestamp};

/// Result of one step of a process.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Something was done, and there may be more.
    Worked,
    /// There is nothing to do before this moment, or before something new is recorded.
    Idle(Timestamp),
    /// It cannot go on before this moment, for this reason.
    Stalled(String, Timestamp),
    /// It cannot go on before a person does something; until then it looks again at this moment.
    NeedsPerson(String, Timestamp),
    /// The store is closed.
    Closed,
}

/// Reason why a step of a process did not succeed.
pub(super) enum ProcessTrouble {
    /// Others wrote, or it is not known whether something was written: begin again from the log.
    Begin(String),
    /// Another runner has the work.
    Fenced,
    /// The store cannot be used now.
    Store(String),
    /// Something would have to be parked, and too much is.
    Full,
    Closed,
}

impl From<LoadError> for ProcessTrouble {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Read(ReadError::Closed) => Self::Closed,
            error => Self::Store(format!("the log to be read: {error}")),
        }
    }
}

impl From<ReadError> for ProcessTrouble {
    fn from(error: ReadError) -> Self {
        LoadError::from(error).into()
    }
}

impl From<SubscribeError> for ProcessTrouble {
    fn from(error: SubscribeError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<EventError> for ProcessTrouble {
    fn from(error: EventError) -> Self {
        Self::Store(error.to_string())
    }
}
