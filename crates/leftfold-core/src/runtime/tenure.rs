//! The lease on a piece of the runtime's work: of several runners one works, the others stand by.

use std::time::Duration;

use super::Host;
use crate::store::{Fence, Holder, Label, Lease, LeaseError, Leased, Timestamp};

// ANCHOR: limits
/// Time for which the work of a process, an effect or an outbox is leased: the work stands still
/// this long if its runner is killed and another machine takes over. On the embedded log a new
/// start takes over at once.
pub const WORK_LEASE: Duration = Duration::from_secs(30);
// ANCHOR_END: limits
/// The wait before a store is asked again that gave no answer.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

/// The right of one runner to work.
#[derive(Debug)]
pub(crate) struct Tenure {
    holder: Holder,
    work: Label,
    lease: Option<Lease>,
    /// When the lease was last asked for.
    asked_at: Timestamp,
}

/// Right of a runner to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    Held,
    /// Another has the work; it is worth asking again at this moment.
    StandsBy(String, Timestamp),
    /// The store gives no leases now, for this reason; it is worth asking again at this moment.
    Waits(String, Timestamp),
    Closed,
}

impl Tenure {
    /// Nothing is held yet. The name of the work is the consumer's: `$process:NAME`, `$effect:NAME`.
    pub(crate) fn new(work: Label) -> Self {
        Self { holder: Holder::random(), work, lease: None, asked_at: Timestamp::MIN }
    }

    /// Asks for the lease, if it is not held or a third of its time is over.
    ///
    /// If the [fence](Self::fence) changed by this, the runner has a new tenure, and begins with
    /// reading: its earlier knowledge is stale.
    pub(crate) async fn hold(&mut self, host: &Host) -> Right {
        let now = host.clock.now();
        // A clock that was set back says nothing of how much has passed.
        if self.lease.is_some() && now < self.renews_at() && now >= self.asked_at {
            return Right::Held;
        }
        match host.store.lease_for_runtime(self.work.clone(), self.holder, WORK_LEASE).await {
            Ok(Leased::Held(lease)) => {
                (self.lease, self.asked_at) = (Some(lease), now);
                Right::Held
            }
            Ok(Leased::HeldBy { holder, until }) => {
                self.lost();
                Right::StandsBy(format!("the lease, held by {holder} until {until}"), now.plus(WORK_LEASE / 3))
            }
            Err(LeaseError::Closed) => Right::Closed,
            Err(error) => Right::Waits(format!("the lease: {error}"), now.plus(ASKED_AGAIN)),
        }
    }

    pub(crate) fn renews_at(&self) -> Timestamp {
        self.asked_at.plus(WORK_LEASE / 3)
    }

    /// Returns the fence of its appends.
    pub(crate) fn fence(&self) -> Option<(Label, Fence)> {
        self.lease.as_ref().map(|lease| (lease.work.clone(), lease.fence))
    }

    /// Another has the work.
    pub(crate) fn lost(&mut self) {
        self.lease = None;
    }

    /// Lets the next one work at once.
    pub(crate) async fn release(&mut self, host: &Host) {
        if let Some(lease) = self.lease.take() {
            // Where that fails, the next one waits until the lease is over.
            let _ = host.store.release(lease).await;
        }
    }
}
