//! Positions in the runtime's own records, and how a copy of the store rewrites them.
//!
//! A record is read, rewritten and written again by the module that owns it, which alone knows what is a position in it:
//! whoever adds a kind of record, or a position to one, says so in its [`Owner`], and copies carry it.

use crate::fold::{Event, EventError, Schema, Unknown};
use crate::json;
use crate::store::{Invalid, Label, NewEvent, Position, RecordedEvent, StreamName};

/// What became of the positions of a store in its copy.
pub(crate) trait Positions {
    /// Where an event is now; none where it was dropped.
    fn event(&self, position: Position) -> Option<Position>;

    /// The end of everything that came of what was at or before a position.
    fn through(&self, position: Position) -> Position;
}

/// Who owns a kind of records.
pub(crate) struct Owner {
    /// The category of their streams, alone or with `:` and a name behind it.
    pub(crate) category: &'static str,
    /// A record as it speaks of the copy; none where it goes with an event that was dropped.
    pub(crate) rewrite: fn(&RecordedEvent, &dyn Positions) -> Result<Option<NewEvent>, RewriteError>,
    /// What a causation or correlation of any event becomes that speaks of such a record; none where it does not.
    pub(crate) label: fn(&Label, &dyn Positions) -> Option<String>,
}

/// Everyone whose records are carried over. What nobody owns goes over as it is.
const OWNERS: [&Owner; 5] = [
    &super::ledger::OWNER,
    &super::mark::OWNER,
    &super::process::OWNER,
    &super::process::OWNER_OF_UNREAD,
    &super::projection::OUTBOX_OWNER,
];

/// Why a record cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RewriteError {
    /// It is none of its owner's, or of a later release.
    #[error("it cannot be read: {0}")]
    Event(#[from] EventError),
    /// It has what this release does not know.
    #[error("it would lose what this release does not know")]
    Later,
    /// Something else in it cannot be read.
    #[error("it cannot be read: {0}")]
    Detail(String),
    /// A name beyond its limit.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// A record of the runtime as it speaks of the copy; none where it goes with an event that was dropped.
pub(crate) fn rewritten(record: &RecordedEvent, positions: &dyn Positions) -> Result<Option<NewEvent>, RewriteError> {
    let owner = record.stream.as_ref().and_then(|at| OWNERS.into_iter().find(|owner| owner.owns(&at.name)));
    match owner {
        Some(owner) => (owner.rewrite)(record, positions),
        None => Ok(Some(record.to_new())),
    }
}

/// Rewrites what the metadata of any event says of the runtime's records.
pub(crate) fn rewrite_labels(event: &mut NewEvent, positions: &dyn Positions) -> Result<(), Invalid> {
    for label in [&mut event.metadata.causation, &mut event.metadata.correlation].into_iter().flatten() {
        if let Some(new) = OWNERS.into_iter().find_map(|owner| (owner.label)(label, positions)) {
            *label = Label::new(new)?;
        }
    }
    Ok(())
}

/// A record with its event changed. Where it would lose something else by that it is refused.
pub(super) fn changed<E: Event>(record: &RecordedEvent, change: impl FnOnce(&mut E)) -> Result<NewEvent, RewriteError> {
    let schema = Schema::of::<E>()?;
    let Some(mut event) = schema.decode::<E>(record, Unknown::Ignore)?.pop() else { return Ok(record.to_new()) };
    if !json::is_same_text(&schema.encode(&event)?.data, &record.data) {
        return Err(RewriteError::Later);
    }
    change(&mut event);
    Ok(NewEvent { data: schema.encode(&event)?.data, ..record.to_new() })
}

/// No label speaks of such records.
pub(super) fn no_label(_: &Label, _: &dyn Positions) -> Option<String> {
    None
}

impl Owner {
    fn owns(&self, stream: &StreamName) -> bool {
        stream.category().strip_prefix(self.category).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }
}
