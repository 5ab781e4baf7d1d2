//! Numbers of the events that the index answers for `$ce-` and `$et-` streams.
//!
//! The store finds these events by position; clients number them. So the positions of some of the
//! numbers are kept, for the streams that somebody read. They are found by reading the stream from
//! its beginning, once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};

use leftfold::store::{Position, Query, Read, ReadError, Store, What};
use tokio::sync::Mutex;

use super::names::IndexedStream;

/// Events between two positions that are kept.
const EVERY: usize = 1_024;
/// Streams whose positions are kept; with more, all are found anew.
const STREAMS_MAX: usize = 1_024;

/// The numbers of the events in indexed streams.
pub(super) struct Ordinals(StdMutex<HashMap<String, Arc<Mutex<StreamOrdinals>>>>);

/// The numbers of one stream, as far as it was read.
#[derive(Debug, Default)]
struct StreamOrdinals {
    /// Positions of the events 0, [`EVERY`], twice that, and so on.
    kept: Vec<Position>,
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
        let every = EVERY as u64;
        let kept = usize::try_from(number / every).ok().and_then(|at| ordinals.kept.get(at));
        let Some(&from) = kept else { return Ok(None) };
        let mut left = number % every;
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
            for event in page.events.iter().filter(|event| stream.has(event)) {
                if self.count.is_multiple_of(EVERY as u64) {
                    self.kept.push(event.position);
                }
                self.count += 1;
            }
            self.through = page.through.max(self.through);
            next = page.next;
        }
        Ok(())
    }
}

async fn page(store: &Store, what: What) -> Result<leftfold::store::Page, ReadError> {
    let read = Read { what, ..Read::matching(Query::nothing(), Position::START) };
    store.page(read).await
}
