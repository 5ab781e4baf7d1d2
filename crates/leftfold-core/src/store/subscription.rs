//! Catch-up, then live: the events that match, in order, none skipped.

use std::collections::VecDeque;

use tokio::sync::watch;

use super::{
    Page, Pending, Position, Query, Read, ReadError, RecordedEvent, State, Status, Store, StoreId,
    What,
};

/// Follows the events that match a query.
///
/// It is pulled: a slow reader is only late, it never holds up writers and nothing is queued for it
/// but one page. It ends only with an error; [`Subscription::through`] says how far it has come at
/// any time.
#[derive(Debug)]
pub struct Subscription {
    store: Store,
    status: watch::Receiver<Status>,
    request: Read,
    ready: VecDeque<RecordedEvent>,
    coming: Option<Pending<Page, ReadError>>,
    /// Signal that follows the events that are ready.
    mark: Option<Signal>,
    through: Position,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    CatchingUp,
    Live,
}

/// Next thing that a subscription tells.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly every signal is an event")]
pub enum Signal {
    /// An event that matches.
    Event(RecordedEvent),
    /// Everything up to here was looked at; all events that match have been delivered.
    Progress(Position),
    /// As [`Signal::Progress`], and this is the durable end: the events that follow are live.
    CaughtUp(Position),
    /// More than a page was recorded since the subscription was live.
    FellBehind(Position),
}

/// Error of a consumer that cannot follow this store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The checkpoint is another store's.
    #[error(
        "the checkpoint belongs to store {expected}, this is store {actual}; open the right one or start the consumer anew"
    )]
    OtherStore {
        /// The store of the checkpoint.
        expected: StoreId,
        /// This store.
        actual: StoreId,
    },
    /// The checkpoint is beyond the end: the store was restored from an old copy.
    #[error(
        "the checkpoint is at {checkpoint}, but the store ends at {head}: it was restored from a copy; rebuild the consumer"
    )]
    Ahead {
        /// Position of the consumer's checkpoint.
        checkpoint: Position,
        /// Durable end of the store.
        head: Position,
    },
    /// The history at the checkpoint is another: the store was restored and grew in another way
    /// since.
    #[error(
        "history at {position} is not what the consumer has seen: the store grew anew after a restore; rebuild the consumer"
    )]
    OtherHistory {
        /// Position of the consumer's checkpoint.
        position: Position,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Subscription {
    pub(super) fn new(store: Store, query: Query, after: Position) -> Self {
        let status = store.status();
        let request = Read::matching(query, after.next());
        let coming = Some(store.page(request.clone()));
        Self {
            store,
            status,
            request,
            ready: VecDeque::new(),
            coming,
            mark: None,
            through: after,
            phase: Phase::CatchingUp,
        }
    }

    /// Returns the next signal; waits while there is nothing new. Safe to cancel: nothing is lost.
    pub async fn next(&mut self) -> Result<Signal, ReadError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.through = event.position;
                return Ok(Signal::Event(event));
            }
            if let Some(mark) = self.mark.take() {
                self.through = mark.position();
                return Ok(mark);
            }
            self.fetch().await?;
        }
    }

    /// The next event that matches, marks left out.
    pub async fn event(&mut self) -> Result<RecordedEvent, ReadError> {
        loop {
            if let Signal::Event(event) = self.next().await? {
                return Ok(event);
            }
        }
    }

    /// Everything up to here has been returned.
    #[must_use]
    pub fn through(&self) -> Position {
        self.through
    }

    async fn fetch(&mut self) -> Result<(), ReadError> {
        if self.coming.is_none() {
            self.await_more().await?;
            self.coming = Some(self.store.page(self.request.clone()));
        }
        let Some(coming) = &mut self.coming else { return Ok(()) };
        let answer = coming.await;
        self.coming = None;
        self.take(answer?);
        Ok(())
    }

    /// Waits until the store has more than was looked at.
    async fn await_more(&mut self) -> Result<(), ReadError> {
        let What::Matching { from, .. } = &self.request.what else { return Ok(()) };
        let more = |status: &Status| status.head.position >= *from || status.state == State::Closed;
        // A store that is closed says so when it is asked.
        self.status.wait_for(more).await.map(drop).map_err(|_| ReadError::Closed)
    }

    fn take(&mut self, page: Page) {
        let through = page.through.max(self.through);
        self.ready = page.events.into();
        self.mark = match (&page.next, self.phase) {
            (None, Phase::CatchingUp) => Some(Signal::CaughtUp(through)),
            (Some(_), Phase::Live) => Some(Signal::FellBehind(through)),
            _ => Some(Signal::Progress(through)),
        };
        self.phase = if page.next.is_none() { Phase::Live } else { Phase::CatchingUp };
        let query = match &self.request.what {
            What::Matching { query, .. } => query.clone(),
            What::Stream { .. } => Query::nothing(),
        };
        self.request.what = page.next.unwrap_or(What::Matching { query, from: through.next() });
        if self.phase == Phase::CatchingUp {
            self.coming = Some(self.store.page(self.request.clone()));
        }
    }
}

impl Signal {
    fn position(&self) -> Position {
        match self {
            Self::Event(event) => event.position,
            Self::Progress(position) | Self::CaughtUp(position) | Self::FellBehind(position) => {
                *position
            }
        }
    }
}
