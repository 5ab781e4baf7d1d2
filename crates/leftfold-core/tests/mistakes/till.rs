//! A till that is right, and what others get wrong about it.

use leftfold_core::fold::{Aggregate, Event};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum CounterEvent {
    Opened { by: String },
    Counted { cents: u64 },
}

impl Event for CounterEvent {
    const NAMESPACE: &'static str = "counter";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counter;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("never")]
pub(crate) struct Never;

impl Aggregate for Counter {
    const CATEGORY: &'static str = "counter";
    type Event = CounterEvent;
    type Command = CounterEvent;
    type Refusal = Never;

    fn apply(&mut self, _: &CounterEvent) {}

    fn decide(&self, event: &CounterEvent) -> Result<Vec<CounterEvent>, Never> {
        Ok(vec![event.clone()])
    }
}

pub(crate) fn opened() -> CounterEvent {
    CounterEvent::Opened { by: "ann".to_owned() }
}

/// A view of the counter's events that names no owner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum OwnerlessView {
    #[serde(rename = "counter.Opened")]
    Opened { by: String },
}

impl Event for OwnerlessView {
    const NAMESPACE: &'static str = "ownerless";
}

/// Types that nobody records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Misspelled {
    #[serde(rename = "counter.Opend")]
    Opened { by: String },
}

impl Event for Misspelled {
    const NAMESPACE: &'static str = "misspelled";
}
