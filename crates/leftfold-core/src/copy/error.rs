//! Errors of a copy.

use std::fmt;

use crate::fold::EventError;
use crate::runtime::RewriteError;
use crate::store::{
    AppendError, Invalid, Position, ReadError, RecordedEvent, StoreId, SubscribeError,
};

/// Error of a copy that does not go on. What was copied stays, and is right; the same call goes on
/// from there once the reason is gone.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CopyError {
    /// A store cannot be copied into itself.
    #[error("old and new are the same store {store}, copy into a new one")]
    SameStore {
        /// Id of that store.
        store: StoreId,
    },
    /// The new store holds events that this copy did not write: from before it began, or while it
    /// went on.
    #[error(
        "the new store holds an event at {found} that the copy did not write; copy into an empty store, which only the copy writes until the switch"
    )]
    Foreign {
        /// The first such event.
        found: Position,
    },
    /// Another process copies into the same store.
    #[error("another process copies into the new store, let one of them do it: {detail}")]
    Overtaken {
        /// Sign of the other process, for people.
        detail: String,
    },
    /// The function cannot be used for an event. Nothing of its append was written.
    #[error("the function failed at position {position} of the old store: {fault}")]
    Function {
        /// The event, or the first one of its append.
        position: Position,
        /// Fault of the function.
        fault: FunctionFault,
    },
    /// The function says something else of an event than it said when the event was copied.
    #[error(
        "the copy was made by another function: {0}; go on with that one, or begin again in an empty store"
    )]
    OtherFunction(Difference),
    /// The old store is not the one, or not in the state, that the copy was begun from.
    #[error("the old store is not the one that was copied so far: {0}")]
    OtherHistory(SubscribeError),
    /// The old store took an append during the switch.
    #[error(
        "the old store grew from {copied} to {head} during the switch; stop its writers and switch again"
    )]
    StillWritten {
        /// Position up to which the old store was copied.
        copied: Position,
        /// Durable end of the old store now.
        head: Position,
    },
    /// The switch is done: the new store goes its own way.
    #[error("the copy was switched over, the new store is no longer the copier's to write")]
    Switched,
    /// More consumers recorded a checkpoint than are carried over.
    #[error("more than {limit} consumers recorded checkpoints in the old store")]
    TooManyConsumers {
        /// Number of consumers that are carried over at most.
        limit: usize,
    },
    /// A position was asked for that is not copied yet.
    #[error("position {position} is not copied yet, the copy has come to {copied}")]
    NotYet {
        /// Position that was asked for.
        position: Position,
        /// Position up to which the copy has come.
        copied: Position,
    },
    /// A record of the runtime cannot be read, so it is not known which positions it speaks of.
    #[error(
        "the runtime's record at position {position} of the old store, in stream {stream}: {detail}; copy with the release that \
         wrote it, or leave the records of its category behind, with without()"
    )]
    Unreadable {
        /// Position of the record.
        position: Position,
        /// Its stream.
        stream: String,
        /// Reason, for people.
        detail: String,
    },
    /// A record of the runtime is of a kind that this release does not know, so it is not known
    /// which positions it speaks of.
    #[error(
        "the record at position {position} of the old store belongs to {category}, which this release does not know; copy with \
         the release that wrote it, or leave the records of that category behind, with without()"
    )]
    NoOwner {
        /// Position of the record.
        position: Position,
        /// Category of its stream; if it has none, the beginning of its type.
        category: String,
    },
    /// The copy's own records in the new store cannot be read.
    #[error("what the copy recorded of itself in the new store cannot be read: {0}")]
    Record(#[from] EventError),
    /// A name that the copy makes is not valid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The new store did not take an append.
    #[error("the new store took no more: {0}")]
    Append(#[from] AppendError),
}

impl CopyError {
    pub(super) fn unreadable(record: &RecordedEvent, why: &RewriteError) -> Self {
        if let RewriteError::NoOwner { category } = why {
            return Self::NoOwner { position: record.position, category: category.clone() };
        }
        let stream = record.stream.as_ref().map_or("", |at| &at.name).to_owned();
        Self::Unreadable { position: record.position, stream, detail: why.to_string() }
    }
}

/// A place where the new store is not what the function makes of the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The position in the old store.
    pub old: Position,
    /// The position in the new store.
    pub new: Position,
    /// Description of the difference.
    pub detail: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at old position {}, new position {}: {}", self.old, self.new, self.detail)
    }
}

/// Fault of the function, or of its answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FunctionFault {
    /// It panicked.
    #[error("it panicked: {message}")]
    Panicked {
        /// Message of the panic.
        message: String,
    },
    /// It refused an event.
    #[error("it refused: {reason}")]
    Refused {
        /// Reason that the function gave.
        reason: String,
    },
    /// It was given an append, and did not answer once for each event.
    #[error("it was given {events} events and answered for {answers}, answer for each of them")]
    Answers {
        /// Number of events of the append.
        events: usize,
        /// Number of its answers.
        answers: usize,
    },
    /// It named a type or stream of the runtime.
    #[error("{name:?} is a name of the runtime, use one without '$'")]
    System {
        /// The name.
        name: String,
    },
    /// The events that it made are beyond a limit, alone or together with the rest of their append:
    /// an append stays one.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}
