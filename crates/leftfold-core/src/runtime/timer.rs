//! Durable timers: due times are a fold of events, so they survive whatever the log survives.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;

use super::StartError;
use super::board::Board;
use crate::fold::{Aggregate, Aggregates, Alongside, Event, ExecuteError, Recorded, Schema, Unknown};
use crate::store::{
    Append, Hash, NewEvent, Position, Query, QueryItem, ReadError, RecordedEvent, Signal, Store, StreamMatch, StreamName,
    Subscription, Timestamp,
};

/// A command that is due at a moment which events set, move and cancel.
///
/// A timer fires once, with the command's events in one atomic append, and only after every event that was recorded
/// up to its due time was looked at: an hour of outage never fires a timer that was cancelled in time. The target
/// decides on its own state; a refusal means that the timer had no object any more.
///
/// All timers that are set are kept in memory, about 200 bytes each.
pub trait Timer: Send + Sync + 'static {
    /// Names the timer in the log and in status. Has no `-`.
    const NAME: &'static str;
    /// Raised whenever [`schedule`](Timer::schedule) comes to mean something else.
    const VERSION: u32 = 1;
    /// The events that set, move and cancel timers.
    type Event: Event;
    /// The aggregate that is told.
    type Target: Aggregate;

    /// What an event means for the timers. Pure.
    fn schedule(&self, event: &Recorded<Self::Event>) -> Schedule;

    /// Whom to tell, and what, when the timer of a key is due.
    fn fire(&self, key: &str, due: Timestamp) -> (String, <Self::Target as Aggregate>::Command);
}

/// What an event means for the timers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Nothing.
    Keep,
    /// The timer of the key is due then, whatever it was before.
    Set {
        /// Which timer.
        key: String,
        /// When; a moment in the past fires as soon as everything recorded was looked at.
        due: Timestamp,
    },
    /// The timer of the key is not due any more.
    Cancel {
        /// Which timer.
        key: String,
    },
}

/// What happened to a timer, stored as `$timer.…` in the stream `$timer-NAME`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum TimerEvent {
    Fired { key: String, due: Timestamp, refused: Option<String> },
}

impl Event for TimerEvent {
    const NAMESPACE: &'static str = "$timer";
}

/// Events looked at between two snapshots of the timers that are set.
const EVENTS_PER_SNAPSHOT: u64 = 10_000;
/// How long the runner sleeps at most before it looks at the clock: wall clocks are set, and sleeps do not notice.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// The wait before a timer is fired again after the store failed.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// Runs one kind of timer until it is told to stop.
pub(super) struct TimerRunner<T: Timer> {
    store: Store,
    timer: T,
    board: Arc<Board>,
    stream: StreamName,
    schema: Arc<Schema>,
    own: Arc<Schema>,
    targets: Aggregates<T::Target>,
    subscription: Subscription,
    set: SetTimers,
    barrier: Option<Barrier>,
    since_snapshot: u64,
}

/// Once everything up to here was looked at, everything recorded up to the moment was.
#[derive(Clone, Copy)]
struct Barrier {
    taken_at: Timestamp,
    end: Position,
}

enum Due {
    Now(Timestamp, String),
    Later(Duration),
}

/// The timers that are set.
#[derive(Debug, Default)]
struct SetTimers {
    due: HashMap<String, Timestamp>,
    order: BTreeSet<(Timestamp, String)>,
}

impl SetTimers {
    fn set(&mut self, key: String, due: Timestamp) {
        self.cancel(&key);
        self.order.insert((due, key.clone()));
        self.due.insert(key, due);
    }

    fn cancel(&mut self, key: &str) {
        if let Some((key, due)) = self.due.remove_entry(key) {
            self.order.remove(&(due, key));
        }
    }

    fn fired(&mut self, key: &str, due: Timestamp) {
        if self.due.get(key) == Some(&due) {
            self.cancel(key);
        }
    }

    fn first(&self) -> Option<&(Timestamp, String)> {
        self.order.first()
    }
}

/// The timers that were set at a position: a cache.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    position: u64,
    hash: [u8; 32],
    due: Vec<(String, Timestamp)>,
}

impl<T: Timer> TimerRunner<T> {
    pub(super) async fn new(store: Store, timer: T, board: Arc<Board>) -> Result<Self, StartError> {
        let stream = StreamName::of("$timer", T::NAME)?;
        let (schema, own) = (Schema::of::<T::Event>()?, Schema::of::<TimerEvent>()?);
        let (set, position) = load_snapshot::<T>(&store).await?;
        let fired = QueryItem { streams: Some(StreamMatch::Exact(stream.clone())), ..QueryItem::default() };
        let subscription = store.subscribe(schema.query().or(Query::from(fired)), position);
        let targets = store.aggregate();
        Ok(Self { store, timer, board, stream, schema, own, targets, subscription, set, barrier: None, since_snapshot: 0 })
    }

    /// Runs until told to stop.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            self.board.say_where(T::NAME, self.subscription.through(), "events, or the next due time", 0, self.set.due.len());
            let turn = match self.next_due() {
                Due::Now(due, key) => self.fire(due, &key).await,
                Due::Later(wait) => tokio::select! {
                    () = super::stopped(&mut stop) => break,
                    signal = self.subscription.next() => match signal {
                        Ok(Signal::Event(event)) => self.look_at(&event).map_err(|error| error.to_string()),
                        Ok(_) => Ok(()),
                        Err(ReadError::Closed) => break,
                        Err(error) => Err(error.to_string()),
                    },
                    () = sleep(wait) => Ok(()),
                },
            };
            if let Err(detail) = turn {
                self.board.say(T::NAME, format!("failed, trying again: {detail}"));
                tracing::error!(timer = T::NAME, %detail, "a timer cannot go on");
                tokio::select! {
                    () = super::stopped(&mut stop) => break,
                    () = sleep(STORE_RETRY) => {}
                }
            }
            if self.since_snapshot >= EVENTS_PER_SNAPSHOT {
                self.keep_snapshot().await;
            }
        }
        self.keep_snapshot().await;
        self.board.say(T::NAME, "stopped".to_owned());
    }

    /// The first timer, if it is due and everything recorded up to its due time was looked at; else how long to wait.
    fn next_due(&mut self) -> Due {
        let Some((due, key)) = self.set.first() else { return Due::Later(SLEEP_MAX) };
        let now = Timestamp::now();
        if now < *due {
            return Due::Later(due.since(now).min(SLEEP_MAX));
        }
        if self.barrier.is_none_or(|barrier| barrier.taken_at < *due) {
            // The end is read after the clock: whatever comes behind it was recorded after the due time.
            self.barrier = Some(Barrier { taken_at: now, end: self.store.head().position });
        }
        let passed = self.barrier.is_some_and(|barrier| self.subscription.through() >= barrier.end);
        if passed { Due::Now(*due, key.clone()) } else { Due::Later(SLEEP_MAX) }
    }

    fn look_at(&mut self, recorded: &RecordedEvent) -> Result<(), crate::fold::EventError> {
        self.since_snapshot += 1;
        if recorded.stream.as_ref().is_some_and(|at| at.name == self.stream) {
            let set = &mut self.set;
            return self.own.decode_each(recorded, Unknown::Refuse, |TimerEvent::Fired { key, due, .. }| set.fired(&key, due));
        }
        let events: Vec<T::Event> = self.schema.decode(recorded, Unknown::Ignore)?;
        for event in events {
            match self.timer.schedule(&Recorded { event, envelope: recorded.clone() }) {
                Schedule::Keep => {}
                Schedule::Set { key, due } => self.set.set(key, due),
                Schedule::Cancel { key } => self.set.cancel(&key),
            }
        }
        Ok(())
    }

    async fn fire(&mut self, due: Timestamp, key: &str) -> Result<(), String> {
        let (id, command) = self.timer.fire(key, due);
        let alongside = Alongside { events: vec![self.fired(key, due, None)?], ..Alongside::default() };
        let scope = format!("$timer {}", T::NAME);
        let command = self.targets.command(&id, command).id(&scope, &format!("{due} {key}")).alongside(alongside);
        match command.execute().await {
            Ok(_) => {}
            Err(error) if error.is_of_the_store() || matches!(error, ExecuteError::Contended { .. }) => {
                return Err(error.to_string());
            }
            // The target has no use for it, or cannot be asked: either way the timer has fired.
            Err(error) => {
                let append = Append::of(vec![self.fired(key, due, Some(error.to_string()))?]);
                self.store.append(append).await.map_err(|error| error.to_string())?;
            }
        }
        self.set.fired(key, due);
        Ok(())
    }

    fn fired(&self, key: &str, due: Timestamp, refused: Option<String>) -> Result<NewEvent, String> {
        let event = TimerEvent::Fired { key: key.to_owned(), due, refused };
        let new = self.own.encode(&event).map_err(|error| error.to_string())?;
        Ok(new.in_stream(self.stream.clone()))
    }

    async fn keep_snapshot(&mut self) {
        self.since_snapshot = 0;
        let position = self.subscription.through();
        let Ok(Some(Hash(hash))) = self.store.hash_at(position).await else { return };
        let due = self.set.due.iter().map(|(key, due)| (key.clone(), *due)).collect();
        if let Ok(json) = serde_json::to_vec(&Snapshot { position: position.0, hash, due }) {
            self.store.keep_snapshot(snapshot_key::<T>(&self.store), Bytes::from(json));
        }
    }
}

fn snapshot_key<T: Timer>(store: &Store) -> Bytes {
    Bytes::from(format!("timer {} {} {}", store.identity().store, T::NAME, T::VERSION))
}

/// The timers that were set, if the snapshot belongs to this history; else none, from the beginning.
async fn load_snapshot<T: Timer>(store: &Store) -> Result<(SetTimers, Position), StartError> {
    let anew = (SetTimers::default(), Position::START);
    let Some(bytes) = store.snapshot(snapshot_key::<T>(store)).await? else { return Ok(anew) };
    let Ok(snapshot) = serde_json::from_slice::<Snapshot>(&bytes) else { return Ok(anew) };
    let position = Position(snapshot.position);
    if store.hash_at(position).await? != Some(Hash(snapshot.hash)) {
        return Ok(anew);
    }
    let mut set = SetTimers::default();
    snapshot.due.into_iter().for_each(|(key, due)| set.set(key, due));
    Ok((set, position))
}
