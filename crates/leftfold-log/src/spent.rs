//! Appends that were answered, until their callers free them.
//!
//! An allocator keeps memory by thread: what many threads made and one thread frees makes them wait for each other. So
//! the writer, which all wait for, frees nothing; whoever appends next does.

use std::sync::{Mutex, PoisonError, TryLockError};

use crate::check::Request;

/// Appends that are kept at most; beyond that the writer frees them.
const KEPT_MAX: usize = 1_024;
/// Larger ones are not kept.
const KEPT_BYTES_MAX: usize = 4 << 10;
/// More than one is freed for each that comes, so that few are kept.
const FREED_AT_ONCE: usize = 2;

#[derive(Debug, Default)]
pub(crate) struct Spent(Mutex<Vec<Request>>);

impl Spent {
    pub(crate) fn give(&self, requests: impl Iterator<Item = Request>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = KEPT_MAX.saturating_sub(kept.len());
        let mut small = requests.filter(|request| request.weight() <= KEPT_BYTES_MAX);
        kept.extend(small.by_ref().take(room));
        drop(kept);
        // What is left is freed here.
        small.for_each(drop);
    }

    pub(crate) fn free_some(&self) {
        let mut kept = match self.0.try_lock() {
            Ok(kept) => kept,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let start = kept.len().saturating_sub(FREED_AT_ONCE);
        let freed: [Option<Request>; FREED_AT_ONCE] = std::array::from_fn(|_| if kept.len() > start { kept.pop() } else { None });
        drop(kept);
        drop(freed);
    }
}
