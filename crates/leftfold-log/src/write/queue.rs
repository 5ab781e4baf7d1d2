//! Queue of the writer: appends, in the order they came, and the request to close.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leftfold_core::store::{AppendError, CloseError, LeaseError};
use tokio::sync::oneshot;

use crate::figures::LogCounters;
use crate::write::request::WriteRequest;

#[derive(Debug)]
pub(crate) struct RequestQueue {
    state: Mutex<RequestQueueState>,
    arrived: Condvar,
    bytes_max: usize,
    appends_max: usize,
}

#[derive(Debug, Default)]
struct RequestQueueState {
    requests: VecDeque<WriteRequest>,
    bytes: usize,
    /// Appends that were handed over, and are not in the queue yet: their condition is being looked
    /// up elsewhere.
    coming: usize,
    coming_bytes: usize,
    life: QueuePhase,
    writer_sleeps: bool,
    closers: Vec<oneshot::Sender<Result<(), CloseError>>>,
}

#[derive(Debug, Default)]
enum QueuePhase {
    #[default]
    Open,
    Closing,
    Closed(Result<(), CloseError>),
}

/// Reason why an append is not queued.
#[derive(Debug)]
pub(crate) enum QueueRefusal {
    /// The store is closed, or about to be.
    Closing,
    /// As much waits as may wait.
    Busy { waiting: usize },
}

impl From<QueueRefusal> for AppendError {
    fn from(refused: QueueRefusal) -> Self {
        match refused {
            QueueRefusal::Closing => Self::Closed,
            QueueRefusal::Busy { waiting } => Self::Busy { waiting },
        }
    }
}

impl From<QueueRefusal> for LeaseError {
    fn from(refused: QueueRefusal) -> Self {
        match refused {
            QueueRefusal::Closing => Self::Closed,
            busy @ QueueRefusal::Busy { .. } => {
                Self::Unavailable { detail: AppendError::from(busy).to_string() }
            }
        }
    }
}

/// Result of taking from the queue.
#[derive(Debug)]
pub(crate) enum Dequeued {
    Requests,
    /// The writer is to close, and nothing more will come.
    Close,
}

impl RequestQueue {
    pub(crate) fn new(bytes_max: usize, appends_max: usize) -> Self {
        Self { state: Mutex::default(), arrived: Condvar::new(), bytes_max, appends_max }
    }

    fn state(&self) -> MutexGuard<'_, RequestQueueState> {
        // Every change of the state is a single step, so it is whole even where its thread
        // panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state().life, QueuePhase::Open)
    }

    /// Returns the number of appends that wait, and the bytes that they count for.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let state = self.state();
        (state.requests.len() + state.coming, state.bytes + state.coming_bytes)
    }

    /// Adds appends that are to follow each other closely: a group takes them together if it can.
    pub(crate) fn push(
        &self,
        requests: impl IntoIterator<Item = WriteRequest>,
    ) -> Result<(), QueueRefusal> {
        let mut state = self.state();
        self.check(&state)?;
        for request in requests {
            state.bytes += request.held_bytes();
            state.requests.push_back(request);
        }
        self.wake(state);
        Ok(())
    }

    /// Announces an append of some weight that will be added later, so that a close waits for it.
    pub(crate) fn announce(&self, weight: usize) -> Result<(), QueueRefusal> {
        let mut state = self.state();
        self.check(&state)?;
        state.coming += 1;
        state.coming_bytes += weight;
        Ok(())
    }

    /// Checks what waits now, without the append: the last one that comes in may be as large as an
    /// append can be.
    fn check(&self, state: &RequestQueueState) -> Result<(), QueueRefusal> {
        if !matches!(state.life, QueuePhase::Open) {
            return Err(QueueRefusal::Closing);
        }
        let waiting = state.bytes + state.coming_bytes;
        if waiting >= self.bytes_max || state.requests.len() + state.coming >= self.appends_max {
            return Err(QueueRefusal::Busy { waiting });
        }
        Ok(())
    }

    /// Adds an append that was announced with a weight, or only takes the announcement back.
    pub(crate) fn arrive(
        &self,
        weight: usize,
        request: Option<WriteRequest>,
        figures: &LogCounters,
    ) {
        let mut state = self.state();
        state.coming = state.coming.saturating_sub(1);
        state.coming_bytes = state.coming_bytes.saturating_sub(weight);
        match request {
            // The writer panicked, and did not wait for it.
            Some(mut request) if matches!(state.life, QueuePhase::Closed(_)) => {
                drop(state);
                return request.answer(figures, Err(AppendError::Closed));
            }
            Some(request) => {
                state.bytes += request.held_bytes();
                state.requests.push_back(request);
            }
            None => {}
        }
        self.wake(state);
    }

    fn wake(&self, mut state: MutexGuard<'_, RequestQueueState>) {
        let sleeps = std::mem::replace(&mut state.writer_sleeps, false);
        drop(state);
        if sleeps {
            self.arrived.notify_one();
        }
    }

    /// Waits until something is there, and moves all of it behind what `into` holds.
    pub(crate) fn take(&self, into: &mut VecDeque<WriteRequest>) -> Dequeued {
        let mut state = self.state();
        loop {
            if let Some(dequeued) = state.dequeue(into) {
                return dequeued;
            }
            state.writer_sleeps = true;
            state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Does the same for some time at most; `None` if there was nothing.
    pub(crate) fn take_within(
        &self,
        into: &mut VecDeque<WriteRequest>,
        within: Duration,
    ) -> Option<Dequeued> {
        let mut state = self.state();
        if let Some(dequeued) = state.dequeue(into) {
            return Some(dequeued);
        }
        state.writer_sleeps = true;
        let (mut state, _) =
            self.arrived.wait_timeout(state, within).unwrap_or_else(PoisonError::into_inner);
        state.writer_sleeps = false;
        state.dequeue(into)
    }

    /// Moves the requests that are there now behind those in `into`; it does not wait.
    pub(crate) fn take_more(&self, into: &mut VecDeque<WriteRequest>) {
        let mut state = self.state();
        into.append(&mut state.requests);
        state.bytes = 0;
    }

    /// Asks the writer to close; the channel tells when it has, at once if it has already.
    pub(crate) fn close(&self) -> oneshot::Receiver<Result<(), CloseError>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if let QueuePhase::Closed(result) = &state.life {
            // The receiver is held here.
            let _ = sender.send(result.clone());
            return receiver;
        }
        state.closers.push(sender);
        state.life = QueuePhase::Closing;
        self.wake(state);
        receiver
    }

    /// Told by the writer, as its last word.
    pub(crate) fn closed(&self, result: Result<(), CloseError>) {
        let mut state = self.state();
        for closer in state.closers.drain(..) {
            // The caller may have gone.
            let _ = closer.send(result.clone());
        }
        state.requests.clear();
        state.life = QueuePhase::Closed(result);
    }
}

impl RequestQueueState {
    fn dequeue(&mut self, into: &mut VecDeque<WriteRequest>) -> Option<Dequeued> {
        if !self.requests.is_empty() {
            into.append(&mut self.requests);
            self.bytes = 0;
            return Some(Dequeued::Requests);
        }
        let ends = !matches!(self.life, QueuePhase::Open) && self.coming == 0;
        ends.then_some(Dequeued::Close)
    }
}
