//! Records of operators' requests: `$operator.…` events, a stream for each request.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ListedItem, OperatorAction};
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
    /// A runtime lists what is parked.
    Listed { runtime: String, items: Vec<ListedItem>, has_more: bool },
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
            | OperatorEvent::Listed { .. }
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

/// Error of a request into which the user of a server cannot be written.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the data of a request is no JSON object, ask as OperatorRequests does")]
pub struct UnstampedRequest;

/// Writes the user of a server into the requests that an append asks for or takes back, so that
/// nobody can ask in the name of somebody else. Other events stay as they are, and those of a copy
/// by a user who may copy the names of others.
///
/// # Errors
/// [`UnstampedRequest`] if the data is no JSON object: a struct is read from an array too.
#[doc(hidden)]
pub fn stamp(
    append: &mut Append,
    caller: &str,
    may_copy: impl FnOnce() -> bool,
) -> Result<(), UnstampedRequest> {
    // Of an application, such events are refused.
    let is_untouched = append.authority == Authority::APPLICATION
        || (append.authority == Authority::COPY && may_copy());
    if is_untouched {
        return Ok(());
    }
    for event in &mut append.events {
        // The answers of runtimes name the runtime.
        if !["$operator.Asked", "$operator.Withdrawn"].contains(&event.event_type.as_str()) {
            continue;
        }
        let Ok(mut fields) = serde_json::from_slice::<Map<String, Value>>(&event.data) else {
            return Err(UnstampedRequest);
        };
        fields.insert("caller".to_owned(), caller.into());
        event.data = Value::from(fields).to_string().into();
    }
    Ok(())
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
        let asked = match event {
            OperatorEvent::Asked(asked) => asked,
            OperatorEvent::Listed { items, .. } => {
                return items.iter_mut().for_each(|item| moved(&mut item.place.position));
            }
            _ => return,
        };
        match &mut asked.action {
            OperatorAction::Retry { parked, .. } | OperatorAction::Skip { parked, .. } => {
                parked.position.iter_mut().for_each(moved);
            }
            OperatorAction::Conclude { effect: EffectId(at), .. }
            | OperatorAction::Cancel { effect: EffectId(at) } => moved(at),
            OperatorAction::List { after, .. } => {
                after.iter_mut().for_each(|after| moved(&mut after.position));
            }
        }
    })
    .map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fold::{Schema, Unknown};
    use crate::runtime::operator::{ListedPlace, ParkedChoice};
    use crate::store::{EventId, StreamName, Timestamp};

    /// Positions of a copy that has one event less.
    struct OneLess;

    impl Positions for OneLess {
        fn event(&self, position: Position) -> Option<Position> {
            Some(Position(position.0 - 1))
        }

        fn through(&self, position: Position) -> Position {
            Position(position.0 - 1)
        }
    }

    fn item() -> ListedItem {
        let place = ListedPlace { consumer: "views".to_owned(), position: Position(7) };
        ListedItem { place, key: "k".to_owned(), stream: String::new(), error: None }
    }

    fn records() -> Vec<NewEvent> {
        let parked = ParkedChoice { position: Some(Position(7)), ..ParkedChoice::default() };
        let action = OperatorAction::Skip { consumer: "views".to_owned(), parked };
        let text = |text: &str| text.to_owned();
        let (by, reason) = (text("ann"), text("a test"));
        let asked = AskedRecord { action, by, reason, runtime: None, caller: None };
        let events = [
            OperatorEvent::Asked(asked),
            OperatorEvent::Done { runtime: text("east"), number: 1, failing: Vec::new() },
            OperatorEvent::Refused { runtime: text("east"), reason: text("no") },
            OperatorEvent::Listed { runtime: text("east"), items: vec![item()], has_more: false },
            OperatorEvent::Withdrawn { by: text("ann"), reason: text("no"), caller: None },
        ];
        let schema = Schema::of::<OperatorEvent>().unwrap();
        let stream = StreamName::new("$operator-1").unwrap();
        events.map(|event| schema.encode(&event).unwrap().in_stream(stream.clone())).into()
    }

    /// The answer of a runtime had the user of the server in it, and a copy refused it then.
    #[test]
    fn a_server_names_its_user_in_what_people_ask_and_every_record_goes_over_in_a_copy() {
        let stamped = |authority, may_copy| {
            let mut append = Append { authority, ..Append::of(records()) };
            stamp(&mut append, "eve", || may_copy).unwrap();
            append
        };
        for (authority, may_copy) in [(Authority::APPLICATION, false), (Authority::COPY, true)] {
            assert_eq!(stamped(authority, may_copy).events, records(), "{authority:?}");
        }
        let named = |event: &NewEvent| String::from_utf8_lossy(&event.data).contains("eve");
        for (authority, may_copy) in [(Authority::RUNTIME, true), (Authority::COPY, false)] {
            let append = stamped(authority, may_copy);
            let all: Vec<bool> = append.events.iter().map(named).collect();
            assert_eq!(all, [true, false, false, false, true], "{authority:?}");
        }
        let append = stamped(Authority::RUNTIME, false);
        let schema = Schema::of::<OperatorEvent>().unwrap();
        for (number, new) in append.events.into_iter().enumerate() {
            let (at, id) = (Timestamp::from_micros(1), EventId(uuid::Uuid::nil()));
            let recorded = RecordedEvent::of(new, Position(9), at, None, id);
            let copied = rewrite(&recorded, &OneLess).unwrap().unwrap();
            let copied = RecordedEvent::of(copied, Position(8), at, None, id);
            let event = schema.decode::<OperatorEvent>(&copied, Unknown::Refuse).unwrap().remove(0);
            if let OperatorEvent::Listed { items, .. } = &event {
                assert_eq!(items[0].place.position, Position(6));
            }
            if let OperatorEvent::Asked(asked) = event {
                assert_eq!(asked.author(), "ann (eve)");
                let OperatorAction::Skip { parked, .. } = asked.action else { panic!("{number}") };
                assert_eq!(parked.position, Some(Position(6)));
            }
        }
    }
}
