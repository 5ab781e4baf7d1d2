//! The log's own threads for what waits for the disk, so that no runtime's thread does, and none is
//! needed.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// More waits than may.
#[derive(Debug)]
pub(crate) struct PoolFull {
    pub(crate) waiting: usize,
}

/// A few threads, started as they are needed. They end with the pool, when what they were given is
/// done.
pub(crate) struct Pool {
    inner: Arc<Inner>,
}

struct Inner {
    state: Mutex<PoolState>,
    arrived: Condvar,
    threads_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct PoolState {
    /// Each with what it counts for.
    jobs: VecDeque<(usize, Job)>,
    bytes: usize,
    threads: usize,
    idle: usize,
    ended: bool,
}

impl Pool {
    pub(crate) fn new(threads_max: usize, bytes_max: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                state: Mutex::default(),
                arrived: Condvar::new(),
                threads_max,
                bytes_max,
            }),
        }
    }

    /// Runs the job soon, or at once on this thread if no other can be had. Refuses it if more
    /// waits already than may.
    pub(crate) fn try_run(
        &self,
        weight: usize,
        job: impl FnOnce() + Send + 'static,
    ) -> Result<(), PoolFull> {
        let state = self.inner.state();
        if state.bytes >= self.inner.bytes_max {
            return Err(PoolFull { waiting: state.bytes });
        }
        self.add(state, weight, Box::new(job));
        Ok(())
    }

    /// Returns the number of jobs that wait, and the bytes that they count for.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = self.inner.state();
        (state.jobs.len(), state.bytes)
    }

    /// Runs the job soon, even if more waits than may: something else bounds the number of these
    /// jobs.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) {
        self.add(self.inner.state(), 0, Box::new(job));
    }

    fn add(&self, mut state: MutexGuard<'_, PoolState>, weight: usize, job: Job) {
        state.bytes += weight;
        state.jobs.push_back((weight, job));
        if state.idle >= state.jobs.len() || state.threads >= self.inner.threads_max {
            drop(state);
            self.inner.arrived.notify_one();
            return;
        }
        state.threads += 1;
        drop(state);
        let inner = Arc::clone(&self.inner);
        let spawned = std::thread::Builder::new()
            .name("leftfold-read".to_owned())
            .spawn(move || inner.work());
        if spawned.is_err() {
            let mut state = self.inner.state();
            state.threads -= 1;
            let job = if state.threads == 0 { state.jobs.pop_back() } else { None };
            state.bytes -= job.as_ref().map_or(0, |(weight, _)| *weight);
            drop(state);
            if let Some((_, job)) = job {
                job();
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.inner.state().ended = true;
        self.inner.arrived.notify_all();
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("threads_max", &self.inner.threads_max).finish_non_exhaustive()
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, PoolState> {
        // Jobs run outside the lock; what happens inside it is single steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let mut state = self.state();
        loop {
            if let Some((weight, job)) = state.jobs.pop_front() {
                state.bytes -= weight;
                drop(state);
                // A job that panics tells its caller by dropping its channel; the thread goes on.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
                state = self.state();
            } else if state.ended {
                return;
            } else {
                state.idle += 1;
                state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}
