//! Commands that are sent once, at a time: recorded in the log, and moved or cancelled until they
//! are due.
//!
//! `appointment` is the stream of each, as an aggregate, and `origin` what its records say of where
//! the command comes from; `carrying` is the process that waits and carries them out;
//! `unattended` warns of those that no runtime carries out.
//!
//! Two stored names begin alike and are not the same. `$schedule` is the category of
//! [recurring commands](super::Recurring): the stream `$schedule-NAME` has the moments of one plan,
//! and the ids of its commands have the scope `$schedule:NAME`. `$scheduled:CATEGORY` is the
//! category of commands that are sent once, those for one kind of aggregate: the stream
//! `$scheduled:CATEGORY-ID` has one command, and the process that carries them out is
//! `scheduled:CATEGORY`.

mod appointment;
mod carrying;
mod origin;
mod unattended;

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Runtime;
use super::inbox::{MESSAGE_BYTES_MAX, MESSAGE_DEPTH_MAX};
use super::json::{NotKept, ValueLimits};
use super::names::JoinedName;
use super::positions::{Owner, no_label};
use super::process::{self, CommandOutcome};
use crate::fold::metadata::origin_methods;
use crate::fold::{Aggregate, Aggregates, ExecuteError, LoadError, MetadataError, Origin};
use crate::store::limits::ID_BYTES_MAX;
use crate::store::{Invalid, Store, StreamName, Timestamp};
use appointment::{Appointment, AppointmentCommand, AppointmentEnd, AppointmentFor, FirstRequest};
use carrying::CarryingOut;
use origin::StoredOrigin;
use unattended::AttendedKinds;
pub(super) use unattended::announce;

/// Beginning of the categories of scheduled commands.
const PREFIX: &str = "$scheduled:";

/// Beginning of the names of the processes that carry them out.
const PROCESS_PREFIX: &str = "scheduled:";

/// Scheduled commands in a copy of the store: the name of a conversation may have a position in it.
pub(super) const OWNER: Owner =
    Owner { category: "$scheduled", rewrite: origin::rewrite, label: no_label };

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
const fn joined(prefix: &str, category: &str) -> JoinedName {
    JoinedName::new(
        prefix,
        category,
        50,
        "the category of an aggregate with scheduled commands has 1 to 50 bytes and no -",
    )
}

/// A command for an aggregate that is sent once, at a time, under an id of its own.
///
/// It is recorded in the log, and carried out by a runtime that has [`Runtime::scheduled`] for the
/// kind of aggregate, in this program or in another one over the same store; while there is none it
/// waits, and a warning says so when it is sent and when a runtime starts. It is carried out once,
/// however often that runtime is killed and by however many of them. Until it is due it can be
/// [moved](Self::move_to) and [cancelled](Self::cancel); a call that comes too late gets an error,
/// and one that succeeds has won: a command that was cancelled is not carried out. A time that has
/// passed counts as now.
///
/// Its conversation, its trace and its metadata are given as with any other
/// [command](crate::fold::Command), before it is sent; they are recorded, and the events of the
/// command have them when it is carried out, also if it was moved meanwhile. The cause of those
/// events is the reaction of the process that carried it out; the record of the scheduled command
/// names the cause that was given.
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
/// // Sent to be carried out now, with the header that its events will have.
/// let closing = store.scheduled::<Auction>("closing of 18").header("user", "ann");
/// closing.send("18", &AuctionCommand::Close, Timestamp::now()).await?;
/// let mut auctions = store.subscribe(Query::category("auction"), Position::START);
/// assert_eq!(auctions.event().await?.header("user").as_deref(), Some("ann"));
/// runtime.stop().await?;
/// # Ok(())
/// # }
/// ```
pub struct ScheduledCommand<A: Aggregate> {
    appointments: Aggregates<AppointmentFor<A>>,
    id: String,
    origin: Origin,
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
    /// It fell due, and is being carried out.
    Due,
    /// It took effect.
    CarriedOut,
    /// It waits for a person, who retries or skips it with
    /// [`Processes`](super::process::Processes): in the process `scheduled:CATEGORY` it is the
    /// [instance](super::process::Whose::Instance) of its id.
    Parked {
        /// Reason, for people.
        why: String,
    },
    /// A person let it go when it was parked; it does not take effect.
    Skipped {
        /// Name of the person.
        by: String,
    },
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
    /// The conversation, the trace or the metadata given for the command cannot be recorded.
    #[error("the scheduled command {id} cannot be recorded: {error}")]
    Metadata {
        /// The id of the scheduled command.
        id: String,
        /// Part that cannot be recorded.
        #[source]
        error: MetadataError,
    },
    /// The store did not take it; ask again, under the same id.
    #[error(transparent)]
    Store(Box<ExecuteError<ScheduleRefusal>>),
}

impl<A: Aggregate> ScheduledCommand<A> {
    origin_methods!();

    /// Records that the command is to be sent to an aggregate at a time, and returns once that is
    /// durable.
    ///
    /// Asked again, with the same target, command and time, it does nothing, whatever its metadata;
    /// with others it is refused. So a caller that does not know the result of an earlier try asks
    /// again, and the id names the purpose: `reminder of booking 7`.
    ///
    /// # Errors
    /// [`ScheduleRefusal::Taken`] and [`Cancelled`](ScheduleRefusal::Cancelled), an id that cannot
    /// name a stream or has more than [`SCHEDULED_ID_BYTES_MAX`], a command beyond the limits of
    /// [messages](super::inbox::MESSAGE_BYTES_MAX), metadata beyond its limits, and the store's.
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
        let origin = StoredOrigin::of(&self.origin);
        self.book(AppointmentCommand::Schedule { at, target, command, origin }).await?;
        let store = self.appointments.store();
        AttendedKinds::sent(store, A::CATEGORY, std::any::type_name::<A>()).await;
        Ok(())
    }

    /// Moves it to another time, earlier or later.
    ///
    /// # Errors
    /// [`ScheduleRefusal::Unknown`], [`TooLate`](ScheduleRefusal::TooLate) and
    /// [`Cancelled`](ScheduleRefusal::Cancelled), and the store's.
    pub async fn move_to(&self, at: Timestamp) -> Result<(), ScheduleError> {
        self.book(AppointmentCommand::Move { at }).await
    }

    /// Cancels it: once this has returned, it is never carried out.
    ///
    /// # Errors
    /// [`ScheduleRefusal::Unknown`] and [`TooLate`](ScheduleRefusal::TooLate), and the store's.
    pub async fn cancel(&self) -> Result<(), ScheduleError> {
        self.book(AppointmentCommand::Cancel).await
    }

    /// Reads its state; `None` if nothing was scheduled under the id.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use std::time::Duration;
    ///
    /// use leftfold_core::runtime::scheduled::ScheduledState;
    /// use leftfold_core::store::{Store, Timestamp};
    /// use wallet::{Wallet, WalletCommand};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let allowance = store.scheduled::<Wallet>("allowance of ada");
    /// assert_eq!(allowance.status().await?, None);
    ///
    /// let tomorrow = Timestamp::now().plus(Duration::from_secs(24 * 60 * 60));
    /// allowance.send("ada", &WalletCommand::Deposit { cents: 500 }, tomorrow).await?;
    /// allowance.cancel().await?;
    /// let status = allowance.status().await?.ok_or("it was sent")?;
    /// assert_eq!((status.at, status.state), (tomorrow, ScheduledState::Cancelled));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// Those of reading its stream.
    pub async fn status(&self) -> Result<Option<ScheduledStatus>, LoadError> {
        let Appointment { asked, at, over } = self.appointments.load(&self.id).await?.state.state;
        let (Some(FirstRequest { target, .. }), Some(at)) = (asked, at) else { return Ok(None) };
        let state = match over {
            Some(AppointmentEnd::Cancelled) => ScheduledState::Cancelled,
            Some(AppointmentEnd::Refused(reason)) => ScheduledState::Refused { reason },
            None => self.outcome(ScheduledState::Open).await?,
            Some(AppointmentEnd::Due) => self.outcome(ScheduledState::Due).await?,
        };
        Ok(Some(ScheduledStatus { target, at, state }))
    }

    /// Returns the state that the process which carries it out has reached, or `under_way`.
    async fn outcome(&self, under_way: ScheduledState) -> Result<ScheduledState, LoadError> {
        let instance = (CarryingOut::<A>::name(), self.id.as_str());
        let store = self.appointments.store();
        Ok(match process::outcome(store, instance, A::CATEGORY).await? {
            CommandOutcome::UnderWay => under_way,
            CommandOutcome::CarriedOut => ScheduledState::CarriedOut,
            CommandOutcome::Parked { why } => ScheduledState::Parked { why },
            CommandOutcome::Skipped { by } => ScheduledState::Skipped { by },
        })
    }

    async fn book(&self, book: AppointmentCommand) -> Result<(), ScheduleError> {
        Invalid::if_over("the id of a scheduled command", self.id.len(), SCHEDULED_ID_BYTES_MAX)
            .map_err(|invalid| self.invalid(invalid))?;
        let command = self.appointments.command(&self.id, book).of_origin(self.origin.clone());
        match command.execute().await {
            Ok(_) => Ok(()),
            Err(ExecuteError::Refused(refusal)) => {
                Err(ScheduleError::Refused { id: self.id.clone(), refusal })
            }
            Err(ExecuteError::Invalid(invalid)) => Err(self.invalid(invalid)),
            Err(ExecuteError::Metadata(error)) => {
                Err(ScheduleError::Metadata { id: self.id.clone(), error })
            }
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
        ScheduledCommand {
            appointments: self.aggregate(),
            id: id.into(),
            origin: Origin::default(),
            aggregate: PhantomData,
        }
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
        AttendedKinds::by_runtime(&self.host.store, A::CATEGORY);
        self.process::<CarryingOut<A>>()
    }
}
