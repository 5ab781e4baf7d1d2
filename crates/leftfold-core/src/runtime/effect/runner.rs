//! The runner of one kind of effect: finds intents behind the log, takes each one turn at a time.
//!
//! It works while it has the lease on the kind. What it knows it reads from the log again with
//! every new lease; only what came of an attempt, and is not recorded yet, is known to it alone,
//! and is kept until it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};

use super::here::Elsewhere;
use super::intent::Intent;
use super::jobs::Jobs;
use super::mark::EffectMark;
use super::queue::{EffectQueue, TurnKind};
use super::slots::{Slots, Ticket, full};
use super::turn::{EffectTurns, EndedAttempt, NextTurn};
use super::word::PersonsWord;
use super::{Effect, EffectId};
use crate::fold::Schema;
use crate::runtime::consumer::backoff::{EFFECT_LAST_OUTCOMES, EFFECT_STORE};
use crate::runtime::consumer::lease::{self, Right, WorkTenure};
use crate::runtime::consumer::status::ForPerson;
use crate::runtime::{Host, StartFault, stopped};
use crate::store::{
    Label, Position, ReadError, RecordedEvent, Signal, State, Subscription, Timestamp,
};

// ANCHOR: limits
/// Time for which a runtime that is told to stop tries to record outcomes that it knows, if its
/// store takes no appends.
pub const STOP_RECORDS_WITHIN: Duration = Duration::from_secs(10);
// ANCHOR_END: limits
/// The runner's checkpoint is recorded after this number of effects were settled, or as many as are
/// open, and when it stops: it bounds the events read again after a crash.
const SETTLED_PER_CHECKPOINT: usize = 1_000;
/// Intents of an earlier release that are looked at to see whether it was at work, at most.
const FIRST_INTENTS_MAX: usize = 1_000;
/// Words of persons that are recorded at a time.
const WORDS_AT_A_TIME: usize = 64;

/// Runs one kind of effect until it is told to stop.
pub(crate) struct EffectRunner<E: Effect> {
    pub(super) host: Host,
    pub(super) turns: Arc<EffectTurns<E>>,
    mark: EffectMark,
    asked: mpsc::Receiver<PersonsWord>,
    /// The lease on the work; `None` if nobody else can do it.
    pub(super) tenure: Option<WorkTenure>,
    /// Knowledge of the log; `None` if it is to be read (again).
    subscription: Option<Subscription>,
    /// Schema by which intents were asked for; `None` if it is to be renewed no more.
    schema: Option<Arc<Schema>>,
    /// Its position when it was started.
    began: Position,
    pub(super) queue: EffectQueue,
    /// The intent that was read last, until its first turn.
    pub(super) fresh: Option<RecordedEvent>,
    pub(super) jobs: Jobs<EffectJob<E>>,
    pub(super) attempts: Slots,
    pub(super) looks: Slots,
    /// Words of persons that are being recorded.
    pub(super) words: usize,
    pub(super) unrecorded: BTreeMap<EffectId, Unrecorded<E>>,
    /// Intents that other runtimes are to carry out.
    pub(super) elsewhere: Elsewhere<E::Intent>,
    /// Failures of the store in a row, of effects that are to be tried again.
    pub(super) failures: BTreeMap<EffectId, u32>,
    /// Effects that cannot go on before a person does something, with the reason.
    pub(super) parked: BTreeMap<EffectId, String>,
    pub(super) settled: usize,
    reading: LogReading,
    /// Reason why it does not have the lease, and the time to ask again.
    pub(super) stands_by: Option<StandsBy>,
    /// Description of the last failure, until something works again.
    pub(super) trouble: Option<String>,
}

/// Reason why a runner does not work now.
pub(super) struct StandsBy {
    why: String,
    /// True if another one works.
    is_for_another: bool,
}

/// Result of an attempt that is not recorded yet.
pub(super) struct Unrecorded<E: Effect> {
    /// None while it is being recorded.
    pub(super) ended: Option<Box<EndedAttempt<E>>>,
    pub(super) failures: u32,
    pub(super) again_at: Timestamp,
}

/// End of a job.
pub(super) struct EffectJob<E: Effect> {
    pub(super) kind: JobKind,
    pub(super) id: EffectId,
    pub(super) next: Result<NextTurn<E>, String>,
}

/// Kind of a job.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum JobKind {
    /// The turn of an effect, of which there is one at a time.
    Turn(TurnKind, Ticket),
    /// Recording of an attempt's result.
    Record,
    /// A person's word, which waits for no turn: the first to write the ledger counts.
    Word,
}

/// Progress of reading the log.
#[derive(Clone, Copy, Default)]
struct LogReading {
    failures: u32,
    again_at: Option<Timestamp>,
}

impl<E: Effect> EffectRunner<E> {
    /// A runner that works alone, and in the task that polls it.
    pub(crate) async fn new(
        host: Host,
        effect: E,
        asked: mpsc::Receiver<PersonsWord>,
    ) -> Result<Self, StartFault> {
        let turns = Arc::new(EffectTurns::new(host.clone(), effect)?);
        let bounds = turns.policy.bounds();
        let first = turns.policy.concurrency.min(FIRST_INTENTS_MAX) as u32;
        let mark =
            EffectMark::new(&host, E::NAME, &turns.intents.query(), turns.begins(), first).await?;
        mark.left_open.iter().for_each(|id| host.board.opened(*id));
        host.board.say_where(E::NAME, mark.through, "its start", 0, 0);
        let (schema, began) = (Some(turns.intents.schema()), mark.through);
        Ok(Self {
            host,
            turns,
            mark,
            schema,
            began,
            asked,
            tenure: None,
            subscription: None,
            queue: EffectQueue::default(),
            fresh: None,
            jobs: Jobs::polled(),
            attempts: Slots::new(bounds),
            looks: Slots::new(bounds),
            words: 0,
            unrecorded: BTreeMap::new(),
            elsewhere: Elsewhere::default(),
            failures: BTreeMap::new(),
            parked: BTreeMap::new(),
            settled: 0,
            reading: LogReading::default(),
            stands_by: None,
            trouble: None,
        })
    }

    /// The same, if others may carry out the effect too: it works while it has the lease.
    pub(crate) fn leased(mut self) -> Result<Self, StartFault> {
        let work = Label::new(format!("$effect:{}", E::NAME))?;
        self.tenure = Some(WorkTenure::new::<E>(&self.host, E::NAME, work));
        Ok(self)
    }

    /// The same, with attempts in tasks of their own.
    pub(crate) fn spawning(mut self) -> Self {
        self.jobs = Jobs::spawned();
        self
    }

    /// Runs until told to stop; then the work under way ends first, within its own deadlines.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut looks = self.host.board.looks();
        let clock = self.host.clock.clone();
        let why = loop {
            if *stop.borrow() {
                break "stopped";
            }
            if !self.has_right().await {
                break "stopped: the store is closed";
            }
            self.start_ready();
            // Results come first: they make room, and nobody else knows them. New intents come
            // last, and only if there is room for them.
            let (reads, next, asks) = (self.reads(), self.wakes_at(), self.schema.clone());
            let tenure = self.tenure.as_ref().filter(|_| self.trouble.is_none());
            let due = lease::due(tenure, &clock);
            self.say_status();
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break "stopped",
                Some(job) = self.jobs.next() => self.job_ended(job).await,
                Some(asked) = self.asked.recv(), if self.words < WORDS_AT_A_TIME => {
                    self.take_word(asked);
                }
                Ok(()) = looks.changed() => self.look_again(),
                () = clock.sleep_until(next.unwrap_or(Timestamp::MAX)), if next.is_some() => {
                    self.wake_due();
                }
                () = until_stale(asks.as_deref()), if asks.is_some() => self.ask_by_owner(),
                () = due => {}
                signal = next_signal(&mut self.subscription), if reads => match signal {
                    Err(ReadError::Closed) => break "stopped: the store is closed",
                    signal => self.take_signal(signal),
                },
            }
        };
        self.end(why).await;
    }

    /// Lets the work under way end, and records its results.
    async fn end(mut self, why: &str) {
        // Others go on at once. What is under way is this runner's until its deadline, and what
        // came of it is recorded without the lease.
        self.hand_over().await;
        self.host.board.say(E::NAME, "effects under way to end, then it stops");
        while let Some(job) = self.jobs.next().await {
            self.job_ended(job).await;
        }
        self.record_the_rest().await;
        self.host.board.say(E::NAME, why);
        if self.unrecorded.is_empty() {
            return;
        }
        let ids: Vec<String> = self.unrecorded.keys().map(EffectId::to_string).collect();
        let lost = format!(
            "stopped, and what came of effects {} could not be recorded: they will be in doubt",
            ids.join(", ")
        );
        tracing::error!(effect = E::NAME, lost, "outcomes are lost");
        // A store that is closed says so, and that is the reason.
        if self.host.store.status().borrow().state != State::Closed {
            self.host.board.say(E::NAME, &lost);
        }
    }

    /// Records the remaining results. Nobody else knows them, so this is tried for some time of the
    /// machine: the store may be about to work again.
    async fn record_the_rest(&mut self) {
        let mut until = None;
        while !self.unrecorded.is_empty() {
            for id in self.unrecorded.keys().copied().collect::<Vec<_>>() {
                self.record(id);
            }
            while let Some(job) = self.jobs.next().await {
                self.job_ended(job).await;
            }
            let until = *until.get_or_insert_with(|| Instant::now() + STOP_RECORDS_WITHIN);
            let is_closed = self.host.store.status().borrow().state == State::Closed;
            let waits_for_nobody = !self.jobs.are_spawned();
            if self.unrecorded.is_empty()
                || is_closed
                || waits_for_nobody
                || Instant::now() >= until
            {
                return;
            }
            sleep(EFFECT_LAST_OUTCOMES.first).await;
        }
    }

    /// Finds out whether it may work, and if so reads its state from the log. Returns false if the
    /// store is closed.
    async fn has_right(&mut self) -> bool {
        if self.tenure.as_ref().is_some_and(WorkTenure::is_called_away) {
            self.hand_over().await;
        }
        // Whoever cannot record what it knows does not ask for more time: another one may be able
        // to.
        if let Some(tenure) = &mut self.tenure
            && self.trouble.is_some()
        {
            tenure.steps_back();
        } else if let Some(tenure) = &mut self.tenure {
            let before = tenure.fence();
            let right = tenure.hold(&self.host).await;
            let is_local = self.turns.is_local();
            if tenure.fence() != before && is_local {
                self.follow_mark().await;
            } else if tenure.fence() != before {
                self.forget();
            }
            match right {
                Right::Held => self.stands_by = None,
                // What is here is its own work, whoever holds the lease.
                Right::StandsBy(..) | Right::Waits(..) if is_local => {}
                Right::StandsBy(why, _) => return self.stand_by(why, true),
                Right::Waits(why, _) => return self.stand_by(why, false),
                Right::Closed => return false,
            }
        }
        if self.subscription.is_none() && self.reading.again_at.is_none() {
            match self.begin().await {
                Ok(()) => self.has_read(),
                Err(StartFault::Read(ReadError::Closed)) => return false,
                Err(error) => self.cannot_read(&error),
            }
        }
        true
    }

    /// Reads how far the holders of the lease before this one have come. What is open it knows
    /// itself, as it has followed the log all the time.
    async fn follow_mark(&mut self) {
        let store = self.host.store.clone();
        if let Err(error) = self.mark.read(&store).await {
            tracing::warn!(effect = E::NAME, %error, "the checkpoint of an effect was not read");
        }
    }

    fn stand_by(&mut self, why: String, is_for_another: bool) -> bool {
        if self.stands_by.is_none() {
            self.forget();
        }
        self.stands_by = Some(StandsBy { why, is_for_another });
        true
    }

    /// Gives the lease back: another runtime is to go on.
    async fn hand_over(&mut self) {
        self.save_mark().await;
        if let Some(tenure) = &mut self.tenure {
            tenure.release(&self.host).await;
        }
    }

    /// Reads the progress of the effect, and the effects that were left open there.
    async fn begin(&mut self) -> Result<(), StartFault> {
        let store = self.host.store.clone();
        self.mark.read(&store).await?;
        self.host.look_for_types(E::NAME).await;
        for id in self.mark.left_open.clone() {
            if let Some(Intent { event, .. }) = self.turns.intents.find(id).await? {
                self.take_up(&event);
            }
        }
        self.subscription = Some(store.subscribe(self.turns.intents.query(), self.mark.through));
        Ok(())
    }

    /// Searches again, from the start of this run, for intents under older names, which their new
    /// owner may know. The ledgers say which of them were carried out since.
    fn ask_by_owner(&mut self) {
        let latest = self.turns.intents.schema();
        self.schema = Some(latest).filter(|latest| !latest.is_stale());
        if self.subscription.is_some() {
            self.subscription =
                Some(self.host.store.subscribe(self.turns.intents.query(), self.began));
        }
    }

    /// Drops everything that others may have changed: it is read again before the next turn.
    pub(super) fn forget(&mut self) {
        self.subscription = None;
        (self.queue, self.fresh) = (EffectQueue::default(), None);
        self.elsewhere = Elsewhere::default();
        self.failures.clear();
        self.parked.clear();
        if self.unrecorded.is_empty() {
            self.trouble = None;
        }
    }

    fn reads(&self) -> bool {
        self.subscription.is_some() && self.reading.again_at.is_none() && self.has_room()
    }

    fn has_room(&self) -> bool {
        self.has_slot()
            && full(self.queue.len(), self.for_person()).is_none()
            && self.fresh.is_none()
    }

    pub(super) fn has_slot(&self) -> bool {
        self.attempts.has_room(self.unrecorded.len())
    }

    /// Returns the number of effects that go on only when a person does something, or a look helps.
    fn for_person(&self) -> usize {
        self.queue.in_doubt() + self.parked.len()
    }

    fn wakes_at(&mut self) -> Option<Timestamp> {
        let records = self
            .unrecorded
            .values()
            .filter(|one| one.ended.is_some())
            .map(|one| one.again_at)
            .min();
        // Slots are taken back when somebody waits for one.
        let awaits = |slots: &Slots, next: Option<EffectId>| {
            slots.takes_back_at().filter(|_| next.is_some())
        };
        let attempts = match self.has_slot() {
            true => awaits(&self.attempts, self.queue.next(TurnKind::Attempt)),
            false => self.attempts.takes_back_at(),
        };
        let looks = awaits(&self.looks, self.queue.next(TurnKind::Look));
        let asks = self.elsewhere.asks_at();
        [self.queue.wakes_at(), self.reading.again_at, records, attempts, looks, asks]
            .into_iter()
            .flatten()
            .min()
    }

    fn say_status(&self) {
        let (open, under_way) = (self.queue.len(), self.jobs.len() + self.waiting_records());
        let parked = self
            .parked
            .first_key_value()
            .map(|(id, why)| format!("a person, for effect {id}: {why}"));
        let full = full(open, self.for_person());
        let waits_for = match (&self.trouble, &self.stands_by) {
            (Some(trouble), _) => trouble.as_str(),
            (None, Some(stands_by)) => stands_by.why.as_str(),
            (None, None) if let Some(full) = &full => full.as_str(),
            (None, None) if !self.has_slot() => "effects under way to be concluded",
            (None, None) => parked.as_deref().unwrap_or("new intents"),
        };
        let through = self.subscription.as_ref().map_or(self.mark.through, Subscription::through);
        let board = &self.host.board;
        board.say_where(E::NAME, through, waits_for, under_way, open.saturating_sub(under_way));
        board.say_for_person(
            E::NAME,
            ForPerson { parked: self.parked.len(), in_doubt: self.queue.in_doubt(), stuck: 0 },
        );
        match &self.stands_by {
            None if self.reading.failures == 0 => {}
            Some(stands_by) if stands_by.is_for_another => {
                board.say_standby(E::NAME, waits_for, under_way)
            }
            _ => board.say_away(E::NAME, waits_for),
        }
    }

    fn waiting_records(&self) -> usize {
        self.unrecorded.values().filter(|one| one.ended.is_some()).count()
    }

    fn take_signal(&mut self, signal: Result<Signal, ReadError>) {
        match signal {
            Ok(signal) => {
                self.has_read();
                let Signal::Event(event) = signal else { return };
                self.host.board.has_read(E::NAME, std::iter::once(&event));
                if self.take_up(&event) {
                    self.fresh = Some(event.detached());
                }
            }
            Err(error) => self.cannot_read(&StartFault::Read(error)),
        }
    }

    fn has_read(&mut self) {
        if self.reading.failures > 0 {
            (self.reading.failures, self.trouble) = (0, None);
        }
    }

    fn cannot_read(&mut self, error: &StartFault) {
        self.reading.failures += 1;
        self.reading.again_at =
            Some(self.host.clock.now().plus(EFFECT_STORE.after(self.reading.failures)));
        self.trouble = Some(format!("the log to be read again: {error}"));
        tracing::error!(effect = E::NAME, %error, "intents cannot be read, trying again");
    }

    /// Takes up an intent. Returns false if it was taken up before.
    fn take_up(&mut self, event: &RecordedEvent) -> bool {
        let id = EffectId(event.position);
        if self.queue.contains(id) {
            return false;
        }
        self.host.board.opened(id);
        self.queue.take_up(
            id,
            self.turns.intents.key(event),
            event.data.len() + event.metadata.user.len(),
        );
        true
    }

    fn wake_due(&mut self) {
        let now = self.host.clock.now();
        self.reading.again_at.take_if(|at| *at <= now);
        self.queue.wake_due(now);
        if self.elsewhere.asks_at().is_some_and(|at| at <= now) {
            self.ask_if_here();
        }
        let due = self.unrecorded.iter().filter(|(_, one)| one.again_at <= now).map(|(id, _)| *id);
        due.collect::<Vec<_>>().into_iter().for_each(|id| self.record(id));
    }

    fn look_again(&mut self) {
        let elsewhere = &self.elsewhere;
        self.queue.wake_doubts(|id| elsewhere.contains(id));
        self.ask_if_here();
        self.parked.keys().for_each(|id| self.queue.wake(*id));
    }

    pub(super) async fn save_mark_if_due(&mut self) {
        if self.settled >= SETTLED_PER_CHECKPOINT.max(self.queue.len()) {
            self.save_mark().await;
        }
    }

    /// Records how far intents were taken up, and which of them are open.
    async fn save_mark(&mut self) {
        let Some(through) = self.subscription.as_ref().map(Subscription::through) else { return };
        self.settled = 0;
        let fence = self.tenure.as_ref().and_then(WorkTenure::fence);
        if fence.is_none() && self.tenure.is_some() {
            // The holder of the lease does that.
            return;
        }
        let open = self.queue.ids().collect();
        if let Err(detail) = self.mark.save(&self.host.store, fence, through, open).await {
            tracing::warn!(effect = E::NAME, %detail, "the checkpoint of an effect was not recorded");
        }
    }
}

async fn until_stale(schema: Option<&Schema>) {
    if let Some(schema) = schema {
        schema.until_stale().await;
    }
}

async fn next_signal(subscription: &mut Option<Subscription>) -> Result<Signal, ReadError> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}
