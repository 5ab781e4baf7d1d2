//! A task says how many points it wants, and holds those that it was given.

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum TaskEvent {
    /// It wants so many more.
    Asked {
        project: String,
        points: u64,
    },
    /// It gives so many back; it does not have them any more.
    Offered {
        project: String,
        points: u64,
    },
    Received {
        points: u64,
    },
    /// The points that it offered have arrived.
    Given,
    /// The points that it offered were not taken: it still has them.
    Kept {
        points: u64,
        reason: String,
    },
    /// The points that it asked for were refused.
    Denied {
        reason: String,
    },
    Cancelled,
}

impl Event for TaskEvent {
    const NAMESPACE: &'static str = "task";
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum TaskCommand {
    /// The difference to what it has is asked for, or given back.
    Want {
        project: String,
        points: u64,
    },
    Receive {
        points: u64,
    },
    Give,
    Keep {
        points: u64,
        reason: String,
    },
    Deny {
        reason: String,
    },
    Cancel,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum TaskRefusal {
    #[error("an assignment is under way, wait for its end")]
    UnderWay,
    #[error("the task has {points} points, give them back first")]
    HasPoints { points: u64 },
    #[error("the task is cancelled")]
    Cancelled,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) points: u64,
    under_way: bool,
    cancelled: bool,
    /// Reason why the last assignment failed, for people to read.
    pub(crate) failure: Option<String>,
}

impl Task {
    fn want(&self, project: &str, wanted: u64) -> Vec<TaskEvent> {
        let project = project.to_owned();
        match wanted.abs_diff(self.points) {
            0 => Vec::new(),
            points if wanted > self.points => vec![TaskEvent::Asked { project, points }],
            points => vec![TaskEvent::Offered { project, points }],
        }
    }
}

impl Aggregate for Task {
    const CATEGORY: &'static str = "task";
    type Event = TaskEvent;
    type Command = TaskCommand;
    type Refusal = TaskRefusal;

    fn apply(&mut self, event: &TaskEvent) {
        self.under_way = matches!(event, TaskEvent::Asked { .. } | TaskEvent::Offered { .. })
            || (self.under_way && matches!(event, TaskEvent::Cancelled));
        match event {
            TaskEvent::Asked { .. } => self.failure = None,
            TaskEvent::Offered { points, .. } => {
                self.failure = None;
                self.points -= points;
            }
            TaskEvent::Received { points } => self.points += points,
            TaskEvent::Given => {}
            TaskEvent::Kept { points, reason } => {
                self.points += points;
                self.failure = Some(reason.clone());
            }
            TaskEvent::Denied { reason } => self.failure = Some(reason.clone()),
            TaskEvent::Cancelled => self.cancelled = true,
        }
    }

    fn decide(&self, command: &TaskCommand) -> Result<Vec<TaskEvent>, TaskRefusal> {
        match command.clone() {
            // A cancelled task may still be told what happens to points that were on their way.
            TaskCommand::Give => Ok(vec![TaskEvent::Given]),
            TaskCommand::Keep { points, reason } => Ok(vec![TaskEvent::Kept { points, reason }]),
            TaskCommand::Deny { reason } => Ok(vec![TaskEvent::Denied { reason }]),
            _ if self.cancelled => Err(TaskRefusal::Cancelled),
            TaskCommand::Receive { points } => Ok(vec![TaskEvent::Received { points }]),
            TaskCommand::Want { .. } if self.under_way => Err(TaskRefusal::UnderWay),
            TaskCommand::Want { project, points } => Ok(self.want(&project, points)),
            TaskCommand::Cancel if self.points > 0 => {
                Err(TaskRefusal::HasPoints { points: self.points })
            }
            TaskCommand::Cancel => Ok(vec![TaskEvent::Cancelled]),
        }
    }
}
