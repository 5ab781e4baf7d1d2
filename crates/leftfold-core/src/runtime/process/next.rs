//! The next thing that a process does: carry out commands that are recorded, let timers fire that
//! are due, react to what is new.

use std::time::Duration;

use super::Process;
use super::batch::ReactionBatch;
use super::instance::IncomingTrigger;
use super::instances::BatchAdmission;
use super::orders::RefusedOrder;
use super::record::StoredCause;
use super::runner::{EVENTS_AT_ONCE, ProcessRunner, RunnerState};
use super::step::{ProcessTrouble, Step};
use crate::store::{Metadata, NoneMatching, Position, Read, Timestamp};

/// Timers that fire with one append, at most.
const FIRED_AT_ONCE: usize = 100;
/// Events that do not concern the process are passed over without a record; after this number its
/// checkpoint moves.
const PASSED_OVER_MAX: u64 = 10_000;

/// Result of looking for something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NextOutcome {
    Nothing,
    Something,
    /// The next trigger would have to be parked, and too many are.
    Full,
}

impl<P: Process> ProcessRunner<P> {
    /// Does the first of the things that there are to do.
    pub(super) async fn next(
        &mut self,
        known: &mut RunnerState<P>,
    ) -> Result<Step, ProcessTrouble> {
        let now = self.host.clock.now();
        if !known.unreadable.is_empty() {
            let mut batch = ReactionBatch::default();
            for found in std::mem::take(&mut known.unreadable) {
                known.instances.park_record(found, &mut batch).await?;
            }
            self.append(known, batch, None, None).await?;
            return Ok(Step::Worked);
        }
        if let Some(step) = self.park_passed_over(known).await? {
            return Ok(step);
        }
        if known.orders.wakes_at().is_some_and(|at| at <= now) {
            self.carry(known, now).await?;
            return Ok(Step::Worked);
        }
        if known.timers.look_ahead(&self.archive, now).await.map_err(ProcessTrouble::from)? {
            return Ok(Step::Worked);
        }
        if !known.orders.is_full() {
            if let Some(fired) = self.fire(known, now).await? {
                return Ok(fired);
            }
            match self.take_new(known).await? {
                NextOutcome::Something => return Ok(Step::Worked),
                NextOutcome::Full => return Ok(self.needs_person()),
                NextOutcome::Nothing => {}
            }
        }
        let wakes_at =
            known.orders.wakes_at().into_iter().fold(known.timers.wakes_at(), Timestamp::min);
        Ok(Step::Idle(wakes_at.max(now.plus(Duration::from_millis(1)))))
    }

    /// Carries out commands, and lets their refusals be reacted to.
    async fn carry(
        &self,
        known: &mut RunnerState<P>,
        now: Timestamp,
    ) -> Result<(), ProcessTrouble> {
        let fence = self.fence();
        let out = known.orders.carry((&self.host.store, fence.as_ref()), &self.targets, now).await;
        let out = out.map_err(|invalid| ProcessTrouble::Store(invalid.to_string()))?;
        if out.fenced {
            return Err(ProcessTrouble::Fenced);
        }
        let mut batch = ReactionBatch::default();
        for RefusedOrder { key, cause, metadata } in out.refused {
            let issued_at = self
                .archive
                .event_at(cause.position())
                .await?
                .map_or(now, |event| event.recorded_at);
            let Some(heard) = IncomingTrigger::refused(&key, &cause, issued_at) else { continue };
            if known.instances.hear_own(heard.clone(), metadata.clone(), &mut batch).await?
                != BatchAdmission::Taken
            {
                self.append(known, std::mem::take(&mut batch), None, None).await?;
                if known.instances.hear_own(heard, metadata, &mut batch).await?
                    != BatchAdmission::Taken
                {
                    return Err(ProcessTrouble::Full);
                }
            }
            self.concluded(known, &cause, &mut batch).await?;
        }
        for stuck in out.stuck {
            let cause = stuck.cause.clone();
            if known.instances.park_command(stuck, &mut batch).await? != BatchAdmission::Taken {
                self.append(known, batch, None, None).await?;
                return Err(ProcessTrouble::Full);
            }
            self.concluded(known, &cause, &mut batch).await?;
        }
        self.append(known, batch, None, None).await
    }

    /// Takes a command as concluded, and appends the batch once it is full.
    async fn concluded(
        &self,
        known: &mut RunnerState<P>,
        cause: &StoredCause,
        batch: &mut ReactionBatch,
    ) -> Result<(), ProcessTrouble> {
        known.orders.conclude(cause);
        if batch.has_room() {
            return Ok(());
        }
        self.append(known, std::mem::take(batch), None, None).await
    }

    /// Fires the due timers once everything recorded up to their due time was reacted to. `None` if
    /// none can fire yet.
    async fn fire(
        &self,
        known: &mut RunnerState<P>,
        now: Timestamp,
    ) -> Result<Option<Step>, ProcessTrouble> {
        let due = known.timers.due(now, FIRED_AT_ONCE);
        let Some(last_due) = due.last().map(|timer| timer.due) else { return Ok(None) };
        if known.barrier.is_none_or(|barrier| barrier.recorded_at <= last_due) {
            known.barrier = Some(self.host.store.head());
        }
        let Some(barrier) = known.barrier else { return Ok(None) };
        // What came before its time may set, replace and cancel timers. Those that it passed over
        // say nothing.
        let heard_through = barrier.position.max(known.own_through);
        if known.through < heard_through {
            match self.take_new(known).await? {
                NextOutcome::Something => return Ok(Some(Step::Worked)),
                NextOutcome::Full => return Ok(Some(self.needs_person())),
                NextOutcome::Nothing if known.through < heard_through => return Ok(None),
                NextOutcome::Nothing => {}
            }
        }
        // Recorded time increases: what comes after a barrier beyond the due time was recorded
        // after it. An append that is under way may have been stamped before it: then it must not
        // be one that the process follows.
        let none_matching = (barrier.recorded_at <= last_due).then(|| NoneMatching {
            query: self.query.clone().or(self.own.clone()),
            after: known.through,
        });
        let (mut batch, mut fired) = (ReactionBatch::default(), Vec::with_capacity(due.len()));
        for timer in due {
            let heard = IncomingTrigger::timer(&timer.key, &timer.name, timer.due, timer.set_at);
            if known.instances.hear_own(heard, Metadata::default(), &mut batch).await?
                != BatchAdmission::Taken
            {
                break;
            }
            fired.push(timer);
            if !batch.has_room() {
                break;
            }
        }
        // With nothing in the batch, it is taken or there is no room for what fails.
        if fired.is_empty() {
            return Ok(Some(self.needs_person()));
        }
        self.append(known, batch, None, none_matching).await?;
        fired.iter().for_each(|timer| known.timers.forget(timer));
        Ok(Some(Step::Worked))
    }

    /// Reacts to the events that were recorded since.
    async fn take_new(&self, known: &mut RunnerState<P>) -> Result<NextOutcome, ProcessTrouble> {
        if known.ahead.is_empty() {
            let read =
                Read::matching(self.query.clone(), known.through.next()).page_of(EVENTS_AT_ONCE);
            let page = self.host.store.page(read).await?;
            if page.events.is_empty() {
                let more = page.through > known.through && page.next.is_some();
                self.pass_over(known, page.through).await?;
                return Ok(if more { NextOutcome::Something } else { NextOutcome::Nothing });
            }
            self.host.board.has_read(P::NAME, page.events.iter());
            (known.ahead, known.ahead_through) = (page.events.into(), page.through);
        }
        let (mut batch, mut through) = (ReactionBatch::default(), known.through);
        let mut heard = BatchAdmission::Taken;
        while let Some(event) = known.ahead.front() {
            let _doing = self.doing.begin(
                "the reaction to the event at",
                event.position,
                self.host.clock.now(),
            );
            heard = known.instances.hear(event, &mut batch).await?;
            if heard != BatchAdmission::Taken {
                break;
            }
            through = event.position;
            known.ahead.pop_front();
            if known.ahead.is_empty() {
                through = known.ahead_through.max(through);
            }
            if !batch.has_room() {
                break;
            }
        }
        if through == known.through {
            return Ok(if heard == BatchAdmission::Full {
                NextOutcome::Full
            } else {
                NextOutcome::Nothing
            });
        }
        if batch.is_empty() {
            self.pass_over(known, through).await?;
        } else {
            self.append(known, batch, Some(through), None).await?;
        }
        Ok(NextOutcome::Something)
    }

    /// Passes over everything up to a position: nothing there concerns the process.
    async fn pass_over(
        &self,
        known: &mut RunnerState<P>,
        through: Position,
    ) -> Result<(), ProcessTrouble> {
        known.through = known.through.max(through);
        if known.through.0 - known.checkpoint.0 < PASSED_OVER_MAX {
            return Ok(());
        }
        self.append(known, ReactionBatch::default(), Some(known.through), None).await
    }
}
