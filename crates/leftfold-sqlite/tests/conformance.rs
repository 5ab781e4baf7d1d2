//! SQLite against the rules for targets.

use leftfold_core::runtime::projection::{ProjectionError, Target};
use leftfold_sqlite::rusqlite::{self, Connection, OptionalExtension};
use leftfold_sqlite::{Sqlite, SqliteError};
use leftfold_testing::target::{Subject, conformance, following};
use tempfile::TempDir;

#[derive(Clone)]
struct Files;

impl Subject for Files {
    type Target = Sqlite;
    type Home = TempDir;

    async fn home(&self) -> TempDir {
        TempDir::new().unwrap()
    }

    async fn target(&self, home: &TempDir) -> Sqlite {
        // The target makes it.
        Sqlite::at(home.path().join("rows"))
    }

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        Ok(rows.execute_batch("CREATE TABLE cats (name TEXT PRIMARY KEY, colour TEXT NOT NULL)")?)
    }

    async fn write(
        &self,
        rows: &mut Connection,
        key: &str,
        value: &str,
    ) -> Result<(), ProjectionError> {
        let mut upsert =
            rows.prepare_cached("INSERT OR REPLACE INTO cats (name, colour) VALUES (?1, ?2)")?;
        upsert.execute([key, value])?;
        Ok(())
    }

    async fn remove(&self, rows: &mut Connection, key: &str) -> Result<(), ProjectionError> {
        rows.execute("DELETE FROM cats WHERE name = ?1", [key])?;
        Ok(())
    }

    async fn fail(&self, rows: &mut Connection) -> ProjectionError {
        rows.execute("INSERT INTO dogs VALUES (1)", []).unwrap_err().into()
    }

    async fn read(&self, target: &Sqlite, name: &str, version: u32, key: &str) -> Option<String> {
        if !target.versions(name).await.unwrap().contains(&version) {
            return None;
        }
        target.reader_of(name).of_version(version).read(|rows| colour(rows, key)).unwrap()
    }

    async fn served(&self, target: &Sqlite, name: &str, key: &str) -> Option<String> {
        match target.reader_of(name).read(|rows| colour(rows, key)) {
            Err(SqliteError::NothingServes { .. }) => None,
            found => found.unwrap(),
        }
    }
}

fn colour(rows: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    rows.query_row("SELECT colour FROM cats WHERE name = ?1", [name], |row| row.get(0)).optional()
}

#[tokio::test]
async fn sqlite_is_a_target() {
    conformance(&Files).await;
    following(&Files).await;
}
