//! Queries.

use leftfold_core::store::limits::{ITEM_TERMS_MAX, QUERY_ITEMS_MAX};
use leftfold_core::store::{
    EventType, Invalid, Query, QueryItem, StreamMatch, StreamName, System, Tag, TypeMatch,
};

use crate::malformed::{Malformed, some};
use crate::wire::{self, stream_match, type_match};

impl From<&Query> for wire::Query {
    fn from(query: &Query) -> Self {
        Self { items: query.items().iter().map(Into::into).collect() }
    }
}

impl TryFrom<wire::Query> for Query {
    type Error = Malformed;

    fn try_from(query: wire::Query) -> Result<Self, Malformed> {
        Invalid::if_over("the items of a query", query.items.len(), QUERY_ITEMS_MAX)?;
        query.items.into_iter().map(QueryItem::try_from).collect()
    }
}

impl From<&QueryItem> for wire::QueryItem {
    fn from(item: &QueryItem) -> Self {
        Self {
            types: item.types.iter().map(Into::into).collect(),
            tags: item.tags.iter().map(|tag| tag.as_str().to_owned()).collect(),
            streams: item.streams.as_ref().map(Into::into),
            with_system: item.system == System::Included,
        }
    }
}

impl TryFrom<wire::QueryItem> for QueryItem {
    type Error = Malformed;

    fn try_from(item: wire::QueryItem) -> Result<Self, Malformed> {
        Invalid::if_over("the types of a query item", item.types.len(), ITEM_TERMS_MAX)?;
        Invalid::if_over("the tags of a query item", item.tags.len(), ITEM_TERMS_MAX)?;
        Ok(Self {
            types: item.types.into_iter().map(TypeMatch::try_from).collect::<Result<_, _>>()?,
            tags: item.tags.into_iter().map(Tag::new).collect::<Result<_, _>>()?,
            streams: item.streams.map(StreamMatch::try_from).transpose()?,
            system: if item.with_system { System::Included } else { System::Excluded },
        })
    }
}

impl From<&TypeMatch> for wire::TypeMatch {
    fn from(matched: &TypeMatch) -> Self {
        let matched = match matched {
            TypeMatch::Exact(exact) => type_match::Match::Exact(exact.as_str().to_owned()),
            TypeMatch::Prefix(prefix) => type_match::Match::Prefix(prefix.clone()),
        };
        Self { r#match: Some(matched) }
    }
}

impl TryFrom<wire::TypeMatch> for TypeMatch {
    type Error = Malformed;

    fn try_from(matched: wire::TypeMatch) -> Result<Self, Malformed> {
        Ok(match some("match of a type", matched.r#match)? {
            type_match::Match::Exact(exact) => Self::Exact(EventType::new(exact)?),
            type_match::Match::Prefix(prefix) => Self::Prefix(prefix),
        })
    }
}

impl From<&StreamMatch> for wire::StreamMatch {
    fn from(matched: &StreamMatch) -> Self {
        let matched = match matched {
            StreamMatch::Exact(exact) => stream_match::Match::Exact(exact.as_str().to_owned()),
            StreamMatch::Category(category) => stream_match::Match::Category(category.clone()),
            StreamMatch::Prefix(prefix) => stream_match::Match::Prefix(prefix.clone()),
        };
        Self { r#match: Some(matched) }
    }
}

impl TryFrom<wire::StreamMatch> for StreamMatch {
    type Error = Malformed;

    fn try_from(matched: wire::StreamMatch) -> Result<Self, Malformed> {
        Ok(match some("match of a stream", matched.r#match)? {
            stream_match::Match::Exact(exact) => Self::Exact(StreamName::new(exact)?),
            stream_match::Match::Category(category) => Self::Category(category),
            stream_match::Match::Prefix(prefix) => Self::Prefix(prefix),
        })
    }
}
