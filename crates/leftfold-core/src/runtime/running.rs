//! The owner of a runtime that runs: it alone can stop it.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::clock::FollowedClock;
use super::consumer::{StopError, stop};
use super::handle::RuntimeHandle;
use super::metrics::RuntimeFigures;
use super::sharing::TAKES_PART_WITHIN;

/// Consumers that run behind a store. It is safe to kill the process at any time;
/// [`stop`](RunningRuntime::stop) is kinder.
///
/// Dropping it tells everything to stop, without waiting. It has one owner; others take a
/// [`handle`](Self::handle), whose methods it has too.
#[derive(Debug)]
pub struct RunningRuntime {
    pub(super) handle: RuntimeHandle,
    pub(super) stop: watch::Sender<bool>,
    pub(super) tasks: Vec<(&'static str, JoinHandle<()>)>,
    /// Its part among the runtimes on the store, which ends after all consumers.
    pub(super) sharing: Option<JoinHandle<()>>,
    /// Follows the requests of operators.
    pub(super) operators: Option<JoinHandle<()>>,
    /// Time that all of them together may take to stop.
    pub(super) within: Duration,
    /// Follows the store's clock for as long as this is there.
    pub(super) _clock: Option<FollowedClock>,
    /// Shown in the store's metrics for as long as this is there.
    pub(super) _figures: Arc<RuntimeFigures>,
}

impl RunningRuntime {
    /// Returns a handle for readers of its state that never stop it: a web server, metrics, another
    /// task.
    #[must_use]
    pub fn handle(&self) -> RuntimeHandle {
        self.handle.clone()
    }

    /// Stops taking up new work, and waits for the work under way: effects each within its own
    /// deadline, a transaction of a projection until it is committed; [`STOP_WITHIN`](super::STOP_WITHIN) beyond the
    /// longest deadline of an effect, and not longer.
    ///
    /// # Errors
    /// [`StopError::Late`] names the consumers that did not stop in that time, because something
    /// outside gives no answer. They are interrupted: their databases undo the transactions that
    /// were not committed, and the next start goes on from those that were.
    pub async fn stop(self) -> Result<(), StopError> {
        let within = self.within;
        self.stop_within(within).await
    }

    /// Stops within another time, as [`stop`](Self::stop) does.
    ///
    /// # Errors
    /// Those of [`stop`](Self::stop).
    pub async fn stop_within(mut self, within: Duration) -> Result<(), StopError> {
        self.stop.send_replace(true);
        let stopped = stop::stopped(std::mem::take(&mut self.tasks), within).await;
        // Without the part in the sharing others wait until its lease is over.
        for mut task in [self.operators.take(), self.sharing.take()].into_iter().flatten() {
            if tokio::time::timeout(TAKES_PART_WITHIN, &mut task).await.is_err() {
                task.abort();
            }
        }
        stopped
    }
}

/// The owner has all methods of the handle.
impl Deref for RunningRuntime {
    type Target = RuntimeHandle;

    fn deref(&self) -> &RuntimeHandle {
        &self.handle
    }
}

impl Drop for RunningRuntime {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
