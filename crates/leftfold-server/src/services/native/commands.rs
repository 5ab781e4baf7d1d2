//! Ids of the commands of a caller, as the store has them.

use leftfold::store::{AppendError, CommandId, Outcome};

use crate::users::{Caller, UserRole, Wish};

/// Context from which the ids of callers are derived that are no runtime.
const OF_CLIENTS: &str = "leftfold command id of a client v1";

/// Space of the command ids of a caller.
///
/// The runtime derives its ids from names and numbers that its readers know, so a caller who could
/// use one up would keep a command of a process, or a recurring one, from being carried out. Those
/// of the role `append` have a space of their own, in which none of the runtime is.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommandSpace {
    is_of_runtime: bool,
}

impl CommandSpace {
    /// Returns the space for what the caller may do now.
    pub(super) fn of(caller: &Caller, store: &str) -> Self {
        Self { is_of_runtime: caller.has(store, Wish::Role(UserRole::Runtime)) }
    }

    /// Returns the id that the store has for one of the caller's.
    pub(super) fn kept(self, id: CommandId) -> CommandId {
        if self.is_of_runtime {
            return id;
        }
        let derived = blake3::derive_key(OF_CLIENTS, &id.0);
        CommandId(*derived.first_chunk().expect("a hash has 32 bytes"))
    }
}

/// Gives an answer the id that its caller knows.
pub(super) fn answer_with(
    id: CommandId,
    answer: Result<Outcome, AppendError>,
) -> Result<Outcome, AppendError> {
    match answer {
        Ok(Outcome::Repeated(mut answered)) => {
            answered.record.id = id;
            Ok(Outcome::Repeated(answered))
        }
        Err(AppendError::CommandIdReused { .. }) => Err(AppendError::CommandIdReused { id }),
        other => other,
    }
}
