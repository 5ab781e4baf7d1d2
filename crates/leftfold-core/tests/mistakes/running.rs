//! Mistakes that show only while a runtime runs.

use std::time::Duration;

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::process::{
    Context, Correlation, Process, Reaction, Targets, Trigger, Whose,
};
use leftfold_core::runtime::projection::{Memory, Projection, ProjectionError};
use leftfold_core::runtime::{Attempt, Conclusion, Effect, Performed, Policy, RunningRuntime};
use leftfold_core::store::{Kind, Position};

use crate::consumers::{Hears, One, Other};
use crate::runtime_stage::{Stage, quiet, until};
use crate::till::{Counter, CounterEvent, Misspelled, opened};
use crate::{at_once, error, says};

struct Seen;

impl Projection<Memory<u32>> for Seen {
    const NAME: &'static str = "seen";
    type Event = CounterEvent;

    async fn apply(
        &self,
        seen: &mut u32,
        _: &Recorded<CounterEvent>,
    ) -> Result<(), ProjectionError> {
        *seen += 1;
        Ok(())
    }
}

/// The text of the first status that has one.
async fn waits_for(runtime: &RunningRuntime, part: &str) -> String {
    let told = || {
        runtime.status().into_iter().map(|status| status.waits_for).find(|text| text.contains(part))
    };
    until(&format!("somebody waits for {part:?}"), async || told().is_some()).await;
    told().unwrap_or_default()
}

#[tokio::test]
async fn two_types_of_one_name_in_two_runtimes_are_told_by_whoever_waits() {
    let stage = Stage::new();
    let (first, second) = (stage.process(), stage.process());
    let runs = first.runtime().process::<Hears<One>>().start().await.unwrap();
    // It has the work before there is another one.
    quiet().await;
    let waits = second.runtime().process::<Hears<Other>>().start().await.unwrap();
    let told = waits_for(&waits, "held by").await;
    says(told, &["the lease", "::One>", "::Other>", "$process:same", "another NAME"]);
    assert!(waits.status()[0].standby);
    at_once("the stop", waits.stop()).await.unwrap();
    at_once("the stop", runs.stop()).await.unwrap();
}

#[tokio::test]
async fn of_two_runtimes_of_one_program_the_second_says_for_whom_it_waits() {
    let stage = Stage::new();
    let (first, second) = (stage.process(), stage.process());
    let runs = first.runtime().process::<Hears<One>>().start().await.unwrap();
    // It has the work before there is another one.
    quiet().await;
    let waits = second.runtime().process::<Hears<One>>().start().await.unwrap();
    says(
        waits_for(&waits, "held by").await,
        &["the lease", "another runtime of this program", "until"],
    );
    at_once("the stop", runs.stop()).await.unwrap();
    at_once("the stop", waits.stop()).await.unwrap();
    // A holder that this program does not know is another one's.
    let lease = stage.holder_takes("$process:same");
    let third = stage.process();
    let runtime = third.runtime().process::<Hears<One>>().start().await.unwrap();
    says(waits_for(&runtime, "held by").await, &["the lease", "another program"]);
    stage.gives_back(lease);
    at_once("the stop", runtime.stop()).await.unwrap();
}

#[tokio::test]
async fn asking_for_what_is_not_registered_is_an_error_at_once() {
    let process = Stage::new().process();
    let runtime = process
        .runtime()
        .project(Seen, Memory::new())
        .process::<Hears<One>>()
        .start()
        .await
        .unwrap();
    let long = Duration::from_secs(3_600);
    let waited =
        at_once("the wait", runtime.projections().wait_until("sene", Position(1), long)).await;
    let told = error(waited);
    says(&told, &["sene", "Runtime::project", "NAME"]);
    assert_eq!(told.kind(), Kind::NotFound);
    let retried =
        at_once("the retry", runtime.processes().retry("sane", &Whose::Instance("1".into()))).await;
    says(error(retried), &["sane", "Runtime::process", "NAME"]);
    at_once("the stop", runtime.stop()).await.unwrap();
}

#[tokio::test]
async fn a_command_for_an_aggregate_that_is_no_target_says_to_name_it() {
    let process = Stage::new().process();
    let runtime = process.runtime().process::<Hears<One>>().start().await.unwrap();
    process.store.aggregate::<Counter>().execute("1", opened()).await.unwrap();
    let parked = async || runtime.processes().parked("same").await.unwrap();
    until("it is parked", async || !parked().await.is_empty()).await;
    let told = parked().await.remove(0).error.unwrap_or_default();
    says(told, &["counter", "name it in targets()"]);
    says(waits_for(&runtime, "instance 1").await, &["waits for a person"]);
    at_once("the stop", runtime.stop()).await.unwrap();
}

/// Place where the code of a process below panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum In {
    Default,
    Correlate,
    Apply,
    React,
}

/// Panics in one of its functions, for the event that counts the number of it.
struct Crumbles<const AT: u8>;

impl<const AT: u8> Crumbles<AT> {
    const PLACE: In = match AT {
        0 => In::Default,
        1 => In::Correlate,
        2 => In::Apply,
        _ => In::React,
    };

    fn at(place: In) {
        assert!(place != Self::PLACE, "it crumbled");
    }
}

impl<const AT: u8> Default for Crumbles<AT> {
    fn default() -> Self {
        Self::at(In::Default);
        Self
    }
}

impl<const AT: u8> Process for Crumbles<AT> {
    const NAME: &'static str = "crumbles";
    type Event = CounterEvent;

    fn targets() -> Targets {
        Targets::none()
    }

    fn correlate(event: &Recorded<CounterEvent>) -> Correlation {
        Self::at(In::Correlate);
        Correlation::starts(event.stream_id())
    }

    fn apply(&mut self, _: &Trigger<CounterEvent>, _: &Context) {
        Self::at(In::Apply);
    }

    fn react(&self, _: &Trigger<CounterEvent>, _: &Context) -> Reaction {
        Self::at(In::React);
        Reaction::none()
    }
}

async fn crumbles<const AT: u8>(place: &str) {
    let process = Stage::new().process();
    let runtime = process.runtime().process::<Crumbles<AT>>().start().await.unwrap();
    process.store.aggregate::<Counter>().execute("1", opened()).await.unwrap();
    let parked = async || runtime.processes().parked("crumbles").await.unwrap();
    until("it is parked", async || !parked().await.is_empty()).await;
    let told = parked().await.remove(0).error.unwrap_or_default();
    says(told, &[place, "running::Crumbles<", "fix it", "it crumbled"]);
    at_once("the stop", runtime.stop()).await.unwrap();
}

#[tokio::test]
async fn a_process_whose_code_panics_parks_its_trigger_with_the_type_and_the_place() {
    crumbles::<0>("default of").await;
    crumbles::<1>("correlate of").await;
    crumbles::<2>("apply of").await;
    crumbles::<3>("react of").await;
}

/// Reads a type that nobody records.
struct Deaf;

impl Projection<Memory<u32>> for Deaf {
    const NAME: &'static str = "deaf";
    type Event = Misspelled;

    async fn apply(&self, _: &mut u32, _: &Recorded<Misspelled>) -> Result<(), ProjectionError> {
        Ok(())
    }
}

/// Is asked for by an intent that its target declares and nobody records.
struct Idle;

impl Effect for Idle {
    const NAME: &'static str = "idle";
    const INTENT: &'static str = "counter.Opend";
    type Target = Wrong;
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

#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
struct Wrong;

impl leftfold_core::fold::Aggregate for Wrong {
    const CATEGORY: &'static str = "wrong";
    type Event = Misspelled;
    type Command = ();
    type Refusal = crate::till::Never;

    fn apply(&mut self, _: &Misspelled) {}

    fn decide(&self, (): &()) -> Result<Vec<Misspelled>, crate::till::Never> {
        Ok(Vec::new())
    }
}

#[tokio::test]
async fn types_that_nobody_records_are_named_in_the_status_of_who_waits_for_them() {
    let process = Stage::new().process();
    process.store.aggregate::<Counter>().execute("1", opened()).await.unwrap();
    let runtime =
        process.runtime().project(Deaf, Memory::new()).effect(Idle).start().await.unwrap();
    let says_so = |waits_for: &str| {
        waits_for.contains("nothing was ever recorded of") && waits_for.contains("counter.Opend")
    };
    until("both say so", async || runtime.status().iter().all(|status| says_so(&status.waits_for)))
        .await;
    for status in runtime.status() {
        says(format!("{:?}", status.unheard_types), &["counter.Opend"]);
    }
    at_once("the stop", runtime.stop()).await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_closed_under_a_runtime_ends_its_work_and_hangs_nobody() {
    let process = Stage::new().process();
    let runtime = process.runtime().project(Seen, Memory::new()).process::<Hears<One>>();
    let runtime = runtime.recurring(Hourly).scheduled::<Counter>().start().await.unwrap();
    at_once("closing", process.store.close()).await.unwrap();
    let told = error(
        at_once("the command", process.store.aggregate::<Counter>().execute("1", opened())).await,
    );
    says(&told, &["closed", "open it again"]);
    let projections = runtime.projections();
    let waited = projections.wait_until("seen", Position(1), Duration::from_millis(50));
    says(error(at_once("the wait", waited).await), &["seen", "it waits for"]);
    let scheduled = process.store.scheduled::<Counter>("one");
    let command = opened();
    let sent = scheduled.send("1", &command, leftfold_core::store::Timestamp::MIN);
    says(error(at_once("scheduling", sent).await), &["closed"]);
    at_once("the stop", runtime.stop()).await.unwrap();
}

struct Hourly;

impl leftfold_core::runtime::Recurring for Hourly {
    const NAME: &'static str = "hourly";
    type Target = Counter;

    fn plan(&self) -> leftfold_core::runtime::Plan {
        leftfold_core::runtime::Plan::every(Duration::from_secs(3_600))
    }

    fn due(&self, _: leftfold_core::store::Timestamp) -> (String, CounterEvent) {
        ("1".to_owned(), opened())
    }
}
