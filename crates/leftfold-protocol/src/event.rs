//! Events, on their way into a store and out of it.

use bytes::Bytes;
use leftfold_core::store::limits::{KEY_IDS_MAX, TAGS_MAX};
use leftfold_core::store::{
    ContentType, EventId, EventType, InStream, Invalid, Label, Metadata, NewEvent, Position,
    RecordedEvent, StreamName, Tag, Tags, Timestamp, TraceContext, Version,
};

use crate::malformed::{Malformed, exactly, label, label_text, uuid, uuid_bytes};
use crate::wire;

impl From<NewEvent> for wire::NewEvent {
    fn from(new: NewEvent) -> Self {
        let (media, other_media) = media_of(&new.content_type);
        let Metadata { correlation, causation, user, trace } = new.metadata;
        Self {
            stream: new.stream.map(|name| name.as_str().to_owned()).unwrap_or_default(),
            r#type: new.event_type.as_str().to_owned(),
            schema_version: Some(new.schema_version),
            media: media.into(),
            other_media,
            data: new.data,
            correlation: label_text(correlation.as_ref()),
            causation: label_text(causation.as_ref()),
            user_metadata: user,
            trace: trace.as_ref().map(Into::into),
            tags: texts_of_tags(&new.tags),
            id: new.id.map(|id| uuid_bytes(id.0)).unwrap_or_default(),
            key_ids: new.key_ids.iter().map(|key| key.as_str().to_owned()).collect(),
        }
    }
}

impl TryFrom<wire::NewEvent> for NewEvent {
    type Error = Malformed;

    fn try_from(new: wire::NewEvent) -> Result<Self, Malformed> {
        let media = new.media();
        let stream = if new.stream.is_empty() { None } else { Some(StreamName::new(new.stream)?) };
        Ok(Self {
            stream,
            event_type: EventType::new(new.r#type)?,
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
        let (media, other_media) = media_of(&event.content_type);
        let version = event.version().0;
        let Metadata { correlation, causation, user, trace } = event.metadata;
        Self {
            position: event.position.0,
            recorded_at: event.recorded_at.as_micros(),
            stream: event.stream.map(|at| at.name.as_str().to_owned()).unwrap_or_default(),
            version,
            id: uuid_bytes(event.id.0),
            r#type: event.event_type.as_str().to_owned(),
            schema_version: event.schema_version,
            media: media.into(),
            other_media,
            data: event.data,
            correlation: label_text(correlation.as_ref()),
            causation: label_text(causation.as_ref()),
            user_metadata: user,
            trace: trace.as_ref().map(Into::into),
            tags: texts_of_tags(&event.tags),
            key_ids: event.key_ids.iter().map(|key| key.as_str().to_owned()).collect(),
            append_continues: event.append_continues,
        }
    }
}

impl TryFrom<wire::RecordedEvent> for RecordedEvent {
    type Error = Malformed;

    fn try_from(event: wire::RecordedEvent) -> Result<Self, Malformed> {
        let media = event.media();
        let stream = if event.stream.is_empty() {
            None
        } else {
            let name = StreamName::new(event.stream)?;
            Some(InStream { name, version: Version(event.version) })
        };
        Ok(Self {
            position: Position(event.position),
            recorded_at: Timestamp::from_micros(event.recorded_at),
            stream,
            id: EventId(uuid("id", &event.id)?),
            event_type: EventType::new(event.r#type)?,
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

fn media_of(content_type: &ContentType) -> (wire::Media, String) {
    match content_type {
        ContentType::Json => (wire::Media::Json, String::new()),
        ContentType::Binary => (wire::Media::Binary, String::new()),
        ContentType::Other(label) => (wire::Media::Json, label.as_str().to_owned()),
    }
}

fn content_type(media: wire::Media, other: String) -> Result<ContentType, Malformed> {
    match (label(other)?, media) {
        (Some(other), _) => Ok(ContentType::Other(other)),
        (None, wire::Media::Json) => Ok(ContentType::Json),
        (None, wire::Media::Binary) => Ok(ContentType::Binary),
    }
}

fn metadata(
    correlation: String,
    causation: String,
    user: Bytes,
    trace: Option<wire::TraceContext>,
) -> Result<Metadata, Malformed> {
    Ok(Metadata {
        correlation: label(correlation)?,
        causation: label(causation)?,
        user,
        trace: trace.map(TraceContext::try_from).transpose()?,
    })
}

fn texts_of_tags(tags: &Tags) -> Vec<String> {
    tags.iter().map(|tag| tag.as_str().to_owned()).collect()
}

/// Reads tags. They are counted first, since each is compared with all before it.
fn tags(texts: Vec<String>) -> Result<Tags, Malformed> {
    Invalid::if_over("the tags of an event", texts.len(), TAGS_MAX)?;
    Ok(texts.into_iter().map(Tag::new).collect::<Result<Tags, Invalid>>()?)
}

fn key_ids(texts: Vec<String>) -> Result<Vec<Label>, Malformed> {
    Invalid::if_over("the key ids of an event", texts.len(), KEY_IDS_MAX)?;
    Ok(texts.into_iter().map(Label::new).collect::<Result<_, Invalid>>()?)
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
