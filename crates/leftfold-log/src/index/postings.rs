//! Going through the positions of a key.

use std::sync::Arc;

use leftfold_core::store::{Direction, Position};

use super::IndexError;
use super::key::RawKey;
use super::levels::Levels;
use super::upkeep::SharedIndex;

/// The positions of one key, in one direction. It sees the index as it was when it was made, and
/// holds no lock.
///
/// After an error it ends.
#[derive(Debug)]
pub(crate) struct Postings {
    shared: Arc<SharedIndex>,
    levels: Arc<Levels>,
    raw: Vec<u8>,
    direction: Direction,
    through: u64,
    /// Position from which the buffer is filled next; `None` at the end.
    bound: Option<u64>,
    /// Parts that are done: from the oldest, or backwards from the newest.
    parts_done: usize,
    /// In the direction asked for; what is before `next` was given out.
    buffer: Vec<u64>,
    next: usize,
}

impl Postings {
    pub(super) fn new(
        shared: Arc<SharedIndex>,
        key: RawKey<'_>,
        from: Position,
        direction: Direction,
        through: Position,
    ) -> Self {
        let levels = shared.levels();
        let bound = match direction {
            Direction::Forwards => from.0,
            Direction::Backwards => from.0.min(through.0),
        };
        let raw = key.to_vec();
        let (bound, through) = (Some(bound), through.0);
        Self {
            shared,
            levels,
            raw,
            direction,
            through,
            bound,
            parts_done: 0,
            buffer: Vec::new(),
            next: 0,
        }
    }

    /// Skips what lies before `position` (backwards: after it), in logarithmic time. It never goes
    /// back.
    pub(crate) fn seek(&mut self, Position(position): Position) {
        let direction = self.direction;
        let before = |other: u64| match direction {
            Direction::Forwards => other < position,
            Direction::Backwards => other > position,
        };
        self.next += self.buffer[self.next..].partition_point(|&other| before(other));
        if self.next == self.buffer.len() {
            self.bound = self.bound.map(|bound| if before(bound) { position } else { bound });
        }
    }

    /// Fetches what follows; false at the end.
    fn fill(&mut self) -> Result<bool, IndexError> {
        let Some(key) = RawKey::parse(&self.raw) else { return Ok(false) };
        self.buffer.clear();
        self.next = 0;
        while let Some(bound) = self.bound
            && self.parts_done < self.levels.parts()
        {
            let part = match self.direction {
                Direction::Forwards => self.parts_done,
                Direction::Backwards => self.levels.parts() - 1 - self.parts_done,
            };
            self.levels.positions(part, key, &self.raw, bound, self.direction, &mut self.buffer)?;
            if let Some(&last) = self.buffer.last() {
                self.bound = match self.direction {
                    Direction::Forwards => last.checked_add(1),
                    Direction::Backwards => last.checked_sub(1),
                };
                return Ok(true);
            }
            self.parts_done += 1;
        }
        Ok(false)
    }

    fn end(&mut self) {
        self.bound = None;
        self.buffer.clear();
        self.next = 0;
    }
}

impl Iterator for Postings {
    type Item = Result<Position, IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next == self.buffer.len() {
            match self.fill() {
                Ok(true) => {}
                Ok(false) => {
                    self.end();
                    return None;
                }
                Err(error) => {
                    self.end();
                    return Some(self.shared.heed(Err(error)));
                }
            }
        }
        let position = self.buffer[self.next];
        if position > self.through {
            self.end();
            return None;
        }
        self.next += 1;
        Some(Ok(Position(position)))
    }
}
