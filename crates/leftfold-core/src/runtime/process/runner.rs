//! The runner of one process: one step at a time, each of which leaves the log whole.
//!
//! A step is the first of these that there is to do: carry out commands that are recorded, let timers fire that are
//! due, react to what is new. Whatever fails, the runner forgets what it holds in memory and begins again from the
//! log, as after a crash: so there is one way back, and it is always the same.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::batch::{Batch, Settled};
use super::instance::{Archive, Heard, Life, category};
use super::instances::Instances;
use super::orders::{Orders, RefusedOrder};
use super::people::Asked;
use super::record::{ProcessEvent, StoredCause};
use super::timers::{Near, Timers};
use super::{Process, Targets};
use crate::fold::{EventError, LoadError};
use crate::runtime::{Host, StartError};
use crate::store::{
    AppendError, CheckpointRecord, Direction, Head, Label, MoveFrom, NoneMatching, Outcome, Position, Query, Read, ReadError,
    RecordedEvent, State, Status, SubscribeError, Timestamp,
};

/// Commands that wait at most; beyond that nothing new is reacted to until some are carried out.
const ORDERS_MAX: usize = 20_000;
/// Timers that fire with one append, at most.
const FIRED_AT_ONCE: usize = 100;
/// Events that are read at once, at most.
const EVENTS_AT_ONCE: u32 = 512;
/// Events that do not concern the process are passed over without a record; after so many its checkpoint moves.
const PASSED_OVER_MAX: u64 = 10_000;
/// The wait before the store is tried again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Reactions between two memos of the timers that have fired.
const REACTIONS_PER_MEMO: u64 = 10_000;

/// What a step came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Something was done, and there may be more.
    Worked,
    /// There is nothing to do before this moment, or before something new is recorded.
    Idle(Timestamp),
    /// It cannot go on before this moment, for this reason.
    Stalled(String, Timestamp),
    /// The store is closed.
    Closed,
}

/// Why a step did not succeed.
pub(super) enum Trouble {
    /// Others wrote, or it is not known whether something was written: begin again from the log.
    Begin(String),
    /// The store cannot be used now.
    Store(String),
    Closed,
}

/// Runs one process.
pub(crate) struct ProcessRunner<P: Process> {
    host: Host,
    archive: Archive,
    targets: Targets,
    consumer: Label,
    query: Query,
    /// What is known of the log; none when it is to be read (again).
    known: Option<Known<P>>,
    asked: mpsc::Receiver<Asked>,
}

/// What a runner holds in memory.
pub(super) struct Known<P: Process> {
    pub(super) instances: Instances<P>,
    orders: Orders,
    timers: Timers,
    /// Everything up to here was reacted to.
    through: Position,
    /// So far the log knows that.
    checkpoint: Position,
    /// A durable end. Once everything up to it was reacted to, so was everything recorded before its time.
    barrier: Option<Head>,
    reactions: u64,
}

impl<P: Process> ProcessRunner<P> {
    pub(crate) async fn new(host: Host, asked: mpsc::Receiver<Asked>) -> Result<Self, StartError> {
        let archive = Archive::new::<P>(host.store.clone())?;
        // The name is checked before anything depends on it.
        super::instance::check_key(P::NAME, "key")?;
        let consumer = Label::new(category(P::NAME))?;
        let query = archive.schema.query();
        let mut runner = Self { host, archive, targets: P::targets(), consumer, query, known: None, asked };
        runner.known = Some(runner.begin().await?);
        runner.host.board.say(P::NAME, "its start");
        Ok(runner)
    }

    /// Reads from the log what the runner stands on.
    async fn begin(&self) -> Result<Known<P>, StartError> {
        let store = &self.host.store;
        let checkpoint = match store.checkpoint(self.consumer.clone()).await? {
            Some(checkpoint) => {
                store.verify(&checkpoint).await?;
                checkpoint.position
            }
            None => Position::START,
        };
        let mut orders = Orders::new(P::NAME);
        let mut timers = Timers::load(P::NAME, &self.archive).await.map_err(start_error)?;
        self.unfinished(&mut orders, &mut timers).await.map_err(start_error)?;
        let instances = Instances::load(self.archive.clone(), self.targets.clone()).await.map_err(start_error)?;
        Ok(Known { instances, orders, timers, through: checkpoint, checkpoint, barrier: None, reactions: 0 })
    }

    /// The commands that may not have been carried out: those of every reaction after the mark that the last one bears.
    async fn unfinished(&self, orders: &mut Orders, timers: &mut Timers) -> Result<(), LoadError> {
        let own = Query::category(category(P::NAME));
        let mut latest = Read::matching(own.clone(), Position::END).backwards().page_of(16);
        latest.direction = Direction::Backwards;
        let mut events = self.host.store.read(latest);
        let mut carried = Position::START;
        'looking: while let Some(page) = events.page().await? {
            for event in page {
                if let Some(ProcessEvent::Reacted(reacted)) = self.archive.own(&event)? {
                    carried = Position(reacted.carried);
                    break 'looking;
                }
            }
        }
        let mut events = self.host.store.read(Read::matching(own, carried.next()));
        while let Some(event) = events.next().await? {
            if let Some(ProcessEvent::Reacted(reacted)) = self.archive.own(&event)? {
                let key = event.stream.as_ref().map_or("", |at| at.name.id());
                let at = (event.position, event.version());
                orders.take(key, &reacted, at, event.metadata.correlation.as_ref());
                for timer in &reacted.timers {
                    timers.set(Near { due: timer.due, key: key.to_owned(), name: timer.name.clone(), set_at: event.position });
                }
            }
        }
        Ok(())
    }

    /// Runs until told to stop.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let (clock, mut status) = (self.host.clock.clone(), self.host.store.status());
        let why = loop {
            if *stop.borrow() {
                break "stopped";
            }
            let step = self.step().await;
            let (wakes_at, waits) = match step {
                Step::Worked => continue,
                Step::Closed => break "stopped: the store is closed",
                Step::Idle(at) => (at, true),
                Step::Stalled(_, at) => (at, false),
            };
            let through = self.known.as_ref().map_or(Position::END, |known| known.through);
            let news = |status: &Status| status.head.position > through || status.state == State::Closed;
            tokio::select! {
                biased;
                () = crate::runtime::stopped(&mut stop) => break "stopped",
                Some(asked) = self.asked.recv() => self.answer(asked).await,
                // A store that is gone says so at the next step.
                () = async { drop(status.wait_for(news).await) }, if waits => {}
                () = clock.sleep_until(wakes_at) => {}
            }
        };
        self.remember().await;
        self.host.board.say(P::NAME, why);
    }

    /// Does the next thing, if there is one.
    pub(crate) async fn step(&mut self) -> Step {
        self.host.board.begins(P::NAME);
        let step = match self.known.take() {
            Some(known) => self.step_from(known).await,
            None => match self.begin().await {
                Ok(known) => {
                    self.known = Some(known);
                    Step::Worked
                }
                Err(StartError::Read(ReadError::Closed)) => Step::Closed,
                Err(error) => self.stalled(format!("the log to be read again: {error}")),
            },
        };
        self.say_status(&step);
        step
    }

    async fn step_from(&mut self, mut known: Known<P>) -> Step {
        match self.next(&mut known).await {
            Ok(step) => {
                self.known = Some(known);
                step
            }
            Err(Trouble::Closed) => Step::Closed,
            Err(Trouble::Begin(why)) => {
                tracing::debug!(process = P::NAME, why, "a process begins again from the log");
                Step::Worked
            }
            Err(Trouble::Store(why)) => {
                tracing::error!(process = P::NAME, why, "a process cannot go on, trying again");
                self.stalled(why)
            }
        }
    }

    fn stalled(&self, why: String) -> Step {
        Step::Stalled(why, self.host.clock.now().plus(STORE_RETRY))
    }

    async fn next(&mut self, known: &mut Known<P>) -> Result<Step, Trouble> {
        let now = self.host.clock.now();
        if known.orders.wakes_at().is_some_and(|at| at <= now) {
            self.carry(known, now).await?;
            return Ok(Step::Worked);
        }
        if known.timers.look_ahead(&self.archive, now).await.map_err(Trouble::from)? {
            return Ok(Step::Worked);
        }
        if let Some(fired) = self.fire(known, now).await? {
            return Ok(fired);
        }
        if known.orders.len() < ORDERS_MAX && self.take_new(known).await? {
            return Ok(Step::Worked);
        }
        if known.through.0 - known.checkpoint.0 >= PASSED_OVER_MAX {
            self.append(known, Batch::default(), Some(known.through), None).await?;
        }
        if known.reactions >= REACTIONS_PER_MEMO {
            known.reactions = 0;
            known.timers.keep_memo(&self.archive, known.checkpoint).await;
        }
        let wakes_at = known.orders.wakes_at().into_iter().fold(known.timers.wakes_at(), Timestamp::min);
        Ok(Step::Idle(wakes_at.max(now.plus(Duration::from_millis(1)))))
    }

    /// Carries out commands, and lets their refusals be reacted to.
    async fn carry(&self, known: &mut Known<P>, now: Timestamp) -> Result<(), Trouble> {
        let refused = known.orders.carry(&self.host.store, &self.targets, now).await;
        let refused = refused.map_err(|invalid| Trouble::Store(invalid.to_string()))?;
        let mut batch = Batch::default();
        for RefusedOrder { key, cause, correlation } in refused {
            let issued_at = self.archive.event_at(cause.position()).await?.map_or(now, |event| event.recorded_at);
            let Some(heard) = Heard::refused(&key, &cause, issued_at) else { continue };
            known.instances.hear_own(heard, correlation, &mut batch).await?;
            known.orders.conclude(&cause);
            if !batch.has_room() {
                self.append(known, std::mem::take(&mut batch), None, None).await?;
            }
        }
        if !batch.is_empty() {
            self.append(known, batch, None, None).await?;
        }
        Ok(())
    }

    /// Lets timers fire that are due, if everything recorded up to then was reacted to. None where there is none.
    async fn fire(&self, known: &mut Known<P>, now: Timestamp) -> Result<Option<Step>, Trouble> {
        let mut due = known.timers.due(now, FIRED_AT_ONCE);
        let Some(last_due) = due.last().map(|timer| timer.due) else { return Ok(None) };
        if known.barrier.is_none_or(|barrier| barrier.recorded_at <= last_due) {
            known.barrier = Some(self.host.store.head());
        }
        let Some(barrier) = known.barrier else { return Ok(None) };
        if known.through < barrier.position {
            // What came before its time may set, replace and cancel timers. Those that it passed over say nothing.
            return if self.take_new(known).await? { Ok(Some(Step::Worked)) } else { Ok(None) };
        }
        // Recorded time increases: what comes after a barrier beyond the due time was recorded after it. An append that
        // is under way may have been stamped before it: then it must not be one that the process follows.
        let none_matching =
            (barrier.recorded_at <= last_due).then(|| NoneMatching { query: self.query.clone(), after: known.through });
        let mut batch = Batch::default();
        due.truncate(FIRED_AT_ONCE);
        for timer in due {
            let heard = Heard::timer(&timer.key, &timer.name, timer.due, timer.set_at);
            known.instances.hear_own(heard, None, &mut batch).await?;
            known.timers.forget(&timer);
            if !batch.has_room() {
                break;
            }
        }
        if !batch.is_empty() {
            self.append(known, batch, None, none_matching).await?;
        }
        Ok(Some(Step::Worked))
    }

    /// Reacts to what was recorded since. Whether there was anything to look at.
    async fn take_new(&self, known: &mut Known<P>) -> Result<bool, Trouble> {
        let read = Read::matching(self.query.clone(), known.through.next()).page_of(EVENTS_AT_ONCE);
        let page = self.host.store.page(read).await?;
        if page.events.is_empty() {
            let went_on = page.through > known.through && page.next.is_some();
            known.through = known.through.max(page.through);
            return Ok(went_on);
        }
        let last = page.events.len() - 1;
        let mut batch = Batch::default();
        let mut through = known.through;
        for (index, event) in page.events.iter().enumerate() {
            if !known.instances.hear(event, &mut batch).await? {
                // It is heard alone, after what came before it.
                break;
            }
            through = if index == last { page.through.max(event.position) } else { event.position };
            if !batch.has_room() {
                break;
            }
        }
        let went_on = through > known.through;
        if batch.is_empty() {
            known.through = through;
        } else {
            self.append(known, batch, Some(through), None).await?;
        }
        Ok(went_on)
    }

    /// Makes reactions durable together with the checkpoint, and takes in what they mean.
    async fn append(
        &self,
        known: &mut Known<P>,
        mut batch: Batch,
        through: Option<Position>,
        none_matching: Option<NoneMatching>,
    ) -> Result<(), Trouble> {
        let carried = known.orders.carried();
        batch.entries.iter_mut().for_each(|entry| entry.carried(carried));
        let checkpoint = match through {
            Some(through) => Some(CheckpointRecord {
                consumer: self.consumer.clone(),
                from: MoveFrom::Exactly(known.checkpoint),
                checkpoint: self.host.store.checkpoint_at(through).await.map_err(|error| Trouble::Store(error.to_string()))?,
            }),
            None => None,
        };
        let append =
            batch.append(&self.archive.own, checkpoint, none_matching).map_err(|error| Trouble::Store(error.to_string()))?;
        match self.host.store.append(append).await {
            Ok(Outcome::Appended(appended)) => {
                if let Some(through) = through {
                    (known.through, known.checkpoint) = (through, through);
                }
                for settled in batch.settled(&appended) {
                    known.settle(settled);
                }
                known.instances.forget_some();
                Ok(())
            }
            Ok(Outcome::Conflict(conflict)) => Err(Trouble::Begin(conflict.to_string())),
            Ok(Outcome::Repeated(_)) => Err(Trouble::Begin("an append without a command id was repeated".to_owned())),
            Err(error @ AppendError::CheckpointMoved { .. }) => Err(Trouble::Begin(error.to_string())),
            Err(AppendError::Closed) => Err(Trouble::Closed),
            Err(error) => Err(Trouble::Store(format!("its reactions to be recorded: {error}"))),
        }
    }

    /// Records how far it has come, as far as that is not recorded.
    async fn remember(&mut self) {
        let Some(mut known) = self.known.take() else { return };
        if known.through > known.checkpoint {
            let through = known.through;
            // Without it, more is passed over at the next start.
            let _ = self.append(&mut known, Batch::default(), Some(through), None).await;
        }
        known.timers.keep_memo(&self.archive, known.checkpoint).await;
    }

    fn say_status(&self, step: &Step) {
        let Some(known) = &self.known else {
            if let Step::Stalled(why, _) = step {
                self.host.board.say(P::NAME, why);
            }
            return;
        };
        let trouble = known.orders.trouble().or_else(|| known.instances.trouble());
        let waits_for = match step {
            Step::Stalled(why, _) => why.clone(),
            Step::Closed => "nothing: the store is closed".to_owned(),
            Step::Worked | Step::Idle(_) => trouble.unwrap_or_else(|| "events, or the next due time".to_owned()),
        };
        self.host.board.say_where(P::NAME, known.through, &waits_for, known.orders.len(), known.instances.parked_count());
    }

    /// Does what a person asks for, and answers.
    async fn answer(&mut self, asked: Asked) {
        let Some(mut known) = self.known.take() else { return asked.refuse("the process is reading the log, ask again") };
        let (what, answer) = asked.take();
        let answered = match self.heed(&mut known, what).await {
            Ok(answered) => {
                self.known = Some(known);
                answered
            }
            Err(Trouble::Begin(why) | Trouble::Store(why)) => Err(super::people::AskError::Store { detail: why }),
            Err(Trouble::Closed) => Err(super::people::AskError::Store { detail: "the store is closed".to_owned() }),
        };
        // Whoever asked may be gone; what was done stands.
        let _ = answer.send(answered);
    }

    async fn heed(
        &self,
        known: &mut Known<P>,
        what: super::people::What,
    ) -> Result<Result<usize, super::people::AskError>, Trouble> {
        let mut batch = Batch::default();
        let done = known.instances.heed(what, &mut batch).await?;
        if !batch.is_empty() {
            self.append(known, batch, None, None).await?;
        }
        Ok(done)
    }
}

impl<P: Process> Known<P> {
    /// Takes in what is durable now.
    fn settle(&mut self, Settled { key, event, position, version, metadata }: Settled) {
        if let ProcessEvent::Reacted(reacted) = &event {
            self.reactions += 1;
            self.orders.take(&key, reacted, (position, version), metadata.correlation.as_ref());
            for timer in &reacted.timers {
                self.timers.set(Near { due: timer.due, key: key.clone(), name: timer.name.clone(), set_at: position });
            }
        }
        self.instances.settle(&key, &event, position);
    }
}

/// Whether a timer of an instance is still what it was when it was set.
pub(super) fn still_set<P>(instance: &super::instance::Instance<P>, cause: &StoredCause) -> bool {
    let StoredCause::Timer { name, due, set_at } = cause else { return true };
    instance.life == Life::Open && instance.timers.get(name) == Some(&(*due, Position(*set_at)))
}

fn start_error(error: LoadError) -> StartError {
    match error {
        LoadError::Event(error) => StartError::Event(error),
        LoadError::Invalid(invalid) => StartError::Invalid(invalid),
        LoadError::Read(error) => StartError::Read(error),
    }
}

impl From<LoadError> for Trouble {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Read(ReadError::Closed) => Self::Closed,
            error => Self::Store(format!("the log to be read: {error}")),
        }
    }
}

impl From<ReadError> for Trouble {
    fn from(error: ReadError) -> Self {
        LoadError::from(error).into()
    }
}

impl From<SubscribeError> for Trouble {
    fn from(error: SubscribeError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<EventError> for Trouble {
    fn from(error: EventError) -> Self {
        Self::Store(error.to_string())
    }
}

/// The event, if it is one of a process's own.
impl Archive {
    pub(super) fn own(&self, event: &RecordedEvent) -> Result<Option<ProcessEvent>, EventError> {
        Ok(self.own.decode::<ProcessEvent>(event, crate::fold::Unknown::Refuse)?.pop())
    }
}
