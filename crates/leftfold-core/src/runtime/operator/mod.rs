//! Requests of operators: what a person asks of a running application from outside of it.
//!
//! To retry what is parked, to skip it, to list what a read model has parked in its target, to say
//! what became of an effect in doubt: each needs the code of the application. So a request is a
//! record in the store, which a runtime that has the code follows, carries out and answers, with
//! who asked, when and why. `record` has the records, `requests` is the door of whoever asks,
//! `follow` finds in a runtime what is open, and `carry` does it.

mod carry;
mod follow;
mod record;
mod requests;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(super) use follow::OperatorFollower;
pub(super) use record::OWNER;
pub use record::{UnstampedRequest, stamp};
pub use requests::{OperatorError, OperatorRequests, RequestFilter};

use super::effect::{EffectId, Verdict};
use crate::store::{Position, Timestamp};

// ANCHOR: limits
/// Bytes of a name or a reason in a request of an operator, at most.
pub const OPERATOR_TEXT_BYTES_MAX: usize = 4_096;
/// Open requests of operators that a runtime takes up at once; the others follow.
pub const OPEN_REQUESTS_MAX: usize = 1_000;
/// Parked items that one answer to an operator lists, at most.
pub const LISTED_ITEMS_MAX: usize = 50;
// ANCHOR_END: limits

/// Id of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorRequestId(Uuid);

impl OperatorRequestId {
    fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

impl fmt::Display for OperatorRequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for OperatorRequestId {
    type Err = OperatorError;

    fn from_str(text: &str) -> Result<Self, OperatorError> {
        let id = Uuid::try_parse(text).map(Self);
        id.map_err(|_| OperatorError::NotAnId { text: text.to_owned() })
    }
}

/// Request of an operator, as it is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRequest {
    /// Action that is asked for.
    pub action: OperatorAction,
    /// Name of the person.
    pub by: String,
    /// Reason, for those who read it later.
    pub reason: String,
    /// The [name](super::Runtime::named) of the runtime that is to do it; `None` for whichever
    /// does the work. A read model that is kept on each machine is another one on each.
    pub runtime: Option<String>,
}

/// Thing that an operator may ask for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OperatorAction {
    /// To try parked items again, in order, up to the first of each key that fails again.
    Retry {
        /// Name of the process, inbox, outbox or read model.
        consumer: String,
        /// The items that are meant.
        parked: ParkedChoice,
    },
    /// To let parked items go.
    Skip {
        /// Name of the process, inbox, outbox or read model.
        consumer: String,
        /// The items that are meant.
        parked: ParkedChoice,
    },
    /// To record what became of an effect in doubt.
    Conclude {
        /// The effect.
        effect: EffectId,
        /// Statement of the person.
        verdict: Verdict,
    },
    /// To want an effect no more.
    Cancel {
        /// The effect.
        effect: EffectId,
    },
    /// To list what read models and outboxes have parked in their targets: a page, which is a
    /// record of the store then. What processes and inboxes have parked is in the store.
    List {
        /// Name of the read model or outbox; `None` for all of the runtime that answers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        consumer: Option<String>,
        /// Only items after this place; `None` for the first page.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<ListedPlace>,
    },
}

/// Place of an item among those that a runtime lists: by name, and then in order of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ListedPlace {
    /// Name of the read model or outbox.
    pub consumer: String,
    /// Position of the event.
    pub position: Position,
}

/// Item that a read model or an outbox has parked, as a runtime has listed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedItem {
    /// Its place.
    pub place: ListedPlace,
    /// The key that waits with it; if the event cannot be read, its stream.
    pub key: String,
    /// The stream of the event, empty if it is in none.
    pub stream: String,
    /// Message of the failure; `None` if it waits for an earlier item.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Choice of parked items: those that everything given here is true of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ParkedChoice {
    /// Key of the instance of a process, or of rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Name of the stream of an event that cannot be read, or whose rows wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    /// Position of the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Text that the error contains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saying: Option<String>,
}

/// Request of an operator, as the store has it.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestStatus {
    /// Its id.
    pub id: OperatorRequestId,
    /// The request.
    pub request: NewRequest,
    /// User of the server who asked; `None` if it was not asked of a server that knows its users.
    pub caller: Option<String>,
    /// Position of its record.
    pub position: Position,
    /// Time at which it was asked.
    pub asked_at: Timestamp,
    /// State of it.
    pub state: RequestState,
}

/// State of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestState {
    /// No runtime has carried it out so far.
    Open,
    /// It was carried out.
    Done {
        /// Name of the runtime.
        runtime: String,
        /// Number of items or effects that it took effect on.
        number: u64,
        /// Items that failed again, and why; the first twenty.
        failing: Vec<String>,
        /// Time of the answer.
        at: Timestamp,
    },
    /// Parked items were listed.
    Listed {
        /// Name of the runtime.
        runtime: String,
        /// The items, at most [`LISTED_ITEMS_MAX`].
        items: Vec<ListedItem>,
        /// True if there are more after the last of them.
        has_more: bool,
        /// Time of the answer.
        at: Timestamp,
    },
    /// It could not be carried out.
    Refused {
        /// Name of the runtime.
        runtime: String,
        /// Reason, for people.
        reason: String,
        /// Time of the answer.
        at: Timestamp,
    },
    /// A person took it back.
    Withdrawn {
        /// Name of the person.
        by: String,
        /// Reason, for people.
        reason: String,
        /// Time of the record.
        at: Timestamp,
    },
}
