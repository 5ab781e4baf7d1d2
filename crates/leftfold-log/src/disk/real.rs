//! A directory of the machine.

use std::fs::{self, File as SystemFile, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leftfold_core::store::Timestamp;

use super::{Disk, File, Lock};
use crate::clock::moment_of;

/// A directory of the machine.
#[derive(Debug)]
pub struct Real {
    path: PathBuf,
    /// Handle of the directory, held so that names can be made durable when the process has no
    /// handle left.
    directory: SystemFile,
}

impl Real {
    /// Opens a directory that is there.
    pub fn open(path: &Path) -> io::Result<Self> {
        let directory = SystemFile::open(path)?;
        if directory.metadata()?.is_dir() {
            Ok(Self { path: path.to_owned(), directory })
        } else {
            Err(io::Error::new(io::ErrorKind::NotADirectory, "not a directory"))
        }
    }

    /// Opens a directory, which is created if it is not there. Its name is durable, also if it was
    /// created, and not synced, by a process that was killed.
    pub fn create(path: &Path) -> io::Result<Self> {
        let absolute = std::path::absolute(path)?;
        let missing = absolute.ancestors().take_while(|above| !above.exists()).count();
        fs::create_dir_all(&absolute)?;
        for above in absolute.ancestors().skip(1).take(missing.max(1)) {
            match SystemFile::open(above).and_then(|directory| directory.sync_all()) {
                // Who may not read it cannot have made anything in it a moment ago.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                other => other?,
            }
        }
        Self::open(path)
    }
}

impl Disk for Real {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // A file system makes it at the root of every fresh volume, and keeps it; it is
            // nobody's.
            if entry.file_name() == "lost+found" && entry.file_type()?.is_dir() {
                continue;
            }
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        Ok(names)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let path = self.path.join(name);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            // Media that are written once are read all the same; writing then fails where it is
            // tried.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                OpenOptions::new().read(true).open(&path)
            }
            other => other,
        }?;
        Ok(Arc::new(RealFile(file)))
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(self.path.join(name))?;
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.directory.sync_all()
    }

    fn lock(&self, name: &str) -> io::Result<Box<dyn Lock>> {
        let opened =
            OpenOptions::new().write(true).create(true).truncate(false).open(self.path.join(name));
        let file = opened.map_err(|error| match error.kind() {
            // Not that another process has the lock.
            io::ErrorKind::WouldBlock => io::Error::other(error),
            _ => error,
        })?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock { _file: file })),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn is_shared(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct RealFile(SystemFile);

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn changed(&self) -> io::Result<Option<Timestamp>> {
        Ok(moment_of(self.0.metadata()?.modified()?))
    }
}

/// The system releases the lock with the file.
#[derive(Debug)]
struct RealLock {
    _file: SystemFile,
}

impl Lock for RealLock {}
