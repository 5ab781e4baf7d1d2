//! Following events as the enum that reads them.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::Stream;

use super::error::EventError;
use super::event::{Event, Recorded, Unknown};
use super::history::LoadError;
use super::schema::{Purpose, Schema};
use super::unheard::UnheardTypes;
use crate::store::{EventType, Position, Query, Read, ReadError, Store, Subscription};

impl Store {
    /// Follows the events that an enum reads, of all streams, after a position: first those that
    /// are there, then those that come.
    ///
    /// Types of the enum that nobody knows are named in a warning before the first event is waited
    /// for, and by [`Following::unheard_types`] at any time. [`Store::subscribe`] does not check
    /// its query in this way.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::store::{Position, Store};
    /// use wallet::{Wallet, WalletCommand, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let wallets = store.aggregate::<Wallet>();
    /// wallets.execute("ada", WalletCommand::Deposit { cents: 500 }).await?;
    ///
    /// let mut events = store.follow::<WalletEvent>(Position::START)?;
    /// let deposit = events.next().await?;
    /// assert_eq!((deposit.stream_id(), deposit.position()), ("ada", Position(1)));
    ///
    /// // What is recorded later comes as soon as it is durable.
    /// wallets.execute("ada", WalletCommand::Withdraw { cents: 200 }).await?;
    /// assert_eq!(events.next().await?.event, WalletEvent::Withdrawn { cents: 200 });
    /// # Ok(()) }
    /// ```
    pub fn follow<E: Event>(&self, after: Position) -> Result<Following<E>, EventError> {
        let schema = self.schema::<E>(Purpose::Reading)?;
        let subscription = self.subscribe(schema.query(), after);
        let (store, through, is_announced) = (self.clone(), after, false);
        let puller = EventPuller {
            store,
            subscription,
            schema: Arc::clone(&schema),
            after,
            through,
            is_announced,
        };
        Ok(Following {
            store: self.clone(),
            schema,
            ready: VecDeque::new(),
            pulling: pulling(puller),
            has_ended: false,
        })
    }

    /// Returns the schema that took another one's place, for a reader that has read the events
    /// between two positions by that one; `None` while that one is right. An error if there are
    /// events that it passed over, or read otherwise.
    pub(crate) async fn renewed(
        &self,
        former: &Schema,
        (after, through): (Position, Position),
    ) -> Result<Option<Arc<Schema>>, LoadError> {
        let Some(schema) = former.renewed()? else { return Ok(None) };
        let more = schema.wanted_beside(former);
        if !more.is_empty() && through > after {
            let page =
                self.page(Read::matching(Query::types(more), after.next()).page_of(1)).await?;
            if let Some(passed_over) = page.events.first().filter(|event| event.position <= through)
            {
                return Err(schema.read_before_its_owner(&passed_over.event_type).into());
            }
        }
        Ok(Some(schema))
    }
}

/// Follows the events that an enum reads. It is pulled, as the [`Subscription`] that it stands on.
///
/// It is a [`Stream`], too, for the adapters of `futures` and `tokio-stream`: that gives what
/// [`next`](Self::next) gives, errors included, and goes on behind an event that cannot be read; it
/// ends only behind the error of a closed store. Both may be used in turns and dropped at any
/// await: nothing is lost, and nothing comes twice.
pub struct Following<E> {
    store: Store,
    /// As it was for the last event.
    schema: Arc<Schema>,
    ready: VecDeque<Recorded<E>>,
    /// Outlives the calls that wait for it: dropping one of them loses nothing.
    pulling: PullFuture<E>,
    /// True if the stream has told that the store is closed.
    has_ended: bool,
}

type PullFuture<E> =
    Pin<Box<dyn Future<Output = (EventPuller, Result<VecDeque<Recorded<E>>, LoadError>)> + Send>>;

/// Nothing in it is pinned in its place.
impl<E> Unpin for Following<E> {}

impl<E> fmt::Debug for Following<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

impl<E: Event> Following<E> {
    /// Returns the next event; waits while there is none. Safe to cancel: nothing is lost.
    ///
    /// An event that cannot be read is an error, and the one after it comes next.
    pub async fn next(&mut self) -> Result<Recorded<E>, LoadError> {
        poll_fn(|context| self.poll_event(context)).await
    }

    /// Returns the types of the enum that nobody knows now: nothing was ever recorded of them,
    /// under older names neither, and no enum declares them that is named in
    /// [`owners`](Event::owners), or that records in the store. In a new program that passes by
    /// itself; otherwise a name is read differently from how it is written.
    pub fn unheard_types(
        &self,
    ) -> impl Future<Output = Result<Vec<EventType>, ReadError>> + Send + use<E> {
        // An owner may have come that the events read so far did not need.
        let renewed = self.schema.renewed().ok().flatten();
        let unheard = UnheardTypes::of(renewed.as_ref().unwrap_or(&self.schema));
        let store = self.store.clone();
        async move {
            unheard.look(&store).await?;
            Ok(unheard.now())
        }
    }

    /// Returns the next event that is meant; passes over those before it.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::store::{Position, Store};
    /// use wallet::{Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// for (id, cents) in [("ada", 500), ("bob", 200), ("ada", 100)] {
    ///     let deposit = [WalletEvent::Deposited { cents }];
    ///     store.aggregate::<Wallet>().record(id, &deposit).await?;
    /// }
    /// let mut events = store.follow::<WalletEvent>(Position::START)?;
    /// let of_bob = events.find(|event| event.stream_id() == "bob").await?;
    /// assert_eq!(of_bob.event, WalletEvent::Deposited { cents: 200 });
    /// # Ok(()) }
    /// ```
    pub async fn find(
        &mut self,
        mut is_meant: impl FnMut(&Recorded<E>) -> bool,
    ) -> Result<Recorded<E>, LoadError> {
        loop {
            let event = self.next().await?;
            if is_meant(&event) {
                return Ok(event);
            }
        }
    }

    fn poll_event(&mut self, context: &mut Context<'_>) -> Poll<Result<Recorded<E>, LoadError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Poll::Ready(Ok(event));
            }
            let (puller, pulled) = ready!(self.pulling.as_mut().poll(context));
            self.schema = Arc::clone(&puller.schema);
            self.pulling = pulling(puller);
            match pulled {
                Ok(events) => self.ready = events,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl<E: Event> Stream for Following<E> {
    type Item = Result<Recorded<E>, LoadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let following = self.get_mut();
        if following.has_ended {
            return Poll::Ready(None);
        }
        let event = ready!(following.poll_event(context));
        following.has_ended = matches!(event, Err(LoadError::Read(ReadError::Closed)));
        Poll::Ready(Some(event))
    }
}

fn pulling<E: Event>(mut puller: EventPuller) -> PullFuture<E> {
    Box::pin(async move {
        let pulled = puller.pull().await;
        (puller, pulled)
    })
}

/// Position of a follower in the store, with its subscription.
struct EventPuller {
    store: Store,
    subscription: Subscription,
    schema: Arc<Schema>,
    after: Position,
    through: Position,
    /// True if types that nobody knows were looked for.
    is_announced: bool,
}

impl EventPuller {
    /// Returns the next event as the enum reads it: usually one event, none or several after
    /// upcasters.
    async fn pull<E: Event>(&mut self) -> Result<VecDeque<Recorded<E>>, LoadError> {
        if !self.is_announced {
            UnheardTypes::of(&self.schema).announce(&self.store, std::any::type_name::<E>()).await;
            self.is_announced = true;
        }
        loop {
            let read = (self.after, self.through);
            if let Some(schema) = self.store.renewed(&self.schema, read).await? {
                self.subscription = self.store.subscribe(schema.query(), self.through);
                self.schema = schema;
            }
            let envelope = tokio::select! {
                biased;
                () = self.schema.until_stale() => continue,
                event = self.subscription.event() => event?,
            };
            if self.schema.is_stale() {
                // It may have passed over events that are of concern now.
                self.subscription = self.store.subscribe(self.schema.query(), self.through);
                continue;
            }
            self.through = envelope.position;
            let events: Vec<E> = self.schema.decode(&envelope, Unknown::Ignore)?;
            return Ok(events
                .into_iter()
                .map(|event| Recorded { event, envelope: envelope.clone() })
                .collect());
        }
    }
}
