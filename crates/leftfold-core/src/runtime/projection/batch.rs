//! Batches: what the log has, read and decoded, a bounded number of events at a time.

use std::collections::HashSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::task::Poll;

use tracing::Span;

use super::parked::stream_of;
use super::{Projection, Target};
use crate::fold::{Event, EventError, Purpose, Recorded, Schema, Unknown};
use crate::runtime::consumer::contained::message;
use crate::span;
use crate::store::{
    Digest, Position, Query, Read, ReadError, RecordedEvent, Signal, Store, Subscription,
};

/// Events of one transaction, at most.
pub const BATCH_EVENTS_MAX: usize = 1_000;
/// Bytes of events of one transaction, about; one event is always taken.
const BATCH_BYTES_MAX: usize = Read::PAGE_BYTES as usize;

/// Events that were read from the log and are to be consumed together.
pub(super) struct Batch<E> {
    pub(super) items: Vec<Item<E>>,
    /// Everything up to here was looked at.
    pub(super) through: Position,
    /// True if the durable end was reached. It stays true even if more came since: a live
    /// subscription does not report the end again.
    pub(super) caught_up: bool,
    /// Position to end at, if the batch must not go beyond.
    pub(super) until: Position,
    bytes: usize,
}

/// One event of the log.
pub(super) struct Item<E> {
    pub(super) content: Content<E>,
    /// True if an earlier event of its stream, in this batch, cannot be read.
    pub(super) behind_unreadable: bool,
    /// Its key; `None` if it was not needed.
    pub(super) key: Option<String>,
    /// The lane that consumes it.
    pub(super) lane: usize,
}

/// Content of an event for a projection.
pub(super) enum Content<E> {
    One(Recorded<E>),
    /// The event was changed by an upcaster into several, or into none that concerns this
    /// projection.
    Several(RecordedEvent, Vec<Recorded<E>>),
    Unreadable(RecordedEvent, String),
}

impl<E: Event> Batch<E> {
    pub(super) fn new(after: Position, until: Position) -> Self {
        Self { items: Vec::new(), through: after, caught_up: false, until, bytes: 0 }
    }

    /// Takes up the events that the subscription has, and waits if it has none. Safe to cancel:
    /// events that were taken stay.
    pub(super) async fn fill(
        &mut self,
        log: &mut Subscription,
        schema: &Schema,
    ) -> Result<(), ReadError> {
        if self.is_full() {
            return Ok(());
        }
        if self.is_empty() {
            let signal = log.next().await?;
            self.take(signal, schema);
        }
        while !self.is_full()
            && let Some(signal) = at_once(log.next()).await
        {
            self.take(signal?, schema);
        }
        self.mark_behind();
        Ok(())
    }

    /// The span in which it is consumed. If it is of one event, it continues that one's trace; else
    /// it is linked with those of its events.
    pub(super) fn span(&self, projection: &'static str, version: u32) -> Span {
        if self.items.is_empty() {
            return Span::none();
        }
        let span = tracing::info_span!(
            "leftfold.projection",
            projection,
            version,
            events = self.items.len(),
            through = self.through.0,
            trace_id = tracing::field::Empty,
            parent_id = tracing::field::Empty
        );
        if !span.is_disabled() {
            span::comes_of(
                &span,
                self.items.iter().map(|item| item.envelope().metadata.trace.as_ref()),
            );
        }
        span
    }

    fn take(&mut self, signal: Signal, schema: &Schema) {
        match signal {
            // What is beyond the end is read again by anyone who goes on from there.
            Signal::Event(event) if event.position > self.until => self.through = self.until,
            Signal::Event(event) => {
                self.through = event.position;
                self.bytes += event.data.len() + event.metadata.user.len();
                self.items.push(Item {
                    content: decode(event, schema),
                    behind_unreadable: false,
                    key: None,
                    lane: 0,
                });
            }
            Signal::Progress(position) | Signal::FellBehind(position) => self.through = position,
            Signal::CaughtUp(position) => (self.through, self.caught_up) = (position, true),
        }
        self.through = self.through.min(self.until);
    }

    fn is_empty(&self) -> bool {
        self.items.is_empty() && !self.caught_up
    }

    fn is_full(&self) -> bool {
        self.items.len() >= BATCH_EVENTS_MAX
            || self.bytes >= BATCH_BYTES_MAX
            || self.through >= self.until
    }

    /// Gives each lane its part: events of one key stay together.
    pub(super) fn divide<T: Target, P: Projection<T, Event = E>>(
        &mut self,
        projection: &P,
        lanes: usize,
    ) {
        if lanes < 2 {
            return;
        }
        for item in &mut self.items {
            item.find_key(projection);
            let key = item.key.as_deref().unwrap_or_default();
            item.lane = lane_of(key, lanes);
        }
        // An event without a key cannot be read.
        self.mark_behind();
    }

    /// In order of the log, before lanes take their parts of it.
    fn mark_behind(&mut self) {
        let mut unreadable: HashSet<String> = HashSet::new();
        for item in &mut self.items {
            let behind = unreadable.contains(stream_of(item.envelope()));
            if matches!(item.content, Content::Unreadable(..)) {
                unreadable.insert(stream_of(item.envelope()).to_owned());
            }
            item.behind_unreadable = behind;
        }
    }
}

impl<E> Item<E> {
    pub(super) fn envelope(&self) -> &RecordedEvent {
        match &self.content {
            Content::One(recorded) => &recorded.envelope,
            Content::Several(envelope, _) | Content::Unreadable(envelope, _) => envelope,
        }
    }

    pub(super) fn position(&self) -> Position {
        self.envelope().position
    }

    /// Returns the events to apply.
    pub(super) fn events(&self) -> &[Recorded<E>] {
        match &self.content {
            Content::One(recorded) => std::slice::from_ref(recorded),
            Content::Several(_, recorded) => recorded,
            Content::Unreadable(..) => &[],
        }
    }

    /// Returns the key that it must stay in order with; its stream, if it has none.
    pub(super) fn known_key<T: Target, P: Projection<T, Event = E>>(
        &self,
        projection: &P,
    ) -> String {
        if let Some(key) = &self.key {
            return key.clone();
        }
        let key = key_of(projection, self.events()).and_then(Result::ok);
        key.unwrap_or_else(|| stream_of(self.envelope()).to_owned())
    }

    /// Computes the key that it must stay in order with, once. An event that has none cannot be
    /// read, and waits under its stream.
    pub(super) fn find_key<T: Target, P: Projection<T, Event = E>>(&mut self, projection: &P)
    where
        E: Event,
    {
        if self.key.is_some() {
            return;
        }
        match key_of(projection, self.events()) {
            Some(Ok(key)) => self.key = Some(key),
            Some(Err(error)) => {
                let envelope = self.envelope().clone();
                self.key = Some(stream_of(&envelope).to_owned());
                self.content = Content::Unreadable(envelope, error);
            }
            None => self.key = Some(stream_of(self.envelope()).to_owned()),
        }
    }
}

/// Bytes of a key: it is kept with parked items.
pub const KEY_BYTES_MAX: usize = 1_000;

/// Computes the key of an event, if there is anything to apply; the error says why it has none.
pub(super) fn key_of<T: Target, P: Projection<T>>(
    projection: &P,
    events: &[Recorded<P::Event>],
) -> Option<Result<String, String>> {
    let event = events.first()?;
    Some(match catch_unwind(AssertUnwindSafe(|| projection.key(event))) {
        Ok(key) if key.len() > KEY_BYTES_MAX => {
            Err(format!("its key has {} bytes, {KEY_BYTES_MAX} at most", key.len()))
        }
        Ok(key) => Ok(key),
        Err(panic) => Err(format!("key panicked: {}", message(&*panic))),
    })
}

/// The lane of a key: the same forever, in every process.
fn lane_of(key: &str, lanes: usize) -> usize {
    let Digest(digest) = Digest::of(key.as_bytes());
    let lanes = u128::try_from(lanes).unwrap_or(1);
    usize::try_from(u128::from_be_bytes(digest) % lanes).unwrap_or(0)
}

/// Decodes an event, whatever the user's code does with it.
pub(super) fn decode<E: Event>(recorded: RecordedEvent, schema: &Schema) -> Content<E> {
    let (mut first, mut more) = (None, Vec::new());
    let mut each = |event: E| match first {
        None => first = Some(event),
        Some(_) => more.push(event),
    };
    match (schema.decode_each(&recorded, Unknown::Ignore, &mut each), first) {
        (Err(error), _) => Content::Unreadable(recorded, error.to_string()),
        (Ok(()), Some(event)) if more.is_empty() => {
            Content::One(Recorded { event, envelope: recorded })
        }
        (Ok(()), first) => {
            let events = first.into_iter().chain(more);
            let events =
                events.map(|event| Recorded { event, envelope: recorded.clone() }).collect();
            Content::Several(recorded, events)
        }
    }
}

/// The answer, if it is there.
async fn at_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|context| match Pin::as_mut(&mut future).poll(context) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Returns the query for the events that a projection reads.
pub(super) fn query_of<T: Target, P: Projection<T>>(store: &Store) -> Result<Query, EventError> {
    Ok(store.schema::<P::Event>(Purpose::Reading)?.query())
}
