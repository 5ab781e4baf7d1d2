//! Queries: descriptions of the events that a reader or a condition means.

use std::collections::BTreeSet;
use std::fmt;

use super::limits::{ITEM_TERMS_MAX, QUERY_ITEMS_MAX};
use super::{EventType, Invalid, RecordedEvent, StreamName, Tag};

/// Description of the events that are meant: those that match any of the items. A query without
/// items matches nothing.
///
/// ```
/// use leftfold_core::store::{EventType, Query, StreamName, Tags};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let lent = EventType::new("loan.Lent")?;
/// let fined = EventType::new("fine.Imposed")?;
/// // The loans of a book, and all fines of a member: either will do.
/// let query = Query::types([lent.clone()])
///     .and_tag("book:B7")
///     .or(Query::types([fined.clone()]).and_tag("member:ada"));
///
/// let member = Tags::none().with("member:ada");
/// assert!(query.matches_parts(&fined, None, &member));
/// let of_ada = member.with("book:B8");
/// assert!(!query.matches_parts(&lent, Some(&StreamName::of("loan", "1")?), &of_ada));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    items: Vec<QueryItem>,
}

/// One item of a query: any of these types, and all of these tags, and within these streams; a part
/// that is left empty does not restrict.
///
/// The runtime's own events (`$…`) match only an item that names a `$` type or stream, or says
/// [`with_system`](QueryItem::with_system).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryItem {
    /// Any of these types; empty means every type.
    pub types: Vec<TypeMatch>,
    /// All of these tags.
    pub tags: Vec<Tag>,
    /// Within these streams; `None` means everywhere, events without a stream included.
    pub streams: Option<StreamMatch>,
    /// Choice whether the runtime's own events match too, though neither type nor stream names
    /// them.
    pub system: System,
}

/// Choice whether an item that does not name the runtime's own events matches them too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum System {
    /// Only events of users.
    #[default]
    Excluded,
    /// Every event that is stored.
    Included,
}

/// Types that a query item matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeMatch {
    /// This type.
    Exact(EventType),
    /// Every type whose name begins with this text.
    Prefix(String),
}

/// Streams that a query item matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamMatch {
    /// This stream.
    Exact(StreamName),
    /// Every stream of a category: `category-…`, or the stream whose whole name is the category.
    Category(String),
    /// Every stream whose name begins with this text.
    Prefix(String),
}

impl Query {
    /// Every event of users.
    #[must_use]
    pub fn all() -> Self {
        Self::from(QueryItem::default())
    }

    /// Every event that is stored, the runtime's own included.
    #[must_use]
    pub fn everything() -> Self {
        Self::from(QueryItem::default().with_system())
    }

    /// No event.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { items: Vec::new() }
    }

    /// The events that carry a tag.
    ///
    /// An empty or overlong text makes a query that the store refuses, so that queries can be built
    /// without a `Result`.
    #[must_use]
    pub fn tag(tag: impl Into<bytestring::ByteString>) -> Self {
        Self::from(QueryItem {
            tags: super::Tags::none().with(tag).to_vec(),
            ..QueryItem::default()
        })
    }

    /// The events of any of these types.
    #[must_use]
    pub fn types(types: impl IntoIterator<Item = EventType>) -> Self {
        let types: Vec<_> = types.into_iter().map(TypeMatch::Exact).collect();
        if types.is_empty() {
            Self::nothing()
        } else {
            Self::from(QueryItem { types, ..QueryItem::default() })
        }
    }

    /// The events of one stream.
    #[must_use]
    pub fn stream(stream: StreamName) -> Self {
        Self::from(QueryItem { streams: Some(StreamMatch::Exact(stream)), ..QueryItem::default() })
    }

    /// The events of all streams of a category.
    #[must_use]
    pub fn category(category: impl Into<String>) -> Self {
        Self::from(QueryItem {
            streams: Some(StreamMatch::Category(category.into())),
            ..QueryItem::default()
        })
    }

    /// Returns a query for the events that match this query or the other one.
    #[must_use]
    pub fn or(mut self, other: Self) -> Self {
        self.items.extend(other.items);
        self
    }

    /// Returns a query for the events that match this query and carry the tag too.
    #[must_use]
    pub fn and_tag(mut self, tag: impl Into<bytestring::ByteString>) -> Self {
        let tag = super::Tags::none().with(tag);
        self.items.iter_mut().for_each(|item| item.tags.extend(tag.iter().cloned()));
        self
    }

    /// The same query, with every item that names no type restricted to these. No types leave no
    /// such item.
    #[must_use]
    pub fn of_types(mut self, types: &[EventType]) -> Self {
        if types.is_empty() {
            self.items.retain(|item| !item.types.is_empty());
        }
        for item in self.items.iter_mut().filter(|item| item.types.is_empty()) {
            item.types = types.iter().cloned().map(TypeMatch::Exact).collect();
        }
        self
    }

    /// The same query, with more types in every item: `more` tells which ones each type that the
    /// item names stands for.
    #[must_use]
    pub(crate) fn and_types(mut self, more: impl Fn(&TypeMatch) -> BTreeSet<EventType>) -> Self {
        for item in &mut self.items {
            let mut types: BTreeSet<EventType> = item.types.iter().flat_map(&more).collect();
            types.retain(|event_type| !item.types.iter().any(|named| named.matches(event_type)));
            item.types.extend(types.into_iter().map(TypeMatch::Exact));
        }
        self
    }

    /// The items, any of which may match.
    #[must_use]
    pub fn items(&self) -> &[QueryItem] {
        &self.items
    }

    /// Tells whether the event matches.
    #[must_use]
    pub fn matches(&self, event: &RecordedEvent) -> bool {
        let stream = event.stream.as_ref().map(|at| &at.name);
        self.matches_parts(&event.event_type, stream, &event.tags)
    }

    /// Tells whether an event of this type, stream and these tags matches.
    #[must_use]
    pub fn matches_parts(
        &self,
        event_type: &EventType,
        stream: Option<&StreamName>,
        tags: &[Tag],
    ) -> bool {
        self.items.iter().any(|item| item.matches(event_type, stream, tags))
    }

    /// Checks the query against its limits.
    pub fn validate(&self) -> Result<(), Invalid> {
        Invalid::if_over("the items of a query", self.items.len(), QUERY_ITEMS_MAX)?;
        for item in &self.items {
            Invalid::if_over("the types of a query item", item.types.len(), ITEM_TERMS_MAX)?;
            Invalid::if_over("the tags of a query item", item.tags.len(), ITEM_TERMS_MAX)?;
            for tag in &item.tags {
                Tag::try_from(tag.as_str())?;
            }
        }
        Ok(())
    }
}

/// The query as a text that never changes: items in order, each part with its length.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |f: &mut fmt::Formatter<'_>, kind: char, text: &str| {
            write!(f, "{kind}{}:{text}", text.len())
        };
        for item in &self.items {
            f.write_str(if item.system == System::Included { "[$" } else { "[" })?;
            for matched in &item.types {
                part(
                    f,
                    if matches!(matched, TypeMatch::Exact(_)) { 't' } else { 'p' },
                    matched.text(),
                )?;
            }
            item.tags.iter().try_for_each(|tag| part(f, '#', tag))?;
            match &item.streams {
                None => {}
                Some(StreamMatch::Exact(stream)) => part(f, 's', stream)?,
                Some(StreamMatch::Category(category)) => part(f, 'c', category)?,
                Some(StreamMatch::Prefix(prefix)) => part(f, '^', prefix)?,
            }
            f.write_str("]")?;
        }
        Ok(())
    }
}

impl From<QueryItem> for Query {
    fn from(item: QueryItem) -> Self {
        Self { items: vec![item] }
    }
}

impl FromIterator<QueryItem> for Query {
    fn from_iter<I: IntoIterator<Item = QueryItem>>(items: I) -> Self {
        Self { items: items.into_iter().collect() }
    }
}

impl QueryItem {
    /// The same item, the runtime's own events included.
    #[must_use]
    pub fn with_system(mut self) -> Self {
        self.system = System::Included;
        self
    }

    /// Tells whether the runtime's own events can match.
    #[must_use]
    pub fn means_system(&self) -> bool {
        self.system == System::Included
            || self.types.iter().any(|t| t.text().starts_with('$'))
            || self.streams.as_ref().is_some_and(|s| s.text().starts_with('$'))
    }

    fn matches(&self, event_type: &EventType, stream: Option<&StreamName>, tags: &[Tag]) -> bool {
        let system = event_type.is_system() || stream.is_some_and(|name| name.is_system());
        (!system || self.means_system())
            && (self.types.is_empty() || self.types.iter().any(|t| t.matches(event_type)))
            && self.tags.iter().all(|tag| tags.contains(tag))
            && self.streams.as_ref().is_none_or(|s| stream.is_some_and(|name| s.matches(name)))
    }
}

impl TypeMatch {
    /// Tells whether the type matches.
    #[must_use]
    pub fn matches(&self, event_type: &EventType) -> bool {
        match self {
            Self::Exact(exact) => exact == event_type,
            Self::Prefix(prefix) => event_type.starts_with(prefix.as_str()),
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Exact(exact) => exact,
            Self::Prefix(prefix) => prefix,
        }
    }
}

impl StreamMatch {
    /// Tells whether the stream matches.
    #[must_use]
    pub fn matches(&self, stream: &StreamName) -> bool {
        match self {
            Self::Exact(exact) => exact == stream,
            Self::Category(category) => stream.category() == category,
            Self::Prefix(prefix) => stream.starts_with(prefix.as_str()),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Exact(exact) => exact,
            Self::Category(text) | Self::Prefix(text) => text,
        }
    }
}
