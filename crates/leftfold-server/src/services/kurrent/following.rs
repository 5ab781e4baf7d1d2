//! Subscriptions: events from a place on, and then those that are recorded, until the client or
//! the server ends it.
//!
//! First comes the confirmation. `caught up` tells that everything recorded until then was sent,
//! `fell behind` that the client takes events more slowly than others write. A filtered
//! subscription also gets checkpoints, so that a client comes back to where it was though nothing
//! passed the filter: after at most about as many events as it wished, and before each `caught up`.

use std::collections::VecDeque;

use futures_util::stream;
use leftfold::store::{
    Position, Query, QueryItem, Read, RecordedEvent, Signal, StreamMatch, Subscription, Timestamp,
    TypeMatch, Version,
};
use tonic::Status;
use uuid::Uuid;

use super::Facade;
use super::faults;
use super::filter::EventFilter;
use super::indexed::IndexedStream;
use super::marks;
use super::names::{self, DELETED_TYPE, NamedStream};
use super::reading::{FromPosition, FromRevision};
use super::records::{EventForm, moment, wire_position};
use super::wire::streams::ReadResp;
use super::wire::streams::read_resp::{
    Checkpoint, Content, SubscriptionConfirmation, SubscriptionMark,
};
use crate::metrics::{CallProtocol, OpenSubscription};
use crate::services::Messages;
use crate::stopping::Stopping;
use crate::users::Wish;

/// A subscription on its way to a client. Events are read as the client takes them.
pub(super) struct FollowCall {
    facade: Facade,
    form: EventForm,
    source: FollowSource,
    subscription: Subscription,
    ready: VecDeque<Result<ReadResp, Status>>,
    stopping: Stopping,
    _counted: OpenSubscription,
}

enum FollowSource {
    All {
        filter: Option<EventFilter>,
        /// Place of the last checkpoint.
        checkpoint: Position,
    },
    Stream {
        stream: NamedStream,
        /// Events before are hidden, or were seen before.
        first: Version,
        /// Events up to here are too old to be shown.
        aged_through: Position,
        /// Revision that was sent last, or seen before.
        last: Option<u64>,
    },
    Indexed {
        stream: IndexedStream,
        /// Number of the next event.
        number: u64,
        /// Number of the first event that is wanted.
        first: u64,
    },
}

impl FollowCall {
    /// Follows an ordinary stream.
    pub(super) async fn of_stream(
        facade: Facade,
        stream: NamedStream,
        from: FromRevision,
        form: EventForm,
        stopping: Stopping,
    ) -> Result<Self, Status> {
        facade.may_read(&stream)?;
        facade.refresh().await?;
        let mark = facade.mark_of(&stream).await?;
        let aged_through = marks::aged_through(&facade.store, mark.max_age).await;
        let aged_through = aged_through.map_err(faults::unread)?;
        let seen = match from {
            FromRevision::Start => Version::ABSENT,
            FromRevision::End => Version::END,
            FromRevision::Revision(revision) => Version(revision.saturating_add(1)),
        };
        let read = Read::stream(stream.name.clone(), seen).page_of(1);
        let page = facade.store.page(read).await.map_err(faults::unread)?;
        let version = page.stream_version.unwrap_or(Version::ABSENT);
        let seen = if from == FromRevision::End { version } else { seen };
        let after = match page.events.first() {
            _ if seen == Version::ABSENT => Position::START,
            // The page begins with the last event that was seen.
            Some(event) => event.position,
            // The stream ends before it. What comes is behind the end that the page saw.
            None => page.head.position,
        };
        let first_shown = mark.first_shown(&stream, version);
        let first = Version(first_shown.saturating_add(1).min(version.0.saturating_add(1)));
        let deletion = QueryItem {
            types: vec![TypeMatch::Exact(names::own_type(DELETED_TYPE))],
            streams: Some(StreamMatch::Exact(stream.metadata())),
            ..QueryItem::default()
        };
        let query = Query::stream(stream.name.clone()).or(deletion.into());
        let subscription = facade.store.subscribe(query, after);
        let is_deleted = mark.is_tombstoned.then(|| Err(faults::stream_deleted(&stream.shown)));
        let first = first.max(seen.next());
        let last = seen.0.checked_sub(1);
        let source = FollowSource::Stream { stream, first, aged_through, last };
        let mut call = Self::confirmed(facade, form, source, subscription, stopping);
        call.ready.extend(is_deleted);
        Ok(call)
    }

    /// Follows a stream that the index answers.
    pub(super) async fn of_indexed(
        facade: Facade,
        stream: IndexedStream,
        from: FromRevision,
        form: EventForm,
        stopping: Stopping,
    ) -> Result<Self, Status> {
        facade.may(Wish::Query(&stream.wished()))?;
        facade.refresh().await?;
        let counted = facade.ordinals.count(&facade.store, &stream).await;
        let (count, through) = counted.map_err(faults::unread)?;
        let (number, after, first) = match from {
            FromRevision::Start => (0, Position::START, 0),
            FromRevision::End => (count, through, count),
            FromRevision::Revision(seen) => {
                let found = facade.ordinals.position_of(&facade.store, &stream, seen).await;
                match found.map_err(faults::unread)? {
                    Some(position) => (seen + 1, position, 0),
                    None => (count, through, seen.saturating_add(1)),
                }
            }
        };
        let subscription = facade.store.subscribe(stream.query(), after);
        let source = FollowSource::Indexed { stream, number, first };
        Ok(Self::confirmed(facade, form, source, subscription, stopping))
    }

    /// Follows all events, or those that pass a filter.
    pub(super) async fn of_all(
        facade: Facade,
        from: FromPosition,
        filter: Option<EventFilter>,
        form: EventForm,
        stopping: Stopping,
    ) -> Result<Self, Status> {
        let wished = filter.as_ref().map_or_else(Query::all, EventFilter::wished);
        facade.may(Wish::Query(&wished))?;
        facade.refresh().await?;
        let head = facade.store.head().position;
        let after = match from {
            FromPosition::Start => Position::START,
            FromPosition::End | FromPosition::Position(u64::MAX) => head,
            FromPosition::Position(at) => Position(at),
        };
        let query = filter.as_ref().map_or_else(Query::all, EventFilter::query);
        let subscription = facade.store.subscribe(query, after);
        let source = FollowSource::All { filter, checkpoint: after };
        Ok(Self::confirmed(facade, form, source, subscription, stopping))
    }

    fn confirmed(
        facade: Facade,
        form: EventForm,
        source: FollowSource,
        subscription: Subscription,
        stopping: Stopping,
    ) -> Self {
        let subscription_id = Uuid::new_v4().to_string();
        let confirmation = Content::Confirmation(SubscriptionConfirmation { subscription_id });
        let ready = VecDeque::from([Ok(ReadResp { content: Some(confirmation) })]);
        let counted = facade.served.subscribed(CallProtocol::KurrentDb);
        Self { facade, form, source, subscription, ready, stopping, _counted: counted }
    }

    /// The answers, made as the client takes them.
    pub(super) fn responses(self) -> Messages<ReadResp> {
        Box::pin(stream::try_unfold(self, |mut call| async move {
            loop {
                if let Some(response) = call.ready.pop_front() {
                    return Ok(Some((response?, call)));
                }
                let signal = tokio::select! {
                    signal = call.subscription.next() => signal.map_err(faults::unread)?,
                    () = call.stopping.wanted() => return Err(faults::is_stopping()),
                };
                call.take(signal).await?;
            }
        }))
    }

    async fn take(&mut self, signal: Signal) -> Result<(), Status> {
        match signal {
            Signal::Event(event) => self.take_event(&event).await,
            Signal::Progress(position) => {
                self.pass_checkpoint(position, false);
                self.facade.refresh().await
            }
            Signal::CaughtUp(position) => {
                self.pass_checkpoint(position, true);
                let mark = self.mark(position);
                self.send(Content::CaughtUp(mark));
                self.facade.refresh().await
            }
            Signal::FellBehind(position) => {
                self.pass_checkpoint(position, false);
                let mark = self.mark(position);
                self.send(Content::FellBehind(mark));
                self.facade.refresh().await
            }
        }
    }

    async fn take_event(&mut self, event: &RecordedEvent) -> Result<(), Status> {
        match &mut self.source {
            FollowSource::All { filter, .. } => {
                let passes = filter.as_ref().is_none_or(|filter| filter.passes(event));
                if passes && !self.facade.hides(event).await? {
                    self.send_found(event).await?;
                }
                self.pass_checkpoint(event.position, false);
            }
            FollowSource::Stream { stream, first, aged_through, last } => {
                let at = event.stream.as_ref();
                let is_deletion = at.is_some_and(|at| at.name != stream.name);
                if is_deletion {
                    let deleted = faults::stream_deleted(&stream.shown);
                    self.send_found(event).await?;
                    self.ready.push_back(Err(deleted));
                } else if event.version() >= *first && event.position > *aged_through {
                    *last = event.version().0.checked_sub(1);
                    self.send_found(event).await?;
                }
            }
            FollowSource::Indexed { stream, number, first } => {
                if stream.has(event) {
                    let is_hidden = self.facade.hides(event).await?;
                    let found = self.form.indexed(stream, *number, event, is_hidden);
                    if *number >= *first {
                        self.ready.push_back(Ok(found.into_response()));
                    }
                    *number += 1;
                }
            }
        }
        Ok(())
    }

    async fn send_found(&mut self, event: &RecordedEvent) -> Result<(), Status> {
        let found = self.form.found(&self.facade, event).await.map_err(faults::unread)?;
        self.ready.push_back(Ok(found.into_response()));
        Ok(())
    }

    fn send(&mut self, content: Content) {
        self.ready.push_back(Ok(ReadResp { content: Some(content) }));
    }

    /// Sends a checkpoint to a filtered subscription if it is due.
    fn pass_checkpoint(&mut self, through: Position, is_caught_up: bool) {
        let FollowSource::All { filter: Some(filter), checkpoint } = &mut self.source else {
            return;
        };
        let passed = through.0.saturating_sub(checkpoint.0);
        if passed == 0 || (passed < filter.checkpoint_every && !is_caught_up) {
            return;
        }
        *checkpoint = through;
        self.send(Content::Checkpoint(Checkpoint {
            commit_position: through.0,
            prepare_position: through.0,
            timestamp: Some(moment(Timestamp::now())),
        }));
    }

    /// The place from which a client would go on.
    fn mark(&self, through: Position) -> SubscriptionMark {
        let (stream_revision, position) = match &self.source {
            FollowSource::All { .. } => {
                (None, (through > Position::START).then(|| wire_position(through)))
            }
            FollowSource::Stream { last, .. } => (*last, None),
            FollowSource::Indexed { number, .. } => (number.checked_sub(1), None),
        };
        SubscriptionMark {
            timestamp: Some(moment(Timestamp::now())),
            stream_revision: stream_revision.and_then(|revision| i64::try_from(revision).ok()),
            position,
        }
    }
}
