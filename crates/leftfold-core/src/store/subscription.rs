//! Catch-up, then live: the events that match, in order, none skipped.

use std::collections::VecDeque;

use tokio::sync::watch;

use super::{
    Checkpoint, EventFeed, FedEvents, Page, Pending, Position, Query, Read, ReadError,
    RecordedEvent, Signal, State, Status, Store, StoreId, What,
};

impl Store {
    /// Catches up with the events that match and then follows live, from just after a position.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::store::{Position, Query, Signal, Store};
    /// use wallet::{Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let deposit = [WalletEvent::Deposited { cents: 500 }];
    /// store.aggregate::<Wallet>().record("ada", &deposit).await?;
    ///
    /// let mut wallets = store.subscribe(Query::category("wallet"), Position::START);
    /// assert_eq!(wallets.event().await?.position, Position(1));
    /// assert_eq!(wallets.next().await?, Signal::CaughtUp(Position(1)));
    /// store.aggregate::<Wallet>().record("bob", &deposit).await?;
    /// assert_eq!(wallets.event().await?.position, Position(2));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn subscribe(&self, query: Query, after: Position) -> Subscription {
        Subscription::new(self.clone(), query, after)
    }

    /// The same from a checkpoint, which must belong to this store's history.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::store::{Position, Query, Store, SubscribeError};
    /// use wallet::{Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let deposits = [WalletEvent::Deposited { cents: 5 }, WalletEvent::Deposited { cents: 7 }];
    /// store.aggregate::<Wallet>().record("ada", &deposits).await?;
    ///
    /// // Kept by the consumer, together with what it made of the first event.
    /// let checkpoint = store.checkpoint_at(Position(1)).await?;
    /// let mut rest = store.resume(Query::all(), &checkpoint).await?;
    /// assert_eq!(rest.event().await?.position, Position(2));
    ///
    /// let other = Store::memory().resume(Query::all(), &checkpoint).await;
    /// assert!(matches!(other, Err(SubscribeError::OtherStore { .. })));
    /// # Ok(()) }
    /// ```
    pub async fn resume(
        &self,
        query: Query,
        from: &Checkpoint,
    ) -> Result<Subscription, SubscribeError> {
        self.verify(from).await?;
        Ok(self.subscribe(query, from.position))
    }

    /// Checks a checkpoint against this store's history.
    pub async fn verify(&self, checkpoint: &Checkpoint) -> Result<(), SubscribeError> {
        let store = self.identity().store;
        if checkpoint.store != store {
            return Err(SubscribeError::OtherStore { expected: checkpoint.store, actual: store });
        }
        match self.hash_at(checkpoint.position).await? {
            None => Err(SubscribeError::Ahead {
                checkpoint: checkpoint.position,
                head: self.head().position,
            }),
            Some(hash) if hash == checkpoint.hash => Ok(()),
            Some(_) => Err(SubscribeError::OtherHistory { position: checkpoint.position }),
        }
    }

    /// The checkpoint of a consumer that has handled everything up to the position.
    pub async fn checkpoint_at(&self, position: Position) -> Result<Checkpoint, SubscribeError> {
        let head = self.head().position;
        let hash = self
            .hash_at(position)
            .await?
            .ok_or(SubscribeError::Ahead { checkpoint: position, head })?;
        Ok(Checkpoint {
            store: self.identity().store,
            partition: self.partition.clone(),
            position,
            hash,
        })
    }
}

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
    /// Events that the backend brings by itself, if it does.
    feed: Option<EventFeed>,
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
    fn new(store: Store, query: Query, after: Position) -> Self {
        let status = store.status();
        let feed = store.backend().feed(&query, after);
        let request = Read::matching(query, after.next());
        let coming = feed.is_none().then(|| store.page(request.clone()));
        Self {
            store,
            status,
            request,
            ready: VecDeque::new(),
            coming,
            feed,
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
        if let Some(feed) = &mut self.feed {
            let FedEvents { events, mark } = feed.next().await?;
            (self.ready, self.mark) = (events.into(), mark);
            return Ok(());
        }
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
