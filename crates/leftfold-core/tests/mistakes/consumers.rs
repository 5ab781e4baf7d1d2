//! Mistakes in what a runtime is given: names, types and code that panics at the start.

use std::marker::PhantomData;
use std::time::Duration;

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::inbox::{Delivery, Inbox};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_core::runtime::projection::{
    Bus, Memory, Message, Outbox, Outgoing, Projection, ProjectionError,
};
use leftfold_core::runtime::{
    Attempt, Conclusion, Effect, Performed, Plan, Policy, Recurring, Runtime, StartError,
};
use leftfold_core::store::{Kind, Store, Timestamp};
use serde::{Deserialize, Serialize};

use crate::till::{Counter, CounterEvent, opened};
use crate::{at_once, error, says};

/// Name of a consumer, and what is wrong with it.
pub(crate) trait Flaw: Send + Sync + 'static {
    const NAME: &'static str = "same";
    const INTENT: &'static str = "counter.Opened";
    /// Called by each consumer where code of its own runs at the start.
    fn at_start() {}
}

pub(crate) struct One;
pub(crate) struct Other;
struct OtherIntent;
struct Dashed;
struct Long;
struct Nameless;
struct NoSuchIntent;
struct Panics;

impl Flaw for One {}
impl Flaw for Other {}
impl Flaw for OtherIntent {
    const INTENT: &'static str = "counter.Counted";
}
impl Flaw for Dashed {
    const NAME: &'static str = "same-name";
}
impl Flaw for Long {
    const NAME: &'static str = match str::from_utf8(&[b'x'; 500]) {
        Ok(long) => long,
        Err(_) => "",
    };
}
impl Flaw for Nameless {
    const NAME: &'static str = "";
}
impl Flaw for NoSuchIntent {
    const INTENT: &'static str = "counter.Opend";
}
impl Flaw for Panics {
    fn at_start() {
        panic!("it cannot begin")
    }
}

pub(crate) struct Hears<F>(PhantomData<fn() -> F>);

impl<F: Flaw> Default for Hears<F> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<F: Flaw> Process for Hears<F> {
    const NAME: &'static str = F::NAME;
    type Event = CounterEvent;

    fn targets() -> Targets {
        F::at_start();
        Targets::none()
    }

    fn correlate(event: &Recorded<CounterEvent>) -> Correlation {
        Correlation::starts(event.stream_id())
    }

    fn apply(&mut self, _: &Trigger<CounterEvent>, _: &Context) {}

    fn react(&self, _: &Trigger<CounterEvent>, _: &Context) -> Reaction {
        // The counter is no target of this process.
        Reaction::none().command::<Counter>("1", opened())
    }
}

pub(crate) struct Acts<F>(PhantomData<fn() -> F>);

impl<F: Flaw> Effect for Acts<F> {
    const NAME: &'static str = F::NAME;
    const INTENT: &'static str = F::INTENT;
    type Target = Counter;
    type Intent = serde_json::Value;
    type Outcome = ();

    fn policy(&self) -> Policy {
        F::at_start();
        Policy::repeatable()
    }

    async fn perform(&self, _: &Attempt<Self::Intent>) -> Performed<()> {
        Performed::Done(())
    }

    fn report(
        &self,
        _: &Attempt<Self::Intent>,
        _: &Conclusion<()>,
    ) -> Option<(String, CounterEvent)> {
        None
    }
}

pub(crate) struct Rows<F>(PhantomData<fn() -> F>);

impl<F: Flaw> Projection<Memory<u32>> for Rows<F> {
    const NAME: &'static str = F::NAME;
    type Event = CounterEvent;

    async fn set_up(&self, _: &mut u32) -> Result<(), ProjectionError> {
        F::at_start();
        Ok(())
    }

    async fn apply(&self, _: &mut u32, _: &Recorded<CounterEvent>) -> Result<(), ProjectionError> {
        Ok(())
    }
}

#[derive(Clone)]
pub(crate) struct Nowhere;

impl Bus for Nowhere {
    async fn publish(&mut self, _: Vec<Message>) -> Result<(), ProjectionError> {
        Ok(())
    }
}

impl<F: Flaw> Projection<Outbox<Nowhere>> for Rows<F> {
    const NAME: &'static str = F::NAME;
    type Event = CounterEvent;

    async fn apply(
        &self,
        _: &mut Outgoing,
        _: &Recorded<CounterEvent>,
    ) -> Result<(), ProjectionError> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Scan;

struct Takes<F>(PhantomData<fn() -> F>);

impl<F: Flaw> Inbox for Takes<F> {
    const NAME: &'static str = F::NAME;
    type Message = Scan;

    fn targets() -> Targets {
        Targets::of::<Counter>()
    }

    fn deliver(_: &Scan, _: &Delivery) -> Reaction {
        Reaction::none()
    }
}

struct Comes<F>(PhantomData<fn() -> F>);

impl<F: Flaw> Recurring for Comes<F> {
    const NAME: &'static str = F::NAME;
    type Target = Counter;

    fn plan(&self) -> Plan {
        F::at_start();
        Plan::every(Duration::from_secs(3_600))
    }

    fn due(&self, _: Timestamp) -> (String, CounterEvent) {
        ("1".to_owned(), opened())
    }
}

pub(crate) fn acts<F: Flaw>() -> Acts<F> {
    Acts(PhantomData)
}

pub(crate) fn rows<F: Flaw>() -> Rows<F> {
    Rows(PhantomData)
}

fn comes<F: Flaw>() -> Comes<F> {
    Comes(PhantomData)
}

/// Returns the error of a runtime that does not start, and asserts that it has all of these parts.
async fn refused(add: impl FnOnce(Runtime, &Store) -> Runtime, parts: &[&str]) -> StartError {
    let store = Store::memory();
    let runtime = add(Runtime::new(&store), &store);
    let told = error(at_once("the start", runtime.start()).await);
    says(&told, parts);
    assert!(matches!(told.kind(), Kind::Bug | Kind::Invalid), "{told}");
    told
}

#[tokio::test]
async fn two_consumers_of_one_name_are_both_named_by_their_types() {
    let both = |kind: &str| {
        [format!("{kind}<"), "::One>".into(), "::Other>".into(), "another NAME".into()]
    };
    let check = async |kind: &str, add: fn(Runtime, &Store) -> Runtime| {
        let parts = both(kind);
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let told = refused(add, &parts).await;
        assert!(matches!(told, StartError::NameTaken { .. }), "{told}");
    };
    check("Hears", |runtime, _| runtime.process::<Hears<One>>().process::<Hears<Other>>()).await;
    check("Takes", |runtime, _| runtime.inbox::<Takes<One>>().inbox::<Takes<Other>>()).await;
    check("Comes", |runtime, _| runtime.recurring(comes::<One>()).recurring(comes::<Other>()))
        .await;
    check("Hears", |runtime, _| runtime.process::<Hears<One>>().recurring(comes::<Other>())).await;
    check("Acts", |runtime, _| runtime.effect(acts::<One>()).process::<Hears<Other>>()).await;
    check("Rows", |runtime, _| {
        runtime.project(rows::<One>(), Memory::new()).project(rows::<Other>(), Memory::new())
    })
    .await;
    check("Rows", |runtime, store| {
        let [one, other] = [Outbox::new(store, Nowhere), Outbox::new(store, Nowhere)];
        runtime.project(rows::<One>(), one).project(rows::<Other>(), other)
    })
    .await;
    let twice = refused(
        |runtime, _| runtime.effect(acts::<One>()).effect(acts::<OtherIntent>()),
        &["another NAME"],
    );
    says(twice.await, &["Acts<", "::One>", "::OtherIntent>"]);
    refused(
        |runtime, _| runtime.scheduled::<Counter>().scheduled::<Counter>(),
        &["till::Counter>", "registered twice", "scheduled:counter", "register it once"],
    )
    .await;
}

#[tokio::test]
async fn two_effects_of_one_intent_are_both_named_by_their_types() {
    struct Renamed;
    impl Flaw for Renamed {
        const NAME: &'static str = "renamed";
    }
    let parts = ["::One>", "::Renamed>", "counter.Opened", "another INTENT"];
    refused(|runtime, _| runtime.effect(acts::<One>()).effect(acts::<Renamed>()), &parts).await;
}

#[tokio::test]
async fn a_name_that_is_none_is_told_with_its_type_and_its_constant() {
    let dashed = ["::Dashed>", "NAME", "same-name"];
    refused(|runtime, _| runtime.process::<Hears<Dashed>>(), &dashed).await;
    refused(|runtime, _| runtime.project(rows::<Dashed>(), Memory::new()), &dashed).await;
    let long = ["::Long>", "NAME", "xxxxx"];
    refused(|runtime, _| runtime.process::<Hears<Long>>(), &long).await;
    refused(|runtime, _| runtime.effect(acts::<Long>()), &long).await;
    refused(|runtime, _| runtime.project(rows::<Long>(), Memory::new()), &long).await;
    refused(|runtime, store| runtime.project(rows::<Long>(), Outbox::new(store, Nowhere)), &long)
        .await;
    refused(|runtime, _| runtime.recurring(comes::<Long>()), &long).await;
    let nameless = ["::Nameless>", "NAME", "\"\""];
    refused(|runtime, _| runtime.process::<Hears<Nameless>>(), &nameless).await;
    refused(|runtime, _| runtime.effect(acts::<Nameless>()), &nameless).await;
    refused(|runtime, _| runtime.project(rows::<Nameless>(), Memory::new()), &nameless).await;
    refused(|runtime, _| runtime.recurring(comes::<Nameless>()), &nameless).await;
}

#[tokio::test]
async fn an_intent_that_its_target_does_not_record_is_told_with_those_that_it_does() {
    let parts = ["::NoSuchIntent>", "INTENT", "counter.Opend", "counter.Opened", "counter.Counted"];
    refused(|runtime, _| runtime.effect(acts::<NoSuchIntent>()), &parts).await;
}

#[tokio::test]
async fn code_that_panics_at_the_start_is_named_by_its_type() {
    let parts = ["::Panics>", "panicked", "mend its code", "it cannot begin"];
    refused(|runtime, _| runtime.process::<Hears<Panics>>(), &parts).await;
    refused(|runtime, _| runtime.effect(acts::<Panics>()), &parts).await;
    refused(|runtime, _| runtime.project(rows::<Panics>(), Memory::new()), &parts).await;
    refused(|runtime, _| runtime.recurring(comes::<Panics>()), &parts).await;
}

#[tokio::test]
async fn a_rebuild_of_what_is_not_registered_says_what_to_register() {
    let parts = ["\"nothing\"", "Runtime::rebuild", "NAME of a projection", "Runtime::project"];
    refused(|runtime, _| runtime.rebuild("nothing"), &parts).await;
}
