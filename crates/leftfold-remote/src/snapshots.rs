//! Cached values on their way to the server: the latest of each key, without a promise.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use leftfold_core::store::limits::SNAPSHOT_BYTES_MAX;
use leftfold_protocol::wire::KeepSnapshotRequest;
use tokio::sync::Notify;

use crate::calls::call_once;
use crate::connect::request;
use crate::shared::RemoteShared;

/// Bytes of values that wait; beyond them values are not kept.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Cached values that are not sent yet.
#[derive(Default)]
pub(crate) struct SnapshotQueue {
    waiting: Mutex<WaitingSnapshots>,
    come: Notify,
}

#[derive(Default)]
struct WaitingSnapshots {
    values: HashMap<Bytes, Bytes>,
    bytes: usize,
}

impl SnapshotQueue {
    pub(crate) fn keep(&self, key: Bytes, value: Bytes) {
        if value.len() > SNAPSHOT_BYTES_MAX {
            return;
        }
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = waiting.values.remove(&key) {
            waiting.bytes -= key.len() + before.len();
        }
        let bytes = key.len() + value.len();
        if waiting.bytes + bytes <= WAITING_BYTES_MAX {
            waiting.bytes += bytes;
            waiting.values.insert(key, value);
            self.come.notify_one();
        }
    }

    fn next(&self) -> Option<(Bytes, Bytes)> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let key = waiting.values.keys().next()?.clone();
        let value = waiting.values.remove(&key)?;
        waiting.bytes -= key.len() + value.len();
        Some((key, value))
    }
}

/// Sends what is kept, one after the other, until the handle is closed or gone.
pub(crate) async fn run(queue: Weak<SnapshotQueue>, shared: Arc<RemoteShared>) {
    let mut status = shared.status.subscribe();
    loop {
        let Some(waiting) = queue.upgrade() else { return };
        let Some((key, value)) = waiting.next() else {
            let come = waiting.come.notified();
            let ends =
                status.wait_for(|status| status.state == leftfold_core::store::State::Closed);
            tokio::select! {
                () = come => continue,
                _ = ends => return,
            }
        };
        let keep = |mut client: crate::channel::Client| {
            let message = KeepSnapshotRequest { key: key.clone(), value: value.clone() };
            let message = request(&shared.options, message);
            async move { client.keep_snapshot(message).await }
        };
        if let Err(error) = call_once(&shared, keep).await {
            tracing::debug!(?error, "a snapshot was not kept");
        }
    }
}
