//! The place up to which the events of one source are settled.

use leftfold::store::Position;

use super::Millis;
use crate::groups::settings::GroupSettings;

/// Positions without an event of the group after which a checkpoint is written all the same, so
/// that they are not read again.
const PASSED_MAX: u64 = 10_000;

/// A position up to which everything is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::groups) struct SettledPlace {
    pub(in crate::groups) position: Position,
    /// Number of events that were taken up to there.
    pub(super) count: u64,
}

/// Places up to which one source was taken, settled and written down.
#[derive(Debug)]
pub(super) struct SettledCursor {
    through: SettledPlace,
    checkpoint: SettledPlace,
    written_at: Millis,
}

impl SettledCursor {
    pub(super) fn new(position: Position, now: Millis) -> Self {
        let at = SettledPlace { position, count: 0 };
        Self { through: at, checkpoint: at, written_at: now }
    }

    pub(super) fn through(&self) -> Position {
        self.through.position
    }

    pub(super) fn checkpoint(&self) -> Position {
        self.checkpoint.position
    }

    /// Takes the next event. Returns the number of those before it.
    pub(super) fn take(&mut self, position: Position) -> u64 {
        self.through.position = position;
        self.through.count += 1;
        self.through.count - 1
    }

    pub(super) fn pass(&mut self, through: Position) {
        self.through.position = self.through.position.max(through);
    }

    /// Goes back, so that what is behind a position is taken once more.
    pub(super) fn go_back(&mut self, to: Position) {
        self.through.position = self.through.position.min(to);
    }

    /// The place up to which all is settled, with the place before the oldest event that is not.
    pub(super) fn settled(&self, before_oldest: Option<SettledPlace>) -> SettledPlace {
        // The oldest one is behind if the cursor went back.
        let before = before_oldest.filter(|before| before.position < self.through.position);
        before.unwrap_or(self.through)
    }

    pub(super) fn is_due(
        &self,
        settled: SettledPlace,
        settings: &GroupSettings,
        now: Millis,
        is_end: bool,
    ) -> bool {
        if settled.position <= self.checkpoint.position {
            return false;
        }
        let is_time = now >= self.written_at.saturating_add(settings.checkpoint_after_ms);
        is_end
            || self.count(settled) >= u64::from(settings.checkpoint_events_max)
            || (is_time && self.is_enough(settled, settings))
    }

    /// Time at which a checkpoint may be due.
    pub(super) fn next(&self, settled: SettledPlace, settings: &GroupSettings) -> Option<Millis> {
        let has_moved = settled.position > self.checkpoint.position;
        let is_enough = has_moved && self.is_enough(settled, settings);
        is_enough.then(|| self.written_at.saturating_add(settings.checkpoint_after_ms))
    }

    fn is_enough(&self, settled: SettledPlace, settings: &GroupSettings) -> bool {
        let least = u64::from(settings.checkpoint_events_min).max(1);
        let passed = settled.position.0.saturating_sub(self.checkpoint.position.0);
        self.count(settled) >= least || passed >= PASSED_MAX
    }

    /// Events that a checkpoint at a place takes in beyond the last one.
    fn count(&self, settled: SettledPlace) -> u64 {
        settled.count.saturating_sub(self.checkpoint.count)
    }

    pub(super) fn written(&mut self, at: SettledPlace, now: Millis) {
        self.checkpoint = at;
        self.written_at = now;
    }
}
