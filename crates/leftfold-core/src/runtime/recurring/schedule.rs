//! Records of a recurring command: how far its plan was carried out.

use serde::{Deserialize, Serialize};

use crate::fold::{Aggregate, Event, SnapshotPolicy};
use crate::runtime::positions::{Owner, as_it_is, no_label};
use crate::store::{Authority, Timestamp};

/// Characters of a reason that are recorded.
const REASON_CHARS_MAX: usize = 500;

/// One recurring command, in the stream `$schedule-NAME`: not to be confused with `$scheduled:`,
/// the beginning of the categories of [commands that are sent
/// once](crate::runtime::scheduled::ScheduledCommand).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Schedule {
    /// Moment up to which nothing of its plan is due; `None` before it has begun.
    pub(super) through: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum ScheduleEvent {
    /// Everything that is due after this moment is to be carried out.
    Began { at: Timestamp },
    /// The command was carried out, or failed for good; `passed_over` moments before it were passed
    /// over.
    Fired {
        due: Timestamp,
        passed_over: u64,
        #[serde(default)]
        failure: Option<String>,
    },
    /// Nothing up to here was made up for.
    PassedOver { through: Timestamp, passed_over: u64 },
}

#[derive(Debug)]
pub(super) enum ScheduleCommand {
    Begin { at: Timestamp },
    Fire { due: Timestamp, passed_over: u64, failure: Option<String> },
    PassOver { through: Timestamp, passed_over: u64 },
}

impl Event for ScheduleEvent {
    const NAMESPACE: &'static str = "$schedule";
}

/// Schedules in a copy of the store: they speak of no position.
pub(in crate::runtime) const OWNER: Owner =
    Owner { category: ScheduleEvent::NAMESPACE, rewrite: as_it_is, label: no_label };

impl Aggregate for Schedule {
    const CATEGORY: &'static str = ScheduleEvent::NAMESPACE;
    type Event = ScheduleEvent;
    type Command = ScheduleCommand;
    type Refusal = std::convert::Infallible;

    fn authority() -> Authority {
        Authority::RUNTIME
    }

    fn apply(&mut self, event: &ScheduleEvent) {
        self.through = Some(match event {
            ScheduleEvent::Began { at } => *at,
            ScheduleEvent::Fired { due, .. } => *due,
            ScheduleEvent::PassedOver { through, .. } => *through,
        });
    }

    /// The first of several runtimes records the step; for the others there is nothing to do.
    fn decide(
        &self,
        step: &ScheduleCommand,
    ) -> Result<Vec<ScheduleEvent>, std::convert::Infallible> {
        let is_new = |moment: Timestamp| self.through.is_none_or(|through| through < moment);
        Ok(match step {
            ScheduleCommand::Begin { at } if self.through.is_none() => {
                vec![ScheduleEvent::Began { at: *at }]
            }
            ScheduleCommand::Fire { due, passed_over, failure } if is_new(*due) => {
                let failure = failure
                    .as_ref()
                    .map(|failure| failure.chars().take(REASON_CHARS_MAX).collect());
                vec![ScheduleEvent::Fired { due: *due, passed_over: *passed_over, failure }]
            }
            ScheduleCommand::PassOver { through, passed_over } if is_new(*through) => {
                vec![ScheduleEvent::PassedOver { through: *through, passed_over: *passed_over }]
            }
            ScheduleCommand::Begin { .. }
            | ScheduleCommand::Fire { .. }
            | ScheduleCommand::PassOver { .. } => Vec::new(),
        })
    }

    /// It may recur for years.
    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(1_000)
    }
}
