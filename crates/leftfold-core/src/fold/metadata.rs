//! Metadata of the application's own: a JSON object in the user metadata of events.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::command::{Cause, Origin};
use super::error::MetadataError;
use super::event::Recorded;
use crate::json;
use crate::store::limits::{LABEL_BYTES_MAX, METADATA_BYTES_MAX};
use crate::store::{Invalid, Label, Metadata, NewEvent, Position, RecordedEvent, StreamName};

pub(crate) type Members = BTreeMap<String, Box<RawValue>>;

impl Origin {
    /// Adds members to the user metadata; an error in them is returned when the command is carried
    /// out.
    pub(crate) fn add(&mut self, members: Result<Members, MetadataError>) {
        let merged = members.and_then(|members| merged(&self.metadata.user, members));
        match merged {
            Ok(user) => self.metadata.user = user,
            Err(fault) => drop(self.fault.get_or_insert(fault)),
        }
    }

    pub(crate) fn correlate(&mut self, conversation: &str) {
        match Label::try_from(conversation) {
            Ok(label) => self.metadata.correlation = Some(label),
            Err(invalid) => drop(self.fault.get_or_insert(invalid.into())),
        }
    }

    /// Refuses an origin of which a part cannot be recorded.
    pub(super) fn check(&self) -> Result<(), MetadataError> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    /// Writes the origin onto an event, and the ids of the keys that seal parts of it.
    pub(super) fn stamp(&self, event: &mut NewEvent) {
        if !self.metadata.is_empty() {
            stamp(&self.metadata, event);
        }
    }
}

/// Writes metadata onto an event, and the ids of the keys that seal parts of it.
pub(crate) fn stamp(metadata: &Metadata, event: &mut NewEvent) {
    event.metadata = metadata.clone();
    event.name_keys(json::keys_in(&metadata.user));
}

pub(crate) fn header(name: &str, value: &str) -> Result<Members, MetadataError> {
    let what = "the name of a header";
    Invalid::if_over(what, name.len(), LABEL_BYTES_MAX)?;
    if name.is_empty() {
        return Err(Invalid::Empty { what }.into());
    }
    if name.starts_with('$') {
        return Err(Invalid::Reserved { what, name: name.to_owned() }.into());
    }
    let unwritable = |error: serde_json::Error| MetadataError::Encode {
        name: "a header",
        detail: error.to_string(),
    };
    let value = serde_json::value::to_raw_value(value).map_err(unwritable)?;
    Ok(Members::from([(name.to_owned(), value)]))
}

pub(crate) fn members<M: Serialize + DeserializeOwned>(
    value: &M,
) -> Result<Members, MetadataError> {
    let name = std::any::type_name::<M>();
    let json = json::encode(value)
        .map_err(|lost| MetadataError::Encode { name, detail: lost.to_string() })?;
    let members: Members =
        serde_json::from_slice(&json).map_err(|_| MetadataError::NotAnObject { name })?;
    let reserved = members.keys().find(|name| name.starts_with('$'));
    match reserved {
        Some(name) => {
            Err(Invalid::Reserved { what: "a member of metadata", name: name.clone() }.into())
        }
        None => Ok(members),
    }
}

/// The members of an object, with others that take the place of those of the same name.
fn merged(user: &[u8], members: Members) -> Result<Bytes, MetadataError> {
    let mut all: Members = match user {
        [] => Members::new(),
        user => serde_json::from_slice(user).map_err(|_| MetadataError::Bytes)?,
    };
    all.extend(members);
    // Texts and JSON as it was written: nothing that could fail.
    let json = serde_json::to_vec(&all).map_err(|_| MetadataError::Bytes)?;
    Invalid::if_over("the user metadata of an event", json.len(), METADATA_BYTES_MAX)?;
    Ok(json.into())
}

impl RecordedEvent {
    /// Returns the header of a name; `None` if the event has none, or its metadata is not the
    /// model's.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let members: Members = serde_json::from_slice(&self.metadata.user).ok()?;
        serde_json::from_str(members.get(name)?.get()).ok()
    }

    /// Returns the application's own metadata; `None` if the event has none at all. Headers that
    /// the type does not name are passed over, as serde does.
    pub fn metadata_as<M: DeserializeOwned>(&self) -> Result<Option<M>, MetadataError> {
        if self.metadata.user.is_empty() {
            return Ok(None);
        }
        let (position, name) = (self.position, std::any::type_name::<M>());
        let unread = |error: json::JsonReadError| MetadataError::Decode {
            position,
            name,
            detail: error.to_string(),
        };
        json::decode(&self.metadata.user).map(Some).map_err(unread)
    }
}

impl<E> Recorded<E> {
    /// Its place in the store's order.
    #[must_use]
    pub fn position(&self) -> Position {
        self.envelope.position
    }

    /// The stream that it belongs to; `None` if it belongs to none.
    #[must_use]
    pub fn stream(&self) -> Option<&StreamName> {
        self.envelope.stream.as_ref().map(|at| &at.name)
    }

    /// The conversation that it belongs to.
    #[must_use]
    pub fn correlation(&self) -> Option<&str> {
        self.envelope.metadata.correlation.as_deref()
    }

    /// The message that caused it.
    #[must_use]
    pub fn causation(&self) -> Option<&str> {
        self.envelope.metadata.causation.as_deref()
    }

    /// The header of a name, see [`RecordedEvent::header`].
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.envelope.header(name)
    }

    /// The application's own metadata, see [`RecordedEvent::metadata_as`].
    pub fn metadata_as<M: DeserializeOwned>(&self) -> Result<Option<M>, MetadataError> {
        self.envelope.metadata_as()
    }
}

impl<E> From<&Recorded<E>> for Cause {
    /// The conversation goes on, or begins with the event.
    fn from(event: &Recorded<E>) -> Self {
        Self::from(&event.envelope)
    }
}

/// Methods of a builder that set the origin of its events. All builders have them, in the same
/// words.
macro_rules! origin_methods {
    () => {
        /// Says what caused it: an event, or a message from outside. It then belongs to the
        /// conversation of its cause.
        pub fn caused_by(mut self, cause: impl Into<$crate::fold::Cause>) -> Self {
            self.origin.caused_by(cause.into());
            self
        }

        /// Says which conversation it belongs to: an id of at most 255 bytes. An id beyond that is
        /// refused when the request is carried out.
        pub fn correlated(mut self, conversation: &str) -> Self {
            self.origin.correlate(conversation);
            self
        }

        /// Says which distributed trace it belongs to: the one that the caller's request named in
        /// `traceparent`. It is kept in the metadata of the events, takes precedence over the trace
        /// of a cause, and goes on in everything that follows from the events. A caller that named
        /// none, `None`, changes nothing.
        pub fn trace(mut self, parent: impl Into<Option<$crate::store::TraceContext>>) -> Self {
            self.origin.metadata.trace = parent.into().or(self.origin.metadata.trace);
            self
        }

        /// Sets the caller's own bytes as the metadata of the events, in place of all headers and
        /// typed metadata so far.
        pub fn metadata(mut self, user: impl Into<bytes::Bytes>) -> Self {
            self.origin.metadata.user = user.into();
            self
        }

        /// Adds a header to the metadata of the events, which
        /// [`Recorded::header`](crate::fold::Recorded::header) reads. A name has at most 255 bytes
        /// and does not begin with `$`; all metadata together has 64 KiB at most. A header beyond
        /// these limits is refused when the request is carried out.
        pub fn header(mut self, name: &str, value: &str) -> Self {
            self.origin.add($crate::fold::metadata::header(name, value));
            self
        }

        /// Adds the members of a value of the application's own to the metadata of the events,
        /// which [`Recorded::metadata_as`](crate::fold::Recorded::metadata_as) reads: a struct with
        /// named fields. It has the same limits as headers, and is refused if it would not be read
        /// as it is written.
        pub fn metadata_as<M>(mut self, value: &M) -> Self
        where
            M: serde::Serialize + serde::de::DeserializeOwned,
        {
            self.origin.add($crate::fold::metadata::members(value));
            self
        }
    };
}
pub(crate) use origin_methods;

/// Methods of a builder of a request: its id, and the origin of its events. Commands, decisions and
/// facts have them, in the same words.
macro_rules! request_methods {
    () => {
        /// Names the request, so that it takes effect at most once: a repetition is answered as the
        /// first time. The call that follows says how another request under the same id is found
        /// out.
        pub fn id(self, scope: &str, key: &str) -> $crate::fold::Identified<Self> {
            self.with_id($crate::store::CommandId::new(scope, key))
        }

        /// The same with an id that is there already.
        pub fn with_id(self, id: $crate::store::CommandId) -> $crate::fold::Identified<Self> {
            $crate::fold::Identified::new(self, id, |request| &mut request.origin)
        }

        $crate::fold::metadata::origin_methods!();
    };
}
pub(super) use request_methods;
