//! The lease on the work of a process: of several runners one works, the others wait.

use std::time::Duration;

use super::step::STORE_RETRY;
use crate::runtime::Host;
use crate::store::{Fence, Holder, Label, Lease, LeaseError, Leased, Timestamp};

// ANCHOR: limits
/// How long the work of a process is leased at a time: so long it stands still where its runner is killed and another
/// machine takes over. On the embedded log a new start takes over at once.
pub const PROCESS_LEASE: Duration = Duration::from_secs(30);
// ANCHOR_END: limits

/// The right of one runner to work.
#[derive(Debug)]
pub(super) struct Tenure {
    holder: Holder,
    work: Label,
    lease: Option<Lease>,
    /// When the lease was last asked for.
    asked_at: Timestamp,
}

/// Whether a runner may work.
pub(super) enum Right {
    Held,
    /// Not before this moment, for this reason.
    Waits(String, Timestamp),
    Closed,
}

impl Tenure {
    pub(super) fn new(work: Label) -> Self {
        Self { holder: Holder::random(), work, lease: None, asked_at: Timestamp::MIN }
    }

    /// Asks for the lease, where it is not held or a third of its time is over.
    pub(super) async fn hold(&mut self, host: &Host) -> Right {
        let now = host.clock.now();
        // A clock that was set back says nothing of how much has passed.
        if self.lease.is_some() && now < self.renews_at() && now >= self.asked_at {
            return Right::Held;
        }
        match host.store.lease(self.work.clone(), self.holder, PROCESS_LEASE).await {
            Ok(Leased::Held(lease)) => {
                (self.lease, self.asked_at) = (Some(lease), now);
                Right::Held
            }
            Ok(Leased::HeldBy { holder, until }) => {
                self.lost();
                Right::Waits(format!("the lease, held by {holder} until {until}"), now.plus(PROCESS_LEASE / 3))
            }
            Err(LeaseError::Closed) => Right::Closed,
            Err(error) => Right::Waits(format!("the lease: {error}"), now.plus(STORE_RETRY)),
        }
    }

    pub(super) fn renews_at(&self) -> Timestamp {
        self.asked_at.plus(PROCESS_LEASE / 3)
    }

    /// What its appends carry.
    pub(super) fn fence(&self) -> Option<(Label, Fence)> {
        self.lease.as_ref().map(|lease| (lease.work.clone(), lease.fence))
    }

    /// Another has the work.
    pub(super) fn lost(&mut self) {
        self.lease = None;
    }

    /// Lets the next one work at once.
    pub(super) async fn release(&mut self, host: &Host) {
        if let Some(lease) = self.lease.take() {
            // Where that fails, the next one waits until the lease is over.
            let _ = host.store.release(lease).await;
        }
    }
}
