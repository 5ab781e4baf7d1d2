//! Leases of the log. They are asked for in the queue of appends and judged by the writer, so that all are in one order:
//! what was judged under an earlier fence is durable before a new one is told.

use std::time::Duration;

use leftfold_core::store::{
    AppendError, Checkpoint, CheckpointRecord, Fence, Hash, Holder, Label, Lease, LeaseError, Leased, Leases, MoveFrom,
    Partition, Position, StoreId, Timestamp,
};
use tokio::sync::oneshot;

use crate::format::checkpoint_key;
use crate::queue::Refused;

/// Fences that one opening has for itself: more than it can give.
const FENCES_OF_AN_OPENING: u32 = 40;

/// The consumer whose checkpoint counts the openings of the log that gave leases.
pub(crate) const OPENINGS: &str = "$leases";

/// Something that is asked about a lease, on its way through the queue.
#[derive(Debug)]
pub(crate) struct Ask {
    wish: Wish,
    /// When its turn came, by a clock that only passes.
    pub(crate) at: Timestamp,
    /// What is to be told when everything judged before is durable.
    judged: Option<Result<Leased, LeaseError>>,
}

#[derive(Debug)]
enum Wish {
    Take { work: Label, holder: Holder, during: Duration, answer: oneshot::Sender<Result<Leased, LeaseError>> },
    GiveBack { lease: Lease, answer: oneshot::Sender<Result<(), LeaseError>> },
}

impl Ask {
    pub(crate) fn take(work: Label, holder: Holder, during: Duration) -> (Self, oneshot::Receiver<Result<Leased, LeaseError>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { wish: Wish::Take { work, holder, during, answer }, at: Timestamp::MIN, judged: None }, receiver)
    }

    pub(crate) fn give_back(lease: Lease) -> (Self, oneshot::Receiver<Result<(), LeaseError>>) {
        let (answer, receiver) = oneshot::channel();
        (Self { wish: Wish::GiveBack { lease, answer }, at: Timestamp::MIN, judged: None }, receiver)
    }

    pub(crate) fn judge(&mut self, leases: &mut Leases) {
        match &self.wish {
            Wish::Take { work, holder, during, .. } => {
                self.judged = Some(leases.lease(work.clone(), *holder, *during, self.at));
            }
            Wish::GiveBack { lease, .. } => leases.release(lease),
        }
    }

    /// Tells what was judged, unless what it rests on failed. Whoever asked may have gone.
    pub(crate) fn answer(self, failed: Option<AppendError>) {
        let failed = failed.map(|error| match error {
            AppendError::Closed => LeaseError::Closed,
            error => LeaseError::Unavailable { detail: error.to_string() },
        });
        match self.wish {
            Wish::Take { answer, .. } => {
                let judged = self.judged.unwrap_or(Err(LeaseError::Closed));
                let _ = answer.send(failed.map_or(judged, Err));
            }
            Wish::GiveBack { answer, .. } => {
                let _ = answer.send(failed.map_or(Ok(()), Err));
            }
        }
    }
}

/// Why something could not be asked.
pub(crate) fn not_asked(refused: Refused) -> LeaseError {
    match refused {
        Refused::Closing => LeaseError::Closed,
        busy @ Refused::Busy { .. } => LeaseError::Unavailable { detail: AppendError::from(busy).to_string() },
    }
}

/// What the index keeps the count of openings under.
pub(crate) fn key_of_openings(store: StoreId) -> String {
    checkpoint_key(OPENINGS, store.0.as_bytes(), "")
}

/// What records that this opening gives leases, and the fence that no opening before it reached.
pub(crate) fn opening(store: StoreId, before: Option<Position>) -> (CheckpointRecord, Fence) {
    let number = before.unwrap_or(Position::START).next();
    let checkpoint = Checkpoint { store, partition: Partition::default(), position: number, hash: Hash::EMPTY };
    // The text is short, and not empty.
    let consumer = Label::new(OPENINGS).expect("a constant label");
    (CheckpointRecord { consumer, from: MoveFrom::Anywhere, checkpoint }, Fence(number.0 << FENCES_OF_AN_OPENING))
}
