//! What waits in a process waits in the copy, and is found there.

use std::sync::atomic::{AtomicBool, Ordering};

use leftfold_core::copy::{Copy, CopyError, Transformed};
use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::process::{
    Context, Correlation, Process, Reaction, Targets, Trigger, Whose,
};
use leftfold_core::store::{Append, EventType, NewEvent, RecordedEvent, Store, StreamName};
use serde::{Deserialize, Serialize};

use crate::runtime_stage::{Stage, until};
use crate::stage::{append, event};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum BellEvent {
    Pressed { wei: u128, kwh: f64 },
    Rung { wei: u128, kwh: f64 },
}

impl Event for BellEvent {
    const NAMESPACE: &'static str = "bell";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("never")]
struct Never;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Bell {
    rung: Vec<(u128, u64)>,
}

static BROKEN: AtomicBool = AtomicBool::new(true);

impl Aggregate for Bell {
    const CATEGORY: &'static str = "bell";
    type Event = BellEvent;
    type Command = BellEvent;
    type Refusal = Never;

    fn apply(&mut self, event: &BellEvent) {
        if let BellEvent::Rung { wei, kwh } = event {
            self.rung.push((*wei, kwh.to_bits()));
        }
    }

    fn decide(&self, event: &BellEvent) -> Result<Vec<BellEvent>, Never> {
        let breaks = matches!(event, BellEvent::Rung { .. }) && BROKEN.load(Ordering::SeqCst);
        assert!(!breaks, "the bell is broken");
        Ok(vec![event.clone()])
    }
}

/// Rings in the house when it is pressed at the door.
#[derive(Debug, Default)]
struct Wire;

impl Process for Wire {
    const NAME: &'static str = "wire";
    type Event = BellEvent;

    fn targets() -> Targets {
        Targets::of::<Bell>()
    }

    fn correlate(event: &Recorded<BellEvent>) -> Correlation {
        match event.event {
            BellEvent::Pressed { .. } => Correlation::starts(event.stream_id()),
            BellEvent::Rung { .. } => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<BellEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<BellEvent>, _: &Context) -> Reaction {
        let Trigger::Event(BellEvent::Pressed { wei, kwh }) = trigger else {
            return Reaction::none();
        };
        Reaction::none().command::<Bell>("house", BellEvent::Rung { wei: *wei, kwh: *kwh })
    }
}

fn without_trials(event: &RecordedEvent) -> Transformed {
    match event.stream.as_ref().unwrap().name.category() {
        "trial" => Transformed::Drop,
        _ => Transformed::Keep,
    }
}

#[tokio::test]
async fn commands_and_triggers_that_wait_for_a_person_are_carried_out_from_the_copy() {
    let (before, after) = (Stage::new(), Stage::new());
    let old = before.process();
    let (wei, kwh) = (20_000_000_000_000_000_000_u128, 117.633_313_911_400_17);
    let press = async |store: &Store| {
        append(store, Append::of(vec![event("trial-1", "trial.Made", "{}")])).await;
        store.aggregate::<Bell>().execute("door", BellEvent::Pressed { wei, kwh }).await.unwrap();
    };
    press(&old.store).await;
    let running = old.runtime().process::<Wire>().start().await.unwrap();
    let waits = async |running: &leftfold_core::runtime::RunningRuntime, count: usize| {
        until("they wait", async || {
            running.processes().parked("wire").await.unwrap().len() == count
        })
        .await;
    };
    waits(&running, 1).await;
    press(&old.store).await;
    waits(&running, 2).await;
    running.stop().await.unwrap();

    let new = after.process();
    let copy = Copy::from(&old.store).into(&new.store).through(without_trials);
    copy.switch().await.unwrap();
    assert_eq!(copy.verify().await.unwrap().difference, None);
    let running = new.runtime().process::<Wire>().start().await.unwrap();
    waits(&running, 2).await;
    BROKEN.store(false, Ordering::SeqCst);
    assert_eq!(running.processes().retry("wire", &Whose::Instance("door".into())).await, Ok(2));
    let rung = async || new.store.aggregate::<Bell>().load("house").await.unwrap().state.rung;
    until("both rang", async || rung().await.len() == 2).await;
    assert_eq!(rung().await, [(wei, kwh.to_bits()); 2]);
    running.stop().await.unwrap();
}

/// It might speak of positions that are others in the copy.
#[tokio::test]
async fn a_record_of_a_process_that_cannot_be_read_stops_a_copy_and_can_be_left_behind() {
    for (event_type, version, data) in [
        ("$process.Reacted", 2, "{}"),
        ("$process.Parked", 1, r#"{"process":"p"}"#),
        ("$process.Reacted", 1, "no JSON"),
    ] {
        let (old, new) = (Store::memory(), Store::memory());
        append(&old, Append::of(vec![event("a-1", "a.Done", "{}")])).await;
        let mut record = NewEvent::new(EventType::new(event_type).unwrap(), data);
        record.schema_version = version;
        let record = record.in_stream(StreamName::new("$process:p-1").unwrap());
        let at = append(&old, leftfold_testing::by_runtime(Append::of(vec![record]))).await;
        let copy = Copy::from(&old).into(&new).through(|_| Transformed::Keep);
        match copy.run_until_caught_up().await {
            Err(CopyError::Unreadable { position, stream, .. }) => {
                assert_eq!((position, &*stream), (at, "$process:p-1"))
            }
            other => panic!("{other:?}"),
        }
        Copy::from(&old)
            .into(&new)
            .through(|_| Transformed::Keep)
            .without("$process:p")
            .switch()
            .await
            .unwrap();
        // What is none of ours there speaks of nothing.
        let (old, new) = (Store::memory(), Store::memory());
        let foreign = event("$process:p-1", "foo.Bar", "no JSON");
        append(&old, leftfold_testing::by_runtime(Append::of(vec![foreign]))).await;
        Copy::from(&old).into(&new).through(|_| Transformed::Keep).switch().await.unwrap();
    }
}
