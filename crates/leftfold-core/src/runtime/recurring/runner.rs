//! Waits for what is due, and carries it out.

use tokio::sync::watch;

use super::schedule::{Schedule, ScheduleCommand};
use super::{MADE_UP_MAX, Missed, Plan, Recurring};
use crate::fold::{Aggregates, ExecuteError};
use crate::panic::caught;
use crate::runtime::consumer::backoff::RECURRING;
use crate::runtime::{Host, Named, StartFault, stopped};
use crate::store::limits::ID_BYTES_MAX;
use crate::store::{AppendError, CommandId, Invalid, State, StreamName, Timestamp};

/// Carries out one recurring command.
pub(in crate::runtime) struct RecurringRunner<R: Recurring> {
    host: Host,
    recurring: R,
    plan: Plan,
    schedules: Aggregates<Schedule>,
    targets: Aggregates<R::Target>,
    /// Moment of the start; everything that was due before it was missed.
    started_at: Timestamp,
    /// The failure of the last firing, if it failed for good.
    failure: Option<String>,
}

/// Reason why a step of a recurring command cannot be done now.
struct RecurringTrouble(String);

impl<R: Recurring> RecurringRunner<R> {
    pub(in crate::runtime) fn new(host: Host, recurring: R) -> Result<Self, StartFault> {
        Invalid::if_over("the name of a recurring command", R::NAME.len(), ID_BYTES_MAX)?;
        StreamName::of("$schedule", R::NAME)?;
        let plan =
            caught(|| recurring.plan()).map_err(|said| Named::of::<R>(R::NAME).panicked(said))?;
        let (schedules, targets, started_at) =
            (host.store.aggregate(), host.store.aggregate(), host.clock.now());
        Ok(Self { host, recurring, plan, schedules, targets, started_at, failure: None })
    }

    /// Goes on until it is told to stop, or the store is closed. It is safe to drop it anywhere.
    pub(in crate::runtime) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut failures = 0_u32;
        loop {
            self.host.board.begins(R::NAME);
            let step = tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                step = self.step() => step,
            };
            let until = match step {
                Ok(next) => {
                    failures = 0;
                    next
                }
                Err(_) if self.host.store.status().borrow().state == State::Closed => break,
                Err(RecurringTrouble(why)) => {
                    self.host.board.say_away(R::NAME, &why);
                    failures = failures.saturating_add(1);
                    let again = self.host.clock.now().plus(RECURRING.after(failures));
                    tokio::select! {
                        biased;
                        () = stopped(&mut stop) => break,
                        () = self.host.clock.sleep_until(again) => continue,
                    }
                }
            };
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break,
                () = self.wait(until) => {}
            }
        }
        self.host.board.say(R::NAME, "its next start");
    }

    /// Waits for the next due moment, and reports meanwhile that nothing of the log is missing.
    async fn wait(&self, until: Timestamp) {
        let mut status = self.host.store.status();
        let waits_for = match &self.failure {
            None => until.to_string(),
            Some(failure) => format!("{until}, though the last firing failed: {failure}"),
        };
        let mut due = self.host.clock.sleep_until(until);
        loop {
            let (head, state) = {
                let status = status.borrow_and_update();
                (status.head.position, status.state.clone())
            };
            if state == State::Closed {
                return;
            }
            self.host.board.say_where(R::NAME, head, &waits_for, 0, 1);
            tokio::select! {
                () = &mut due => return,
                changed = status.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Carries out what is due. Returns when more is.
    async fn step(&mut self) -> Result<Timestamp, RecurringTrouble> {
        let schedule = self
            .schedules
            .load(R::NAME)
            .await
            .map_err(|error| RecurringTrouble(error.to_string()))?;
        let now = self.host.clock.now();
        let Some(through) = schedule.state.through else {
            self.remember(ScheduleCommand::Begin { at: now }).await?;
            return Ok(self.plan.after(now));
        };
        let last = self.plan.by(now);
        if last > through {
            match self.first_to_fire(through, last) {
                Some(first) => self.fire_all(through, first, last).await?,
                None => {
                    let passed_over = self.plan.count(through, last);
                    self.remember(ScheduleCommand::PassOver { through: last, passed_over }).await?;
                }
            }
        }
        Ok(self.plan.after(now.max(through)))
    }

    /// The first moment to make up for, of those after one and up to another.
    fn first_to_fire(&self, through: Timestamp, last: Timestamp) -> Option<Timestamp> {
        match self.recurring.missed() {
            Missed::Once => Some(last),
            Missed::Each => {
                Some(self.plan.back(last, MADE_UP_MAX - 1).max(self.plan.after(through)))
            }
            Missed::Skip => (last >= self.started_at).then_some(last),
        }
    }

    async fn fire_all(
        &mut self,
        through: Timestamp,
        first: Timestamp,
        last: Timestamp,
    ) -> Result<(), RecurringTrouble> {
        let mut passed_over = self.plan.count(through, first).saturating_sub(1);
        let mut due = first;
        while due <= last {
            self.failure = self.fire(due).await?;
            if let Some(failure) = &self.failure {
                tracing::error!(recurring = R::NAME, %due, failure, "a recurring command did nothing");
            }
            self.remember(ScheduleCommand::Fire {
                due,
                passed_over,
                failure: self.failure.clone(),
            })
            .await?;
            (passed_over, due) = (0, self.plan.after(due));
        }
        Ok(())
    }

    /// Carries the command of a moment out. Returns why it did nothing, if that is for good.
    async fn fire(&self, due: Timestamp) -> Result<Option<String>, RecurringTrouble> {
        let (id, command) = match caught(|| self.recurring.due(due)) {
            Ok(asked) => asked,
            Err(said) => return Ok(Some(format!("due() panics, fix it: {said}"))),
        };
        let request =
            CommandId::of_runtime(&format!("$schedule:{}", R::NAME), &due.as_micros().to_string());
        match self
            .targets
            .command(&id, command)
            .with_id(request)
            .without_request_check()
            .execute()
            .await
        {
            // Its id was used: by an earlier try, which asked another aggregate.
            Ok(_) | Err(ExecuteError::Append(AppendError::CommandIdReused { .. })) => Ok(None),
            Err(error) if error.kind().may_be_tried_again() => {
                Err(RecurringTrouble(error.to_string()))
            }
            Err(error) => Ok(Some(error.to_string())),
        }
    }

    async fn remember(&self, step: ScheduleCommand) -> Result<(), RecurringTrouble> {
        self.schedules
            .execute(R::NAME, step)
            .await
            .map(drop)
            .map_err(|error| RecurringTrouble(error.to_string()))
    }
}
