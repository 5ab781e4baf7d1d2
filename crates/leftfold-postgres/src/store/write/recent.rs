//! The latest events, as conditions look at them: type, stream and tags.

use std::collections::VecDeque;

use leftfold_core::store::{EventType, Position, Query, RecordedEvent, StreamName, Tags};

/// Events that are kept at most.
pub(in crate::store) const RECENT_MAX: usize = 10_000;

/// Every event after a position, up to the last one that is known.
#[derive(Debug, Default)]
pub(in crate::store) struct RecentEvents {
    /// Position before the first one that is kept.
    since: Position,
    events: VecDeque<RecentEvent>,
}

/// The part of an event that a query asks for.
#[derive(Clone, Debug)]
pub(in crate::store) struct RecentEvent {
    pub(in crate::store) event_type: EventType,
    pub(in crate::store) stream: Option<StreamName>,
    pub(in crate::store) tags: Tags,
}

impl RecentEvents {
    /// Nothing, from a position on.
    pub(in crate::store) fn after(since: Position) -> Self {
        Self { since, events: VecDeque::new() }
    }

    /// Position after which every event is kept.
    pub(in crate::store) fn since(&self) -> Position {
        self.since
    }

    /// Position up to which they are known.
    pub(in crate::store) fn through(&self) -> Position {
        Position(self.since.0 + self.events.len() as u64)
    }

    /// Adds the event that follows.
    pub(in crate::store) fn push(&mut self, event: RecentEvent) {
        self.events.push_back(event);
    }

    /// Lets go of the oldest beyond the limit.
    pub(in crate::store) fn trim(&mut self) {
        let over = self.events.len().saturating_sub(RECENT_MAX);
        self.events.drain(..over);
        self.since.0 += over as u64;
    }

    /// The first event after a position, which is not before [`since`](Self::since), that matches.
    pub(in crate::store) fn first_match(&self, query: &Query, after: Position) -> Option<Position> {
        let skipped = usize::try_from(after.0.saturating_sub(self.since.0)).unwrap_or(usize::MAX);
        let found = self.events.iter().skip(skipped).position(|event| {
            query.matches_parts(&event.event_type, event.stream.as_ref(), &event.tags)
        })?;
        Some(Position(self.since.0 + (skipped + found) as u64 + 1))
    }
}

impl From<&RecordedEvent> for RecentEvent {
    fn from(event: &RecordedEvent) -> Self {
        Self {
            event_type: event.event_type.clone(),
            stream: event.stream.as_ref().map(|at| at.name.clone()),
            tags: event.tags.clone(),
        }
    }
}
