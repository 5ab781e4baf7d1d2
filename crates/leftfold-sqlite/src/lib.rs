//! Read models in SQLite: the rows of a projection and its checkpoint in one transaction, in one
//! file a version.
//!
//! [`Sqlite::at`] names a directory. Version 2 of the projection `orders` lives in `orders.v2.db`;
//! `leftfold.db` says which version readers see. `apply` gets a [`rusqlite::Connection`] with a
//! transaction open; `prepare_cached` spares the parsing of a statement for each event.
//!
//! # What is promised
//! - Rows and checkpoint are one transaction, whenever the process is killed. After a power failure
//!   the last moments of a file may be missing, rows and checkpoint together, and are taken from
//!   the log again (`synchronous=NORMAL`).
//! - One session writes a file at a time, on this machine: another one, of this process or another,
//!   is told who does. The directory is on a local disk: SQLite's locks are not to be trusted over
//!   a network.
//! - Only the runtime ends a transaction. Code of users that commits or rolls back fails, and
//!   nothing of it stays.
//! - A full disk, a disk that fails, a damaged or a locked file are waited for; no event is parked
//!   for them.
//! - A `u64` is bound and read like an `i64`. SQLite's integers end at [`i64::MAX`]: up to there
//!   values come back the same, in their order; a larger one is
//!   `rusqlite::Error::ToSqlConversionFailure`, and its event is parked.
//! - A [`Reader`] follows the version that serves, from one read to the next, in this process or
//!   another, and sees the rows of one moment in each read.
//!
//! SQLite is compiled in, which needs a C compiler and no package of the system.

// `target` is the directory, `session` the one connection that writes a version, `reader` those
// that read. `files` names the files and holds their locks, `error` tells trouble that passes from
// faults.
// The `target` names a directory: `files` has the names in it and the lock of a version, `serving`
// the table of the versions that readers see. A `session` writes the rows of a version, a `reader`
// reads them, and `error` says which failures are of the file and not of an event.

mod error;
mod files;
mod reader;
mod serving;
mod session;
mod target;

pub use error::SqliteError;
pub use reader::Reader;
pub use rusqlite;
pub use session::SqliteSession;
pub use target::Sqlite;
