//! Leases of the log. They are asked for in the queue of appends and judged by the writer, so that all are in one order:
//! what was judged under an earlier fence is durable before a new one is told.

use std::time::Duration;

use leftfold_core::store::{
    AppendError, Checkpoint, Fence, Hash, Holder, Label, Lease, LeaseError, Leased, Leases, Partition, Position, ReadError,
    RecordedAppend, Timestamp,
};
use tokio::sync::oneshot;

use crate::format::{Binding, FencesView, Frame, SegmentHeader};
use crate::log::Shared;
use crate::open::error::unreadable;
use crate::segments::scan::place_of;
use crate::segments::segment::damaged;
use crate::write::queue::Refused;

/// Fences that are reserved by one record: not more than the clock gains in a second, so that fences hardly run ahead of it.
const RESERVED: u64 = 1 << SECONDS_BIT;

/// The epoch is above these bits of a fence,
const EPOCH_BIT: u32 = 40;
/// below this one,
const EPOCH_MAX: u32 = (1 << 22) - 1;
/// which tells the fences of a log that was begun by version 1 from those that it gave then.
const LATER_BIT: u32 = 62;
/// The seconds of the clock are above these bits.
const SECONDS_BIT: u32 = 8;

/// What the index keeps the record of fences under. No consumer has it: theirs begin with the id of a store.
pub(crate) const FENCES_KEY: &[u8] = b"fences";

/// In version 1, the consumer whose checkpoint counted the openings of the log that gave leases.
const OPENINGS: &str = "$leases";

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

/// The last fence that may have been given by what is recorded.
pub(crate) fn recorded(shared: &Shared) -> Result<Option<Fence>, ReadError> {
    let Some(address) = shared.index.checkpoint(FENCES_KEY).map_err(unreadable)? else { return Ok(None) };
    let (number, offset) = place_of(address);
    let bytes = shared.segments.record_at(address)?;
    let view = Frame::decode(&bytes, Position::START).and_then(|frame| FencesView::decode(frame.body));
    view.map(|view| Some(view.through)).map_err(|fault| damaged(number, offset, &fault))
}

/// A fence that no life of the store before this one gave. After a declared restore it is not known how far the life went
/// that was lost, so the number of the epoch is the upper part; and where one copy is brought back twice, both times as the
/// same epoch, the clock tells the two apart, if it is right. Version 1 counted openings, of which there are fewer than 2^22.
pub(crate) fn floor(shared: &Shared, recorded_at: i64) -> Fence {
    let epoch = u64::from(shared.identity.epoch.number.min(EPOCH_MAX));
    let seconds = u32::try_from((recorded_at / 1_000_000).max(0)).unwrap_or(u32::MAX);
    let later = shared.segments.first().header.binding == Binding::Address;
    Fence(u64::from(later) << LATER_BIT | epoch << EPOCH_BIT | u64::from(seconds) << SECONDS_BIT)
}

/// The fences up to which more are reserved.
pub(crate) fn reserve(last: Fence) -> Fence {
    Fence(last.0.saturating_add(RESERVED))
}

/// Whether an append is the log's own in a segment of version 1: its record there is a checkpoint, which a user can write too,
/// but hardly alone, for this store and without a hash.
pub(crate) fn counts_openings(header: &SegmentHeader, append: &RecordedAppend) -> bool {
    let RecordedAppend { events, command: None, checkpoint: Some((consumer, at)), .. } = append else { return false };
    let own =
        *at == Checkpoint { store: header.store, partition: Partition::default(), position: at.position, hash: Hash::EMPTY };
    header.binding == Binding::Address && events.is_empty() && consumer.as_str() == OPENINGS && own
}
