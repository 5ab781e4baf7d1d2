//! The lines of a dump: the first says of which store it is, then there is one for each append, and
//! the last tells that nothing is missing. docs/dump-format.md describes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::store::{
    Answered, Checkpoint, CommandId, CommandRecord, ContentType, Digest, Epoch, EventId, EventType,
    Hash, Identity, Label, Metadata, NewEvent, Partition, Position, RecordedAppend, RecordedEvent,
    StoreId, StreamName, Tag, Timestamp, TraceContext, Version,
};

/// Format of the dumps that this release writes, and the only one that it reads.
pub const DUMP_FORMAT: u64 = 1;
/// Bytes of one line, which has one append: its data as base64, and every other text of it with
/// each character escaped.
pub const LINE_BYTES_MAX: usize = 256 << 20;

const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";

/// First line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct DumpHeader {
    leftfold: String,
    pub(super) format: u64,
    pub(super) store: Uuid,
    epoch: EpochLine,
    through: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    hash: Option<String>,
    dumped_at: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct EpochLine {
    number: u32,
    id: Uuid,
    began_after: u64,
}

impl DumpHeader {
    pub(super) fn of(identity: Identity, through: Position, hash: Option<Hash>) -> Self {
        let Epoch { id, number, began_after } = identity.epoch;
        Self {
            leftfold: "dump".to_owned(),
            format: DUMP_FORMAT,
            store: identity.store.0,
            epoch: EpochLine { number, id, began_after: began_after.0 },
            through: through.0,
            hash: hash.map(|hash| hash.to_string()),
            dumped_at: Timestamp::now(),
        }
    }

    pub(super) fn is_of_a_dump(&self) -> bool {
        self.leftfold == "dump"
    }
}

/// Format of a dump, which is read before anything that may be otherwise in another one.
#[derive(Debug, Deserialize)]
pub(super) struct FormatOnly {
    pub(super) format: u64,
}

/// Last line.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DumpEnd {
    pub(super) end: EndCounts,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EndCounts {
    pub(super) appends: u64,
    pub(super) events: u64,
    /// BLAKE3 hash of the store's id and the lines of all appends.
    pub(super) digest: String,
}

/// Line of an append.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct AppendLine {
    pub(super) first: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    recorded_at: Option<Timestamp>,
    hash: String,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) events: Vec<EventLine>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    command: Option<CommandLine>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    checkpoint: Option<CheckpointLine>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct EventLine {
    pub(super) position: u64,
    id: Uuid,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(skip_serializing_if = "is_first", default = "first")]
    schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    stream: Option<String>,
    #[serde(skip_serializing_if = "is_absent", default)]
    pub(super) version: u64,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    key_ids: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    correlation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    causation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    traceparent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    tracestate: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "some_raw")]
    metadata: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    metadata64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "some_raw")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    data64: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandLine {
    id: Uuid,
    digest: String,
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "some_raw")]
    answer: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    answer64: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointLine {
    consumer: String,
    store: Uuid,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    partition: Option<String>,
    position: u64,
    hash: String,
}

/// Reads a value that is there: `null` is one.
fn some_raw<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(input).map(Some)
}

fn is_first(version: &u32) -> bool {
    *version == 1
}

fn first() -> u32 {
    1
}

fn is_absent(version: &u64) -> bool {
    *version == 0
}

impl AppendLine {
    pub(super) fn of(append: &RecordedAppend) -> Self {
        let times = append.events.first().map(|event| event.recorded_at);
        let command = append.command.as_ref();
        Self {
            first: append.first.0,
            recorded_at: times.or_else(|| command.map(|command| command.recorded_at)),
            hash: append.hash.to_string(),
            events: append.events.iter().map(EventLine::of).collect(),
            command: command.map(CommandLine::of),
            checkpoint: append.checkpoint.as_ref().map(CheckpointLine::of),
        }
    }

    /// The events as they are appended again.
    pub(super) fn to_events(&self) -> Result<Vec<NewEvent>, String> {
        self.events.iter().map(EventLine::to_event).collect()
    }

    pub(super) fn to_command(&self) -> Result<Option<CommandRecord>, String> {
        self.command.as_ref().map(CommandLine::to_record).transpose()
    }

    pub(super) fn to_checkpoint(&self) -> Result<Option<(Label, Checkpoint)>, String> {
        self.checkpoint.as_ref().map(CheckpointLine::to_checkpoint).transpose()
    }
}

impl EventLine {
    fn of(event: &RecordedEvent) -> Self {
        let text = |label: &Label| label.to_string();
        let Metadata { correlation, causation, user, trace } = &event.metadata;
        let (data, data64) = written(&event.data);
        let (metadata, metadata64) = if user.is_empty() { (None, None) } else { written(user) };
        Self {
            position: event.position.0,
            id: event.id.0,
            event_type: event.event_type.to_string(),
            schema_version: event.schema_version,
            stream: event.stream.as_ref().map(|at| at.name.to_string()),
            version: event.version().0,
            content_type: match &event.content_type {
                ContentType::Json => None,
                ContentType::Binary => Some(BINARY.to_owned()),
                ContentType::Other(label) => Some(text(label)),
            },
            tags: event.tags.iter().map(Tag::to_string).collect(),
            key_ids: event.key_ids.iter().map(text).collect(),
            correlation: correlation.as_ref().map(text),
            causation: causation.as_ref().map(text),
            traceparent: trace.as_ref().map(TraceContext::to_string),
            tracestate: trace
                .as_ref()
                .map(|trace| trace.state().to_owned())
                .filter(|state| !state.is_empty()),
            metadata,
            metadata64,
            data,
            data64,
        }
    }

    fn to_event(&self) -> Result<NewEvent, String> {
        let label = |text: &String| Label::new(text.clone()).map_err(said);
        let user = match (&self.metadata, &self.metadata64) {
            (None, None) => Bytes::new(),
            (inline, encoded) => read("metadata", inline.as_deref(), encoded.as_deref())?,
        };
        let trace = self
            .traceparent
            .as_ref()
            .map(|parent| TraceContext::parse(parent, self.tracestate.as_deref()).map_err(said));
        Ok(NewEvent {
            stream: self.stream.clone().map(StreamName::new).transpose().map_err(said)?,
            event_type: EventType::new(self.event_type.clone()).map_err(said)?,
            schema_version: self.schema_version,
            content_type: match self.content_type.as_deref() {
                None | Some(JSON) => ContentType::Json,
                Some(BINARY) => ContentType::Binary,
                Some(other) => ContentType::Other(Label::try_from(other).map_err(said)?),
            },
            data: read("data", self.data.as_deref(), self.data64.as_deref())?,
            metadata: Metadata {
                correlation: self.correlation.as_ref().map(label).transpose()?,
                causation: self.causation.as_ref().map(label).transpose()?,
                user,
                trace: trace.transpose()?,
            },
            tags: self
                .tags
                .iter()
                .map(|tag| Tag::new(tag.clone()).map_err(said))
                .collect::<Result<_, _>>()?,
            id: Some(EventId(self.id)),
            key_ids: self.key_ids.iter().map(label).collect::<Result<_, _>>()?,
        })
    }
}

impl CommandLine {
    fn of(answered: &Answered) -> Self {
        let CommandRecord { id, digest, answer } = &answered.record;
        let (inline, encoded) = written(answer);
        Self {
            id: Uuid::from_bytes(id.0),
            digest: Uuid::from_bytes(digest.0).simple().to_string(),
            answer: inline,
            answer64: encoded,
        }
    }

    fn to_record(&self) -> Result<CommandRecord, String> {
        let digest = Uuid::try_parse(&self.digest).map_err(said)?;
        Ok(CommandRecord {
            id: CommandId(self.id.into_bytes()),
            digest: Digest(digest.into_bytes()),
            answer: read("answer", self.answer.as_deref(), self.answer64.as_deref())?,
        })
    }
}

impl CheckpointLine {
    fn of((consumer, at): &(Label, Checkpoint)) -> Self {
        Self {
            consumer: consumer.to_string(),
            store: at.store.0,
            partition: at.partition.0.as_ref().map(|label| label.to_string()),
            position: at.position.0,
            hash: at.hash.to_string(),
        }
    }

    fn to_checkpoint(&self) -> Result<(Label, Checkpoint), String> {
        let label = |text: &String| Label::new(text.clone()).map_err(said);
        let hash = blake3::Hash::from_hex(&self.hash).map_err(said)?;
        let checkpoint = Checkpoint {
            store: StoreId(self.store),
            partition: Partition(self.partition.as_ref().map(label).transpose()?),
            position: Position(self.position),
            hash: Hash(*hash.as_bytes()),
        };
        Ok((label(&self.consumer)?, checkpoint))
    }
}

fn said(error: impl ToString) -> String {
    error.to_string()
}

/// Bytes as they stand in a line: as they are if they are JSON of one line, else in base64.
fn written(bytes: &Bytes) -> (Option<Box<RawValue>>, Option<String>) {
    let text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains(['\n', '\r']));
    let inline = text.and_then(|text| RawValue::from_string(text.to_owned()).ok());
    match inline {
        // Space around it would be lost.
        Some(inline) if inline.get().len() == bytes.len() => (Some(inline), None),
        _ => (None, Some(STANDARD.encode(bytes))),
    }
}

fn read(what: &str, inline: Option<&RawValue>, encoded: Option<&str>) -> Result<Bytes, String> {
    match (inline, encoded) {
        (Some(inline), None) => Ok(inline.get().to_owned().into()),
        (None, Some(encoded)) => STANDARD
            .decode(encoded)
            .map(Bytes::from)
            .map_err(|error| format!("{what}64 is no base64: {error}")),
        (None, None) => Err(format!("{what} is missing")),
        (Some(_), Some(_)) => Err(format!("{what} and {what}64 stand side by side")),
    }
}

/// Version that a line says of each event, 0 for an event in no stream.
pub(super) fn versions(line: &AppendLine) -> Vec<Version> {
    line.events.iter().map(|event| Version(event.version)).collect()
}
