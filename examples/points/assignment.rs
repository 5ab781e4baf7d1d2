//! The points assignment: takes from one side, gives to the other; or gives back, with the reason.

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

use crate::project::{Project, ProjectCommand};
use crate::task::{Task, TaskCommand};

/// Events of projects and tasks that an assignment reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Fact {
    #[serde(rename = "task.Asked")]
    Asked { project: String, points: u64 },
    #[serde(rename = "task.Offered")]
    Offered { project: String, points: u64 },
    #[serde(rename = "project.Withdrawn")]
    Withdrawn { task: String },
    #[serde(rename = "project.Deposited")]
    Deposited { task: String },
    #[serde(rename = "task.Received")]
    Received,
    #[serde(rename = "task.Given")]
    Given,
    #[serde(rename = "task.Kept")]
    Kept,
    #[serde(rename = "task.Denied")]
    Denied,
}

impl Event for Fact {
    const NAMESPACE: &'static str = "assignment";
}

/// One assignment at a time for each task, named as the task is.
#[derive(Debug, Default)]
pub(crate) struct Assignment {
    project: String,
    points: u64,
    /// Reason why the points go back to the project.
    in_vain: Option<String>,
}

// ANCHOR: process
impl Process for Assignment {
    const NAME: &'static str = "points_assignment";
    type Event = Fact;

    fn targets() -> Targets {
        Targets::of::<Project>().and::<Task>()
    }

    fn correlate(event: &Recorded<Fact>) -> Correlation {
        match &event.event {
            Fact::Asked { .. } | Fact::Offered { .. } => Correlation::starts(event.stream_id()),
            Fact::Withdrawn { task } | Fact::Deposited { task } => Correlation::continues(task),
            Fact::Received | Fact::Given | Fact::Kept | Fact::Denied => {
                Correlation::ends(event.stream_id())
            }
        }
    }

    fn apply(&mut self, trigger: &Trigger<Fact>, _: &Context) {
        match trigger {
            Trigger::Event(Fact::Asked { project, points } | Fact::Offered { project, points }) => {
                (self.project, self.points) = (project.clone(), *points);
            }
            Trigger::Refused(refused) if refused.is_for::<Task>() => {
                self.in_vain = Some(refused.reason().to_owned())
            }
            _ => {}
        }
    }

    fn react(&self, trigger: &Trigger<Fact>, context: &Context) -> Reaction {
        let (task, points) = (context.key.clone(), self.points);
        match trigger {
            Trigger::Event(Fact::Asked { .. }) => {
                self.project(ProjectCommand::Withdraw { task, points })
            }
            Trigger::Event(Fact::Offered { .. }) => {
                self.project(ProjectCommand::Deposit { task, points })
            }
            Trigger::Event(Fact::Withdrawn { .. }) => {
                Reaction::none().command::<Task>(task, TaskCommand::Receive { points })
            }
            Trigger::Event(Fact::Deposited { .. }) => {
                Reaction::none().command::<Task>(task, self.told())
            }
            Trigger::Refused(refused) => self.refused(refused, task),
            Trigger::Event(_) | Trigger::TimerFired { .. } => Reaction::none(),
        }
    }
}

impl Assignment {
    fn project(&self, command: ProjectCommand) -> Reaction {
        Reaction::none().command::<Project>(&self.project, command)
    }

    /// Returns the command for the task once the project has the points.
    fn told(&self) -> TaskCommand {
        match &self.in_vain {
            Some(reason) => TaskCommand::Deny { reason: reason.clone() },
            None => TaskCommand::Give,
        }
    }

    fn refused(&self, refused: &Refused, task: String) -> Reaction {
        let (points, reason) = (self.points, refused.reason().to_owned());
        match refused.command::<Project>() {
            Some(ProjectCommand::Withdraw { .. }) => {
                Reaction::none().command::<Task>(task, TaskCommand::Deny { reason })
            }
            Some(_) => Reaction::none().command::<Task>(task, TaskCommand::Keep { points, reason }),
            // The task does not take what it asked for.
            None => self.project(ProjectCommand::PayBack { task, points }),
        }
    }
}
// ANCHOR_END: process
