//! The embedded log of Leftfold: a durable, append-only store of events inside your process.
//!
//! [`Log::open`] makes a directory a store. What is acknowledged is durable; what was not
//! acknowledged is there whole or not at all. One process at a time writes; `docs/log-format.md`
//! says what, byte by byte.
#![cfg_attr(
    feature = "personal",
    doc = "\n[`KeyFile`] keeps the keys of what is sealed in it, in a directory of its own."
)]

// `log` conducts the rooms below it. In the order of the work: `open` finds the durable end of a
// directory, `write` takes an append to the disk, `read` takes a query to a page. They stand on
// `segments` (the files of the log), `index` (derived from them), `format` (bytes) and `disk`.
// An append takes the way of `write`, and a query that of `read`. Both work on the files of
// `segments`, whose bytes are in `format`, and on the `index` derived from them; below is the
// `disk`. `open` finds the durable end of a directory, by its `options`, and makes a `log` of it,
// whose parts have one `shared` state, its `figures` among them. Recorded time comes from the
// `clock`. `follow` reads a log that another process writes, and `backup` copies one;
// `archive` moves segments to another directory. `keys` is a
// directory of its own, for personal data.

mod archive;
mod backup;
pub mod disk;
mod follow;
mod format;
mod index;
#[cfg(feature = "personal")]
mod keys;
mod open;
mod read;
mod segments;
mod write;

mod clock;
mod figures;
mod log;
mod options;
mod shared;

pub use archive::{ArchiveError, ArchiveReport};
pub use backup::{
    BackedUp, BackupError, BackupProgress, backup, backup_history_on, backup_on, restore_backup,
    restore_backup_on,
};
pub use clock::{CLOCK_JUMP_MAX, LogClock, MachineClock};
pub use follow::{FollowEnd, LogFollower};
pub use format::FormatError;
#[cfg(feature = "personal")]
pub use keys::{KEY_REQUESTS_MAX, KeyFile, KeyFileError};
pub use log::Log;
pub use open::doubt::{ClockDoubt, ClockWitness, PAUSE_MAX, PROGRAM_AGE_MAX, REGULAR_PAUSE_MAX};
pub use open::dump::{dump, dump_on};
pub use open::error::{Cut, LogOpenError, Recovery};
pub use open::verify::{Damage, LogVerifyError, VerifiedLog, VerifyProgress, verify, verify_on};
pub use open::{Restored, restore, restore_on};
pub use options::{ClockBehind, ClockDoubtful, Existing, Options, Upkeep};
pub use segments::scan::GroupFault;
