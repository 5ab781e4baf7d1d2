//! Commands that are sent once, at a time: recorded in the log, and moved or cancelled until they
//! are due.
//!
//! `appointment` is the stream of each, as an aggregate; `carrying` is the process that waits and
//! carries them out.

mod appointment;
mod carrying;

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Runtime;
use super::inbox::{MESSAGE_BYTES_MAX, MESSAGE_DEPTH_MAX};
use super::json::{NotKept, ValueLimits};
use super::names::Joined;
use super::positions::{Owner, as_it_is, no_label};
use crate::fold::{Aggregate, Aggregates, ExecuteError, LoadError};
use crate::store::limits::ID_BYTES_MAX;
use crate::store::{Invalid, Store, StreamName, Timestamp};
use appointment::{Appointment, AppointmentFor, AskedFor, Book, Over};
use carrying::CarryingOut;

/// Scheduled commands in a copy of the store: moments and commands, no positions.
pub(super) const OWNER: Owner =
    Owner { category: "$scheduled", rewrite: as_it_is, label: no_label };

// ANCHOR: limits
/// Bytes of the id of a scheduled command.
pub const SCHEDULED_ID_BYTES_MAX: usize = 200;
// ANCHOR_END: limits

/// The limits of messages: the records that carry a command are like theirs.
const COMMAND: ValueLimits = ValueLimits {
    value: "a scheduled command",
    depth: "the depth of a scheduled command",
    bytes_max: MESSAGE_BYTES_MAX,
    depth_max: MESSAGE_DEPTH_MAX,
};

/// The name of something that belongs to the scheduled commands of a kind of aggregate.
const fn joined(prefix: &str, category: &str) -> Joined {
    Joined::new(
        prefix,
        category,
        50,
        "the category of an aggregate with scheduled commands has 1 to 50 bytes and no -",
    )
}

/// A command for an aggregate that is sent once, at a time, under an id of its own.
///
/// It is recorded in the log, and carried out by a runtime that has [`Runtime::scheduled`] for the
/// kind of aggregate: once, however often that runtime is killed and by however many of them. Until
/// it is due it can be [moved](Self::move_to) and [cancelled](Self::cancel); a call that comes too
/// late gets an error, and one that succeeds has won: a command that was cancelled is not carried
/// out. A time that has passed counts as now.
///
/// A command that the aggregate refuses is recorded as refused ([`ScheduledState::Refused`]). A
/// trouble that passes, such as a store that is away, is waited for. A command that can no longer
/// be read is parked in the process `scheduled:CATEGORY` until a person retries or skips it, as
/// everything of that process is found with [`Processes`](super::process::Processes).
///
/// However many are scheduled, memory holds those that are due within two minutes, at most 100,000
/// of them, and at most 20,000 of those that changed last, each without its command. A start reads
/// the commands of the last reactions that were not carried out yet, and not those scheduled for
/// later.
///
/// ```
/// use std::time::Duration;
/// # use leftfold_core::fold::{Aggregate, Event};
/// use leftfold_core::runtime::Runtime;
/// # use leftfold_core::store::{Position, Query};
/// use leftfold_core::store::{Store, Timestamp};
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// # enum AuctionEvent { Closed {} }
/// # impl Event for AuctionEvent { const NAMESPACE: &'static str = "auction"; }
/// # #[derive(Clone, Debug, Default, Serialize, Deserialize)]
/// # struct Auction;
/// # #[derive(Clone, Debug, Serialize, Deserialize)]
/// # enum AuctionCommand { Close }
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
/// # #[error("never")]
/// # struct Never;
/// # impl Aggregate for Auction {
/// #     const CATEGORY: &'static str = "auction";
/// #     type Event = AuctionEvent;
/// #     type Command = AuctionCommand;
/// #     type Refusal = Never;
/// #     fn apply(&mut self, _: &AuctionEvent) {}
/// #     fn decide(&self, _: &AuctionCommand) -> Result<Vec<AuctionEvent>, Never> {
/// #         Ok(vec![AuctionEvent::Closed {}])
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::memory();
/// let runtime = Runtime::new(&store).scheduled::<Auction>().start().await?;
/// let closing = store.scheduled::<Auction>("closing of 17");
/// let ends_at = Timestamp::now().plus(Duration::from_secs(3_600));
/// closing.send("17", &AuctionCommand::Close, ends_at).await?;
/// // A late bid: five minutes more. And then nobody wants it any more.
/// closing.move_to(ends_at.plus(Duration::from_secs(300))).await?;
/// closing.cancel().await?;
/// // Sent to be carried out now.
/// store.scheduled::<Auction>("closing of 18").send("18", &AuctionCommand::Close, Timestamp::now()).await?;
/// let mut auctions = store.subscribe(Query::category("auction"), Position::START);
/// assert_eq!(auctions.event().await?.stream.as_ref().unwrap().name.id(), "18");
/// runtime.stop().await?;
/// # Ok(())
/// # }
/// ```
pub struct ScheduledCommand<A: Aggregate> {
    appointments: Aggregates<AppointmentFor<A>>,
    id: String,
    aggregate: PhantomData<fn() -> A>,
}

/// A scheduled command as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledStatus {
    /// The id of the aggregate that it is for.
    pub target: String,
    /// Time at which it is due.
    pub at: Timestamp,
    /// State of the command.
    pub state: ScheduledState,
}

/// State of a scheduled command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScheduledState {
    /// It is not due yet, and can be moved and cancelled.
    Open,
    /// It fell due, and is carried out, or was.
    Due,
    /// It was cancelled in time.
    Cancelled,
    /// Its aggregate refused it.
    Refused {
        /// Reason, as the aggregate gave it.
        reason: String,
    },
}

/// Refusal of a request about a scheduled command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ScheduleRefusal {
    /// Nothing was scheduled under the id.
    #[error("nothing is scheduled under this id, send it first")]
    Unknown,
    /// It fell due before.
    #[error("it fell due at {due} and is carried out, send another command that makes up for it")]
    TooLate {
        /// Time at which it was due.
        due: Timestamp,
    },
    /// It was cancelled before.
    #[error("it was cancelled, schedule it under another id")]
    Cancelled,
    /// Another command, target or time was scheduled under the id.
    #[error(
        "another one was scheduled under this id, for {target} at {at}; take another id, or move it with move_to"
    )]
    Taken {
        /// The target that was named.
        target: String,
        /// The time that was named.
        at: Timestamp,
    },
}

/// Error of a scheduled command. Nothing is recorded, unless the store does not know whether it is.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// It cannot be done to this command.
    #[error("the scheduled command {id}: {refusal}")]
    Refused {
        /// The id of the scheduled command.
        id: String,
        /// Reason of the refusal.
        #[source]
        refusal: ScheduleRefusal,
    },
    /// An id or the command is beyond its limit.
    #[error("the scheduled command {id:?} cannot be recorded: {invalid}")]
    Invalid {
        /// The id of the scheduled command.
        id: String,
        /// Limit that is exceeded.
        #[source]
        invalid: Invalid,
    },
    /// The command cannot be written as JSON, or would not be read as it was written.
    #[error("the scheduled command {id} cannot be written: {detail}")]
    Unwritable {
        /// The id of the scheduled command.
        id: String,
        /// Message of serde, with the type.
        detail: String,
    },
    /// The store did not take it; ask again, under the same id.
    #[error(transparent)]
    Store(Box<ExecuteError<ScheduleRefusal>>),
}

impl<A: Aggregate> ScheduledCommand<A> {
    /// Records that the command is to be sent to an aggregate at a time, and returns once that is
    /// durable.
    ///
    /// Asked again, with the same target, command and time, it does nothing; with others it is
    /// refused. So a caller that does not know the result of an earlier try asks again, and the id
    /// names the purpose: `reminder of booking 7`.
    ///
    /// # Errors
    /// [`ScheduleRefusal::Taken`] and [`Cancelled`](ScheduleRefusal::Cancelled), an id that cannot
    /// name a stream or has more than [`SCHEDULED_ID_BYTES_MAX`], a command beyond the limits of
    /// [messages](super::inbox::MESSAGE_BYTES_MAX), and the store's.
    pub async fn send(
        &self,
        target: impl Into<String>,
        command: &A::Command,
        at: Timestamp,
    ) -> Result<(), ScheduleError>
    where
        A::Command: Serialize + DeserializeOwned,
    {
        let target = target.into();
        check_target(A::CATEGORY, &target).map_err(|invalid| self.invalid(invalid))?;
        let command = COMMAND.write(command).map_err(|not_kept| match not_kept {
            NotKept::Invalid(invalid) => self.invalid(invalid),
            NotKept::Unwritable(detail) => {
                ScheduleError::Unwritable { id: self.id.clone(), detail }
            }
        })?;
        self.book(Book::Schedule { at, target, command }).await
    }

    /// Moves it to another time, earlier or later.
    ///
    /// # Errors
    /// [`ScheduleRefusal::Unknown`], [`TooLate`](ScheduleRefusal::TooLate) and
    /// [`Cancelled`](ScheduleRefusal::Cancelled), and the store's.
    pub async fn move_to(&self, at: Timestamp) -> Result<(), ScheduleError> {
        self.book(Book::Move { at }).await
    }

    /// Cancels it: once this has returned, it is never carried out.
    ///
    /// # Errors
    /// [`ScheduleRefusal::Unknown`] and [`TooLate`](ScheduleRefusal::TooLate), and the store's.
    pub async fn cancel(&self) -> Result<(), ScheduleError> {
        self.book(Book::Cancel).await
    }

    /// Reads its state; `None` if nothing was scheduled under the id.
    ///
    /// # Errors
    /// Those of reading its stream.
    pub async fn status(&self) -> Result<Option<ScheduledStatus>, LoadError> {
        let Appointment { asked, at, over } = self.appointments.load(&self.id).await?.state.state;
        let (Some(AskedFor { target, .. }), Some(at)) = (asked, at) else { return Ok(None) };
        let state = match over {
            None => ScheduledState::Open,
            Some(Over::Due) => ScheduledState::Due,
            Some(Over::Cancelled) => ScheduledState::Cancelled,
            Some(Over::Refused(reason)) => ScheduledState::Refused { reason },
        };
        Ok(Some(ScheduledStatus { target, at, state }))
    }

    async fn book(&self, book: Book) -> Result<(), ScheduleError> {
        Invalid::if_over("the id of a scheduled command", self.id.len(), SCHEDULED_ID_BYTES_MAX)
            .map_err(|invalid| self.invalid(invalid))?;
        match self.appointments.execute(&self.id, book).await {
            Ok(_) => Ok(()),
            Err(ExecuteError::Refused(refusal)) => {
                Err(ScheduleError::Refused { id: self.id.clone(), refusal })
            }
            Err(ExecuteError::Invalid(invalid)) => Err(self.invalid(invalid)),
            Err(error) => Err(ScheduleError::Store(Box::new(error))),
        }
    }

    fn invalid(&self, invalid: Invalid) -> ScheduleError {
        ScheduleError::Invalid { id: self.id.clone(), invalid }
    }
}

/// Checks the id of the aggregate that a command is for.
fn check_target(category: &str, target: &str) -> Result<(), Invalid> {
    StreamName::of(category, target)?;
    Invalid::if_over("the id of an aggregate", target.len(), ID_BYTES_MAX)
}

impl<A: Aggregate> std::fmt::Debug for ScheduledCommand<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScheduledCommand")
            .field("category", &A::CATEGORY)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Returns the command for an aggregate of this kind that is scheduled under an id, or is to
    /// be.
    #[must_use]
    pub fn scheduled<A: Aggregate>(&self, id: impl Into<String>) -> ScheduledCommand<A> {
        ScheduledCommand { appointments: self.aggregate(), id: id.into(), aggregate: PhantomData }
    }
}

impl Runtime {
    /// Carries out the [scheduled commands](ScheduledCommand) for a kind of aggregate, when they
    /// are due.
    pub fn scheduled<A: Aggregate>(self) -> Self
    where
        A::Command: Serialize + DeserializeOwned,
        A::Refusal: Serialize + DeserializeOwned,
    {
        self.process::<CarryingOut<A>>()
    }
}
