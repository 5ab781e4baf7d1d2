//! The few differences between SQLite and PostgreSQL: running statements, and passing values in and
//! out.
//!
//! Statements are written once, in what both understand: columns of `BIGINT` and `TEXT`, parameters
//! `$1`, `$2`, … that appear for the first time in this order, `ON CONFLICT`. Moments are
//! microseconds.

use bytes::BytesMut;
use leftfold::postgres::{Rows as PostgresRows, tokio_postgres};
use leftfold::prelude::{ProjectionError, Timestamp};
use leftfold::sqlite::rusqlite::{self, Connection, params_from_iter};
use tokio_postgres::types::{IsNull, ToSql, Type, WrongType, to_sql_checked};

/// Value of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SqlValue {
    /// `NULL`
    Null,
    /// `BIGINT`
    Integer(i64),
    /// `TEXT`
    Text(String),
}

/// A database that runs statements, within a transaction that the caller has opened.
pub(crate) trait Sql: Send {
    /// Runs a statement that changes rows.
    fn run(
        &mut self,
        statement: &str,
        values: &[SqlValue],
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Runs a statement that finds rows.
    fn find(
        &mut self,
        statement: &str,
        values: &[SqlValue],
    ) -> impl Future<Output = Result<Vec<SqlRow>, ProjectionError>> + Send;

    /// Runs several statements without parameters.
    fn batch(
        &mut self,
        statements: &str,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;
}

impl Sql for Connection {
    async fn run(&mut self, statement: &str, values: &[SqlValue]) -> Result<(), ProjectionError> {
        self.prepare_cached(statement)?.execute(params_from_iter(values))?;
        Ok(())
    }

    async fn find(
        &mut self,
        statement: &str,
        values: &[SqlValue],
    ) -> Result<Vec<SqlRow>, ProjectionError> {
        Ok(find_in_sqlite(self, statement, values)?)
    }

    async fn batch(&mut self, statements: &str) -> Result<(), ProjectionError> {
        Ok(self.execute_batch(statements)?)
    }
}

impl Sql for PostgresRows {
    async fn run(&mut self, statement: &str, values: &[SqlValue]) -> Result<(), ProjectionError> {
        let prepared = self.prepare_cached(statement).await?;
        self.execute(&prepared, &parameters(values)).await?;
        Ok(())
    }

    async fn find(
        &mut self,
        statement: &str,
        values: &[SqlValue],
    ) -> Result<Vec<SqlRow>, ProjectionError> {
        Ok(find_in_postgres(self, statement, values).await?)
    }

    async fn batch(&mut self, statements: &str) -> Result<(), ProjectionError> {
        Ok(self.batch_execute(statements).await?)
    }
}

/// Runs a statement that finds rows.
pub(super) fn find_in_sqlite(
    connection: &Connection,
    statement: &str,
    values: &[SqlValue],
) -> rusqlite::Result<Vec<SqlRow>> {
    let mut prepared = connection.prepare_cached(statement)?;
    let columns = prepared.column_count();
    let read = |row: &rusqlite::Row<'_>| {
        (0..columns).map(|column| row.get(column)).collect::<Result<Vec<SqlValue>, _>>()
    };
    let rows = prepared.query_map(params_from_iter(values), read)?;
    rows.map(|row| row.map(SqlRow::new)).collect()
}

/// Runs a statement that finds rows.
pub(super) async fn find_in_postgres(
    rows: &PostgresRows,
    statement: &str,
    values: &[SqlValue],
) -> Result<Vec<SqlRow>, tokio_postgres::Error> {
    let prepared = rows.prepare_cached(statement).await?;
    let found = rows.query(&prepared, &parameters(values)).await?;
    found.iter().map(read_row).collect()
}

fn parameters(values: &[SqlValue]) -> Vec<&(dyn ToSql + Sync)> {
    values.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn read_row(row: &tokio_postgres::Row) -> Result<SqlRow, tokio_postgres::Error> {
    let mut cells = Vec::with_capacity(row.len());
    for (column, described) in row.columns().iter().enumerate() {
        let cell = match *described.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(column)?.map(SqlValue::Integer),
            _ => row.try_get::<_, Option<String>>(column)?.map(SqlValue::Text),
        };
        cells.push(cell.unwrap_or(SqlValue::Null));
    }
    Ok(SqlRow::new(cells))
}

impl rusqlite::ToSql for SqlValue {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        match self {
            Self::Null => rusqlite::ToSql::to_sql(&rusqlite::types::Null),
            Self::Integer(number) => rusqlite::ToSql::to_sql(number),
            Self::Text(text) => rusqlite::ToSql::to_sql(text),
        }
    }
}

impl rusqlite::types::FromSql for SqlValue {
    fn column_result(value: rusqlite::types::ValueRef<'_>) -> rusqlite::types::FromSqlResult<Self> {
        use rusqlite::types::{FromSqlError, ValueRef};
        match value {
            ValueRef::Null => Ok(Self::Null),
            ValueRef::Integer(number) => Ok(Self::Integer(number)),
            ValueRef::Text(_) => Ok(Self::Text(value.as_str()?.to_owned())),
            ValueRef::Real(_) | ValueRef::Blob(_) => Err(FromSqlError::InvalidType),
        }
    }
}

impl ToSql for SqlValue {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(number) if <i64 as ToSql>::accepts(ty) => {
                <i64 as ToSql>::to_sql(number, ty, out)
            }
            // PostgreSQL has no NUL in texts; stations may send one.
            Self::Text(text) if text.contains('\0') => {
                text.replace('\0', "\u{fffd}").to_sql(ty, out)
            }
            Self::Text(text) if <&str as ToSql>::accepts(ty) => text.to_sql(ty, out),
            Self::Integer(_) => Err(WrongType::new::<i64>(ty.clone()).into()),
            Self::Text(_) => Err(WrongType::new::<&str>(ty.clone()).into()),
        }
    }

    fn accepts(ty: &Type) -> bool {
        <i64 as ToSql>::accepts(ty) || <&str as ToSql>::accepts(ty)
    }

    to_sql_checked!();
}

impl From<i64> for SqlValue {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<u32> for SqlValue {
    fn from(number: u32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<bool> for SqlValue {
    fn from(is_so: bool) -> Self {
        Self::Integer(is_so.into())
    }
}

impl From<Timestamp> for SqlValue {
    fn from(at: Timestamp) -> Self {
        Self::Integer(at.as_micros())
    }
}

impl From<&str> for SqlValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for SqlValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<SqlValue>> From<Option<T>> for SqlValue {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// A row that was found; its columns are taken out one after the other.
#[derive(Debug)]
pub(crate) struct SqlRow(std::vec::IntoIter<SqlValue>);

/// A column holds another value than was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a column holds {found:?}, which is no {expected}; have the read model built anew")]
pub(crate) struct Unexpected {
    found: Option<SqlValue>,
    expected: &'static str,
}

impl SqlRow {
    fn new(cells: Vec<SqlValue>) -> Self {
        Self(cells.into_iter())
    }

    /// Takes the next column.
    ///
    /// # Errors
    /// [`Unexpected`] if it is of another type, or if no column is left.
    pub(crate) fn take<T: FromColumn>(&mut self) -> Result<T, Unexpected> {
        let cell = self.0.next();
        T::read(cell.clone())
            .ok_or(Unexpected { found: cell, expected: std::any::type_name::<T>() })
    }
}

/// Type that a column can be read as.
pub(crate) trait FromColumn: Sized {
    /// Reads the value; `None` if it is of another type.
    fn read(cell: Option<SqlValue>) -> Option<Self>;
}

impl FromColumn for i64 {
    fn read(cell: Option<SqlValue>) -> Option<Self> {
        match cell? {
            SqlValue::Integer(number) => Some(number),
            SqlValue::Null | SqlValue::Text(_) => None,
        }
    }
}

impl FromColumn for String {
    fn read(cell: Option<SqlValue>) -> Option<Self> {
        match cell? {
            SqlValue::Text(text) => Some(text),
            SqlValue::Null | SqlValue::Integer(_) => None,
        }
    }
}

impl FromColumn for Timestamp {
    fn read(cell: Option<SqlValue>) -> Option<Self> {
        i64::read(cell).map(Self::from_micros)
    }
}

impl<T: FromColumn> FromColumn for Option<T> {
    fn read(cell: Option<SqlValue>) -> Option<Self> {
        match cell? {
            SqlValue::Null => Some(None),
            cell => T::read(Some(cell)).map(Some),
        }
    }
}

/// The conditions of a query, with their values as parameters.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    text: String,
    values: Vec<SqlValue>,
}

impl Conditions {
    /// Adds a condition: a text in which each `?` stands for the next of the values.
    pub(super) fn and(&mut self, condition: &str, values: impl IntoIterator<Item = SqlValue>) {
        self.text.push_str(if self.text.is_empty() { " WHERE " } else { " AND " });
        let mut values = values.into_iter();
        for part in condition.split_inclusive('?') {
            match part.strip_suffix('?').zip(values.next()) {
                Some((before, value)) => {
                    let parameter = self.parameter(value);
                    self.text.push_str(before);
                    self.text.push_str(&parameter);
                }
                None => self.text.push_str(part),
            }
        }
    }

    /// Adds a parameter; returns its name.
    pub(super) fn parameter(&mut self, value: impl Into<SqlValue>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    /// Returns the conditions as SQL, to stand after `FROM`.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn values(self) -> Vec<SqlValue> {
        self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_number_their_parameters_in_the_order_of_the_text() {
        let mut conditions = Conditions::default();
        assert_eq!(conditions.text(), "");
        conditions.and("station = ?", ["CP-1".into()]);
        conditions.and("(day, id) > (?, ?)", [3_i64.into(), 4_i64.into()]);
        let limit = conditions.parameter(5_i64);
        assert_eq!(conditions.text(), " WHERE station = $1 AND (day, id) > ($2, $3)");
        assert_eq!((limit.as_str(), conditions.values().len()), ("$4", 4));
    }

    #[tokio::test]
    async fn what_goes_in_comes_out() {
        let mut sqlite = Connection::open_in_memory().unwrap();
        sqlite.batch("CREATE TABLE rows (a BIGINT, b TEXT, c TEXT)").await.unwrap();
        let values = [7_i64.into(), "a \0 NUL".into(), SqlValue::Null];
        sqlite.run("INSERT INTO rows (a, b, c) VALUES ($1, $2, $3)", &values).await.unwrap();
        let mut found =
            sqlite.find("SELECT a, b, c FROM rows WHERE a = $1", &[7_i64.into()]).await.unwrap();
        let mut row = found.pop().unwrap();
        assert_eq!((row.take::<i64>(), row.take::<String>()), (Ok(7), Ok("a \0 NUL".to_owned())));
        assert_eq!(row.take::<Option<i64>>(), Ok(None));
        assert!(row.take::<i64>().is_err(), "there is no more");
    }
}
