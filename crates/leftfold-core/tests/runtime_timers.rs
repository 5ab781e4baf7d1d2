//! Durable timers, and light ones.

mod runtime_stage;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::{Clock, Countdowns, RunningRuntime, Schedule, Timer};
use leftfold_core::store::{Append, AppendError, Backend, EventType, Hash, NewEvent, Position, Store, StreamName, Timestamp};
use runtime_stage::{Fault, Process, SECOND, Stage, everything, quiet, story, until};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum TableEvent {
    Reserved { until: Timestamp },
    Seated,
    Expired { due: Timestamp },
    Wiped,
}

impl Event for TableEvent {
    const NAMESPACE: &'static str = "table";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Table {
    closed: bool,
}

#[derive(Debug)]
enum Do {
    Reserve(Timestamp),
    Seat,
    Wipe,
    Expire(Timestamp),
    Explode,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("nothing is reserved")]
struct NothingReserved;

impl Aggregate for Table {
    const CATEGORY: &'static str = "table";
    type Event = TableEvent;
    type Command = Do;
    type Refusal = NothingReserved;

    fn apply(&mut self, event: &TableEvent) {
        self.closed |= matches!(event, TableEvent::Wiped);
    }

    fn decide(&self, command: &Do) -> Result<Vec<TableEvent>, NothingReserved> {
        match command {
            Do::Reserve(until) => Ok(vec![TableEvent::Reserved { until: *until }]),
            Do::Seat => Ok(vec![TableEvent::Seated]),
            Do::Wipe => Ok(vec![TableEvent::Wiped]),
            Do::Expire(_) if self.closed => Err(NothingReserved),
            Do::Expire(due) => Ok(vec![TableEvent::Expired { due: *due }]),
            Do::Explode => panic!("decide exploded"),
        }
    }
}

/// What the timer reads of a table; its own shape of the events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum TableFact {
    #[serde(rename = "table.Reserved")]
    Reserved { until: Timestamp },
    #[serde(rename = "table.Seated")]
    Seated,
    #[serde(rename = "table.Wiped")]
    Wiped,
}

impl Event for TableFact {
    const NAMESPACE: &'static str = "table";
}

#[derive(Clone, Default)]
struct Expiry {
    /// The tables `bad` and `Bad` panic while this holds: one when it fires, one when it is looked at.
    panics: Arc<AtomicBool>,
}

impl Timer for Expiry {
    const NAME: &'static str = "expiry";
    type Event = TableFact;
    type Target = Table;

    fn schedule(&self, event: &Recorded<TableFact>) -> Schedule {
        let key = event.envelope.stream.as_ref().unwrap().name.strip_prefix("table-").unwrap().to_owned();
        assert!(key != "Bad" || !self.panics.load(Ordering::SeqCst), "schedule exploded");
        match event.event {
            TableFact::Reserved { until } => Schedule::Set { key, due: until },
            TableFact::Seated => Schedule::Cancel { key },
            TableFact::Wiped => Schedule::Keep,
        }
    }

    fn fire(&self, key: &str, due: Timestamp) -> (String, Do) {
        let panics = key == "bad" && self.panics.load(Ordering::SeqCst);
        (key.to_owned(), if panics { Do::Explode } else { Do::Expire(due) })
    }
}

async fn expires(process: &Process) -> RunningRuntime {
    process.runtime().timer(Expiry::default()).start().await.unwrap()
}

async fn table(store: &Store, id: &str, command: Do) {
    store.aggregate::<Table>().execute(id, command).await.unwrap();
}

/// The keys that fired, in order, with the refusals.
async fn fired(store: &Store) -> Vec<(String, bool)> {
    let fired = |event: &leftfold_core::store::RecordedEvent| {
        (&*event.event_type == "$timer.Fired").then(|| {
            let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
            (data["key"].as_str().unwrap().to_owned(), !data["refused"].is_null())
        })
    };
    everything(store).await.iter().filter_map(fired).collect()
}

async fn until_fired(store: &Store, keys: &[&str]) {
    until(format!("{keys:?} fired"), async || fired(store).await.len() >= keys.len()).await;
    quiet().await;
    assert_eq!(fired(store).await, keys.iter().map(|key| ((*key).to_owned(), false)).collect::<Vec<_>>());
}

fn now(process: &Process) -> Timestamp {
    process.clock.now()
}

#[tokio::test]
async fn a_timer_fires_when_it_is_due_with_its_events_in_one_append() {
    let stage = Stage::new();
    let process = stage.process();
    let _runtime = expires(&process).await;
    table(&process.store, "a", Do::Reserve(now(&process).plus(10 * SECOND))).await;
    table(&process.store, "moved", Do::Reserve(now(&process).plus(5 * SECOND))).await;
    table(&process.store, "moved", Do::Reserve(now(&process).plus(20 * SECOND))).await;
    table(&process.store, "cancelled", Do::Reserve(now(&process).plus(5 * SECOND))).await;
    table(&process.store, "cancelled", Do::Seat).await;
    table(&process.store, "past", Do::Reserve(now(&process).minus(5 * SECOND))).await;
    table(&process.store, "never", Do::Reserve(Timestamp::MAX)).await;
    until_fired(&process.store, &["past"]).await;
    stage.clock.advance(9 * SECOND);
    until_fired(&process.store, &["past"]).await;
    stage.clock.advance(SECOND);
    until_fired(&process.store, &["past", "a"]).await;
    stage.clock.advance(1_000 * SECOND);
    until_fired(&process.store, &["past", "a", "moved"]).await;
    assert_eq!(story(&process.store).await.iter().filter(|line| line.as_str() == "Expired+Fired").count(), 3);
}

#[tokio::test]
async fn a_timer_fires_once_over_restarts_and_anew_when_it_is_set_anew() {
    let stage = Stage::new();
    let process = stage.process();
    let due = now(&process).plus(SECOND);
    table(&process.store, "a", Do::Reserve(due)).await;
    stage.clock.advance(2 * SECOND);
    for _ in 0..3 {
        let runtime = expires(&process).await;
        until_fired(&process.store, &["a"]).await;
        runtime.stop().await.unwrap();
        // Without what was kept, everything is looked at again.
        stage.backend.keep_snapshot(snapshot_key(&process.store), "gone".into());
    }
    table(&process.store, "a", Do::Reserve(due)).await;
    let _runtime = expires(&process).await;
    until_fired(&process.store, &["a", "a"]).await;
}

#[tokio::test]
async fn of_two_processes_one_fires_also_where_the_target_refuses() {
    fired_by_two(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_processes_one_fires_also_where_they_race() {
    fired_by_two(400).await;
}

async fn fired_by_two(timers: usize) {
    let stage = Stage::new();
    let (one, two) = (stage.process(), stage.process());
    let _runtimes = [expires(&one).await, expires(&two).await];
    for number in 0..timers {
        let id = format!("t{number}");
        if number % 2 == 1 {
            table(&two.store, &id, Do::Wipe).await;
        }
        table(&one.store, &id, Do::Reserve(now(&one).plus(SECOND * (number as u32 / 40)))).await;
    }
    stage.clock.advance(3_600 * SECOND);
    until("all fired", async || fired(&one.store).await.len() >= timers).await;
    quiet().await;
    let fired = fired(&one.store).await;
    assert_eq!((fired.len(), fired.iter().filter(|(_, refused)| *refused).count()), (timers, timers / 2));
}

#[tokio::test]
async fn a_timer_that_was_cancelled_in_time_does_not_fire_after_an_outage() {
    let stage = Stage::new();
    let process = stage.process();
    let due = Timestamp::now().plus(Duration::from_millis(200));
    table(&process.store, "cancelled", Do::Reserve(due)).await;
    for number in 0..9_000 {
        table(&process.store, &format!("t{}", number % 10), Do::Seat).await;
    }
    table(&process.store, "cancelled", Do::Seat).await;
    table(&process.store, "late", Do::Reserve(due)).await;
    stage.clock.advance(3_600 * SECOND);
    let _runtime = expires(&process).await;
    until_fired(&process.store, &["late"]).await;
}

/// The end was read when the timer was due: an append that was stamped before and durable after was overlooked.
#[tokio::test]
async fn a_cancellation_that_becomes_durable_at_the_last_moment_counts() {
    let stage = Stage::new();
    let (process, other) = (stage.process(), stage.process());
    let runtime = expires(&process).await;
    table(&process.store, "a", Do::Reserve(now(&process).plus(3_600 * SECOND))).await;
    until("it is set", async || runtime.status()[0].waiting == 1).await;
    // Recorded time stands an hour before the due time, so whatever comes may still be in time.
    process.faults.before_append(move || {
        let seated = NewEvent::new(EventType::new("table.Seated").unwrap(), "{}");
        let seated = seated.in_stream(StreamName::of("table", "a").unwrap());
        drop(other.store.append(Append::of(vec![seated])));
    });
    stage.clock.advance(3_600 * SECOND);
    until("it is cancelled", async || runtime.status()[0].waiting == 0).await;
    assert_eq!(fired(&process.store).await, []);
}

#[tokio::test]
async fn a_stream_of_other_events_does_not_keep_timers_from_firing() {
    let stage = Stage::new();
    let (process, busy) = (stage.process(), stage.process());
    let _runtime = expires(&process).await;
    let writer = tokio::spawn(async move {
        for number in 0_u64.. {
            table(&busy.store, &format!("t{}", number % 10), Do::Seat).await;
            tokio::task::yield_now().await;
        }
    });
    table(&process.store, "past", Do::Reserve(Timestamp::now().minus(SECOND))).await;
    table(&process.store, "soon", Do::Reserve(now(&process).plus(SECOND))).await;
    stage.clock.advance(SECOND);
    until("both fired", async || fired(&process.store).await.len() == 2).await;
    writer.abort();
}

fn snapshot_key(store: &Store) -> bytes::Bytes {
    format!("timer {} expiry 1", store.identity().store).into()
}

#[tokio::test]
async fn a_snapshot_is_used_if_it_belongs_to_the_history_and_else_ignored() {
    let stage = Stage::new();
    let process = stage.process();
    table(&process.store, "a", Do::Reserve(now(&process).plus(SECOND))).await;
    let head = process.store.head().position;
    let Some(Hash(hash)) = process.store.hash_at(head).await.unwrap() else { panic!("the head has a hash") };
    let planted = |position: Position, hash: [u8; 32]| {
        let set = [serde_json::json!({"key": "planted", "due": now(&process), "set_at": 1})];
        let snapshot = serde_json::json!({"position": position.0, "hash": hash, "set": set});
        stage.backend.keep_snapshot(snapshot_key(&process.store), snapshot.to_string().into());
    };
    stage.clock.advance(SECOND);
    for foreign in [(head, [7; 32]), (Position(99), hash)] {
        planted(foreign.0, foreign.1);
        let runtime = expires(&process).await;
        until_fired(&process.store, &["a"]).await;
        runtime.stop().await.unwrap();
    }
    planted(head, hash);
    let _runtime = expires(&process).await;
    until_fired(&process.store, &["a", "planted"]).await;
}

#[tokio::test]
async fn a_timer_that_panics_is_tried_again_and_the_others_go_on() {
    let stage = Stage::new();
    let process = stage.process();
    let expiry = Expiry::default();
    expiry.panics.store(true, Ordering::SeqCst);
    let runtime = process.runtime().timer(expiry.clone()).start().await.unwrap();
    table(&process.store, "bad", Do::Reserve(now(&process))).await;
    until("the status says so", async || runtime.status()[0].waits_for.contains("decide exploded")).await;
    table(&process.store, "good", Do::Reserve(now(&process))).await;
    until_fired(&process.store, &["good"]).await;
    expiry.panics.store(false, Ordering::SeqCst);
    stage.clock.advance(60 * SECOND);
    until_fired(&process.store, &["good", "bad"]).await;
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn an_event_that_cannot_be_looked_at_is_not_skipped_and_the_status_names_it() {
    let stage = Stage::new();
    let process = stage.process();
    let expiry = Expiry::default();
    expiry.panics.store(true, Ordering::SeqCst);
    let runtime = process.runtime().timer(expiry.clone()).start().await.unwrap();
    table(&process.store, "Bad", Do::Reserve(now(&process))).await;
    until("the status says so", async || runtime.status()[0].waits_for.contains("schedule exploded")).await;
    table(&process.store, "good", Do::Reserve(now(&process))).await;
    for _ in 0..3 {
        stage.clock.advance(SECOND);
        quiet().await;
        assert_eq!(fired(&process.store).await, []);
    }
    expiry.panics.store(false, Ordering::SeqCst);
    stage.clock.advance(SECOND);
    until_fired(&process.store, &["Bad", "good"]).await;
    let unread = NewEvent::new(EventType::new("table.Reserved").unwrap(), r#"{"until":"soon"}"#);
    process.store.append(Append::of(vec![unread.in_stream(StreamName::of("table", "odd").unwrap())])).await.unwrap();
    until("the status says so", async || runtime.status()[0].waits_for.contains("does not parse")).await;
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn timers_wait_for_a_store_that_fails_and_end_with_one_that_is_closed() {
    let stage = Stage::new();
    let (process, asking) = (stage.process(), stage.process());
    let runtime = expires(&process).await;
    process.faults.set(Fault::ReadOnly);
    table(&asking.store, "a", Do::Reserve(now(&process))).await;
    let read_only = AppendError::ReadOnly { detail: "it was pulled".into() }.to_string();
    until("the status says so", async || runtime.status()[0].waits_for.contains(&read_only)).await;
    process.faults.set(Fault::None);
    stage.clock.advance(SECOND);
    until_fired(&process.store, &["a"]).await;
    process.store.close().await.unwrap();
    until("it has ended", async || runtime.status()[0].waits_for == "stopped: the store is closed").await;
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_does_not_wait_for_everything_that_is_due() {
    let stage = Stage::new();
    let process = stage.process();
    for number in 0..2_000 {
        table(&process.store, &format!("t{number}"), Do::Reserve(now(&process))).await;
    }
    let runtime = expires(&process).await;
    until("it has begun", async || !fired(&process.store).await.is_empty()).await;
    runtime.stop().await.unwrap();
    assert!(fired(&process.store).await.len() < 2_000);
    let _runtime = expires(&process).await;
    until("all fired", async || fired(&process.store).await.len() == 2_000).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_thousand_light_timers_are_restarted_and_expire_each_once() {
    const KEYS: u32 = 100_000;
    let countdowns = Countdowns::new();
    for round in 0..5 {
        for key in 0..KEYS {
            countdowns.restart(key, 10 * SECOND);
        }
        tokio::time::advance(SECOND * round).await;
    }
    for key in (0..KEYS).step_by(2) {
        assert!(countdowns.cancel(&key));
    }
    assert!(!countdowns.cancel(&0));
    assert_eq!(countdowns.running(), KEYS as usize / 2);
    let mut expired = Vec::new();
    for _ in 0..KEYS / 2 {
        expired.push(countdowns.expired().await);
    }
    expired.sort_unstable();
    assert_eq!(expired, (1..KEYS).step_by(2).collect::<Vec<_>>());
    assert_eq!(countdowns.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_light_timer_may_be_longer_than_any_clock() {
    let countdowns = Countdowns::new();
    countdowns.restart("never", Duration::MAX);
    countdowns.restart("soon", SECOND);
    assert_eq!(countdowns.expired().await, "soon");
    assert_eq!(countdowns.running(), 1);
}
