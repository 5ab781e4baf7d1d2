//! Rates: what is beyond a rate waits for its turn, or is refused.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Credit of one who has taken nothing for long.
const BURST: Duration = Duration::from_secs(1);
/// Longest time that something waits for its turn; what is beyond it is refused.
const PACED_WITHIN: Duration = Duration::from_secs(5);
/// Longest time, in seconds, that one piece of work uses up.
const COST_MAX_SECONDS: f64 = 600.0;

/// A rate, as the moment up to which it is used up.
#[derive(Debug, Default)]
pub struct RateBucket(Mutex<Option<Instant>>);

impl RateBucket {
    /// Takes a cost out of what there is a second, and returns the time until the turn; `None` if
    /// that is more than five seconds away, and nothing is taken. Without a rate there is no wait.
    #[must_use]
    pub fn take(&self, cost: u64, rate: Option<u64>, now: Instant) -> Option<Duration> {
        let Some(rate) = rate else { return Some(Duration::ZERO) };
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let credit = now.checked_sub(BURST).unwrap_or(now);
        let before = used.map_or(credit, |used| used.max(credit));
        if before.saturating_duration_since(now) > PACED_WITHIN {
            return None;
        }
        let seconds = cost as f64 / rate.max(1) as f64;
        let after = before + Duration::from_secs_f64(seconds.min(COST_MAX_SECONDS));
        *used = Some(after);
        Some(after.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_a_second_of_credit_waits_for_its_turn_and_the_rest_is_refused() {
        let (bucket, now) = (RateBucket::default(), Instant::now());
        let take = |now| bucket.take(1, Some(10), now);
        let turns: Vec<_> = (0..11).map(|_| take(now).unwrap()).collect();
        assert_eq!(turns[8], Duration::ZERO);
        assert!(turns[10] > Duration::ZERO);
        let mut taken = turns.len();
        while take(now).is_some() {
            taken += 1;
        }
        assert!((60..=62).contains(&taken), "{taken}");
        // What was refused counts for nothing.
        assert!(take(now + Duration::from_secs(1)).is_some());
        assert_eq!(take(now + Duration::from_secs(20)), Some(Duration::ZERO));
        assert_eq!(bucket.take(u64::MAX, None, now), Some(Duration::ZERO));
        assert!(RateBucket::default().take(u64::MAX, Some(1), now).is_some());
    }
}
