//! Leftfold: state is a left fold of events.

pub use leftfold_core::{fold, runtime, store, testing};

/// What most programs need.
pub mod prelude {
    pub use leftfold_core::fold::{
        Aggregate, Aggregates, Cause, Decided, Decision, Event, ExecuteError, Executed, Folded, Recorded, SnapshotPolicy,
        Unknown, Upcasters,
    };
    pub use leftfold_core::store::{Position, Query, Store, StreamName, Tags, Timestamp, Version};
}

/// Opens the store of a URL or path. For now every store is in memory.
pub async fn open(_url: &str) -> Result<store::Store, std::convert::Infallible> {
    Ok(store::Store::memory())
}
