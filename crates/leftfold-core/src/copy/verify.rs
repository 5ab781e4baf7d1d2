//! Comparing the new store with the old one: every append through the function again, in step.

use std::fmt;

use super::Copy;
use super::error::CopyError;
use super::map::{Fate, PositionMap};
use super::reader::Reader;
use super::state::{State, Switched};
use super::translate::{Translated, digested};
use crate::store::{Hash, NewEvent, Position, RecordedAppend, RecordedEvent, Version};

/// Result of the verification of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Position up to which the old store was copied.
    pub through: Position,
    /// Appends of the old store that were gone through.
    pub appends: u64,
    /// Events of the old store, the runtime's own included.
    pub old_events: u64,
    /// Those of them that were dropped.
    pub dropped: u64,
    /// Events of the new store that came of the others.
    pub new_events: u64,
    /// Requests whose answers went over.
    pub commands: u64,
    /// Consumers whose checkpoints were carried over; 0 before the switch.
    pub consumers: u64,
    /// A digest of those events of the new store, without their places and times, and of those
    /// requests: the same for every copy of the same store through the same function, however often
    /// it was interrupted.
    pub digest: Hash,
    /// First place where the new store is not what the function makes of the old one; `None` if
    /// there is none.
    pub difference: Option<Difference>,
}

impl Report {
    /// Tells whether the new store is what the function makes of the old one.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.difference.is_none()
    }
}

/// A place where the new store is not what the function makes of the old one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The position in the old store.
    pub old: Position,
    /// The position in the new store.
    pub new: Position,
    /// Description of the difference.
    pub detail: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at old position {}, new position {}: {}", self.old, self.new, self.detail)
    }
}

/// Goes through both stores in step.
pub(super) struct Walk<'c> {
    copy: &'c Copy,
    old: Reader,
    new: Reader,
    records: Records,
    /// The last position of the new store that was looked at.
    new_at: Position,
    /// End of the copy's part of the new store: events behind it are not the copy's.
    new_end: Position,
}

/// Treatment of appends without events. They are in order, but on which side of a record of the map
/// they stand is not known; for the map they mean nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Records {
    Compared,
    PassedOver,
}

/// One append of the old store, and what there is of it in the new one.
pub(super) struct Step {
    pub(super) difference: Option<Difference>,
    translated: Translated,
    actual: Option<RecordedAppend>,
    /// The position that its first event has, or would have.
    first: Position,
}

impl Step {
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
        let (old, new) = (Reader::after(&copy.old, old_after), Reader::after(&copy.new, new_after));
        Self {
            copy,
            old,
            new,
            records: Records::PassedOver,
            new_at: new_after,
            new_end: Position::END,
        }
    }

    fn verifying(copy: &'c Copy, switched: Option<Switched>) -> Self {
        let new_end = switched.map_or(Position::END, |switched| switched.at);
        Self {
            records: Records::Compared,
            new_end,
            ..Self::rebuilding(copy, Position::START, Position::START)
        }
    }

    /// Takes the next append of the old store up to a position; `None` at the end.
    pub(super) async fn step(
        &mut self,
        map: &mut PositionMap,
        through: Position,
    ) -> Result<Option<Step>, CopyError> {
        loop {
            let Some(append) = self.old.next().await? else { return Ok(None) };
            if append.first > through {
                return Ok(None);
            }
            if append.events.is_empty() && self.records == Records::PassedOver {
                continue;
            }
            // What the copy must have of this append, if anything.
            let translated = self.copy.translation.translate(&append, map).await?;
            let compares = match self.records {
                Records::Compared => !translated.is_empty(),
                Records::PassedOver => !translated.events.is_empty(),
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
            return Ok(Some(Step { difference, translated, actual, first }));
        }
    }

    /// The next append of the new store that is the copy's work.
    pub(super) async fn next_new(&mut self) -> Result<Option<RecordedAppend>, CopyError> {
        loop {
            let own = |append: &RecordedAppend| append.last() < self.new_end;
            let next = self.new.next_copied().await?.filter(own);
            let passed_over = self.records == Records::PassedOver
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

/// Goes through everything that was copied.
pub(super) async fn verify(copy: &Copy) -> Result<Report, CopyError> {
    let mut report = Report {
        through: Position::START,
        appends: 0,
        old_events: 0,
        dropped: 0,
        new_events: 0,
        commands: 0,
        consumers: 0,
        digest: Hash::EMPTY,
        difference: None,
    };
    let Some(State { at, mut map, switched, .. }) = State::load(copy).await? else {
        return Ok(report);
    };
    report.through = at.position;
    report.consumers = switched.map_or(0, |switched| switched.consumers);
    let mut hasher = blake3::Hasher::new();
    let mut walk = Walk::verifying(copy, switched);
    while let Some(step) = walk.step(&mut map, at.position).await? {
        report.count(&step, &mut hasher);
        report.difference = match step.difference {
            Some(difference) => Some(difference),
            None => misplaced(&step, &mut map).await?,
        };
        if report.difference.is_some() {
            break;
        }
    }
    report.digest = Hash(*hasher.finalize().as_bytes());
    if report.difference.is_none() {
        report.difference = surplus(copy, &mut walk, switched, at.position).await?;
    }
    Ok(report)
}

impl Report {
    fn count(&mut self, step: &Step, hasher: &mut blake3::Hasher) {
        let Step { translated, actual, .. } = step;
        self.appends += 1;
        self.old_events += translated.shares.len() as u64;
        self.dropped +=
            translated.shares.iter().filter(|(_, images, _)| *images == 0).count() as u64;
        let Some(actual) = actual else { return };
        self.new_events += actual.events.len() as u64;
        hasher.update(&(actual.events.len() as u64).to_le_bytes());
        for (event, expected) in actual.events.iter().zip(&translated.events) {
            // An id that the new store minted is another in every copy.
            digested(hasher, &NewEvent { id: expected.id.map(|_| event.id), ..event.to_new() });
        }
        if let Some(command) = &actual.command {
            self.commands += 1;
            hasher
                .update(&command.record.id.0)
                .update(&command.record.digest.0)
                .update(&command.record.answer);
        }
    }
}

/// An event that the map says is somewhere else than it is.
async fn misplaced(step: &Step, map: &mut PositionMap) -> Result<Option<Difference>, CopyError> {
    let mut next = step.first;
    for (old, images, primary) in &step.translated.shares {
        let image = map.image(*old).await?;
        let place = Position(next.0 + primary);
        let right = if *images == 0 {
            image.fate == Fate::Dropped
        } else {
            image.fate == Fate::Copied && image.position == place
        };
        if !right {
            let detail = format!("the position map says that it is at {}", image.position);
            return Ok(Some(Difference { old: *old, new: place, detail }));
        }
        next = Position(next.0 + images);
    }
    Ok(None)
}

/// Returns the first thing that only one of the stores has.
async fn surplus(
    copy: &Copy,
    walk: &mut Walk<'_>,
    switched: Option<Switched>,
    through: Position,
) -> Result<Option<Difference>, CopyError> {
    if let Some(more) = walk.next_new().await? {
        let detail = "the new store has an append that comes of nothing in the old one".to_owned();
        return Ok(Some(Difference { old: through, new: more.first, detail }));
    }
    let head = copy.old.head().position;
    if let Some(switched) = switched.filter(|switched| switched.through < head) {
        let detail = format!("the old store was written after the switch, it goes to {head}");
        return Ok(Some(Difference { old: switched.through.next(), new: switched.at, detail }));
    }
    Ok(None)
}
