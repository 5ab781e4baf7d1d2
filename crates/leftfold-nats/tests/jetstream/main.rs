//! Outboxes and inboxes over a real NATS server.

// `transfers` is what is sent and received. `sending` tests the bus, `receiving` the queue, and
// `restarts` both under kills.

mod receiving;
mod restarts;
mod sending;
mod transfers;

use std::future::Future;
use std::time::Duration;

/// Longer than anything here takes on a busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Waits for something that has to come.
async fn soon<T>(what: &str, comes: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(SOON, comes).await;
    waited.unwrap_or_else(|_| panic!("{what} did not come within {SOON:?}"))
}
