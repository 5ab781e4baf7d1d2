//! Records of the runtime that cannot be read park what they concern, and nothing else.

use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::process::{
    Context, Correlation, Process, Reaction, Targets, Trigger, Whose,
};
use leftfold_core::runtime::{Attempt, Conclusion, Effect, Performed, Policy, Runtime};
use leftfold_core::store::{Position, Query, Read, Store, Tags};
use serde::{Deserialize, Serialize};

use crate::clerk::{ask, parked, starts, timer, until_written, works, write};
use crate::runtime_stage::{SECOND, Stage, record, until};

/// A runtime did not start any more because of one record in the stream of one instance.
#[tokio::test]
async fn a_record_that_cannot_be_read_parks_its_instance_until_a_person_lets_it_go() {
    let later = r#"{"process":"clerk","cause":{"Later":{}}}"#;
    for (place, event_type, version, data) in [
        ("$process:clerk-bad", "foo.Bar", 1, "{}"),
        ("$process:clerk-bad", "$process.Reacted", 1, "no JSON"),
        ("$process:clerk-bad", "$process.Reacted", 2, later),
        ("$process:clerk-bad", "$process.Parked", 1, later),
        ("$process:clerk-bad", "$process.Skipped", 1, "{}"),
    ] {
        let stage = Stage::new();
        let process = stage.process();
        let store = &process.store;
        for key in ["bad", "good"] {
            ask(
                store,
                starts(key, [write(key, "1"), timer("t", 10)]).later("t", [write(key, "timer")]),
            )
            .await;
        }
        let running = works(&process).await;
        until_written(store, "good", &["1"]).await;
        running.stop().await.unwrap();
        let at = record(store, place, event_type, version, data).await;

        let process = stage.process();
        let running = works(&process).await;
        let (store, processes) = (&process.store, running.processes());
        for key in ["bad", "good"] {
            ask(store, starts(key, [write(key, "2")])).await;
        }
        until_written(store, "good", &["1", "2"]).await;
        stage.clock.advance(60 * SECOND);
        until_written(store, "good", &["1", "2", "timer"]).await;
        until("it waits", async || parked(&processes).await == 3).await;
        let all = processes.parked("clerk").await.unwrap();
        let first = &all[0];
        assert_eq!((&first.whose, first.position), (&Whose::Instance("bad".into()), at));
        let error = first.error.as_ref().unwrap();
        assert!(error.contains(&format!("position {at}")) && error.contains("skip it"), "{error}");
        assert!(processes.retry("clerk", &first.whose).await.is_err());
        until_written(store, "bad", &["1"]).await;

        assert_eq!(processes.skip("clerk", &first.whose, at, "ann").await, Ok(1));
        assert_eq!(processes.retry("clerk", &first.whose).await, Ok(2));
        until_written(store, "bad", &["1", "2", "timer"]).await;
        running.stop().await.unwrap();
        // It stays let go.
        let process = stage.process();
        let running = works(&process).await;
        ask(&process.store, starts("bad", [write("bad", "3")])).await;
        until_written(&process.store, "bad", &["1", "2", "timer", "3"]).await;
        assert_eq!(parked(&running.processes()).await, 0);
        running.stop().await.unwrap();
    }
}

/// A reaction that is nested deeper than a parser goes was recorded, and every start failed at it.
#[tokio::test]
async fn a_reaction_whose_command_is_nested_too_deeply_is_read_and_its_command_waits() {
    let stage = Stage::new();
    let process = stage.process();
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    let cause = r#"{"Event":{"position":1}}"#;
    let data = format!(
        r#"{{"process":"clerk","cause":{cause},"starts":true,"commands":[{{"to":"desk","id":"d","command":{{"Deep":{deep}}}}}]}}"#
    );
    ask(&process.store, starts("other", [])).await;
    record(&process.store, "$process:clerk-deep", "$process.Reacted", 1, &data).await;
    let running = works(&process).await;
    until("its command waits", async || parked(&running.processes()).await == 1).await;
    let waiting = running.processes().parked("clerk").await.unwrap();
    assert_eq!(waiting[0].command_for.as_deref(), Some("desk-d"));
    ask(&process.store, starts("fine", [write("fine", "1")])).await;
    until_written(&process.store, "fine", &["1"]).await;
    running.stop().await.unwrap();
}

static DEFAULT_BROKEN: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);

/// A process whose state cannot be made for a while.
#[derive(Debug)]
struct Explodes;

impl Default for Explodes {
    fn default() -> Self {
        assert!(!DEFAULT_BROKEN.load(std::sync::atomic::Ordering::SeqCst), "default exploded");
        Self
    }
}

impl Process for Explodes {
    const NAME: &'static str = "explodes";
    type Event = crate::clerk::DeskEvent;

    fn targets() -> Targets {
        Targets::none()
    }

    fn correlate(event: &Recorded<Self::Event>) -> Correlation {
        Correlation::starts(event.stream_id())
    }

    fn apply(&mut self, _: &Trigger<Self::Event>, _: &Context) {}

    fn react(&self, _: &Trigger<Self::Event>, _: &Context) -> Reaction {
        Reaction::none()
    }
}

/// It ended the task of the process, and with it the process.
#[tokio::test]
async fn a_state_that_cannot_be_made_parks_the_trigger_and_is_named() {
    let stage = Stage::new();
    let process = stage.process();
    let running = process.runtime().process::<Explodes>().start().await.unwrap();
    DEFAULT_BROKEN.store(true, std::sync::atomic::Ordering::SeqCst);
    ask(&process.store, starts("1", [])).await;
    let waiting = async || running.processes().parked("explodes").await.unwrap();
    until("it waits", async || waiting().await.len() == 1).await;
    assert!(waiting().await[0].error.as_ref().unwrap().contains("default exploded"));
    DEFAULT_BROKEN.store(false, std::sync::atomic::Ordering::SeqCst);
    assert_eq!(
        running.processes().retry("explodes", &Whose::Instance("asked".into())).await,
        Ok(1)
    );
    running.stop().await.unwrap();
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PayEvent {
    Asked(Pay),
    Told,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pay {
    account: u32,
    amount: u128,
}

impl Event for PayEvent {
    const NAMESPACE: &'static str = "pay";

    fn tags(&self) -> Tags {
        match self {
            Self::Asked(pay) => Tags::none().with(format!("account:{}", pay.account)),
            Self::Told => Tags::none(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("never")]
struct Never;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Payment;

impl Aggregate for Payment {
    const CATEGORY: &'static str = "pay";
    type Event = PayEvent;
    type Command = PayEvent;
    type Refusal = Never;
    fn apply(&mut self, _: &PayEvent) {}
    fn decide(&self, event: &PayEvent) -> Result<Vec<PayEvent>, Never> {
        Ok(vec![event.clone()])
    }
}

struct DoPay;

impl Effect for DoPay {
    const NAME: &'static str = "pay";
    const INTENT: &'static str = "pay.Asked";
    type Intent = Pay;
    type Outcome = ();
    type Target = Payment;
    fn policy(&self) -> Policy {
        Policy::once()
    }
    async fn perform(&self, _: &Attempt<Pay>) -> Performed<()> {
        Performed::Done(())
    }
    fn report(&self, _: &Attempt<Pay>, _: &Conclusion<()>) -> Option<(String, PayEvent)> {
        None
    }
}

/// Pays for every question.
#[derive(Debug, Default)]
struct Pays;

impl Process for Pays {
    const NAME: &'static str = "pays";
    type Event = crate::clerk::DeskEvent;

    fn targets() -> Targets {
        Targets::none()
    }

    fn correlate(event: &Recorded<Self::Event>) -> Correlation {
        Correlation::starts(event.stream_id())
    }

    fn apply(&mut self, _: &Trigger<Self::Event>, _: &Context) {}

    fn react(&self, _: &Trigger<Self::Event>, context: &Context) -> Reaction {
        Reaction::none().effect::<DoPay>(&context.key, &Pay { account: 7, amount: u128::MAX })
    }
}

/// Nothing that looks for events by their tags found what a process had asked for.
#[tokio::test]
async fn an_intent_of_a_process_has_the_tags_of_its_event() {
    let store = Store::memory();
    let direct = PayEvent::Asked(Pay { account: 7, amount: 1 });
    store.aggregate::<Payment>().execute("direct", direct).await.unwrap();
    ask(&store, starts("1", [])).await;
    Runtime::new(&store).process::<Pays>().run_until_idle().await.unwrap();
    let found =
        store.read(Read::matching(Query::tag("account:7"), Position(1))).all().await.unwrap();
    let streams: Vec<&str> =
        found.iter().map(|event| event.stream.as_ref().unwrap().name.as_str()).collect();
    assert_eq!(streams, ["pay-direct", "pay-asked"]);
    assert_eq!(found[1].data, format!(r#"{{"account":7,"amount":{}}}"#, u128::MAX));
}
