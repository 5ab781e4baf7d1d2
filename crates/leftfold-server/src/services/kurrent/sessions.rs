//! Appends to several streams at once: version 2 of the protocol.

use std::collections::HashMap;
use std::fmt::Write;

use bytes::Bytes;
use leftfold::store::{NewEvent, Position};
use prost::Message;
use serde_json::{Map, Number, Value as Json};
use tonic::{Code, Request, Response, Status, Streaming};
use uuid::Uuid;

use super::appending::{PartsAnswer, StreamAppend, Written};
use super::expected::ExpectedRevision;
use super::names::NamedStream;
use super::proposals::{APPEND_BYTES_MAX, counted_bytes, proposed, refuse_too_many};
use super::wire::sessions::errors::{
    AppendConsistencyViolationErrorDetails, AppendTransactionSizeExceededErrorDetails,
    ConsistencyViolation, StreamAlreadyInAppendSessionErrorDetails,
    StreamRevisionConflictErrorDetails, StreamTombstonedErrorDetails, consistency_violation,
};
use super::wire::sessions::{
    AppendRecord, AppendRecordsRequest, AppendRecordsResponse, AppendRequest, AppendResponse,
    AppendSessionResponse, SchemaFormat, StreamRevision, Value, consistency_check,
    streams_service_server, value,
};
use super::wire::{Packed, PartStatus};
use super::{Facade, Facades, MESSAGE_BYTES_MAX};
use crate::users::{UserRole, Wish};

/// Streams of one append.
const STREAMS_MAX: usize = 400;
/// Package of the details of errors.
const PACKAGE: &str = "type.googleapis.com/kurrentdb.protocol.v2.streams.errors.";
/// Depth of the values of properties.
const DEPTH_MAX: usize = 32;

/// The service `kurrentdb.protocol.v2.streams.StreamsService`.
pub(super) struct SessionsService(Facades);

pub(super) fn service(
    facades: Facades,
) -> streams_service_server::StreamsServiceServer<SessionsService> {
    streams_service_server::StreamsServiceServer::new(SessionsService(facades))
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// The parts of an append, one for each stream.
#[derive(Default)]
struct Parts {
    parts: Vec<StreamAppend>,
    events: usize,
    bytes: usize,
}

impl Parts {
    /// Returns the number of the part of a stream.
    fn of(&mut self, stream: NamedStream, expected: ExpectedRevision) -> Result<usize, Status> {
        if let Some(at) = self.parts.iter().position(|part| part.stream == stream) {
            return Ok(at);
        }
        if self.parts.len() >= STREAMS_MAX {
            let text = format!("an append is to at most {STREAMS_MAX} streams");
            return Err(Status::invalid_argument(text));
        }
        self.parts.push(StreamAppend { stream, expected, events: Vec::new() });
        Ok(self.parts.len() - 1)
    }

    fn push(&mut self, part: usize, record: AppendRecord) -> Result<(), Status> {
        let event = event_of(record)?;
        self.bytes += counted_bytes(&event);
        if self.bytes > APPEND_BYTES_MAX {
            let number = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
            let detail = AppendTransactionSizeExceededErrorDetails {
                size: number(self.bytes),
                max_size: number(APPEND_BYTES_MAX),
            };
            let text = format!("The append exceeds the maximum of {APPEND_BYTES_MAX} bytes.");
            let name = "AppendTransactionSizeExceededErrorDetails";
            return Err(detailed(Code::Aborted, text, name, &detail));
        }
        self.parts[part].events.push(event);
        self.events += 1;
        refuse_too_many(self.events)
    }
}

fn event_of(record: AppendRecord) -> Result<NewEvent, Status> {
    let invalid = |text: &str| Status::invalid_argument(text);
    let id = match &record.record_id {
        None => Uuid::new_v4(),
        Some(id) => Uuid::try_parse(id).map_err(|_| invalid("the id of a record is a UUID"))?,
    };
    let schema = record.schema.ok_or_else(|| invalid("a record has a schema"))?;
    let (format, content_type) = match SchemaFormat::try_from(schema.format) {
        Ok(SchemaFormat::Json) => (None, "application/json"),
        Ok(SchemaFormat::Protobuf) => (Some("Protobuf"), "application/octet-stream"),
        Ok(SchemaFormat::Avro) => (Some("Avro"), "application/octet-stream"),
        Ok(SchemaFormat::Bytes) => (Some("Bytes"), "application/octet-stream"),
        Ok(SchemaFormat::Unspecified) | Err(_) => {
            return Err(invalid("the format of a schema is JSON, Protobuf, Avro or bytes"));
        }
    };
    let mut properties = Map::new();
    for (key, value) in record.properties {
        properties.insert(key, json(value, 0)?);
    }
    let of_schema = [("$schema.format", format.map(str::to_owned)), ("$schema.id", schema.id)];
    for (key, value) in of_schema {
        if let Some(value) = value {
            properties.insert(key.to_owned(), value.into());
        }
    }
    let metadata = if properties.is_empty() {
        Bytes::new()
    } else {
        Json::Object(properties).to_string().into()
    };
    proposed(id, &schema.name, content_type, metadata, record.data)
}

fn json(value: Value, depth: usize) -> Result<Json, Status> {
    if depth > DEPTH_MAX {
        let text = format!("the values of properties are at most {DEPTH_MAX} deep");
        return Err(Status::invalid_argument(text));
    }
    Ok(match value.kind {
        None | Some(value::Kind::NullValue(_)) => Json::Null,
        Some(value::Kind::NumberValue(number)) => {
            Number::from_f64(number).map_or(Json::Null, Json::Number)
        }
        Some(value::Kind::StringValue(text)) => Json::String(text),
        Some(value::Kind::BoolValue(is)) => Json::Bool(is),
        Some(value::Kind::StructValue(fields)) => {
            let fields = fields.fields.into_iter();
            let fields = fields.map(|(key, value)| Ok((key, json(value, depth + 1)?)));
            Json::Object(fields.collect::<Result<_, Status>>()?)
        }
        Some(value::Kind::ListValue(list)) => {
            let values = list.values.into_iter().map(|value| json(value, depth + 1));
            Json::Array(values.collect::<Result<_, Status>>()?)
        }
    })
}

fn expected_of(number: i64) -> Result<ExpectedRevision, Status> {
    ExpectedRevision::of_number(number).ok_or_else(|| {
        Status::invalid_argument("an expected revision is at least 0, or -1, -2 or -4")
    })
}

/// An error with a detail that clients read.
fn detailed(code: Code, text: String, name: &str, detail: &impl Message) -> Status {
    let detail =
        Packed { type_url: format!("{PACKAGE}{name}"), value: detail.encode_to_vec().into() };
    let status = PartStatus { code: code.into(), message: text.clone(), details: vec![detail] };
    Status::with_details(code, text, status.encode_to_vec().into())
}

fn tombstoned(stream: &str) -> Status {
    let text = format!("Stream '{stream}' has been tombstoned.");
    let detail = StreamTombstonedErrorDetails { stream: stream.to_owned() };
    detailed(Code::FailedPrecondition, text, "StreamTombstonedErrorDetails", &detail)
}

fn revision_conflict(part: &StreamAppend, current: Option<u64>) -> Status {
    let (stream, expected) = (part.stream.shown.clone(), part.expected.number());
    let actual = signed(current);
    let mut text = format!("Append failed due to a revision conflict on stream '{stream}'.");
    let _ = write!(text, " Expected revision: {expected}. Actual revision: {actual}.");
    let detail = StreamRevisionConflictErrorDetails {
        stream,
        expected_revision: expected,
        actual_revision: actual,
    };
    detailed(Code::FailedPrecondition, text, "StreamRevisionConflictErrorDetails", &detail)
}

fn violation(part: &StreamAppend, index: usize, current: Option<u64>) -> Status {
    let state = consistency_violation::StreamStateViolation {
        stream: part.stream.shown.clone(),
        expected_state: part.expected.number(),
        actual_state: signed(current),
    };
    let violation = ConsistencyViolation {
        check_index: i32::try_from(index).unwrap_or(i32::MAX),
        r#type: Some(consistency_violation::Type::StreamState(state)),
    };
    let detail = AppendConsistencyViolationErrorDetails { violations: vec![violation] };
    let text = "Append failed due to consistency violations.".to_owned();
    detailed(Code::FailedPrecondition, text, "AppendConsistencyViolationErrorDetails", &detail)
}

fn signed(revision: Option<u64>) -> i64 {
    revision.map_or(-1, |revision| i64::try_from(revision).unwrap_or(i64::MAX))
}

fn signed_position(position: Option<Position>) -> i64 {
    position.map_or(-1, |position| i64::try_from(position.0).unwrap_or(i64::MAX))
}

/// Revision and position of the last event of each part.
struct SessionResult {
    parts: Vec<(String, i64, Option<Position>)>,
    position: i64,
}

impl SessionResult {
    fn of(parts: Vec<StreamAppend>, written: &[Written]) -> Self {
        let last = written.iter().filter_map(|written| written.position).max();
        let parts = parts.into_iter().zip(written);
        let parts = parts
            .map(|(part, written)| (part.stream.shown, signed(written.revision), written.position))
            .collect();
        Self { parts, position: signed_position(last) }
    }
}

async fn append_session(
    facade: &Facade,
    mut incoming: Streaming<AppendRequest>,
) -> Result<SessionResult, Status> {
    let mut parts = Parts::default();
    while let Some(request) = incoming.message().await? {
        let stream = NamedStream::named(request.stream)?;
        if parts.parts.iter().any(|part| part.stream == stream) {
            let stream = stream.shown;
            let text = format!("Stream '{stream}' is already part of this append session.");
            let detail = StreamAlreadyInAppendSessionErrorDetails { stream };
            let name = "StreamAlreadyInAppendSessionErrorDetails";
            return Err(detailed(Code::Aborted, text, name, &detail));
        }
        if request.records.is_empty() {
            return Err(Status::invalid_argument("a request has at least one record"));
        }
        let expected = expected_of(request.expected_revision.unwrap_or(-2))?;
        let part = parts.of(stream, expected)?;
        for record in request.records {
            parts.push(part, record)?;
        }
    }
    if parts.parts.is_empty() {
        let text = "an append session has at least one request";
        return Err(Status::failed_precondition(text));
    }
    match facade.append(&parts.parts).await? {
        PartsAnswer::Written(written) => Ok(SessionResult::of(parts.parts, &written)),
        PartsAnswer::Deleted { part } => Err(tombstoned(&parts.parts[part].stream.shown)),
        PartsAnswer::WrongRevision { part, current } => {
            Err(revision_conflict(&parts.parts[part], current))
        }
    }
}

async fn append_records(
    facade: &Facade,
    request: AppendRecordsRequest,
) -> Result<SessionResult, Status> {
    let mut parts = Parts::default();
    let mut checks: HashMap<usize, usize> = HashMap::new();
    for (index, check) in request.checks.into_iter().enumerate() {
        let Some(consistency_check::Type::StreamState(state)) = check.r#type else {
            return Err(Status::invalid_argument("a check is of the state of a stream"));
        };
        let expected = expected_of(state.expected_state)?;
        let part = parts.of(NamedStream::named(state.stream)?, expected)?;
        if checks.insert(part, index).is_some() {
            return Err(Status::invalid_argument("each stream has one check"));
        }
    }
    if request.records.is_empty() {
        return Err(Status::invalid_argument("an append has at least one record"));
    }
    for mut record in request.records {
        let stream = record.stream.take().unwrap_or_default();
        let part = parts.of(NamedStream::named(stream)?, ExpectedRevision::Any)?;
        parts.push(part, record)?;
    }
    match facade.append(&parts.parts).await? {
        PartsAnswer::Written(written) => {
            let written_to = parts.parts.iter().map(|part| !part.events.is_empty());
            let written_to = written_to.collect::<Vec<_>>();
            let mut result = SessionResult::of(parts.parts, &written);
            let mut written_to = written_to.into_iter();
            result.parts.retain(|_| written_to.next().unwrap_or(false));
            Ok(result)
        }
        PartsAnswer::Deleted { part } => Err(tombstoned(&parts.parts[part].stream.shown)),
        PartsAnswer::WrongRevision { part, current } => match checks.get(&part) {
            Some(&index) => Err(violation(&parts.parts[part], index, current)),
            None => Err(revision_conflict(&parts.parts[part], current)),
        },
    }
}

#[tonic::async_trait]
impl streams_service_server::StreamsService for SessionsService {
    async fn append_session(
        &self,
        request: Request<Streaming<AppendRequest>>,
    ) -> Result<Response<AppendSessionResponse>, Status> {
        let facade = self.0.to_append(&request).await?;
        facade.may(Wish::Role(UserRole::Append))?;
        let result = append_session(&facade, request.into_inner()).await?;
        let output = result.parts.into_iter().map(|(stream, stream_revision, position)| {
            let position = position.map(|position| signed_position(Some(position)));
            AppendResponse { stream, stream_revision, position }
        });
        let (output, position) = (output.collect(), result.position);
        Ok(Response::new(AppendSessionResponse { output, position }))
    }

    async fn append_records(
        &self,
        request: Request<AppendRecordsRequest>,
    ) -> Result<Response<AppendRecordsResponse>, Status> {
        let facade = self.0.to_append(&request).await?;
        facade.may(Wish::Role(UserRole::Append))?;
        let result = append_records(&facade, request.into_inner()).await?;
        let revisions = result.parts.into_iter();
        let revisions = revisions.map(|(stream, revision, _)| StreamRevision { stream, revision });
        let (revisions, position) = (revisions.collect(), result.position);
        Ok(Response::new(AppendRecordsResponse { revisions, position }))
    }
}
