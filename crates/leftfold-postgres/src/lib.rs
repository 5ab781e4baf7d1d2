//! Events and read models in PostgreSQL.
//!
//! [`PostgresStore`] keeps events as rows, for several processes at once; its tables stand in
//! `docs/postgres-store.md`. [`Postgres`] keeps read models: the rows of a projection and its
//! checkpoint in one transaction, in one schema a version. With the feature `personal`,
//! `PostgresKeys` keeps the keys of personal data. Each works without the others.
//!
//! # Read models
//!
//! [`Postgres::at`] names a database. Version 2 of the projection `orders` lives in the schema
//! `orders_v2`, which stands first in the search path, before `public`; `leftfold.serving` says
//! which version readers see. `apply` gets [`Rows`], a [`tokio_postgres::Client`] with a
//! transaction open and statements that are kept prepared. The role needs the right to make schemas
//! in the database.
//!
//! # What is promised
//! - Rows and checkpoint are one transaction, whenever the process is killed or the server is.
//! - One session writes a lane of a version at a time, by an advisory lock: another one is told who
//!   does. So a pooler that shares sessions between transactions is refused
//!   ([`PostgresError::SharedSession`]).
//! - A statement that failed fails the transaction, also where code of users passed over the error.
//!   Code of users that ends the transaction itself is an error; what it committed stays.
//! - A server that is away, shuts down, starts, has no room, or only reads, and deadlocks, are
//!   waited for; no event is parked for them.
//! - A [`Reader`] follows the version that serves, from one read to the next, in this process or
//!   another, and sees the rows of one moment in each read.
//!
//! Connections are encrypted if the URL demands that (`sslmode=require`, or `sslrootcert=PATH` with
//! the certificates to trust), by the feature `tls`; or by a connector of your own
//! ([`PostgresStore::open_encrypted`], [`Postgres::encrypted_by`]).

// `store` is the store, `target` the read models, `keys` the keys of personal data. They read
// places by `url`, make connections by `connect`, encrypt them by `tls`, bring tables to the newest
// format by `schema`, keep statements prepared in `rows`, and tell trouble that passes from faults
// by `error`.
mod connect;
mod error;
#[cfg(feature = "personal")]
mod keys;
mod rows;
mod schema;
mod store;
mod target;
mod tls;
mod url;

pub use error::PostgresError;
#[cfg(feature = "personal")]
pub use keys::{PostgresKeys, PostgresKeysError, PostgresKeysOptions};
pub use rows::Rows;
pub use store::{
    DATABASE_CLOCK_JUMP_MAX, InlineProjections, PayloadColumn, PostgresStore, PostgresStoreError,
    PostgresStoreOptions, RowsProgress, RowsReport,
};
pub use target::Postgres;
pub use target::reader::{Reader, Reading};
pub use target::session::PostgresSession;
pub use tokio_postgres;
