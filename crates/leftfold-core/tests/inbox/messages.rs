//! What a message is: the same before and after a deployment, as deep and as long as it may be,
//! with every number as it came.

use std::collections::{BTreeSet, HashSet};

use leftfold_core::fold::{Aggregate, Event};
use leftfold_core::runtime::inbox::{
    Delivery, Inbox, MESSAGE_BYTES_MAX, MESSAGE_DEPTH_MAX, Receipt, ReceiveError,
};
use leftfold_core::runtime::process::{Reaction, Targets};
use leftfold_core::store::{Append, CommandRecord, Digest, EventType, NewEvent, Store, StreamName};
use leftfold_testing::command_id_of_runtime;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::runtime_stage::{Stage, quiet, until};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum BoxEvent {
    Put { what: String },
}

impl Event for BoxEvent {
    const NAMESPACE: &'static str = "box";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("never")]
struct Never;

/// Remembers what was put into it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Box {
    all: Vec<String>,
}

impl Aggregate for Box {
    const CATEGORY: &'static str = "box";
    type Event = BoxEvent;
    type Command = String;
    type Refusal = Never;

    fn apply(&mut self, event: &BoxEvent) {
        let BoxEvent::Put { what } = event;
        self.all.push(what.clone());
    }

    fn decide(&self, what: &String) -> Result<Vec<BoxEvent>, Never> {
        Ok(vec![BoxEvent::Put { what: what.clone() }])
    }
}

/// Mails, as some release of a program takes them. Of each what it said is put into a box.
trait Mail: Serialize + DeserializeOwned + Send + Sync + 'static {
    fn said(&self) -> String;
}

struct Mails<M>(std::marker::PhantomData<M>);

impl<M: Mail> Inbox for Mails<M> {
    const NAME: &'static str = "mails";
    type Message = M;

    fn targets() -> Targets {
        Targets::of::<Box>()
    }

    fn deliver(mail: &M, _: &Delivery) -> Reaction {
        Reaction::none().command::<Box>("all", mail.said())
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Before {
    a: u32,
}

#[derive(Clone, Serialize, Deserialize)]
struct After {
    a: u32,
    #[serde(default)]
    b: Option<u8>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Set {
    all: HashSet<u32>,
    big: u128,
    kwh: f64,
}

impl Mail for Before {
    fn said(&self) -> String {
        self.a.to_string()
    }
}

impl Mail for After {
    fn said(&self) -> String {
        format!("{} {:?}", self.a, self.b)
    }
}

impl Mail for Set {
    fn said(&self) -> String {
        format!("{} {} {}", self.all.len(), self.big, self.kwh.to_bits())
    }
}

impl Mail for Value {
    fn said(&self) -> String {
        self.to_string()
    }
}

async fn put(store: &Store) -> Vec<String> {
    store.aggregate::<Box>().load("all").await.unwrap().state.all
}

async fn receive<M: Mail>(store: &Store, id: &str, mail: M) -> Result<Receipt, ReceiveError> {
    store.inbox::<Mails<M>>().receive("s", id, None, mail).await
}

fn is_other(error: &ReceiveError) -> bool {
    matches!(error, ReceiveError::OtherMessage { .. })
}

/// The message was digested as it was serialized again: a redelivery after a deployment was another
/// message, and the sender never got rid of it.
#[tokio::test]
async fn a_message_whose_type_gained_a_field_with_a_default_is_the_same_message() {
    let store = Store::memory();
    assert_eq!(receive(&store, "m", Before { a: 1 }).await, Ok(Receipt::Accepted));
    assert_eq!(receive(&store, "m", After { a: 1, b: None }).await, Ok(Receipt::Duplicate));
    assert!(is_other(&receive(&store, "m", After { a: 1, b: Some(0) }).await.unwrap_err()));
    assert!(is_other(&receive(&store, "m", After { a: 2, b: None }).await.unwrap_err()));
    // And back again.
    assert_eq!(receive(&store, "m", Before { a: 1 }).await, Ok(Receipt::Duplicate));
    let bytes = async |id: &str, text: &str| {
        store.inbox::<Mails<After>>().receive_bytes("s", id, None, text.as_bytes()).await
    };
    assert_eq!(bytes("m", r#"{ "a" : 1 }"#).await, Ok(Receipt::Duplicate));
    assert_eq!(bytes("m", r#"{"b":null,"a":1}"#).await, Ok(Receipt::Duplicate));
    assert!(is_other(&bytes("m", r#"{"a":3}"#).await.unwrap_err()));
}

/// The order in which a set is written is drawn at random.
#[tokio::test]
async fn a_message_with_a_set_and_long_numbers_is_the_same_in_any_order_and_passes_unchanged() {
    let stage = Stage::new();
    let process = stage.process();
    let store = &process.store;
    let (big, kwh) = (u128::MAX - 1, 117.633_313_911_400_17);
    let set = |count: u32, big| Set { all: (0..count).collect(), big, kwh };
    assert_eq!(receive(store, "m", set(40, big)).await, Ok(Receipt::Accepted));
    for _ in 0..20 {
        assert_eq!(receive(store, "m", set(40, big)).await, Ok(Receipt::Duplicate));
    }
    assert!(is_other(&receive(store, "m", set(41, big)).await.unwrap_err()));
    assert!(is_other(&receive(store, "m", set(40, big - 1)).await.unwrap_err()));
    let running = process.runtime().inbox::<Mails<Set>>().start().await.unwrap();
    until("it is delivered", async || !put(store).await.is_empty()).await;
    assert_eq!(put(store).await, [format!("40 {big} {}", kwh.to_bits())]);
    running.stop().await.unwrap();
    let infinite = Set { kwh: f64::INFINITY, ..set(1, 1) };
    let refused = receive(store, "n", infinite).await.unwrap_err();
    assert!(matches!(refused, ReceiveError::Unwritable { .. }), "{refused}");
}

/// A set that is written as one text.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
struct Joined(HashSet<String>);

impl From<String> for Joined {
    fn from(text: String) -> Self {
        Self(text.split(',').map(str::to_owned).collect())
    }
}

impl From<Joined> for String {
    fn from(joined: Joined) -> Self {
        joined.0.into_iter().collect::<Vec<_>>().join(",")
    }
}

macro_rules! said_as_json {
    ($($type:ty),*) => {
        $(impl Mail for $type {
            fn said(&self) -> String {
                serde_json::to_string(self).unwrap()
            }
        })*
    };
}

said_as_json!(Joined, Vec<u32>, HashSet<u32>, BTreeSet<u32>, String);

/// Readings in another order were taken for a redelivery and lost.
#[tokio::test]
async fn messages_in_another_order_are_others_unless_their_type_is_a_set() {
    async fn again<M: Mail>(one: &str, other: &str) -> bool {
        let store = Store::memory();
        let inbox = store.inbox::<Mails<M>>();
        assert_eq!(
            inbox.receive_bytes("s", "m", None, one.as_bytes()).await,
            Ok(Receipt::Accepted)
        );
        let typed = receive(&store, "m", serde_json::from_str::<M>(other).unwrap()).await;
        let received = inbox.receive_bytes("s", "m", None, other.as_bytes()).await;
        assert_eq!(typed, received);
        match received {
            Ok(receipt) => receipt == Receipt::Duplicate,
            Err(error) => !is_other(&error),
        }
    }
    assert!(again::<Vec<u32>>("[10,20]", " [10, 20 ]").await);
    assert!(!again::<Vec<u32>>("[10,20]", "[20,10]").await);
    assert!(!again::<Value>(r#"{"path":["a","b"]}"#, r#"{"path":["b","a"]}"#).await);
    assert!(again::<HashSet<u32>>("[10,20]", "[20,10]").await);
    assert!(again::<BTreeSet<u32>>("[10,20]", "[20,10]").await);
    assert!(!again::<BTreeSet<u32>>("[10,20]", "[20,11]").await);
    assert!(!again::<String>(r#""10.50""#, r#""15.00""#).await);
    assert!(again::<Joined>(r#""a,b,c""#, r#""c,a,b""#).await);
    assert!(!again::<Joined>(r#""a,b,c""#, r#""a,b,d""#).await);
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

/// One that was nested about as deep as a parser goes was delivered, and after that no runtime
/// started any more.
#[tokio::test]
async fn a_message_is_bounded_in_depth_and_size_and_what_passes_is_delivered_over_restarts() {
    let stage = Stage::new();
    let process = stage.process();
    let inbox = process.store.inbox::<Mails<Value>>();
    for depth in [MESSAGE_DEPTH_MAX + 1, 123, 127, 128, 5_000, 100_000] {
        let text = nested(depth);
        let refused = inbox.receive_bytes("s", "deep", None, text.as_bytes()).await.unwrap_err();
        assert!(matches!(refused, ReceiveError::Invalid(_)), "{refused}");
        if let Ok(value) = serde_json::from_str::<Value>(&text) {
            let refused = inbox.receive("s", "deep", None, value).await.unwrap_err();
            assert!(
                matches!(refused, ReceiveError::Invalid(_) | ReceiveError::Unwritable { .. }),
                "{refused}"
            );
        }
    }
    let refused = inbox
        .receive_bytes("s", "long", None, &vec![b' '; MESSAGE_BYTES_MAX + 1])
        .await
        .unwrap_err();
    assert!(matches!(refused, ReceiveError::Invalid(_)), "{refused}");
    for text in ["", "nothing", "{\"a\":", "[1] [2]", "\"\\ud800\""] {
        let refused = inbox.receive_bytes("s", "bad", None, text.as_bytes()).await.unwrap_err();
        assert!(matches!(refused, ReceiveError::Unreadable { .. }), "{text}: {refused}");
    }
    assert_eq!(process.store.head().position.0, 0, "nothing of it is recorded");
    let deepest = nested(MESSAGE_DEPTH_MAX);
    assert_eq!(
        inbox.receive_bytes("s", "m", None, deepest.as_bytes()).await,
        Ok(Receipt::Accepted)
    );
    for number in 0..2 {
        let process = stage.process();
        let running = process.runtime().inbox::<Mails<Value>>().start().await.unwrap();
        let expected = [deepest.clone(), "\"next\"".to_owned()];
        until("it is delivered", async || put(&process.store).await.len() > number).await;
        assert_eq!(put(&process.store).await, expected[..=number]);
        let next = process
            .store
            .inbox::<Mails<Value>>()
            .receive("s", "next", None, "next".into())
            .await
            .unwrap();
        assert_eq!(next, if number == 0 { Receipt::Accepted } else { Receipt::Duplicate });
        quiet().await;
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn bytes_are_kept_as_they_came_and_a_later_release_reads_what_an_earlier_one_did_not_know() {
    let stage = Stage::new();
    let process = stage.process();
    let inbox = process.store.inbox::<Mails<Before>>();
    assert_eq!(
        inbox.receive_bytes("s", "m", None, br#"{"b": 7, "a": 1}"#).await,
        Ok(Receipt::Accepted)
    );
    let running = process.runtime().inbox::<Mails<After>>().start().await.unwrap();
    until("it is delivered", async || !put(&process.store).await.is_empty()).await;
    assert_eq!(put(&process.store).await, ["1 Some(7)"]);
    running.stop().await.unwrap();
}

/// Up to release 0.1 a digest of the serialized message was kept with its id.
#[tokio::test]
async fn what_an_earlier_release_received_is_a_duplicate() {
    let store = Store::memory();
    let accepted = EventType::new("$inbox:mails.Accepted").unwrap();
    let event = NewEvent::new(accepted, r#"{"id":"m","sequence":null,"message":{"a":1}}"#);
    let event = event.in_stream(StreamName::new("$inbox:mails-s").unwrap());
    let mut answer = vec![0];
    answer.extend(1_u64.to_le_bytes());
    let digest = Digest::of(br#"None {"a":1}"#);
    let command = CommandRecord {
        id: command_id_of_runtime("$inbox:mails", "1 s m"),
        digest,
        answer: answer.into(),
    };
    let append = Append { command: Some(command), ..Append::of(vec![event]) };
    store.append(leftfold_testing::by_runtime(append)).await.unwrap();
    assert_eq!(receive(&store, "m", After { a: 1, b: None }).await, Ok(Receipt::Duplicate));
    assert!(is_other(&receive(&store, "m", After { a: 2, b: None }).await.unwrap_err()));
}
