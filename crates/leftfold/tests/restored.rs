//! What goes out of a store before its log was lost and after it was brought back.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use leftfold::copy::{Copy, Transformed};
use leftfold::fold::{Aggregate, Event, Recorded};
use leftfold::runtime::projection::{Bus, Message, Outbox, Outgoing, Projection, ProjectionError};
use leftfold::runtime::{Attempt, Begin, Conclusion, Effect, EffectId, Performed, Policy, Runtime};
use leftfold::store::{RecordedEvent, Store};
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

    async fn apply(
        &self,
        outgoing: &mut Outgoing,
        event: &Recorded<LetterEvent>,
    ) -> Result<(), ProjectionError> {
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
    Runtime::new(store)
        .project(Mail, Outbox::new(store, receiver.clone()))
        .run_until_idle()
        .await
        .unwrap();
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

/// Messages that were sent after a declared restore had the ids of those that were lost with the
/// log, and receivers left them out.
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

/// Posts letters, and notes under which key it did, at which number.
#[derive(Clone, Default)]
struct Post(Arc<Mutex<Vec<(String, EffectId, String)>>>);

#[derive(Clone, Debug, Deserialize)]
struct Posting {
    to: String,
}

impl Effect for Post {
    const NAME: &'static str = "post";
    const INTENT: &'static str = "letter.Written";
    type Intent = Posting;
    type Outcome = String;
    type Target = Letter;

    fn policy(&self) -> Policy {
        Policy::once()
    }

    fn begins(&self) -> Begin {
        Begin::History
    }

    async fn perform(&self, attempt: &Attempt<Posting>) -> Performed<String> {
        let key = attempt.idempotency_key().to_string();
        self.0.lock().unwrap().push((attempt.intent.to.clone(), attempt.effect, key));
        Performed::Done("posted".to_owned())
    }

    fn report(&self, _: &Attempt<Posting>, _: &Conclusion<String>) -> Option<(String, String)> {
        None
    }
}

impl Post {
    /// Writes to these, and posts what is not posted.
    async fn write(&self, store: &Store, all: &[&str]) {
        for to in all {
            store.aggregate::<Letter>().execute(to, (*to).to_owned()).await.unwrap();
        }
        Runtime::new(store).effect(self.clone()).run_until_idle().await.unwrap();
    }

    /// To whom, as which effect, under which key.
    fn posted(&self, to: &str) -> (EffectId, String) {
        let posted = self.0.lock().unwrap();
        let found: Vec<_> = posted.iter().filter(|(name, ..)| name == to).collect();
        assert_eq!(found.len(), 1, "{to}");
        (found[0].1, found[0].2.clone())
    }
}

/// A payment that was asked for after a declared restore had the number of one that was lost with
/// the log: under a key made of the number, the payment service took it for that one, and left it
/// out.
#[tokio::test]
async fn an_effect_that_follows_a_declared_restore_has_a_key_that_none_had_before_it() {
    let place = tempfile::tempdir().unwrap();
    let (live, backup) = (place.path().join("live"), place.path().join("backup"));
    let post = Post::default();
    let store = open(&live).await;
    post.write(&store, &["anna"]).await;
    store.close().await.unwrap();
    copy(&live, &backup);
    let store = open(&live).await;
    post.write(&store, &["ben"]).await;
    store.close().await.unwrap();
    leftfold::log::restore(&backup, leftfold::log::Options::default()).unwrap();
    let store = open(&backup).await;
    post.write(&store, &["carl"]).await;
    let (lost, again) = (post.posted("ben"), post.posted("carl"));
    assert_eq!(lost.0, again.0, "the number comes again");
    assert_ne!(lost.1, again.1);
    assert_ne!(post.posted("anna").1, again.1);
}

#[tokio::test]
async fn an_effect_has_the_same_key_in_a_copy_in_which_its_number_is_another_one() {
    let place = tempfile::tempdir().unwrap();
    let (old, new) = (open(&place.path().join("old")).await, open(&place.path().join("new")).await);
    for to in ["draft", "draft", "draft", "anna"] {
        old.aggregate::<Letter>().execute(to, to.to_owned()).await.unwrap();
    }
    let without_drafts = |event: &RecordedEvent| match event.stream.as_ref().unwrap().name.id() {
        "draft" => Transformed::Drop,
        _ => event.to_new().into(),
    };
    Copy::from(&old).into(&new).through(without_drafts).run_until_caught_up().await.unwrap();
    let posts = [Post::default(), Post::default()];
    posts[0].write(&old, &[]).await;
    posts[1].write(&new, &[]).await;
    let [before, after] = posts.map(|post| post.posted("anna"));
    assert_ne!(before.0, after.0, "its number is another one");
    assert_eq!(before.1, after.1);
}
