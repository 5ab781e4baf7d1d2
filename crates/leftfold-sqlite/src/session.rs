//! The one connection that writes a version.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leftfold_core::runtime::projection::{ProjectionError, Session};
use rusqlite::{Connection, params};

use crate::error::SqliteError;
use crate::files::{BUSY_SECONDS, VersionLock};

/// Statements that are kept parsed: those of users, and three of ours.
const STATEMENTS: usize = 64;
/// Set up for one writer and many readers; `synchronous` is explained in the documentation of the
/// crate. The sizes: a cache of 32 MiB, a checkpoint every 16 MiB of log, and a log that is cut
/// back to 64 MiB if a long read let it grow.
const PRAGMAS: &str =
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -32768;
    PRAGMA wal_autocheckpoint = 4096; PRAGMA journal_size_limit = 67108864;";
const NOTES: &str = "CREATE TABLE IF NOT EXISTS leftfold_notes (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID";

/// The connection that writes a version.
#[derive(Debug)]
pub struct SqliteSession {
    // Closed before the lock is given back.
    connection: Connection,
    path: PathBuf,
    /// True while the runtime itself commits.
    ends: Arc<AtomicBool>,
    leaves: DeletedBytes,
    _lock: VersionLock,
}

/// Treatment of the bytes of rows that are deleted or replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum DeletedBytes {
    /// They stay in the file until something else is written there.
    #[default]
    Bytes,
    /// They are overwritten, in the journal too.
    Nothing,
}

impl SqliteSession {
    pub(crate) fn open(
        path: PathBuf,
        lock: VersionLock,
        leaves: DeletedBytes,
    ) -> Result<Self, SqliteError> {
        let ends = Arc::new(AtomicBool::new(false));
        let connection =
            connect(&path, ends.clone(), leaves).map_err(SqliteError::sqlite(&path))?;
        Ok(Self { connection, path, ends, leaves, _lock: lock })
    }

    /// Empties the journal, unless somebody reads.
    fn empty_journal(&self) -> rusqlite::Result<()> {
        self.connection.busy_timeout(Duration::ZERO)?;
        let emptied = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        self.connection.busy_timeout(Duration::from_secs(BUSY_SECONDS))?;
        emptied
    }

    fn failed(&self, error: rusqlite::Error) -> ProjectionError {
        SqliteError::sqlite(&self.path)(error).into()
    }

    /// SQLite itself ends a transaction on some errors. Without this, what follows would be
    /// transactions of their own.
    fn within_transaction(&self) -> Result<(), ProjectionError> {
        if self.connection.is_autocommit() {
            return Err(SqliteError::TransactionEnded { path: self.path.clone() }.into());
        }
        Ok(())
    }
}

fn connect(
    path: &PathBuf,
    ends: Arc<AtomicBool>,
    leaves: DeletedBytes,
) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(BUSY_SECONDS))?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.execute_batch(PRAGMAS)?;
    if leaves == DeletedBytes::Nothing {
        connection.pragma_update(None, "secure_delete", "ON")?;
    }
    connection.execute_batch(NOTES)?;
    // True refuses: whatever would be committed by another than the runtime is rolled back.
    connection.commit_hook(Some(move || !ends.load(Ordering::Relaxed)))?;
    Ok(connection)
}

impl Session for SqliteSession {
    type Rows = Connection;

    async fn begin(&mut self) -> Result<(), ProjectionError> {
        // What cannot be written shows now and not in the middle.
        self.connection.execute_batch("BEGIN IMMEDIATE").map_err(|e| self.failed(e))
    }

    fn rows(&mut self) -> &mut Connection {
        &mut self.connection
    }

    async fn note(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), ProjectionError> {
        self.within_transaction()?;
        let written = match value {
            Some(value) => self
                .connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO leftfold_notes (key, value) VALUES (?1, ?2)",
                )
                .and_then(|mut statement| statement.execute(params![key, value])),
            None => self
                .connection
                .prepare_cached("DELETE FROM leftfold_notes WHERE key = ?1")
                .and_then(|mut statement| statement.execute([key])),
        };
        written.map(drop).map_err(|e| self.failed(e))
    }

    async fn notes(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, ProjectionError> {
        notes(&self.connection, prefix, after, at_most).map_err(|e| self.failed(e))
    }

    async fn commit(&mut self) -> Result<(), ProjectionError> {
        self.within_transaction()?;
        self.ends.store(true, Ordering::Relaxed);
        let committed = self.connection.execute_batch("COMMIT");
        self.ends.store(false, Ordering::Relaxed);
        committed.map_err(|e| self.failed(e))?;
        match self.leaves {
            DeletedBytes::Bytes => Ok(()),
            // What was committed is committed: the notes say so to the session that is opened then.
            DeletedBytes::Nothing => self.empty_journal().map_err(|e| self.failed(e)),
        }
    }

    async fn rollback(&mut self) -> Result<(), ProjectionError> {
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.execute_batch("ROLLBACK").map_err(|e| self.failed(e))
    }
}

/// Text is compared by its bytes, so those with the same beginning stand together.
fn notes(
    connection: &Connection,
    prefix: &str,
    after: Option<&str>,
    at_most: usize,
) -> rusqlite::Result<Vec<(String, Vec<u8>)>> {
    let (from, query) = match after {
        Some(after) if after >= prefix => {
            (after, "SELECT key, value FROM leftfold_notes WHERE key > ?1 ORDER BY key")
        }
        _ => (prefix, "SELECT key, value FROM leftfold_notes WHERE key >= ?1 ORDER BY key"),
    };
    let mut statement = connection.prepare_cached(query)?;
    let found = statement.query_map([from], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))?;
    let of_prefix =
        found.take_while(|note| note.as_ref().map_or(true, |(key, _)| key.starts_with(prefix)));
    of_prefix.take(at_most).collect()
}
