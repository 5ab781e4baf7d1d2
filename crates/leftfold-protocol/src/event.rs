//! Events, on their way into a store and out of it.

use bytes::Bytes;
use leftfold_core::store::limits::{KEY_IDS_MAX, TAGS_MAX};
use leftfold_core::store::{
    ContentType, EventId, EventType, InStream, Invalid, Label, Metadata, NewEvent, Position,
    RecordedEvent, StreamName, Tag, Tags, Timestamp, TraceContext, Version,
};

use prost::Message;

use crate::malformed::{Malformed, exactly, label_bytes, shared_label, text, uuid, uuid_bytes};
use crate::wire;

impl From<NewEvent> for wire::NewEvent {
    fn from(new: NewEvent) -> Self {
        Self::from(&new)
    }
}

impl From<&NewEvent> for wire::NewEvent {
    fn from(new: &NewEvent) -> Self {
        let (media, other_media) = media_of(&new.content_type);
        let Metadata { correlation, causation, user, trace } = &new.metadata;
        let stream = new.stream.as_ref().map(|name| name.to_shared().into_bytes());
        Self {
            stream: stream.unwrap_or_default(),
            r#type: new.event_type.to_shared().into_bytes(),
            schema_version: Some(new.schema_version),
            media: media.into(),
            other_media,
            data: new.data.clone(),
            correlation: label_bytes(correlation.as_ref()),
            causation: label_bytes(causation.as_ref()),
            user_metadata: user.clone(),
            trace: trace.as_ref().map(Into::into),
            tags: bytes_of_tags(&new.tags),
            id: new.id.map(|id| uuid_bytes(id.0)).unwrap_or_default(),
            key_ids: new.key_ids.iter().map(|key| key.to_shared().into_bytes()).collect(),
        }
    }
}

impl TryFrom<wire::NewEvent> for NewEvent {
    type Error = Malformed;

    fn try_from(new: wire::NewEvent) -> Result<Self, Malformed> {
        let media = new.media();
        let stream = if new.stream.is_empty() { None } else { Some(stream_name(new.stream)?) };
        Ok(Self {
            stream,
            event_type: EventType::new(text("type", new.r#type)?)?,
            schema_version: new.schema_version.unwrap_or(1),
            content_type: content_type(media, new.other_media)?,
            data: new.data,
            metadata: metadata(new.correlation, new.causation, new.user_metadata, new.trace)?,
            tags: tags(new.tags)?,
            id: if new.id.is_empty() { None } else { Some(EventId(uuid("id", &new.id)?)) },
            key_ids: key_ids(new.key_ids)?,
        })
    }
}

impl From<RecordedEvent> for wire::RecordedEvent {
    fn from(event: RecordedEvent) -> Self {
        Self::from(&event)
    }
}

impl From<&RecordedEvent> for wire::RecordedEvent {
    fn from(event: &RecordedEvent) -> Self {
        let (media, other_media) = media_of(&event.content_type);
        let Metadata { correlation, causation, user, trace } = &event.metadata;
        let stream = event.stream.as_ref().map(|at| at.name.to_shared().into_bytes());
        Self {
            position: event.position.0,
            recorded_at: event.recorded_at.as_micros(),
            stream: stream.unwrap_or_default(),
            version: event.version().0,
            id: uuid_bytes(event.id.0),
            r#type: event.event_type.to_shared().into_bytes(),
            schema_version: event.schema_version,
            media: media.into(),
            other_media,
            data: event.data.clone(),
            correlation: label_bytes(correlation.as_ref()),
            causation: label_bytes(causation.as_ref()),
            user_metadata: user.clone(),
            trace: trace.as_ref().map(Into::into),
            tags: bytes_of_tags(&event.tags),
            key_ids: event.key_ids.iter().map(|key| key.to_shared().into_bytes()).collect(),
            append_continues: event.append_continues,
        }
    }
}

/// Returns an event as it stands in a list of recorded events.
#[must_use]
pub fn encoded_event(event: &RecordedEvent) -> Bytes {
    wire::RecordedEvent::from(event).encode_to_vec().into()
}

/// Reads an event of a list of recorded events.
///
/// # Errors
/// [`Malformed`] if it is not an event.
pub fn event_of(bytes: Bytes) -> Result<RecordedEvent, Malformed> {
    wire::RecordedEvent::decode(bytes)?.try_into()
}

impl TryFrom<wire::RecordedEvent> for RecordedEvent {
    type Error = Malformed;

    fn try_from(event: wire::RecordedEvent) -> Result<Self, Malformed> {
        let media = event.media();
        let stream = if event.stream.is_empty() {
            None
        } else {
            Some(InStream { name: stream_name(event.stream)?, version: Version(event.version) })
        };
        Ok(Self {
            position: Position(event.position),
            recorded_at: Timestamp::from_micros(event.recorded_at),
            stream,
            id: EventId(uuid("id", &event.id)?),
            event_type: EventType::new(text("type", event.r#type)?)?,
            schema_version: event.schema_version,
            content_type: content_type(media, event.other_media)?,
            data: event.data,
            metadata: metadata(
                event.correlation,
                event.causation,
                event.user_metadata,
                event.trace,
            )?,
            tags: tags(event.tags)?,
            key_ids: key_ids(event.key_ids)?,
            append_continues: event.append_continues,
        })
    }
}

fn media_of(content_type: &ContentType) -> (wire::Media, Bytes) {
    match content_type {
        ContentType::Json => (wire::Media::Json, Bytes::new()),
        ContentType::Binary => (wire::Media::Binary, Bytes::new()),
        ContentType::Other(label) => (wire::Media::Json, label.to_shared().into_bytes()),
    }
}

fn content_type(media: wire::Media, other: Bytes) -> Result<ContentType, Malformed> {
    match (shared_label("other_media", other)?, media) {
        (Some(other), _) => Ok(ContentType::Other(other)),
        (None, wire::Media::Json) => Ok(ContentType::Json),
        (None, wire::Media::Binary) => Ok(ContentType::Binary),
    }
}

fn metadata(
    correlation: Bytes,
    causation: Bytes,
    user: Bytes,
    trace: Option<wire::TraceContext>,
) -> Result<Metadata, Malformed> {
    Ok(Metadata {
        correlation: shared_label("correlation", correlation)?,
        causation: shared_label("causation", causation)?,
        user,
        trace: trace.map(TraceContext::try_from).transpose()?,
    })
}

fn bytes_of_tags(tags: &Tags) -> Vec<Bytes> {
    tags.iter().map(|tag| tag.to_shared().into_bytes()).collect()
}

/// Reads tags. They are counted first, since each is compared with all before it.
fn tags(texts: Vec<Bytes>) -> Result<Tags, Malformed> {
    Invalid::if_over("the tags of an event", texts.len(), TAGS_MAX)?;
    texts.into_iter().map(|tag| Ok(Tag::new(text("tags", tag)?)?)).collect()
}

fn key_ids(texts: Vec<Bytes>) -> Result<Vec<Label>, Malformed> {
    Invalid::if_over("the key ids of an event", texts.len(), KEY_IDS_MAX)?;
    texts.into_iter().map(|key| Ok(Label::new(text("key_ids", key)?)?)).collect()
}

/// Reads the name of a stream.
pub(crate) fn stream_name(name: Bytes) -> Result<StreamName, Malformed> {
    Ok(StreamName::new(text("stream", name)?)?)
}

impl From<&TraceContext> for wire::TraceContext {
    fn from(trace: &TraceContext) -> Self {
        Self {
            trace: Bytes::copy_from_slice(&trace.trace_id()),
            parent: Bytes::copy_from_slice(&trace.parent_id()),
            flags: trace.flags().into(),
            state: trace.state().to_owned(),
        }
    }
}

impl TryFrom<wire::TraceContext> for TraceContext {
    type Error = Malformed;

    fn try_from(trace: wire::TraceContext) -> Result<Self, Malformed> {
        let number = trace.flags;
        let flags = u8::try_from(number)
            .map_err(|_| Malformed::Number { field: "flags", number: number.into() })?;
        let ids = (exactly("trace", &trace.trace)?, exactly("parent", &trace.parent)?);
        Self::new(ids.0, ids.1, flags, &trace.state).ok_or(Malformed::Absent { field: "trace" })
    }
}
