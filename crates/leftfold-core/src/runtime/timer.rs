//! Durable timers: due times are a fold of events, so they survive whatever the log survives.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Host, StartError};
use crate::fold::{
    Aggregate, Aggregates, Alongside, AlongsideError, Event, EventError, ExecuteError, KeptAnswer, Recorded, Schema, Unknown,
};
use crate::store::{
    Append, AppendError, CommandId, CommandRecord, Condition, Digest, Hash, Head, NewEvent, Outcome, Position, Query, QueryItem,
    ReadError, RecordedEvent, Signal, Store, StreamMatch, StreamName, Subscription, Timestamp, Version,
};

/// A command that is due at a moment which events set, move and cancel.
///
/// A timer fires once, with the command's events in one atomic append, and only after every event that was recorded
/// up to its due time was looked at: an hour of outage never fires a timer that was cancelled in time. The target
/// decides on its own state; a refusal means that the timer had no object any more. An event that sets a timer anew
/// lets it fire anew, also for the same due time.
///
/// An event that cannot be read, or that [`schedule`](Timer::schedule) panics at, is not skipped: no timer fires until
/// it can be read, and the status says so. A timer whose target cannot be read, or that panics when it fires, is tried
/// again every minute; the others go on.
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
    /// It fired. A timer that is set again, by an event at another position, is another timer.
    Fired { key: String, due: Timestamp, set_at: u64, refused: Option<String> },
}

impl Event for TimerEvent {
    const NAMESPACE: &'static str = "$timer";
}

/// Events looked at between two snapshots of the timers that are set.
const EVENTS_PER_SNAPSHOT: u64 = 10_000;
/// The wait before the store is asked again after it failed.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// The wait before a timer that could not fire is tried again, while the others go on.
const POSTPONED: Duration = Duration::from_secs(60);

/// Runs one kind of timer until it is told to stop.
pub(crate) struct TimerRunner<T: Timer> {
    host: Host,
    timer: Arc<T>,
    stream: StreamName,
    schema: Arc<Schema>,
    own: Arc<Schema>,
    targets: Aggregates<T::Target>,
    subscription: Subscription,
    set: SetTimers,
    /// The event that is looked at. Nothing behind it is, and nothing fires, before it was.
    held: Option<RecordedEvent>,
    /// A durable end. Once all of it was looked at, everything recorded before its time was.
    barrier: Option<Head>,
    since_snapshot: u64,
    /// Why some timer could not fire, until another one does.
    trouble: Option<String>,
}

/// What is next.
enum Due {
    /// This timer, under this condition.
    Now(Instance, Condition),
    /// Nothing before this moment.
    At(Timestamp),
    /// What was recorded is to be looked at first.
    Behind,
}

/// What came of a timer that was due.
enum Fired {
    Done,
    /// Something was recorded that may concern it.
    LookFirst,
    /// It cannot fire now, for a reason of its own.
    Postponed(String, Duration),
}

impl<T: Timer> TimerRunner<T> {
    pub(crate) async fn new(host: Host, timer: T) -> Result<Self, StartError> {
        let stream = StreamName::of("$timer", T::NAME)?;
        let (schema, own) = (Schema::of::<T::Event>()?, Schema::of::<TimerEvent>()?);
        let (set, position) = load_snapshot::<T>(&host.store).await?;
        let fired = QueryItem { streams: Some(StreamMatch::Exact(stream.clone())), ..QueryItem::default() };
        let subscription = host.store.subscribe(schema.query().or(Query::from(fired)), position);
        let targets = host.store.aggregate();
        let timer = Arc::new(timer);
        host.board.say_where(T::NAME, position, "its start", 0, set.instances.len());
        let (held, barrier, trouble) = (None, None, None);
        Ok(Self { host, timer, stream, schema, own, targets, subscription, set, held, barrier, since_snapshot: 0, trouble })
    }

    /// Runs until told to stop.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let clock = self.host.clock.clone();
        let why = loop {
            if *stop.borrow() {
                break "stopped";
            }
            self.say_status();
            let went_on = match self.next_due() {
                _ if self.held.is_some() => self.look_at_held(),
                Due::Now(timer, condition) => {
                    self.host.board.begins(T::NAME);
                    self.fire(&timer, condition).await
                }
                due => tokio::select! {
                    // In this order, so that a run can be repeated.
                    biased;
                    () = super::stopped(&mut stop) => break "stopped",
                    signal = self.subscription.next() => match signal {
                        Err(ReadError::Closed) => break "stopped: the store is closed",
                        signal => self.take_signal(signal),
                    },
                    () = clock.sleep_until(if let Due::At(moment) = due { moment } else { Timestamp::MAX }) => Ok(()),
                },
            };
            if let Err(detail) = went_on {
                tracing::error!(timer = T::NAME, detail, "a timer cannot go on, trying again");
                if self.held.is_some() {
                    self.host.board.say_stalled(T::NAME, &detail);
                } else {
                    self.host.board.say(T::NAME, &detail);
                }
                tokio::select! {
                    biased;
                    () = super::stopped(&mut stop) => break "stopped",
                    () = clock.sleep_until(clock.now().plus(STORE_RETRY)) => {}
                }
            }
            if self.since_snapshot >= EVENTS_PER_SNAPSHOT {
                self.keep_snapshot().await;
            }
        };
        self.keep_snapshot().await;
        self.host.board.say(T::NAME, why);
    }

    fn say_status(&self) {
        // An event that could not be looked at has been named, and still is what is waited for.
        if self.held.is_none() {
            let waits_for = self.trouble.as_deref().unwrap_or("events, or the next due time");
            self.host.board.say_where(T::NAME, self.subscription.through(), waits_for, 0, self.set.instances.len());
        }
    }

    /// The first timer, if it is due and everything recorded up to its due time was looked at.
    fn next_due(&mut self) -> Due {
        let Some((try_at, key)) = self.set.order.first() else { return Due::At(Timestamp::MAX) };
        if self.host.clock.now() < *try_at {
            return Due::At(*try_at);
        }
        // Every key in the order is that of an instance.
        let Some(timer) = self.set.instances.get(key).cloned() else { return Due::Behind };
        if self.barrier.is_none_or(|barrier| barrier.recorded_at <= timer.due) {
            self.barrier = Some(self.host.store.head());
        }
        let through = self.subscription.through();
        match self.barrier {
            Some(barrier) if through < barrier.position => Due::Behind,
            // Recorded time increases: whatever else comes was recorded after the due time.
            Some(barrier) if barrier.recorded_at > timer.due => Due::Now(timer, Condition::none()),
            // An append that is under way may have been stamped before the due time: then it must not concern timers.
            _ => Due::Now(timer, Condition::none_matching(self.schema.query(), through)),
        }
    }

    fn take_signal(&mut self, signal: Result<Signal, ReadError>) -> Result<(), String> {
        match signal {
            Ok(Signal::Event(event)) => {
                self.held = Some(event);
                self.look_at_held()
            }
            Ok(_) => Ok(()),
            Err(error) => Err(format!("the log to be read again: {error}")),
        }
    }

    /// Looks at the event that is held, and lets it go.
    fn look_at_held(&mut self) -> Result<(), String> {
        let Some(event) = &self.held else { return Ok(()) };
        let set = &mut self.set;
        let unread = |why: String| format!("the event at {}, which must be read first: {why}", event.position);
        if event.stream.as_ref().is_some_and(|at| at.name == self.stream) {
            let fired =
                self.own.decode_each(event, Unknown::Refuse, |TimerEvent::Fired { key, set_at, .. }| set.fired(&key, set_at));
            fired.map_err(|error| unread(error.to_string()))?;
        } else {
            let scheduled = catch_unwind(AssertUnwindSafe(|| schedules(&*self.timer, &self.schema, event)));
            let scheduled = scheduled.map_err(|panic| unread(format!("schedule panicked: {}", super::message(&*panic))))?;
            for schedule in scheduled.map_err(|error| unread(error.to_string()))? {
                match schedule {
                    Schedule::Keep => {}
                    Schedule::Set { key, due } => set.set(Instance { key, due, set_at: event.position.0 }),
                    Schedule::Cancel { key } => set.cancel(&key),
                }
            }
        }
        self.held = None;
        self.since_snapshot += 1;
        Ok(())
    }

    async fn fire(&mut self, timer: &Instance, condition: Condition) -> Result<(), String> {
        match self.try_fire(timer, condition).await? {
            Fired::Done => {
                self.set.fired(&timer.key, timer.set_at);
                self.trouble = None;
            }
            Fired::LookFirst => self.barrier = None,
            Fired::Postponed(why, wait) => {
                tracing::error!(timer = T::NAME, key = timer.key, why, "a timer cannot fire, trying again");
                self.trouble = Some(format!("the timer {} to fire: {why}", timer.key));
                self.set.postpone(timer, self.host.clock.now().plus(wait));
            }
        }
        Ok(())
    }

    async fn try_fire(&self, timer: &Instance, condition: Condition) -> Result<Fired, String> {
        // The same in every process that runs the timer: the first one fires it, the others find that it has fired.
        let command_id = CommandId::new(&format!("$timer {}", T::NAME), &format!("{} {}", timer.set_at, timer.key));
        let alongside = Alongside {
            events: vec![self.fired(timer, None)?],
            none_matching: condition.none_matching.clone(),
            ..Alongside::default()
        };
        let (code, targets, Instance { key, due, .. }) = (self.timer.clone(), self.targets.clone(), timer.clone());
        let fired = super::contained(async move {
            let (id, command) = code.fire(&key, due);
            (targets.command(&id, command).with_id(command_id).alongside(alongside).execute().await, id)
        });
        let (error, target) = match fired.await {
            Ok((Ok(_), _)) => return Ok(Fired::Done),
            Ok((Err(AlongsideError::Overtaken), _)) => return Ok(Fired::LookFirst),
            Ok((Err(AlongsideError::Command(error)), target)) => (error, target),
            Err(panic) => return Ok(Fired::Postponed(format!("it panicked: {panic}"), POSTPONED)),
        };
        match error {
            // Under this id it has fired, with another command or with a refusal.
            ExecuteError::Append(AppendError::CommandIdReused { .. }) | ExecuteError::AnswerUnreadable { .. } => Ok(Fired::Done),
            ExecuteError::Contended { .. } => Ok(Fired::Postponed(error.to_string(), STORE_RETRY)),
            error if error.is_of_the_store() => Err(error.to_string()),
            // A newer release may have written it, and may fire it.
            ExecuteError::Event(_) => Ok(Fired::Postponed(error.to_string(), POSTPONED)),
            // The target has no use for it, or cannot exist: the timer has fired.
            refused => self.record_refused(timer, condition, command_id, &target, refused.to_string()).await,
        }
    }

    async fn record_refused(
        &self,
        timer: &Instance,
        condition: Condition,
        id: CommandId,
        target: &str,
        refused: String,
    ) -> Result<Fired, String> {
        let stream = StreamName::of(T::Target::CATEGORY, target).map(|stream| Digest::of(stream.as_bytes()));
        let digest = stream.unwrap_or_else(|_| Digest::of(target.as_bytes()));
        let command = CommandRecord { id, digest, answer: KeptAnswer::Accepted(Version::ABSENT).encode() };
        let events = vec![self.fired(timer, Some(super::shortened(refused)))?];
        let append = Append { events, condition, command: Some(command), ..Append::default() };
        match self.host.store.append(append).await {
            Ok(Outcome::Appended(_) | Outcome::Repeated(_)) | Err(AppendError::CommandIdReused { .. }) => Ok(Fired::Done),
            Ok(Outcome::Conflict(_)) => Ok(Fired::LookFirst),
            Err(error) => Err(error.to_string()),
        }
    }

    fn fired(&self, timer: &Instance, refused: Option<String>) -> Result<NewEvent, String> {
        let Instance { key, due, set_at } = timer.clone();
        let new = self.own.encode(&TimerEvent::Fired { key, due, set_at, refused }).map_err(|error| error.to_string())?;
        Ok(new.in_stream(self.stream.clone()))
    }

    async fn keep_snapshot(&mut self) {
        if self.held.is_some() {
            return;
        }
        self.since_snapshot = 0;
        let position = self.subscription.through();
        let Ok(Some(Hash(hash))) = self.host.store.hash_at(position).await else { return };
        let set = self.set.instances.values().cloned().collect();
        if let Ok(json) = serde_json::to_vec(&Snapshot { position: position.0, hash, set }) {
            self.host.store.keep_snapshot(snapshot_key::<T>(&self.host.store), Bytes::from(json));
        }
    }
}

/// What an event means for the timers. Calls users' code, which may panic.
fn schedules<T: Timer>(timer: &T, schema: &Schema, recorded: &RecordedEvent) -> Result<Vec<Schedule>, EventError> {
    let events: Vec<T::Event> = schema.decode(recorded, Unknown::Ignore)?;
    let schedule = |event| timer.schedule(&Recorded { event, envelope: recorded.clone() });
    Ok(events.into_iter().map(schedule).collect())
}

/// One timer that is set.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Instance {
    key: String,
    due: Timestamp,
    /// The position of the event that set it.
    set_at: u64,
}

/// The timers that are set.
#[derive(Debug, Default)]
struct SetTimers {
    instances: HashMap<String, Instance>,
    /// When to try which: when it is due, or later where it was postponed.
    order: BTreeSet<(Timestamp, String)>,
    postponed: HashMap<String, Timestamp>,
}

impl SetTimers {
    fn set(&mut self, timer: Instance) {
        self.cancel(&timer.key);
        self.order.insert((timer.due, timer.key.clone()));
        self.instances.insert(timer.key.clone(), timer);
    }

    fn cancel(&mut self, key: &str) {
        if let Some((key, timer)) = self.instances.remove_entry(key) {
            let try_at = self.postponed.remove(&key).unwrap_or(timer.due);
            self.order.remove(&(try_at, key));
        }
    }

    fn fired(&mut self, key: &str, set_at: u64) {
        if self.instances.get(key).is_some_and(|timer| timer.set_at == set_at) {
            self.cancel(key);
        }
    }

    fn postpone(&mut self, timer: &Instance, until: Timestamp) {
        self.set(timer.clone());
        self.order.remove(&(timer.due, timer.key.clone()));
        self.order.insert((until, timer.key.clone()));
        self.postponed.insert(timer.key.clone(), until);
    }
}

/// The timers that were set at a position: a cache.
#[derive(Serialize, Deserialize)]
struct Snapshot {
    position: u64,
    hash: [u8; 32],
    set: Vec<Instance>,
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
        tracing::warn!(timer = T::NAME, "a snapshot of timers does not belong to this history and is not used");
        return Ok(anew);
    }
    let mut set = SetTimers::default();
    snapshot.set.into_iter().for_each(|timer| set.set(timer));
    Ok((set, position))
}
