//! Positions in the runtime's own records, and how a copy of the store rewrites them.
//!
//! A record is read, rewritten and written again by the module that owns it, which alone knows what
//! is a position in it: whoever adds a kind of record, or a position to one, says so in its
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

/// Owners of all records that are carried over. A record without an owner is refused: nobody knows
/// which positions it speaks of.
const OWNERS: [&Owner; 9] = [
    &super::effect::LEDGER_OWNER,
    &super::effect::MARK_OWNER,
    &super::process::OWNER,
    &super::process::OWNER_OF_UNREAD,
    &super::projection::OUTBOX_OWNER,
    &super::inbox::OWNER,
    &super::recurring::OWNER,
    &super::scheduled::OWNER,
    &OWNER_OF_KEYS,
];

/// Owner of the records about the keys of personal data: no positions.
const OWNER_OF_KEYS: Owner = Owner { category: "$personal", rewrite: as_it_is, label: no_label };

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
    #[error("nobody knows records of {category}")]
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

/// Returns a record of the runtime as it speaks of the copy; `None` if it goes with an event that
/// was dropped.
pub(crate) fn rewritten(
    record: &RecordedEvent,
    positions: &dyn Positions,
) -> Result<Option<NewEvent>, RewriteError> {
    let stream = record
        .stream
        .as_ref()
        .map(|at| at.name.category())
        .filter(|category| category.starts_with('$'));
    let category = stream.or(record.event_type.split('.').next()).unwrap_or_default();
    match owner_of(category) {
        Some(owner) => (owner.rewrite)(record, positions),
        None => Err(RewriteError::NoOwner { category: category.to_owned() }),
    }
}

/// Rewrites the labels in the metadata of any event that speak of the runtime's records.
pub(crate) fn rewrite_labels(
    event: &mut NewEvent,
    positions: &dyn Positions,
) -> Result<(), Invalid> {
    for label in
        [&mut event.metadata.causation, &mut event.metadata.correlation].into_iter().flatten()
    {
        if let Some(new) = rewritten_label(label, positions) {
            *label = Label::new(new)?;
        }
    }
    Ok(())
}

/// Returns the new form of a label that speaks of one of the runtime's records; `None` if it speaks
/// of none.
pub(super) fn rewritten_label(label: &Label, positions: &dyn Positions) -> Option<String> {
    OWNERS.into_iter().find_map(|owner| (owner.label)(label, positions))
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

fn owner_of(category: &str) -> Option<&'static Owner> {
    OWNERS.into_iter().find(|owner| owner.owns(category))
}

impl Owner {
    fn owns(&self, category: &str) -> bool {
        category
            .strip_prefix(self.category)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Names that begin with `$` and are no categories of streams that go over: a tag, the copy's
    /// own, and serde_json's.
    const OTHERS: [&str; 3] = ["$due", "$copy", "$serde_json"];

    /// What the sources below a directory call something with a `$`, up to the first character that
    /// is not of its category.
    fn named(directory: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                named(&path, found);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            let code = source.split("#[cfg(test)]").next().unwrap_or_default();
            for (at, _) in code.match_indices("\"$") {
                let name = code[at + 1..]
                    .split(|c: char| !(c.is_alphanumeric() || c == '$' || c == '_'))
                    .next()
                    .unwrap();
                if name.len() > 1 {
                    found.insert(name.to_owned());
                }
            }
        }
    }

    /// A new kind of records went over in a copy as it was, with positions of the old store in it.
    #[test]
    fn every_category_that_the_library_names_has_an_owner() {
        let mut found = BTreeSet::new();
        named(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        assert!(
            found.contains("$effect") && found.contains("$inbox") && found.contains("$outbox"),
            "{found:?}"
        );
        let unowned: Vec<_> = found
            .iter()
            .filter(|name| owner_of(name).is_none() && !OTHERS.contains(&name.as_str()))
            .collect();
        assert!(
            unowned.is_empty(),
            "nobody rewrites {unowned:?} in a copy: name an Owner in OWNERS"
        );
        assert!(
            OWNERS.into_iter().all(|owner| found.contains(owner.category)),
            "an owner of what is not written"
        );
    }
}
