//! Images of the positions that events speak of: asked by the owners of the runtime's records,
//! answered from the map.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::error::CopyError;
use super::map::{EventFate, Image, PositionMap};
use crate::runtime::Positions;
use crate::store::Position;

/// The images of positions, as far as they were asked for.
#[derive(Debug)]
pub(super) struct References {
    /// First position of the append: no position from here on was known when its events were
    /// recorded.
    before: Position,
    known: BTreeMap<Position, Image>,
    /// Positions that were asked for and are not known.
    missing: RefCell<Vec<Position>>,
}

impl References {
    /// Makes the references of an append that begins at a position.
    pub(super) fn before(position: Position) -> Self {
        Self { before: position, known: BTreeMap::new(), missing: RefCell::default() }
    }

    /// Looks up the positions that were asked for without result since. Returns true if there were
    /// any: then the answers given count for nothing.
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
            Some(image) if image.fate == EventFate::Dropped => None,
            image => Some(image.map_or(position, |image| image.position)),
        }
    }

    fn through(&self, position: Position) -> Position {
        self.image(position).map_or(position, |image| image.through)
    }
}
