//! The model: everything a user writes is a fold with one more verb.

mod aggregate;
mod aggregate_command;
mod boundary;
mod cache;
mod codec;
mod command;
mod decision;
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

pub use aggregate::{Aggregate, Aggregates, LoadError, Moment};
pub use aggregate_command::Command;
pub use cache::Folded;
pub use command::{
    ATTEMPTS_MAX, Answer, Cause, DECISION_EVENTS_MAX, ExecuteError, Executed, Identified,
    STALE_EVENTS_MAX,
};
pub use decision::{Decided, Decision, DecisionCommand};
pub use event::{Event, EventError, Recorded, Unknown};
pub use facts::{Facts, FactsRecorded, RecordError};
pub use follow::Following;
pub use history::History;
pub use metadata::MetadataError;
pub use owner::Owners;
pub use schema::Schema;
pub use snapshot::SnapshotPolicy;
pub use upcast::{Upcast, Upcasters};

pub(crate) use command::{Alongside, AlongsideError, KeptAnswer, Origin, Said};
pub(crate) use execute::events_of;
pub(crate) use owner::Purpose;
pub(crate) use unheard::UnheardTypes;
