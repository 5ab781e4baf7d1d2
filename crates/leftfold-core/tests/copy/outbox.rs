//! What an outbox has sent stays sent, and what is parked in it is found.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use leftfold_core::copy::{Copy, Transformed};
use leftfold_core::fold::Recorded;
use leftfold_core::runtime::projection::{
    Bus, Message, Outbox, Outgoing, Projection, ProjectionError,
};
use leftfold_core::runtime::{RunningRuntime, Runtime};
use leftfold_core::store::{Query, Read, RecordedEvent, Store};

use crate::projection_stage::{Note, add, time_goes_by};
use crate::runtime_stage::{HandClock, SECOND, Stage};

#[derive(Clone, Default)]
struct Broker(Arc<Mutex<Vec<String>>>);

impl Bus for Broker {
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
        let texts =
            messages.iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned());
        self.0.lock().unwrap().extend(texts);
        Ok(())
    }
}

/// Sends what is noted; invoices only while there are words for them.
#[derive(Clone, Default)]
struct Mail {
    fixed: Arc<AtomicBool>,
}

impl Projection<Outbox<Broker>> for Mail {
    const NAME: &'static str = "mail";
    type Event = Note;

    async fn apply(
        &self,
        out: &mut Outgoing,
        event: &Recorded<Note>,
    ) -> Result<(), ProjectionError> {
        let Note::Added { key, what } = &event.event;
        if what.starts_with("invoice") && !self.fixed.load(Ordering::SeqCst) {
            return Err(ProjectionError::message("no words for it"));
        }
        out.send("letters", key.clone(), what.clone());
        Ok(())
    }
}

async fn sends(
    store: &Store,
    clock: &Arc<HandClock>,
    mail: &Mail,
    broker: &Broker,
) -> RunningRuntime {
    let outbox = Outbox::new(store, broker.clone());
    let running =
        Runtime::new(store).clock(clock.clone()).project(mail.clone(), outbox).start().await;
    let running = running.unwrap();
    let (projections, head) = (running.projections(), store.head().position);
    tokio::select! {
        _ = projections.wait_until("mail", head, 10 * SECOND) => {}
        () = time_goes_by(clock) => {}
    }
    running
}

fn without_trials(event: &RecordedEvent) -> Transformed {
    match event.stream.as_ref().unwrap().name.id() {
        "trial-1" => Transformed::Drop,
        _ => Transformed::Keep,
    }
}

/// The parked invoice was looked for at its old position: a letter that had been sent was sent
/// again in its place, and the invoice never was.
#[tokio::test]
async fn a_parked_message_is_sent_from_the_copy_and_no_other_in_its_place() {
    for through in [without_trials as fn(&RecordedEvent) -> Transformed, |_| Transformed::Keep] {
        let stage = Stage::new();
        let process = stage.process();
        let (old, new) = (process.store.clone(), Store::memory());
        let (broker, mail) = (Broker::default(), Mail::default());
        for (stream, key, what) in [
            ("trial-1", "t", "trial"),
            ("trial-1", "t", "invoice that goes"),
            ("n-1", "a", "invoice"),
            ("n-2", "b", "hello"),
            ("n-1", "a", "invoice 2"),
            ("n-3", "c", "welcome"),
        ] {
            add(&old, stream, key, what).await;
        }
        let running = sends(&old, &stage.clock, &mail, &broker).await;
        running.stop().await.unwrap();
        assert_eq!(*broker.0.lock().unwrap(), ["trial", "hello", "welcome"]);

        let copy = Copy::from(&old).into(&new).through(through);
        copy.switch().await.unwrap();
        assert_eq!(copy.verify().await.unwrap().difference, None);
        broker.0.lock().unwrap().clear();
        mail.fixed.store(true, Ordering::SeqCst);
        let running = sends(&new, &stage.clock, &mail, &broker).await;
        let projections = running.projections();
        let parked = projections.parked("mail").unwrap();
        for item in &parked {
            let event = new
                .read(Read::matching(Query::all(), item.position))
                .next()
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                event.stream.as_ref().unwrap().name.as_str(),
                item.stream,
                "it is where its note says"
            );
        }
        for key in ["note-n-1", "note-trial-1"] {
            let _ = projections.retry("mail", key).await;
        }
        let mut sent = broker.0.lock().unwrap().clone();
        sent.retain(|text| text != "invoice that goes");
        assert_eq!(sent, ["invoice", "invoice 2"]);
        assert_eq!(projections.parked("mail").unwrap(), []);
        running.stop().await.unwrap();
    }
}
