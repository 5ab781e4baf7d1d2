//! Points go from a project to its tasks: a transfer with compensation and a deadline.

use std::collections::BTreeSet;

use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_testing::{Explorer, Schedules};
use serde::{Deserialize, Serialize};

use crate::{MANY, is_found};

/// Nothing is wrong.
const SOUND: u8 = 0;
/// A refused deposit is not paid back.
const NO_COMPENSATION: u8 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum ProjectEvent {
    Funded { points: u64 },
    Withdrawn { request: String, points: u64 },
    PaidBack { request: String, points: u64 },
}

impl Event for ProjectEvent {
    const NAMESPACE: &'static str = "project";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Budget {
    Withdraw { request: String, points: u64 },
    PayBack { request: String, points: u64 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{wanted} points wanted, {free} free")]
struct TooFew {
    wanted: u64,
    free: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Project {
    free: u64,
}

impl Aggregate for Project {
    const CATEGORY: &'static str = "project";
    type Event = ProjectEvent;
    type Command = Budget;
    type Refusal = TooFew;

    fn apply(&mut self, event: &ProjectEvent) {
        match event {
            ProjectEvent::Funded { points } | ProjectEvent::PaidBack { points, .. } => {
                self.free += points
            }
            ProjectEvent::Withdrawn { points, .. } => self.free -= points,
        }
    }

    fn decide(&self, command: &Budget) -> Result<Vec<ProjectEvent>, TooFew> {
        Ok(match command.clone() {
            Budget::Withdraw { points, .. } if points > self.free => {
                return Err(TooFew { wanted: points, free: self.free });
            }
            Budget::Withdraw { request, points } => {
                vec![ProjectEvent::Withdrawn { request, points }]
            }
            Budget::PayBack { request, points } => vec![ProjectEvent::PaidBack { request, points }],
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum TaskEvent {
    PointsAsked { request: String, points: u64 },
    Deposited { request: String, points: u64 },
    Failed { request: String, reason: String },
    Closed,
}

impl Event for TaskEvent {
    const NAMESPACE: &'static str = "task";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Work {
    AskPoints { request: String, points: u64 },
    Deposit { request: String, points: u64 },
    Fail { request: String, reason: String },
    Close,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("the task is closed")]
struct IsClosed;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Task {
    points: u64,
    closed: bool,
    failed: BTreeSet<String>,
}

impl Aggregate for Task {
    const CATEGORY: &'static str = "task";
    type Event = TaskEvent;
    type Command = Work;
    type Refusal = IsClosed;

    fn apply(&mut self, event: &TaskEvent) {
        match event {
            TaskEvent::PointsAsked { .. } => {}
            TaskEvent::Deposited { points, .. } => self.points += points,
            TaskEvent::Failed { request, .. } => _ = self.failed.insert(request.clone()),
            TaskEvent::Closed => self.closed = true,
        }
    }

    fn decide(&self, command: &Work) -> Result<Vec<TaskEvent>, IsClosed> {
        Ok(match command.clone() {
            Work::Close if self.closed => vec![],
            Work::Close => vec![TaskEvent::Closed],
            Work::Fail { request, reason } => vec![TaskEvent::Failed { request, reason }],
            _ if self.closed => return Err(IsClosed),
            Work::AskPoints { request, points } => vec![TaskEvent::PointsAsked { request, points }],
            Work::Deposit { request, points } => vec![TaskEvent::Deposited { request, points }],
        })
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PointsFact {
    #[serde(rename = "task.PointsAsked")]
    Asked { request: String, points: u64 },
    #[serde(rename = "project.Withdrawn")]
    Withdrawn { request: String },
    #[serde(rename = "project.PaidBack")]
    PaidBack { request: String },
    #[serde(rename = "task.Deposited")]
    Deposited { request: String },
    #[serde(rename = "task.Failed")]
    Failed { request: String },
}

impl Event for PointsFact {
    const NAMESPACE: &'static str = "points";
}

/// Withdraws from the project and deposits to the task, or fails with a reason.
#[derive(Debug, Default)]
struct PointsAssignment<const BUG: u8> {
    task: String,
    points: u64,
}

impl<const BUG: u8> Process for PointsAssignment<BUG> {
    const NAME: &'static str = "points";
    type Event = PointsFact;

    fn targets() -> Targets {
        Targets::of::<Project>().and::<Task>()
    }

    fn correlate(event: &Recorded<PointsFact>) -> Correlation {
        match &event.event {
            PointsFact::Asked { request, .. } => Correlation::starts(request),
            PointsFact::Withdrawn { request } | PointsFact::PaidBack { request } => {
                Correlation::continues(request)
            }
            PointsFact::Deposited { request } | PointsFact::Failed { request } => {
                Correlation::ends(request)
            }
        }
    }

    fn apply(&mut self, trigger: &Trigger<PointsFact>, context: &Context) {
        if let Trigger::Event(PointsFact::Asked { points, .. }) = trigger {
            (self.task, self.points) = (context.stream_id.clone(), *points);
        }
    }

    fn react(&self, trigger: &Trigger<PointsFact>, context: &Context) -> Reaction {
        let (request, points) = (context.key.clone(), self.points);
        let fail =
            |reason: &str| Work::Fail { request: context.key.clone(), reason: reason.to_owned() };
        match trigger {
            Trigger::Event(PointsFact::Asked { .. }) => {
                Reaction::none().command::<Project>("apollo", Budget::Withdraw { request, points })
            }
            Trigger::Event(PointsFact::Withdrawn { .. }) => {
                Reaction::none().command::<Task>(&self.task, Work::Deposit { request, points })
            }
            Trigger::Event(PointsFact::PaidBack { .. }) => {
                Reaction::none().command::<Task>(&self.task, fail("paid back"))
            }
            Trigger::Refused(refused) if refused.is_for::<Task>() && BUG != NO_COMPENSATION => {
                Reaction::none().command::<Project>("apollo", Budget::PayBack { request, points })
            }
            Trigger::Refused(refused) => {
                Reaction::none().command::<Task>(&self.task, fail(refused.reason()))
            }
            _ => Reaction::none(),
        }
    }
}

fn ask(request: &str, points: u64) -> Work {
    Work::AskPoints { request: request.to_owned(), points }
}

fn explorer<const BUG: u8>() -> Explorer {
    Explorer::new()
        .seed(7)
        .aggregate::<Project>()
        .aggregate::<Task>()
        .process::<PointsAssignment<BUG>>()
        .start(|clients| {
            clients.given::<Project>("apollo", [ProjectEvent::Funded { points: 100 }]);
            clients.client("anna").command::<Task>("t1", ask("r1", 60));
            clients
                .client("ben")
                .command::<Task>("t2", ask("r2", 60))
                .command::<Task>("t2", Work::Close);
        })
        .always("no point is made", |world| {
            let free: u64 = world.states::<Project>().map(|project| project.free).sum();
            free + world.states::<Task>().map(|task| task.points).sum::<u64>() <= 100
        })
        .finally("no point is lost", |world| {
            let free: u64 = world.states::<Project>().map(|project| project.free).sum();
            free + world.states::<Task>().map(|task| task.points).sum::<u64>() == 100
        })
        .finally("nothing is left in flight", |world| world.open_processes() == 0)
}

#[test]
fn a_sound_assignment_of_points_survives_everything() {
    explorer::<SOUND>().run(MANY);
}

#[test]
fn two_applications_share_the_assignment_of_points() {
    explorer::<SOUND>().applications(2).run(MANY);
}

#[test]
fn a_forgotten_compensation_is_found() {
    let failure = explorer::<NO_COMPENSATION>().explore(Schedules(1_000)).unwrap_err();
    is_found(&failure, "no point is lost", 15);
}

#[test]
fn a_process_that_forgets_what_it_reacted_to_is_found() {
    let forgetful = explorer::<SOUND>().spoiling(|append| append.checkpoint = None);
    let failure = forgetful.explore(Schedules(500)).unwrap_err();
    is_found(&failure, "no point is made", 30);
}

#[test]
fn commands_of_a_process_that_are_carried_out_twice_are_found() {
    let forgetful = explorer::<SOUND>().spoiling(|append| append.command = None);
    let failure = forgetful.explore(Schedules(1_000)).unwrap_err();
    is_found(&failure, "no point is made", 15);
}

#[test]
fn a_process_that_two_run_without_a_fence_is_safe_on_its_other_conditions() {
    explorer::<SOUND>().applications(2).spoiling(|append| append.fence = None).run(MANY);
}
