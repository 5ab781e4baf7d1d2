//! Rows of the table `appends`.

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type};
use uuid::Uuid;

use super::row_array::{Failure, TableRow, unknown_column};
use crate::store::rows::AppendRow;
use crate::store::text::stored;
use crate::store::values::{DatabaseTime, signed};

/// Columns of the table `appends`.
pub(super) const APPEND_COLUMNS: &str = "append, first, events, recorded_at, hash, bytes, command, \
    digest, answer, consumer, source, partition, checkpoint, checkpoint_hash";

/// An append, as the values of its columns.
#[derive(Clone, Copy, Debug)]
pub(super) struct AppendValues<'g>(pub(super) &'g AppendRow);

impl TableRow for AppendValues<'_> {
    fn put(&self, column: &str, of_type: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        let row = self.0;
        let command = row.command.as_ref().map(|answered| &answered.record);
        let moved = row.checkpoint.as_ref();
        let at = moved.map(|(_, checkpoint)| checkpoint);
        let mut put = |value: &dyn ToSql| value.to_sql_checked(of_type, out);
        match column {
            "append" => put(&signed(row.number)),
            "first" => put(&signed(row.first.0)),
            "events" => put(&signed(row.events)),
            "recorded_at" => put(&DatabaseTime(row.recorded_at)),
            "hash" => put(&row.hash.0.as_slice()),
            "bytes" => put(&row.bytes),
            "command" => put(&command.map(|record| Uuid::from_bytes(record.id.0))),
            "digest" => put(&command.map(|record| record.digest.0.as_slice())),
            "answer" => put(&command.map(|record| &*record.answer)),
            "consumer" => put(&moved.map(|(consumer, _)| stored(consumer))),
            "source" => put(&at.map(|at| at.store.0)),
            "partition" => put(&at.and_then(|at| at.partition.0.as_deref()).map(stored)),
            "checkpoint" => put(&at.map(|at| signed(at.position.0))),
            "checkpoint_hash" => put(&at.map(|at| at.hash.0.as_slice())),
            _ => Err(unknown_column("appends", column)),
        }
    }
}
