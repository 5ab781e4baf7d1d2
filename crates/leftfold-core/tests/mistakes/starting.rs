//! Starts that fail: each error names the consumer by its type and its name, and says what to do.

use std::marker::PhantomData;

use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_core::runtime::projection::{Memory, Outbox, Projection, ProjectionError};
use leftfold_core::runtime::{Plan, Recurring, Runtime, StartError};
use leftfold_core::store::{Kind, Store, Timestamp};
use serde::{Deserialize, Serialize};

use crate::consumers::{Hears, Nowhere, One, acts, rows};
use crate::runtime_stage::{Fault, Stage};
use crate::till::Never;
use crate::{at_once, error, says};

/// An enum whose variants serde does not write by their names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Inward {
    Opened {},
}

impl Event for Inward {
    const NAMESPACE: &'static str = "inward";
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Safe;

impl Aggregate for Safe {
    const CATEGORY: &'static str = "safe";
    type Event = Inward;
    type Command = ();
    type Refusal = Never;

    fn apply(&mut self, _: &Inward) {}

    fn decide(&self, (): &()) -> Result<Vec<Inward>, Never> {
        Ok(Vec::new())
    }
}

/// Reads, or makes others record, events that cannot be read.
#[derive(Default)]
struct Guards<T>(PhantomData<fn() -> T>);

#[derive(Default)]
struct Follows;
struct Commands;

impl Process for Guards<Follows> {
    const NAME: &'static str = "guards";
    type Event = Inward;

    fn targets() -> Targets {
        Targets::none()
    }

    fn correlate(_: &Recorded<Inward>) -> Correlation {
        Correlation::ignores()
    }

    fn apply(&mut self, _: &Trigger<Inward>, _: &Context) {}

    fn react(&self, _: &Trigger<Inward>, _: &Context) -> Reaction {
        Reaction::none()
    }
}

impl Recurring for Guards<Commands> {
    const NAME: &'static str = "guards";
    type Target = Safe;

    fn plan(&self) -> Plan {
        Plan::daily_at(22, 0)
    }

    fn due(&self, _: Timestamp) -> (String, ()) {
        ("1".to_owned(), ())
    }
}

impl Projection<Memory<u32>> for Guards<Follows> {
    const NAME: &'static str = "guards";
    type Event = Inward;

    async fn apply(&self, _: &mut u32, _: &Recorded<Inward>) -> Result<(), ProjectionError> {
        Ok(())
    }
}

async fn refused(runtime: Runtime, parts: &[&str]) -> StartError {
    let told = error(at_once("the start", runtime.start()).await);
    says(&told, parts);
    told
}

#[tokio::test]
async fn events_that_cannot_be_read_are_told_with_the_consumer_that_asks_for_them() {
    let runtime = || Runtime::new(&Store::memory());
    let follows =
        |runtime: Runtime| refused(runtime, &["Guards<", "Follows>", "(guards)", "Inward"]);
    follows(runtime().process::<Guards<Follows>>()).await;
    follows(runtime().project(Guards::<Follows>(PhantomData), Memory::new())).await;
    let commands = runtime().recurring(Guards::<Commands>(PhantomData));
    let told = refused(commands, &["Commands>", "(guards)", "Inward"]).await;
    assert!(matches!(told, StartError::Event { name: "guards", .. }), "{told:?}");
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_told_with_the_consumer_that_reads_it() {
    let process = Stage::new().process();
    process.faults.set(Fault::Unreadable);
    let parts = ["::One>", "(same)", "cannot read the store, start again", "the disk is gone"];
    for runtime in
        [process.runtime().process::<Hears<One>>(), process.runtime().effect(acts::<One>())]
    {
        let told = refused(runtime, &parts).await;
        assert!(matches!(told, StartError::Read { name: "same", .. }), "{told:?}");
        assert_eq!(told.kind(), Kind::Unavailable);
    }
}

#[tokio::test]
async fn a_new_effect_over_a_store_that_takes_nothing_is_told_by_its_type_and_its_name() {
    let process = Stage::new().process();
    process.faults.set(Fault::ReadOnly);
    let parts = ["Acts<", "::One>", "(same)", "start again when the store takes appends"];
    let told = refused(process.runtime().effect(acts::<One>()), &parts).await;
    assert!(matches!(told, StartError::Beginning { effect: "same", .. }), "{told:?}");
}

#[tokio::test]
async fn an_outbox_that_is_to_be_rebuilt_is_told_by_its_type_with_the_ways_out() {
    let store = Store::memory();
    let runtime = Runtime::new(&store).project(rows::<One>(), Outbox::new(&store, Nowhere));
    let parts = ["Rows<", "::One>", "(same)", "out of Runtime::rebuild", "another NAME"];
    refused(runtime.rebuild("same"), &parts).await;
}
