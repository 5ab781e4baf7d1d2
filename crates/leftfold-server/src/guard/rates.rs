//! Calls and bytes that users and stores take: at once, and a second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use leftfold_callers::RateBucket;
use serde::Deserialize;
use tokio::time::Instant;

/// Limits of a store; `None` if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreLimits {
    /// Calls that begin in a second; more wait for their turn, and are refused if that is more than
    /// five seconds away.
    pub calls_per_second: Option<u64>,
    /// Bytes of the data of appended events in a second; more wait for their turn.
    pub bytes_per_second: Option<u64>,
}

/// Limits of a user; `None` if there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserLimits {
    /// Calls that are open at once; more are refused.
    pub calls_at_once: Option<usize>,
    /// Calls that begin in a second, as those of a store.
    pub calls_per_second: Option<u64>,
    /// Bytes of the data of appended events in a second, as those of a store.
    pub bytes_per_second: Option<u64>,
}

impl UserLimits {
    /// These limits, and the others for what they do not limit.
    pub(super) fn or(self, others: Self) -> Self {
        Self {
            calls_at_once: self.calls_at_once.or(others.calls_at_once),
            calls_per_second: self.calls_per_second.or(others.calls_per_second),
            bytes_per_second: self.bytes_per_second.or(others.bytes_per_second),
        }
    }
}

/// Error of a call or an append that would wait too long for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the user or the store is used more than it may be, ask again soon")]
pub(crate) struct TooFast;

impl From<TooFast> for tonic::Status {
    fn from(error: TooFast) -> Self {
        Self::resource_exhausted(error.to_string())
    }
}

/// Use that a user, or a store, makes of its limits.
#[derive(Default)]
pub(crate) struct RateUse {
    open: AtomicUsize,
    calls: RateBucket,
    bytes: RateBucket,
}

/// A call that is open until the value is dropped.
pub(crate) struct CallPlace(Arc<RateUse>);

impl Drop for CallPlace {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RateUse {
    /// Opens a call; `None` if as many are open as may be.
    pub(crate) fn open(self: &Arc<Self>, at_once: Option<usize>) -> Option<CallPlace> {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let place = CallPlace(Arc::clone(self));
        at_once.is_none_or(|most| open < most).then_some(place)
    }

    /// Counts a call, and returns the time until its turn.
    pub(crate) fn call(&self, per_second: Option<u64>) -> Result<Duration, TooFast> {
        self.calls.take(1, per_second, Instant::now()).ok_or(TooFast)
    }

    /// Counts bytes of an append, and returns the time until the turn of the next one.
    pub(crate) fn bytes(&self, bytes: u64, per_second: Option<u64>) -> Result<Duration, TooFast> {
        self.bytes.take(bytes, per_second, Instant::now()).ok_or(TooFast)
    }
}
