//! Calls of users' code and of targets: each within its time, and a panic of it stays its own.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::{ProjectionError, Session};
use crate::runtime::Clock;
use crate::runtime::consumer::contained::message;
use crate::runtime::consumer::status::Doing;
use crate::store::{Fence, Label, Position, RecordedEvent};

// ANCHOR: time
/// Time that a target may take for each call of it: to open, to begin, to keep or list notes, to
/// commit, to roll back. After that the session is thrown away and another one opened, which finds
/// out from the notes which transactions were committed. A call that blocks its thread cannot be
/// interrupted; the status then names it.
pub const TARGET_WITHIN: Duration = Duration::from_secs(30);
/// Time that a target may take to discard a version.
pub const DISCARD_WITHIN: Duration = Duration::from_secs(600);
/// Time that an [`apply`](super::Projection::apply) may wait for its target before its transaction is
/// given up and begun again. Code that blocks its thread cannot be interrupted; the status then
/// names the call.
pub const APPLY_WITHIN: Duration = Duration::from_secs(30);
/// Time for which an event is tried whose [`apply`](super::Projection::apply) gives no answer. Another
/// session may hold a lock that it waits for, and nothing is parked for that; if there still is no
/// answer after this time, the event is taken to be at fault. A lock that the target reports is
/// waited for without end.
pub const LOCK_WITHIN: Duration = Duration::from_secs(3_600);
// ANCHOR_END: time

/// Clock and register by which calls are timed and named.
#[derive(Clone, Debug)]
pub(super) struct TimedCalls {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) doing: Arc<Doing>,
    /// True if they block the thread.
    pub(super) blocks: bool,
}

/// Result of a call.
pub(super) enum TimedResult<T> {
    Answer(T),
    Panic(String),
    /// No answer in time.
    Nothing,
}

/// Reason why a call of a target has no answer of its own.
#[derive(Debug, thiserror::Error)]
pub(super) enum TargetCallError {
    #[error("{what} {position} gave no answer within {} s", within.as_secs())]
    Silent { what: &'static str, position: Position, within: Duration },
    #[error("{what} {position} panicked: {said}")]
    Panicked { what: &'static str, position: Position, said: String },
}

impl TimedCalls {
    /// Waits for a call within its time. It is named in the status when it takes long.
    pub(super) async fn wait<T>(
        &self,
        what: &'static str,
        position: Position,
        within: Duration,
        call: impl Future<Output = T>,
    ) -> TimedResult<T> {
        let begun = |at| self.doing.begin(what, position, at);
        // A thread that is blocked can be named only if it was said before; otherwise the first
        // wait is early enough.
        let mut doing = self.blocks.then(|| begun(self.clock.now()));
        let mut late = None;
        let mut call = pin!(call);
        poll_fn(|context| {
            match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
                Ok(Poll::Ready(answer)) => return Poll::Ready(TimedResult::Answer(answer)),
                Err(panic) => return Poll::Ready(TimedResult::Panic(message(&*panic))),
                Ok(Poll::Pending) => {}
            }
            let late = late.get_or_insert_with(|| {
                let now = self.clock.now();
                doing.get_or_insert_with(|| begun(now));
                self.clock.sleep_until(now.plus(within))
            });
            late.as_mut().poll(context).map(|()| TimedResult::Nothing)
        })
        .await
    }

    /// Returns the answer of a target, or a [`TargetCallError`] if it gave none.
    pub(super) async fn ask<T>(
        &self,
        what: &'static str,
        position: Position,
        within: Duration,
        call: impl Future<Output = Result<T, ProjectionError>>,
    ) -> Result<T, ProjectionError> {
        match self.wait(what, position, within, call).await {
            TimedResult::Answer(answer) => answer,
            TimedResult::Panic(said) => {
                Err(TargetCallError::Panicked { what, position, said }.into())
            }
            TimedResult::Nothing => Err(TargetCallError::Silent { what, position, within }.into()),
        }
    }
}

/// A session each call of which has an answer in time, if only an error that says so.
pub(super) struct TimedSession<S> {
    session: S,
    calls: TimedCalls,
    /// Position that the transaction is about.
    position: Position,
}

impl<S: Session> TimedSession<S> {
    pub(super) fn new(session: S, calls: TimedCalls) -> Self {
        Self { session, calls, position: Position::START }
    }

    /// Sets the position that names the following calls.
    pub(super) fn about(&mut self, position: Position) {
        self.position = position;
    }
}

impl<S: Session> Session for TimedSession<S> {
    type Rows = S::Rows;

    async fn touch(&mut self) -> Result<(), ProjectionError> {
        self.calls
            .ask("a sign of life at", self.position, TARGET_WITHIN, self.session.touch())
            .await
    }

    async fn begin(&mut self) -> Result<(), ProjectionError> {
        self.calls
            .ask("a transaction to begin at", self.position, TARGET_WITHIN, self.session.begin())
            .await
    }

    fn at(&mut self, position: Position) {
        self.position = position;
        self.session.at(position);
    }

    fn takes(&mut self, event: &RecordedEvent) {
        self.position = event.position;
        self.session.takes(event);
    }

    fn under(&mut self, fence: Option<(Label, Fence)>) {
        self.session.under(fence);
    }

    fn rows(&mut self) -> &mut S::Rows {
        self.session.rows()
    }

    async fn note(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), ProjectionError> {
        self.calls
            .ask(
                "a note to be kept at",
                self.position,
                TARGET_WITHIN,
                self.session.note(key, value),
            )
            .await
    }

    async fn notes(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, ProjectionError> {
        let notes = self.session.notes(prefix, after, at_most);
        self.calls.ask("notes to be listed at", self.position, TARGET_WITHIN, notes).await
    }

    async fn commit(&mut self) -> Result<(), ProjectionError> {
        self.calls
            .ask("the commit up to", self.position, TARGET_WITHIN, self.session.commit())
            .await
    }

    async fn rollback(&mut self) -> Result<(), ProjectionError> {
        self.calls
            .ask("the rollback at", self.position, TARGET_WITHIN, self.session.rollback())
            .await
    }
}
