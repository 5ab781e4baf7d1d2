//! Waiting with an end.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that is expected to happen. Far more than it takes: only failures
/// wait for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How often the API is asked again. It offers no other way to wait for what is neither an effect
/// nor the station's.
const POLL_EVERY: Duration = Duration::from_millis(15);

/// Asks until there is an answer.
///
/// # Panics
/// When there is none in time; `what` says what was expected, and the latest refusal why it is not
/// so.
#[track_caller]
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(_) if Instant::now() < end => thread::park_timeout(POLL_EVERY),
            Err(reason) => panic!("waited {PATIENCE:?} for: {what}; instead: {reason}"),
        }
    }
}
