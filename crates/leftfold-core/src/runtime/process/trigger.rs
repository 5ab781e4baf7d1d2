//! Triggers that a process reacts to.

use super::record::StoredCause;
use crate::fold::Aggregate;
use crate::runtime::json::Json;
use crate::store::{Position, Timestamp};

/// Input that an instance of a process reacts to.
#[derive(Clone, Debug, PartialEq)]
pub enum Trigger<E> {
    /// An event that concerns it.
    Event(E),
    /// A timer of its own is due.
    TimerFired {
        /// Its name.
        name: String,
    },
    /// A command of its own was refused by its aggregate.
    Refused(Refused),
}

/// Place of a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    /// Names the instance.
    pub key: String,
    /// The id in the name of the event's stream; empty if it is in none, or the trigger is not an
    /// event.
    pub stream_id: String,
    /// The event; of a timer or a refusal, the reaction that set the timer or issued the command.
    pub position: Position,
    /// Time at which the event was recorded; of a timer, its due time; of a refusal, the time at
    /// which the command was issued.
    pub at: Timestamp,
}

/// A command of a process that its target refused, in the words of its own type. It is issued once;
/// nothing of it happened.
///
/// A process finds out who refused:
///
/// ```
/// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
/// use leftfold_core::runtime::process::{Context, Reaction, Refused};
/// use wallet::{Overdrawn, Wallet, WalletCommand};
///
/// /// Takes what the wallet has, if it has less than it should.
/// fn after_refusal(refused: &Refused) -> Reaction {
///     match (refused.by::<Wallet>(), refused.command::<Wallet>()) {
///         (Some(Overdrawn { cents }), Some(WalletCommand::Withdraw { .. })) if cents > 0 => {
///             let withdraw = WalletCommand::Withdraw { cents };
///             Reaction::none().command::<Wallet>(refused.target(), withdraw)
///         }
///         _ => Reaction::none().end(),
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    pub(super) category: String,
    pub(super) id: String,
    pub(super) command: Json,
    pub(super) refusal: Option<Json>,
    pub(super) reason: String,
    pub(super) is_of_earlier_life: bool,
}

impl Refused {
    /// Returns the refusal as it was recorded; `None` if the cause is not a refusal.
    pub(super) fn stored(cause: &StoredCause) -> Option<Self> {
        let StoredCause::Refused { to, id, command, refusal, reason, .. } = cause.clone() else {
            return None;
        };
        Some(Self { category: to, id, command, refusal, reason, is_of_earlier_life: false })
    }

    /// Returns the refusal, if an aggregate of this kind refused the command.
    #[must_use]
    pub fn by<A: Aggregate>(&self) -> Option<A::Refusal>
    where
        A::Refusal: serde::de::DeserializeOwned,
    {
        self.refusal.as_ref().filter(|_| self.is_for::<A>())?.read().ok()
    }

    /// Returns the command, if it was for an aggregate of this kind.
    #[must_use]
    pub fn command<A: Aggregate>(&self) -> Option<A::Command>
    where
        A::Command: serde::de::DeserializeOwned,
    {
        Some(&self.command).filter(|_| self.is_for::<A>())?.read().ok()
    }

    /// Tells whether the command was for an aggregate of this kind.
    #[must_use]
    pub fn is_for<A: Aggregate>(&self) -> bool {
        self.category == A::CATEGORY
    }

    /// The category of the aggregate that the command was for.
    #[must_use]
    pub fn category(&self) -> &str {
        &self.category
    }

    /// The id of the aggregate that the command was for.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.id
    }

    /// Tells whether the command was issued before the instance began again: then the state knows
    /// nothing of it.
    #[must_use]
    pub fn is_of_earlier_life(&self) -> bool {
        self.is_of_earlier_life
    }

    /// Returns the reason, as a person can read it.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}
