//! Events at which a fold panics: they are refused before they are written.

use leftfold_core::fold::{
    Aggregate, Decided, Decision, Event, EventError, ExecuteError, Executed,
};
use leftfold_core::store::{Append, Backend, Outcome, Position, Query, Store, Version};
use serde::{Deserialize, Serialize};

use crate::probe::{Probe, now};
use crate::purse::raw;

/// An aggregate whose fold does not bear one of the events that it decides on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Fragile {
    left: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Step {
    Added { many: u32 },
    Taken { many: u32 },
}

impl Event for Step {
    const NAMESPACE: &'static str = "step";
}

impl Aggregate for Fragile {
    const CATEGORY: &'static str = "fragile";
    type Event = Step;
    type Command = Step;
    type Refusal = std::convert::Infallible;

    fn apply(&mut self, event: &Step) {
        match event {
            Step::Added { many } => self.left += many,
            Step::Taken { many } => {
                self.left = self.left.checked_sub(*many).expect("so many are left")
            }
        }
    }

    fn decide(&self, command: &Step) -> Result<Vec<Step>, std::convert::Infallible> {
        Ok(vec![command.clone()])
    }
}

/// Such an event was recorded, and then every load of the aggregate panicked.
#[tokio::test]
async fn an_event_at_which_apply_panics_is_refused_before_it_is_written() {
    let store = Store::memory();
    let fragile = store.aggregate::<Fragile>();
    fragile.execute("1", Step::Added { many: 2 }).await.unwrap();
    let single = fragile.execute("1", Step::Taken { many: 3 }).await;
    let several = vec![Step::Taken { many: 2 }, Step::Taken { many: 1 }, Step::Added { many: 9 }];
    for answer in [single, fragile.commands("1", several).execute().await] {
        let Err(ExecuteError::Event(EventError::Apply { name, event_type, detail })) = answer
        else {
            panic!("{answer:?}");
        };
        assert!(
            name.ends_with("Fragile")
                && &*event_type == "step.Taken"
                && detail == "so many are left"
        );
    }
    assert_eq!(store.head().position, Position(1));
    assert_eq!(fragile.execute("1", Step::Taken { many: 2 }).await.unwrap().version, Version(2));
}

/// Takes coins from a box that several may take from; anyone who takes more than are left cannot be
/// folded.
struct Rush {
    takes: u32,
}

impl Decision for Rush {
    type Event = Step;
    type State = Fragile;
    type Refusal = std::convert::Infallible;

    fn query(&self) -> Query {
        Query::category("rush")
    }

    fn apply(&self, state: &mut Fragile, event: &Step) {
        Aggregate::apply(state, event);
    }

    fn decide(&self, _: &Fragile) -> Result<Decided<Step>, std::convert::Infallible> {
        let taken = Step::Taken { many: self.takes };
        // What the query does not find is not the decision's to fold.
        Ok(Decided::event("rush-1", taken.clone()).and("elsewhere-1", Step::Taken { many: 1_000 }))
    }
}

/// Such an event was recorded, and no decision with the same boundary could be made any more.
#[tokio::test]
async fn an_event_at_which_a_decision_itself_panics_is_refused_also_after_others_were_faster() {
    let probe = Probe::default();
    let store = probe.store();
    store.facts("rush", "1", &[Step::Added { many: 3 }]).record().await.unwrap();
    let told = |answer: Result<Executed<Step>, ExecuteError<std::convert::Infallible>>| {
        let Err(ExecuteError::Event(EventError::Apply { name, event_type, detail })) = answer
        else {
            panic!("{answer:?}")
        };
        assert!(
            name.ends_with("Rush") && &*event_type == "step.Taken" && detail == "so many are left"
        );
    };
    told(store.decide(&Rush { takes: 4 }).await);
    assert_eq!(store.head().position, Position(1));
    let before_next = |event: &'static str, data: &'static str| {
        probe.rival(move |memory| {
            let append = Append::of(vec![raw("rush-1", event, 1, data)]);
            assert!(matches!(now(memory.append(append)), Ok(Outcome::Appended(_))));
        });
    };
    // On what a rival leaves, two are too many.
    before_next("step.Taken", r#"{"many":2}"#);
    told(store.decide(&Rush { takes: 2 }).await);
    assert_eq!(store.head().position, Position(2));
    // What was tried out is not decided on: one is left.
    before_next("step.Added", r#"{"many":0}"#);
    assert_eq!(store.decide(&Rush { takes: 1 }).await.unwrap().events.len(), 2);
    told(store.decide(&Rush { takes: 1 }).await);
}
