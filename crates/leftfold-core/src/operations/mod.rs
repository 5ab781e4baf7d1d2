//! Operations of a whole store, over any backend.
//!
//! - `dump` writes a store as JSON lines, and `import` makes a store of them again. `line` is the
//!   form of a line, and `error` has the errors of both.
//! - `statistics` counts what a store holds.
//! - `verify` computes the chain of hashes again, of the bytes that a store gives.
//! - `signed` signs the end of its history, and finds a history that was rewritten since; by the
//!   feature `sign`.

mod dump;
mod error;
mod import;
mod line;
#[cfg(feature = "sign")]
mod signed;
mod statistics;
mod verify;

pub use dump::{Dump, DumpReport, dump};
pub use error::{DumpError, ImportError};
pub use import::{Import, ImportReport, import};
pub use line::{DUMP_FORMAT, LINE_BYTES_MAX};
#[cfg(feature = "sign")]
pub use signed::{
    SignedHead, SignedHeadError, SigningKey, VerifyingKey, sign_head, verify_against,
};
pub use statistics::{COUNTED_NAMES_MAX, EventFigures, StoreStatistics, statistics};
pub use verify::{HistoryCheck, HistoryError};
