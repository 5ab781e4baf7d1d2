//! Names of the files, and the lock of the session that may write one.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process;

use crate::SqliteError;

/// Seconds that a statement waits for a lock of another connection.
pub(crate) const BUSY_SECONDS: u64 = 5;
/// Suffixes of the files that SQLite keeps beside a database.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// The file with the rows of a version.
pub(crate) fn rows(directory: &Path, name: &str, version: u32) -> PathBuf {
    directory.join(format!("{name}.v{version}.db"))
}

/// The file that says which versions serve.
pub(crate) fn serving(directory: &Path) -> PathBuf {
    directory.join("leftfold.db")
}

/// Every version with a file, in ascending order; empty if there is no directory.
pub(crate) fn versions(directory: &Path, name: &str) -> Result<Vec<u32>, SqliteError> {
    let entries = match fs::read_dir(directory) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(SqliteError::directory(directory))?,
    };
    let mut versions = Vec::new();
    for entry in entries {
        let file = entry.map_err(SqliteError::directory(directory))?.file_name();
        let version = file
            .to_str()
            .and_then(|f| f.strip_prefix(name)?.strip_prefix(".v")?.strip_suffix(".db"));
        versions.extend(version.and_then(|text| text.parse::<u32>().ok()));
    }
    versions.sort_unstable();
    Ok(versions)
}

/// Removes a file of SQLite and what belongs to it. It may have gone before.
pub(crate) fn remove(file: &Path) -> Result<(), SqliteError> {
    for beside in ["", BESIDE[0], BESIDE[1]] {
        let mut path = file.as_os_str().to_owned();
        path.push(beside);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(SqliteError::directory(&path)(e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The right to write the file of a version, while this lives or its process does. The file of the
/// lock stays: to remove it would let two hold it, one of them under no name.
#[derive(Debug)]
pub(crate) struct VersionLock(File);

impl VersionLock {
    pub(crate) fn take(rows: &Path) -> Result<Self, SqliteError> {
        let path = rows.with_extension("lock");
        let cannot = || SqliteError::directory(&path);
        let options =
            File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = options.map_err(cannot())?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(SqliteError::InUse {
                    path: rows.to_owned(),
                    holder: holder(&mut file),
                });
            }
            Err(TryLockError::Error(e)) => return Err(cannot()(e)),
        }
        let named = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| write!(file, "{}", process::id()));
        // The lock holds without a name in it, which a full disk may not take.
        let _ = named;
        Ok(Self(file))
    }
}

impl Drop for VersionLock {
    /// To close the file would not do: a process that is being started holds it too, for a moment.
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(20).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(id)) if id == process::id() => "another session of this process".to_owned(),
        (Ok(_), Ok(id)) => format!("process {id}"),
        _ => "another session".to_owned(),
    }
}

/// Identity of the file that has a name now: a file that was removed and created again is another
/// one. A file that is still open keeps its number, so that no other file is taken for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FileIdentity(u64, u64);

impl FileIdentity {
    /// Returns the identity of the file; `None` if there is no file.
    #[cfg(unix)]
    pub(crate) fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).ok().map(|file| Self(file.dev(), file.ino()))
    }

    /// Returns a constant if there is a file: an open file cannot be removed here, so its name is
    /// enough. `None` if there is no file.
    #[cfg(not(unix))]
    pub(crate) fn of(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|_| Self(0, 0))
    }
}
