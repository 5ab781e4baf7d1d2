//! What goes out of a store before its log was lost and after it was brought back.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use leftfold::fold::{Aggregate, Event, Recorded};
use leftfold::runtime::Runtime;
use leftfold::runtime::projection::{Bus, Message, Outbox, Outgoing, Projection, ProjectionError};
use leftfold::store::Store;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum LetterEvent {
    Written { to: String },
}

impl Event for LetterEvent {
    const NAMESPACE: &'static str = "letter";
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Letter;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("no")]
struct No;

impl Aggregate for Letter {
    const CATEGORY: &'static str = "letter";
    type Event = LetterEvent;
    type Command = String;
    type Refusal = No;

    fn apply(&mut self, _: &LetterEvent) {}

    fn decide(&self, to: &String) -> Result<Vec<LetterEvent>, No> {
        Ok(vec![LetterEvent::Written { to: to.clone() }])
    }
}

/// Leaves out what it knows, as receivers have to.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<HashMap<String, String>>>);

impl Bus for Receiver {
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
        for message in messages {
            let text = String::from_utf8_lossy(&message.payload).into_owned();
            self.0.lock().unwrap().entry(message.id.to_string()).or_insert(text);
        }
        Ok(())
    }
}

struct Mail;

impl Projection<Outbox<Receiver>> for Mail {
    const NAME: &'static str = "mail";
    type Event = LetterEvent;

    async fn apply(&self, outgoing: &mut Outgoing, event: &Recorded<LetterEvent>) -> Result<(), ProjectionError> {
        let LetterEvent::Written { to } = &event.event;
        outgoing.send("letters", "", to.clone());
        Ok(())
    }
}

async fn open(place: &Path) -> Store {
    leftfold::open(place.to_str().unwrap()).await.unwrap()
}

async fn write(store: &Store, receiver: &Receiver, to: &str) {
    store.aggregate::<Letter>().execute(to, to.to_owned()).await.unwrap();
    Runtime::new(store).project(Mail, Outbox::new(store, receiver.clone())).run_until_idle().await.unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Messages that were sent after a declared restore had the ids of those that were lost with the log, and receivers left
/// them out.
#[tokio::test]
async fn a_message_that_follows_a_declared_restore_is_taken_for_no_message_before_it() {
    let place = tempfile::tempdir().unwrap();
    let (live, backup) = (place.path().join("live"), place.path().join("backup"));
    let receiver = Receiver::default();
    let store = open(&live).await;
    write(&store, &receiver, "anna").await;
    store.close().await.unwrap();
    copy(&live, &backup);
    let store = open(&live).await;
    for to in ["ben", "carl"] {
        write(&store, &receiver, to).await;
    }
    store.close().await.unwrap();
    leftfold::log::restore(&backup, leftfold::log::Options::default()).unwrap();
    let store = open(&backup).await;
    for to in ["dora", "emil", "fred"] {
        write(&store, &receiver, to).await;
    }
    let mut got: Vec<String> = receiver.0.lock().unwrap().values().cloned().collect();
    got.sort_unstable();
    assert_eq!(got, ["anna", "ben", "carl", "dora", "emil", "fred"]);
}
