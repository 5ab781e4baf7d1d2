//! Going through the positions of a key.

use leftfold_core::store::Position;

use super::IndexError;

/// The positions of one key, in one direction. It sees the index as it was when it was made, and holds no lock.
#[derive(Debug)]
pub(crate) struct Postings;

impl Postings {
    /// Skips what lies before `position` (backwards: after it), in logarithmic time. It never goes back.
    pub(crate) fn seek(&mut self, _position: Position) {}
}

impl Iterator for Postings {
    type Item = Result<Position, IndexError>;
    fn next(&mut self) -> Option<Self::Item> {
        None
    }
}
