//! What the records of a runtime say: consumers, effects in doubt, parked triggers.

use std::time::Duration;

use leftfold::prelude::*;
use leftfold::runtime::process::{Context, ParkedFilter};
use leftfold::runtime::projection::Memory;
use leftfold::runtime::{Attempt, Conclusion, Effect, EffectId, EffectState, Performed, Policy};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::support::{Program, port, ran, store_of, until};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum OrderEvent {
    Placed { cents: u64 },
    Paid,
}

impl Event for OrderEvent {
    const NAMESPACE: &'static str = "order";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("refused")]
pub(crate) struct OrderRefused;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order;

impl Aggregate for Order {
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    type Command = ();
    type Refusal = OrderRefused;

    fn apply(&mut self, _: &OrderEvent) {}

    fn decide(&self, (): &()) -> Result<Vec<OrderEvent>, Self::Refusal> {
        Ok(vec![OrderEvent::Paid])
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Placed {
    pub(crate) cents: u64,
}

/// Time that an attempt to take money has, after which a person's word about it counts.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);

/// Takes money through somebody who does not answer.
pub(crate) struct TakeMoney;

impl Effect for TakeMoney {
    const NAME: &'static str = "take money";
    const INTENT: &'static str = "order.Placed";
    type Intent = Placed;
    type Outcome = ();
    type Target = Order;

    fn policy(&self) -> Policy {
        Policy::once().deadline(DEADLINE)
    }

    async fn perform(&self, attempt: &Attempt<Placed>) -> Performed<()> {
        match attempt.intent.cents {
            0 => Performed::Done(()),
            _ => Performed::InDoubt { reason: "no answer".to_owned() },
        }
    }

    fn report(&self, _: &Attempt<Placed>, _: &Conclusion<()>) -> Option<(String, ())> {
        None
    }
}

/// Cannot react to large orders, before it is mended.
#[derive(Default)]
pub(crate) struct Packing<const MENDED: bool>;

impl<const MENDED: bool> Process for Packing<MENDED> {
    const NAME: &'static str = "packing";
    type Event = OrderEvent;

    fn targets() -> Targets {
        Targets::of::<Order>()
    }

    fn correlate(event: &Recorded<OrderEvent>) -> Correlation {
        Correlation::starts(event.stream_id())
    }

    fn apply(&mut self, _: &Trigger<OrderEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<OrderEvent>, _: &Context) -> Reaction {
        match trigger {
            Trigger::Event(OrderEvent::Placed { cents }) if *cents > 100 && !MENDED => {
                panic!("too large")
            }
            _ => Reaction::none(),
        }
    }
}

/// Has no room for large orders.
struct Totals;

impl Projection<Memory<u64>> for Totals {
    const NAME: &'static str = "totals";
    type Event = OrderEvent;

    async fn apply(
        &self,
        total: &mut u64,
        event: &Recorded<OrderEvent>,
    ) -> Result<(), ProjectionError> {
        match event.event {
            OrderEvent::Placed { cents } if cents > 100 => {
                Err(ProjectionError::message("no column is so wide"))
            }
            _ => {
                *total += 1;
                Ok(())
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_work_is_listed_on_a_directory_and_on_an_address() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let place = store_of(directory.path(), 1);
    let program = Program::serve(place.as_ref(), port);
    let address = format!("leftfold://127.0.0.1:{port}");
    let store = leftfold::open(&address).await.unwrap();
    let runtime = Runtime::new(&store).named("desk").effect(TakeMoney).process::<Packing<false>>();
    let runtime = runtime.project(Totals, Memory::new());
    let runtime = runtime.start().await.unwrap();
    let orders = store.aggregate::<Order>();
    let mut effects = Vec::new();
    for (id, cents) in [("small", 0), ("large", 500)] {
        let placed = [OrderEvent::Placed { cents }];
        effects.push(EffectId(orders.record(id, &placed).await.unwrap().last()));
    }
    let second = orders.record("large", &[OrderEvent::Paid]).await.unwrap().last();
    for id in &effects {
        let status = runtime.effects().wait(*id, Duration::from_secs(60)).await.unwrap().unwrap();
        assert!(!matches!(status.state, EffectState::Pending), "{status:?}");
    }
    for place in [&place, &address] {
        until("both triggers are parked", || {
            ran(&["parked", place, "--json"]).objects().len() == 2
        });
        let parked = ran(&["parked", place, "--process", "packing", "--json"]).objects();
        assert!(parked.iter().all(|parked| parked["instance"] == "large"), "{parked:?}");
        let reason = parked[0]["reason"].as_str().unwrap();
        assert!(reason.contains("too large"), "{reason}");
        assert_eq!(parked[1]["cause"]["Event"]["position"], second.0);
        assert!(parked[1]["reason"].is_null(), "{parked:?}");
        assert!(ran(&["parked", place]).well().contains("waits behind another"));

        let open = ran(&["effects", place, "--in-doubt", "--json"]).object();
        assert_eq!((&open["effect"], &open["reason"]), (&"take money".into(), &"no answer".into()));
        assert_eq!(open["id"], effects[1].0.0);
        let all = ran(&["effects", place, "--all", "--json"]).objects();
        assert_eq!(all[0]["state"], "done", "{all:?}");
    }
    let consumers = ran(&["consumers", &address, "--json"]).objects();
    for name in ["$process:packing", "$effect:take money"] {
        let consumer = consumers.iter().find(|consumer| consumer["consumer"] == name);
        let consumer = consumer.unwrap_or_else(|| panic!("{name}: {consumers:?}"));
        assert_eq!(consumer["work"]["runtime"], "desk", "{consumer}");
    }
    assert!(ran(&["consumers", &place]).well().contains("$process:packing"));
    let all = ParkedFilter::all();
    let skipped = runtime.processes().skip_all("packing", &all, "bob").await.unwrap();
    assert_eq!(skipped, 2);
    assert!(ran(&["parked", &address, "--json"]).objects().is_empty());
    what_a_read_model_has_parked_is_listed_and_let_go(&address, effects[1].0.0);
    let told = ran(&["parked", &place, "--ask", "--as", "ada"]);
    assert!(told.code == 2 && told.said.contains("address of its server"), "{told:?}");
    runtime.stop().await.unwrap();
    store.close().await.unwrap();
    program.stop();
}

/// The items are in the memory of the application.
fn what_a_read_model_has_parked_is_listed_and_let_go(address: &str, position: u64) {
    let person = ["--as", "ada"];
    let list = [&["parked", address, "--ask", "--json"], &person[..]].concat();
    until("the read model has parked them", || ran(&list).objects().len() == 2);
    let parked = ran(&list).objects();
    assert_eq!(
        (&parked[0]["consumer"], &parked[0]["runtime"], &parked[0]["position"]),
        (&"totals".into(), &"desk".into(), &position.into())
    );
    assert_eq!((&parked[0]["key"], &parked[1]["reason"]), (&"order-large".into(), &Value::Null));
    let reason = parked[0]["reason"].as_str().unwrap();
    assert!(reason.contains("so wide"), "{reason}");
    let named = [&["parked", address, "--ask", "--consumer", "totals"], &person[..]].concat();
    let text = ran(&named).well();
    assert!(text.contains("waits behind another") && text.contains("2 parked items"), "{text}");
    let nobody = ["parked", address, "--ask", "--consumer", "totls", "--wait", "1"];
    let nobody = ran(&[&nobody[..], &person].concat());
    assert!(nobody.code == 5 && nobody.said.contains("totls did not answer"), "{nobody:?}");
    let skip = ["skip", address, "totals", "--key", "order-large", "--reason", "a test"];
    let skipped = ran(&[&skip[..], &person, &["--json"]].concat()).object();
    assert_eq!(skipped["answer"]["number"], 2, "{skipped}");
    assert!(ran(&list).objects().is_empty());
}
