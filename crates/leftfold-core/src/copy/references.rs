//! What became of positions that events speak of: asked by the owners of the runtime's records, answered from the map.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::error::CopyError;
use super::map::{Fate, Image, PositionMap};
use crate::runtime::Positions;
use crate::store::Position;

/// The images of positions, as far as they were asked for.
#[derive(Debug)]
pub(super) struct References {
    /// What is not copied yet was no position that was known when the event was recorded.
    before: Position,
    known: BTreeMap<Position, Image>,
    /// What was asked for and is not known.
    missing: RefCell<Vec<Position>>,
}

impl References {
    /// Those of an append that begins there.
    pub(super) fn before(position: Position) -> Self {
        Self { before: position, known: BTreeMap::new(), missing: RefCell::default() }
    }

    /// Looks up what was asked for in vain since. Whether there was any: then what was answered counts for nothing.
    pub(super) async fn look_up(&mut self, map: &mut PositionMap) -> Result<bool, CopyError> {
        let missing = self.missing.take();
        for position in &missing {
            self.known.insert(*position, map.image(*position).await?);
        }
        Ok(!missing.is_empty())
    }

    fn image(&self, position: Position) -> Option<Image> {
        let known = self.known.get(&position).copied();
        if known.is_none() && position > Position::START && position < self.before {
            self.missing.borrow_mut().push(position);
        }
        known
    }
}

impl Positions for References {
    fn event(&self, position: Position) -> Option<Position> {
        match self.image(position) {
            Some(image) if image.fate == Fate::Dropped => None,
            image => Some(image.map_or(position, |image| image.position)),
        }
    }

    fn through(&self, position: Position) -> Position {
        self.image(position).map_or(position, |image| image.through)
    }
}
