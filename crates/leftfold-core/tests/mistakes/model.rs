//! Mistakes in aggregates, decisions, views and names.

use leftfold_core::fold::{Aggregate, Decided, Decision};
use leftfold_core::runtime::{CronField, Plan};
use leftfold_core::store::{Kind, Position, Query, Store, Version};
use serde::{Deserialize, Serialize};

use crate::till::{Counter, CounterEvent, Misspelled, Never, OwnerlessView, opened};
use crate::{at_once, error, says};

#[tokio::test]
async fn writing_through_a_view_without_an_owner_names_the_view_the_type_and_owners() {
    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    struct Peek;
    impl Aggregate for Peek {
        const CATEGORY: &'static str = "peek";
        type Event = OwnerlessView;
        type Command = ();
        type Refusal = Never;
        fn apply(&mut self, _: &OwnerlessView) {}
        fn decide(&self, (): &()) -> Result<Vec<OwnerlessView>, Never> {
            Ok(vec![OwnerlessView::Opened { by: "eve".to_owned() }])
        }
    }
    let store = Store::memory();
    let told = error(at_once("the command", store.aggregate::<Peek>().execute("1", ())).await);
    says(&told, &["OwnerlessView", "counter.Opened", "owners()"]);
    assert_eq!((told.kind(), store.head().position), (Kind::Bug, Position::START));
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Bottomless;

impl Default for Bottomless {
    fn default() -> Self {
        panic!("there is no bottom")
    }
}

impl Aggregate for Bottomless {
    const CATEGORY: &'static str = "bottomless";
    type Event = CounterEvent;
    type Command = ();
    type Refusal = Never;

    fn apply(&mut self, _: &CounterEvent) {}

    fn decide(&self, (): &()) -> Result<Vec<CounterEvent>, Never> {
        Ok(vec![opened()])
    }
}

#[tokio::test]
async fn a_state_whose_default_panics_is_named_with_the_panic() {
    struct Deep;
    impl Decision for Deep {
        type Event = CounterEvent;
        type State = Bottomless;
        type Refusal = Never;
        fn query(&self) -> Query {
            Query::category("counter")
        }
        fn apply(&self, _: &mut Bottomless, _: &CounterEvent) {}
        fn decide(&self, _: &Bottomless) -> Result<Decided<CounterEvent>, Never> {
            Ok(Decided::nothing())
        }
    }
    let store = Store::memory();
    let wanted = ["default", "Bottomless", "fix it", "there is no bottom"];
    says(
        error(at_once("the command", store.aggregate::<Bottomless>().execute("1", ())).await),
        &wanted,
    );
    says(error(at_once("the load", store.aggregate::<Bottomless>().load("1")).await), &wanted);
    says(
        error(at_once("the decision", store.decide(&Deep)).await),
        &["default", "fix it", "there is no bottom"],
    );
}

#[tokio::test]
async fn names_that_are_none_are_told_with_what_they_are_and_what_is_allowed() {
    #[derive(Clone, Debug, Default, Serialize, Deserialize)]
    struct Dashed;
    impl Aggregate for Dashed {
        const CATEGORY: &'static str = "till-desk";
        type Event = CounterEvent;
        type Command = CounterEvent;
        type Refusal = Never;
        fn apply(&mut self, _: &CounterEvent) {}
        fn decide(&self, event: &CounterEvent) -> Result<Vec<CounterEvent>, Never> {
            Ok(vec![event.clone()])
        }
    }
    let store = Store::memory();
    let dashed =
        error(at_once("the command", store.aggregate::<Dashed>().execute("1", opened())).await);
    says(&dashed, &["till-desk", "category", "without '-'"]);
    let counters = store.aggregate::<Counter>();
    let empty = error(at_once("the command", counters.execute("", opened())).await);
    says(&empty, &["an aggregate's id", "may not be empty"]);
    let long = error(at_once("the command", counters.execute(&"x".repeat(500), opened())).await);
    says(&long, &["440", "500"]);
    assert_eq!([dashed.kind(), empty.kind(), long.kind()], [Kind::Invalid; 3]);
    // What has a slash, a dash or a space in it is an id like others.
    for id in ["a/b", "a-b", "a b", "ä", "..", "%2f"] {
        at_once("the command", counters.execute(id, opened())).await.unwrap();
        assert_eq!(
            at_once("the load", counters.load(id)).await.unwrap().version,
            Version(1),
            "{id}"
        );
    }
}

#[tokio::test]
async fn an_expectation_that_does_not_hold_says_what_is_there() {
    let store = Store::memory();
    let counters = store.aggregate::<Counter>();
    at_once("the command", counters.execute("1", opened())).await.unwrap();
    for expected in [Version(7), Version::ABSENT] {
        let command = counters.command("1", opened()).expecting(expected);
        let told = error(at_once("the command", command.execute()).await);
        says(&told, &[&format!("version {}", expected.0), "has 1", "look at what came since"]);
        assert_eq!(told.kind(), Kind::Conflict, "{told}");
    }
}

#[tokio::test]
async fn following_types_that_nobody_records_names_them() {
    let store = Store::memory();
    at_once("the command", store.aggregate::<Counter>().execute("1", opened())).await.unwrap();
    let following = store.follow::<Misspelled>(Position::START).unwrap();
    says(
        format!("{:?}", at_once("the question", following.unheard_types()).await.unwrap()),
        &["counter.Opend"],
    );
}

#[test]
fn a_cron_expression_that_is_wrong_names_its_field_and_what_to_write() {
    let told = error(Plan::cron("0 25 * * *"));
    says(&told, &["hour", "\"25\"", "write 0 to 23"]);
    assert_eq!((CronField::Hour.allowed(), told.kind()), (0..=23, Kind::Invalid));
    says(
        error(Plan::cron_in("0 8 * * *", "Europe/Atlantis")),
        &["Europe/Atlantis", "write a name such as"],
    );
}
