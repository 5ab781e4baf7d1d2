//! Aggregates: a fold of one stream that decides commands.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::event::{Event, Unknown};
use crate::store::Authority;

/// State that is the left fold of one stream's events, and decides commands.
///
/// `apply` and `decide` are pure: no clock, no randomness, no I/O. What they need comes in the
/// command or the event. So a decision may be repeated on a fresher state, and history may be
/// folded again at any time.
///
/// A wallet, whose owner has to have what is withdrawn:
///
/// ```
#[doc = include_str!("../../doc/wallet.rs")]
///
/// # fn main() {
/// let wallet = Wallet { cents: 500 };
/// let withdraw = |cents| wallet.decide(&WalletCommand::Withdraw { cents });
/// assert_eq!(withdraw(200), Ok(vec![WalletEvent::Withdrawn { cents: 200 }]));
/// assert_eq!(withdraw(501), Err(Overdrawn { cents: 500 }));
/// # }
/// ```
pub trait Aggregate:
    Default + Clone + Serialize + DeserializeOwned + Send + Sync + 'static
{
    /// Stands before the id in the stream's name, `category-id`. Has no `-`.
    const CATEGORY: &'static str;
    /// Raised whenever `apply` comes to mean something else, so that older snapshots are not used.
    const FOLD_VERSION: u32 = 1;
    /// Treatment of event types that the fold does not know.
    const UNKNOWN: Unknown = Unknown::Refuse;

    /// Events of the aggregate: things that happened.
    type Event: Event;
    /// Commands of the aggregate: things that are asked for.
    type Command: Send + Sync + 'static;
    /// A domain "no": not a failure.
    type Refusal: std::error::Error + Clone + PartialEq + Send + Sync + 'static;

    /// Takes an event into the state. It happened: there is no refusing it here. If this panics at
    /// an event that was just decided on, that is
    /// [`EventError::Apply`](super::EventError::Apply), and nothing is recorded.
    fn apply(&mut self, event: &Self::Event);

    /// Decides a command: returns its events, none if there is nothing to do, or a refusal. The
    /// events are applied to a clone of the state before they are recorded, so large parts of it
    /// are better kept in an `Arc`.
    fn decide(&self, command: &Self::Command) -> Result<Vec<Self::Event>, Self::Refusal>;

    /// Returns the policy that says when snapshots are made.
    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::never()
    }

    /// Returns the right by which its events are written. Only the runtime's own aggregates have
    /// another than the default.
    #[doc(hidden)]
    fn authority() -> Authority {
        Authority::APPLICATION
    }
}

/// Policy that says when a snapshot is made: with the command, or the load, that finds either bound
/// reached.
///
/// ```
/// use std::time::Duration;
///
/// use leftfold_core::fold::{Aggregate, SnapshotPolicy};
/// # use leftfold_core::fold::Event;
/// # use serde::{Deserialize, Serialize};
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// # enum MeterEvent { Counted { units: u64 } }
/// # impl Event for MeterEvent { const NAMESPACE: &'static str = "meter"; }
/// # #[derive(Clone, Debug, Default, Serialize, Deserialize)]
/// # struct Meter { units: u64 }
/// # struct Count { units: u64 }
///
/// impl Aggregate for Meter {
///     const CATEGORY: &'static str = "meter";
///     /// Raised with every change of `apply`: snapshots of the former meaning are not used.
///     const FOLD_VERSION: u32 = 2;
///     # type Event = MeterEvent;
///     # type Command = Count;
///     # type Refusal = std::convert::Infallible;
///     # fn apply(&mut self, MeterEvent::Counted { units }: &MeterEvent) { self.units += units }
///     # fn decide(&self, count: &Count) -> Result<Vec<MeterEvent>, Self::Refusal> {
///     #     Ok(vec![MeterEvent::Counted { units: count.units }])
///     # }
///
///     /// A meter never ends: it is folded from its last snapshot.
///     fn snapshots() -> SnapshotPolicy {
///         SnapshotPolicy::every_events(1_000).or_every(Duration::from_secs(24 * 60 * 60))
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotPolicy {
    every_events: Option<u64>,
    every: Option<Duration>,
}

impl SnapshotPolicy {
    /// No snapshots: most streams are short.
    #[must_use]
    pub const fn never() -> Self {
        Self { every_events: None, every: None }
    }

    /// A snapshot after this number of events since the last one, at least 1.
    #[must_use]
    pub const fn every_events(events: u64) -> Self {
        Self { every_events: Some(if events == 0 { 1 } else { events }), every: None }
    }

    /// A snapshot when the oldest event that is in no snapshot has this age.
    #[must_use]
    pub const fn every(duration: Duration) -> Self {
        Self { every_events: None, every: Some(duration) }
    }

    /// The same policy, and also a snapshot when the oldest event that is in no snapshot has this
    /// age.
    #[must_use]
    pub const fn or_every(mut self, duration: Duration) -> Self {
        self.every = Some(duration);
        self
    }

    /// Tells whether no snapshot is ever made.
    pub(super) fn is_never(self) -> bool {
        self == Self::never()
    }

    pub(super) fn is_due(self, events: u64, waiting: Duration) -> bool {
        events > 0
            && (self.every_events.is_some_and(|n| events >= n)
                || self.every.is_some_and(|d| waiting >= d))
    }
}
