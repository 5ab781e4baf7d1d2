//! Figures of a log: what was appended, how groups went, and what waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leftfold_core::store::{AppendError, AppendFigures, Histogram, Metrics, Outcome};

/// Counters of a log since it was opened. Each is added to without a lock.
#[derive(Debug)]
pub(crate) struct LogCounters {
    appends: AppendFigures,
    written_bytes: AtomicU64,
    /// Bytes of the file that is written to, with those that were written ahead.
    pub(crate) tail_bytes: AtomicU64,
    group_bytes: Histogram,
    sync: Histogram,
}

/// Bounds in microseconds: from a disk that keeps writes only in memory to one that hardly answers.
const SYNC_MICROS: [u64; 12] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_500_000];
const GROUP_BYTES: [u64; 8] =
    [256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];

impl Default for LogCounters {
    fn default() -> Self {
        Self {
            appends: AppendFigures::default(),
            written_bytes: AtomicU64::new(0),
            tail_bytes: AtomicU64::new(0),
            group_bytes: Histogram::of_counts(&GROUP_BYTES),
            sync: Histogram::of_micros(&SYNC_MICROS),
        }
    }
}

impl LogCounters {
    /// Counts an append that is answered, by its answer.
    pub(crate) fn answered(&self, outcome: &Result<Outcome, AppendError>) {
        self.appends.answered(outcome);
    }

    /// Counts a group that is durable: how many appends it answers, and its bytes.
    pub(crate) fn group(&self, appends: usize, bytes: usize) {
        self.appends.group(appends);
        self.group_bytes.observe(bytes as u64);
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a sync of the file that is written to.
    pub(crate) fn synced(&self, during: Duration) {
        self.sync.observe(u64::try_from(during.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn measure(&self, metrics: &mut Metrics, waiting: (usize, usize)) {
        self.appends.measure(metrics, waiting);
        let written = "Bytes of the groups that were written.";
        metrics.counter(
            "leftfold_store_written_bytes_total",
            written,
            &[],
            self.written_bytes.load(Ordering::Relaxed),
        );
        metrics.histogram(
            "leftfold_store_group_bytes",
            "Bytes of a group.",
            &[],
            &self.group_bytes,
        );
        metrics.histogram(
            "leftfold_store_sync_seconds",
            "Time that a sync of a group took.",
            &[],
            &self.sync,
        );
    }
}
