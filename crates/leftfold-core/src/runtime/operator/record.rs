//! Records of operators' requests: `$operator.…` events, a stream for each request.

use serde::{Deserialize, Serialize};

use super::OperatorAction;
use crate::fold::{Aggregate, Event};
use crate::runtime::effect::EffectId;
use crate::runtime::positions::{self, Owner, Positions, RewriteError, no_label};
use crate::store::{Append, Authority, NewEvent, Position, RecordedEvent};

/// Fact about a request, in the stream `$operator-ID`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum OperatorEvent {
    /// A person asks.
    Asked(AskedRecord),
    /// A runtime carried it out.
    Done {
        runtime: String,
        number: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        failing: Vec<String>,
    },
    /// A runtime found that it cannot be carried out.
    Refused { runtime: String, reason: String },
    /// A person took it back.
    Withdrawn {
        by: String,
        reason: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        caller: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct AskedRecord {
    pub(super) action: OperatorAction,
    pub(super) by: String,
    pub(super) reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) runtime: Option<String>,
    /// User of the server that took the record, as that says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) caller: Option<String>,
}

/// One request: it is asked once, and ends once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct AskedOfRuntime {
    is_asked: bool,
    has_ended: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum RequestCommand {
    Ask(AskedRecord),
    /// To record how a runtime has answered.
    Answer(OperatorEvent),
    Withdraw {
        by: String,
        reason: String,
    },
}

/// Reason why a step of a request is not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RequestRefusal {
    #[error("there is no such request")]
    Unknown,
    #[error("the request has ended")]
    Ended,
}

impl Event for OperatorEvent {
    const NAMESPACE: &'static str = "$operator";
}

impl Aggregate for AskedOfRuntime {
    const CATEGORY: &'static str = OperatorEvent::NAMESPACE;
    type Event = OperatorEvent;
    type Command = RequestCommand;
    type Refusal = RequestRefusal;

    fn authority() -> Authority {
        Authority::RUNTIME
    }

    fn apply(&mut self, event: &OperatorEvent) {
        match event {
            OperatorEvent::Asked(_) => self.is_asked = true,
            OperatorEvent::Done { .. }
            | OperatorEvent::Refused { .. }
            | OperatorEvent::Withdrawn { .. } => self.has_ended = true,
        }
    }

    /// The first of several runtimes records its answer; the answers of the others are dropped.
    fn decide(&self, step: &RequestCommand) -> Result<Vec<OperatorEvent>, RequestRefusal> {
        match step {
            RequestCommand::Ask(asked) => Ok(vec![OperatorEvent::Asked(asked.clone())]),
            _ if !self.is_asked => Err(RequestRefusal::Unknown),
            RequestCommand::Answer(_) if self.has_ended => Ok(Vec::new()),
            RequestCommand::Answer(answer) => Ok(vec![answer.clone()]),
            RequestCommand::Withdraw { .. } if self.has_ended => Err(RequestRefusal::Ended),
            RequestCommand::Withdraw { by, reason } => Ok(vec![OperatorEvent::Withdrawn {
                by: by.clone(),
                reason: reason.clone(),
                caller: None,
            }]),
        }
    }
}

impl AskedRecord {
    /// Returns whom the runtime's own records name as the author.
    pub(super) fn author(&self) -> String {
        match &self.caller {
            Some(caller) if *caller != self.by => format!("{} ({caller})", self.by),
            _ => self.by.clone(),
        }
    }
}

/// Writes the user of a server into the requests that an append asks for or takes back, so that
/// nobody can ask in the name of somebody else. Other events stay as they are, and those of a copy.
#[doc(hidden)]
pub fn stamp(append: &mut Append, caller: &str) {
    if append.authority != Authority::RUNTIME {
        return;
    }
    for event in &mut append.events {
        if !event.event_type.starts_with("$operator.") {
            continue;
        }
        let Ok(mut known) = serde_json::from_slice::<serde_json::Value>(&event.data) else {
            continue;
        };
        if let Some(fields) = known.as_object_mut() {
            fields.insert("caller".to_owned(), caller.into());
            event.data = known.to_string().into();
        }
    }
}

/// Requests in a copy of the store: the effects and items that they speak of are elsewhere there.
pub(in crate::runtime) const OWNER: Owner =
    Owner { category: OperatorEvent::NAMESPACE, rewrite, label: no_label };

fn rewrite(
    record: &RecordedEvent,
    positions: &dyn Positions,
) -> Result<Option<NewEvent>, RewriteError> {
    let moved = |position: &mut Position| {
        *position = positions.event(*position).unwrap_or_default();
    };
    positions::changed(record, |event: &mut OperatorEvent| {
        let OperatorEvent::Asked(asked) = event else { return };
        match &mut asked.action {
            OperatorAction::Retry { parked, .. } | OperatorAction::Skip { parked, .. } => {
                parked.position.iter_mut().for_each(moved);
            }
            OperatorAction::Conclude { effect: EffectId(at), .. }
            | OperatorAction::Cancel { effect: EffectId(at) } => moved(at),
        }
    })
    .map(Some)
}
