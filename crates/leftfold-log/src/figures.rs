//! Figures of a log: what was appended, how groups went, and what waits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leftfold_core::store::{AppendError, Histogram, Metrics, Outcome};

/// Counters of a log since it was opened. Each is added to without a lock.
#[derive(Debug)]
pub(crate) struct LogCounters {
    answers: [AtomicU64; ANSWERS.len()],
    events: AtomicU64,
    written_bytes: AtomicU64,
    /// Bytes of the file that is written to, with those that were written ahead.
    pub(crate) tail_bytes: AtomicU64,
    group_appends: Histogram,
    group_bytes: Histogram,
    sync: Histogram,
}

/// Answers of appends, as a label names them.
const ANSWERS: [&str; 8] =
    ["appended", "repeated", "conflict", "fenced", "invalid", "busy", "full", "failed"];

fn answer(outcome: &Result<Outcome, AppendError>) -> usize {
    match outcome {
        Ok(Outcome::Appended(_)) => 0,
        Ok(Outcome::Repeated(_)) => 1,
        Ok(Outcome::Conflict(_)) | Err(AppendError::CheckpointMoved { .. }) => 2,
        Err(AppendError::Fenced { .. }) => 3,
        Err(AppendError::Invalid(_) | AppendError::CommandIdReused { .. }) => 4,
        Err(AppendError::Busy { .. }) => 5,
        Err(AppendError::Full { .. }) => 6,
        Err(
            AppendError::Unknown { .. }
            | AppendError::ReadOnly { .. }
            | AppendError::Unavailable { .. }
            | AppendError::ReadModel { .. }
            | AppendError::Closed
            | AppendError::Read(_),
        ) => 7,
    }
}

/// Bounds in microseconds: from a disk that keeps writes only in memory to one that hardly answers.
const SYNC_MICROS: [u64; 12] =
    [50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 100_000, 500_000, 2_500_000];
const GROUP_APPENDS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 256, 1_024];
const GROUP_BYTES: [u64; 8] =
    [256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];

impl Default for LogCounters {
    fn default() -> Self {
        Self {
            answers: Default::default(),
            events: AtomicU64::new(0),
            written_bytes: AtomicU64::new(0),
            tail_bytes: AtomicU64::new(0),
            group_appends: Histogram::of_counts(&GROUP_APPENDS),
            group_bytes: Histogram::of_counts(&GROUP_BYTES),
            sync: Histogram::of_micros(&SYNC_MICROS),
        }
    }
}

impl LogCounters {
    /// Counts an append that is answered, by its answer.
    pub(crate) fn answered(&self, outcome: &Result<Outcome, AppendError>) {
        self.answers[answer(outcome)].fetch_add(1, Ordering::Relaxed);
        if let Ok(Outcome::Appended(appended)) = outcome {
            self.events.fetch_add(appended.versions.len() as u64, Ordering::Relaxed);
        }
    }

    /// Counts a group that is durable: how many appends it answers, and its bytes.
    pub(crate) fn group(&self, appends: usize, bytes: usize) {
        self.group_appends.observe(appends as u64);
        self.group_bytes.observe(bytes as u64);
        self.written_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a sync of the file that is written to.
    pub(crate) fn synced(&self, during: Duration) {
        self.sync.observe(u64::try_from(during.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn measure(&self, metrics: &mut Metrics) {
        for (label, count) in ANSWERS.iter().zip(&self.answers) {
            let help = "Appends, by their answer.";
            metrics.counter(
                "leftfold_store_appends_total",
                help,
                &[("outcome", label)],
                count.load(Ordering::Relaxed),
            );
        }
        let now = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        metrics.counter(
            "leftfold_store_events_total",
            "Events that were appended.",
            &[],
            now(&self.events),
        );
        let written = "Bytes of the groups that were written.";
        metrics.counter(
            "leftfold_store_written_bytes_total",
            written,
            &[],
            now(&self.written_bytes),
        );
        let appends = "Appends that one sync answered.";
        metrics.histogram("leftfold_store_group_appends", appends, &[], &self.group_appends);
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
