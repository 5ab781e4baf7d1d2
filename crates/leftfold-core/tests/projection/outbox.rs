//! The outbox: messages go out in order, at least once, and never again for a new version.

use std::sync::{Arc, Mutex};

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::projection::{
    Bus, Message, NotReached, Outbox, Outgoing, Projection, ProjectionError, verify,
};
use leftfold_core::runtime::{RunningRuntime, Runtime, StartError};
use leftfold_core::store::{
    Append, EventType, NewEvent, Outcome, Position, Query, Read, StreamName,
};
use leftfold_testing::by_runtime;

use crate::projection_stage::{Note, add, add_many, time_goes_by};
use crate::runtime_stage::{Fault, Process, SECOND, Stage, until};

/// A broker that may refuse, and may be told and not answer.
#[derive(Clone, Default)]
struct Broker(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    got: Vec<Message>,
    batches: usize,
    refuses: u32,
    forgets_to_answer: u32,
}

impl Bus for Broker {
    async fn publish(&mut self, messages: Vec<Message>) -> Result<(), ProjectionError> {
        let mut queue = self.0.lock().unwrap();
        queue.batches += 1;
        if queue.refuses > 0 {
            queue.refuses -= 1;
            return Err(ProjectionError::message("no route"));
        }
        queue.got.extend(messages);
        if queue.forgets_to_answer > 0 {
            queue.forgets_to_answer -= 1;
            return Err(ProjectionError::message("no answer"));
        }
        Ok(())
    }

    fn is_away(error: &ProjectionError) -> bool {
        error.to_string() != "a message that is too large"
    }
}

impl Broker {
    fn sequences(&self) -> Vec<u64> {
        self.0.lock().unwrap().got.iter().map(|message| message.sequence.0).collect()
    }

    /// Returns what is left after a receiver has left out what it knows.
    fn without_repetitions(&self) -> Vec<(u64, String)> {
        let mut known = std::collections::HashSet::new();
        let got = &self.0.lock().unwrap().got;
        let new = got.iter().filter(|message| known.insert(message.id));
        new.map(|message| (message.sequence.0, message.key.clone())).collect()
    }
}

struct Mail<const VERSION: u32>;

impl<const VERSION: u32> Projection<Outbox<Broker>> for Mail<VERSION> {
    const NAME: &'static str = "mail";
    const VERSION: u32 = VERSION;
    type Event = Note;

    async fn apply(
        &self,
        outgoing: &mut Outgoing,
        event: &Recorded<Note>,
    ) -> Result<(), ProjectionError> {
        let Note::Added { key, what } = &event.event;
        if what == "poison" {
            return Err(ProjectionError::message("no words for it"));
        }
        outgoing.send("letters", key.clone(), what.clone());
        outgoing.send("copies", key.clone(), what.clone());
        Ok(())
    }
}

fn runtime<const V: u32>(process: &Process, broker: &Broker) -> Runtime {
    process.runtime().project(Mail::<V>, Outbox::new(&process.store, broker.clone()))
}

async fn settle<const V: u32>(process: &Process, broker: &Broker) {
    tokio::select! {
        idle = runtime::<V>(process, broker).run_until_idle() => assert!(idle.is_ok()),
        () = time_goes_by(&process.clock) => {}
    }
}

async fn reached(process: &Process, running: &RunningRuntime, position: Position) {
    let projections = running.projections();
    tokio::select! {
        reached = projections.wait_until("mail", position, 10 * SECOND) => assert!(matches!(
            reached,
            Ok(_) | Err(NotReached::Parked { .. })
        )),
        () = time_goes_by(&process.clock) => {}
    }
}

#[tokio::test]
async fn messages_go_out_once_in_order_over_restarts_and_versions() {
    let stage = Stage::new();
    let process = stage.process();
    let broker = Broker::default();
    add_many(&process.store, 1_200).await;
    settle::<1>(&process, &broker).await;
    let twice =
        |through: u64| (1..=through).flat_map(|position| [position, position]).collect::<Vec<_>>();
    assert_eq!(broker.sequences(), twice(1_200));
    settle::<1>(&process, &broker).await;
    // What the outbox notes in the log is no message, and no news to itself.
    let last = add(&process.store, "a", "x", "fine").await;
    let sent = 1_200 + 1;
    settle::<2>(&stage.process(), &broker).await;
    let sequences = broker.sequences();
    assert_eq!((sequences.len(), sequences.last()), (2 * sent, Some(&last.0)));
    let mut ids: Vec<_> = broker.0.lock().unwrap().got.iter().map(|message| message.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 2 * sent);
    let store = &process.store;
    let all = verify(store, &Outbox::new(store, broker.clone()), &Mail::<2>).await;
    assert!(all.is_err(), "a version is listed while it runs");
}

#[tokio::test]
async fn a_bus_that_is_away_is_waited_for_and_its_messages_come_again_under_their_ids() {
    let process = Stage::new().process();
    let broker = Broker::default();
    broker.0.lock().unwrap().refuses = 3;
    broker.0.lock().unwrap().forgets_to_answer = 2;
    for key in ["x", "y", "x"] {
        add(&process.store, "a", key, "fine").await;
    }
    settle::<1>(&process, &broker).await;
    assert_eq!(broker.0.lock().unwrap().batches, 6);
    assert_eq!(broker.sequences(), [1, 1, 2, 2, 3, 3].repeat(3));
    let once = [(1, "x"), (1, "x"), (2, "y"), (2, "y"), (3, "x"), (3, "x")]
        .map(|(at, key)| (at, key.to_owned()));
    assert_eq!(broker.without_repetitions(), once);
}

#[tokio::test]
async fn a_process_that_dies_after_sending_sends_again_and_loses_nothing() {
    let stage = Stage::new();
    let process = stage.process();
    let broker = Broker::default();
    let last = add(&process.store, "a", "x", "fine").await;
    let faults = process.faults.clone();
    let running = runtime::<1>(&process, &broker).start().await.unwrap();
    // What it keeps after sending is made, and never answered.
    process.faults.before_append(move || faults.set(Fault::Unknown));
    until("it was sent", async || broker.sequences().len() >= 2).await;
    process.kill();
    drop(running);
    settle::<1>(&stage.process(), &broker).await;
    assert_eq!(broker.without_repetitions().len(), 2);
    assert!(broker.sequences().iter().all(|sequence| *sequence == last.0));
}

#[tokio::test]
async fn of_two_processes_that_send_one_finds_that_the_other_was_faster() {
    let stage = Stage::new();
    let (one, two) = (stage.process(), stage.process());
    let broker = Broker::default();
    let first = runtime::<1>(&one, &broker).start().await.unwrap();
    let second = runtime::<1>(&two, &broker).start().await.unwrap();
    for _ in 0..20 {
        let last = add(&one.store, "a", "x", "fine").await;
        reached(&one, &first, last).await;
        reached(&two, &second, last).await;
    }
    let sent = broker.without_repetitions();
    assert_eq!(sent.iter().map(|(at, _)| *at).collect::<std::collections::BTreeSet<_>>().len(), 20);
    assert!(sent.is_sorted_by_key(|(at, _)| *at));
}

#[tokio::test]
async fn an_event_without_words_is_parked_and_told_of_after_a_restart() {
    let stage = Stage::new();
    let process = stage.process();
    let broker = Broker::default();
    for (key, what) in [("x", "poison"), ("y", "fine"), ("x", "fine")] {
        add(&process.store, key, key, what).await;
    }
    let running = runtime::<1>(&process, &broker).start().await.unwrap();
    reached(&process, &running, Position(3)).await;
    assert_eq!(broker.sequences(), [2, 2]);
    running.stop().await.unwrap();
    let running = runtime::<1>(&stage.process(), &broker).start().await.unwrap();
    let projections = running.projections();
    let parked = projections.parked("mail").unwrap();
    assert_eq!(parked.iter().map(|item| item.position.0).collect::<Vec<_>>(), [1, 3]);
    projections.skip("mail", Position(1), "ann").await.unwrap();
    assert_eq!(broker.sequences(), [2, 2, 3, 3]);
    assert_eq!(projections.verify("mail").await.unwrap().events, 3);
}

#[tokio::test]
async fn an_outbox_cannot_be_rebuilt() {
    let process = Stage::new().process();
    let refused = runtime::<1>(&process, &Broker::default()).rebuild("mail").start().await;
    let refused = refused.err();
    assert!(
        matches!(
            &refused,
            Some(StartError::CannotRebuild { projection, name: "mail" })
                if projection.contains("Mail")
        ),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_it_notes_stays_few_events_to_read() {
    let stage = Stage::new();
    let broker = Broker::default();
    let process = stage.process();
    let running = runtime::<1>(&process, &broker).start().await.unwrap();
    for _ in 0..1_100 {
        let last = add(&process.store, "a", "x", "fine").await;
        running.projections().wait_until("mail", last, 10 * SECOND).await.unwrap();
    }
    running.stop().await.unwrap();
    let noted = process
        .store
        .read(Read::matching(Query::category("$outbox"), Position(1)))
        .all()
        .await
        .unwrap();
    let gathered =
        noted.iter().rposition(|event| &*event.event_type == "$outbox.Gathered").unwrap();
    assert!(noted.len() >= 1_100 && noted.len() - gathered <= 600, "{} {gathered}", noted.len());
    let running = runtime::<1>(&stage.process(), &broker).start().await.unwrap();
    assert_eq!(running.projections().verify("mail").await.unwrap().events, 1_100);
    assert_eq!(broker.sequences().len(), 2_200);
}

/// Two runtimes on one store sent every message twice.
#[tokio::test]
async fn of_two_runtimes_on_one_store_one_sends() {
    let stage = Stage::new();
    let (one, two) = (stage.process(), stage.process());
    let broker = Broker::default();
    let first = runtime::<1>(&one, &broker).start().await.unwrap();
    let second = runtime::<1>(&two, &broker).start().await.unwrap();
    for _ in 0..20 {
        add(&one.store, "a", "x", "fine").await;
        one.clock.advance(SECOND / 2);
        crate::runtime_stage::quiet().await;
    }
    let last = add(&one.store, "a", "x", "fine").await;
    reached(&one, &first, last).await;
    reached(&two, &second, last).await;
    assert_eq!(broker.sequences().len(), 2 * 21);
    // A person asks the one that has the work.
    let stands_by = if first.status()[0].standby { &first } else { &second };
    assert!(stands_by.projections().retry("mail", "x").await.is_err());
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

/// The ids of messages were made of positions, which come again after a declared restore: who got
/// the messages took new ones for those that he knew.
#[tokio::test]
async fn ids_of_messages_are_made_of_their_event() {
    let process = Stage::new().process();
    let broker = Broker::default();
    let position = add(&process.store, "a", "x", "fine").await;
    settle::<1>(&process, &broker).await;
    let events = process.store.read(Read::matching(Query::all(), position)).all().await.unwrap();
    let ids: Vec<_> = broker.0.lock().unwrap().got.iter().map(|message| message.id).collect();
    assert_eq!(ids, [events[0].id.derived("mail/0"), events[0].id.derived("mail/1")]);
}

/// As often as the outbox tried to note what its store would never take, it sent the same messages
/// again.
#[tokio::test]
async fn notes_of_any_size_are_kept_and_nothing_is_sent_again_for_them() {
    let process = Stage::new().process();
    let broker = Broker::default();
    add(&process.store, "a", "sent", "fine").await;
    // Control characters take six bytes each in JSON, and then four in that of the note.
    let key = "\u{1}".repeat(1_000);
    for _ in 0..1_500 {
        add(&process.store, "b", &key, "poison").await;
    }
    let last = add(&process.store, "a", "sent", "fine").await;
    let running = process
        .runtime()
        .project(LongKeys, Outbox::new(&process.store, broker.clone()))
        .start()
        .await
        .unwrap();
    let projections = running.projections();
    tokio::select! {
        reached = projections.wait_until("mail", last, 30 * SECOND) => assert!(reached.is_ok(), "{reached:?}"),
        () = time_goes_by(&process.clock) => {}
    }
    assert_eq!(broker.sequences(), [1, last.0]);
    assert_eq!(projections.parked("mail").unwrap().len(), 1_500);
    running.stop().await.unwrap();
    let running = process
        .runtime()
        .project(LongKeys, Outbox::new(&process.store, broker.clone()))
        .start()
        .await
        .unwrap();
    assert_eq!(running.projections().parked("mail").unwrap().len(), 1_500);
}

/// Its keys are what the events say.
struct LongKeys;

impl Projection<Outbox<Broker>> for LongKeys {
    const NAME: &'static str = "mail";
    type Event = Note;

    fn key(&self, event: &Recorded<Note>) -> String {
        let Note::Added { key, .. } = &event.event;
        key.clone()
    }

    async fn apply(
        &self,
        outgoing: &mut Outgoing,
        event: &Recorded<Note>,
    ) -> Result<(), ProjectionError> {
        let Note::Added { key, what } = &event.event;
        if what == "poison" {
            return Err(ProjectionError::message(key.clone()));
        }
        outgoing.send("letters", key.clone(), what.clone());
        Ok(())
    }
}

/// One record of the outbox that nobody could read kept it from sending anything at all.
#[tokio::test]
async fn a_record_of_the_outbox_that_cannot_be_read_is_parked_and_the_rest_goes_on() {
    let stage = Stage::new();
    let process = stage.process();
    let broker = Broker::default();
    add(&process.store, "a", "x", "fine").await;
    settle::<1>(&process, &broker).await;
    let record =
        NewEvent::new(EventType::new("$outbox.Sealed").unwrap(), r#"{"by":"a later release"}"#);
    let record = record.in_stream(StreamName::of("$outbox", "mail").unwrap());
    let Ok(Outcome::Appended(appended)) =
        process.store.append(by_runtime(Append::of(vec![record]))).await
    else {
        panic!()
    };
    let last = add(&process.store, "a", "x", "fine").await;
    let running = runtime::<1>(&stage.process(), &broker).start().await.unwrap();
    reached(&process, &running, last).await;
    assert_eq!(broker.sequences(), [1, 1, last.0, last.0]);
    let projections = running.projections();
    let parked = projections.parked("mail").unwrap();
    let [item] = &parked[..] else { panic!("{parked:?}") };
    assert_eq!((item.position, item.stream.as_str()), (appended.last(), "$outbox-mail"));
    assert!(item.state.error().unwrap().contains("upgrade, or skip it"), "{item:?}");
    assert!(running.status()[0].needs_person);
    // Trying again does not lose it, and a person may let it go for good.
    assert!(projections.retry("mail", "$outbox-mail").await.unwrap().stopped_by.is_some());
    assert_eq!(projections.parked("mail").unwrap(), parked);
    projections.skip("mail", appended.last(), "ann").await.unwrap();
    running.stop().await.unwrap();
    let running = runtime::<1>(&stage.process(), &broker).start().await.unwrap();
    assert_eq!(running.projections().parked("mail").unwrap(), []);
    assert_eq!(running.projections().verify("mail").await.unwrap().events, 2);
}
