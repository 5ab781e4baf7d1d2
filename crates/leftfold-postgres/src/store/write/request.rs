//! Requests to the writer: appends, with what is known of their conditions, and leases.

use std::sync::Arc;

use leftfold_core::store::{
    Append, AppendError, AppendFigures, Lease, LeaseError, LeaseRequest, Leased, Outcome, Position,
};
use tokio::sync::oneshot;

use crate::store::error::NotDone;

/// A request on its way to the writer. All are judged in the order in which they come.
#[derive(Debug)]
pub(in crate::store) enum StoreRequest {
    Append(Box<WaitingAppend>),
    Lease(LeaseRequest, oneshot::Sender<Result<Leased, LeaseError>>),
    Release(Lease, oneshot::Sender<Result<(), LeaseError>>),
}

/// An append that waits for its answer.
#[derive(Debug)]
pub(in crate::store) struct WaitingAppend {
    pub(in crate::store) append: Append,
    /// Result of the lookup of each query of its condition.
    pub(in crate::store) looked_up: Vec<LookedUp>,
    pub(in crate::store) held_bytes: usize,
    pub(in crate::store) answer: CountedAnswer,
}

/// Way back to whoever handed an append over. What goes there is counted.
#[derive(Debug)]
pub(in crate::store) struct CountedAnswer {
    sender: oneshot::Sender<Result<Outcome, AppendError>>,
    figures: Arc<AppendFigures>,
}

impl CountedAnswer {
    pub(in crate::store) fn new(
        sender: oneshot::Sender<Result<Outcome, AppendError>>,
        figures: &Arc<AppendFigures>,
    ) -> Self {
        Self { sender, figures: Arc::clone(figures) }
    }

    /// Answers. The caller may have gone.
    pub(in crate::store) fn send(self, outcome: Result<Outcome, AppendError>) {
        self.figures.answered(&outcome);
        let _ = self.sender.send(outcome);
    }
}

/// Result of looking for the first event that matches a query of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum LookedUp {
    /// None is there up to this position; what comes later is still to be looked at.
    NoneThrough(Position),
    /// This one: once there, it stays.
    Found(Position),
}

/// Answer to a request, when the group is committed.
#[derive(Debug)]
pub(in crate::store) enum RequestVerdict {
    Append(Result<Outcome, AppendError>),
    Lease(Result<Leased, LeaseError>),
    Release,
    /// More was written since its condition was looked up than the writer keeps.
    LookUpAgain,
}

/// Bytes that a request for a lease counts for.
const LEASE_BYTES: usize = 512;

impl StoreRequest {
    /// Bytes that it counts for in the queue.
    pub(in crate::store) fn held_bytes(&self) -> usize {
        match self {
            Self::Append(waiting) => waiting.held_bytes,
            Self::Lease(request, _) => LEASE_BYTES + request.note.len(),
            Self::Release(..) => LEASE_BYTES,
        }
    }

    /// Answers it. The caller may have gone.
    pub(in crate::store) fn answer(self, verdict: RequestVerdict) {
        match (self, verdict) {
            (Self::Append(waiting), RequestVerdict::Append(outcome)) => {
                waiting.answer.send(outcome);
            }
            (Self::Lease(_, answer), RequestVerdict::Lease(leased)) => {
                let _ = answer.send(leased);
            }
            (Self::Release(_, answer), RequestVerdict::Release) => {
                let _ = answer.send(Ok(()));
            }
            // Its channel closes: the caller hears that no answer came.
            (request, verdict) => {
                tracing::error!(?request, ?verdict, "a request was judged as another one");
            }
        }
    }

    /// Answers that nothing was done.
    pub(in crate::store) fn refuse(self, why: &NotDone) {
        match self {
            Self::Append(waiting) => {
                waiting.answer.send(Err(why.clone().for_append()));
            }
            Self::Lease(_, answer) => {
                let _ = answer.send(Err(why.clone().for_lease()));
            }
            Self::Release(_, answer) => {
                let _ = answer.send(Err(why.clone().for_lease()));
            }
        }
    }

    /// Answers that the store is closed.
    pub(in crate::store) fn refuse_closed(self) {
        match self {
            Self::Append(waiting) => {
                waiting.answer.send(Err(AppendError::Closed));
            }
            Self::Lease(_, answer) => {
                let _ = answer.send(Err(LeaseError::Closed));
            }
            Self::Release(_, answer) => {
                let _ = answer.send(Err(LeaseError::Closed));
            }
        }
    }
}
