//! A persistent subscription as this protocol knows it: its source, its name, and what it leaves
//! out of the events of its query.

use std::sync::Arc;
use std::time::Duration;

use leftfold::store::{Position, Query, ReadError, RecordedEvent, Store, Version};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tonic::Status;

use super::super::Facade;
use super::super::filter::{EventFilter, StoredFilter};
use super::super::indexed::IndexedStream;
use super::super::marks::{self, StreamMarks};
use super::super::names::{NamedStream, group_name};
use crate::groups::{EventLens, GroupName, GroupSettings, Judging, LensMaker};
use crate::users::Wish;

/// Name under which all events are a source.
const ALL: &str = "$all";
/// Time after which the count and the age of a stream's metadata are looked at again, so that a
/// page of events needs few looks.
const RETENTION_FOR: Duration = Duration::from_millis(100);

/// Source of the events of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GroupSource {
    All,
    Stream(NamedStream),
    Indexed(IndexedStream),
}

/// A subscription that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NamedGroup {
    pub(super) source: GroupSource,
    pub(super) group: String,
    pub(super) name: GroupName,
}

impl GroupSource {
    pub(super) fn of(stream: NamedStream) -> Self {
        match IndexedStream::named(&stream.shown) {
            _ if stream.shown == ALL => Self::All,
            Some(indexed) => Self::Indexed(indexed),
            None => Self::Stream(stream),
        }
    }

    pub(super) fn shown(&self) -> &str {
        match self {
            Self::All => ALL,
            Self::Stream(stream) => &stream.shown,
            Self::Indexed(stream) => &stream.shown,
        }
    }

    /// The query that finds its events, and maybe some others.
    pub(super) fn query(&self, filter: Option<&EventFilter>) -> Query {
        match self {
            Self::All => filter.map_or_else(Query::all, EventFilter::query),
            Self::Stream(stream) => Query::stream(stream.name.clone()),
            Self::Indexed(stream) => stream.query(),
        }
    }
}

impl NamedGroup {
    pub(super) fn of(source: GroupSource, group: String) -> Result<Self, Status> {
        if group.is_empty() {
            return Err(Status::invalid_argument("the name of a group is missing"));
        }
        let of = format!("{}::{group}", source.shown());
        let name = group_name(&of);
        Ok(Self { source, group, name })
    }

    /// The id that clients see.
    pub(super) fn id(&self) -> String {
        format!("{}::{}", self.source.shown(), self.group)
    }
}

/// Part of the settings that only this protocol reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct GroupFace {
    pub(super) stream: String,
    pub(super) group: String,
    pub(super) strategy: String,
    pub(super) start_from: String,
    /// Events before are left out.
    #[serde(default)]
    pub(super) first_revision: u64,
    pub(super) resolves_links: bool,
    pub(super) extra_statistics: bool,
    pub(super) live_buffer: i32,
    pub(super) history_buffer: i32,
    pub(super) read_batch: i32,
    #[serde(default)]
    pub(super) filter: Option<StoredFilter>,
}

impl GroupFace {
    /// Reads it from settings; `None` if the group is one of another protocol.
    pub(super) fn of(settings: &GroupSettings) -> Option<Self> {
        serde_json::from_value(settings.face.clone()).ok()
    }

    /// The subscription that it belongs to.
    pub(super) fn named(&self) -> Option<NamedGroup> {
        let stream = NamedStream::named(self.stream.clone()).ok()?;
        NamedGroup::of(GroupSource::of(stream), self.group.clone()).ok()
    }
}

/// Leaves out what clients do not see.
struct GroupLens {
    store: Store,
    marks: Arc<StreamMarks>,
    filter: Option<EventFilter>,
    indexed: Option<IndexedStream>,
    stream: Option<StreamLens>,
}

/// Leaves out what is before the beginning in one stream, and what its metadata hides.
struct StreamLens {
    stream: NamedStream,
    /// Version of the first event that is wanted.
    first: Version,
    /// Shown as of a moment; `None` before the first look.
    retained: Mutex<Option<(Instant, Retained)>>,
}

/// Events of a stream that its metadata shows: those behind both places.
#[derive(Clone, Copy, Debug)]
struct Retained {
    first: Version,
    aged_through: Position,
}

impl EventLens for GroupLens {
    fn passes<'a>(&'a self, event: &'a RecordedEvent) -> Judging<'a> {
        Box::pin(async move {
            let passes = self.filter.as_ref().is_none_or(|filter| filter.passes(event))
                && self.indexed.as_ref().is_none_or(|stream| stream.has(event))
                && self.stream.as_ref().is_none_or(|stream| event.version() >= stream.first);
            if !passes || self.marks.hide(&self.store, event).await? {
                return Ok(false);
            }
            let Some(stream) = &self.stream else { return Ok(true) };
            let retained = stream.retained(&self.store, &self.marks).await?;
            Ok(event.version() >= retained.first && event.position > retained.aged_through)
        })
    }
}

impl StreamLens {
    fn new(stream: NamedStream, first: Version) -> Self {
        Self { stream, first, retained: Mutex::new(None) }
    }

    /// Returns what `$maxCount` and `$maxAge` leave of the stream, as a read of it would.
    async fn retained(&self, store: &Store, marks: &StreamMarks) -> Result<Retained, ReadError> {
        let mut kept = self.retained.lock().await;
        if let Some((at, retained)) = *kept
            && at.elapsed() < RETENTION_FOR
        {
            return Ok(retained);
        }
        marks.refresh(store).await?;
        let mark = marks.of(&self.stream.name);
        let version = store.version(self.stream.name.clone()).await?;
        let retained = Retained {
            first: Version(mark.first_shown(&self.stream, version).saturating_add(1)),
            aged_through: marks::aged_through(store, mark.max_age).await?,
        };
        *kept = Some((Instant::now(), retained));
        Ok(retained)
    }
}

/// Lens of a subscription whose settings cannot be read: it fails, so that nothing is consumed.
struct UnreadLens;

impl EventLens for UnreadLens {
    fn passes<'a>(&'a self, _: &'a RecordedEvent) -> Judging<'a> {
        let detail = "this release cannot read the settings of the subscription, update it";
        Box::pin(std::future::ready(Err(ReadError::Io { detail: detail.to_owned() })))
    }
}

/// Makes the lenses of the groups of a store.
pub(super) fn lenses(facade: &Facade) -> LensMaker {
    lenses_of(facade.store.clone(), Arc::clone(&facade.marks))
}

fn lenses_of(store: Store, marks: Arc<StreamMarks>) -> LensMaker {
    Arc::new(move |settings| {
        // Without its filter, consumers would get and settle what nobody meant for them.
        let Some(face) = GroupFace::of(settings) else { return Arc::new(UnreadLens) };
        let source = face.named().map(|named| named.source);
        let (indexed, stream) = match source {
            Some(GroupSource::Indexed(stream)) => (Some(stream), None),
            Some(GroupSource::Stream(stream)) => {
                let first = Version(face.first_revision.saturating_add(1));
                (None, Some(StreamLens::new(stream, first)))
            }
            _ => (None, None),
        };
        let Ok(filter) = face.filter.map(EventFilter::stored).transpose() else {
            return Arc::new(UnreadLens);
        };
        let (store, marks) = (store.clone(), Arc::clone(&marks));
        Arc::new(GroupLens { store, marks, filter, indexed, stream })
    })
}

impl Facade {
    /// Refuses to consume, or to replay, to whom it is closed.
    pub(super) fn may_consume(&self, settings: &GroupSettings) -> Result<(), Status> {
        self.may(Wish::AppendAll)?;
        self.may(Wish::Query(&settings.query))
    }
}

#[cfg(test)]
mod tests {
    use leftfold::store::{Append, EventType, NewEvent, Position, Read};

    use super::*;

    #[tokio::test]
    async fn a_subscription_whose_settings_cannot_be_read_lets_nothing_pass() {
        let store = Store::memory();
        let event = NewEvent::new(EventType::new("order.Placed").unwrap(), "{}");
        store.append(Append::of(vec![event])).await.unwrap();
        let read = Read::matching(Query::all(), Position::START).page_of(1);
        let event = store.page(read).await.unwrap().events.remove(0);
        let lenses = lenses_of(store, Arc::new(StreamMarks::new()));
        let face = |filter: serde_json::Value| {
            serde_json::json!({
                "stream": "$all", "group": "billing", "strategy": "RoundRobin", "start_from": "0",
                "resolves_links": false, "extra_statistics": false, "live_buffer": 500,
                "history_buffer": 500, "read_batch": 20, "filter": filter,
            })
        };
        let filter = |regex: &str| serde_json::json!({ "is_of_streams": false, "regex": regex, "prefixes": [] });
        for (face, passes) in [
            (face(serde_json::Value::Null), Some(true)),
            (face(filter("^order")), Some(true)),
            (face(filter("^cart")), Some(false)),
            (face(filter("(")), None),
            (serde_json::json!({ "release": "a newer one" }), None),
        ] {
            let settings = GroupSettings { face, ..GroupSettings::of(Query::all()) };
            let lens = lenses(&settings);
            assert_eq!(lens.passes(&event).await.ok(), passes, "{:?}", settings.face);
        }
    }
}
