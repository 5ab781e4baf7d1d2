//! The place up to which the events of one source are settled.

use leftfold::store::Position;

use super::Millis;
use crate::groups::settings::GroupSettings;

/// Positions without an event of the group after which a checkpoint is written all the same, so
/// that they are not read again.
const PASSED_MAX: u64 = 10_000;

/// Places up to which one source was taken, settled and written down.
#[derive(Debug)]
pub(super) struct SettledCursor {
    through: Position,
    checkpoint: Position,
    written_at: Millis,
    /// Events that were settled since the last checkpoint.
    settled: u64,
}

impl SettledCursor {
    pub(super) fn new(at: Position, now: Millis) -> Self {
        Self { through: at, checkpoint: at, written_at: now, settled: 0 }
    }

    pub(super) fn through(&self) -> Position {
        self.through
    }

    pub(super) fn checkpoint(&self) -> Position {
        self.checkpoint
    }

    pub(super) fn take(&mut self, position: Position) {
        self.through = position;
    }

    pub(super) fn pass(&mut self, through: Position) {
        self.through = self.through.max(through);
    }

    pub(super) fn settle(&mut self) {
        self.settled += 1;
    }

    /// The position up to which all is settled, if this is the oldest event that is not.
    pub(super) fn settled(&self, oldest: Option<Position>) -> Position {
        oldest.map_or(self.through, |oldest| Position(oldest.0.saturating_sub(1)))
    }

    pub(super) fn is_due(
        &self,
        settled: Position,
        settings: &GroupSettings,
        now: Millis,
        is_end: bool,
    ) -> bool {
        if settled <= self.checkpoint {
            return false;
        }
        let is_time = now >= self.written_at.saturating_add(settings.checkpoint_after_ms);
        is_end
            || self.settled >= u64::from(settings.checkpoint_events_max)
            || (is_time && self.is_enough(settled, settings))
    }

    /// Time at which a checkpoint may be due.
    pub(super) fn next(&self, settled: Position, settings: &GroupSettings) -> Option<Millis> {
        let is_enough = settled > self.checkpoint && self.is_enough(settled, settings);
        is_enough.then(|| self.written_at.saturating_add(settings.checkpoint_after_ms))
    }

    fn is_enough(&self, settled: Position, settings: &GroupSettings) -> bool {
        let least = u64::from(settings.checkpoint_events_min).max(1);
        self.settled >= least || settled.0 - self.checkpoint.0 >= PASSED_MAX
    }

    pub(super) fn written(&mut self, position: Position, now: Millis) {
        self.checkpoint = position;
        self.written_at = now;
        self.settled = 0;
    }
}
