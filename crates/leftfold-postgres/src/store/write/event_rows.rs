//! Rows of the table `events`.

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type};

use super::judge::WrittenEvent;
use super::row_array::{Failure, TableRow, unknown_column};
use super::weight;
use crate::store::payload::{PayloadColumn, content_type_text};
use crate::store::text::stored;
use crate::store::values::{DatabaseTime, JsonText, signed};

/// Columns of the table `events`.
pub(super) const EVENT_COLUMNS: &str = "position, append, continues, recorded_at, stream, version, type, \
    schema_version, id, id_is_minted, content_type, data, data_bytes, metadata, metadata_bytes, \
    correlation, causation, traceparent, tracestate, bytes, tags, key_ids";

/// An event, and the columns that its data and its metadata go into.
#[derive(Debug)]
pub(super) struct EventValues<'e> {
    one: &'e WrittenEvent,
    data: StoredPayload<'e>,
    metadata: StoredPayload<'e>,
}

/// Bytes, in one of two columns or in none.
#[derive(Clone, Copy, Debug)]
enum StoredPayload<'e> {
    Json(&'e [u8]),
    Bytes(&'e [u8]),
    Absent,
}

impl<'e> StoredPayload<'e> {
    fn of(bytes: &'e [u8], payload: PayloadColumn) -> Self {
        if payload.takes_as_json(bytes) { Self::Json(bytes) } else { Self::Bytes(bytes) }
    }

    fn json(self) -> Option<JsonText<'e>> {
        if let Self::Json(text) = self { Some(JsonText(text)) } else { None }
    }

    fn bytes(self) -> Option<&'e [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }
}

impl<'e> EventValues<'e> {
    pub(super) fn of(one: &'e WrittenEvent, payload: PayloadColumn) -> Self {
        let data = StoredPayload::of(&one.event.data, payload);
        let metadata = match &*one.event.metadata.user {
            [] => StoredPayload::Absent,
            user => StoredPayload::of(user, payload),
        };
        Self { one, data, metadata }
    }
}

impl TableRow for EventValues<'_> {
    fn put(&self, column: &str, of_type: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        let event = &self.one.event;
        let about = &event.metadata;
        let mut put = |value: &dyn ToSql| value.to_sql_checked(of_type, out);
        match column {
            "position" => put(&signed(event.position.0)),
            "append" => put(&signed(self.one.append)),
            "continues" => put(&event.append_continues),
            "recorded_at" => put(&DatabaseTime(event.recorded_at)),
            "stream" => put(&event.stream.as_ref().map(|at| stored(&at.name))),
            "version" => put(&event.stream.as_ref().map(|at| signed(at.version.0))),
            "type" => put(&stored(&event.event_type)),
            "schema_version" => put(&i64::from(event.schema_version)),
            "id" => put(&event.id.0),
            "id_is_minted" => put(&self.one.id_is_minted),
            "content_type" => put(&stored(&content_type_text(&event.content_type))),
            "data" => put(&self.data.json()),
            "data_bytes" => put(&self.data.bytes()),
            "metadata" => put(&self.metadata.json()),
            "metadata_bytes" => put(&self.metadata.bytes()),
            "correlation" => put(&about.correlation.as_ref().map(|label| stored(label))),
            "causation" => put(&about.causation.as_ref().map(|label| stored(label))),
            "traceparent" => put(&about.trace.as_ref().map(ToString::to_string)),
            "tracestate" => put(&about.trace.as_ref().map(|trace| trace.state())),
            "bytes" => put(&i64::try_from(weight::of_event(event))?),
            "tags" => put(&event.tags.iter().map(|tag| stored(tag)).collect::<Vec<_>>()),
            "key_ids" if event.key_ids.is_empty() => Ok(IsNull::Yes),
            "key_ids" => put(&event.key_ids.iter().map(|key| stored(key)).collect::<Vec<_>>()),
            _ => Err(unknown_column("events", column)),
        }
    }
}
