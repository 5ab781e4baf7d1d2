//! The runner of one kind of effect: finds intents behind the log, takes each one turn at a time.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};

use super::effect::{Backoff, Effect, EffectId};
use super::turn::{Ended, Intent, Next, Turn};
use super::{Asked, Host, StartError};
use crate::store::{
    Append, AppendError, Authority, CheckpointRecord, Label, MoveFrom, Outcome, Position, Query, ReadError, RecordedEvent,
    Signal, Subscription, Timestamp,
};

// ANCHOR: limits
/// Effects that wait, or are in doubt, at most; beyond that no further intents are taken up until some are concluded.
pub const OPEN_EFFECTS_MAX: usize = 100_000;
// ANCHOR_END: limits
/// The runner's checkpoint is recorded after so many conclusions, and when it stops: what is read again after a crash.
const CONCLUSIONS_PER_CHECKPOINT: u32 = 1_000;
/// The first and the longest wait before a turn is tried again after the store failed.
const STORE_RETRY: Backoff = Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(30) };

/// Runs one kind of effect until it is told to stop.
pub(super) struct Runner<E: Effect> {
    host: Host,
    turn: Arc<Turn<E>>,
    consumer: Label,
    subscription: Subscription,
    asked: mpsc::Receiver<Asked>,
    /// Every intent that was taken up and is not concluded.
    open: BTreeMap<EffectId, Open<E>>,
    /// When to take the next turn of those that wait.
    waiting: BTreeSet<(Timestamp, EffectId)>,
    ready: VecDeque<EffectId>,
    jobs: JoinSet<Next<E>>,
    kinds: HashMap<Id, (JobKind, EffectId)>,
    conclusions: u32,
    checkpoint: Position,
    reading: Reading,
    /// What failed last, until something works again.
    trouble: Option<String>,
}

struct Open<E: Effect> {
    event: RecordedEvent,
    wakes_at: Option<Timestamp>,
    /// Failures of the store in a row.
    failures: u32,
    /// What came of its attempt, until it is recorded.
    unrecorded: Option<Box<Ended<E>>>,
}

/// What a job is.
#[derive(Clone, Copy)]
enum JobKind {
    /// The turn of an effect, of which there is one at a time.
    Turn,
    /// A person's verdict, which waits for no turn: the first to write the ledger counts.
    Verdict,
}

/// How reading the log goes.
#[derive(Clone, Copy)]
struct Reading {
    failures: u32,
    again_at: Option<Timestamp>,
}

impl<E: Effect> Runner<E> {
    pub(super) async fn new(host: Host, effect: E, asked: mpsc::Receiver<Asked>) -> Result<Self, StartError> {
        let turn = Arc::new(Turn::new(host.clone(), effect)?);
        let consumer = Label::new(format!("$effect:{}", E::NAME))?;
        let query = Query::types([turn.intent_type()]);
        let (subscription, checkpoint) = match host.store.checkpoint(consumer.clone()).await? {
            Some(checkpoint) => (host.store.resume(query, &checkpoint).await?, checkpoint.position),
            None => (host.store.subscribe(query, Position::START), Position::START),
        };
        host.board.say_where(E::NAME, checkpoint, "its start", 0, 0);
        Ok(Self {
            host,
            turn,
            consumer,
            subscription,
            asked,
            open: BTreeMap::new(),
            waiting: BTreeSet::new(),
            ready: VecDeque::new(),
            jobs: JoinSet::new(),
            kinds: HashMap::new(),
            conclusions: 0,
            checkpoint,
            reading: Reading { failures: 0, again_at: None },
            trouble: None,
        })
    }

    /// Runs until told to stop; then what is under way ends first, within its own deadlines.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut looks = self.host.board.looks();
        let clock = self.host.clock.clone();
        let why = loop {
            self.start_ready();
            let reads = self.ready.is_empty() && self.has_room() && self.reading.again_at.is_none();
            let wake = self.waiting.first().map(|(at, _)| *at);
            let next = [wake, self.reading.again_at].into_iter().flatten().min();
            self.say_status();
            tokio::select! {
                biased;
                () = super::stopped(&mut stop) => break "stopped",
                Some(ended) = self.jobs.join_next_with_id() => self.job_ended(ended).await,
                Some(asked) = self.asked.recv() => self.take_verdict(asked),
                Ok(()) = looks.changed() => self.wake_all(),
                () = clock.sleep_until(next.unwrap_or(Timestamp::MAX)), if next.is_some() => self.wake_due(),
                signal = self.subscription.next(), if reads => match signal {
                    Err(ReadError::Closed) => break "stopped: the store is closed",
                    signal => self.take_signal(signal),
                },
            }
        };
        self.host.board.say(E::NAME, "effects under way to end, then it stops");
        while let Some(ended) = self.jobs.join_next_with_id().await {
            self.job_ended(ended).await;
        }
        self.save_checkpoint().await;
        self.host.board.say(E::NAME, why);
    }

    fn has_room(&self) -> bool {
        self.jobs.len() < self.turn.policy().concurrency && self.open.len() < OPEN_EFFECTS_MAX
    }

    fn say_status(&self) {
        let waits_for = match &self.trouble {
            Some(trouble) => trouble.as_str(),
            None if self.open.len() >= OPEN_EFFECTS_MAX => "open effects to be concluded, there are too many",
            None if !self.has_room() => "effects under way to be concluded",
            None => "new intents",
        };
        // What came of an attempt and is not recorded yet is known to this process alone.
        let unrecorded = self.trouble.as_ref().map_or(0, |_| self.open.values().filter(|open| open.unrecorded.is_some()).count());
        let (through, under_way) = (self.subscription.through(), self.jobs.len() + unrecorded);
        self.host.board.say_where(E::NAME, through, waits_for, under_way, self.open.len().saturating_sub(under_way));
    }

    fn take_signal(&mut self, signal: Result<Signal, ReadError>) {
        match signal {
            Ok(signal) => {
                if self.reading.failures > 0 {
                    (self.reading.failures, self.trouble) = (0, None);
                }
                if let Signal::Event(event) = signal {
                    self.take_up(event);
                }
            }
            Err(error) => {
                self.reading.failures += 1;
                self.reading.again_at = Some(self.host.clock.now().plus(STORE_RETRY.after(self.reading.failures)));
                self.trouble = Some(format!("the log to be read again: {error}"));
                tracing::error!(effect = E::NAME, %error, "intents cannot be read, trying again");
            }
        }
    }

    fn take_up(&mut self, event: RecordedEvent) {
        let id = EffectId(event.position);
        self.host.board.opened(id);
        let open = Open { event, wakes_at: None, failures: 0, unrecorded: None };
        self.open.insert(id, open);
        self.ready.push_back(id);
    }

    fn start_ready(&mut self) {
        while self.jobs.len() < self.turn.policy().concurrency
            && let Some(id) = self.ready.pop_front()
        {
            self.start(id);
        }
    }

    /// Takes a turn; first of all what came of the last one is recorded.
    fn start(&mut self, id: EffectId) {
        let Some(open) = self.open.get_mut(&id) else { return };
        let turn = self.turn.clone();
        let intent = Intent { id, event: open.event.clone() };
        let job = if let Some(ended) = open.unrecorded.take() {
            self.jobs.spawn(async move { turn.record(ended).await })
        } else {
            self.jobs.spawn(async move { turn.take(&intent).await })
        };
        self.kinds.insert(job.id(), (JobKind::Turn, id));
    }

    async fn job_ended(&mut self, ended: Result<(Id, Next<E>), JoinError>) {
        let (job, next) = match ended {
            Ok((job, next)) => (job, next),
            // What users' code panics with is caught where it is called, but for its serde code.
            Err(error) => {
                let detail = format!("it panicked: {error}");
                (error.id(), Next::Failed { detail, unrecorded: None })
            }
        };
        let Some((kind, id)) = self.kinds.remove(&job) else { return };
        let Some(open) = self.open.get_mut(&id) else { return };
        if matches!(kind, JobKind::Verdict) {
            // Its next turn, if none is under way, finds what was said.
            if let (Next::Concluded, Some(at)) = (next, open.wakes_at) {
                self.wake(at, id);
            }
            return;
        }
        let at = match next {
            Next::Concluded => {
                self.trouble = None;
                return self.concluded(id).await;
            }
            Next::At(moment) => {
                self.trouble = None;
                open.failures = 0;
                moment
            }
            Next::Failed { detail, unrecorded } => {
                open.failures += 1;
                open.unrecorded = unrecorded;
                tracing::error!(effect = E::NAME, %id, detail, "an effect cannot be recorded, trying again");
                self.trouble = Some(format!("effect {id} to be recorded: {detail}"));
                self.host.clock.now().plus(STORE_RETRY.after(open.failures))
            }
        };
        open.wakes_at = Some(at);
        self.waiting.insert((at, id));
    }

    async fn concluded(&mut self, id: EffectId) {
        self.open.remove(&id);
        self.host.board.closed(id);
        self.conclusions += 1;
        if self.conclusions >= CONCLUSIONS_PER_CHECKPOINT {
            self.save_checkpoint().await;
        }
    }

    /// A person says what happened. That waits for no slot, as nothing outside is touched.
    fn take_verdict(&mut self, asked: Asked) {
        let (turn, id) = (self.turn.clone(), asked.intent.id);
        let job = self.jobs.spawn(async move { turn.verdict(asked).await });
        self.kinds.insert(job.id(), (JobKind::Verdict, id));
    }

    fn wake_due(&mut self) {
        let now = self.host.clock.now();
        self.reading.again_at.take_if(|at| *at <= now);
        while let Some((at, id)) = self.waiting.first().copied()
            && at <= now
        {
            self.wake(at, id);
        }
    }

    fn wake_all(&mut self) {
        for (at, id) in std::mem::take(&mut self.waiting) {
            self.wake(at, id);
        }
    }

    fn wake(&mut self, at: Timestamp, id: EffectId) {
        self.waiting.remove(&(at, id));
        if let Some(open) = self.open.get_mut(&id) {
            open.wakes_at = None;
            self.ready.push_back(id);
        }
    }

    /// Records the position below which every intent is concluded. A hint for the next start: without it more is read.
    async fn save_checkpoint(&mut self) {
        self.conclusions = 0;
        let through = self.open.keys().next().map_or(self.subscription.through(), |id| Position(id.0.0 - 1));
        if through <= self.checkpoint {
            return;
        }
        let store = &self.host.store;
        let saved = async {
            let checkpoint = store.checkpoint_at(through).await.map_err(|error| error.to_string())?;
            let record = CheckpointRecord { consumer: self.consumer.clone(), from: MoveFrom::Earlier, checkpoint };
            let append = Append { checkpoint: Some(record), authority: Authority::RUNTIME, ..Append::default() };
            store.append(append).await.map_err(|error: AppendError| error.to_string())
        };
        match saved.await {
            Ok(Outcome::Appended(_)) => self.checkpoint = through,
            Ok(_) => {}
            Err(detail) => tracing::warn!(effect = E::NAME, %detail, "the checkpoint of an effect was not recorded"),
        }
    }
}
