//! Requests about leases. They go through the queue of appends and the writer judges them, so that
//! all are in one order: an append that was judged under an earlier fence is durable before a new
//! fence is told.

use leftfold_core::store::{
    AppendError, HeldLease, Lease, LeaseError, LeaseRequest, Leased, Leases, Timestamp,
};
use tokio::sync::oneshot;

/// A request to take a lease, to give one back, or to list them.
#[derive(Debug)]
pub(crate) struct QueuedLease {
    /// `None` once it is answered.
    action: Option<LeaseAction>,
    /// Moment of its turn, by a clock that only increases.
    pub(crate) at: Timestamp,
    /// The answer, once everything judged before is durable.
    judged: Option<Judged>,
}

#[derive(Debug)]
enum Judged {
    Leased(Result<Leased, LeaseError>),
    Listed(Vec<HeldLease>),
}

#[derive(Debug)]
enum LeaseAction {
    Take(LeaseRequest, Answer<Leased>),
    GiveBack(Lease, Answer<()>),
    List(Answer<Vec<HeldLease>>),
}

type Answer<T> = oneshot::Sender<Result<T, LeaseError>>;
type Answered<T> = oneshot::Receiver<Result<T, LeaseError>>;

impl QueuedLease {
    pub(crate) fn take(request: LeaseRequest) -> (Self, Answered<Leased>) {
        let (answer, receiver) = oneshot::channel();
        (Self::of(LeaseAction::Take(request, answer)), receiver)
    }

    pub(crate) fn give_back(lease: Lease) -> (Self, Answered<()>) {
        let (answer, receiver) = oneshot::channel();
        (Self::of(LeaseAction::GiveBack(lease, answer)), receiver)
    }

    pub(crate) fn list() -> (Self, Answered<Vec<HeldLease>>) {
        let (answer, receiver) = oneshot::channel();
        (Self::of(LeaseAction::List(answer)), receiver)
    }

    fn of(action: LeaseAction) -> Self {
        Self { action: Some(action), at: Timestamp::MIN, judged: None }
    }

    /// True if a fence may be given for it.
    pub(crate) fn takes(&self) -> bool {
        matches!(self.action, Some(LeaseAction::Take(..)))
    }

    /// Bytes of the note that it brings.
    pub(crate) fn note_bytes(&self) -> usize {
        match &self.action {
            Some(LeaseAction::Take(request, _)) => request.note.len(),
            _ => 0,
        }
    }

    pub(crate) fn judge(&mut self, leases: &mut Leases) {
        match &self.action {
            Some(LeaseAction::Take(request, _)) => {
                self.judged = Some(Judged::Leased(leases.lease(request.clone(), self.at)));
            }
            Some(LeaseAction::GiveBack(lease, _)) => leases.release(lease),
            Some(LeaseAction::List(_)) => {
                self.judged = Some(Judged::Listed(leases.held(self.at)));
            }
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
        match (self.action.take(), self.judged.take()) {
            (Some(LeaseAction::Take(_, answer)), judged) => {
                let judged = match judged {
                    Some(Judged::Leased(leased)) => leased,
                    _ => Err(LeaseError::Closed),
                };
                let _ = answer.send(failed.map_or(judged, Err));
            }
            (Some(LeaseAction::GiveBack(_, answer)), _) => {
                let _ = answer.send(failed.map_or(Ok(()), Err));
            }
            (Some(LeaseAction::List(answer)), judged) => {
                let judged = match judged {
                    Some(Judged::Listed(held)) => Ok(held),
                    _ => Err(LeaseError::Closed),
                };
                let _ = answer.send(failed.map_or(judged, Err));
            }
            (None, _) => {}
        }
    }
}
