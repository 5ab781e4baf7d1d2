//! Processes: what must happen over several aggregates, step by step, each step recorded with what caused it.

mod batch;
mod correlation;
mod instance;
mod instances;
mod orders;
mod people;
mod reaction;
mod record;
mod runner;
mod targets;
mod tenure;
#[cfg(test)]
mod tests;
mod timers;
mod told;
mod trigger;

pub use correlation::Correlation;
pub use instances::{CHAIN_MAX, COMMANDS_MAX, EFFECTS_MAX, PARKED_MAX, TIMERS_MAX};
pub use people::{AskError, InstancePage, InstanceStatus, ParkedTrigger, Processes, Whose};
pub use reaction::{Due, Reaction};
pub use targets::Targets;
pub use tenure::PROCESS_LEASE;
pub use trigger::{Context, Refused, Trigger};

pub(super) use people::Asked;
pub(crate) use runner::ProcessRunner;
pub(crate) use told::{Heard, Told, What, told};

use crate::fold::{Event, Recorded};

// ANCHOR: limits
/// Instances that one event may concern.
pub const INSTANCES_MAX: usize = 900;
// ANCHOR_END: limits

/// A process (also called process manager, or saga): it follows events, keeps its own state for each *instance*, and
/// reacts with commands, effects and timers.
///
/// An instance is named by a key that [`correlate`](Process::correlate) finds in the events. A reaction is recorded in
/// the instance's own stream, `$process:NAME-KEY`, in one atomic append with the checkpoint of the event that caused it:
/// so each event is reacted to once, wherever the machine stops. Commands are carried out from what is recorded,
/// afterwards, each with a command id: carried out again after a crash they change nothing. A command that is refused
/// comes back as [`Trigger::Refused`].
///
/// A timer fires once, after every event recorded up to its due time was reacted to: an hour of outage never turns an
/// answer that came in time into a missed deadline. Timers that wait are found in the log's index; only those due soon
/// are in memory.
///
/// `correlate`, `apply` and `react` are pure: what they need is in the events. A trigger at which one of them panics, or
/// that cannot be read, is *parked* with everything that follows for its instance, while other instances go on.
pub trait Process: Default + Send + Sync + 'static {
    /// Names the process in the log and in status. Has no `-`, and at most 60 bytes.
    const NAME: &'static str;
    /// The events that it follows: its own view of them, with no more variants and fields than it needs.
    type Event: Event;

    /// Whom it commands: makes the commands that are recorded readable after a restart.
    fn targets() -> Targets;

    /// Which instances an event concerns.
    fn correlate(event: &Recorded<Self::Event>) -> Correlation;

    /// Takes what happened into the state.
    fn apply(&mut self, trigger: &Trigger<Self::Event>, context: &Context);

    /// What follows, on the state after [`apply`](Process::apply).
    fn react(&self, trigger: &Trigger<Self::Event>, context: &Context) -> Reaction;
}
