//! Processes: what must happen over several aggregates, step by step, each step recorded with what
//! caused it.
//!
//! `runner` takes one `step` after the other: it reads from the log what is `unfinished`, and does
//! what is `next`. An event is read and correlated to the `instances` that it concerns
//! (`correlation`); each `instance` is folded from its stream, or from a `snapshot`, receives the
//! `trigger`, and answers with a `reaction`. `react` compares that with its limits, as `chain` does
//! with reactions that lead one to another (`links`), and a `batch` of `record`s becomes one
//! append. Snapshots are used as far as there is `trust` in them. Then `orders` carries the
//! commands out, each to one of its `targets`, and `timers` fire when they are due. What cannot go
//! on is parked (`parking`), by instance or stream (`whose`), with the events that were
//! `passed_over` in the `ranges` read before, because the owner of their type came too late. A
//! `handle` lists what is parked and asks to retry or skip it; the runner carries such `requests`
//! out. Outside of the runner, `outcome` finds what happened to one command, and `describe` puts
//! the records of an instance into plain values for the testing kit.

mod batch;
mod chain;
mod correlation;
pub(crate) mod describe;
mod handle;
mod instance;
mod instances;
mod links;
mod next;
mod orders;
mod outcome;
mod parking;
mod passed_over;
mod ranges;
mod react;
mod reaction;
mod record;
mod requests;
mod runner;
mod snapshot;
mod step;
mod targets;
#[cfg(test)]
mod tests;
mod timers;
mod trigger;
mod trust;
mod unfinished;
mod whose;

pub use super::consumer::WORK_LEASE as PROCESS_LEASE;
pub use super::consumer::{AskError, PARKED_MAX};
pub use chain::{CHAIN_MAX, ROUNDS_MAX};
pub use correlation::Correlation;
pub use handle::{
    InstancePage, InstanceStatus, ParkedFilter, ParkedTrigger, Processes, RetriedAll,
};
pub use parking::PARKED_BYTES_MAX;
pub use react::{COMMANDS_MAX, EFFECTS_MAX, TIMERS_MAX};
pub use reaction::{Due, Reaction};
pub use snapshot::InstanceSnapshots;
pub use targets::Targets;
pub(in crate::runtime) use targets::take_into_use;
pub use trigger::{Context, Refused, Trigger};
pub use whose::Whose;

pub(super) use handle::ProcessRequest;
pub(in crate::runtime) use instance::consumer;
pub(in crate::runtime) use outcome::{CommandOutcome, outcome};
pub(super) use record::{OWNER, OWNER_OF_UNREAD};
pub(crate) use runner::ProcessRunner;

use crate::fold::{Event, Recorded};

// ANCHOR: limits
/// Instances that one event may concern.
pub const INSTANCES_MAX: usize = 900;
// ANCHOR_END: limits

/// A process (also called process manager, or saga): it follows events, keeps its own state for
/// each *instance*, and reacts with commands, effects and timers.
///
/// An instance is named by a key that [`correlate`](Process::correlate) finds in the events. A
/// reaction is recorded in the instance's own stream, `$process:NAME-KEY`, in one atomic append
/// with the checkpoint of the event that caused it: so each event is reacted to once, whenever the
/// machine stops. Commands are carried out from the record, afterwards, each with a command id:
/// carried out again after a crash they change nothing. A command that is refused comes back as
/// [`Trigger::Refused`]; one that cannot be carried out, for a reason that does not pass, is
/// parked.
///
/// A timer fires once, after every event recorded up to its due time was reacted to: an hour of
/// outage never turns an answer that came in time into a missed deadline. Timers that wait are
/// found in the log's index; only those due soon are in memory. One that is due at
/// [`Timestamp::MAX`](crate::store::Timestamp::MAX) never fires.
///
/// Of several runtimes over one store one runs the process, the others wait for its
/// [lease](PROCESS_LEASE).
///
/// More than [`CHAIN_MAX`] (100) reactions that led one to another, by commands and without
/// anything from outside, are parked: a process that reacts to itself would never end. Long work is
/// done in batches, of [`COMMANDS_MAX`] (10,000) commands at most, and goes from one to the next by
/// a timer that is due at once, up to [`ROUNDS_MAX`] (2,000) times in a row: so twenty million
/// children can be commanded. A timer that lets time pass, if only a millisecond, begins a new
/// count; and so does a retry of a trigger that was parked for it.
///
/// `correlate`, `apply` and `react` are pure: all that they need is in the events. A trigger at
/// which one of them panics, or that cannot be read, is *parked* with everything that follows for
/// its instance, while other instances go on: and so is a command that waits for a person, or a
/// record of the process that cannot be read. [`Processes`] lists the parked triggers, and lets
/// people retry or skip them.
///
/// An instance that never ends can keep [snapshots](Process::snapshots).
///
/// ```
/// use std::time::Duration;
/// use leftfold_core::fold::{Aggregate, Event, Recorded};
/// use leftfold_core::runtime::Runtime;
/// use leftfold_core::runtime::process::{
///     Context, Correlation, Process, Reaction, Targets, Trigger,
/// };
/// use leftfold_core::store::{Position, Query, Store};
/// use serde::{Deserialize, Serialize};
///
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// # enum OrderEvent { Placed, Paid, Cancelled { why: String } }
/// # impl Event for OrderEvent { const NAMESPACE: &'static str = "order"; }
/// # #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
/// # struct Order;
/// # #[derive(Clone, Debug, Serialize, Deserialize)]
/// # enum Do { Place, Cancel { why: String } }
/// # #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
/// # #[error("never")]
/// # struct Never;
/// # impl Aggregate for Order {
/// #     const CATEGORY: &'static str = "order";
/// #     type Event = OrderEvent;
/// #     type Command = Do;
/// #     type Refusal = Never;
/// #     fn apply(&mut self, _: &OrderEvent) {}
/// #     fn decide(&self, command: &Do) -> Result<Vec<OrderEvent>, Never> {
/// #         Ok(vec![match command.clone() {
/// #             Do::Place => OrderEvent::Placed,
/// #             Do::Cancel { why } => OrderEvent::Cancelled { why },
/// #         }])
/// #     }
/// # }
/// /// An order that is not paid in time is cancelled.
/// #[derive(Default)]
/// struct Payment;
///
/// impl Process for Payment {
///     const NAME: &'static str = "payment";
///     type Event = OrderEvent;
///     fn targets() -> Targets { Targets::of::<Order>() }
///     fn correlate(event: &Recorded<OrderEvent>) -> Correlation {
///         match event.event {
///             OrderEvent::Placed => Correlation::starts(event.stream_id()),
///             OrderEvent::Paid | OrderEvent::Cancelled { .. } => {
///                 Correlation::ends(event.stream_id())
///             }
///         }
///     }
///     fn apply(&mut self, _: &Trigger<OrderEvent>, _: &Context) {}
///     fn react(&self, trigger: &Trigger<OrderEvent>, order: &Context) -> Reaction {
///         match trigger {
///             Trigger::Event(OrderEvent::Placed) => Reaction::none().timer("pay", Duration::ZERO),
///             Trigger::TimerFired { .. } => Reaction::none()
///                 .command::<Order>(&order.key, Do::Cancel { why: "not paid".into() }),
///             Trigger::Event(_) | Trigger::Refused(_) => Reaction::none(),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = Store::memory();
/// let runtime = Runtime::new(&store).process::<Payment>().start().await?;
/// store.aggregate::<Order>().execute("7", Do::Place).await?;
/// let mut orders = store.subscribe(Query::category("order"), Position::START);
/// assert_eq!(&*orders.event().await?.event_type, "order.Placed");
/// assert_eq!(&*orders.event().await?.event_type, "order.Cancelled");
/// runtime.stop().await?;
/// # Ok(())
/// # }
/// ```
pub trait Process: Default + Send + Sync + 'static {
    /// Names the process in the log and in status. Has no `-`, and at most 60 bytes.
    const NAME: &'static str;
    /// The events that it follows: its own view of them, with no more variants and fields than it
    /// needs.
    type Event: Event;

    /// Raised whenever [`apply`](Process::apply) comes to mean something else, so that older
    /// snapshots are not used.
    const FOLD_VERSION: u32 = 1;

    /// Returns the aggregates that it commands: makes the commands that are recorded readable after
    /// a restart.
    fn targets() -> Targets;

    /// Returns the instances that an event concerns.
    fn correlate(event: &Recorded<Self::Event>) -> Correlation;

    /// Takes a trigger into the state.
    fn apply(&mut self, trigger: &Trigger<Self::Event>, context: &Context);

    /// Returns the reaction to a trigger, on the state after [`apply`](Process::apply).
    fn react(&self, trigger: &Trigger<Self::Event>, context: &Context) -> Reaction;

    /// Returns the rule for snapshots of instances: for those that never end.
    fn snapshots() -> InstanceSnapshots<Self> {
        InstanceSnapshots::never()
    }
}

/// Error of code of a process that panicked.
fn panicked<P>(place: &str, said: &str) -> String {
    format!("{place} of {} panicked, fix it and retry: {said}", std::any::type_name::<P>())
}
