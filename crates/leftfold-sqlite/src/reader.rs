//! Reading rows, of whichever version serves.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use leftfold_core::runtime::projection::BESIDE;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::SqliteError;
use crate::files::{self, BUSY_SECONDS, FileIdentity};
use crate::serving::version_that_serves;

/// Connections that are kept open between reads; more are opened if more read at once, and closed
/// after that.
const KEPT: usize = 8;
/// Times that a version may be replaced and removed between its lookup and its opening.
const TRIES: usize = 5;

/// Reads the rows of the version of a projection that serves, in this process or in another one
/// than the writer's. Cheap to clone; clones share their connections.
///
/// A read blocks its thread, though it seldom takes long: in async code put long ones into
/// `spawn_blocking`. Readers do not wait for the writer, nor it for them; but while a read goes on
/// the file beside the rows grows with what is written.
#[derive(Clone, Debug)]
pub struct Reader(Arc<SqliteReaderState>);

#[derive(Debug)]
struct SqliteReaderState {
    directory: PathBuf,
    name: String,
    /// Version to read; `None` for the one that serves.
    version: Option<u32>,
    serving: Mutex<Option<OpenedRows>>,
    idle: Mutex<Vec<OpenedRows>>,
}

#[derive(Debug)]
struct OpenedRows {
    connection: Connection,
    path: PathBuf,
    identity: FileIdentity,
}

impl Reader {
    pub(crate) fn new(directory: PathBuf, name: String) -> Self {
        Self(Arc::new(SqliteReaderState {
            directory,
            name,
            version: None,
            serving: Mutex::default(),
            idle: Mutex::default(),
        }))
    }

    /// Reads a version whether it serves or not: to look at one that is being built, or at the one
    /// before.
    #[must_use]
    pub fn of_version(&self, version: u32) -> Self {
        let (directory, name) = (self.0.directory.clone(), self.0.name.clone());
        let version = Some(version);
        Self(Arc::new(SqliteReaderState {
            directory,
            name,
            version,
            serving: Mutex::default(),
            idle: Mutex::default(),
        }))
    }

    /// Reads rows: all that is read within one call is of one moment, and of one version. The
    /// connection cannot write.
    ///
    /// ```
    /// # mod visits { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/visits.rs")); }
    /// # use leftfold_core::runtime::Runtime;
    /// # use leftfold_core::store::Store;
    /// use leftfold_sqlite::Sqlite;
    /// use visits::Visits;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let place = tempfile::tempdir()?;
    /// # let sqlite = Sqlite::at(place.path());
    /// # Runtime::new(&Store::memory()).project(Visits, sqlite.clone()).run_until_idle().await?;
    /// // Both numbers are of one moment.
    /// let (pages, visits): (u64, u64) = sqlite.reader::<Visits>().read(|rows| {
    ///     let pages = rows.query_row("SELECT count(*) FROM visits", [], |row| row.get(0))?;
    ///     let sum = "SELECT coalesce(sum(count), 0) FROM visits";
    ///     Ok((pages, rows.query_row(sum, [], |row| row.get(0))?))
    /// })?;
    /// assert_eq!((pages, visits), (0, 0));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`SqliteError::NothingServes`] before the first version was built; what SQLite says, and
    /// what `read` returns.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, SqliteError> {
        let opened = self.opened()?;
        let failed = || SqliteError::sqlite(&opened.path);
        opened.connection.execute_batch("BEGIN").map_err(failed())?;
        let done = read(&opened.connection);
        // Where `read` itself ended it, there is nothing left to end.
        let ended = match opened.connection.is_autocommit() {
            true => Ok(()),
            false => opened.connection.execute_batch("COMMIT"),
        };
        let done = done.map_err(failed())?;
        ended.map_err(failed())?;
        let mut idle = unpoisoned(&self.0.idle);
        if idle.len() < KEPT {
            idle.push(opened);
        }
        Ok(done)
    }

    /// The version that is read: the one that serves now.
    ///
    /// # Errors
    /// [`SqliteError::NothingServes`] before the first version was built; what SQLite says.
    pub fn version(&self) -> Result<u32, SqliteError> {
        Ok(self.place()? & !BESIDE)
    }

    /// Returns the number of the file: that of the version, or of its other place if it was rebuilt
    /// there.
    fn place(&self) -> Result<u32, SqliteError> {
        if let Some(version) = self.0.version {
            let is_there = |place| files::rows(&self.0.directory, &self.0.name, place).exists();
            let beside = !is_there(version) && is_there(version ^ BESIDE);
            return Ok(if beside { version ^ BESIDE } else { version });
        }
        let nothing = || SqliteError::NothingServes {
            name: self.0.name.clone(),
            directory: self.0.directory.clone(),
        };
        let path = files::serving(&self.0.directory);
        let mut serving = unpoisoned(&self.0.serving);
        let identity = FileIdentity::of(&path).ok_or_else(nothing)?;
        if serving.as_ref().is_none_or(|opened| opened.identity != identity) {
            *serving = None;
            *serving = Some(connect(&path, identity).map_err(SqliteError::sqlite(&path))?);
        }
        let opened = serving.as_ref().ok_or_else(nothing)?;
        match version_that_serves(&opened.connection, &self.0.name) {
            Ok(version) => version.ok_or_else(nothing),
            // The file was made a moment ago, its table was not.
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::Unknown) => Err(nothing()),
            Err(e) => Err(SqliteError::sqlite(path)(e)),
        }
    }

    /// A connection to the version that serves, kept or new.
    fn opened(&self) -> Result<OpenedRows, SqliteError> {
        let mut tries = 0;
        loop {
            tries += 1;
            let path = files::rows(&self.0.directory, &self.0.name, self.place()?);
            let identity = FileIdentity::of(&path);
            let kept = {
                let mut idle = unpoisoned(&self.0.idle);
                idle.retain(|opened| opened.path == path && Some(opened.identity) == identity);
                idle.pop()
            };
            if let Some(kept) = kept {
                return Ok(kept);
            }
            // An identity that was taken before the file was opened can only be older: such a
            // connection is not kept long.
            let opened = match identity {
                Some(identity) => connect(&path, identity),
                None => Err(rusqlite::Error::InvalidPath(path.clone())),
            };
            match opened {
                Ok(opened) => return Ok(opened),
                // It was replaced and removed in between: another one serves.
                Err(_) if tries < TRIES && !path.exists() => {}
                Err(e) => return Err(SqliteError::sqlite(path)(e)),
            }
        }
    }
}

fn connect(path: &Path, identity: FileIdentity) -> rusqlite::Result<OpenedRows> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(BUSY_SECONDS))?;
    Ok(OpenedRows { connection, path: path.to_owned(), identity })
}

/// A connection is whole whatever a thread that panicked did with it: it is taken out of the list
/// while it is used.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
