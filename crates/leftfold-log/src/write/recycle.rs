//! Appends that were answered, until their callers free them.
//!
//! An allocator keeps memory by thread: what many threads made and one thread frees makes them wait
//! for each other. So the writer, which all wait for, frees nothing; the next caller of an append
//! does.

use std::sync::{Mutex, PoisonError, TryLockError};

use crate::write::request::WriteRequest;

/// Appends that are kept at most; beyond that the writer frees them.
const KEPT_MAX: usize = 1_024;
/// Bytes of them that are kept at most, about.
const KEPT_BYTES_MAX: usize = 8 << 20;
/// More than one is freed for each that comes, so that few are kept.
const FREED_AT_ONCE: usize = 2;

#[derive(Debug, Default)]
pub(crate) struct AnsweredRequests(Mutex<AnsweredList>);

#[derive(Debug, Default)]
struct AnsweredList {
    requests: Vec<WriteRequest>,
    bytes: usize,
}

impl AnsweredRequests {
    pub(crate) fn give(&self, requests: impl Iterator<Item = WriteRequest>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for request in requests {
            let bytes = request.held_bytes();
            if kept.requests.len() < KEPT_MAX && kept.bytes + bytes <= KEPT_BYTES_MAX {
                kept.bytes += bytes;
                kept.requests.push(request);
            }
        }
    }

    pub(crate) fn free_some(&self) {
        let mut kept = match self.0.try_lock() {
            Ok(kept) => kept,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        let freed: [Option<WriteRequest>; FREED_AT_ONCE] =
            std::array::from_fn(|_| kept.requests.pop());
        kept.bytes -= freed.iter().flatten().map(WriteRequest::held_bytes).sum::<usize>();
        drop(kept);
        drop(freed);
    }
}
