//! Waits after failures: how they grow, and the table of all that the runtime has.

use std::time::Duration;

/// Wait before another try: doubled from the first to the longest, with a quarter of jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::runtime) struct Backoff {
    /// The wait after the first failure.
    pub(in crate::runtime) first: Duration,
    pub(in crate::runtime) longest: Duration,
}

// Each is named by who waits, and what for. Those that do not grow are taken by their `first`.

/// An effect whose attempt certainly did not take place, if its policy says nothing else.
pub(in crate::runtime) const EFFECT_ATTEMPT: Backoff = doubling(1_000, 600_000);
/// An effect whose beginning cannot be recorded yet: the store is busy.
pub(in crate::runtime) const EFFECT_BEGINNING: Backoff = steady(100);
/// An effect whose ledger cannot be read or written: the store failed.
pub(in crate::runtime) const EFFECT_STORE: Backoff = doubling(200, 30_000);
/// An effect whose ledger has a record that no release so far can read.
pub(in crate::runtime) const EFFECT_UNREADABLE: Backoff = steady(600_000);
/// Outcomes that are still to be recorded by a runtime that stops.
pub(in crate::runtime) const EFFECT_LAST_OUTCOMES: Backoff = steady(50);
/// The time that a store did not tell when a runtime was started.
pub(in crate::runtime) const CLOCK: Backoff = steady(200);
/// A lease that the store could not be asked for.
pub(in crate::runtime) const LEASE: Backoff = steady(1_000);
/// The part of a runtime in the sharing of work, after a panic.
pub(in crate::runtime) const SHARING: Backoff = steady(3_000);
/// A work that its runner could not do, until it counts again as one that can: others that can are
/// asked first meanwhile.
pub(in crate::runtime) const LAST_RESORT: Backoff = doubling(60_000, 1_800_000);
/// A process whose log cannot be read or written, or that waits for a person.
pub(in crate::runtime) const PROCESS_STORE: Backoff = steady(1_000);
/// A request of an operator that is another runtime's, or that cannot be carried out now.
pub(in crate::runtime) const OPERATOR: Backoff = doubling(500, 10_000);
/// A command of a process that was not carried out: the store failed.
pub(in crate::runtime) const PROCESS_COMMAND: Backoff = doubling(100, 30_000);
/// An event that a projection failed to apply.
pub(in crate::runtime) const PROJECTION_EVENT: Backoff = doubling(50, 1_000);
/// A projection whose target, or whose log, is away.
pub(in crate::runtime) const PROJECTION_AWAY: Backoff = doubling(100, 30_000);
/// A projection whose place in the target another session has: how soon a standby takes over.
pub(in crate::runtime) const PROJECTION_IN_USE: Backoff = doubling(100, 1_000);
/// A message that the store cannot take: the first tries, before the broker gets it back.
pub(in crate::runtime) const RECEIVER_TAKE: Backoff = doubling(50, 1_000);
/// A receiver whose broker, or whose store, is away.
pub(in crate::runtime) const RECEIVER_AWAY: Backoff = doubling(100, 30_000);
/// A recurring command that was not carried out: the store failed.
pub(in crate::runtime) const RECURRING: Backoff = doubling(1_000, 60_000);

const fn doubling(first_ms: u64, longest_ms: u64) -> Backoff {
    Backoff { first: Duration::from_millis(first_ms), longest: Duration::from_millis(longest_ms) }
}

const fn steady(wait_ms: u64) -> Backoff {
    doubling(wait_ms, wait_ms)
}

impl Backoff {
    /// Returns the wait after a number of tries, from 1.
    pub(in crate::runtime) fn after(self, tries: u32) -> Duration {
        let doubled = self
            .first
            .saturating_mul(1_u32.checked_shl(tries.saturating_sub(1)).unwrap_or(u32::MAX));
        doubled.min(self.longest).mul_f64(0.75 + 0.25 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wait_of_the_runtime_has_the_first_and_the_longest_time_that_it_had() {
        let table = [
            (EFFECT_ATTEMPT, 1_000, 600_000),
            (EFFECT_BEGINNING, 100, 100),
            (EFFECT_STORE, 200, 30_000),
            (EFFECT_UNREADABLE, 600_000, 600_000),
            (EFFECT_LAST_OUTCOMES, 50, 50),
            (CLOCK, 200, 200),
            (LEASE, 1_000, 1_000),
            (SHARING, 3_000, 3_000),
            (LAST_RESORT, 60_000, 1_800_000),
            (PROCESS_STORE, 1_000, 1_000),
            (PROCESS_COMMAND, 100, 30_000),
            (PROJECTION_EVENT, 50, 1_000),
            (PROJECTION_AWAY, 100, 30_000),
            (PROJECTION_IN_USE, 100, 1_000),
            (RECEIVER_TAKE, 50, 1_000),
            (RECEIVER_AWAY, 100, 30_000),
            (RECURRING, 1_000, 60_000),
            (OPERATOR, 500, 10_000),
        ];
        for (wait, first_ms, longest_ms) in table {
            assert_eq!((wait.first.as_millis(), wait.longest.as_millis()), (first_ms, longest_ms));
        }
    }

    #[test]
    fn a_wait_doubles_from_the_first_to_the_longest_less_a_quarter_at_most() {
        for (tries, most_ms) in [
            (0, 100),
            (1, 100),
            (2, 200),
            (5, 1_600),
            (9, 25_600),
            (10, 30_000),
            (u32::MAX, 30_000),
        ] {
            let wait_ms = PROJECTION_AWAY.after(tries).as_millis();
            assert!((most_ms * 3 / 4..=most_ms).contains(&wait_ms), "{tries}: {wait_ms} ms");
        }
    }
}
