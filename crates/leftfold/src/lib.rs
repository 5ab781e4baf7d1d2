#![doc = include_str!("../../../README.md")]
//!
//! # The crate
//!
//! [`open`] a store; [`prelude`] has what most programs need. The rooms behind it: [`fold`] (events, aggregates,
//! decisions), [`runtime`] (effects, processes, projections), [`store`] (the contract, queries, subscriptions), [`personal`]
//! (data of people, which can be forgotten), [`copy`] (a store into a new one, through a function), [`testing`], and [`log`] (the embedded engine). By the features `sqlite`, `postgres`
//! and `redis` there are modules of these names, with the database as a place for read models. The feature `opentelemetry` has the spans of `tracing`
//! continue the traces of their callers behind the log.

mod file_url;
mod open;

pub use file_url::FileUrlError;
pub use leftfold_core::{copy, fold, personal, runtime, store};
#[cfg(feature = "log")]
pub use leftfold_log as log;
#[cfg(feature = "postgres")]
pub use leftfold_postgres as postgres;
#[cfg(feature = "redis")]
pub use leftfold_redis as redis;
#[cfg(feature = "sqlite")]
pub use leftfold_sqlite as sqlite;
#[cfg(feature = "testing")]
pub use leftfold_testing as testing;
pub use open::{OpenError, open};
#[cfg(feature = "log")]
pub use open::{OpenKeysError, open_keys};

/// What most programs need.
pub mod prelude {
    pub use leftfold_core::fold::{
        Aggregate, Aggregates, Answer, Cause, Decided, Decision, Event, ExecuteError, Executed, Folded, LoadError, MetadataError,
        Moment, Owners, Recorded, SnapshotPolicy, Unknown, Upcasters,
    };
    pub use leftfold_core::runtime::inbox::{Delivery, Inbox, OverGap, Receipt, ReceiveError};
    pub use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Refused, Targets, Trigger};
    pub use leftfold_core::runtime::projection::{Projection, ProjectionError};
    pub use leftfold_core::runtime::{
        Attempt, Conclusion, Effect, EffectId, Missed, Performed, Plan, Policy, Recurring, Runtime,
    };
    pub use leftfold_core::store::{
        Expected, Invalid, Kind, Mismatch, Position, Query, Store, StreamName, Tags, Timestamp, Version,
    };
}
