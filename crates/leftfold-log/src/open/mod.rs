//! Opening a directory of the machine: to write, to read only, and after it was restored from a copy.
//!
//! `contents` tells a log from something else in the directory, `recover` finds its durable end (docs/log-format.md, section
//! 5), `doubt` holds the machine's clock against what is recorded, and `error` has what can go wrong. `verify` and `dump`
//! go the same way without changing anything.

pub(crate) mod contents;
pub(crate) mod doubt;
pub(crate) mod dump;
pub(crate) mod error;
pub(crate) mod recover;
pub(crate) mod verify;

use std::io;
use std::path::Path;
use std::sync::Arc;

use leftfold_core::store::{Head, Identity};

use crate::disk::{Disk, Overlay, Real};
use crate::format::segment_number;
use crate::index::Index;
use crate::log::Log;
use crate::open::contents::{LOCK, refuse_foreign};
use crate::open::error::{OpenError, Recovery};
use crate::open::recover::{Looks, Purpose, next_epoch};
use crate::options::{Existing, Options};

impl Log {
    /// Opens the log in a directory, or begins one there, as the options say.
    pub fn open(path: impl AsRef<Path>, options: Options) -> Result<(Self, Recovery), OpenError> {
        Self::open_on(directory(path.as_ref(), options.open)?, options)
    }

    /// Opens the log in a directory to be read only, as it is now: media that are written once, a copy, or the
    /// directory of a process that has it open. Nothing is changed and no lock is taken; what it lacks of the index is
    /// made in memory.
    ///
    /// Shown is what is certainly durable. The last group of a log that was not closed may be written and not synced, by
    /// a process that is at it or was killed: a crash of the machine would take it back from a reader who has seen it.
    /// So it is held back, until a group, a seal or a segment stands behind it; [`Recovery::held_back`] tells how many
    /// events it has. Only opening the log to be written can make it certain.
    pub fn open_read_only(path: impl AsRef<Path>, options: Options) -> Result<(Self, Recovery), OpenError> {
        Self::open_read_only_on(directory(path.as_ref(), Existing::Only)?, options)
    }

    /// The same, on any disk.
    pub fn open_read_only_on(disk: Arc<dyn Disk>, options: Options) -> Result<(Self, Recovery), OpenError> {
        let options = Options { open: Existing::Only, ..options };
        let mut looks = Looks::new();
        let mut before = None;
        let (writer, report) = loop {
            let over: Arc<dyn Disk> = Arc::new(Overlay::over(Arc::clone(&disk)));
            match Self::writer(over, options.clone(), Purpose::Read) {
                // What looks wrong while a process is at the directory looks otherwise a moment later: files come and go
                // between one look at them and the next. What is wrong stays as it is.
                Err(error @ (OpenError::Damaged { .. } | OpenError::Io { .. })) => {
                    if before.as_ref() == Some(&error) || !looks.again() {
                        return Err(error);
                    }
                    before = Some(error);
                }
                other => break other?,
            }
        };
        Ok((Self::start(writer)?, report))
    }
}

/// What a declared restore did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The store, with its new epoch.
    pub identity: Identity,
    /// Its end when the epoch began.
    pub head: Head,
}

/// Declares that the log in a directory is a copy that was brought back: its index is made anew, and a new epoch begins.
/// Consumers that have seen more, or something else, are told so when they come back.
pub fn restore(path: impl AsRef<Path>, options: Options) -> Result<Restored, OpenError> {
    restore_on(directory(path.as_ref(), Existing::Only)?, options)
}

/// The same, on any disk.
pub fn restore_on(disk: Arc<dyn Disk>, options: Options) -> Result<Restored, OpenError> {
    let options = Options { open: Existing::Only, ..options };
    let lock = take_lock(&*disk)?;
    if disk.names()?.iter().all(|name| segment_number(name).is_none()) {
        return Err(OpenError::Missing { place: disk.place() });
    }
    Index::discard(&*disk)?;
    for name in disk.names()?.iter().filter(|name| name.ends_with(".off")) {
        disk.remove(name)?;
    }
    let (mut writer, report) = Log::writer(Arc::clone(&disk), options, Purpose::Write)?;
    writer.hold(lock);
    let epoch = next_epoch(report.identity, report.head);
    let head = writer.begin_epoch(epoch).map_err(|error| OpenError::Io { detail: error.detail })?;
    Ok(Restored { identity: Identity { store: report.identity.store, epoch }, head })
}

/// The lock of a directory that is to be written. Nothing, not even the lock, is made in one that is somebody else's.
pub(crate) fn take_lock(disk: &dyn Disk) -> Result<Box<dyn crate::disk::Lock>, OpenError> {
    refuse_foreign(disk, &disk.names()?)?;
    disk.lock(LOCK).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => OpenError::InUse { place: disk.place() },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::ReadOnly { place: disk.place(), detail: error.to_string() }
        }
        _ => OpenError::io(&error),
    })
}

/// The directory, made where that is meant.
pub(crate) fn directory(path: &Path, open: Existing) -> Result<Arc<dyn Disk>, OpenError> {
    let place = path.display().to_string();
    let opened = match open {
        Existing::Only => Real::open(path),
        Existing::OrCreate | Existing::Never => Real::create(path),
    };
    match opened {
        Ok(disk) => Ok(Arc::new(disk)),
        Err(error) => Err(match error.kind() {
            io::ErrorKind::NotFound => OpenError::Missing { place },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                OpenError::ReadOnly { place, detail: error.to_string() }
            }
            _ => OpenError::Io { detail: format!("{place}: {error}") },
        }),
    }
}
