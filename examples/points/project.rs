//! A project owns points, and lends them to its tasks.

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ProjectEvent {
    Funded { points: u64 },
    Withdrawn { task: String, points: u64 },
    Deposited { task: String, points: u64 },
    Closed,
}

impl Event for ProjectEvent {
    const NAMESPACE: &'static str = "project";
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ProjectCommand {
    Fund {
        points: u64,
    },
    Withdraw {
        task: String,
        points: u64,
    },
    Deposit {
        task: String,
        points: u64,
    },
    /// Points that were withdrawn without effect come back. A compensation may not be refused: a
    /// closed project takes them too.
    PayBack {
        task: String,
        points: u64,
    },
    Close,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum ProjectRefusal {
    #[error("the project has {there} points, {wanted} were asked for")]
    TooFew { wanted: u64, there: u64 },
    #[error("the project is closed")]
    Closed,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Project {
    pub(crate) points: u64,
    closed: bool,
}

impl Aggregate for Project {
    const CATEGORY: &'static str = "project";
    type Event = ProjectEvent;
    type Command = ProjectCommand;
    type Refusal = ProjectRefusal;

    fn apply(&mut self, event: &ProjectEvent) {
        match event {
            ProjectEvent::Funded { points } | ProjectEvent::Deposited { points, .. } => {
                self.points += points
            }
            ProjectEvent::Withdrawn { points, .. } => self.points -= points,
            ProjectEvent::Closed => self.closed = true,
        }
    }

    fn decide(&self, command: &ProjectCommand) -> Result<Vec<ProjectEvent>, ProjectRefusal> {
        Ok(vec![match command.clone() {
            ProjectCommand::PayBack { task, points } => ProjectEvent::Deposited { task, points },
            ProjectCommand::Close if self.closed => return Ok(Vec::new()),
            _ if self.closed => return Err(ProjectRefusal::Closed),
            ProjectCommand::Fund { points } => ProjectEvent::Funded { points },
            ProjectCommand::Withdraw { points: wanted, .. } if wanted > self.points => {
                return Err(ProjectRefusal::TooFew { wanted, there: self.points });
            }
            ProjectCommand::Withdraw { task, points } => ProjectEvent::Withdrawn { task, points },
            ProjectCommand::Deposit { task, points } => ProjectEvent::Deposited { task, points },
            ProjectCommand::Close => ProjectEvent::Closed,
        }])
    }
}
