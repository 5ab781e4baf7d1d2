//! The directory of a log, and its lock.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::disk::{Disk, Lock, Real, WithArchive};
use crate::open::contents::{LOCK, refuse_foreign, refuse_unfinished};
use crate::open::error::LogOpenError;
use crate::options::Existing;

/// Takes the lock of a directory that is to be written. In a foreign directory nothing is created,
/// not even the lock.
pub(crate) fn take_lock(disk: &dyn Disk) -> Result<Box<dyn Lock>, LogOpenError> {
    let names = disk.names()?;
    refuse_unfinished(disk, &names)?;
    locked_of(disk, &names)
}

/// The same, also in a directory where a restore is under way.
pub(crate) fn locked(disk: &dyn Disk) -> Result<Box<dyn Lock>, LogOpenError> {
    locked_of(disk, &disk.names()?)
}

fn locked_of(disk: &dyn Disk, names: &[String]) -> Result<Box<dyn Lock>, LogOpenError> {
    refuse_foreign(disk, names)?;
    lock_of(disk)
}

/// Takes the lock of a directory, whatever is in it.
pub(crate) fn lock_of(disk: &dyn Disk) -> Result<Box<dyn Lock>, LogOpenError> {
    disk.lock(LOCK).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => LogOpenError::InUse { place: disk.place() },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            LogOpenError::ReadOnly { place: disk.place(), detail: error.to_string() }
        }
        _ => LogOpenError::io(&error),
    })
}

/// Opens the directory, which is created unless the log must be there.
pub(crate) fn directory(path: &Path, open: Existing) -> Result<Arc<dyn Disk>, LogOpenError> {
    let place = path.display().to_string();
    let opened = match open {
        Existing::Only => Real::open(path),
        Existing::OrCreate | Existing::Never => Real::create(path),
    };
    match opened {
        Ok(disk) => Ok(Arc::new(WithArchive::of_machine(Arc::new(disk)))),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound => LogOpenError::Missing { place },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                LogOpenError::ReadOnly { place, detail: error.to_string() }
            }
            _ => LogOpenError::Io { detail: format!("{place}: {error}") },
        }),
    }
}
