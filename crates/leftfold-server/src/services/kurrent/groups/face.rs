//! A persistent subscription as this protocol knows it: its source, its name, and what it leaves
//! out of the events of its query.

use std::sync::Arc;

use leftfold::store::{Query, RecordedEvent, Store, StreamName, Version};
use serde::{Deserialize, Serialize};
use tonic::Status;

use super::super::Facade;
use super::super::filter::{EventFilter, StoredFilter};
use super::super::indexed::IndexedStream;
use super::super::marks::StreamMarks;
use super::super::names::{NamedStream, group_name};
use crate::groups::{EventLens, EveryEvent, GroupName, GroupSettings, Judging, LensMaker};
use crate::users::Wish;

/// Name under which all events are a source.
const ALL: &str = "$all";

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
    /// The stream, and the version of the first event that is wanted.
    first: Option<(StreamName, Version)>,
}

impl EventLens for GroupLens {
    fn passes<'a>(&'a self, event: &'a RecordedEvent) -> Judging<'a> {
        Box::pin(async move {
            let passes = self.filter.as_ref().is_none_or(|filter| filter.passes(event))
                && self.indexed.as_ref().is_none_or(|stream| stream.has(event))
                && self.first.as_ref().is_none_or(|(_, first)| event.version() >= *first);
            Ok(passes && !self.marks.hide(&self.store, event).await?)
        })
    }
}

/// Makes the lenses of the groups of a store.
pub(super) fn lenses(facade: &Facade) -> LensMaker {
    let (store, marks) = (facade.store.clone(), Arc::clone(&facade.marks));
    Arc::new(move |settings| {
        let Some(face) = GroupFace::of(settings) else { return Arc::new(EveryEvent) };
        let source = face.named().map(|named| named.source);
        let (indexed, first) = match source {
            Some(GroupSource::Indexed(stream)) => (Some(stream), None),
            Some(GroupSource::Stream(stream)) => {
                (None, Some((stream.name, Version(face.first_revision.saturating_add(1)))))
            }
            _ => (None, None),
        };
        let filter = face.filter.and_then(|filter| EventFilter::stored(filter).ok());
        let (store, marks) = (store.clone(), Arc::clone(&marks));
        Arc::new(GroupLens { store, marks, filter, indexed, first })
    })
}

impl Facade {
    /// Refuses to consume, or to replay, to whom it is closed.
    pub(super) fn may_consume(&self, settings: &GroupSettings) -> Result<(), Status> {
        self.may(Wish::AppendAll)?;
        self.may(Wish::Query(&settings.query))
    }
}
