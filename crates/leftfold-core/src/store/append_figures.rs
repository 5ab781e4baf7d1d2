//! Figures of appends that every backend with figures has, under the same names.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{AppendError, Histogram, Metrics, Outcome};

/// Counters of the appends of a backend since it was opened. Each is added to without a lock.
#[derive(Debug)]
pub struct AppendFigures {
    answers: [AtomicU64; ANSWERS.len()],
    events: AtomicU64,
    group_appends: Histogram,
}

/// Answers of appends, as a label names them.
const ANSWERS: [&str; 8] =
    ["appended", "repeated", "conflict", "fenced", "invalid", "busy", "full", "failed"];
const GROUP_APPENDS: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 256, 1_024];

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
            | AppendError::Denied { .. }
            | AppendError::Closed
            | AppendError::Read(_),
        ) => 7,
    }
}

impl Default for AppendFigures {
    fn default() -> Self {
        Self {
            answers: Default::default(),
            events: AtomicU64::new(0),
            group_appends: Histogram::of_counts(&GROUP_APPENDS),
        }
    }
}

impl AppendFigures {
    /// Counts an append that is answered, by its answer.
    pub fn answered(&self, outcome: &Result<Outcome, AppendError>) {
        self.answers[answer(outcome)].fetch_add(1, Ordering::Relaxed);
        if let Ok(Outcome::Appended(appended)) = outcome {
            self.events.fetch_add(appended.versions.len() as u64, Ordering::Relaxed);
        }
    }

    /// Counts a group that is durable, by the number of appends that it answers.
    pub fn group(&self, appends: usize) {
        self.group_appends.observe(appends as u64);
    }

    /// Adds the figures, with those of the queue of the writer: the number of requests that wait,
    /// and their bytes.
    pub fn measure(&self, metrics: &mut Metrics, (requests, bytes): (usize, usize)) {
        let name = "leftfold_store_appends_total";
        for (label, count) in ANSWERS.iter().zip(&self.answers) {
            let count = count.load(Ordering::Relaxed);
            metrics.counter(name, "Appends, by their answer.", &[("outcome", label)], count);
        }
        let events = self.events.load(Ordering::Relaxed);
        let help = "Events that were appended.";
        metrics.counter("leftfold_store_events_total", help, &[], events);
        let appends = "Appends that one sync, or one commit, answered.";
        metrics.histogram("leftfold_store_group_appends", appends, &[], &self.group_appends);
        let waiting = "Appends that wait for the writer.";
        metrics.gauge("leftfold_store_queue_appends", waiting, &[], requests);
        metrics.gauge("leftfold_store_queue_bytes", "Bytes of those appends.", &[], bytes);
    }

    /// Adds how far the clock of the store is ahead while it is not followed; 0 if it is.
    pub fn measure_clock(metrics: &mut Metrics, skew_micros: i64) {
        let help = "How far the clock is ahead and not followed.";
        let name = "leftfold_store_clock_skew_seconds";
        metrics.gauge(name, help, &[], skew_micros as f64 / 1e6);
    }
}
