//! The live end of a store, read once for all who follow it.
//!
//! A task reads what is recorded, as long as somebody follows the store, and shares it with all
//! subscriptions. Each picks the events that match its query; what an event is on the wire is made
//! by the first that sends it. A subscription begins by itself, joins the others at the end, and
//! catches up by itself again if it was too slow for them.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use leftfold::store::{
    Page, Position, Query, Read, ReadError, RecordedEvent, Signal, State, Status, Store,
    Subscription,
};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

/// Bytes of the events that are read at once, approximately.
const BATCH_BYTES: u32 = 64 << 10;
/// Bytes of events that are not shared: whoever wants them reads them.
const SHARED_BYTES_MAX: usize = 4 * BATCH_BYTES as usize;
/// Batches that wait for the slowest subscription before it has to catch up by itself.
const BATCHES_MAX: usize = 128;
/// Events that a subscription tells at once.
const EVENTS_MAX: usize = 512;
/// Bytes of their data after which it tells them.
const EVENT_BYTES: usize = 1 << 20;
/// Terms of queries that a subscription compares with events before others have their turn: about a
/// millisecond of a thread.
const TERMS_AT_ONCE: usize = 100_000;

/// An event that several subscriptions tell.
pub(crate) struct LiveEvent {
    pub(crate) event: RecordedEvent,
    encoded: OnceLock<Bytes>,
}

impl LiveEvent {
    fn new(event: RecordedEvent) -> Arc<Self> {
        Arc::new(Self { event, encoded: OnceLock::new() })
    }

    /// Returns the event as the native protocol has it, which is made once.
    pub(crate) fn encoded(&self) -> Bytes {
        self.encoded.get_or_init(|| leftfold_protocol::encoded_event(&self.event)).clone()
    }
}

/// Events that were recorded after a position.
struct LiveBatch {
    after: Position,
    through: Position,
    /// `None` if there is too much to be shared.
    events: Option<Vec<Arc<LiveEvent>>>,
}

type Batches = broadcast::Receiver<Arc<LiveBatch>>;

/// The live end of a store. All clones are the same.
#[derive(Clone, Default)]
pub(crate) struct LiveEnd(Arc<Mutex<Option<broadcast::WeakSender<Arc<LiveBatch>>>>>);

impl LiveEnd {
    /// Follows the events that match, from just after a position.
    pub(crate) fn subscribe(
        &self,
        store: &Store,
        query: Query,
        after: Position,
    ) -> LiveSubscription {
        let batches = self.join(store);
        let catching_up = Some(Box::new(store.subscribe(query.clone(), after)));
        LiveSubscription {
            end: self.clone(),
            store: store.clone(),
            query,
            batches,
            catching_up,
            behind: None,
            looked_at: None,
            found: LiveEvents::default(),
            through: after,
            told: after,
        }
    }

    fn join(&self, store: &Store) -> Batches {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = open.as_ref().and_then(broadcast::WeakSender::upgrade) {
            return sender.subscribe();
        }
        let (sender, receiver) = broadcast::channel(BATCHES_MAX);
        *open = Some(sender.downgrade());
        // Whoever joins catches up at least to here.
        let through = store.head().position;
        tokio::spawn(share(self.clone(), store.clone(), sender, through));
        receiver
    }
}

/// Shares what is recorded until nobody follows, or the store cannot be read: the subscriptions
/// find out why by themselves.
async fn share(
    end: LiveEnd,
    store: Store,
    sender: broadcast::Sender<Arc<LiveBatch>>,
    mut through: Position,
) {
    let mut status = store.status();
    loop {
        let is_more =
            |status: &Status| status.head.position > through || status.state == State::Closed;
        tokio::select! {
            () = sender.closed() => {
                // Whoever joins now does so before or after this.
                let open = end.0.lock().unwrap_or_else(PoisonError::into_inner);
                if sender.receiver_count() == 0 {
                    drop(sender);
                    drop(open);
                    return;
                }
                continue;
            }
            is_gone = async { status.wait_for(is_more).await.is_err() } => if is_gone { return },
        }
        let mut read = Read::matching(Query::everything(), through.next());
        read.page_bytes = BATCH_BYTES;
        let Ok(page) = store.page(read).await else { return };
        let batch = LiveBatch::of(page, through);
        through = batch.through;
        // If nobody is there any more, that is noticed above.
        let _ = sender.send(Arc::new(batch));
    }
}

impl LiveBatch {
    fn of(page: Page, after: Position) -> Self {
        let bytes_of = |event: &RecordedEvent| event.data.len() + event.metadata.user.len();
        let bytes: usize = page.events.iter().map(bytes_of).sum();
        let shared = || page.events.into_iter().map(LiveEvent::new).collect();
        let events = (bytes <= SHARED_BYTES_MAX).then(shared);
        Self { after, through: page.through.max(after), events }
    }
}

/// Events that a subscription tells at once, and the mark behind them; never neither.
#[derive(Default)]
pub(crate) struct LiveEvents {
    pub(crate) events: Vec<Arc<LiveEvent>>,
    pub(crate) mark: Option<Signal>,
    bytes: usize,
}

impl LiveEvents {
    fn push(&mut self, event: Arc<LiveEvent>) {
        self.bytes += event.event.data.len();
        self.events.push(event);
    }

    fn is_full(&self) -> bool {
        self.events.len() >= EVENTS_MAX || self.bytes >= EVENT_BYTES
    }
}

/// Follows the events that match a query, with all others who follow the store where that is
/// possible.
///
/// Whatever was taken from others stands in the value while something is awaited: a call that is
/// dropped loses nothing, and the next one goes on.
pub(crate) struct LiveSubscription {
    end: LiveEnd,
    store: Store,
    query: Query,
    batches: Batches,
    /// `None` while it is live.
    catching_up: Option<Box<Subscription>>,
    /// Signal that was found behind the events that were told last.
    behind: Option<Result<Signal, ReadError>>,
    /// Batch that is looked at, and the number of its events that were.
    looked_at: Option<(Arc<LiveBatch>, usize)>,
    /// Events that were found and are not told yet.
    found: LiveEvents,
    /// Everything up to here was looked at.
    through: Position,
    /// Everything up to here was told.
    told: Position,
}

impl LiveSubscription {
    /// Waits for something to tell. It may be dropped at any time, and be called again.
    pub(crate) async fn next(&mut self) -> Result<LiveEvents, ReadError> {
        loop {
            let is_found = if self.catching_up.is_some() {
                self.catch_up().await?;
                true
            } else {
                self.follow().await
            };
            if is_found {
                return Ok(std::mem::take(&mut self.found));
            }
        }
    }

    async fn catch_up(&mut self) -> Result<(), ReadError> {
        let Some(subscription) = &mut self.catching_up else { return Ok(()) };
        // Nothing is awaited behind this.
        let mut next = match self.behind.take() {
            Some(behind) => Some(behind),
            None => Some(subscription.next().await),
        };
        while let Some(signal) = next {
            match signal {
                Ok(Signal::Event(event)) => {
                    self.through = event.position;
                    self.found.push(LiveEvent::new(event));
                }
                Ok(mark) => {
                    self.found.mark = Some(mark);
                    break;
                }
                Err(error) if self.found.events.is_empty() => return Err(error),
                error => {
                    self.behind = Some(error);
                    break;
                }
            }
            let is_full = self.found.is_full();
            next = if is_full { None } else { subscription.next().now_or_never() };
        }
        if let Some(
            Signal::CaughtUp(through) | Signal::Progress(through) | Signal::FellBehind(through),
        ) = self.found.mark
        {
            self.through = through;
        }
        if matches!(self.found.mark, Some(Signal::CaughtUp(_))) {
            self.catching_up = None;
        }
        self.told = self.through;
        Ok(())
    }

    /// Waits for what the others get too. Returns false if it is nothing new.
    async fn follow(&mut self) -> bool {
        let mut received = match self.looked_at {
            Some(_) => None,
            // It is safe to be dropped here: what was not received stays.
            None => Some(self.batches.recv().await),
        };
        loop {
            match received.take() {
                Some(Ok(batch)) if batch.through <= self.through => {}
                Some(Ok(batch)) if batch.after <= self.through && batch.events.is_some() => {
                    self.looked_at = Some((batch, 0));
                }
                // The batch that comes next is beyond what was told.
                Some(Err(RecvError::Lagged(_))) | None => {}
                Some(Ok(_) | Err(RecvError::Closed)) => {
                    self.batches = self.end.join(&self.store);
                    let rest = self.store.subscribe(self.query.clone(), self.through);
                    self.catching_up = Some(Box::new(rest));
                    self.found.mark = Some(Signal::FellBehind(self.through));
                    self.told = self.through;
                    return true;
                }
            }
            while self.look() == Looked::Partly {
                // Everything that was found so far is kept.
                tokio::task::yield_now().await;
            }
            if self.found.is_full() {
                break;
            }
            received = match self.batches.try_recv() {
                Ok(batch) => Some(Ok(batch)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Closed) => Some(Err(RecvError::Closed)),
                Err(TryRecvError::Lagged(count)) => Some(Err(RecvError::Lagged(count))),
            };
        }
        let is_new = self.through > self.told;
        self.told = self.through;
        if is_new {
            self.found.mark = Some(Signal::Progress(self.through));
        }
        is_new
    }

    /// Looks at events of a batch, as many as a query of this size may be compared with at once.
    fn look(&mut self) -> Looked {
        let Some((batch, seen)) = self.looked_at.take() else { return Looked::Wholly };
        let events = batch.events.as_deref().unwrap_or_default();
        let many = (TERMS_AT_ONCE / terms_of(&self.query).max(1)).max(1);
        let next = events.len().min(seen.saturating_add(many));
        for event in &events[seen..next] {
            if event.event.position > self.through && self.query.matches(&event.event) {
                self.found.push(Arc::clone(event));
            }
        }
        if next < events.len() {
            self.looked_at = Some((batch, next));
            return Looked::Partly;
        }
        self.through = batch.through;
        Looked::Wholly
    }
}

/// Part of a batch that was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    Partly,
    Wholly,
}

/// Returns the number of types, tags and items that an event may have to be compared with.
fn terms_of(query: &Query) -> usize {
    query.items().iter().map(|item| 1 + item.types.len() + item.tags.len()).sum()
}

#[cfg(test)]
mod tests {
    use leftfold::store::{Append, EventType, NewEvent, Outcome, Tags};

    use super::*;

    async fn record(store: &Store, tag: &str) {
        let tags = Tags::none().with(tag);
        let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}").tagged(tags);
        let outcome = store.append(Append::of(vec![event])).await;
        assert!(matches!(outcome, Ok(Outcome::Appended(_))), "{outcome:?}");
    }

    /// Returns the positions that come until everything up to one was told, and the marks.
    async fn told(following: &mut LiveSubscription, through: u64) -> (Vec<u64>, Vec<Signal>) {
        let (mut positions, mut marks) = (Vec::new(), Vec::new());
        while following.through.0 < through || following.catching_up.is_some() {
            let LiveEvents { events, mark, .. } = following.next().await.unwrap();
            positions.extend(events.iter().map(|event| event.event.position.0));
            marks.extend(mark);
        }
        (positions, marks)
    }

    #[tokio::test]
    async fn each_follower_is_told_each_event_once_and_a_slow_one_catches_up_by_itself() {
        let (store, end) = (Store::memory(), LiveEnd::default());
        record(&store, "even").await;
        let subscribe = |query, after| end.subscribe(&store, query, Position(after));
        let (mut all, mut even) = (subscribe(Query::all(), 0), subscribe(Query::tag("even"), 1));
        let mut slow = subscribe(Query::all(), 0);
        assert_eq!(told(&mut slow, 1).await, (vec![1], vec![Signal::CaughtUp(Position(1))]));
        assert_eq!(told(&mut all, 1).await.0, [1]);
        assert_eq!(told(&mut even, 1).await.0, [0; 0]);
        // Each is told before the next is recorded, so each is a batch of its own.
        let last = 2 * BATCHES_MAX as u64;
        for position in 2..=last {
            record(&store, if position % 2 == 0 { "odd" } else { "even" }).await;
            assert_eq!(told(&mut all, position).await.0, [position]);
        }
        let odd_ones: Vec<_> = (2..=last).filter(|position| position % 2 == 1).collect();
        assert_eq!(told(&mut even, last).await.0, odd_ones);
        let (positions, marks) = told(&mut slow, last).await;
        assert_eq!(positions, (2..=last).collect::<Vec<_>>());
        assert!(marks.contains(&Signal::FellBehind(Position(1))), "{marks:?}");
        // One that begins now is with the others from the end on.
        let mut late = subscribe(Query::all(), 0);
        assert_eq!(told(&mut late, last).await.0.len() as u64, last);
        record(&store, "even").await;
        assert_eq!(told(&mut late, last + 1).await.0, [last + 1]);
    }

    #[tokio::test]
    async fn an_event_is_encoded_once_and_nobody_is_left_when_the_last_follower_goes() {
        let (store, end) = (Store::memory(), LiveEnd::default());
        let others = Arc::strong_count(store.backend());
        let mut both = [0, 0].map(|after| end.subscribe(&store, Query::all(), Position(after)));
        for following in &mut both {
            assert_eq!(following.next().await.unwrap().mark, Some(Signal::CaughtUp(Position(0))));
        }
        record(&store, "even").await;
        let [first, second] = &mut both;
        let (first, second) = (first.next().await.unwrap(), second.next().await.unwrap());
        assert!(Arc::ptr_eq(&first.events[0], &second.events[0]));
        assert_eq!(first.events[0].encoded().as_ptr(), second.events[0].encoded().as_ptr());
        drop((both, first, second));
        while Arc::strong_count(store.backend()) > others {
            tokio::task::yield_now().await;
        }
        let mut again = end.subscribe(&store, Query::all(), Position(0));
        assert_eq!(told(&mut again, 1).await.0, [1]);
    }

    /// A client asked by hundreds of thousands of names: each event was compared with all of them,
    /// for a whole batch, before anybody else on that thread had a turn.
    #[tokio::test]
    async fn a_query_of_many_terms_lets_others_work_and_a_dropped_call_loses_nothing() {
        const MANY: u64 = 40;
        let (store, end) = (Store::memory(), LiveEnd::default());
        let others = |n: usize| {
            let types = (0..500).map(|m| format!("other.Type{n}x{m}"));
            Query::types(types.map(|name| EventType::new(name).unwrap()))
        };
        let query = (0..300).map(others).fold(Query::tag("even"), Query::or);
        let mut following = end.subscribe(&store, query, Position(0));
        assert_eq!(following.next().await.unwrap().mark, Some(Signal::CaughtUp(Position(0))));
        let events = (0..MANY).map(|_| {
            let tags = Tags::none().with("even");
            NewEvent::new(EventType::new("test.Happened").unwrap(), "{}").tagged(tags)
        });
        store.append(Append::of(events.collect())).await.unwrap();
        let (mut told, mut dropped) = (Vec::new(), 0);
        while following.told.0 < MANY {
            // Each call is dropped when it waits for the first time.
            match following.next().now_or_never() {
                Some(found) => {
                    told.extend(found.unwrap().events.iter().map(|event| event.event.position.0))
                }
                None => {
                    dropped += 1;
                    tokio::task::yield_now().await;
                }
            }
        }
        assert_eq!(told, (1..=MANY).collect::<Vec<_>>());
        assert!(dropped >= MANY - 1, "others had a turn {dropped} times only");
    }
}
