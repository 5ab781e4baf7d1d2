//! The read model in SQLite: rows and checkpoint in one transaction.

use leftfold::prelude::*;
use leftfold::sqlite::{Reader, Sqlite, SqliteError};
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::foo::{FooFact, FooName, Status};

/// Foos as they stand, by what was seen last: an event that is older than what a column holds
/// changes nothing, and so does one that comes twice.
pub(crate) struct Foos;

// ANCHOR: projection
impl Projection<Sqlite> for Foos {
    const NAME: &'static str = "foos";
    type Event = FooFact;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        rows.execute_batch(
            "CREATE TABLE foos (
                id TEXT PRIMARY KEY, bar TEXT NOT NULL, baz TEXT NOT NULL,
                status TEXT, status_at INTEGER, label TEXT, label_at INTEGER
            ) WITHOUT ROWID;
            CREATE INDEX foos_by_status ON foos (status, id);",
        )?;
        Ok(())
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<FooFact>,
    ) -> Result<(), ProjectionError> {
        let FooName { id, bar, baz } = FooName::of(event)?;
        let (sql, at, value) = match &event.event {
            FooFact::StatusSeen { at, status } => (SEE_STATUS, at, status.name()),
            FooFact::Labelled { at, label } => (LABEL, at, label.as_str()),
        };
        rows.prepare_cached(sql)?.execute(params![
            id.to_string(),
            bar,
            baz,
            value,
            at.as_micros()
        ])?;
        Ok(())
    }
}

const SEE_STATUS: &str =
    "INSERT INTO foos (id, bar, baz, status, status_at) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (id) DO UPDATE SET status = excluded.status, status_at = excluded.status_at
    WHERE status_at IS NULL OR excluded.status_at > status_at";
const LABEL: &str = "INSERT INTO foos (id, bar, baz, label, label_at) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (id) DO UPDATE SET label = excluded.label, label_at = excluded.label_at
    WHERE label_at IS NULL OR excluded.label_at > label_at";

/// A row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FooRow {
    pub(crate) name: FooName,
    pub(crate) status: Option<Status>,
    pub(crate) label: Option<String>,
}
// ANCHOR_END: projection

/// Rows that are read at once, at most.
const PAGE_MAX: usize = 500;

pub(crate) fn find(foos: &Reader, id: Uuid) -> Result<Option<FooRow>, SqliteError> {
    foos.read(|rows| {
        let mut found =
            rows.prepare_cached("SELECT id, bar, baz, status, label FROM foos WHERE id = ?1")?;
        found.query_row([id.to_string()], row).optional()
    })
}

/// A page of the foos with a status, or of all, after an id.
pub(crate) fn page(
    foos: &Reader,
    status: Option<Status>,
    after: &str,
) -> Result<Vec<FooRow>, SqliteError> {
    foos.read(|rows| match status {
        Some(status) => {
            let by_status = "SELECT id, bar, baz, status, label FROM foos WHERE status = ?1 AND id > ?2 ORDER BY id LIMIT ?3";
            rows.prepare_cached(by_status)?
                .query_map(params![status.name(), after, PAGE_MAX as i64], row)?
                .collect()
        }
        None => {
            let all = "SELECT id, bar, baz, status, label FROM foos WHERE id > ?1 ORDER BY id LIMIT ?2";
            rows.prepare_cached(all)?.query_map(params![after, PAGE_MAX as i64], row)?.collect()
        }
    })
}

fn row(row: &Row<'_>) -> rusqlite::Result<FooRow> {
    let status: Option<String> = row.get("status")?;
    let name = FooName::new(&row.get::<_, String>("bar")?, &row.get::<_, String>("baz")?);
    Ok(FooRow { name, status: status.as_deref().and_then(Status::named), label: row.get("label")? })
}
