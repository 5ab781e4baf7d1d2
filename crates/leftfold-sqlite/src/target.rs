//! A directory as a target of projections.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use leftfold_core::runtime::projection::{Place, Projection, ProjectionError, Target};
use rusqlite::{Connection, OpenFlags, params};

use crate::error::{SqliteError, is_away, is_in_use};
use crate::files::{self, BUSY_SECONDS, VersionLock};
use crate::reader::Reader;
use crate::serving::version_that_serves;
use crate::session::{DeletedBytes, SqliteSession};

/// A directory with read models, a file for each version of each.
///
/// ```
#[doc = include_str!("../doc/visits.rs")]
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use leftfold_core::runtime::Runtime;
/// # use leftfold_core::store::Store;
/// # let place = tempfile::tempdir()?;
/// # let directory = place.path();
/// let store = Store::memory();
/// let visit = PageEvent::Visited { page: "/prices".to_owned() };
/// store.facts("page", "prices", &[visit.clone(), visit]).record().await?;
///
/// let sqlite = Sqlite::at(directory);
/// Runtime::new(&store).project(Visits, sqlite.clone()).run_until_idle().await?;
/// let count: u32 = sqlite.reader::<Visits>().read(|rows| {
///     rows.query_row("SELECT count FROM visits WHERE page = '/prices'", [], |row| row.get(0))
/// })?;
/// assert_eq!(count, 2);
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Sqlite {
    directory: PathBuf,
    leaves: DeletedBytes,
}

impl Sqlite {
    /// Read models in a directory, which is made when the first is opened.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into(), leaves: DeletedBytes::Bytes }
    }

    /// The same, but nothing is left of rows that were deleted or replaced: it is overwritten in
    /// the file, and the journal (`-wal`) is emptied after each transaction. For rows with personal
    /// data in the clear.
    ///
    /// It costs syncs of the disk for each transaction. If somebody reads the file at that moment,
    /// the journal is emptied after a later transaction.
    ///
    /// ```
    /// # mod visits { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/visits.rs")); }
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::store::Store;
    /// use leftfold_sqlite::Sqlite;
    /// use visits::Visits;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let place = tempfile::tempdir()?;
    /// # let directory = place.path();
    /// let sqlite = Sqlite::at(directory).erasing();
    /// Runtime::new(&Store::memory()).project(Visits, sqlite.clone()).run_until_idle().await?;
    /// assert_eq!(sqlite.reader::<Visits>().version()?, 1);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn erasing(mut self) -> Self {
        self.leaves = DeletedBytes::Nothing;
        self
    }

    /// Reads what a projection wrote.
    #[must_use]
    pub fn reader<P: Projection<Self>>(&self) -> Reader {
        self.reader_of(P::NAME)
    }

    /// Reads what a projection of this name wrote: for programs that do not have its code.
    ///
    /// ```
    /// use leftfold_sqlite::{Sqlite, SqliteError};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let place = tempfile::tempdir()?;
    /// # let directory = place.path();
    /// let reader = Sqlite::at(directory).reader_of("visits");
    /// // Until the program that has the projection has built it.
    /// assert!(matches!(reader.version(), Err(SqliteError::NothingServes { .. })));
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn reader_of(&self, name: impl Into<String>) -> Reader {
        Reader::new(self.directory.clone(), name.into())
    }

    fn made(&self) -> Result<&Path, SqliteError> {
        fs::create_dir_all(&self.directory).map_err(SqliteError::directory(&self.directory))?;
        Ok(&self.directory)
    }

    /// Whatever is done to which version serves; it survives a power failure.
    fn serving_file<T>(
        &self,
        act: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, SqliteError> {
        let path = files::serving(self.made()?);
        let acted = Connection::open(&path).and_then(|connection| {
            connection.busy_timeout(Duration::from_secs(BUSY_SECONDS))?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(
                "CREATE TABLE IF NOT EXISTS serving (name TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID",
            )?;
            act(&connection)
        });
        acted.map_err(SqliteError::sqlite(path))
    }
}

impl Target for Sqlite {
    type Session = SqliteSession;
    const BLOCKING: bool = true;

    async fn open(&self, place: &Place) -> Result<SqliteSession, ProjectionError> {
        let rows = files::rows(self.made()?, place.name, place.version);
        let lock = VersionLock::take(&rows)?;
        Ok(SqliteSession::open(rows, lock, self.leaves)?)
    }

    async fn serving(&self, name: &str) -> Result<Option<u32>, ProjectionError> {
        if !files::serving(&self.directory).exists() {
            return Ok(None);
        }
        Ok(self.serving_file(|connection| version_that_serves(connection, name))?)
    }

    async fn serve(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        let rows = files::rows(&self.directory, name, version);
        sync(&rows).map_err(SqliteError::sqlite(&rows))?;
        self.serving_file(|connection| {
            connection.execute(
                "INSERT OR REPLACE INTO serving (name, version) VALUES (?1, ?2)",
                params![name, version],
            )
        })?;
        Ok(())
    }

    async fn versions(&self, name: &str) -> Result<Vec<u32>, ProjectionError> {
        Ok(files::versions(&self.directory, name)?)
    }

    async fn discard(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        let rows = files::rows(self.made()?, name, version);
        let _lock = VersionLock::take(&rows)?;
        if files::serving(&self.directory).exists() {
            self.serving_file(|connection| {
                connection.execute(
                    "DELETE FROM serving WHERE name = ?1 AND version = ?2",
                    params![name, version],
                )
            })?;
        }
        Ok(files::remove(&rows)?)
    }

    fn is_in_use(&self, error: &ProjectionError) -> bool {
        is_in_use(error)
    }

    fn is_away(&self, error: &ProjectionError) -> bool {
        is_away(error)
    }
}

/// Brings to the disk what was committed to a file, so that no power failure leaves readers with a
/// version that is not there.
fn sync(rows: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(rows, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(Duration::from_secs(BUSY_SECONDS))?;
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}
