//! The table of the versions that serve.

use rusqlite::{Connection, OptionalExtension};

/// Returns the version of a projection that serves; `None` if none does.
pub(crate) fn version_that_serves(
    connection: &Connection,
    name: &str,
) -> rusqlite::Result<Option<u32>> {
    let mut statement = connection.prepare_cached("SELECT version FROM serving WHERE name = ?1")?;
    statement.query_row([name], |row| row.get(0)).optional()
}
