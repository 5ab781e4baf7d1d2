//! What follows the log, in the explorer: a read model and an outbox that are right, and some with
//! a fault in them.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::projection::{
    Bus, Memory, Message, Outbox, Outgoing, Projection, ProjectionError,
};
use leftfold_testing::{Explorer, Schedules};
use serde::{Deserialize, Serialize};

use crate::{MANY, is_found};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum PartEvent {
    Delivered { count: u32 },
}

impl Event for PartEvent {
    const NAMESPACE: &'static str = "part";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Part;

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("no")]
struct No;

#[derive(Clone, Debug)]
struct Deliver(u32);

impl Aggregate for Part {
    const CATEGORY: &'static str = "part";
    type Event = PartEvent;
    type Command = Deliver;
    type Refusal = No;

    fn apply(&mut self, _: &PartEvent) {}

    fn decide(&self, Deliver(count): &Deliver) -> Result<Vec<PartEvent>, No> {
        Ok(vec![PartEvent::Delivered { count: *count }])
    }
}

type Stock = BTreeMap<String, u32>;

/// Read model of how much there is of each part.
struct InStock;

impl Projection<Memory<Stock>> for InStock {
    const NAME: &'static str = "stock";
    type Event = PartEvent;

    async fn apply(
        &self,
        rows: &mut Stock,
        event: &Recorded<PartEvent>,
    ) -> Result<(), ProjectionError> {
        let PartEvent::Delivered { count } = event.event;
        *rows.entry(event.stream_id().to_owned()).or_default() += count;
        Ok(())
    }
}

/// Any bus will do: the explorer has its own.
struct Broker;

impl Bus for Broker {
    async fn publish(&mut self, _: Vec<Message>) -> Result<(), ProjectionError> {
        Ok(())
    }
}

/// Tells the shop of every delivery.
struct Tell;

impl Projection<Outbox<Broker>> for Tell {
    const NAME: &'static str = "tell";
    type Event = PartEvent;

    async fn apply(
        &self,
        outgoing: &mut Outgoing,
        event: &Recorded<PartEvent>,
    ) -> Result<(), ProjectionError> {
        let PartEvent::Delivered { count } = event.event;
        outgoing.send("shop", event.stream_id(), count.to_string());
        Ok(())
    }
}

fn deliveries() -> Explorer {
    Explorer::new().start(|clients| {
        for part in ["bolt", "nut"] {
            let client = clients.client(part).command::<Part>(part, Deliver(1));
            client.command::<Part>(part, Deliver(2)).command::<Part>(part, Deliver(3));
        }
    })
}

#[test]
fn a_read_model_and_an_outbox_are_what_the_events_say_whatever_happens() {
    let explored = deliveries()
        .projection::<Stock, _>(|| InStock)
        .outbox(|| Tell)
        .always("nothing is sent before it is true", |world| {
            world.sent("tell").len() <= world.events_of::<PartEvent>().len()
        })
        .finally("all is in stock", |world| {
            world.rows::<Stock>("stock").iter().all(|stock| stock["bolt"] == 6 && stock["nut"] == 6)
        })
        .run(MANY);
    eprintln!("{explored:?}");
}

#[test]
fn of_several_applications_one_sends_and_each_has_its_rows() {
    let explored = deliveries()
        .applications(2)
        .projection::<Stock, _>(|| InStock)
        .outbox(|| Tell)
        .finally("each has its rows", |world| (1..=2).contains(&world.rows::<Stock>("stock").len()))
        .run(Schedules(MANY.0 / 2));
    eprintln!("{explored:?}");
}

/// Lists parts in the order in which a set has them, which is another one in each life of the
/// process.
#[derive(Default)]
struct Listed(Mutex<HashSet<String>>);

impl Projection<Memory<Vec<String>>> for Listed {
    const NAME: &'static str = "listed";
    type Event = PartEvent;

    async fn apply(
        &self,
        rows: &mut Vec<String>,
        event: &Recorded<PartEvent>,
    ) -> Result<(), ProjectionError> {
        let mut parts = self.0.lock().unwrap();
        parts.insert(event.stream_id().to_owned());
        *rows = parts.iter().cloned().collect();
        Ok(())
    }
}

#[test]
fn a_projection_whose_order_is_by_chance_is_found() {
    let mut explorer = Explorer::new().start(|clients| {
        for part in ["a", "b", "c", "d", "e", "f", "g"] {
            clients.client(part).command::<Part>(part, Deliver(1));
        }
    });
    explorer = explorer.projection::<Vec<String>, _>(Listed::default);
    let failure = explorer.explore(Schedules(200)).unwrap_err();
    is_found(&failure, "listed is what the events say", 30);
}

/// Shows the last delivery of all, and takes it for that of the nut, which was ordered last.
struct Latest;

impl Projection<Memory<Option<String>>> for Latest {
    const NAME: &'static str = "latest";
    type Event = PartEvent;

    async fn apply(
        &self,
        rows: &mut Option<String>,
        event: &Recorded<PartEvent>,
    ) -> Result<(), ProjectionError> {
        *rows = Some(event.stream_id().to_owned());
        Ok(())
    }
}

#[test]
fn a_read_model_that_believes_in_an_order_between_streams_is_found() {
    let explorer = deliveries().projection::<Option<String>, _>(|| Latest).finally(
        "the nut came last",
        |world| {
            world
                .rows::<Option<String>>("latest")
                .iter()
                .all(|latest| latest.as_deref() == Some("nut"))
        },
    );
    let failure = explorer.seed(1).explore(Schedules(2_000)).unwrap_err();
    is_found(&failure, "the nut came last", 30);
}

/// Tells of every second delivery how much came with both; what it keeps of the first is in memory.
#[derive(Default)]
struct Pairs(AtomicU32);

impl Projection<Outbox<Broker>> for Pairs {
    const NAME: &'static str = "pairs";
    type Event = PartEvent;

    async fn apply(
        &self,
        outgoing: &mut Outgoing,
        event: &Recorded<PartEvent>,
    ) -> Result<(), ProjectionError> {
        let PartEvent::Delivered { count } = event.event;
        match self.0.swap(0, Ordering::Relaxed) {
            0 => self.0.store(count, Ordering::Relaxed),
            before => drop(outgoing.send("shop", "pairs", (before + count).to_string())),
        }
        Ok(())
    }
}

#[test]
fn an_outbox_that_forgets_is_found() {
    let failure =
        deliveries().outbox(Pairs::default).seed(1).explore(Schedules(2_000)).unwrap_err();
    is_found(&failure, "pairs is what the events say", 40);
}

/// A store that forgets where an outbox stands lets it send again, under the same ids, and lose
/// nothing.
#[test]
fn an_outbox_whose_store_forgets_where_it_stands_repeats_and_loses_nothing() {
    deliveries()
        .outbox(|| Tell)
        .spoiling(|append| append.checkpoint = None)
        .seed(1)
        .explore(Schedules(300))
        .unwrap();
}
