//! The embedded log of Leftfold: a durable, append-only store of events inside your process.
//!
//! [`Log::open`] makes a directory a store. What is acknowledged is durable; what was not acknowledged is there whole
//! or not at all. One process at a time writes; `docs/log-format.md` says what, byte by byte. [`KeyFile`] keeps the keys of
//! what is sealed in it, in a directory of its own.

mod appends;
mod buffers;
mod check;
mod clock;
mod contents;
pub mod disk;
mod doubt;
mod dump;
mod error;
mod fetch;
mod figures;
mod files;
mod format;
mod gather;
mod index;
mod keys;
mod lease;
mod log;
mod offsets;
mod open;
mod options;
mod plan;
mod pool;
mod queue;
mod read;
mod recover;
mod scan;
mod segment;
mod spent;
mod varint;
mod verify;
mod weight;
mod writer;

pub use clock::{CLOCK_JUMP_MAX, Clock, SystemClock};
pub use doubt::{ClockDoubt, ClockWitness, PAUSE_MAX, PROGRAM_AGE_MAX, REGULAR_PAUSE_MAX};
pub use dump::{dump, dump_on};
pub use error::{Cut, OpenError, Recovery};
pub use format::FormatError;
pub use keys::{KEY_REQUESTS_MAX, KeyFile, KeyFileError};
pub use log::Log;
pub use open::{Restored, restore, restore_on};
pub use options::{ClockBehind, ClockDoubtful, Existing, Options, Upkeep};
pub use scan::GroupFault;
pub use verify::{Damage, Verified, verify, verify_on};
