//! What is known of streams beside their events: their metadata, and that they were deleted.
//!
//! Both are events in the metadata stream of a stream (`~$$order-1` for `order-1`). The last event
//! there holds, whatever its type is: as metadata if it is a JSON object, as none if not. After a
//! deletion for ever, which is an event of the type `~$streamDeleted`, nothing else holds. All
//! marks are kept in memory, about 100 bytes for a stream that has any.
//!
//! They may be older than the store. So a call that reads brings them up to its end first, an
//! append writes on condition that they hold, and before something is refused or hidden by them,
//! they are brought up to the end, or to the event in question.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use leftfold::store::{
    Position, Query, QueryItem, Read, ReadError, RecordedEvent, Store, StreamMatch, StreamName,
    Timestamp, Version,
};
use serde_json::Value;
use tokio::sync::Mutex;

use super::names::{self, DELETED_TYPE, METADATA_STREAM, NamedStream};

/// `$tb` of a stream that was deleted: everything that it had is hidden.
pub(super) const ALL_TRUNCATED: u64 = i64::MAX.unsigned_abs();

/// The marks of one stream. The default is that of a stream that never had any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StreamMark {
    /// Version of its metadata stream.
    pub(super) version: Version,
    /// The stream was deleted for ever.
    pub(super) is_tombstoned: bool,
    /// Revisions below are hidden.
    pub(super) truncate_before: u64,
    /// Only the last events are shown.
    pub(super) max_count: Option<u64>,
    /// Only events that are younger are shown.
    pub(super) max_age: Option<Duration>,
}

impl StreamMark {
    /// Tells whether the stream was deleted, and may come back.
    pub(super) fn is_deleted(&self) -> bool {
        self.truncate_before == ALL_TRUNCATED
    }

    /// Returns the revision from which on events of a stream of that version are shown.
    pub(super) fn first_shown(&self, stream: &NamedStream, version: Version) -> u64 {
        // A metadata stream shows the metadata that holds.
        let max_count = if stream.is_metadata() { Some(1) } else { self.max_count };
        let counted = max_count.map_or(0, |count| version.0.saturating_sub(count));
        self.truncate_before.max(counted)
    }

    /// Returns the marks that hold after an event of the metadata stream.
    pub(super) fn after(&self, event: &RecordedEvent) -> Self {
        let version = event.version();
        if self.is_tombstoned || names::shown(&event.event_type) == DELETED_TYPE {
            return Self { version, is_tombstoned: true, ..Self::default() };
        }
        let value: Value = serde_json::from_slice(&event.data).unwrap_or_default();
        let number = |key: &str| value.get(key).and_then(Value::as_u64);
        Self {
            version,
            is_tombstoned: false,
            truncate_before: number("$tb").unwrap_or(0).min(ALL_TRUNCATED),
            max_count: number("$maxCount").filter(|count| *count > 0),
            max_age: number("$maxAge").filter(|age| *age > 0).map(Duration::from_secs),
        }
    }
}

/// The marks of all streams of a store.
pub(super) struct StreamMarks {
    marks: RwLock<HashMap<StreamName, StreamMark>>,
    /// Everything up to here is known.
    through: Mutex<Position>,
}

impl StreamMarks {
    pub(super) fn new() -> Self {
        Self { marks: RwLock::default(), through: Mutex::new(Position::START) }
    }

    /// Returns the marks of a stream, as far as they are known.
    pub(super) fn of(&self, stream: &StreamName) -> StreamMark {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        marks.get(stream).cloned().unwrap_or_default()
    }

    /// Tells whether an event is hidden among all events: it was truncated, or its stream deleted.
    /// The marks hold at the position of the event, or later.
    pub(super) async fn hide(
        &self,
        store: &Store,
        event: &RecordedEvent,
    ) -> Result<bool, ReadError> {
        if !self.are_known_to_hide(event) {
            return Ok(false);
        }
        // An event that brings its stream back is stored together with the metadata that shows it.
        self.learn_through(store, event.position).await?;
        Ok(self.are_known_to_hide(event))
    }

    fn are_known_to_hide(&self, event: &RecordedEvent) -> bool {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        let Some(stream) = &event.stream else { return false };
        marks.get(&stream.name).is_some_and(|mark| {
            mark.is_tombstoned || stream.version.0.saturating_sub(1) < mark.truncate_before
        })
    }

    /// Learns everything that was recorded until now, as far as the store has heard of it.
    pub(super) async fn refresh(&self, store: &Store) -> Result<(), ReadError> {
        self.learn_through(store, store.head().position).await
    }

    /// Learns everything that is recorded up to a position, by reading up to the end. With
    /// [`Position::END`] the end is looked for in any case.
    pub(super) async fn learn_through(
        &self,
        store: &Store,
        wanted: Position,
    ) -> Result<(), ReadError> {
        let mut through = self.through.lock().await;
        if *through >= wanted {
            return Ok(());
        }
        let marking = QueryItem {
            streams: Some(StreamMatch::Prefix(names::stored(METADATA_STREAM).into_owned())),
            ..QueryItem::default()
        };
        let mut what = Some(Read::matching(Query::from(marking), through.next()).what);
        while let Some(next) = what {
            let read = Read { what: next, ..Read::matching(Query::nothing(), Position::START) };
            let page = store.page(read).await?;
            for event in &page.events {
                self.learn(event);
            }
            *through = page.through.max(*through);
            what = page.next;
        }
        Ok(())
    }

    fn learn(&self, event: &RecordedEvent) {
        let Some(at) = &event.stream else { return };
        let Some(of) = names::shown(&at.name).strip_prefix(METADATA_STREAM) else { return };
        let Ok(stream) = NamedStream::named(of.to_owned()) else { return };
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        let mark = marks.entry(stream.name).or_default();
        *mark = mark.after(event);
    }
}

/// Returns the last position that is too old to be shown under an age.
pub(super) async fn aged_through(
    store: &Store,
    max_age: Option<Duration>,
) -> Result<Position, ReadError> {
    let Some(max_age) = max_age else { return Ok(Position::START) };
    let now: Timestamp = store.now().await?;
    store.position_at(now.minus(max_age)).await
}
