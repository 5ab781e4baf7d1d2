//! Events as rows: a store in a schema of a PostgreSQL database.
//!
//! 1. The words: `options` says where the store is and how it is used, `error` what opening can
//!    fail with. `tables` creates and migrates the schema. `text`, `values`, `payload` and `rows`
//!    turn what is stored into columns and back, and `chain` hashes it.
//! 2. The way in (`write`): one task gathers what waits, judges it behind the lock of the head and
//!    commits it.
//!    `inline` has the read models that are written with it.
//! 3. The way out (`read`): pages, lookups and whole appends, by connections of their own.
//! 4. `follow` hears of what others commit, `clock` doubts the database's clock if it jumps.
//!    `shared` is what all of these have in common, and `backend` the contract over it.

mod backend;
mod chain;
mod clock;
mod error;
mod follow;
mod inline;
mod options;
mod payload;
mod read;
mod rows;
mod shared;
mod tables;
pub(crate) mod text;
pub(crate) mod values;
mod write;

pub use backend::PostgresStore;
pub use clock::DATABASE_CLOCK_JUMP_MAX;
pub use error::PostgresStoreError;
pub use inline::InlineProjections;
pub use options::PostgresStoreOptions;
pub use payload::PayloadColumn;
pub use read::verify::{RowsProgress, RowsReport};
