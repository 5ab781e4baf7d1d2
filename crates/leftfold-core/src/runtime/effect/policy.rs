//! Policies: how often, how long and how many at a time an effect may be tried.

use std::time::Duration;

use super::slots::{HANGING_BYTES_MAX, HANGING_MAX, HANGS_AFTER_PART, SlotBounds};
use crate::runtime::consumer::backoff::{self, Backoff};

/// Limits and rules for carrying out an effect.
///
/// ```
/// use std::time::Duration;
///
/// use leftfold_core::runtime::Policy;
///
/// // A service that does one thing once for one key: five tries, the last after about 15 seconds.
/// let mail = Policy::repeatable()
///     .deadline(Duration::from_secs(10))
///     .attempts(5)
///     .backoff(Duration::from_secs(1), Duration::from_secs(60))
///     .concurrency(8);
/// // A machine that must see orders one after the other, even if the end of one is unknown.
/// let crane = Policy::once().doubts_hold();
/// assert_ne!(mail, crane);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    pub(super) repetition: Repetition,
    pub(in crate::runtime) deadline: Duration,
    pub(super) attempts_max: u32,
    pub(super) backoff: Backoff,
    pub(super) concurrency: usize,
    pub(super) hanging: usize,
    pub(super) doubts_hold: bool,
    /// Time for which an intent may be nowhere; `None` if every process can carry it out.
    pub(super) here_within: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repetition {
    /// An attempt in doubt is not repeated.
    Once,
    /// Repeating does no harm.
    Repeatable,
}

impl Policy {
    /// Never repeated blindly: one attempt, 30 seconds, 64 at a time.
    #[must_use]
    pub const fn once() -> Self {
        Self {
            repetition: Repetition::Once,
            deadline: Duration::from_secs(30),
            attempts_max: 1,
            backoff: backoff::EFFECT_ATTEMPT,
            concurrency: 64,
            hanging: HANGING_MAX,
            doubts_hold: false,
            here_within: None,
        }
    }

    /// Repeating does no harm: at most 10 attempts of 30 seconds, 64 at a time.
    #[must_use]
    pub const fn repeatable() -> Self {
        Self { repetition: Repetition::Repeatable, attempts_max: 10, ..Self::once() }
    }

    /// Sets the time that one attempt may take. For this time the attempt belongs to the process
    /// that opened it: if that process is gone, another one waits until then (and
    /// [`ATTEMPT_GRACE`](super::ATTEMPT_GRACE) longer) before it finds the effect in doubt.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Sets the number of attempts, at least 1. A further one is made only if all before certainly
    /// did not take place, or if repeating does no harm.
    #[must_use]
    pub const fn attempts(mut self, attempts_max: u32) -> Self {
        self.attempts_max = if attempts_max == 0 { 1 } else { attempts_max };
        self
    }

    /// Sets the wait between attempts, and between looks at an effect in doubt: doubled from the
    /// first to the longest.
    #[must_use]
    pub const fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.backoff = Backoff { first, longest };
        self
    }

    /// Lets an effect in doubt keep its place until it is concluded, by a look or by a person.
    ///
    /// Otherwise it gives way to the later ones of its key as soon as it will not be tried again:
    /// then whatever became of it is over, and the order is kept. One that may be tried again keeps
    /// its place in any case.
    #[must_use]
    pub const fn doubts_hold(mut self) -> Self {
        self.doubts_hold = true;
        self
    }

    /// Lets only those processes carry an intent out for which [`Effect::is_here`] says so: the one
    /// that has the socket to the machine that is meant. Every runtime of the effect takes part,
    /// each with what it has here; of several that have an intent here one opens the attempt.
    ///
    /// An intent that is nowhere waits. If it is nowhere still when this time has passed since it
    /// was recorded, or since its next attempt was due, it ends as not done, with a reason that
    /// says so; `Duration::MAX` lets it wait without an end. If an attempt at it is in doubt, it
    /// stays in doubt. An effect in doubt is looked up where it is here, at any time.
    ///
    /// [`Effect::is_here`]: super::Effect::is_here
    #[must_use]
    pub const fn only_here(mut self, within: Duration) -> Self {
        self.here_within = Some(within);
        self
    }

    /// Sets the number of attempts that may be under way at a time, at least 1, beside those that
    /// [hang](Policy::hanging). The same number of other effects may be looked up at the same time.
    #[must_use]
    pub const fn concurrency(mut self, effects: usize) -> Self {
        self.concurrency = if effects == 0 { 1 } else { effects };
        self
    }

    /// Sets the number of hanging attempts and looks that give their slots to others: those that
    /// have taken a tenth of the deadline. With 0 they keep them, and
    /// [`concurrency`](Policy::concurrency) is the most that a target ever sees at a time; then
    /// that number of hanging ones holds up all others. [`HANGING_MAX`] if not
    /// set.
    #[must_use]
    pub const fn hanging(mut self, effects: usize) -> Self {
        self.hanging = effects;
        self
    }

    /// Returns the number of attempts, or of looks, that may be under way.
    pub(super) fn bounds(self) -> SlotBounds {
        SlotBounds {
            at_a_time: self.concurrency,
            hanging: self.hanging,
            hanging_bytes: HANGING_BYTES_MAX,
            hangs_after: self.deadline / HANGS_AFTER_PART,
        }
    }
}
