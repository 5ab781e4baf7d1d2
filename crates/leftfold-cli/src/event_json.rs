//! Events as JSON, one on a line: as `read --json` writes them and `append` reads them.
//!
//! The members are those of an event in a dump (docs/dump-format.md), and `recordedAt`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use leftfold::store::{
    ContentType, EventId, EventType, Label, Metadata, NewEvent, RecordedEvent, StreamName, Tag,
    Tags, TraceContext,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// An event on a line.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct JsonEvent {
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_version: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    key_ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracestate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data64: Option<String>,
}

impl JsonEvent {
    /// The line of a recorded event.
    pub(crate) fn of(event: &RecordedEvent) -> Self {
        let (data, data64) = raw_or_base64(&event.data);
        let (metadata, metadata64) = match event.metadata.user.is_empty() {
            true => (None, None),
            false => raw_or_base64(&event.metadata.user),
        };
        let text = |label: &Option<Label>| label.as_ref().map(ToString::to_string);
        let trace = event.metadata.trace.as_ref();
        Self {
            position: Some(event.position.0),
            recorded_at: Some(event.recorded_at.to_string()),
            id: Some(event.id.to_string()),
            event_type: event.event_type.to_string(),
            schema_version: Some(event.schema_version).filter(|version| *version != 1),
            stream: event.stream.as_ref().map(|at| at.name.to_string()),
            version: event.stream.as_ref().map(|at| at.version.0),
            content_type: content_type(&event.content_type),
            tags: event.tags.iter().map(ToString::to_string).collect(),
            key_ids: event.key_ids.iter().map(ToString::to_string).collect(),
            correlation: text(&event.metadata.correlation),
            causation: text(&event.metadata.causation),
            traceparent: trace.map(ToString::to_string),
            tracestate: trace.map(|trace| trace.state().to_owned()).filter(|s| !s.is_empty()),
            metadata,
            metadata64,
            data,
            data64,
        }
    }

    /// The event that is to be appended; its position, version and time are not taken over.
    pub(crate) fn to_new(&self) -> Result<NewEvent, String> {
        let label = |text: &Option<String>| {
            text.clone().map(Label::new).transpose().map_err(|error| error.to_string())
        };
        let said = |error: leftfold::store::Invalid| error.to_string();
        let event_type = EventType::new(self.event_type.clone()).map_err(said)?;
        let mut event = NewEvent::new(event_type, bytes_of("data", &self.data, &self.data64)?);
        event.schema_version = self.schema_version.unwrap_or(1);
        event.stream = self.stream.clone().map(StreamName::new).transpose().map_err(said)?;
        event.content_type = match self.content_type.as_deref() {
            None | Some("application/json") => ContentType::Json,
            Some("application/octet-stream") => ContentType::Binary,
            Some(other) => ContentType::Other(Label::new(other.to_owned()).map_err(said)?),
        };
        let mut tags = Tags::none();
        for tag in &self.tags {
            tags.insert(Tag::new(tag.clone()).map_err(said)?);
        }
        event.tags = tags;
        for key in &self.key_ids {
            event.key_ids.push(Label::new(key.clone()).map_err(said)?);
        }
        let trace = self.traceparent.as_deref().map(|parent| {
            TraceContext::parse(parent, self.tracestate.as_deref())
                .map_err(|error| error.to_string())
        });
        let user = match (&self.metadata, &self.metadata64) {
            (None, None) => Bytes::new(),
            (raw, base64) => bytes_of("metadata", raw, base64)?,
        };
        event.metadata = Metadata {
            correlation: label(&self.correlation)?,
            causation: label(&self.causation)?,
            user,
            trace: trace.transpose()?,
        };
        if let Some(id) = &self.id {
            let parsed =
                id.parse().map_err(|_| format!("{id:?} is no id of an event, which is a UUID"))?;
            event.id = Some(EventId(parsed));
        }
        Ok(event)
    }
}

fn content_type(of: &ContentType) -> Option<String> {
    match of {
        ContentType::Json => None,
        ContentType::Binary => Some("application/octet-stream".to_owned()),
        ContentType::Other(label) => Some(label.to_string()),
    }
}

/// Bytes as the JSON that they are on one line, or in base64.
fn raw_or_base64(bytes: &[u8]) -> (Option<Box<RawValue>>, Option<String>) {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains(['\n', '\r']));
    match text.and_then(|text| serde_json::from_str::<Box<RawValue>>(text).ok()) {
        Some(raw) if raw.get().len() == bytes.len() => (Some(raw), None),
        _ => (None, Some(STANDARD.encode(bytes))),
    }
}

fn bytes_of(
    name: &str,
    raw: &Option<Box<RawValue>>,
    base64: &Option<String>,
) -> Result<Bytes, String> {
    match (raw, base64) {
        (Some(raw), None) => Ok(Bytes::copy_from_slice(raw.get().as_bytes())),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text).map_err(|_| format!("{name}64 is no base64"))?;
            Ok(bytes.into())
        }
        (None, None) => Err(format!("it has no {name}, write one of {name} and {name}64")),
        (Some(_), Some(_)) => Err(format!("write one of {name} and {name}64, not both")),
    }
}
