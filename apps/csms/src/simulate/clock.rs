//! The clock of a station, right or not.

use super::habits::{Habit, Habits};

/// Clock of a station: what it shows at a moment of the model.
#[derive(Clone, Debug)]
pub(crate) struct StationClock {
    /// True time at the begin of the model, in ms since 1970.
    base_ms: i64,
    /// Moment of the last power-up, in ms of the model.
    powered_ms: u64,
    /// True if it shows the time.
    is_right: bool,
    /// True if it can be set.
    can_be_set: bool,
}

impl StationClock {
    pub(crate) fn new(base_ms: i64, habits: Habits) -> Self {
        let is_right = !habits.has(Habit::Clock1970) && !habits.has(Habit::ClockWrongUntilBoot);
        let can_be_set = !habits.has(Habit::Clock1970);
        Self { base_ms, powered_ms: 0, is_right, can_be_set }
    }

    /// Sets it to 1970 if it does not survive a power failure.
    pub(crate) fn power_up(&mut self, now_ms: u64, habits: Habits) {
        self.powered_ms = now_ms;
        if habits.has(Habit::ClockWrongUntilBoot) {
            self.is_right = false;
        }
    }

    /// Sets it to the time that the server tells.
    pub(crate) fn set(&mut self) {
        self.is_right = self.can_be_set;
    }

    /// Returns the time that it shows, in ms since 1970. One that counts from power-up shows whole
    /// seconds, as such firmware does: so several sessions begin at the same moment of it.
    pub(crate) fn shows_ms(&self, now_ms: u64) -> i64 {
        let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
        if self.is_right {
            self.base_ms.saturating_add(signed(now_ms))
        } else {
            signed(now_ms.saturating_sub(self.powered_ms)) / 1_000 * 1_000
        }
    }
}
