//! Figures of a run, counted while it goes on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Parts of a doubling of latency: each bucket is about 9% wider than the one before.
const BUCKETS_PER_DOUBLING: f64 = 8.0;
/// Buckets of latencies, up to 2^31 µs, which is 35 minutes.
const BUCKETS: usize = 31 * 8;

/// Figures of all stations together.
#[derive(Debug)]
pub(crate) struct Figures {
    pub(crate) connected: Counter,
    pub(crate) online: Counter,
    pub(crate) not_connected: Counter,
    pub(crate) frames_sent: Counter,
    pub(crate) frames_received: Counter,
    /// Connections that were cut before a frame was sent.
    pub(crate) cuts: Counter,
    /// Connections that were cut when the answer to a frame came.
    pub(crate) lost_replies: Counter,
    /// Connections that stayed open and carried no answer.
    pub(crate) half_open: Counter,
    latencies: [AtomicU64; BUCKETS],
}

/// Number that many stations count at once.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn take_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            connected: Counter::default(),
            online: Counter::default(),
            not_connected: Counter::default(),
            frames_sent: Counter::default(),
            frames_received: Counter::default(),
            cuts: Counter::default(),
            lost_replies: Counter::default(),
            half_open: Counter::default(),
            latencies: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

impl Figures {
    /// Counts the time that the server took for an answer.
    pub(crate) fn answered_in(&self, latency: Duration) {
        let micros = latency.as_secs_f64() * 1e6;
        // Never negative, and cut at the last bucket.
        let bucket = (micros.max(1.0).log2() * BUCKETS_PER_DOUBLING) as usize;
        self.latencies[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the number of answers.
    pub(crate) fn answers(&self) -> u64 {
        self.latencies.iter().map(|bucket| bucket.load(Ordering::Relaxed)).sum()
    }

    /// Returns the latency within which this share of the answers came, to about 9%; `None` without
    /// answers.
    pub(crate) fn latency_ms(&self, share: f64) -> Option<f64> {
        let answers = self.answers();
        let wanted = (answers as f64 * share).ceil();
        let mut seen = 0_u64;
        for (at, bucket) in self.latencies.iter().enumerate() {
            seen += bucket.load(Ordering::Relaxed);
            if answers > 0 && seen as f64 >= wanted {
                let micros = ((at + 1) as f64 / BUCKETS_PER_DOUBLING).exp2();
                return Some((micros / 10.0).round() / 100.0);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_answers_within_a_latency_is_told_to_a_tenth() {
        let figures = Figures::default();
        assert_eq!(figures.latency_ms(0.99), None);
        for ms in 1..=100 {
            figures.answered_in(Duration::from_millis(ms));
        }
        let (median, p99) = (figures.latency_ms(0.5).unwrap(), figures.latency_ms(0.99).unwrap());
        assert!((50.0..55.0).contains(&median) && (99.0..109.0).contains(&p99), "{median} {p99}");
    }
}
