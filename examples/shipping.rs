//! Carriers report where shipments are, but a report of the delivery may overtake that of the
//! journey, and some come twice. The pattern is an inbox at the door: it hears each message once,
//! puts a source's in order by their numbers and waits for a gap a bounded time; where messages
//! only name the one that they follow, the shipment does the same, with a timer. Leave it where the
//! order does not matter, as with readings that carry their own time: then only the repetition
//! counts.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use leftfold::prelude::*;
use serde::{Deserialize, Serialize};

/// Longest time that a gap is waited for.
const PATIENCE: Duration = Duration::from_secs(60 * 60);

/// Scan by a carrier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Scan {
    InTransit { place: String },
    Delivered { to: String },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum ShipmentEvent {
    InTransit {
        report: String,
        place: String,
    },
    /// Delivered, even if nothing was known the journey: somebody may want to ask.
    Delivered {
        report: String,
        to: String,
        journey_unknown: bool,
    },
    /// It came too late to change anything.
    ReportedLate {
        report: String,
        scan: Scan,
    },
    /// It waits for the report that it follows.
    HeldBack {
        report: String,
        after: String,
        scan: Scan,
    },
}

impl Event for ShipmentEvent {
    const NAMESPACE: &'static str = "shipment";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Hear {
    Report {
        report: String,
        /// The report that it follows, where the carrier says so.
        after: Option<String>,
        scan: Scan,
        /// Its gap was given up before it came.
        late: bool,
    },
    TimeIsUp {
        report: String,
    },
}

/// Refusal of a shipment: there is none, since a scan is a fact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum ShipmentRefusal {}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Shipment {
    places: Vec<String>,
    delivered: Option<String>,
    heard: BTreeSet<String>,
    /// Reports that are held back, by the report that each waits for.
    held: BTreeMap<String, (String, Scan)>,
    /// Reports that were waited for long enough.
    given_up: BTreeSet<String>,
}

impl Aggregate for Shipment {
    const CATEGORY: &'static str = "shipment";
    type Event = ShipmentEvent;
    type Command = Hear;
    type Refusal = ShipmentRefusal;

    fn apply(&mut self, event: &ShipmentEvent) {
        match event.clone() {
            ShipmentEvent::InTransit { report, place } => {
                self.places.push(place);
                self.take(report);
            }
            ShipmentEvent::Delivered { report, to, .. } => {
                self.delivered = Some(to);
                self.take(report);
            }
            ShipmentEvent::ReportedLate { report, .. } => self.take(report),
            ShipmentEvent::HeldBack { report, after, scan } => {
                _ = self.held.insert(after, (report, scan))
            }
        }
    }

    fn decide(&self, hear: &Hear) -> Result<Vec<ShipmentEvent>, ShipmentRefusal> {
        Ok(match hear.clone() {
            Hear::Report { report, .. } if self.heard.contains(&report) || self.holds(&report) => {
                Vec::new()
            }
            Hear::Report { report, after: Some(after), scan, .. } if self.waits_for(&after) => {
                vec![ShipmentEvent::HeldBack { report, after, scan }]
            }
            Hear::Report { report, scan, late, .. } => {
                self.taken_with_what_follows(report, scan, late)
            }
            Hear::TimeIsUp { report } => match self.first_of_chain(report) {
                Some((report, scan)) => {
                    self.taken_with_what_follows(report.clone(), scan.clone(), false)
                }
                None => Vec::new(),
            },
        })
    }
}

impl Shipment {
    fn holds(&self, report: &str) -> bool {
        self.held.values().any(|(held, _)| held == report)
    }

    /// The first of those that are held which a report that is held waits for: before that is the
    /// gap.
    fn first_of_chain(&self, mut report: String) -> Option<&(String, Scan)> {
        let mut first = None;
        // No longer than what is held, though a carrier may let two wait for each other.
        for _ in 0..self.held.len() {
            let Some((after, held)) = self.held.iter().find(|(_, (held, _))| *held == report)
            else {
                break;
            };
            (first, report) = (Some(held), after.clone());
        }
        first
    }

    /// Two that follow the same report are no chain: the second one is not held.
    fn waits_for(&self, after: &str) -> bool {
        !self.heard.contains(after)
            && !self.given_up.contains(after)
            && !self.held.contains_key(after)
    }

    fn take(&mut self, report: String) {
        let waited_for =
            self.held.iter().find(|(_, (held, _))| *held == report).map(|(after, _)| after.clone());
        if let Some(after) = waited_for {
            self.held.remove(&after);
            if !self.heard.contains(&after) && !self.holds(&after) {
                self.given_up.insert(after);
            }
        }
        self.heard.insert(report);
    }

    /// Takes a report whose turn it is, with those that waited for it.
    fn taken_with_what_follows(
        &self,
        report: String,
        scan: Scan,
        late: bool,
    ) -> Vec<ShipmentEvent> {
        let mut shipment = self.clone();
        let mut events = Vec::new();
        let mut next = Some((report, scan));
        while let Some((report, scan)) = next {
            let late = late || shipment.delivered.is_some() || shipment.given_up.contains(&report);
            let event = match scan {
                scan if late => ShipmentEvent::ReportedLate { report: report.clone(), scan },
                Scan::InTransit { place } => {
                    ShipmentEvent::InTransit { report: report.clone(), place }
                }
                Scan::Delivered { to } => {
                    let journey_unknown = shipment.places.is_empty();
                    ShipmentEvent::Delivered { report: report.clone(), to, journey_unknown }
                }
            };
            shipment.apply(&event);
            events.push(event);
            next = shipment.held.get(&report).cloned();
        }
        events
    }
}

// A carrier that numbers the messages of each shipment: the inbox does all of it.

/// Message of the post: a source for each shipment, numbered from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PostMessage {
    shipment: String,
    scan: Scan,
}

// ANCHOR: inbox
struct Post;

impl Inbox for Post {
    const NAME: &'static str = "post";
    type Message = PostMessage;

    fn targets() -> Targets {
        Targets::of::<Shipment>()
    }

    fn hold() -> Duration {
        PATIENCE
    }

    /// A delivery is worth more than a complete journey.
    fn over_gap() -> OverGap {
        OverGap::Release
    }

    fn deliver(message: &PostMessage, from: &Delivery) -> Reaction {
        let PostMessage { shipment, scan } = message.clone();
        let report =
            Hear::Report { report: from.id.clone(), after: None, scan, late: from.is_late };
        Reaction::none().command::<Shipment>(shipment, report)
    }
}
// ANCHOR_END: inbox

// A carrier whose messages name the one that they follow: the inbox hears each once, the shipment
// knows the order.

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct CourierMessage {
    shipment: String,
    after: Option<String>,
    scan: Scan,
}

struct Courier;

impl Inbox for Courier {
    const NAME: &'static str = "courier";
    type Message = CourierMessage;

    fn targets() -> Targets {
        Targets::of::<Shipment>()
    }

    fn deliver(message: &CourierMessage, from: &Delivery) -> Reaction {
        let CourierMessage { shipment, after, scan } = message.clone();
        Reaction::none().command::<Shipment>(
            shipment,
            Hear::Report { report: from.id.clone(), after, scan, late: false },
        )
    }
}

/// Keeps the time of one report that is held back.
#[derive(Debug, Default)]
struct Patience {
    shipment: String,
}

// ANCHOR: process
impl Process for Patience {
    const NAME: &'static str = "patience";
    type Event = ShipmentEvent;

    fn targets() -> Targets {
        Targets::of::<Shipment>()
    }

    fn correlate(event: &Recorded<ShipmentEvent>) -> Correlation {
        let key = |report: &str| format!("{}/{report}", event.stream_id());
        match &event.event {
            ShipmentEvent::HeldBack { report, .. } => Correlation::starts(key(report)),
            ShipmentEvent::InTransit { report, .. }
            | ShipmentEvent::Delivered { report, .. }
            | ShipmentEvent::ReportedLate { report, .. } => Correlation::ends(key(report)),
        }
    }

    fn apply(&mut self, trigger: &Trigger<ShipmentEvent>, context: &Context) {
        if let Trigger::Event(ShipmentEvent::HeldBack { .. }) = trigger {
            self.shipment.clone_from(&context.stream_id);
        }
    }

    fn react(&self, trigger: &Trigger<ShipmentEvent>, context: &Context) -> Reaction {
        match trigger {
            Trigger::Event(ShipmentEvent::HeldBack { .. }) => {
                Reaction::none().timer("gap", PATIENCE)
            }
            Trigger::TimerFired { .. } => {
                let report = context
                    .key
                    .strip_prefix(&format!("{}/", self.shipment))
                    .unwrap_or_default()
                    .to_owned();
                Reaction::none().command::<Shipment>(&self.shipment, Hear::TimeIsUp { report })
            }
            Trigger::Event(_) | Trigger::Refused(_) => Reaction::none(),
        }
    }
}
// ANCHOR_END: process

fn in_transit(place: &str) -> Scan {
    Scan::InTransit { place: place.into() }
}

fn delivered(to: &str) -> Scan {
    Scan::Delivered { to: to.into() }
}

fn post(shipment: &str, scan: Scan) -> PostMessage {
    PostMessage { shipment: shipment.into(), scan }
}

fn courier(shipment: &str, after: Option<&str>, scan: Scan) -> CourierMessage {
    CourierMessage { shipment: shipment.into(), after: after.map(Into::into), scan }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let clock = Arc::new(leftfold::testing::HandClock::going());
    let runtime = Runtime::new(&store)
        .clock(clock.clone())
        .inbox::<Post>()
        .inbox::<Courier>()
        .process::<Patience>();
    let running = runtime.start().await?;
    let mut told = store.subscribe(Query::category(Shipment::CATEGORY), store.head().position);
    let from_post = store.inbox::<Post>();
    let from_courier = store.inbox::<Courier>();

    println!("the post numbers its messages; the second comes first, the first comes twice");
    let second =
        from_post.receive("post/books", "m2", Some(2), post("books", delivered("Ada"))).await?;
    let first =
        from_post.receive("post/books", "m1", Some(1), post("books", in_transit("Kiel"))).await?;
    let again =
        from_post.receive("post/books", "m1", Some(1), post("books", in_transit("Kiel"))).await?;
    println!("    answered: {second:?}, {first:?}, {again:?}");
    hear(&store, &mut told, 2).await?;

    println!("of another shipment the first is lost, and an hour passes");
    from_post.receive("post/shoes", "m4", Some(2), post("shoes", delivered("Bea"))).await?;
    clock.advance(PATIENCE + Duration::from_secs(1));
    hear(&store, &mut told, 1).await?;
    println!("then it turns up");
    let late =
        from_post.receive("post/shoes", "m3", Some(1), post("shoes", in_transit("Ulm"))).await?;
    println!("    answered: {late:?}");
    hear(&store, &mut told, 1).await?;

    println!(
        "the courier's messages name the one that they follow; they come backwards, the last one twice"
    );
    let backwards = [
        ("c3", Some("c2"), delivered("Cy")),
        ("c2", Some("c1"), in_transit("Rome")),
        ("c1", None, in_transit("Oslo")),
        ("c1", None, in_transit("Oslo")),
    ];
    for (id, after, scan) in backwards {
        let receipt =
            from_courier.receive("courier", id, None, courier("vase", after, scan)).await?;
        println!("    {id} is answered: {receipt:?}");
    }
    hear(&store, &mut told, 5).await?;
    running.stop().await?;
    store.close().await?;
    Ok(())
}

/// Prints what shipments hear next.
async fn hear(
    store: &Store,
    told: &mut leftfold::store::Subscription,
    events: usize,
) -> Result<(), Box<dyn Error>> {
    for _ in 0..events {
        for event in store.aggregate::<Shipment>().decode(&told.event().await?)? {
            match event {
                ShipmentEvent::InTransit { place, .. } => {
                    println!("    in transit, seen in {place}")
                }
                ShipmentEvent::Delivered { to, journey_unknown: true, .. } => {
                    println!("    delivered to {to}; nobody saw it before")
                }
                ShipmentEvent::Delivered { to, .. } => println!("    delivered to {to}"),
                ShipmentEvent::ReportedLate { report, .. } => {
                    println!("    {report} comes too late to change anything")
                }
                ShipmentEvent::HeldBack { report, after, .. } => {
                    println!("    {report} waits for {after}")
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use leftfold::testing::explorer::{Explorer, Schedules, World};
    use leftfold::testing::given;

    fn report(report: &str, after: Option<&str>, scan: Scan) -> Hear {
        Hear::Report { report: report.into(), after: after.map(Into::into), scan, late: false }
    }

    fn held(report: &str, after: &str, scan: Scan) -> ShipmentEvent {
        ShipmentEvent::HeldBack { report: report.into(), after: after.into(), scan }
    }

    fn seen(report: &str, place: &str) -> ShipmentEvent {
        ShipmentEvent::InTransit { report: report.into(), place: place.into() }
    }

    fn arrived(report: &str, journey_unknown: bool) -> ShipmentEvent {
        ShipmentEvent::Delivered { report: report.into(), to: "Ada".into(), journey_unknown }
    }

    fn late(report: &str, scan: Scan) -> ShipmentEvent {
        ShipmentEvent::ReportedLate { report: report.into(), scan }
    }

    #[test]
    fn a_report_waits_for_the_one_that_it_follows_and_goes_with_it() {
        given::<Shipment>([]).when(report("b", Some("a"), delivered("Ada"))).then([held(
            "b",
            "a",
            delivered("Ada"),
        )]);
        let waiting = [held("c", "b", delivered("Ada")), held("b", "a", in_transit("Rome"))];
        let all = [seen("a", "Oslo"), seen("b", "Rome"), arrived("c", false)];
        given::<Shipment>(waiting.clone())
            .when(report("a", None, in_transit("Oslo")))
            .then(all.clone());
        let heard = waiting.into_iter().chain(all);
        given::<Shipment>(heard.clone()).when(report("a", None, in_transit("Oslo"))).then_nothing();
        given::<Shipment>(heard).when(Hear::TimeIsUp { report: "c".into() }).then_nothing();
    }

    #[test]
    fn when_its_time_is_up_a_report_is_decided_without_what_it_waits_for() {
        let waiting = [held("b", "a", delivered("Ada"))];
        let time_is_up = Hear::TimeIsUp { report: "b".into() };
        given::<Shipment>(waiting.clone()).when(time_is_up).then([arrived("b", true)]);
        let chain = [held("c", "b", delivered("Ada")), held("b", "a", in_transit("Rome"))];
        let time_is_up = Hear::TimeIsUp { report: "c".into() };
        given::<Shipment>(chain).when(time_is_up).then([seen("b", "Rome"), arrived("c", false)]);
        let each_other = [held("b", "a", delivered("Ada")), held("a", "b", in_transit("Rome"))];
        let time_is_up = Hear::TimeIsUp { report: "b".into() };
        given::<Shipment>(each_other)
            .when(time_is_up)
            .then([seen("a", "Rome"), arrived("b", false)]);
        let decided = waiting.into_iter().chain([arrived("b", true)]);
        given::<Shipment>(decided)
            .when(report("a", None, in_transit("Oslo")))
            .then([late("a", in_transit("Oslo"))]);
    }

    /// The reports of a shipment that had their turn, in order.
    fn turns(world: &World) -> Vec<ShipmentEvent> {
        world
            .events_of::<ShipmentEvent>()
            .into_iter()
            .filter(|event| !matches!(event, ShipmentEvent::HeldBack { .. }))
            .collect()
    }

    /// Each message counts once, and after the delivery nothing is in transit.
    fn each_once_and_in_order(world: &World) -> Result<(), String> {
        let (mut reports, mut is_delivered) = (BTreeSet::new(), false);
        for event in turns(world) {
            let (ShipmentEvent::InTransit { report, .. }
            | ShipmentEvent::Delivered { report, .. }
            | ShipmentEvent::ReportedLate { report, .. }
            | ShipmentEvent::HeldBack { report, .. }) = &event;
            if !reports.insert(report.clone()) {
                return Err(format!("{report} counts twice"));
            }
            if is_delivered && !matches!(event, ShipmentEvent::ReportedLate { .. }) {
                return Err(format!("{event:?} after the delivery"));
            }
            is_delivered |= matches!(event, ShipmentEvent::Delivered { .. });
        }
        Ok(())
    }

    fn all_had_their_turn(world: &World) -> Result<(), String> {
        let (turns, open) = (turns(world).len(), world.open_processes());
        if turns == 3 && open == 0 && world.parked() == 0 {
            Ok(())
        } else {
            Err(format!("{turns} of 3, {open} processes are open"))
        }
    }

    // ANCHOR: explored
    #[test]
    fn delivered_before_in_transit_and_in_transit_twice_come_right_by_number() {
        Explorer::new()
            .aggregate::<Shipment>()
            .inbox::<Post>()
            .start(|clients| {
                let message = |id: &str, number, scan| (id.to_owned(), number, scan);
                let backwards = [
                    message("m3", 3, delivered("Ada")),
                    message("m2", 2, in_transit("Rome")),
                    message("m2", 2, in_transit("Rome")),
                    message("m1", 1, in_transit("Oslo")),
                ];
                for (nth, (id, number, scan)) in backwards.into_iter().enumerate() {
                    let client = clients.client(&format!("line {nth}"));
                    // The first one may come when its gap was given up, or just before, or never
                    // too late.
                    let client = if id == "m1" { client.wait(PATIENCE) } else { client };
                    client.send::<Post>("post/books", &id, Some(number), post("books", scan));
                }
            })
            .always("each message counts once, and in order", each_once_and_in_order)
            .finally("every message had its turn", all_had_their_turn)
            .run(Schedules(500));
    }
    // ANCHOR_END: explored

    #[test]
    fn delivered_before_in_transit_and_in_transit_twice_come_right_by_cause() {
        Explorer::new()
            .aggregate::<Shipment>()
            .inbox::<Courier>()
            .process::<Patience>()
            .start(|clients| {
                let backwards = [
                    ("c3", Some("c2"), delivered("Ada")),
                    ("c2", Some("c1"), in_transit("Rome")),
                    ("c2", Some("c1"), in_transit("Rome")),
                    ("c1", None, in_transit("Oslo")),
                ];
                for (nth, (id, after, scan)) in backwards.into_iter().enumerate() {
                    let client = clients.client(&format!("line {nth}"));
                    let client = if id == "c1" { client.wait(PATIENCE) } else { client };
                    client.send::<Courier>("courier", id, None, courier("books", after, scan));
                }
            })
            .always("each message counts once, and in order", each_once_and_in_order)
            .finally("every message had its turn", all_had_their_turn)
            .run(Schedules(500));
    }
}
