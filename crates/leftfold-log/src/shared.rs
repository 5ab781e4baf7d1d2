//! The state that the writer, readers and callers of one log share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use leftfold_core::store::{
    AppendError, AppendFigures, Hash, Head, Identity, Metrics, Outcome, Pending, Position, State,
    Status, Timestamp,
};
use tokio::sync::watch;

use crate::clock::{LogClock, RecordedTime};
use crate::figures::LogCounters;
use crate::index::Index;
use crate::options::Options;
use crate::read::pool::Pool;
use crate::segments::segment::Segments;
use crate::write::queue::RequestQueue;
use crate::write::recycle::AnsweredRequests;

/// Groups whose hash is at hand: consumers that are nearly live ask for those.
pub(crate) const GROUPS_KEPT: usize = 4_096;

/// Threads that wait for the disk on behalf of readers.
const READERS_MAX: usize = 8;

/// State that the writer, readers and callers share.
#[derive(Debug)]
pub(crate) struct SharedLog {
    pub(crate) identity: Identity,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) segments: Arc<Segments>,
    pub(crate) index: Index,
    pub(crate) queue: RequestQueue,
    pub(crate) groups: RwLock<VecDeque<GroupSpan>>,
    pub(crate) answered: AnsweredRequests,
    pub(crate) pool: Pool,
    pub(crate) figures: LogCounters,
    clock: Arc<dyn LogClock>,
    time: Mutex<RecordedTime>,
    skew_micros: AtomicI64,
    /// Somebody said that the clock is right, and it was not looked at since.
    pub(crate) follow_clock: AtomicBool,
}

/// The positions that one group recorded, and the chain hash after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupSpan {
    pub(crate) first: Position,
    pub(crate) last: Position,
    pub(crate) hash: Hash,
}

impl SharedLog {
    pub(crate) fn new(
        identity: Identity,
        status: Status,
        segments: Arc<Segments>,
        index: Index,
        options: &Options,
        last_recorded_at: i64,
    ) -> Self {
        let clock = Arc::clone(&options.clock);
        let time = Mutex::new(RecordedTime::starting(&*clock, last_recorded_at));
        Self {
            identity,
            status: watch::Sender::new(status),
            segments,
            index,
            queue: RequestQueue::new(options.queue_bytes, options.queue_appends),
            groups: RwLock::default(),
            answered: AnsweredRequests::default(),
            pool: Pool::new(READERS_MAX, options.queue_bytes),
            figures: LogCounters::default(),
            clock,
            time,
            skew_micros: AtomicI64::new(0),
            follow_clock: AtomicBool::new(false),
        }
    }

    /// The durable end.
    pub(crate) fn head(&self) -> Head {
        self.status.borrow().head
    }

    pub(crate) fn read_only(&self) -> Option<String> {
        match &self.status.borrow().state {
            State::ReadOnly { detail } => Some(detail.clone()),
            State::Open | State::Away { .. } | State::Closed => None,
        }
    }

    pub(crate) fn become_read_only(&self, detail: &str) {
        tracing::error!(detail, "the log is read-only until it is opened again");
        let state = State::ReadOnly { detail: detail.to_owned() };
        self.status.send_if_modified(|status| {
            let first = status.state == State::Open;
            if first {
                status.state = state;
            }
            first
        });
    }

    pub(crate) fn skew_micros(&self) -> i64 {
        self.skew_micros.load(Ordering::Relaxed)
    }

    /// Returns the recorded time of the next group, in microseconds.
    pub(crate) fn tick(&self) -> i64 {
        let tick = self.believed_time().tick(&*self.clock);
        self.note_skew(tick.skew_micros);
        tick.micros
    }

    /// Returns the time by which groups are recorded.
    pub(crate) fn time_now(&self) -> Timestamp {
        let (now, skew_micros) = self.believed_time().look(&*self.clock);
        self.note_skew(skew_micros);
        now
    }

    /// Returns the time for leases.
    pub(crate) fn steady_now(&self) -> Timestamp {
        self.believed_time().steady(&*self.clock)
    }

    fn believed_time(&self) -> MutexGuard<'_, RecordedTime> {
        // Whatever a clock panics in, the time before is a time.
        let mut time = self.time.lock().unwrap_or_else(PoisonError::into_inner);
        if self.follow_clock.swap(false, Ordering::Relaxed) {
            time.follow(&*self.clock);
        }
        time
    }

    /// An answer that needs no waiting, which is counted.
    pub(crate) fn at_once_answered(
        &self,
        outcome: Result<Outcome, AppendError>,
    ) -> Pending<Outcome, AppendError> {
        self.figures.answered(&outcome);
        Pending::ready(outcome)
    }

    fn note_skew(&self, micros: i64) {
        if self.skew_micros.swap(micros, Ordering::Relaxed) == 0 && micros != 0 {
            tracing::error!(
                micros,
                "the machine's clock was set by more than a day and is not followed: set it right, or say that it is by Log::follow_clock"
            );
        }
    }

    /// Remembers which group recorded the latest positions.
    pub(crate) fn note_group(&self, span: GroupSpan) {
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        if groups.len() >= GROUPS_KEPT {
            groups.pop_front();
        }
        groups.push_back(span);
    }

    /// Adds the figures of the log, its index and its files.
    pub(crate) fn measure(&self, metrics: &mut Metrics) {
        self.figures.measure(metrics, self.queue.waiting());
        let (reads, bytes) = self.pool.waiting();
        metrics.gauge("leftfold_store_queue_reads", "Reads that wait for a thread.", &[], reads);
        metrics.gauge("leftfold_store_queue_read_bytes", "Bytes of those reads.", &[], bytes);
        AppendFigures::measure_clock(metrics, self.skew_micros());
        let cache = self.index.cache_figures();
        let hits = "Pages of the index that were in memory.";
        metrics.counter("leftfold_index_cache_hits_total", hits, &[], cache.hits);
        let misses = "Pages of the index that were read from a file.";
        metrics.counter("leftfold_index_cache_misses_total", misses, &[], cache.misses);
        metrics.gauge(
            "leftfold_index_cache_bytes",
            "Bytes of pages of the index in memory.",
            &[],
            cache.bytes,
        );
        let (runs, index_bytes) = self.index.files();
        metrics.gauge("leftfold_index_runs", "Files of the index.", &[], runs);
        let (segments, sealed_bytes) = self.segments.sealed();
        metrics.gauge("leftfold_store_segments", "Segments of the log.", &[], segments);
        let segment_bytes = sealed_bytes + self.figures.tail_bytes.load(Ordering::Relaxed);
        for (part, bytes) in [("segments", segment_bytes), ("index", index_bytes)] {
            let help = "Bytes on disk; the index can be rebuilt from the segments.";
            metrics.gauge("leftfold_store_disk_bytes", help, &[("part", part)], bytes);
        }
    }
}
