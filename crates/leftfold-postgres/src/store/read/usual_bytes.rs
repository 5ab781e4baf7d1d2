//! Usual size of an event: how many events a page asks the database for.

use std::sync::atomic::{AtomicU64, Ordering};

use leftfold_core::store::RecordedEvent;

/// Events that a page asks for at least, however large they have been so far.
const EVENTS_MIN: u64 = 64;
/// Usual bytes of an event: a page asks for about as many events as its bytes allow.
#[derive(Debug)]
pub(in crate::store) struct UsualBytes(AtomicU64);

impl Default for UsualBytes {
    fn default() -> Self {
        Self(AtomicU64::new(512))
    }
}

impl UsualBytes {
    /// Number of events that a page of these bytes asks for.
    pub(super) fn events_of(&self, page_bytes: u32) -> u64 {
        let usual = self.0.load(Ordering::Relaxed).max(1);
        (u64::from(page_bytes) / usual * 5 / 4).max(EVENTS_MIN)
    }

    /// Learns from the events of a page.
    pub(super) fn learn(&self, events: &[RecordedEvent]) {
        if events.len() >= EVENTS_MIN as usize {
            let bytes: usize =
                events.iter().map(|event| event.data.len() + event.metadata.user.len()).sum();
            let mean = (bytes / events.len()) as u64;
            let usual = self.0.load(Ordering::Relaxed);
            self.0.store((usual * 3 + mean) / 4, Ordering::Relaxed);
        }
    }
}
