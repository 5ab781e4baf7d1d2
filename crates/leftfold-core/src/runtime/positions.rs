//! Positions in the runtime's own records, and how a copy of the store rewrites them.
//!
//! A record is read, rewritten and written again by the module that owns it, which alone knows what
//! is a position in it: anyone who adds a kind of record, or a position to one, says so in its
//! [`Owner`], and copies carry it.

use crate::fold::{Event, EventError, Schema, Unknown};
use crate::json;
use crate::store::{Invalid, Label, NewEvent, Position, RecordedEvent};

/// Mapping of the positions of a store to those of its copy.
pub(crate) trait Positions {
    /// Returns the position of an event in the copy; `None` if the event was dropped.
    fn event(&self, position: Position) -> Option<Position>;

    /// Returns the end, in the copy, of everything that was at or before a position.
    fn through(&self, position: Position) -> Position;
}

/// Owner of a kind of records.
pub(crate) struct Owner {
    /// The category of their streams, alone or with `:` and a name behind it.
    pub(crate) category: &'static str,
    /// Returns a record as it speaks of the copy; `None` if it goes with an event that was dropped.
    pub(crate) rewrite:
        fn(&RecordedEvent, &dyn Positions) -> Result<Option<NewEvent>, RewriteError>,
    /// Returns the new form of a causation or correlation that speaks of such a record, in any
    /// event; `None` if it speaks of none.
    pub(crate) label: fn(&Label, &dyn Positions) -> Option<String>,
}

/// Error of a record that cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RewriteError {
    /// It is not one of its owner's, or it is of a later release.
    #[error("it cannot be read: {0}")]
    Event(#[from] EventError),
    /// It has a part that this release does not know.
    #[error("it would lose what this release does not know")]
    Later,
    /// It belongs to a category that this release does not know.
    #[error("records of {category} are unknown")]
    NoOwner {
        /// The category of its stream, or else the beginning of its type.
        category: String,
    },
    /// Something else in it cannot be read.
    #[error("it cannot be read: {0}")]
    Detail(String),
    /// A name beyond its limit.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Changes the event of a record. If the record would lose something else by that, it is refused.
pub(super) fn changed<E: Event>(
    record: &RecordedEvent,
    change: impl FnOnce(&mut E),
) -> Result<NewEvent, RewriteError> {
    let schema = Schema::of::<E>()?;
    let Some(mut event) = schema.decode::<E>(record, Unknown::Ignore)?.pop() else {
        return Ok(record.to_new());
    };
    if !json::is_same_text(&schema.encode(&event)?.data, &record.data) {
        return Err(RewriteError::Later);
    }
    change(&mut event);
    Ok(NewEvent { data: schema.encode(&event)?.data, ..record.to_new() })
}

/// A record that speaks of no position.
pub(super) fn as_it_is(
    record: &RecordedEvent,
    _: &dyn Positions,
) -> Result<Option<NewEvent>, RewriteError> {
    Ok(Some(record.to_new()))
}

/// No label speaks of such records.
pub(super) fn no_label(_: &Label, _: &dyn Positions) -> Option<String> {
    None
}
