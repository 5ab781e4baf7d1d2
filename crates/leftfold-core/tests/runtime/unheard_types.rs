//! Types that are asked for and that nobody knows: a name that is read otherwise than it is
//! written.

use std::marker::PhantomData;

use leftfold_core::fold::{Aggregate, Decided, Decision, Event, Owners, Recorded, Upcasters};
use leftfold_core::runtime::inbox::{Delivery, Inbox};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_core::runtime::projection::{
    Bus, Memory, Message, Outbox, Outgoing, Projection, ProjectionError,
};
use leftfold_core::runtime::{
    Attempt, Conclusion, ConsumerStatus, Effect, Performed, Policy, RunningRuntime,
};
use leftfold_core::store::{Append, EventType, NewEvent, Position, Query, Store, StreamName};
use serde::{Deserialize, Serialize};

use crate::runtime_stage::warnings::{ALONE, Warnings};
use crate::runtime_stage::{Door, DoorEvent, IsWalledUp, Process as Started, SECOND, Stage, until};

/// A view of doors, and of a type that no door records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Seen {
    #[serde(rename = "door.OpeningAsked")]
    Asked {},
    #[serde(rename = "door.Token")]
    Token {},
}

impl Event for Seen {
    const NAMESPACE: &'static str = "seen";
}

struct Count;

impl Projection<Memory<u32>> for Count {
    const NAME: &'static str = "count";
    type Event = Seen;

    async fn apply(&self, rows: &mut u32, _: &Recorded<Seen>) -> Result<(), ProjectionError> {
        *rows += 1;
        Ok(())
    }
}

#[derive(Clone)]
struct Nobody;

impl Bus for Nobody {
    async fn publish(&mut self, _: Vec<Message>) -> Result<(), ProjectionError> {
        Ok(())
    }
}

struct Letters;

impl Projection<Outbox<Nobody>> for Letters {
    const NAME: &'static str = "letters";
    type Event = Seen;

    async fn apply(&self, _: &mut Outgoing, _: &Recorded<Seen>) -> Result<(), ProjectionError> {
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Watch;

impl Process for Watch {
    const NAME: &'static str = "watch";
    type Event = Seen;

    fn targets() -> Targets {
        Targets::none()
    }

    fn correlate(event: &Recorded<Seen>) -> Correlation {
        Correlation::starts(event.stream_id())
    }

    fn apply(&mut self, _: &Trigger<Seen>, _: &Context) {}

    fn react(&self, _: &Trigger<Seen>, _: &Context) -> Reaction {
        Reaction::none()
    }
}

/// Owns one type and has a view of another, which is an intent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum TillEvent {
    Rang {},
    #[serde(rename = "door.Token")]
    Token {},
}

impl Event for TillEvent {
    const NAMESPACE: &'static str = "till";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Till;

impl Aggregate for Till {
    const CATEGORY: &'static str = "till";
    type Event = TillEvent;
    type Command = ();
    type Refusal = IsWalledUp;

    fn apply(&mut self, _: &TillEvent) {}

    fn decide(&self, (): &()) -> Result<Vec<TillEvent>, IsWalledUp> {
        Ok(vec![TillEvent::Rang {}])
    }
}

struct Ring;

impl Effect for Ring {
    const NAME: &'static str = "ring";
    const INTENT: &'static str = "door.Token";
    type Target = Till;
    type Intent = serde_json::Value;
    type Outcome = ();

    fn policy(&self) -> Policy {
        Policy::repeatable()
    }

    async fn perform(&self, _: &Attempt<Self::Intent>) -> Performed<()> {
        Performed::Done(())
    }

    fn report(&self, _: &Attempt<Self::Intent>, _: &Conclusion<()>) -> Option<(String, ())> {
        None
    }
}

/// Anyone who records what the others ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum TokenEvent {
    Token {},
}

impl Event for TokenEvent {
    const NAMESPACE: &'static str = "door";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Tokens;

impl Aggregate for Tokens {
    const CATEGORY: &'static str = "tokens";
    type Event = TokenEvent;
    type Command = ();
    type Refusal = IsWalledUp;

    fn apply(&mut self, _: &TokenEvent) {}

    fn decide(&self, (): &()) -> Result<Vec<TokenEvent>, IsWalledUp> {
        Ok(vec![TokenEvent::Token {}])
    }
}

/// The warnings about types that nobody knows, of one reader.
fn of(warnings: &Warnings, reader: &str) -> Vec<String> {
    warnings.saying(&["that were never recorded", reader])
}

async fn all_four(process: &Started) -> RunningRuntime {
    let outbox = Outbox::new(&process.store, Nobody);
    let runtime = process.runtime().project(Count, Memory::new()).project(Letters, outbox);
    runtime.process::<Watch>().effect(Ring).start().await.unwrap()
}

async fn all(running: &RunningRuntime, is_so: impl Fn(&ConsumerStatus) -> bool) {
    until("all consumers are so", async || running.status().iter().all(&is_so)).await;
}

fn names_it(status: &ConsumerStatus) -> bool {
    status.unheard_types == [EventType::new("door.Token").unwrap()]
        && status.waits_for.ends_with(", though nothing was ever recorded of door.Token")
}

fn names_nothing(status: &ConsumerStatus) -> bool {
    status.unheard_types.is_empty() && !status.waits_for.contains("though")
}

fn has_taken_up_all(status: &ConsumerStatus) -> bool {
    names_nothing(status) && status.through == status.head
}

async fn record(store: &Store, event_type: &'static str) {
    let event = NewEvent::new(EventType::new(event_type).unwrap(), "{}");
    store
        .append(Append::of(vec![event.in_stream(StreamName::of("door", "a").unwrap())]))
        .await
        .unwrap();
}

/// A typing error in a name was waited for in silence by all but projections.
#[tokio::test]
async fn whoever_asks_for_a_type_that_nobody_knows_says_so_until_an_event_of_it_is_recorded() {
    let _alone = ALONE.lock().await;
    let (warnings, _guard) = Warnings::default().heard();
    let process = Stage::new().process();
    process.ask("a", 1).await;
    let running = all_four(&process).await;
    all(&running, names_it).await;
    for consumer in ["count", "letters", "watch", "ring"] {
        let said = of(&warnings, consumer);
        assert!(
            said.len() == 1 && said[0].contains("door.Token") && said[0].contains("owners()"),
            "{consumer}: {said:?}"
        );
    }
    assert!(running.status().iter().all(|status| !status.needs_person && !status.stalled));
    assert!(running.metrics().contains("leftfold_consumer_unheard_types{consumer=\"ring\"} 1\n"));
    record(&process.store, "door.Token").await;
    all(&running, has_taken_up_all).await;
    assert!(running.metrics().contains("leftfold_consumer_unheard_types{consumer=\"ring\"} 0\n"));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_type_is_known_from_the_moment_that_an_enum_which_records_it_is_in_use() {
    let _alone = ALONE.lock().await;
    let process = Stage::new().process();
    process.ask("a", 1).await;
    let running = all_four(&process).await;
    all(&running, names_it).await;
    let _tokens = process.store.aggregate::<Tokens>();
    assert!(running.status().iter().all(names_nothing), "{:?}", running.status());
    running.stop().await.unwrap();
}

#[tokio::test]
async fn who_stood_by_knows_what_another_one_has_read() {
    let _alone = ALONE.lock().await;
    let stage = Stage::new();
    let (one, two) = (stage.process(), stage.process());
    one.ask("a", 1).await;
    let (works, stands_by) = (all_four(&one).await, all_four(&two).await);
    // They divide the work between them.
    all(&works, |status| status.standby || names_it(status)).await;
    record(&one.store, "door.Token").await;
    all(&works, |status| status.standby || has_taken_up_all(status)).await;
    works.stop().await.unwrap();
    until("another one has taken over", async || {
        stage.clock.advance(SECOND);
        stands_by.status().iter().all(|status| !status.standby && has_taken_up_all(status))
    })
    .await;
    stands_by.stop().await.unwrap();
}

/// Reads an enum, and does nothing with it.
struct Reads<E>(PhantomData<E>);

macro_rules! reads {
    ($name:literal, $event:ty) => {
        impl Projection<Memory<u32>> for Reads<$event> {
            const NAME: &'static str = $name;
            type Event = $event;

            async fn apply(
                &self,
                _: &mut u32,
                _: &Recorded<$event>,
            ) -> Result<(), ProjectionError> {
                Ok(())
            }
        }
    };
}

reads!("named", Named);
reads!("renamed", Renamed);
reads!("own", DoorEvent);

/// A view that names the owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Named {
    #[serde(rename = "door.WalledUp")]
    WalledUp {},
}

impl Event for Named {
    const NAMESPACE: &'static str = "named";

    fn owners() -> Owners {
        Owners::of::<DoorEvent>()
    }
}

/// A view that has an older name of a type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Renamed {
    #[serde(rename = "gate.OpeningAsked")]
    Asked {},
}

impl Event for Renamed {
    const NAMESPACE: &'static str = "renamed";

    fn upcasters() -> Upcasters {
        Upcasters::none().rename(("door.OpeningAsked", 1), ("gate.OpeningAsked", 1))
    }
}

/// Commands what others follow.
struct Coins;

impl Inbox for Coins {
    const NAME: &'static str = "coins";
    type Message = u64;

    fn targets() -> Targets {
        Targets::of::<Door>().and::<Tokens>()
    }

    fn deliver(_: &u64, _: &Delivery) -> Reaction {
        Reaction::none()
    }
}

#[tokio::test]
async fn what_was_recorded_under_an_older_name_or_is_declared_by_its_owner_is_no_cause_for_alarm() {
    let _alone = ALONE.lock().await;
    let (warnings, _guard) = Warnings::default().heard();
    // A new program, whose store is empty.
    let process = Stage::new().process();
    let runtime =
        process.runtime().project(Reads::<Named>(PhantomData), Memory::new()).inbox::<Coins>();
    let runtime =
        runtime.project(Reads::<DoorEvent>(PhantomData), Memory::new()).process::<Watch>();
    let running = runtime.start().await.unwrap();
    all(&running, |status| status.waits_for.contains("events") && names_nothing(status)).await;
    running.stop().await.unwrap();
    let process = Stage::new().process();
    process.ask("a", 1).await;
    let running = process
        .runtime()
        .project(Reads::<Renamed>(PhantomData), Memory::new())
        .start()
        .await
        .unwrap();
    all(&running, |status| status.waits_for == "new events").await;
    running.stop().await.unwrap();
    assert_eq!(of(&warnings, ""), [""; 0]);
}

#[tokio::test]
async fn a_reader_declares_nothing_by_reading_an_enum_of_its_own() {
    let _alone = ALONE.lock().await;
    let (warnings, _guard) = Warnings::default().heard();
    let process = Stage::new().process();
    let running = process
        .runtime()
        .project(Reads::<DoorEvent>(PhantomData), Memory::new())
        .start()
        .await
        .unwrap();
    all(&running, |status| {
        status.waits_for.ends_with(" and 4 other types") && status.unheard_types.len() == 5
    })
    .await;
    assert_eq!(of(&warnings, "own").len(), 1);
    let _doors = process.store.aggregate::<Door>();
    assert!(running.status().iter().all(names_nothing));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn whoever_follows_is_warned_of_types_that_nobody_knows() {
    let _alone = ALONE.lock().await;
    let (warnings, _guard) = Warnings::default().heard();
    let Started { store, .. } = &Stage::new().process();
    record(store, "door.OpeningAsked").await;
    let mut seen = store.follow::<Seen>(Position::START).unwrap();
    assert_eq!(seen.unheard_types().await.unwrap(), [EventType::new("door.Token").unwrap()]);
    assert_eq!(seen.next().await.unwrap().event, Seen::Asked {});
    let said = of(&warnings, "Seen");
    assert!(said.len() == 1 && said[0].contains("door.Token"), "{said:?}");
    record(store, "door.Token").await;
    assert_eq!(seen.unheard_types().await.unwrap(), []);
    assert_eq!(seen.next().await.unwrap().event, Seen::Token {});
    assert_eq!(of(&warnings, "Seen").len(), 1);
}

/// Rests on types of a view, and on one that only its query names.
struct IsShut;

impl Decision for IsShut {
    type Event = Seen;
    type State = bool;
    type Refusal = IsWalledUp;

    fn query(&self) -> Query {
        let types = ["door.WalledUp", "door.Walled"].map(|name| EventType::new(name).unwrap());
        Query::category("door").or(Query::types(types))
    }

    fn apply(&self, _: &mut bool, _: &Seen) {}

    fn decide(&self, _: &bool) -> Result<Decided<Seen>, IsWalledUp> {
        Ok(Decided::nothing())
    }
}

/// A boundary that nothing can be in guards nothing.
#[tokio::test]
async fn a_decision_that_rests_on_types_that_nobody_knows_is_warned_of_once() {
    let _alone = ALONE.lock().await;
    let (warnings, _guard) = Warnings::default().heard();
    let process = Stage::new().process();
    process.ask("a", 1).await;
    for _ in 0..3 {
        process.store.decide(&IsShut).await.unwrap();
    }
    let said = of(&warnings, "IsShut");
    assert!(said.len() == 1 && said[0].contains(r#"["door.Token", "door.Walled"]"#), "{said:?}");
}
