//! The way through both stores in step: each append of the old one, what the function makes of it,
//! and what there is of it in the new one.

use super::Copy;
use super::error::{CopyError, Difference};
use super::map::PositionMap;
use super::reader::AppendReader;
use super::translate::Translated;
use crate::store::{NewEvent, Position, RecordedAppend, RecordedEvent, Version};

/// Goes through both stores in step.
pub(super) struct Walk<'c> {
    copy: &'c Copy,
    old: AppendReader,
    new: AppendReader,
    records: EmptyAppends,
    /// The last position of the new store that was looked at.
    new_at: Position,
    /// End of the copy's part of the new store: events behind it are not the copy's.
    new_end: Position,
}

/// Treatment of appends without events. They are in order, but on which side of a record of the map
/// they stand is not known; for the map they mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EmptyAppends {
    Compared,
    PassedOver,
}

/// One append of the old store, and what there is of it in the new one.
pub(super) struct WalkedAppend {
    pub(super) difference: Option<Difference>,
    pub(super) translated: Translated,
    pub(super) actual: Option<RecordedAppend>,
    /// The position that its first event has, or would have.
    pub(super) first: Position,
}

impl WalkedAppend {
    pub(super) fn add_to(&self, map: &mut PositionMap) {
        let mut next = self.first;
        for (old, images, primary) in &self.translated.shares {
            map.pending.push(*old, next, *images, *primary);
            next = Position(next.0 + images);
        }
    }
}

impl<'c> Walk<'c> {
    /// For the map alone.
    pub(super) fn rebuilding(copy: &'c Copy, old_after: Position, new_after: Position) -> Self {
        let (old, new) =
            (AppendReader::after(&copy.old, old_after), AppendReader::after(&copy.new, new_after));
        Self {
            copy,
            old,
            new,
            records: EmptyAppends::PassedOver,
            new_at: new_after,
            new_end: Position::END,
        }
    }

    /// For the verification of everything that the copy has written, which ends at a position.
    pub(super) fn verifying(copy: &'c Copy, new_end: Position) -> Self {
        Self {
            records: EmptyAppends::Compared,
            new_end,
            ..Self::rebuilding(copy, Position::START, Position::START)
        }
    }

    /// Takes the next append of the old store up to a position; `None` at the end.
    pub(super) async fn step(
        &mut self,
        map: &mut PositionMap,
        through: Position,
    ) -> Result<Option<WalkedAppend>, CopyError> {
        loop {
            let Some(append) = self.old.next().await? else { return Ok(None) };
            if append.first > through {
                return Ok(None);
            }
            if append.events.is_empty() && self.records == EmptyAppends::PassedOver {
                continue;
            }
            // What the copy must have of this append, if anything.
            let translated = self.copy.translation.translate(&append, map).await?;
            let compares = match self.records {
                EmptyAppends::Compared => !translated.is_empty(),
                EmptyAppends::PassedOver => !translated.events.is_empty(),
            };
            let actual = if compares { self.next_new().await? } else { None };
            if compares && actual.is_none() && append.events.is_empty() && append.first == through {
                // It stands behind what was copied, and was not copied yet.
                return Ok(None);
            }
            // Positions run on even if the copy has nothing of it.
            let first = actual
                .as_ref()
                .filter(|actual| !actual.events.is_empty())
                .map_or(self.new_at.next(), |actual| actual.first);
            let difference = match (&actual, compares) {
                (_, false) => None,
                (None, true) => Some(Difference {
                    old: append.first,
                    new: self.new_at.next(),
                    detail: "it is missing".to_owned(),
                }),
                (Some(actual), true) => compare(&append, &translated, actual),
            };
            if let Some(actual) = &actual {
                self.new_at = actual.last().max(self.new_at);
            }
            return Ok(Some(WalkedAppend { difference, translated, actual, first }));
        }
    }

    /// The next append of the new store that is the copy's work.
    pub(super) async fn next_new(&mut self) -> Result<Option<RecordedAppend>, CopyError> {
        loop {
            let own = |append: &RecordedAppend| append.last() < self.new_end;
            let next = self.new.next_copied().await?.filter(own);
            let passed_over = self.records == EmptyAppends::PassedOver
                && next.as_ref().is_some_and(|next| next.events.is_empty());
            if !passed_over {
                return Ok(next);
            }
        }
    }
}

/// The first thing in which an append of the new store is not what it should be.
fn compare(
    old: &RecordedAppend,
    translated: &Translated,
    actual: &RecordedAppend,
) -> Option<Difference> {
    let mut owners = translated
        .shares
        .iter()
        .flat_map(|(old, images, _)| std::iter::repeat_n(*old, *images as usize));
    for (expected, event) in translated.events.iter().zip(&actual.events) {
        let owner = owners.next().unwrap_or(old.first);
        if let Some(detail) = compare_event(expected, event) {
            return Some(Difference { old: owner, new: event.position, detail });
        }
    }
    let differs = |detail: String| Some(Difference { old: old.first, new: actual.first, detail });
    let (expected, found) = (translated.events.len(), actual.events.len());
    if expected != found {
        return differs(format!("the append should have {expected} events and has {found}"));
    }
    let versions: Vec<Version> = actual.events.iter().map(RecordedEvent::version).collect();
    let found = actual.command.as_ref().map(|answered| &answered.record);
    match (translated.command(&versions), found) {
        (None, None) => None,
        (Some(expected), Some(found)) if expected == *found => None,
        (Some(expected), _) => {
            differs(format!("the answer of command {} is not what it should be", expected.id))
        }
        (None, Some(found)) => differs(format!("command {} should not be there", found.id)),
    }
}

fn compare_event(expected: &NewEvent, actual: &RecordedEvent) -> Option<String> {
    let actual = NewEvent { id: expected.id.map(|_| actual.id), ..actual.to_new() };
    if *expected == actual {
        return None;
    }
    let NewEvent { stream, event_type, data, tags, .. } = expected;
    let what = if actual.stream != *stream {
        "its stream"
    } else if actual.event_type != *event_type {
        "its type"
    } else if actual.data != *data {
        "its data"
    } else if actual.tags != *tags {
        "its tags"
    } else if actual.id != expected.id {
        "its id"
    } else {
        "its metadata, schema version, content type or key ids"
    };
    let stream = stream.as_deref().unwrap_or("no stream");
    Some(format!(
        "{what} should be another: expected is {event_type} in {stream}, found is {}",
        actual.event_type
    ))
}
