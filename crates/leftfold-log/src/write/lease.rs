//! Requests for leases. They go through the queue of appends and the writer judges them, so that
//! all are in one order: an append that was judged under an earlier fence is durable before a new
//! fence is told.

use std::time::Duration;

use leftfold_core::store::{
    AppendError, Holder, Label, Lease, LeaseError, Leased, Leases, Timestamp,
};
use tokio::sync::oneshot;

/// A request to take a lease or to give one back.
#[derive(Debug)]
pub(crate) struct LeaseRequest {
    /// `None` once it is answered.
    action: Option<LeaseAction>,
    /// Moment of its turn, by a clock that only increases.
    pub(crate) at: Timestamp,
    /// The answer, once everything judged before is durable.
    judged: Option<Result<Leased, LeaseError>>,
}

#[derive(Debug)]
enum LeaseAction {
    Take {
        work: Label,
        holder: Holder,
        during: Duration,
        answer: oneshot::Sender<Result<Leased, LeaseError>>,
    },
    GiveBack {
        lease: Lease,
        answer: oneshot::Sender<Result<(), LeaseError>>,
    },
}

impl LeaseRequest {
    pub(crate) fn take(
        work: Label,
        holder: Holder,
        during: Duration,
    ) -> (Self, oneshot::Receiver<Result<Leased, LeaseError>>) {
        let (answer, receiver) = oneshot::channel();
        (Self::of(LeaseAction::Take { work, holder, during, answer }), receiver)
    }

    pub(crate) fn give_back(lease: Lease) -> (Self, oneshot::Receiver<Result<(), LeaseError>>) {
        let (answer, receiver) = oneshot::channel();
        (Self::of(LeaseAction::GiveBack { lease, answer }), receiver)
    }

    fn of(action: LeaseAction) -> Self {
        Self { action: Some(action), at: Timestamp::MIN, judged: None }
    }

    pub(crate) fn judge(&mut self, leases: &mut Leases) {
        match &self.action {
            Some(LeaseAction::Take { work, holder, during, .. }) => {
                self.judged = Some(leases.lease(work.clone(), *holder, *during, self.at));
            }
            Some(LeaseAction::GiveBack { lease, .. }) => leases.release(lease),
            None => {}
        }
    }

    /// Sends the answer: the judged one, or an error if the group that it rests on failed. The
    /// caller may have gone.
    pub(crate) fn answer(&mut self, failed: Option<AppendError>) {
        let failed = failed.map(|error| match error {
            AppendError::Closed => LeaseError::Closed,
            error => LeaseError::Unavailable { detail: error.to_string() },
        });
        match self.action.take() {
            Some(LeaseAction::Take { answer, .. }) => {
                let judged = self.judged.take().unwrap_or(Err(LeaseError::Closed));
                let _ = answer.send(failed.map_or(judged, Err));
            }
            Some(LeaseAction::GiveBack { answer, .. }) => {
                let _ = answer.send(failed.map_or(Ok(()), Err));
            }
            None => {}
        }
    }
}
