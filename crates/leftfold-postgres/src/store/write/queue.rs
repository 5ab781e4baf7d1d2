//! Queue of the writer: what waits, bounded in bytes, and the request to close.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use leftfold_core::store::{AppendError, CloseError, LeaseError};
use tokio::sync::{Notify, oneshot};

use super::request::StoreRequest;

/// Queue of the writer.
#[derive(Debug)]
pub(in crate::store) struct WaitingRequests {
    state: Mutex<WaitingState>,
    changed: Notify,
    bytes_max: usize,
}

#[derive(Debug, Default)]
struct WaitingState {
    requests: VecDeque<StoreRequest>,
    bytes: usize,
    /// Appends whose conditions are being looked up, which are added later.
    announced: usize,
    announced_bytes: usize,
    is_closing: bool,
    is_closed: bool,
    closers: Vec<oneshot::Sender<Result<(), CloseError>>>,
}

/// Reason why a request is not queued.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) enum NotQueued {
    /// The store is closed, or about to be.
    Closing,
    /// As much waits as may wait.
    Busy { waiting: usize },
}

impl From<NotQueued> for AppendError {
    fn from(refused: NotQueued) -> Self {
        match refused {
            NotQueued::Closing => Self::Closed,
            NotQueued::Busy { waiting } => Self::Busy { waiting },
        }
    }
}

impl From<NotQueued> for LeaseError {
    fn from(refused: NotQueued) -> Self {
        match refused {
            NotQueued::Closing => Self::Closed,
            NotQueued::Busy { .. } => {
                Self::Unavailable { detail: AppendError::from(refused).to_string() }
            }
        }
    }
}

impl WaitingRequests {
    pub(in crate::store) fn new(bytes_max: usize) -> Self {
        Self { state: Mutex::default(), changed: Notify::new(), bytes_max }
    }

    fn state(&self) -> MutexGuard<'_, WaitingState> {
        // Every change is a single step, so it is whole even if its thread panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::store) fn is_open(&self) -> bool {
        !self.state().is_closing
    }

    /// Number of requests that wait, and the bytes that they count for.
    pub(in crate::store) fn waiting(&self) -> (usize, usize) {
        let state = self.state();
        (state.requests.len() + state.announced, state.bytes + state.announced_bytes)
    }

    /// Adds a request. The last one that comes in may be as large as an append can be.
    pub(in crate::store) fn push(&self, request: StoreRequest) -> Result<(), NotQueued> {
        let mut state = self.state();
        self.check(&state)?;
        state.bytes += request.held_bytes();
        state.requests.push_back(request);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Announces an append that is added later, so that a close waits for it.
    pub(in crate::store) fn announce(&self, bytes: usize) -> Result<(), NotQueued> {
        let mut state = self.state();
        self.check(&state)?;
        state.announced += 1;
        state.announced_bytes += bytes;
        Ok(())
    }

    /// Adds what was announced, or only takes the announcement back.
    pub(in crate::store) fn arrive(&self, bytes: usize, request: Option<StoreRequest>) {
        let mut state = self.state();
        state.announced = state.announced.saturating_sub(1);
        state.announced_bytes = state.announced_bytes.saturating_sub(bytes);
        match request {
            Some(request) if state.is_closed => {
                drop(state);
                return request.refuse_closed();
            }
            Some(request) => {
                state.bytes += request.held_bytes();
                state.requests.push_back(request);
            }
            None => {}
        }
        drop(state);
        self.changed.notify_one();
    }

    fn check(&self, state: &WaitingState) -> Result<(), NotQueued> {
        if state.is_closing {
            return Err(NotQueued::Closing);
        }
        let waiting = state.bytes + state.announced_bytes;
        if waiting >= self.bytes_max { Err(NotQueued::Busy { waiting }) } else { Ok(()) }
    }

    /// Waits until something is there, and takes as much as a group may have; `None` if the store
    /// is to be closed and nothing waits.
    pub(in crate::store) async fn take(
        &self,
        group_max: usize,
        group_bytes_max: usize,
    ) -> Option<Vec<StoreRequest>> {
        loop {
            {
                let mut state = self.state();
                if !state.requests.is_empty() {
                    return Some(state.take_group(group_max, group_bytes_max));
                }
                if state.is_closing && state.announced == 0 {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// Takes everything that waits if the store is to be closed; nothing otherwise.
    pub(in crate::store) fn take_if_closing(&self) -> Vec<StoreRequest> {
        let mut state = self.state();
        if !state.is_closing {
            return Vec::new();
        }
        state.take_group(usize::MAX, usize::MAX)
    }

    /// Asks the writer to close; the channel tells when it has.
    pub(in crate::store) fn close(&self) -> oneshot::Receiver<Result<(), CloseError>> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        state.is_closing = true;
        if state.is_closed {
            // The receiver is held here.
            let _ = sender.send(Ok(()));
        } else {
            state.closers.push(sender);
        }
        drop(state);
        self.changed.notify_one();
        receiver
    }

    /// Told by the writer, as its last word.
    pub(in crate::store) fn closed(&self) {
        let mut state = self.state();
        (state.is_closing, state.is_closed) = (true, true);
        let left = std::mem::take(&mut state.requests);
        let closers = std::mem::take(&mut state.closers);
        drop(state);
        left.into_iter().for_each(StoreRequest::refuse_closed);
        for closer in closers {
            // Whoever asked may have gone.
            let _ = closer.send(Ok(()));
        }
    }
}

impl WaitingState {
    fn take_group(&mut self, group_max: usize, group_bytes_max: usize) -> Vec<StoreRequest> {
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(request) = self.requests.front() {
            let held = request.held_bytes();
            if !group.is_empty() && (group.len() >= group_max || bytes + held > group_bytes_max) {
                break;
            }
            bytes += held;
            group.extend(self.requests.pop_front());
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        group
    }
}
