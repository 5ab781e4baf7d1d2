//! Memory that the sessions of a user take together.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of the answers that the sessions of one user keep; beyond them each forgets its oldest.
const KEPT_BYTES_OF_USER_MAX: usize = 256 << 20;

/// Bytes of the answers that all sessions of a user keep.
#[derive(Default)]
pub(super) struct KeptBytes(AtomicUsize);

impl KeptBytes {
    /// Counts an answer that is kept.
    pub(super) fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts answers that are forgotten.
    pub(super) fn forget(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn is_too_much(&self) -> bool {
        self.0.load(Ordering::Relaxed) > KEPT_BYTES_OF_USER_MAX
    }
}
