//! Ranges of the log that a process has read, and those that it has to search again.

use std::collections::VecDeque;

use crate::store::{EventType, Position, Query};

/// Ranges that a process has read, and those of them to be searched again.
#[derive(Debug, Default)]
pub(super) struct ReadRanges {
    /// After the first position, up to the second: one for each time that the work came to this
    /// runner.
    read: Vec<(Position, Position)>,
    pub(super) again: VecDeque<SearchRange>,
}

/// Types that were not asked for between two positions.
#[derive(Debug)]
pub(super) struct SearchRange {
    pub(super) query: Query,
    pub(super) after: Position,
    pub(super) through: Position,
}

impl ReadRanges {
    /// The runner has recorded that it read everything between two positions.
    pub(super) fn has_read(&mut self, after: Position, through: Position) {
        if through <= after {
            return;
        }
        match self.read.last_mut().filter(|(_, before)| *before == after) {
            Some((_, before)) => *before = through,
            None => self.read.push((after, through)),
        }
    }

    pub(super) fn asks_for_more(&mut self, types: Vec<EventType>) {
        if types.is_empty() {
            return;
        }
        let query = Query::types(types);
        let again = self.read.iter().map(|(after, through)| SearchRange {
            query: query.clone(),
            after: *after,
            through: *through,
        });
        self.again.extend(again);
    }
}
