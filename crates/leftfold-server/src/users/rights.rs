//! Rights of a user: a role for each store, and the part of its events that the role is for.
//!
//! A right that is narrowed to a part of the events has that part and nothing beside:
//!
//! - An append carries events and conditions of the part. A command id, a checkpoint and the fence
//!   of a lease are names that all writers of a store share: whoever uses one up, or moves it,
//!   stops the work of others. So they need a right that is not narrowed, and leases do.
//! - A read is of streams, or of queries, of the part. Everything else that tells of events
//!   (positions of ids and moments, checkpoints, answers to commands, whole appends, cached folds,
//!   figures) needs the right to read all.
//! - Names that begin with `$` are the runtime's: written by the roles from `runtime` on, which are
//!   never narrowed, and read by whoever reads all events.

use std::collections::BTreeMap;
use std::fmt;

use leftfold::store::{Append, NewEvent, Query, QueryItem, StreamMatch, StreamName, Tag};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Right of a user. Each has those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserRole {
    /// Reads, and subscribes.
    Read,
    /// Also appends, and takes leases, under names of applications.
    Append,
    /// Also under names that begin with `$`, as the runtime of an application does.
    Runtime,
    /// Also what changes more than events: the administration of a protocol's own things.
    Admin,
}

impl UserRole {
    /// All roles, from the least.
    pub const ALL: [Self; 4] = [Self::Read, Self::Append, Self::Runtime, Self::Admin];

    /// Returns the role of that name; `None` if there is none.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == text)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Append => "append",
            Self::Runtime => "runtime",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for UserRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Part of the events of a store: those in any of the streams that carry any of the tags. What is
/// left out does not restrict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventScope {
    /// Beginnings of the names of streams.
    #[serde(default, deserialize_with = "some_texts")]
    streams: Vec<String>,
    #[serde(default, deserialize_with = "some_texts")]
    tags: Vec<String>,
}

/// Reads a list that has something: an empty one would look as though it allowed nothing.
fn some_texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return Err(D::Error::custom("name at least one, and leave the list out for all"));
    }
    Ok(texts)
}

impl EventScope {
    pub(super) fn is_whole(&self) -> bool {
        self.streams.is_empty() && self.tags.is_empty()
    }

    fn has_streams(&self, beginning: &str) -> bool {
        self.streams.is_empty() || self.streams.iter().any(|own| beginning.starts_with(&**own))
    }

    fn has_any_tag(&self, tags: &[Tag]) -> bool {
        self.tags.is_empty() || tags.iter().any(|tag| self.tags.iter().any(|own| **own == **tag))
    }

    /// Tells whether every event of the stream is in this part.
    fn has_stream(&self, stream: &StreamName) -> bool {
        self.tags.is_empty() && self.has_streams(stream)
    }

    /// Tells whether the event is in this part.
    fn has_event(&self, event: &NewEvent) -> bool {
        let in_streams = match &event.stream {
            None => self.streams.is_empty(),
            Some(stream) => self.has_streams(stream),
        };
        in_streams && self.has_any_tag(&event.tags)
    }

    /// Tells whether every event that matches the query is in this part.
    fn has_query(&self, query: &Query) -> bool {
        query.items().iter().all(|item| self.has_item(item))
    }

    fn has_item(&self, item: &QueryItem) -> bool {
        let in_streams = match &item.streams {
            None => self.streams.is_empty(),
            Some(StreamMatch::Exact(stream)) => self.has_streams(stream),
            // A stream may have the whole name of its category.
            Some(StreamMatch::Category(text) | StreamMatch::Prefix(text)) => self.has_streams(text),
        };
        in_streams && self.has_any_tag(&item.tags)
    }
}

/// Right to one store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoreGrant {
    role: UserRole,
    appends: EventScope,
    reads: EventScope,
}

/// Rights of a user, by store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserRights {
    /// Right to every store that has no right of its own; `None` if there is none to them.
    pub(super) elsewhere: Option<StoreGrant>,
    pub(super) stores: BTreeMap<String, StoreGrant>,
}

/// Something that a caller wishes to do with a store.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish<'a> {
    /// Anything that needs this role, and is about no events in particular.
    Role(UserRole),
    /// To append.
    Append(&'a Append),
    /// To change something beside events, for which a right that is not narrowed is needed.
    AppendAll,
    /// To read the events that match, or to follow them.
    Query(&'a Query),
    /// To read a stream, or to follow it.
    Stream(&'a StreamName),
    /// To read all events, whatever they are.
    ReadAll,
}

/// Reason why a caller may not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// The user has no right to the store, and does not learn if it is there.
    #[error("this server has no store {store:?} for you, use one of your own")]
    NoStore {
        /// Name of the store.
        store: String,
    },
    /// The role is less.
    #[error("the user has not the role {least}, which this needs")]
    Role {
        /// Role that is needed.
        least: UserRole,
    },
    /// The right is to other events.
    #[error("the user may not {verb} {what}, keep to the streams and tags of your right")]
    Events {
        /// Verb, for people.
        verb: &'static str,
        /// Events, for people.
        what: String,
    },
    /// The user, or the password or token, is not one of this server any more.
    #[error("the user is not let in any more")]
    Removed,
}

impl UserRights {
    /// Tells whether a wish about the store may be fulfilled.
    pub(super) fn allow(&self, store: &str, wish: Wish<'_>) -> Result<(), Denied> {
        let Some(grant) = self.stores.get(store).or(self.elsewhere.as_ref()) else {
            return Err(Denied::NoStore { store: store.to_owned() });
        };
        grant.allow(wish)
    }
}

impl StoreGrant {
    /// Makes a right; `None` if it is narrowed and its role cannot be.
    pub(super) fn new(role: UserRole, appends: EventScope, reads: EventScope) -> Option<Self> {
        let grant = Self { role, appends, reads };
        (grant.is_whole() || role < UserRole::Runtime).then_some(grant)
    }

    fn is_whole(&self) -> bool {
        self.appends.is_whole() && self.reads.is_whole()
    }

    fn allow(&self, wish: Wish<'_>) -> Result<(), Denied> {
        let least = match wish {
            Wish::Role(least) => least,
            Wish::Append(append) if append.authority.writes_system_names() => UserRole::Runtime,
            Wish::Append(_) | Wish::AppendAll => UserRole::Append,
            Wish::Query(_) | Wish::Stream(_) | Wish::ReadAll => UserRole::Read,
        };
        if self.role < least {
            return Err(Denied::Role { least });
        }
        match wish {
            Wish::Role(_) => Ok(()),
            Wish::Append(append) => self.allow_append(append),
            Wish::AppendAll => refuse(self.is_whole(), "change", || BESIDE.to_owned()),
            Wish::Query(query) => self.allow_query(query),
            Wish::Stream(stream) => {
                let may = self.reads.has_stream(stream);
                refuse(may, "read", || format!("the stream {:?}", stream.as_str()))
            }
            Wish::ReadAll => refuse(self.reads.is_whole(), "read", || ALL.to_owned()),
        }
    }

    /// Looks at the events, at the condition, whose answer tells what is there, and at what an
    /// append may carry beside them.
    fn allow_append(&self, append: &Append) -> Result<(), Denied> {
        let beside = [
            (append.command.is_some(), "a command id"),
            (append.checkpoint.is_some(), "a checkpoint"),
            (append.fence.is_some(), "the fence of a lease"),
        ];
        for (_, what) in beside.into_iter().filter(|(is_there, _)| *is_there) {
            refuse(self.is_whole(), "append", || format!("with {what}"))?;
        }
        if let Some(event) = append.events.iter().find(|event| !self.appends.has_event(event)) {
            return refuse(false, "append", || described(event));
        }
        for (stream, _) in &append.condition.streams {
            let may = self.reads.has_stream(stream)
                || (!self.appends.is_whole() && self.appends.has_stream(stream));
            refuse(may, "expect anything of", || format!("the stream {:?}", stream.as_str()))?;
        }
        append.condition.none_matching.iter().try_for_each(|none| self.allow_query(&none.query))
    }

    fn allow_query(&self, query: &Query) -> Result<(), Denied> {
        refuse(self.reads.has_query(query), "read", || "all events of the query".to_owned())
    }
}

const ALL: &str = "all events of the store";
const BESIDE: &str = "anything beside events";

fn refuse(may: bool, verb: &'static str, what: impl FnOnce() -> String) -> Result<(), Denied> {
    if may { Ok(()) } else { Err(Denied::Events { verb, what: what() }) }
}

fn described(event: &NewEvent) -> String {
    let event_type = event.event_type.as_str();
    match &event.stream {
        None => format!("a {event_type:?} in no stream"),
        Some(stream) => format!("a {event_type:?} in the stream {:?}", stream.as_str()),
    }
}
