//! The runner of one process: one step at a time, each of which leaves the log whole.
//!
//! A step is the first of these that there is to do: carry out commands that are recorded, let
//! timers fire that are due, react to what is new. Whatever fails, the runner forgets what it holds
//! in memory and begins again from the log, as after a crash: so there is one way back, and it is
//! always the same.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::batch::{DurableReaction, ReactionBatch};
use super::handle::ProcessRequest;
use super::instance::{InstanceReader, category, consumer};
use super::instances::Instances;
use super::orders::Orders;
use super::parking::{Parking, Tally, UnreadableRecord, unread_category};
use super::ranges::ReadRanges;
use super::record::ProcessEvent;
use super::step::{ProcessTrouble, Step};
use super::timers::{NEAR_MAX, ProcessTimers};
use super::unfinished::Unfinished;
use super::{Process, Targets};
use crate::runtime::consumer::backoff::PROCESS_STORE;
use crate::runtime::consumer::lease::{self, Right, WorkTenure};
use crate::runtime::consumer::status::{Doing, ForPerson};
use crate::runtime::{Host, StartFault};
use crate::store::{
    AppendError, CheckpointRecord, Head, Invalid, Label, MoveFrom, NoneMatching, Outcome, Position,
    Query, ReadError, RecordedEvent, State, Status, SubscribeError,
};

/// Events that are read at once, at most.
pub(super) const EVENTS_AT_ONCE: u32 = 512;
/// Bytes of a process's name.
const NAME_BYTES_MAX: usize = 60;

/// Runs one process.
pub(crate) struct ProcessRunner<P: Process> {
    pub(super) host: Host,
    pub(super) archive: InstanceReader,
    pub(super) targets: Targets,
    consumer: Label,
    /// The events that it follows.
    pub(super) query: Query,
    /// Query for its own records.
    pub(super) own: Query,
    /// Knowledge of the log; `None` if it is to be read (again).
    pub(super) known: Option<RunnerState<P>>,
    pub(super) passed_over: ReadRanges,
    asked: mpsc::Receiver<ProcessRequest>,
    /// Call that it has under way, so that code of users that does not return is named.
    pub(super) doing: Arc<Doing>,
    /// The lease on its work; `None` if nobody else can do it.
    tenure: Option<WorkTenure>,
    near_max: usize,
}

/// State of a runner in memory.
pub(super) struct RunnerState<P: Process> {
    pub(super) instances: Instances<P>,
    pub(super) orders: Orders,
    pub(super) timers: ProcessTimers,
    /// Events that were read and not heard yet.
    pub(super) ahead: VecDeque<RecordedEvent>,
    /// Position up to which everything is heard once those are.
    pub(super) ahead_through: Position,
    /// Everything up to here was reacted to.
    pub(super) through: Position,
    /// Position up to which the log knows that.
    pub(super) checkpoint: Position,
    /// Everything that is recorded of the process up to here is taken in. An append on top of
    /// anything else is refused.
    pub(super) own_through: Position,
    /// Records of the process that cannot be read, still to be parked.
    pub(super) unreadable: Vec<UnreadableRecord>,
    /// A durable end. Once everything up to it was reacted to, so was everything recorded before
    /// its time.
    pub(super) barrier: Option<Head>,
}

impl<P: Process> ProcessRunner<P> {
    pub(crate) async fn new(
        host: Host,
        asked: mpsc::Receiver<ProcessRequest>,
    ) -> Result<Self, StartFault> {
        let archive = InstanceReader::new::<P>(host.store.clone())?;
        // The name is checked before anything depends on it.
        super::instance::check_key(P::NAME, "key")?;
        Invalid::if_over("a process's name", P::NAME.len(), NAME_BYTES_MAX)?;
        let consumer = consumer(P::NAME)?;
        let query = archive.schema.query();
        let own = Query::category(category(P::NAME)).or(Query::category(unread_category(P::NAME)));
        let (targets, near_max) = (P::targets(), NEAR_MAX);
        let doing = Arc::<Doing>::default();
        host.board.watch(P::NAME, doing.clone());
        let (known, passed_over, tenure) = (None, ReadRanges::default(), None);
        let mut runner = Self {
            host,
            archive,
            targets,
            consumer,
            query,
            own,
            known,
            passed_over,
            asked,
            doing,
            tenure,
            near_max,
        };
        runner.known = Some(runner.begin().await?);
        runner.host.board.say(P::NAME, "its start");
        Ok(runner)
    }

    /// The same, if others may run the process too: it works while it has the lease.
    pub(crate) fn leased(mut self) -> Self {
        self.tenure = Some(WorkTenure::new::<P>(&self.host, P::NAME, self.consumer.clone()));
        self
    }

    /// The same, with fewer timers in memory.
    #[cfg(test)]
    pub(super) async fn keep_near(&mut self, near_max: usize) {
        self.near_max = near_max;
        self.known = self.begin().await.ok();
    }

    /// Reads the runner's state from the log.
    pub(super) async fn begin(&self) -> Result<RunnerState<P>, StartFault> {
        let store = &self.host.store;
        // Whatever is recorded of the process after this may be read below, or not: the next append
        // finds out.
        let own_through = store.head().position;
        self.host.look_for_types(P::NAME).await;
        let checkpoint = match store.checkpoint(self.consumer.clone()).await? {
            Some(checkpoint) => {
                store.verify(&checkpoint).await?;
                checkpoint.position
            }
            None => Position::START,
        };
        let unfinished =
            Unfinished::load(&self.archive, P::NAME, self.host.clock.now(), self.near_max).await;
        let Unfinished { orders, timers, mut unreadable } = unfinished?;
        let (parking, more) = Parking::load(&self.archive, P::NAME).await?;
        unreadable.retain(|found| !parking.knows_record(found.position) && !more.contains(found));
        unreadable.extend(more);
        let instances = Instances::new(self.archive.clone(), self.targets.clone(), parking);
        let (ahead, ahead_through, barrier, through) =
            (VecDeque::new(), checkpoint, None, checkpoint);
        Ok(RunnerState {
            instances,
            orders,
            timers,
            ahead,
            ahead_through,
            through,
            checkpoint,
            own_through,
            unreadable,
            barrier,
        })
    }

    /// Runs until told to stop.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let (clock, mut status) = (self.host.clock.clone(), self.host.store.status());
        let why = loop {
            if *stop.borrow() {
                break "stopped";
            }
            // Without the lease it stands by, and asks again later.
            let step = match self.right().await {
                Right::Held => self.step().await,
                Right::StandsBy(why, at) => {
                    self.host.board.say_standby(P::NAME, &why, 0);
                    Step::Stalled(why, at)
                }
                Right::Waits(why, at) => {
                    self.host.board.say_away(P::NAME, &why);
                    Step::Stalled(why, at)
                }
                Right::Closed => Step::Closed,
            };
            // A step that did something is followed by the next one at once.
            let (wakes_at, waits) = match step {
                Step::Worked => {
                    while let Ok(asked) = self.asked.try_recv() {
                        self.answer(asked).await;
                    }
                    // Others have their turn, also on a store that never waits.
                    tokio::task::yield_now().await;
                    continue;
                }
                Step::Closed => break "stopped: the store is closed",
                Step::Idle(at) => (at, true),
                Step::Stalled(_, at) | Step::NeedsPerson(_, at) => (at, false),
            };
            // Else it sleeps until a timer, a retry or the lease is due, or there is something new.
            // What is new does not help a step that failed.
            let through = self.known.as_ref().map_or(Position::END, |known| known.through);
            let due = lease::due(self.tenure.as_ref(), &clock);
            let news =
                |status: &Status| status.head.position > through || status.state == State::Closed;
            tokio::select! {
                biased;
                () = crate::runtime::stopped(&mut stop) => break "stopped",
                Some(asked) = self.asked.recv() => self.answer(asked).await,
                // A store that is gone says so at the next step.
                () = async { drop(status.wait_for(news).await) }, if waits => {}
                () = self.archive.schema.until_stale(), if waits => {}
                () = due => {}
                () = clock.sleep_until(wakes_at) => {}
            }
        };
        self.hand_over().await;
        self.host.board.say(P::NAME, why);
    }

    /// Gives the lease back, between two steps.
    async fn hand_over(&mut self) {
        self.remember().await;
        if let Some(tenure) = &mut self.tenure {
            tenure.release(&self.host).await;
        }
    }

    /// Returns its right to work.
    pub(super) async fn right(&mut self) -> Right {
        if self.tenure.as_ref().is_some_and(WorkTenure::is_called_away) {
            self.hand_over().await;
        }
        let Some(tenure) = &mut self.tenure else { return Right::Held };
        let before = tenure.fence();
        let right = tenure.hold(&self.host).await;
        if tenure.fence() != before {
            // Anyone who had it may have recorded commands since that was read, and nobody else
            // carries them out.
            self.known = None;
        }
        right
    }

    /// Does the next thing, if there is one.
    pub(crate) async fn step(&mut self) -> Step {
        self.host.board.begins(P::NAME);
        if self.archive.schema.is_stale()
            && let Err(error) = self.renew()
        {
            return self.stalled(format!("its events to be read again: {error}"));
        }
        let step = match self.known.take() {
            Some(known) => self.step_from(known).await,
            None => match self.begin().await {
                Ok(known) => {
                    self.known = Some(known);
                    Step::Worked
                }
                Err(
                    StartFault::Read(ReadError::Closed)
                    | StartFault::Foreign(SubscribeError::Read(ReadError::Closed)),
                ) => Step::Closed,
                Err(error) => self.stalled(format!("the log to be read again: {error}")),
            },
        };
        self.say_status(&step);
        step
    }

    async fn step_from(&mut self, mut known: RunnerState<P>) -> Step {
        let before = known.checkpoint;
        let next = self.next(&mut known).await;
        self.passed_over.has_read(before, known.checkpoint);
        match next {
            Ok(step) => {
                self.known = Some(known);
                step
            }
            Err(trouble) => self.troubled(trouble),
        }
    }

    /// Drops the state in memory: the next step begins with reading.
    pub(super) fn troubled(&mut self, trouble: ProcessTrouble) -> Step {
        match trouble {
            ProcessTrouble::Closed => Step::Closed,
            ProcessTrouble::Begin(why) => {
                tracing::debug!(process = P::NAME, why, "a process begins again from the log");
                Step::Worked
            }
            ProcessTrouble::Fenced => {
                tracing::warn!(process = P::NAME, "a process went to another runner");
                self.tenure.iter_mut().for_each(WorkTenure::lost);
                Step::Worked
            }
            ProcessTrouble::Store(why) => {
                tracing::error!(process = P::NAME, why, "a process cannot go on, trying again");
                self.stalled(why)
            }
            ProcessTrouble::Full => self.needs_person(),
        }
    }

    fn stalled(&self, why: String) -> Step {
        Step::Stalled(why, self.host.clock.now().plus(PROCESS_STORE.first))
    }

    pub(super) fn needs_person(&self) -> Step {
        Step::NeedsPerson(Parking::full(), self.host.clock.now().plus(PROCESS_STORE.first))
    }

    pub(super) fn fence(&self) -> Option<(Label, crate::store::Fence)> {
        self.tenure.as_ref().and_then(WorkTenure::fence)
    }

    /// Makes reactions durable together with the checkpoint, and takes in what they mean.
    pub(super) async fn append(
        &self,
        known: &mut RunnerState<P>,
        mut batch: ReactionBatch,
        through: Option<Position>,
        none_matching: Option<NoneMatching>,
    ) -> Result<(), ProcessTrouble> {
        if batch.is_empty() && through.is_none() {
            return Ok(());
        }
        // Each entry says how far commands and timers are, so that reading need not begin before.
        let (carried, fired_before) =
            (known.orders.carried(), known.timers.fired_before().min(batch.first_due()));
        batch.entries.iter_mut().for_each(|entry| entry.mark(carried, fired_before));
        let checkpoint = match through {
            Some(through) => Some(CheckpointRecord {
                consumer: self.consumer.clone(),
                from: MoveFrom::Exactly(known.checkpoint),
                checkpoint: self
                    .host
                    .store
                    .checkpoint_at(through)
                    .await
                    .map_err(|error| ProcessTrouble::Store(error.to_string()))?,
            }),
            None => None,
        };
        // The marks speak of everything that is recorded of the process: so nothing may be that is
        // not known.
        let unknown = || NoneMatching { query: self.own.clone(), after: known.own_through };
        let none_matching = none_matching.unwrap_or_else(unknown);
        let append = batch.append(&self.archive.own, checkpoint, none_matching, self.fence());
        match self
            .host
            .store
            .append(append.map_err(|error| ProcessTrouble::Store(error.to_string()))?)
            .await
        {
            // Now that it is durable, it is taken in.
            Ok(Outcome::Appended(appended)) => {
                if let Some(through) = through {
                    (known.through, known.checkpoint) = (through, through);
                }
                known.own_through = known.own_through.max(appended.last());
                let mut keys = BTreeSet::new();
                for settled in batch.settled(&appended) {
                    keys.insert(settled.key.clone());
                    known.settle(settled);
                }
                known.instances.keep_snapshots(&keys);
                known.instances.forget_some();
                Ok(())
            }
            // Something is recorded that is not known here: everything is read again.
            Ok(Outcome::Conflict(conflict)) => Err(ProcessTrouble::Begin(conflict.to_string())),
            Ok(Outcome::Repeated(_)) => {
                Err(ProcessTrouble::Begin("an append without a command id was repeated".to_owned()))
            }
            Err(error @ AppendError::CheckpointMoved { .. }) => {
                Err(ProcessTrouble::Begin(error.to_string()))
            }
            Err(AppendError::Fenced { .. }) => Err(ProcessTrouble::Fenced),
            Err(AppendError::Closed) => Err(ProcessTrouble::Closed),
            Err(error) => {
                Err(ProcessTrouble::Store(format!("its reactions to be recorded: {error}")))
            }
        }
    }

    /// Records how far it has come, as far as that is not recorded.
    async fn remember(&mut self) {
        let Some(mut known) = self.known.take() else { return };
        if known.through > known.checkpoint {
            let through = known.through;
            // Without it, more is passed over at the next start.
            let _ = self.append(&mut known, ReactionBatch::default(), Some(through), None).await;
        }
    }

    fn say_status(&self, step: &Step) {
        if let Some(known) = &self.known {
            let Tally { parked, stuck, .. } = known.instances.parking.tally();
            self.host
                .board
                .say_for_person(P::NAME, ForPerson { parked: parked - stuck, stuck, in_doubt: 0 });
        }
        match step {
            Step::Stalled(why, _) => return self.host.board.say_away(P::NAME, why),
            Step::NeedsPerson(why, _) => return self.host.board.say_stalled(P::NAME, why),
            Step::Worked | Step::Idle(_) | Step::Closed => {}
        }
        let Some(known) = &self.known else { return };
        let parked = known.instances.parking.tally().parked;
        let trouble = known.orders.trouble().or_else(|| known.instances.parking.trouble());
        let waits_for = trouble.unwrap_or_else(|| "events, or the next due time".to_owned());
        // Behind a step that did something there may be another: a timer that is due.
        let under_way = known.orders.len().max(usize::from(*step == Step::Worked));
        self.host.board.say_where(P::NAME, known.through, &waits_for, under_way, parked);
    }
}

impl<P: Process> RunnerState<P> {
    /// Takes in an entry that is durable now.
    fn settle(
        &mut self,
        DurableReaction { key, event, position, version, metadata }: DurableReaction,
    ) {
        if let ProcessEvent::Reacted(reacted) = &event {
            self.orders.take(&key, reacted, (position, version), &metadata);
            reacted.near(&key, position).for_each(|timer| self.timers.set(timer));
        }
        self.instances.settle(&key, &event, position, &metadata);
    }
}
