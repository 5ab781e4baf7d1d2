//! Streams of links that nobody wrote: those that projections of their server write, answered from
//! the index of the store.
//!
//! | stream | links to | found by |
//! | --- | --- | --- |
//! | `$ce-order` | the events of `order-1`, `order-2` and so on | category |
//! | `$et-OrderPlaced` | the events of the type | type |
//! | `$bc-ID` | the events with `"$correlationId": "ID"` in their metadata | tag, added by the append |
//! | `$streams` | the first event of each stream | looking at all events |
//! | `$category-order` | nothing: it has the names of `order-1`, `order-2` and so on | category |

use leftfold::store::{EventType, Query, QueryItem, RecordedEvent, StreamMatch, Tag, Version};
use serde_json::{Map, Value};

use super::names::{LINK_TYPE, stored};

/// Start of the name of a stream with links to the events of a category.
const CATEGORY_STREAM: &str = "$ce-";
/// Start of the name of a stream with links to the events of a type.
const TYPE_STREAM: &str = "$et-";
/// Start of the name of a stream with links to the events of a correlation.
const CORRELATION_STREAM: &str = "$bc-";
/// Start of the name of a stream with the names of the streams of a category.
const CATEGORY_NAMES_STREAM: &str = "$category-";
/// Name of the stream with a link to the first event of each stream.
const STREAMS_STREAM: &str = "$streams";
/// Type of the events that have the name of a stream.
const NAME_TYPE: &str = "$@";
/// Property of the metadata of an event that names its correlation.
const CORRELATION: &str = "$correlationId";

/// A stream of links that nobody wrote: the index of the store answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct IndexedStream {
    pub(super) shown: String,
    kind: IndexedKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum IndexedKind {
    Category(String),
    Type(EventType),
    Correlation(Tag),
    Streams,
    CategoryNames(String),
}

impl IndexedStream {
    /// Returns the stream of links of that name; `None` if the name is of an ordinary stream.
    pub(super) fn named(shown: &str) -> Option<Self> {
        let kind = if shown == STREAMS_STREAM {
            IndexedKind::Streams
        } else if let Some(name) = shown.strip_prefix(CATEGORY_STREAM) {
            IndexedKind::Category(category(name)?)
        } else if let Some(name) = shown.strip_prefix(CATEGORY_NAMES_STREAM) {
            IndexedKind::CategoryNames(category(name)?)
        } else if let Some(id) = shown.strip_prefix(CORRELATION_STREAM) {
            IndexedKind::Correlation(tag_of_id(id)?)
        } else {
            let named = shown.strip_prefix(TYPE_STREAM).filter(|named| *named != LINK_TYPE)?;
            IndexedKind::Type(EventType::new(stored(named).into_owned()).ok()?)
        };
        Some(Self { shown: shown.to_owned(), kind })
    }

    /// A query for the events that the links lead to. More may match, which [`has`](Self::has)
    /// leaves out.
    pub(super) fn query(&self) -> Query {
        match &self.kind {
            IndexedKind::Category(category) | IndexedKind::CategoryNames(category) => {
                Query::category(category.clone())
            }
            IndexedKind::Type(event_type) => Query::types([event_type.clone()]),
            IndexedKind::Correlation(tag) => {
                Query::from(QueryItem { tags: vec![tag.clone()], ..QueryItem::default() })
            }
            IndexedKind::Streams => Query::all(),
        }
    }

    /// A query for which a caller needs the right.
    pub(super) fn wished(&self) -> Query {
        match &self.kind {
            IndexedKind::Category(category) | IndexedKind::CategoryNames(category) => {
                Query::from(QueryItem {
                    streams: Some(StreamMatch::Prefix(format!("{category}-"))),
                    ..QueryItem::default()
                })
            }
            _ => self.query(),
        }
    }

    /// Tells whether an event that matches the query has a link: it is in a stream, in that of a
    /// category the name goes on after the category, and it is the first one if the links are to
    /// streams.
    pub(super) fn has(&self, event: &RecordedEvent) -> bool {
        let Some(at) = &event.stream else { return false };
        match &self.kind {
            IndexedKind::Category(category) => at.name.len() > category.len(),
            IndexedKind::CategoryNames(category) => {
                at.version == Version(1) && at.name.len() > category.len()
            }
            IndexedKind::Streams => at.version == Version(1),
            IndexedKind::Type(_) | IndexedKind::Correlation(_) => true,
        }
    }

    /// Tells whether most events that match the query may have no link.
    pub(super) fn is_sparse(&self) -> bool {
        matches!(self.kind, IndexedKind::Streams | IndexedKind::CategoryNames(_))
    }

    /// The type and the data of the event of this stream for an event at a revision of a stream.
    pub(super) fn entry(&self, stream: &str, revision: u64) -> (&'static str, String) {
        match self.kind {
            IndexedKind::CategoryNames(_) => (NAME_TYPE, stream.to_owned()),
            _ => (LINK_TYPE, format!("{revision}@{stream}")),
        }
    }
}

/// Returns the name under which the store keeps a category; `None` if it is none.
fn category(name: &str) -> Option<String> {
    (!name.is_empty() && !name.contains('-')).then(|| stored(name).into_owned())
}

/// Returns the tag of an event whose metadata names a correlation; `None` if it names none, or one
/// whose id is too long for a tag.
pub(super) fn correlation_tag(metadata: &[u8]) -> Option<Tag> {
    // Most metadata names none, and is not parsed.
    if !metadata.windows(CORRELATION.len()).any(|part| part == CORRELATION.as_bytes()) {
        return None;
    }
    let properties: Map<String, Value> = serde_json::from_slice(metadata).ok()?;
    match properties.get(CORRELATION)? {
        Value::String(id) => tag_of_id(id),
        Value::Number(id) => tag_of_id(&id.to_string()),
        _ => None,
    }
}

fn tag_of_id(id: &str) -> Option<Tag> {
    if id.is_empty() {
        return None;
    }
    Tag::new(stored(&format!("{CORRELATION}:{id}")).into_owned()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_correlation_of_an_event_is_a_string_or_a_number_in_its_metadata() {
        let tag = |metadata: &str| correlation_tag(metadata.as_bytes()).map(|tag| tag.to_string());
        let kept = |id: &str| Some(format!("~$correlationId:{id}"));
        assert_eq!(tag(r#"{"a":1,"$correlationId":"x-1"}"#), kept("x-1"));
        assert_eq!(tag(r#"{"$correlationId":17}"#), kept("17"));
        for none in [
            "",
            "no JSON $correlationId",
            r#"{"$correlationId":""}"#,
            r#"{"$correlationId":null}"#,
            r#"{"$correlationId":["x"]}"#,
            r#"{"inner":{"$correlationId":"x"}}"#,
            r#"["$correlationId"]"#,
        ] {
            assert_eq!(tag(none), None, "{none}");
        }
        let long = "x".repeat(600);
        assert_eq!(tag(&format!(r#"{{"$correlationId":"{long}"}}"#)), None);
    }

    #[test]
    fn a_name_is_of_an_indexed_stream_only_if_something_can_be_in_it() {
        for indexed in ["$streams", "$ce-a", "$category-$$a", "$et-$metadata", "$bc-a-b"] {
            assert!(IndexedStream::named(indexed).is_some(), "{indexed}");
        }
        for plain in ["$streams2", "$ce-", "$ce-a-b", "$category-", "$bc-", "$et-$>", "order-1"] {
            assert!(IndexedStream::named(plain).is_none(), "{plain}");
        }
    }
}
