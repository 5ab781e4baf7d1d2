//! Comparing the new store with the old one: every append through the function again, in step.

use super::Copy;
use super::error::{CopyError, Difference};
use super::map::{EventFate, PositionMap};
use super::reader::head_now;
use super::state::{CopyState, SwitchRecord};
use super::translate::digested;
use super::walk::{Walk, WalkedAppend};
use crate::store::{Hash, NewEvent, Position};

/// Result of the verification of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyReport {
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

impl CopyReport {
    /// Tells whether the new store is what the function makes of the old one.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.difference.is_none()
    }
}

/// Goes through everything that was copied.
pub(super) async fn verify(copy: &Copy) -> Result<CopyReport, CopyError> {
    let mut report = CopyReport {
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
    let Some(CopyState { at, mut map, switched, .. }) = CopyState::load(copy).await? else {
        return Ok(report);
    };
    report.through = at.position;
    report.consumers = switched.map_or(0, |switched| switched.consumers);
    let mut hasher = blake3::Hasher::new();
    let new_end = switched.map_or(Position::END, |switched| switched.at);
    let mut walk = Walk::verifying(copy, new_end);
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

impl CopyReport {
    fn count(&mut self, step: &WalkedAppend, hasher: &mut blake3::Hasher) {
        let WalkedAppend { translated, actual, .. } = step;
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
async fn misplaced(
    step: &WalkedAppend,
    map: &mut PositionMap,
) -> Result<Option<Difference>, CopyError> {
    let mut next = step.first;
    for (old, images, primary) in &step.translated.shares {
        let image = map.image(*old).await?;
        let place = Position(next.0 + primary);
        let right = if *images == 0 {
            image.fate == EventFate::Dropped
        } else {
            image.fate == EventFate::Copied && image.position == place
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
    switched: Option<SwitchRecord>,
    through: Position,
) -> Result<Option<Difference>, CopyError> {
    if let Some(more) = walk.next_new().await? {
        let detail =
            "the new store has an append that stems from nothing in the old one".to_owned();
        return Ok(Some(Difference { old: through, new: more.first, detail }));
    }
    let Some(switched) = switched else { return Ok(None) };
    let head = head_now(&copy.old, switched.through).await?.position;
    if switched.through < head {
        let detail = format!("the old store was written after the switch, it goes to {head}");
        return Ok(Some(Difference { old: switched.through.next(), new: switched.at, detail }));
    }
    Ok(None)
}
