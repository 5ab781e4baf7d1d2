//! The model: everything a user writes is a fold with one more verb.
//!
//! 1. `event` is what users write of their events, and `upcast` of their old ones. `declaration` is
//!    what an enum of events says of the types that it owns, and `owner` tells who owns a type.
//!    `schema` writes and reads such an enum by its variants (`codec`). `error` says what cannot be
//!    written or read.
//! 2. `aggregate` is what users write of the fold of a stream. `aggregates` loads it, from what
//!    `cache` has or from a `snapshot`. `execute` is what a caller asks of it, decides, appends,
//!    and decides again if others were faster. `history` shows the events of the stream.
//! 3. `decision` does the same over the events that a query finds, and answers with `decided`;
//!    `boundary` lets decisions queue that got into each other's way.
//! 4. `command` has what both have in common: ids, causes, answers and errors. `answered` reads
//!    what was recorded for a command before. `metadata` is what callers add to events.
//! 5. `facts` records without deciding, `follow` reads live, and `unheard` warns of types that
//!    nobody records. `kind` says what each error means to a caller.

mod aggregate;
mod aggregates;
mod answered;
mod boundary;
mod cache;
mod codec;
mod command;
mod decided;
mod decision;
mod declaration;
mod error;
mod event;
mod execute;
mod facts;
mod follow;
mod history;
mod kind;
pub(crate) mod metadata;
mod owner;
mod schema;
mod snapshot;
mod unheard;
mod upcast;

pub use aggregate::{Aggregate, SnapshotPolicy};
pub use aggregates::{Aggregates, Moment};
pub use cache::Folded;
pub use command::{
    ATTEMPTS_MAX, Answer, Cause, DECISION_EVENTS_MAX, ExecuteError, Executed, Identified,
    STALE_EVENTS_MAX,
};
pub use decided::Decided;
pub use decision::{Decision, DecisionCommand};
pub use error::{EventError, MetadataError};
pub use event::{Event, Recorded, Unknown};
pub use execute::Command;
pub use facts::{Facts, FactsRecorded, RecordError};
pub use follow::Following;
pub use history::{History, LoadError};
pub use owner::Owners;
pub use schema::Schema;
pub use upcast::{Upcast, Upcasters};

pub(crate) use answered::events_of;
pub(crate) use command::{Alongside, AlongsideError, KeptAnswer, Origin, RequestAnswer};
pub(crate) use schema::Purpose;
pub(crate) use unheard::UnheardTypes;
