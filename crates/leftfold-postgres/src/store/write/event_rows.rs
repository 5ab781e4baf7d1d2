//! The events of a group as one parameter: an array of rows of the table `events`.
//!
//! The server takes such an array apart once; an array for each column would be taken apart by
//! itself, and put together again for each row.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};

use super::judge::WrittenEvent;
use super::weight;
use crate::store::payload::{PayloadColumn, content_type_text};
use crate::store::text::stored;
use crate::store::values::{DatabaseTime, JsonText, signed};

type Failure = Box<dyn Error + Sync + Send>;

/// Columns of the table `events`.
pub(super) const EVENT_COLUMNS: &str = "position, append, continues, recorded_at, stream, version, type, \
    schema_version, id, id_is_minted, content_type, data, data_bytes, metadata, metadata_bytes, \
    correlation, causation, traceparent, tracestate, bytes, tags, key_ids";

/// The events of a group, as rows.
#[derive(Debug)]
pub(super) struct EventRows<'g> {
    pub(super) written: &'g [WrittenEvent],
    pub(super) payload: PayloadColumn,
}

impl ToSql for EventRows<'_> {
    fn to_sql(&self, of_type: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        let Kind::Array(row) = of_type.kind() else { return Err(unsuitable(of_type)) };
        let Kind::Composite(columns) = row.kind() else { return Err(unsuitable(row)) };
        // One dimension, no NULL, numbered from 1.
        [1, 0].into_iter().for_each(|number| out.put_i32(number));
        out.put_u32(row.oid());
        [i32::try_from(self.written.len())?, 1].into_iter().for_each(|number| out.put_i32(number));
        for one in self.written {
            let values = EventValues::of(one, self.payload);
            with_length(out, |out| {
                out.put_i32(i32::try_from(columns.len())?);
                for column in columns {
                    out.put_u32(column.type_().oid());
                    with_length(out, |out| values.put(column.name(), column.type_(), out))?;
                }
                Ok(IsNull::No)
            })?;
        }
        Ok(IsNull::No)
    }

    fn accepts(of_type: &Type) -> bool {
        matches!(of_type.kind(), Kind::Array(row) if matches!(row.kind(), Kind::Composite(_)))
    }

    to_sql_checked!();
}

/// Writes a value behind the number of its bytes, which is -1 for NULL.
fn with_length(
    out: &mut BytesMut,
    value: impl FnOnce(&mut BytesMut) -> Result<IsNull, Failure>,
) -> Result<(), Failure> {
    let at = out.len();
    out.put_i32(-1);
    if let IsNull::No = value(out)? {
        let length = i32::try_from(out.len() - at - 4)?;
        out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

fn unsuitable(of_type: &Type) -> Failure {
    format!("{of_type} does not hold rows of events").into()
}

/// An event, and the columns that its data and its metadata go into.
struct EventValues<'e> {
    one: &'e WrittenEvent,
    data: StoredPayload<'e>,
    metadata: StoredPayload<'e>,
}

/// Bytes, in one of two columns or in none.
#[derive(Clone, Copy)]
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
    fn of(one: &'e WrittenEvent, payload: PayloadColumn) -> Self {
        let data = StoredPayload::of(&one.event.data, payload);
        let metadata = match &*one.event.metadata.user {
            [] => StoredPayload::Absent,
            user => StoredPayload::of(user, payload),
        };
        Self { one, data, metadata }
    }

    /// Writes the value of a column.
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
            "key_ids" => put(&event.key_ids.iter().map(|key| stored(key)).collect::<Vec<_>>()),
            _ => Err(format!("the table of events has a column {column:?}").into()),
        }
    }
}
