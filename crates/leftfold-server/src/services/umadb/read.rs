//! Reads: the events up to the head that the call found, in batches.

use std::collections::VecDeque;

use bytes::Bytes;
use futures_util::stream;
use leftfold::store::{Direction, Page, Pending, Position, Read, ReadError, RecordedEvent, Store};
use tonic::Status;

use super::access::AskedStore;
use super::event::EventBatch;
use super::query::query_of;
use super::{batch_of, present, status, wire};
use crate::services::Messages;
use crate::users::Wish;

/// State of a read between two of its messages. One page is read ahead of the client.
struct ReadCall {
    store: Store,
    read: Read,
    coming: Option<Pending<Page, ReadError>>,
    ready: VecDeque<RecordedEvent>,
    /// Event that was too much for the message before.
    held: Option<RecordedEvent>,
    /// Head that the first page found: what comes later is not part of the answer.
    head: Option<Position>,
    batch: u32,
    /// Events that may still be sent; `None` without a limit.
    left: Option<u32>,
    is_begun: bool,
}

/// Answers a read, one message as the client takes the one before.
pub(super) fn read(
    asked: &AskedStore,
    request: wire::ReadRequest,
) -> Result<Messages<Bytes>, Status> {
    #[allow(deprecated)]
    if request.subscribe() {
        return Err(status::unfit("a read does not go on, use the call Subscribe"));
    }
    let query = query_of(request.query.clone()).map_err(status::of_invalid)?;
    asked.may(Wish::Query(&query))?;
    let batch = batch_of(request.batch_size);
    let direction = if request.backwards() { Direction::Backwards } else { Direction::Forwards };
    let from = match (direction, request.start) {
        (Direction::Forwards, start) => Position(start.unwrap_or_default().max(1)),
        (Direction::Backwards, start) => start.map_or(Position::END, Position),
    };
    let read = Read { direction, ..Read::matching(query, from) }
        .page_of(request.limit.map_or(batch, |limit| limit.min(batch)));
    let store = asked.store.clone();
    let coming = (request.limit != Some(0)).then(|| store.page(read.clone()));
    let call = ReadCall {
        store,
        read,
        coming,
        ready: VecDeque::new(),
        held: None,
        head: None,
        batch,
        left: request.limit,
        is_begun: false,
    };
    Ok(Box::pin(stream::try_unfold(call, |mut call| async move {
        let message = call.message().await?;
        Ok(message.map(|message| (message, call)))
    })))
}

impl ReadCall {
    /// Returns the next message; `None` at the end.
    async fn message(&mut self) -> Result<Option<Bytes>, Status> {
        if self.left == Some(0) {
            return Ok(None);
        }
        let wanted = self.left.map_or(self.batch, |left| left.min(self.batch)) as usize;
        let mut batch = EventBatch::default();
        while batch.len() < wanted {
            let event = match self.held.take() {
                Some(held) => held,
                None => match self.next().await.map_err(status::of_read)? {
                    Some(event) => event,
                    None => break,
                },
            };
            self.held = batch.push(event).map_err(status::unreadable)?;
            if self.held.is_some() {
                break;
            }
        }
        if batch.len() == 0 && self.is_begun {
            return Ok(None);
        }
        self.is_begun = true;
        let head = match self.left {
            None => self.head.and_then(present),
            Some(_) => batch.last,
        };
        if let Some(left) = &mut self.left {
            *left -= batch.len() as u32;
        }
        Ok(Some(batch.finish(head)))
    }

    async fn next(&mut self) -> Result<Option<RecordedEvent>, ReadError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                if self.head.is_some_and(|head| event.position > head) {
                    self.coming = None;
                    self.ready.clear();
                    return Ok(None);
                }
                return Ok(Some(event));
            }
            let Some(coming) = &mut self.coming else { return Ok(None) };
            let page = coming.await;
            self.coming = None;
            self.take(page?);
        }
    }

    fn take(&mut self, page: Page) {
        let head = *self.head.get_or_insert(page.head.position);
        let is_enough = self.left.is_some_and(|left| page.events.len() >= left as usize)
            || (self.read.direction == Direction::Forwards && page.through >= head);
        if let Some(next) = page.next.filter(|_| !is_enough) {
            self.read.what = next;
            self.coming = Some(self.store.page(self.read.clone()));
        }
        self.ready = page.events.into();
    }
}
