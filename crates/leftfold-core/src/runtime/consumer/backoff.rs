//! Waits between tries at something that failed.

use std::time::Duration;

/// Wait before another try: doubled from the first to the longest, with a quarter of jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct Backoff {
    pub(in crate::runtime) first: Duration,
    pub(in crate::runtime) longest: Duration,
}

impl Backoff {
    /// Returns the wait after a number of tries, from 1.
    pub(in crate::runtime) fn after(self, tries: u32) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.longest).mul_f64(0.75 + 0.25 * fastrand::f64())
    }
}
