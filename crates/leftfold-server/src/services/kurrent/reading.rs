//! Reads that end: of a stream, of all events, of a stream that the index answers.

use std::collections::VecDeque;

use futures_util::stream;
use leftfold::store::{Direction, Page, Position, Query, Read, RecordedEvent, Version, What};
use tonic::Status;

use super::Facade;
use super::faults;
use super::filter::EventFilter;
use super::indexed::IndexedStream;
use super::marks;
use super::names::NamedStream;
use super::records::EventForm;
use super::wire::streams::ReadResp;
use super::wire::streams::read_resp::{Content, StreamNotFound};
use crate::services::Messages;
use crate::users::Wish;

/// Events of one page.
const PAGE_EVENTS: u64 = 512;

/// Place at which a read of a stream begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FromRevision {
    Start,
    End,
    Revision(u64),
}

/// Place at which a read of all events begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FromPosition {
    Start,
    End,
    Position(u64),
}

/// A read on its way to a client. Pages are read as the client takes their events.
pub(super) struct ReadingCall {
    facade: Facade,
    form: EventForm,
    direction: Direction,
    source: ReadSource,
    /// `None` if nothing more is to be read.
    next: Option<What>,
    /// Events that the client still wants.
    left: u64,
    /// Events of the next page: as many as are wanted, and whole pages if one had too few to show.
    page_events: u64,
    ready: VecDeque<ReadyEvent>,
    /// Sent behind the events.
    last: Vec<Content>,
}

/// An event that is shown.
enum ReadyEvent {
    /// The one that it leads to, if it is a link, is read when the client takes it.
    Found(RecordedEvent),
    Indexed(ReadResp),
}

enum ReadSource {
    Stream {
        /// Events before are hidden.
        first_shown: Version,
        /// Events up to here are too old to be shown.
        aged_through: Position,
    },
    All {
        filter: Option<EventFilter>,
    },
    Indexed {
        stream: IndexedStream,
        /// Number of the next event.
        number: u64,
    },
}

/// Wish of a client: the events of a stream or of all that it wants, and how.
pub(super) struct ReadWish {
    pub(super) form: EventForm,
    pub(super) direction: Direction,
    pub(super) count: u64,
    /// The client wants to know the last revision of the stream.
    pub(super) tells_last: bool,
}

impl ReadingCall {
    /// Reads an ordinary stream.
    pub(super) async fn of_stream(
        facade: Facade,
        stream: NamedStream,
        from: FromRevision,
        wish: ReadWish,
    ) -> Result<Self, Status> {
        facade.may_read(&stream)?;
        facade.refresh().await?;
        let mark = facade.mark_of(&stream).await?;
        if mark.is_tombstoned {
            return Err(faults::stream_deleted(&stream.shown));
        }
        let version = facade.version(&stream.name).await?;
        if version == Version::ABSENT || mark.is_deleted() {
            return Ok(Self::answering(facade, wish, vec![not_found(&stream)]));
        }
        let aged_through = marks::aged_through(&facade.store, mark.max_age).await;
        let aged_through = aged_through.map_err(faults::unread)?;
        let first_shown = Version(mark.first_shown(&stream, version).saturating_add(1));
        let begins = match (from, wish.direction) {
            (FromRevision::Start, Direction::Forwards) => first_shown,
            (FromRevision::Start, Direction::Backwards) => Version(1),
            (FromRevision::End, _) => Version::END,
            (FromRevision::Revision(revision), _) => Version(revision.saturating_add(1)),
        };
        let begins =
            if wish.direction == Direction::Forwards { begins.max(first_shown) } else { begins };
        let last = match wish.tells_last {
            true => vec![Content::LastStreamPosition(version.0 - 1)],
            false => Vec::new(),
        };
        let mut call = Self::answering(facade, wish, last);
        if call.direction == Direction::Forwards && begins > version && !call.last.is_empty() {
            let is_at_end = matches!(from, FromRevision::Revision(at) if at == version.0);
            if !is_at_end {
                call.last.insert(0, Content::FirstStreamPosition(version.0));
            }
        }
        call.next = Some(What::Stream { stream: stream.name, from: begins });
        call.source = ReadSource::Stream { first_shown, aged_through };
        Ok(call)
    }

    /// Reads a stream that the index answers.
    pub(super) async fn of_indexed(
        facade: Facade,
        stream: IndexedStream,
        from: FromRevision,
        wish: ReadWish,
    ) -> Result<Self, Status> {
        facade.may(Wish::Query(&stream.wished()))?;
        facade.refresh().await?;
        let counted = facade.ordinals.count(&facade.store, &stream).await;
        let (count, _) = counted.map_err(faults::unread)?;
        if count == 0 {
            let not_found = not_found(&NamedStream::named(stream.shown)?);
            return Ok(Self::answering(facade, wish, vec![not_found]));
        }
        let number = match (from, wish.direction) {
            (FromRevision::Start, _) => 0,
            (FromRevision::End, Direction::Forwards) => count,
            (FromRevision::End, Direction::Backwards) => count - 1,
            (FromRevision::Revision(at), Direction::Forwards) => at,
            (FromRevision::Revision(at), Direction::Backwards) => at.min(count - 1),
        };
        let position = facade.ordinals.position_of(&facade.store, &stream, number).await;
        let position = position.map_err(faults::unread)?;
        let last = match wish.tells_last {
            true => vec![Content::LastStreamPosition(count - 1)],
            false => Vec::new(),
        };
        let mut call = Self::answering(facade, wish, last);
        call.next = position.map(|from| What::Matching { query: stream.query(), from });
        call.source = ReadSource::Indexed { stream, number };
        Ok(call)
    }

    /// Reads all events, or those that pass a filter.
    pub(super) async fn of_all(
        facade: Facade,
        from: FromPosition,
        filter: Option<EventFilter>,
        wish: ReadWish,
    ) -> Result<Self, Status> {
        let wished = filter.as_ref().map_or_else(Query::all, EventFilter::wished);
        facade.may(Wish::Query(&wished))?;
        facade.refresh().await?;
        // A position is between two events: forwards that of the next one, backwards that of the
        // one before it.
        let from = match (from, wish.direction) {
            (FromPosition::Start, Direction::Forwards) => Some(Position(1)),
            (FromPosition::Start, Direction::Backwards) => None,
            (FromPosition::End, Direction::Forwards) => None,
            (FromPosition::End, Direction::Backwards) => Some(Position::END),
            (FromPosition::Position(at), Direction::Forwards) => Some(Position(at.max(1))),
            (FromPosition::Position(u64::MAX), Direction::Backwards) => Some(Position::END),
            (FromPosition::Position(at), Direction::Backwards) => {
                at.checked_sub(1).filter(|before| *before > 0).map(Position)
            }
        };
        let query = filter.as_ref().map_or_else(Query::all, EventFilter::query);
        let mut call = Self::answering(facade, wish, Vec::new());
        call.next = from.map(|from| What::Matching { query, from });
        call.source = ReadSource::All { filter };
        Ok(call)
    }

    fn answering(facade: Facade, wish: ReadWish, last: Vec<Content>) -> Self {
        Self {
            facade,
            form: wish.form,
            direction: wish.direction,
            source: ReadSource::All { filter: None },
            next: None,
            left: wish.count,
            page_events: wish.count.min(PAGE_EVENTS),
            ready: VecDeque::new(),
            last,
        }
    }

    /// The answers, made as the client takes them.
    pub(super) fn responses(self) -> Messages<ReadResp> {
        Box::pin(stream::try_unfold(self, |mut call| async move {
            Ok(call.response().await?.map(|response| (response, call)))
        }))
    }

    async fn response(&mut self) -> Result<Option<ReadResp>, Status> {
        loop {
            match self.ready.pop_front() {
                Some(ReadyEvent::Found(event)) => return self.found(&event).await.map(Some),
                Some(ReadyEvent::Indexed(response)) => return Ok(Some(response)),
                None => {}
            }
            let Some(what) = self.next.take().filter(|_| self.left > 0) else {
                if self.last.is_empty() {
                    return Ok(None);
                }
                let content = Some(self.last.remove(0));
                return Ok(Some(ReadResp { content }));
            };
            let page_events = u32::try_from(self.page_events).unwrap_or(u32::MAX);
            self.page_events = match &self.source {
                ReadSource::Indexed { stream, .. } if stream.is_sparse() => {
                    Read::PAGE_EVENTS.into()
                }
                _ => PAGE_EVENTS,
            };
            let direction = self.direction;
            let read = Read { what, direction, page_events, page_bytes: Read::PAGE_BYTES };
            let page = self.facade.store.page(read).await.map_err(faults::unread)?;
            self.take(page).await?;
        }
    }

    async fn take(&mut self, page: Page) -> Result<(), Status> {
        self.next = page.next;
        for event in page.events {
            if self.left == 0 {
                break;
            }
            let ready = match &mut self.source {
                ReadSource::Stream { first_shown, aged_through } => {
                    let is_hidden =
                        event.version() < *first_shown || event.position <= *aged_through;
                    if is_hidden && self.direction == Direction::Backwards {
                        self.next = None;
                        break;
                    }
                    (!is_hidden).then_some(ReadyEvent::Found(event))
                }
                ReadSource::All { filter } => {
                    let passes = filter.as_ref().is_none_or(|filter| filter.passes(&event))
                        && !self.facade.hides(&event).await?;
                    passes.then_some(ReadyEvent::Found(event))
                }
                ReadSource::Indexed { stream, .. } if !stream.has(&event) => None,
                ReadSource::Indexed { stream, number } => {
                    let is_hidden = self.facade.hides(&event).await?;
                    let found = self.form.indexed(stream, *number, &event, is_hidden);
                    *number = match self.direction {
                        Direction::Forwards => number.saturating_add(1),
                        Direction::Backwards => number.saturating_sub(1),
                    };
                    Some(ReadyEvent::Indexed(found.into_response()))
                }
            };
            if let Some(ready) = ready {
                self.left -= 1;
                self.ready.push_back(ready);
            }
        }
        Ok(())
    }

    async fn found(&self, event: &RecordedEvent) -> Result<ReadResp, Status> {
        let found = self.form.found(&self.facade, event).await.map_err(faults::unread)?;
        Ok(found.into_response())
    }
}

fn not_found(stream: &NamedStream) -> Content {
    Content::StreamNotFound(StreamNotFound { stream_identifier: Some(stream.identifier()) })
}
