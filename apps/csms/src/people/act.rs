//! What is recorded of who did something.

use std::sync::Arc;

use leftfold::fold::{Command, DecisionCommand};
use leftfold::prelude::{Aggregate, Decision, Event, Store};
use leftfold::store::TraceContext;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::PeopleError;

/// Category of the streams of [`OperatorAct`].
const CATEGORY: &str = "act";

/// Act of a caller: each event that it leads to says who did it, in its metadata, and belongs to
/// the caller's trace. Everything that people change goes through one.
#[derive(Clone, Debug)]
pub(crate) struct Act {
    by: Arc<str>,
    trace: Option<TraceContext>,
}

/// Act about something that has no events of the domain: what follows it is recorded by the
/// runtime. In the stream `act-{who}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum OperatorAct {
    /// A person said what became of an effect in doubt.
    EffectResolved {
        /// Id of the effect.
        effect: String,
        /// Verdict.
        verdict: String,
    },
    /// Parked items were tried again.
    ParkedRetried {
        /// Read model or process.
        consumer: String,
        /// Key of the items.
        key: String,
    },
    /// A parked item was let go.
    ParkedSkipped {
        /// Read model or process.
        consumer: String,
        /// Position of the item.
        position: u64,
    },
}

impl Event for OperatorAct {
    const NAMESPACE: &'static str = CATEGORY;
}

impl Act {
    /// Creates an act of a caller. The name is an id, and never the name of a person.
    pub(crate) fn new(by: Arc<str>, trace: Option<TraceContext>) -> Self {
        Self { by, trace }
    }

    /// Returns the name that is recorded.
    pub(crate) fn by(&self) -> &str {
        &self.by
    }

    /// Makes a command one of this act.
    pub(crate) fn on<A: Aggregate>(&self, command: Command<A>) -> Command<A> {
        command.trace(self.trace.clone()).metadata(self.metadata())
    }

    /// Makes a decision one of this act.
    pub(crate) fn on_decision<'d, D: Decision>(
        &self,
        decision: DecisionCommand<'d, D>,
    ) -> DecisionCommand<'d, D> {
        decision.trace(self.trace.clone()).metadata(self.metadata())
    }

    /// Records the act itself.
    pub(crate) async fn record(&self, store: &Store, act: OperatorAct) -> Result<(), PeopleError> {
        let events = [act];
        let facts = store.facts(CATEGORY, &self.by, &events);
        facts.trace(self.trace.clone()).metadata(self.metadata()).record().await?;
        Ok(())
    }

    fn metadata(&self) -> String {
        json!({ "by": &*self.by }).to_string()
    }
}
