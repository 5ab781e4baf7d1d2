//! Errors of starting a runtime.

use std::time::Duration;

use crate::fold::{EventError, LoadError};
use crate::runtime::Named;
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
        "{projection} ({name} version {version}) does not belong to this log, have it built anew by \
         Runtime::rebuild({name:?}): {error}"
    )]
    ForeignProjection {
        /// The type of the projection.
        projection: &'static str,
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
    #[error(
        "{projection} ({name}) cannot be built anew, for its target cannot take back what was sent: take it out of \
         Runtime::rebuild; to send everything once more, give it another NAME"
    )]
    CannotRebuild {
        /// The type of the projection.
        projection: &'static str,
        /// The projection.
        name: &'static str,
    },
    /// A consumer has not come to its first step in time.
    #[error(
        "{type_name} ({name}) has not started within {} s, look for what it waits for: its database, a lock, or the store",
        within.as_secs()
    )]
    Late {
        /// The type of the consumer.
        type_name: &'static str,
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
    /// The events of a consumer cannot be read or written.
    #[error("{type_name} ({name}) cannot read or write its events: {error}")]
    Event {
        /// The type of the consumer.
        type_name: &'static str,
        /// The consumer.
        name: &'static str,
        /// Fault of the events, and what to do.
        #[source]
        error: Box<EventError>,
    },
    /// The position from which an effect that is new to the store is carried out could not be
    /// recorded.
    #[error(
        "from where {effect_type} ({effect}) begins cannot be recorded, start again when the store takes appends: {detail}"
    )]
    Beginning {
        /// The type of the effect.
        effect_type: &'static str,
        /// The effect.
        effect: &'static str,
        /// Error of the store.
        detail: String,
    },
    /// A process that stands still could keep all others from writing for so long that its work
    /// changes hands meanwhile.
    #[error(
        "leases of {lease:?} are too short for a store that ends a writer which stands still after \
         {writer_ended_within:?}: set Runtime::lease to more than twice that, or have the store \
         end it sooner, by its options"
    )]
    ShortLease {
        /// Time for which the runtime leases its work.
        lease: Duration,
        /// Time after which the store ends a writer that stands still.
        writer_ended_within: Duration,
    },
    /// The store has not told its time, without which nothing is due.
    #[error(
        "the store has not told its time within {} s, start again when it can be read",
        within.as_secs()
    )]
    NoTime {
        /// Time that was waited.
        within: Duration,
    },
    /// The checkpoint of a consumer does not belong to this store.
    #[error("the checkpoint of {type_name} ({name}) does not belong to this log: {error}")]
    Foreign {
        /// The type of the consumer.
        type_name: &'static str,
        /// The consumer.
        name: &'static str,
        /// Evidence for that, and what to do.
        #[source]
        error: SubscribeError,
    },
    /// A consumer cannot read the store.
    #[error("{type_name} ({name}) cannot read the store, start again when it can be read: {error}")]
    Read {
        /// The type of the consumer.
        type_name: &'static str,
        /// The consumer.
        name: &'static str,
        /// Error of the store.
        #[source]
        error: ReadError,
    },
}

/// Error of starting one consumer, as the consumer itself has it: without its name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartFault {
    #[error(transparent)]
    Event(#[from] EventError),
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error(transparent)]
    Foreign(#[from] SubscribeError),
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The position from which an effect is carried out could not be recorded.
    #[error("its beginning cannot be recorded: {0}")]
    Beginning(String),
    /// It says which consumer it is about.
    #[error(transparent)]
    Told(#[from] StartError),
}

impl From<LoadError> for StartFault {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Event(error) => error.into(),
            LoadError::Invalid(invalid) => invalid.into(),
            LoadError::Read(error) => error.into(),
        }
    }
}

impl Named {
    /// The error of its start.
    pub(crate) fn error(self, fault: StartFault) -> StartError {
        let Self { name, type_name } = self;
        match fault {
            StartFault::Event(error) => {
                StartError::Event { type_name, name, error: Box::new(error) }
            }
            StartFault::Invalid(error) => {
                StartError::Name { type_name, constant: "NAME", value: name, error }
            }
            StartFault::Read(error) | StartFault::Foreign(SubscribeError::Read(error)) => {
                StartError::Read { type_name, name, error }
            }
            StartFault::Foreign(error) => StartError::Foreign { type_name, name, error },
            StartFault::Beginning(detail) => {
                StartError::Beginning { effect_type: type_name, effect: name, detail }
            }
            StartFault::Told(error) => error,
        }
    }

    pub(crate) fn panicked(self, said: String) -> StartError {
        StartError::Panicked { type_name: self.type_name, name: self.name, said }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::consumer::stop::{START_WITHIN, started};
    use crate::store::Position;

    struct Opener;

    const NAMED: Named = Named { name: "opener", type_name: "app::Opener" };

    #[tokio::test(start_paused = true)]
    async fn a_consumer_that_does_not_come_to_its_first_step_is_told_by_its_type_and_its_name() {
        let late = started(Named::of::<Opener>("opener"), Box::pin(std::future::pending())).await;
        let Err(late) = late else { panic!("it started") };
        let text = late.to_string();
        for part in ["Opener (opener)", &START_WITHIN.as_secs().to_string(), "look for"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn a_checkpoint_of_another_history_is_told_with_the_consumer_whose_it_is() {
        let other = SubscribeError::OtherHistory { position: Position(7) };
        assert_eq!(
            NAMED.error(other.into()).to_string(),
            "the checkpoint of app::Opener (opener) does not belong to this log: history at 7 is not what the consumer has \
             seen: the store grew anew after a restore; rebuild the consumer"
        );
        let closed = NAMED.error(SubscribeError::Read(ReadError::Closed).into());
        assert_eq!(closed, NAMED.error(ReadError::Closed.into()));
    }
}
