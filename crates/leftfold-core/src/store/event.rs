//! The envelope: an event as it goes into the store, and as it comes out.

use bytes::Bytes;

use super::{
    EventId, EventType, Label, Position, StreamName, Tags, Timestamp, TraceContext, Version,
};

/// Media type of an event's data.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ContentType {
    /// `application/json`: what the model writes.
    #[default]
    Json,
    /// `application/octet-stream`.
    Binary,
    /// Any other media type.
    Other(Label),
}

/// Metadata of an event, beside its data. The structured fields are the model's; `user` is opaque
/// to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The conversation that the event belongs to.
    pub correlation: Option<Label>,
    /// The message that caused the event.
    pub causation: Option<Label>,
    /// The user's own bytes, never parsed.
    pub user: Bytes,
    /// The distributed trace that the event belongs to, and the span in it that recorded the event.
    pub trace: Option<TraceContext>,
}

impl Metadata {
    /// Tells whether every field is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.correlation.is_none()
            && self.causation.is_none()
            && self.user.is_empty()
            && self.trace.is_none()
    }
}

/// An event on its way into the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// The stream that it becomes part of; a fact may belong to none.
    pub stream: Option<StreamName>,
    /// Type of the event.
    pub event_type: EventType,
    /// The version of the data's shape, from 1.
    pub schema_version: u32,
    /// Media type of the data.
    pub content_type: ContentType,
    /// The fact itself, never parsed by the store.
    pub data: Bytes,
    /// Metadata, beside the data.
    pub metadata: Metadata,
    /// Tags by which the event can be found.
    pub tags: Tags,
    /// Id that the caller brings; if `None`, the store mints one.
    pub id: Option<EventId>,
    /// Keys that encrypt fields of the data: destroying one makes its fields unreadable.
    pub key_ids: Vec<Label>,
}

impl NewEvent {
    /// A JSON event of schema version 1, in no stream, without tags.
    #[must_use]
    pub fn new(event_type: EventType, data: impl Into<Bytes>) -> Self {
        Self {
            stream: None,
            event_type,
            schema_version: 1,
            content_type: ContentType::Json,
            data: data.into(),
            metadata: Metadata::default(),
            tags: Tags::none(),
            id: None,
            key_ids: Vec::new(),
        }
    }

    /// The same event as part of a stream.
    #[must_use]
    pub fn in_stream(mut self, stream: StreamName) -> Self {
        self.stream = Some(stream);
        self
    }

    /// The same event with tags.
    #[must_use]
    pub fn tagged(mut self, tags: Tags) -> Self {
        self.tags = tags;
        self
    }

    /// Names keys that encrypt parts of the event, each once.
    pub(crate) fn name_keys(&mut self, keys: impl IntoIterator<Item = Label>) {
        for key in keys {
            if !self.key_ids.contains(&key) {
                self.key_ids.push(key);
            }
        }
    }
}

/// Place of an event in its stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InStream {
    /// Name of the stream.
    pub name: StreamName,
    /// The stream's version with this event; the first event has version 1.
    pub version: Version,
}

/// An event as the store recorded it.
///
/// Cheap to clone: texts and data share the buffer that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// Position in the store's order.
    pub position: Position,
    /// Recorded time, by the store's strictly increasing clock.
    pub recorded_at: Timestamp,
    /// Its place in its stream; `None` if it belongs to no stream.
    pub stream: Option<InStream>,
    /// Id of the event, the caller's or minted.
    pub id: EventId,
    /// Type of the event.
    pub event_type: EventType,
    /// The version of the data's shape.
    pub schema_version: u32,
    /// Media type of the data.
    pub content_type: ContentType,
    /// The fact itself.
    pub data: Bytes,
    /// Metadata, beside the data.
    pub metadata: Metadata,
    /// Tags by which the event can be found.
    pub tags: Tags,
    /// Keys that encrypt fields of the data: destroying one makes its fields unreadable.
    pub key_ids: Vec<Label>,
    /// True if the next position belongs to the same append. A reader that must not split an append
    /// reads on.
    pub append_continues: bool,
}

impl RecordedEvent {
    /// Makes the event as it is recorded at that position and time, as the last one of its append.
    #[must_use]
    pub fn of(
        new: NewEvent,
        position: Position,
        recorded_at: Timestamp,
        stream: Option<InStream>,
        id: EventId,
    ) -> Self {
        Self {
            position,
            recorded_at,
            stream,
            id,
            event_type: new.event_type,
            schema_version: new.schema_version,
            content_type: new.content_type,
            data: new.data,
            metadata: new.metadata,
            tags: new.tags,
            key_ids: new.key_ids,
            append_continues: false,
        }
    }

    /// The same event on its way into another store: with its id, without its place and time.
    #[must_use]
    pub fn to_new(&self) -> NewEvent {
        NewEvent {
            stream: self.stream.as_ref().map(|at| at.name.clone()),
            event_type: self.event_type.clone(),
            schema_version: self.schema_version,
            content_type: self.content_type.clone(),
            data: self.data.clone(),
            metadata: self.metadata.clone(),
            tags: self.tags.clone(),
            id: Some(self.id),
            key_ids: self.key_ids.clone(),
        }
    }

    /// The same event in memory of its own: for keeping one for long if the page that it was read
    /// with is large.
    #[must_use]
    pub fn detached(&self) -> Self {
        let own = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        Self {
            stream: self
                .stream
                .as_ref()
                .map(|at| InStream { name: at.name.detached(), version: at.version }),
            event_type: self.event_type.detached(),
            data: own(&self.data),
            metadata: Metadata {
                correlation: self.metadata.correlation.as_ref().map(Label::detached),
                causation: self.metadata.causation.as_ref().map(Label::detached),
                user: own(&self.metadata.user),
                trace: self.metadata.trace.clone(),
            },
            tags: self.tags.detached(),
            key_ids: self.key_ids.iter().map(Label::detached).collect(),
            content_type: match &self.content_type {
                ContentType::Other(label) => ContentType::Other(label.detached()),
                known => known.clone(),
            },
            ..*self
        }
    }

    /// Tells whether the event is one of the runtime's own: its type or its stream begins with `$`.
    #[must_use]
    pub fn is_system(&self) -> bool {
        self.event_type.is_system() || self.stream.as_ref().is_some_and(|at| at.name.is_system())
    }

    /// Returns the version of the event's stream with this event, 0 if it belongs to none.
    #[must_use]
    pub fn version(&self) -> Version {
        self.stream.as_ref().map_or(Version::ABSENT, |at| at.version)
    }
}
