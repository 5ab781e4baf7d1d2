//! A process whose events get their owner while it runs: what it passed over until then is not
//! missed.

use leftfold_core::fold::{Aggregate, Event, Recorded, Upcasters};
use leftfold_core::runtime::process::{
    Context, Correlation, Process, Reaction, Targets, Trigger, Whose,
};
use leftfold_core::store::{Append, EventType, NewEvent, Position, Store, StreamName};
use serde::{Deserialize, Serialize};

use crate::clerk::{Desk, Do, Illegible, texts, until_written};
use crate::runtime_stage::{self, Stage, until};

/// A lamp was once kindled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum LampEvent {
    Lit {},
}

impl Event for LampEvent {
    const NAMESPACE: &'static str = "lamp";

    fn upcasters() -> Upcasters {
        Upcasters::none().rename(("lamp.Kindled", 1), ("lamp.Lit", 1))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Lamp;

impl Aggregate for Lamp {
    const CATEGORY: &'static str = "lamp";
    type Event = LampEvent;
    type Command = ();
    type Refusal = Illegible;

    fn apply(&mut self, _: &LampEvent) {}

    fn decide(&self, (): &()) -> Result<Vec<LampEvent>, Illegible> {
        Ok(vec![LampEvent::Lit {}])
    }
}

/// Writes down which lamps are lit. Its view names no owner.
#[derive(Debug, Default)]
struct Lighter;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Seen {
    #[serde(rename = "lamp.Lit")]
    Lit {},
}

impl Event for Seen {
    const NAMESPACE: &'static str = "lighter";
}

impl Process for Lighter {
    const NAME: &'static str = "lighter";
    type Event = Seen;

    fn targets() -> Targets {
        Targets::of::<Desk>()
    }

    fn correlate(event: &Recorded<Seen>) -> Correlation {
        Correlation::starts(event.stream_id())
    }

    fn apply(&mut self, _: &Trigger<Seen>, _: &Context) {}

    fn react(&self, _: &Trigger<Seen>, context: &Context) -> Reaction {
        Reaction::none().command::<Desk>("lamps", Do::Write(context.stream_id.clone())).end()
    }
}

async fn record(store: &Store, lamp: &str, event_type: &'static str) {
    let event = NewEvent::new(EventType::new(event_type).unwrap(), "{}");
    store
        .append(Append::of(vec![event.in_stream(StreamName::of("lamp", lamp).unwrap())]))
        .await
        .unwrap();
}

fn works(process: &runtime_stage::Process) -> leftfold_core::runtime::Runtime {
    process.runtime().process::<Lighter>()
}

#[tokio::test]
async fn what_was_passed_over_and_nothing_reacted_to_after_it_is_reacted_to_when_the_owner_comes() {
    let process = Stage::new().process();
    record(&process.store, "a", "lamp.Kindled").await;
    record(&process.store, "b", "lamp.Kindled").await;
    let running = works(&process).start().await.unwrap();
    until("it has passed over them", async || running.status()[0].through == Position(2)).await;
    // Nothing is recorded: it is the owner that wakes it.
    let _lamps = process.store.aggregate::<Lamp>();
    until_written(&process.store, "lamps", &["a", "b"]).await;
    running.stop().await.unwrap();
}

/// It went on as if there had been nothing.
#[tokio::test]
async fn what_was_passed_over_before_something_else_was_reacted_to_is_parked_when_the_owner_comes()
{
    let process = Stage::new().process();
    let store = &process.store;
    record(store, "a", "lamp.Kindled").await;
    record(store, "b", "lamp.Lit").await;
    let running = works(&process).start().await.unwrap();
    until_written(store, "lamps", &["b"]).await;
    record(store, "c", "lamp.Kindled").await;
    store.aggregate::<Lamp>().execute("d", ()).await.unwrap();
    until("it is said", async || running.status()[0].needs_person).await;
    let parked = running.processes().parked("lighter").await.unwrap();
    let said: Vec<_> = parked
        .iter()
        .map(|one| (one.whose.clone(), one.position, one.error.clone().unwrap()))
        .collect();
    let [(whose, Position(1), why)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(*whose, Whose::Stream("lamp-a".to_owned()));
    assert!(why.contains("lamp.Kindled was passed over") && why.contains("retry or skip"), "{why}");
    until_written(store, "lamps", &["b", "c", "d"]).await;
    running.processes().retry("lighter", whose).await.unwrap();
    until_written(store, "lamps", &["b", "c", "d", "a"]).await;
    until("nothing is parked", async || !running.status()[0].needs_person).await;
    running.stop().await.unwrap();
    // What is recorded as read is not read again.
    let running = works(&process).start().await.unwrap();
    record(store, "e", "lamp.Kindled").await;
    until_written(store, "lamps", &["b", "c", "d", "a", "e"]).await;
    assert_eq!(texts(store, "lamps").await.len(), 5);
    running.stop().await.unwrap();
}
