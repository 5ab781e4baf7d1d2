//! Numbers of the events in the streams that the index answers.
//!
//! The store finds these events by position; clients number them. So the positions of some of the
//! numbers are kept, for the streams that somebody read. They are found by reading what matches
//! from the beginning, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use leftfold::store::{Position, Query, Read, ReadError, Store, What};
use tokio::sync::Mutex;

use super::indexed::IndexedStream;

/// Events of a stream between two positions that are kept, at most.
const EVERY: u64 = 1_024;
/// Events that matched, with a link or without, between two positions that are kept: the next event
/// with a link that is behind so many is kept.
const LOOKED_AT_EVERY: usize = 8_192;
/// Events that are read at once to number one that is near.
const NUMBERED_AT_ONCE: u32 = 256;
/// Streams whose positions are kept; with more, all are found anew.
const STREAMS_MAX: usize = 1_024;

/// The numbers of the events in indexed streams.
pub(super) struct Ordinals(StdMutex<HashMap<String, Arc<Mutex<StreamOrdinals>>>>);

/// The numbers of one stream, as far as it was read.
#[derive(Debug, Default)]
struct StreamOrdinals {
    /// Numbers and positions of some events, the first one among them.
    kept: Vec<(u64, Position)>,
    /// Events that were looked at behind the last of these.
    looked_at: usize,
    count: u64,
    through: Position,
}

impl Ordinals {
    pub(super) fn new() -> Self {
        Self(StdMutex::default())
    }

    /// Returns the number of events in a stream, and the last position that was counted.
    pub(super) async fn count(
        &self,
        store: &Store,
        stream: &IndexedStream,
    ) -> Result<(u64, Position), ReadError> {
        let ordinals = self.of(stream);
        let mut ordinals = ordinals.lock().await;
        ordinals.extend(store, stream).await?;
        Ok((ordinals.count, ordinals.through))
    }

    /// Returns the position of the event with a number; `None` if there are fewer.
    pub(super) async fn position_of(
        &self,
        store: &Store,
        stream: &IndexedStream,
        number: u64,
    ) -> Result<Option<Position>, ReadError> {
        let ordinals = self.of(stream);
        let mut ordinals = ordinals.lock().await;
        ordinals.extend(store, stream).await?;
        if number >= ordinals.count {
            return Ok(None);
        }
        let behind = ordinals.kept.partition_point(|(kept, _)| *kept <= number);
        let before = behind.checked_sub(1).and_then(|before| ordinals.kept.get(before));
        let Some(&(kept, from)) = before else { return Ok(None) };
        let mut left = number - kept;
        let mut next = Some(Read::matching(stream.query(), from).what);
        while let Some(what) = next {
            let page = page(store, what).await?;
            for event in page.events.iter().filter(|event| stream.has(event)) {
                if left == 0 {
                    return Ok(Some(event.position));
                }
                left -= 1;
            }
            next = page.next;
        }
        Ok(None)
    }

    /// Returns the number of the event at a position. `near` is a number and its position, if one
    /// is known that is not far before.
    pub(super) async fn number_of(
        &self,
        store: &Store,
        stream: &IndexedStream,
        position: Position,
        near: Option<(u64, Position)>,
    ) -> Result<u64, ReadError> {
        let (mut number, from) = {
            let ordinals = self.of(stream);
            let mut ordinals = ordinals.lock().await;
            ordinals.extend(store, stream).await?;
            let behind = ordinals.kept.partition_point(|(_, kept)| *kept <= position);
            let kept = behind.checked_sub(1).and_then(|before| ordinals.kept.get(before)).copied();
            let known = near.filter(|(_, near)| *near <= position);
            kept.into_iter().chain(known).max_by_key(|(_, at)| *at).unwrap_or_default()
        };
        let mut next = Some(Read::matching(stream.query(), from.next()).what);
        while let Some(what) = next.take_if(|_| from < position) {
            let read = Read { what, ..Read::matching(Query::nothing(), Position::START) };
            let page = store.page(read.page_of(NUMBERED_AT_ONCE)).await?;
            let has = page.events.iter().take_while(|event| event.position <= position);
            number += has.filter(|event| stream.has(event)).count() as u64;
            next = page.next.filter(|_| page.through < position);
        }
        Ok(number)
    }

    fn of(&self, stream: &IndexedStream) -> Arc<Mutex<StreamOrdinals>> {
        let mut streams = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.len() >= STREAMS_MAX && !streams.contains_key(&stream.shown) {
            streams.clear();
        }
        Arc::clone(streams.entry(stream.shown.clone()).or_default())
    }
}

impl StreamOrdinals {
    /// Counts what was recorded until now.
    async fn extend(&mut self, store: &Store, stream: &IndexedStream) -> Result<(), ReadError> {
        if self.through >= store.head().position {
            return Ok(());
        }
        let mut next = Some(Read::matching(stream.query(), self.through.next()).what);
        while let Some(what) = next {
            let page = page(store, what).await?;
            for event in &page.events {
                self.looked_at += 1;
                if stream.has(event) {
                    self.take(event.position);
                }
            }
            self.through = page.through.max(self.through);
            next = page.next;
        }
        Ok(())
    }

    /// Counts the next event.
    fn take(&mut self, position: Position) {
        let is_far = |(kept, _): &(u64, Position)| {
            self.count - kept >= EVERY || self.looked_at >= LOOKED_AT_EVERY
        };
        if self.kept.last().is_none_or(is_far) {
            self.kept.push((self.count, position));
            self.looked_at = 0;
        }
        self.count += 1;
    }
}

async fn page(store: &Store, what: What) -> Result<leftfold::store::Page, ReadError> {
    let read = Read { what, ..Read::matching(Query::nothing(), Position::START) };
    store.page(read).await
}
