//! The map from positions of the old store to positions of the new one.
//!
//! It is a list of runs, recorded as `$copy.Mapped` events in the new store, each for the next few
//! thousand old positions, in one stream: a position is found by halving that stream. So it needs
//! no memory but for the runs that are not recorded yet, which are bounded, and it is there for as
//! long as the new store is.

use std::collections::VecDeque;
use std::sync::Arc;

use super::error::CopyError;
use super::record::{CopyEvent, stream};
use crate::fold::{Schema, Unknown};
use crate::store::{Position, Read, ReadError, Store, StoreId, StreamName, Version};

/// Runs, and old positions, that are recorded together at most.
const RUNS_MAX: usize = 1_024;
const SPAN_MAX: u64 = 1 << 16;
/// Records whose runs are kept at hand.
const CHUNKS_KEPT: usize = 16;

/// Image of a position of the old store in the new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Image {
    /// Position of its image in the new store; for an event that was dropped, of the nearest image
    /// before it, and [`Position::START`] if there is none.
    pub position: Position,
    /// Everything at and before the old position is at or before this one, and everything after it
    /// is after this one: a consumer that has handled the old position has handled everything up to
    /// here.
    pub through: Position,
    /// Fate of the event: it has an image of its own if it was copied.
    pub fate: EventFate,
}

/// Fate of an event of the old store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventFate {
    /// The event, or the events that took its place, are in the new store.
    Copied,
    /// The event was dropped.
    Dropped,
}

impl Image {
    const START: Self =
        Self { position: Position::START, through: Position::START, fate: EventFate::Dropped };
}

/// Old positions that went the same way: `len` of them from `old` on, each with one image, side by
/// side from `image` on; or one event with several images, which end at `through`; or `len` of them
/// that were dropped (`image` 0) after `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ImageRun {
    old: u64,
    len: u64,
    image: u64,
    through: u64,
}

impl ImageRun {
    /// Returns the image of the old position that is `offset` behind its first. A position behind
    /// its end was not copied apart: old positions may have gaps.
    fn at(self, offset: u64, before: u64) -> Image {
        let (last, fate) = (
            offset.min(self.len - 1),
            if offset < self.len { EventFate::Copied } else { EventFate::Dropped },
        );
        match self.image {
            0 => Image {
                position: Position(before),
                through: Position(self.through),
                fate: EventFate::Dropped,
            },
            image if self.len == 1 => {
                Image { position: Position(image), through: Position(self.through), fate }
            }
            image => {
                Image { position: Position(image + last), through: Position(image + last), fate }
            }
        }
    }

    /// Returns the image of its last event, and the end of all its images.
    fn end(self, before: u64) -> (u64, u64) {
        let end = self.at(self.len - 1, before);
        (end.position.0, end.through.0)
    }
}

/// Some runs, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ImageRuns {
    pub(super) after: u64,
    pub(super) through: u64,
    /// The last image before them, and the end of all images before them.
    before: (u64, u64),
    runs: Vec<ImageRun>,
}

impl ImageRuns {
    /// Adds the next old position: it has `images` images from `first` on, and is to be found at
    /// the one of index `primary`.
    pub(super) fn push(&mut self, old: Position, first: Position, images: u64, primary: u64) {
        let (old, image) = (old.0, if images == 0 { 0 } else { first.0 + primary });
        let through = if images == 0 { self.end().1 } else { first.0 + images - 1 };
        self.through = old;
        if let Some(run) = self.runs.last_mut().filter(|run| run.old + run.len == old) {
            let alike = if images == 0 {
                run.image == 0
            } else {
                images == 1
                    && run.image > 0
                    && run.image + run.len == image
                    && run.image + run.len == run.through + 1
            };
            if alike {
                run.len += 1;
                run.through = through;
                return;
            }
        }
        self.runs.push(ImageRun { old, len: 1, image, through });
    }

    pub(super) fn is_full(&self) -> bool {
        self.runs.len() >= RUNS_MAX || self.through - self.after >= SPAN_MAX
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Returns the runs that follow these, still empty.
    fn following(&self) -> Self {
        Self { after: self.through, through: self.through, before: self.end(), runs: Vec::new() }
    }

    /// The last image, and the end of all images.
    fn end(&self) -> (u64, u64) {
        let Some(last) = self.runs.last() else { return self.before };
        last.end(self.before_run(self.runs.len() - 1))
    }

    /// The last image before a run.
    fn before_run(&self, index: usize) -> u64 {
        let kept = (0..index).rev().find(|index| self.runs[*index].image > 0);
        kept.map_or(self.before.0, |index| self.runs[index].end(0).0)
    }

    fn image(&self, position: Position) -> Image {
        let Some(index) = self.runs.partition_point(|run| run.old <= position.0).checked_sub(1)
        else {
            return Image {
                position: Position(self.before.0),
                through: Position(self.before.1),
                fate: EventFate::Dropped,
            };
        };
        let run = self.runs[index];
        run.at(position.0 - run.old, self.before_run(index))
    }

    pub(super) fn event(&self) -> CopyEvent {
        let Self { after, through, before, .. } = *self;
        let runs = self.runs.iter().map(|run| (run.old, run.len, run.image, run.through)).collect();
        CopyEvent::Mapped { after, through, before, runs }
    }

    fn of(event: CopyEvent) -> Option<Self> {
        let CopyEvent::Mapped { after, through, before, runs } = event else { return None };
        let runs = runs
            .into_iter()
            .map(|(old, len, image, through)| ImageRun { old, len: len.max(1), image, through })
            .collect();
        Some(Self { after, through, before, runs })
    }
}

/// The map from positions of an old store to positions of the store that it was copied into. It is
/// recorded in the new store, needs neither the old one nor the function, and stays.
///
/// ```
/// use leftfold_core::copy::{Copy, PositionMap, Transformed};
/// use leftfold_core::store::{Append, EventType, NewEvent, Position, Store};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (old, new) = (Store::memory(), Store::memory());
/// old.append(Append::of(vec![NewEvent::new(EventType::new("shop.Sold")?, "{}")])).await?;
/// let copy = Copy::from(&old).into(&new).through(|_| Transformed::Keep);
/// copy.switch().await?;
///
/// // Years later, with the new store alone: a letter names the old position 1.
/// let mut map = PositionMap::open(&new, old.identity().store).await?;
/// let image = map.image(Position(1)).await?;
/// assert!(image.position > Position::START && image.position <= new.head().position);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct PositionMap {
    new: Store,
    stream: StreamName,
    /// The records, but for `Began`.
    records: u64,
    recorded: VecDeque<(u64, Arc<ImageRuns>)>,
    /// Runs that are not recorded yet.
    pub(super) pending: ImageRuns,
}

impl PositionMap {
    /// Opens the map of a store that was copied from an old one. While the copy goes on it reaches
    /// as far as the last record of the map; [`Copy::map`](super::Copy::map) knows the rest too.
    pub async fn open(new: &Store, old: StoreId) -> Result<Self, CopyError> {
        let stream = stream(old)?;
        let mut map = Self {
            new: new.clone(),
            records: 0,
            stream: stream.clone(),
            recorded: VecDeque::new(),
            pending: ImageRuns::default(),
        };
        let version = new.version(stream).await?.0;
        // `Began` is the first, and `Switched` may be the last.
        for last in [version, version.saturating_sub(1)] {
            if last >= 2
                && let Some(runs) = map.read(last).await?
            {
                (map.records, map.pending) = (last - 1, runs.following());
                break;
            }
        }
        Ok(map)
    }

    /// Returns the position of the old store up to which the map goes.
    #[must_use]
    pub fn through(&self) -> Position {
        Position(self.pending.through)
    }

    /// Returns the image of a position of the old store.
    pub async fn image(&mut self, position: Position) -> Result<Image, CopyError> {
        if position == Position::START {
            return Ok(Image::START);
        }
        if position.0 > self.pending.through {
            return Err(CopyError::NotYet { position, copied: self.through() });
        }
        if position.0 > self.pending.after {
            return Ok(self.pending.image(position));
        }
        // The first record that reaches as far.
        let (mut low, mut high) = (2, self.records + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.runs(middle).await?.through < position.0 {
                low = middle + 1
            } else {
                high = middle
            }
        }
        Ok(self.runs(low).await?.image(position))
    }

    /// Notes that the pending runs have been recorded.
    pub(super) fn recorded(&mut self) {
        let following = self.pending.following();
        let runs = std::mem::replace(&mut self.pending, following);
        self.records += 1;
        self.keep(self.records + 1, Arc::new(runs));
    }

    /// The position that the last record of the map has in the new store.
    pub(super) async fn last_record(&self) -> Result<Position, ReadError> {
        let read = Read::stream(self.stream.clone(), Version(self.records + 1)).page_of(1);
        Ok(self
            .new
            .page(read)
            .await?
            .events
            .first()
            .map_or(Position::START, |event| event.position))
    }

    async fn runs(&mut self, version: u64) -> Result<Arc<ImageRuns>, CopyError> {
        if let Some((_, runs)) = self.recorded.iter().find(|(kept, _)| *kept == version) {
            return Ok(Arc::clone(runs));
        }
        let damaged = || ReadError::Damaged {
            place: format!("stream {} version {version}", self.stream),
            detail: "a record of the position map is not there".to_owned(),
        };
        let runs = Arc::new(self.read(version).await?.ok_or_else(damaged)?);
        self.keep(version, Arc::clone(&runs));
        Ok(runs)
    }

    fn keep(&mut self, version: u64, runs: Arc<ImageRuns>) {
        if self.recorded.len() >= CHUNKS_KEPT {
            self.recorded.pop_front();
        }
        self.recorded.push_back((version, runs));
    }

    async fn read(&self, version: u64) -> Result<Option<ImageRuns>, CopyError> {
        let page =
            self.new.page(Read::stream(self.stream.clone(), Version(version)).page_of(1)).await?;
        let Some(event) = page.events.first() else { return Ok(None) };
        let events = Schema::of::<CopyEvent>()?.decode::<CopyEvent>(event, Unknown::Refuse)?;
        Ok(events.into_iter().find_map(ImageRuns::of))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares runs with a plain table.
    #[test]
    fn runs_say_what_a_table_says() {
        let seed = leftfold_testing::seed();
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..200 {
            let mut runs = ImageRuns { before: (7, 9), ..ImageRuns::default() };
            let (mut table, mut next, mut last) = (Vec::new(), 10, (7, 9));
            let usual = random.u64(..2);
            for old in 1..=random.u64(1..60) {
                let images = if random.u8(..4) > 0 { usual } else { random.u64(..4) };
                let primary = random.u64(..images.max(1));
                runs.push(Position(old), Position(next), images, primary);
                if images > 0 {
                    last = (next + primary, next + images - 1);
                }
                next += images + u64::from(random.u8(..8) == 0);
                table.push((old, last, images > 0));
            }
            let back = ImageRuns::of(runs.event()).unwrap();
            assert_eq!(back, runs);
            for (old, (position, through), kept) in table {
                let fate = if kept { EventFate::Copied } else { EventFate::Dropped };
                let image =
                    Image { position: Position(position), through: Position(through), fate };
                assert_eq!(runs.image(Position(old)), image, "old {old} in {runs:?}");
            }
            assert_eq!(runs.end(), last);
        }
    }
}
