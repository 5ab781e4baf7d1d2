//! Fences of leases: none is ever given twice, whatever becomes of the log, its machine or its
//! clock.

use leftfold_core::store::{Fence, Position, ReadError};

use crate::format::{Binding, FencesView, RecordFrame};
use crate::index::unreadable;
use crate::segments::scan::place_of;
use crate::segments::segment::damaged;
use crate::shared::SharedLog;

/// Fences that are reserved by one record: not more than the clock gains in a second, so that
/// fences hardly run ahead of it.
const RESERVED: u64 = 1 << SECONDS_BIT;

/// The epoch is above these bits of a fence,
const EPOCH_BIT: u32 = 40;
/// below this one,
const EPOCH_MAX: u32 = (1 << 22) - 1;
/// which tells the fences of a log that was begun by version 1 from those that it gave then.
const LATER_BIT: u32 = 62;
/// The seconds of the clock are above these bits.
const SECONDS_BIT: u32 = 8;

/// Key of the record of fences in the index. No consumer has it: their keys begin with the id of a
/// store.
pub(crate) const FENCES_KEY: &[u8] = b"fences";

/// The last fence that may have been given by what is recorded.
pub(crate) fn recorded(shared: &SharedLog) -> Result<Option<Fence>, ReadError> {
    let Some(address) = shared.index.checkpoint(FENCES_KEY).map_err(unreadable)? else {
        return Ok(None);
    };
    let (number, offset) = place_of(address);
    let bytes = shared.segments.record_at(address)?;
    let view = RecordFrame::decode(&bytes, Position::START)
        .and_then(|frame| FencesView::decode(frame.body));
    view.map(|view| Some(view.through)).map_err(|fault| damaged(number, offset, &fault))
}

/// Returns a fence that no earlier life of the store gave. After a declared restore it is not known
/// how many fences the lost life gave, so the number of the epoch is the upper part; and if one
/// copy is brought back twice, both times as the same epoch, the clock tells the two apart, if it
/// is right. Version 1 counted openings, of which there are fewer than 2^22.
pub(crate) fn floor(shared: &SharedLog, recorded_at: i64) -> Fence {
    let epoch = u64::from(shared.identity.epoch.number.min(EPOCH_MAX));
    let seconds = u32::try_from((recorded_at / 1_000_000).max(0)).unwrap_or(u32::MAX);
    let later = shared.segments.first().header.binding == Binding::Address;
    Fence(u64::from(later) << LATER_BIT | epoch << EPOCH_BIT | u64::from(seconds) << SECONDS_BIT)
}

/// The fences up to which more are reserved.
pub(crate) fn reserve(last: Fence) -> Fence {
    Fence(last.0.saturating_add(RESERVED))
}
