//! The runner of one kind of effect: finds intents behind the log, takes each one turn at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::board::Board;
use super::effect::{Effect, EffectId};
use super::turn::{Intent, Next, Turn};
use super::{Asked, ResolveError};
use crate::store::{
    Append, AppendError, CheckpointRecord, Label, MoveFrom, Outcome, Position, Query, RecordedEvent, Signal, Store, Subscription,
    Timestamp,
};

/// Effects that wait, or are in doubt, at most; beyond that no further intents are taken up until some are concluded.
pub const OPEN_EFFECTS_MAX: usize = 100_000;
/// The runner's checkpoint is recorded after so many conclusions, and when it stops: what is read again after a crash.
const CONCLUSIONS_PER_CHECKPOINT: u32 = 1_000;
/// The first and the longest wait before a turn is tried again after the store failed.
const STORE_RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// Runs one kind of effect until it is told to stop.
pub(super) struct Runner<E: Effect> {
    store: Store,
    turn: Arc<Turn<E>>,
    board: Arc<Board>,
    consumer: Label,
    subscription: Subscription,
    asked: mpsc::Receiver<Asked>,
    /// Every intent that was taken up and is not concluded.
    open: BTreeMap<EffectId, Open>,
    /// When to take the next turn of those that wait.
    waiting: BTreeSet<(Instant, EffectId)>,
    ready: VecDeque<EffectId>,
    jobs: JoinSet<(EffectId, Next)>,
    conclusions: u32,
    checkpoint: Position,
}

struct Open {
    event: RecordedEvent,
    wakes_at: Option<Instant>,
    /// Failures of the store in a row.
    failures: u32,
    verdict: Option<Asked>,
}

impl<E: Effect> Runner<E> {
    pub(super) async fn new(
        store: Store,
        effect: E,
        board: Arc<Board>,
        asked: mpsc::Receiver<Asked>,
    ) -> Result<Self, super::StartError> {
        let turn = Arc::new(Turn::new(store.clone(), effect)?);
        let consumer = Label::new(format!("$effect:{}", E::NAME))?;
        let query = Query::types([turn.intent_type()]);
        let (subscription, checkpoint) = match store.checkpoint(consumer.clone()).await? {
            Some(checkpoint) => (store.resume(query, &checkpoint).await?, checkpoint.position),
            None => (store.subscribe(query, Position::START), Position::START),
        };
        Ok(Self {
            store,
            turn,
            board,
            consumer,
            subscription,
            asked,
            open: BTreeMap::new(),
            waiting: BTreeSet::new(),
            ready: VecDeque::new(),
            jobs: JoinSet::new(),
            conclusions: 0,
            checkpoint,
        })
    }

    /// Runs until told to stop; then what is under way ends first, within its own deadlines.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut failures = 0;
        let mut looks = self.board.looks();
        loop {
            self.start_ready();
            let room = self.ready.is_empty() && self.has_room();
            let wake = self.waiting.first().map(|(at, _)| *at);
            self.say_status(room);
            tokio::select! {
                biased;
                () = super::stopped(&mut stop) => break,
                Some(ended) = self.jobs.join_next() => self.job_ended(ended).await,
                Some(asked) = self.asked.recv() => self.take_verdict(asked),
                Ok(()) = looks.changed() => self.wake_all(),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => self.wake_due(),
                signal = self.subscription.next(), if room => match signal {
                    Ok(Signal::Event(event)) => self.take_up(event),
                    Ok(_) => failures = 0,
                    Err(crate::store::ReadError::Closed) => break,
                    Err(error) => {
                        failures += 1;
                        self.board.say(E::NAME, format!("reading failed, trying again: {error}"));
                        tokio::time::sleep(store_backoff(failures)).await;
                    }
                },
            }
        }
        while let Some(ended) = self.jobs.join_next().await {
            self.job_ended(ended).await;
        }
        self.save_checkpoint().await;
        self.board.say(E::NAME, "stopped".to_owned());
    }

    fn has_room(&self) -> bool {
        self.jobs.len() < self.turn.policy().concurrency && self.open.len() < OPEN_EFFECTS_MAX
    }

    fn say_status(&self, room: bool) {
        let waits_for = if room { "new intents" } else { "effects under way to be concluded" };
        let (through, under_way) = (self.subscription.through(), self.jobs.len());
        self.board.say_where(E::NAME, through, waits_for, under_way, self.open.len() - under_way.min(self.open.len()));
    }

    fn take_up(&mut self, event: RecordedEvent) {
        let id = EffectId(event.position);
        self.board.opened(id);
        self.open.insert(id, Open { event, wakes_at: None, failures: 0, verdict: None });
        self.ready.push_back(id);
    }

    fn start_ready(&mut self) {
        while self.jobs.len() < self.turn.policy().concurrency
            && let Some(id) = self.ready.pop_front()
        {
            let Some(open) = self.open.get_mut(&id) else { continue };
            let (turn, board) = (self.turn.clone(), self.board.clone());
            let intent = Intent { id, event: open.event.clone() };
            let verdict = open.verdict.take();
            self.jobs.spawn(async move {
                let next = match verdict {
                    Some(asked) => turn.verdict(&intent, asked).await,
                    None => turn.take(&intent, &board).await,
                };
                board.moved();
                (id, next)
            });
        }
    }

    async fn job_ended(&mut self, ended: Result<(EffectId, Next), tokio::task::JoinError>) {
        // A turn catches what users' code panics with; a panic of its own is a bug that must not be swallowed.
        let (id, next) = ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let Some(open) = self.open.get_mut(&id) else { return };
        let at = match next {
            Next::Concluded => {
                self.open.remove(&id);
                self.board.closed(id);
                self.conclusions += 1;
                if self.conclusions >= CONCLUSIONS_PER_CHECKPOINT {
                    self.save_checkpoint().await;
                }
                return;
            }
            Next::At(moment) => {
                open.failures = 0;
                Instant::now() + moment.since(Timestamp::now())
            }
            Next::StoreFailed(detail) => {
                open.failures += 1;
                let wait = store_backoff(open.failures);
                self.board.say(E::NAME, format!("effect {id} cannot be recorded, trying again: {detail}"));
                Instant::now() + wait
            }
        };
        if open.verdict.is_some() {
            self.ready.push_back(id);
        } else {
            open.wakes_at = Some(at);
            self.waiting.insert((at, id));
        }
    }

    /// A person says what happened. Where a turn is under way, it ends first.
    fn take_verdict(&mut self, asked: Asked) {
        let id = asked.id;
        match self.open.get_mut(&id) {
            None => drop(asked.answer.send(Err(ResolveError::NotOpen { id }))),
            Some(open) if open.verdict.is_some() => drop(asked.answer.send(Err(ResolveError::Busy { id }))),
            Some(open) => {
                open.verdict = Some(asked);
                if let Some(at) = open.wakes_at.take() {
                    self.waiting.remove(&(at, id));
                    self.ready.push_back(id);
                }
            }
        }
    }

    fn wake_due(&mut self) {
        let now = Instant::now();
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

    fn wake(&mut self, at: Instant, id: EffectId) {
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
        let saved = async {
            let checkpoint = self.store.checkpoint_at(through).await.map_err(|error| error.to_string())?;
            let record = CheckpointRecord { consumer: self.consumer.clone(), from: MoveFrom::Earlier, checkpoint };
            let append = Append { checkpoint: Some(record), ..Append::default() };
            self.store.append(append).await.map_err(|error: AppendError| error.to_string())
        };
        match saved.await {
            Ok(Outcome::Appended(_)) => self.checkpoint = through,
            Ok(_) => {}
            Err(detail) => tracing::warn!(effect = E::NAME, %detail, "the checkpoint of an effect was not recorded"),
        }
    }
}

fn store_backoff(failures: u32) -> Duration {
    super::effect::Backoff { first: STORE_RETRY.0, longest: STORE_RETRY.1 }.after(failures)
}
