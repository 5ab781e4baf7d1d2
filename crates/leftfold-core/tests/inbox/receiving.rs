//! A receiver and a broker in memory that does what brokers do: it delivers again what was not
//! settled when a connection ends. The time is tokio's, which passes when nothing else can.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use leftfold_core::runtime::inbox::{
    Arrival, BrokerQueue, CONNECT_WITHIN, QueueSession, ReceiverState, ReceiverStatus,
    RunningReceiver,
};
use leftfold_core::store::Store;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, advance, timeout};

use crate::runtime_stage::{Fault, SECOND, Stage};
use crate::tracking::{Parcel, Tracking};

/// A broker with one queue.
#[derive(Clone, Default)]
struct Broker {
    state: Arc<Mutex<BrokerState>>,
    news: Arc<Notify>,
}

#[derive(Default)]
struct BrokerState {
    waiting: VecDeque<Sent>,
    unsettled: BTreeMap<u64, Sent>,
    deliveries: u64,
    dead: Vec<(Sent, String)>,
    connected: Vec<Instant>,
    mood: Mood,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Mood {
    #[default]
    Well,
    /// It refuses connections.
    Away,
    /// It takes connections and says nothing.
    Silent,
    /// Its adapter has a bug.
    Panics,
}

#[derive(Clone, Debug, PartialEq)]
struct Sent {
    id: Option<&'static str>,
    source: Option<&'static str>,
    payload: String,
}

#[derive(Debug, thiserror::Error)]
#[error("connection refused")]
struct Refused;

fn scan(id: &'static str) -> Sent {
    let payload = json!({"parcel": "P1", "scan": id}).to_string();
    Sent { id: Some(id), source: None, payload }
}

impl Broker {
    fn state(&self) -> MutexGuard<'_, BrokerState> {
        self.state.lock().unwrap()
    }

    fn send(&self, sent: Sent) {
        self.state().waiting.push_back(sent);
        self.news.notify_one();
    }

    fn set(&self, mood: Mood) {
        self.state().mood = mood;
    }

    fn is_empty(&self) -> bool {
        self.state().waiting.is_empty() && self.state().unsettled.is_empty()
    }
}

impl BrokerQueue for Broker {
    type Session = Connected;

    fn name(&self) -> &str {
        "scans"
    }

    async fn connect(&mut self) -> Result<Connected, Refused> {
        let mood = self.state().mood;
        self.state().connected.push(Instant::now());
        match mood {
            Mood::Well => Ok(Connected(self.clone())),
            Mood::Away => Err(Refused),
            Mood::Silent => pending().await,
            Mood::Panics => panic!("the adapter exploded"),
        }
    }
}

struct Connected(Broker);

impl QueueSession for Connected {
    type Handle = u64;
    type Error = Refused;

    async fn next(&mut self) -> Result<Arrival<u64>, Refused> {
        loop {
            if let Some(sent) = self.delivered()? {
                return Ok(sent);
            }
            self.0.news.notified().await;
        }
    }

    async fn acknowledge(&mut self, handle: u64) -> Result<(), Refused> {
        self.0.state().unsettled.remove(&handle).map(drop).ok_or(Refused)
    }

    async fn dead_letter(&mut self, handle: u64, reason: &str) -> Result<(), Refused> {
        let mut broker = self.0.state();
        let sent = broker.unsettled.remove(&handle).ok_or(Refused)?;
        broker.dead.push((sent, reason.to_owned()));
        Ok(())
    }

    async fn give_back(self, _: Vec<u64>, _: Duration) {}
}

impl Connected {
    fn delivered(&mut self) -> Result<Option<Arrival<u64>>, Refused> {
        let mut broker = self.0.state();
        if broker.mood != Mood::Well {
            return Err(Refused);
        }
        let Some(sent) = broker.waiting.pop_front() else {
            return Ok(None);
        };
        broker.deliveries += 1;
        let handle = broker.deliveries;
        broker.unsettled.insert(handle, sent.clone());
        Ok(Some(Arrival {
            source: sent.source.map(str::to_owned),
            id: sent.id.map(str::to_owned),
            payload: sent.payload.into(),
            trace: None,
            handle,
        }))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut broker = self.0.state();
        while let Some((_, sent)) = broker.unsettled.pop_last() {
            broker.waiting.push_front(sent);
        }
    }
}

fn receive(store: &Store, broker: &Broker) -> RunningReceiver {
    store.inbox::<Tracking>().receive_from(broker.clone())
}

/// Waits until a status is reached, and returns it.
async fn reached(
    status: &mut watch::Receiver<ReceiverStatus>,
    holds: impl FnMut(&ReceiverStatus) -> bool,
) -> ReceiverStatus {
    // An hour is over at once if nothing else can happen.
    let reached = timeout(3_600 * SECOND, status.wait_for(holds)).await;
    reached.expect("it is reached").expect("the receiver has not ended").clone()
}

/// Delivers what the inbox has taken, and returns the scans of the parcel.
async fn delivered(stage: &Stage) -> Vec<String> {
    let process = stage.process();
    process.runtime().inbox::<Tracking>().run_until_idle().await.unwrap();
    process.store.aggregate::<Parcel>().load("P1").await.unwrap().state.scans
}

#[tokio::test(start_paused = true)]
async fn messages_are_taken_in_their_order_once_each_and_then_acknowledged() {
    let (stage, broker) = (Stage::new(), Broker::default());
    for sent in [scan("m1"), scan("m2"), scan("m1"), scan("m3")] {
        broker.send(sent);
    }
    let receiver = receive(&stage.process().store, &broker);
    let status = reached(&mut receiver.status(), |s| s.taken + s.repeated == 4).await;
    assert_eq!((status.taken, status.repeated, status.state), (3, 1, ReceiverState::Receiving));
    receiver.stop().await.unwrap();
    assert!(broker.is_empty());
    assert_eq!(delivered(&stage).await, ["m1", "m2", "m3"]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_can_never_be_taken_becomes_a_dead_letter_with_the_reason() {
    let (stage, broker) = (Stage::new(), Broker::default());
    let unreadable = Sent { payload: "no JSON".to_owned(), ..scan("m1") };
    let without_id = Sent { id: None, ..scan("m2") };
    let other = Sent { payload: scan("m4").payload, ..scan("m3") };
    for sent in [unreadable.clone(), without_id.clone(), scan("m3"), other.clone(), scan("m5")] {
        broker.send(sent);
    }
    let receiver = receive(&stage.process().store, &broker);
    let status = reached(&mut receiver.status(), |s| s.taken + s.poisoned == 5).await;
    assert_eq!((status.taken, status.poisoned), (2, 3));
    receiver.stop().await.unwrap();
    let dead = std::mem::take(&mut broker.state().dead);
    let (sent, reasons): (Vec<Sent>, Vec<String>) = dead.into_iter().unzip();
    assert_eq!(sent, [unreadable, without_id, other]);
    let parts = ["m1", "has no id", "another message under the id m3"];
    assert!(reasons.iter().zip(parts).all(|(reason, part)| reason.contains(part)), "{reasons:?}");
    assert!(broker.is_empty());
}

#[tokio::test(start_paused = true)]
async fn while_the_store_refuses_messages_stay_with_the_broker_and_are_not_tried_all_the_time() {
    let (stage, broker) = (Stage::new(), Broker::default());
    let process = stage.process();
    process.faults.set(Fault::ReadOnly);
    for sent in [scan("m1"), scan("m2"), scan("m3")] {
        broker.send(sent);
    }
    let began = Instant::now();
    let receiver = receive(&process.store, &broker);
    let mut status = receiver.status();
    let away = reached(&mut status, |s| s.given_back >= 30).await;
    assert!(matches!(away.state, ReceiverState::StoreAway { .. }), "{away}");
    assert!(away.last_error.unwrap().contains("it was pulled"));
    // A connection and a wait each, doubled up to 30 s.
    let (connected, passed) = (broker.state().connected.len(), began.elapsed());
    assert!(connected <= 12 && passed > 30 * SECOND, "{connected} in {passed:?}");

    process.faults.set(Fault::None);
    let status = reached(&mut status, |s| s.taken == 3).await;
    assert_eq!((status.state, status.poisoned), (ReceiverState::Receiving, 0));
    receiver.stop().await.unwrap();
    assert_eq!(delivered(&stage).await, ["m1", "m2", "m3"]);
}

/// The append was made and its answer was lost: the next try finds what is recorded.
#[tokio::test(start_paused = true)]
async fn a_message_whose_append_is_in_doubt_is_tried_again_and_takes_effect_once() {
    let (stage, broker) = (Stage::new(), Broker::default());
    let process = stage.process();
    process.faults.set(Fault::Unknown);
    broker.send(scan("m1"));
    let receiver = receive(&process.store, &broker);
    let status = reached(&mut receiver.status(), |s| s.repeated == 1).await;
    assert_eq!((status.taken, status.given_back), (0, 0));
    receiver.stop().await.unwrap();
    assert!(broker.is_empty());
    assert_eq!(delivered(&stage).await, ["m1"]);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_silent_or_badly_spoken_to_is_tried_again_with_longer_waits() {
    for (mood, said) in [
        (Mood::Away, "connection refused"),
        (Mood::Silent, "connecting took longer than 30 s"),
        (Mood::Panics, "the adapter exploded"),
    ] {
        let (stage, broker) = (Stage::new(), Broker::default());
        broker.set(mood);
        let receiver = receive(&stage.process().store, &broker);
        let mut status = receiver.status();
        let away = reached(&mut status, |s| matches!(s.state, ReceiverState::BrokerAway { .. }));
        let away = away.await;
        assert!(away.last_error.as_ref().unwrap().contains(said), "{away}");
        while broker.state().connected.len() < 8 {
            advance(Duration::from_millis(20)).await;
        }
        let connected = broker.state().connected.clone();
        let waits: Vec<Duration> = connected.windows(2).map(|two| two[1] - two[0]).collect();
        let asked = if mood == Mood::Silent { CONNECT_WITHIN } else { Duration::ZERO };
        let between = |wait: Duration, most_ms: u64| {
            let most = asked + Duration::from_millis(most_ms + 40);
            wait >= asked + Duration::from_millis(most_ms * 3 / 4) && wait <= most
        };
        let doubled = waits.iter().zip([100, 200, 400, 800, 1_600, 3_200, 6_400]);
        assert!(doubled.into_iter().all(|(wait, most)| between(*wait, most)), "{waits:?}");

        broker.set(Mood::Well);
        broker.send(scan("m1"));
        let status = reached(&mut status, |s| s.taken == 1).await;
        assert_eq!(status.state, ReceiverState::Receiving);
        receiver.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_ends_with_its_store_even_while_the_broker_is_away() {
    for mood in [Mood::Well, Mood::Away, Mood::Silent] {
        let (stage, broker) = (Stage::new(), Broker::default());
        broker.set(mood);
        let store = stage.process().store;
        let receiver = receive(&store, &broker);
        let mut status = receiver.status();
        while broker.state().connected.is_empty() {
            tokio::task::yield_now().await;
        }
        store.close().await.unwrap();
        reached(&mut status, |s| s.state == ReceiverState::StoreClosed).await;
        receiver.stop().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_stopped_settles_what_is_under_way_and_takes_no_more() {
    let (stage, broker) = (Stage::new(), Broker::default());
    let process = stage.process();
    let receiver = receive(&process.store, &broker);
    let mut status = receiver.status();
    // It is told to stop while it takes the first message.
    let stopping = Arc::new(Mutex::new(Some(receiver)));
    let (stopped, other) = (stopping.clone(), broker.clone());
    process.faults.before_append(move || {
        other.send(scan("m2"));
        drop(stopped.lock().unwrap().take());
    });
    broker.send(scan("m1"));
    let last = reached(&mut status, |s| s.state == ReceiverState::Stopped).await;
    assert_eq!((last.taken, last.under_way), (1, 0));
    assert_eq!(broker.state().waiting, [scan("m2")]);
    assert!(stopping.lock().unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn messages_of_two_sources_are_known_by_their_source_and_taken_side_by_side() {
    let (stage, broker) = (Stage::new(), Broker::default());
    let of = |source| Sent { source: Some(source), ..scan("m1") };
    for sent in [of("depot"), of("harbour"), of("depot")] {
        broker.send(sent);
    }
    let receiver = receive(&stage.process().store, &broker);
    let status = reached(&mut receiver.status(), |s| s.taken + s.repeated == 3).await;
    assert_eq!((status.taken, status.repeated), (2, 1));
    let line = status.to_string();
    assert!(line.starts_with("inbox tracking on scans: receiving; 2 taken, 1 repeated"), "{line}");
    receiver.stop().await.unwrap();
}
