//! Rows of a table as one parameter: an array of the table's row type.
//!
//! The server takes such an array apart once; an array for each column would be taken apart by
//! itself, and put together again for each row.

use std::error::Error;
use std::fmt::Debug;

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};

pub(super) type Failure = Box<dyn Error + Sync + Send>;

/// A row that goes into a table.
pub(super) trait TableRow: Debug {
    /// Writes the value of a column.
    fn put(&self, column: &str, of_type: &Type, out: &mut BytesMut) -> Result<IsNull, Failure>;
}

/// Rows that go into a table.
#[derive(Debug)]
pub(super) struct RowArray<R>(pub(super) Vec<R>);

impl<R: TableRow> ToSql for RowArray<R> {
    fn to_sql(&self, of_type: &Type, out: &mut BytesMut) -> Result<IsNull, Failure> {
        let Kind::Array(row) = of_type.kind() else { return Err(unsuitable(of_type)) };
        let Kind::Composite(columns) = row.kind() else { return Err(unsuitable(row)) };
        // One dimension, or none if there is no row; no NULL.
        out.put_i32(i32::from(!self.0.is_empty()));
        out.put_i32(0);
        out.put_u32(row.oid());
        if !self.0.is_empty() {
            // They are numbered from 1.
            [i32::try_from(self.0.len())?, 1].into_iter().for_each(|number| out.put_i32(number));
        }
        for one in &self.0 {
            with_length(out, |out| {
                out.put_i32(i32::try_from(columns.len())?);
                for column in columns {
                    out.put_u32(column.type_().oid());
                    with_length(out, |out| one.put(column.name(), column.type_(), out))?;
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
    format!("{of_type} does not hold rows of a table").into()
}

/// Error of a table that has a column which nothing is known of.
pub(super) fn unknown_column(table: &str, column: &str) -> Failure {
    format!("the table {table} has a column {column:?}").into()
}
