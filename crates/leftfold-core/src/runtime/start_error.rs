//! Errors of starting a runtime.

use std::time::Duration;

use crate::fold::EventError;
use crate::store::{EventType, Invalid, ReadError, SubscribeError};

/// Error of starting a runtime. Nothing runs then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The target's events have no such type.
    #[error(
        "{effect_type} ({effect}) is asked for by {intent}, which is no event type of its target: set INTENT to one of {}",
        known.join(", ")
    )]
    UnknownIntent {
        /// The type of the effect.
        effect_type: &'static str,
        /// The types that its target's events have.
        known: Vec<String>,
        /// The effect.
        effect: &'static str,
        /// The type that it names.
        intent: &'static str,
    },
    /// Two consumers have one name.
    #[error("{}", taken("named", name, types, "NAME"))]
    NameTaken {
        /// The name.
        name: &'static str,
        /// Their types.
        types: [&'static str; 2],
    },
    /// A name, or the type of an intent, is not valid.
    #[error("the {constant} of {type_name} cannot be {value:?}, change it: {error}")]
    Name {
        /// The type of the consumer.
        type_name: &'static str,
        /// The constant that is not valid.
        constant: &'static str,
        /// Its value.
        value: &'static str,
        /// Rule that it breaks.
        #[source]
        error: Invalid,
    },
    /// Two effects have one intent: an event asks for one effect.
    #[error("{}", taken("asked for by", intent, types, "INTENT"))]
    IntentTaken {
        /// The type that both name.
        intent: EventType,
        /// Their types.
        types: [&'static str; 2],
    },
    /// The checkpoint of a projection does not belong to this store.
    #[error(
        "{name} version {version} does not belong to this log, have it built anew by Runtime::rebuild({name:?}): {error}"
    )]
    ForeignProjection {
        /// The projection.
        name: &'static str,
        /// Its version.
        version: u32,
        /// Evidence for that.
        #[source]
        error: SubscribeError,
    },
    /// The tables of a projection cannot be made, for a reason that is not its database's: most
    /// often a statement is wrong.
    #[error(
        "the tables of {name} version {version} cannot be made, mend `set_up` of {projection}: {error}"
    )]
    SetUp {
        /// The type of the projection.
        projection: &'static str,
        /// Its name.
        name: &'static str,
        /// Its version.
        version: u32,
        /// Error of the target, with all its causes.
        error: String,
    },
    /// The name of a projection is not valid in every target.
    #[error(
        "the NAME of {projection} cannot be {name:?}, write one of a to z, 0 to 9 and _ that begins with a letter, at most \
         40 bytes"
    )]
    ProjectionName {
        /// The type of the projection.
        projection: &'static str,
        /// The name.
        name: &'static str,
    },
    /// The version of a projection is too high a number.
    #[error("the VERSION of {projection} ({name}) cannot be {version}, take one below 2^31")]
    ProjectionVersion {
        /// The type of the projection.
        projection: &'static str,
        /// The projection.
        name: &'static str,
        /// Its version.
        version: u32,
    },
    /// A projection that is to be rebuilt is not registered.
    #[error(
        "the projection {name:?} is to be built anew, but none is registered under that name: give Runtime::rebuild the \
         NAME of a projection, and Runtime::project that projection"
    )]
    UnknownProjection {
        /// The name.
        name: String,
    },
    /// A projection that is to be rebuilt has a target that has sent its messages to somebody.
    #[error("{name} cannot be built anew: its target cannot take back what was sent")]
    CannotRebuild {
        /// The projection.
        name: &'static str,
    },
    /// A consumer has not come to its first step in time.
    #[error("{name} has not started within {} s, look for what it waits for: its database, a lock, or the store", within.as_secs())]
    Late {
        /// The consumer.
        name: &'static str,
        /// Time that was waited.
        within: Duration,
    },
    /// Code of a consumer panicked while it was started: a constructor, a `Default`, the
    /// declaration of its events.
    #[error("{type_name} ({name}) panicked while it was started, mend its code: {said}")]
    Panicked {
        /// The type of the consumer.
        type_name: &'static str,
        /// The consumer.
        name: &'static str,
        /// Message of the panic.
        said: String,
    },
    /// The events cannot be read or written.
    #[error(transparent)]
    Event(#[from] EventError),
    /// The position from which an effect that is new to the store is carried out could not be
    /// recorded.
    #[error(
        "from where effect {effect} begins cannot be recorded, start again when the store takes appends: {detail}"
    )]
    Beginning {
        /// The effect.
        effect: &'static str,
        /// Error of the store.
        detail: String,
    },
    /// A name is not valid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The checkpoint of the consumer does not belong to this store.
    #[error(transparent)]
    Foreign(#[from] SubscribeError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Tells of two types that have something which only one can have.
fn taken(
    how: &str,
    what: &impl std::fmt::Display,
    types: &[&'static str; 2],
    constant: &str,
) -> String {
    match types {
        [one, other] if one == other => {
            format!("{one} is registered twice, {how} {what}: register it once")
        }
        [one, other] => {
            format!("{one} and {other} are both {how} {what}, give one of them another {constant}")
        }
    }
}
