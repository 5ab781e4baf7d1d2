//! The store that is measured.

use std::path::Path;

use leftfold_core::store::Store;
use leftfold_log::{Log, Options};

use crate::Outcome;

/// The memory setting of every store that is measured: for the index and the caches of readers
/// together.
pub(crate) const MEMORY_BYTES: usize = 64 << 20;

/// Opens the log in a folder; it is created if it is not there.
pub(crate) fn open(folder: &Path) -> Outcome<Store> {
    let (log, _) = Log::open(folder, options())?;
    Ok(Store::new(log))
}

pub(crate) fn options() -> Options {
    Options { memory_bytes: MEMORY_BYTES, ..Options::default() }
}
