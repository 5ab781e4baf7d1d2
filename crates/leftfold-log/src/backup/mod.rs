//! Backups of a log that is written meanwhile, and bringing one back.
//!
//! A backup is a directory with copies of segments (`backup-NNNNNNNNNNNN.seg`) and a `manifest`
//! that names them, with their lengths and hashes. `take` copies what is new and then replaces the
//! manifest, so that there is always one whole backup, whenever it is interrupted; `fetch` does the
//! same with what a store elsewhere gives. `restore` makes a directory of a log of it again.
//! `error` has the errors of all.

mod error;
mod fetch;
mod manifest;
mod restore;
mod take;

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use leftfold_core::store::{Backend, Head, Identity};

pub use error::BackupError;
pub use fetch::backup_history_on;
pub use restore::{restore_backup, restore_backup_on};

use crate::disk::{Disk, Real};
use crate::follow::LogFollower;
use crate::log::Log;
use crate::open::directory::directory;
use crate::options::{Existing, Options};
use crate::segments::segment::Segments;

/// Progress of a backup, or of bringing one back. The caller goes on, or ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupProgress {
    /// Bytes that were copied.
    pub bytes_done: u64,
    /// Bytes that are to be copied in all; 0 if that is not known.
    pub bytes: u64,
}

/// Report of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackedUp {
    /// The store.
    pub identity: Identity,
    /// Durable end that the backup goes up to.
    pub head: Head,
    /// Segments of the backup.
    pub segments: u64,
    /// Bytes that were new since the backup before.
    pub copied_bytes: u64,
}

/// Backs up the log in a directory into another one, while a process writes it or not. The first
/// time everything is copied, later only what is new since the backup that is there.
///
/// The backup ends at a group: everything up to [`BackedUp::head`], and nothing behind it. Of a log
/// that is open elsewhere it may lack the group that was acknowledged about a millisecond before,
/// as every [reader](Log::open_read_only) beside a writer; [`Log::backup`] lacks nothing. Every
/// group is checked before it is copied, and a damaged one is never put in the place of a good one.
/// It may be interrupted at any moment, by a kill too: until the new backup is complete, the former
/// one is the backup, or a longer beginning of the same log.
///
/// `progress` is told how far it is, and may end it.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use leftfold_core::store::{Append, EventType, NewEvent, Store};
/// use leftfold_log::{Log, Options, backup, restore_backup};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// # let (directory, backups) = (place.path().join("events"), place.path().join("backup"));
/// # let restored = place.path().join("restored");
/// let store = Store::new(Log::open(&directory, Options::default())?.0);
/// let opened = NewEvent::new(EventType::new("shop.Opened")?, "{}");
/// store.append(Append::of(vec![opened])).await?;
/// let head = store.head();
/// store.close().await?;
///
/// let done = backup(&directory, &backups, &mut |_| ControlFlow::Continue(()))?;
/// assert_eq!(done.head.position, head.position);
///
/// // The machine is gone. Consumers notice that the log was restored by its new epoch.
/// restore_backup(&backups, &restored, Options::default(), &mut |_| ControlFlow::Continue(()))?;
/// assert_eq!(Log::open(&restored, Options::default())?.1.identity.epoch.number, 2);
/// # Ok(()) }
/// ```
pub fn backup(
    log: impl AsRef<Path>,
    destination: impl AsRef<Path>,
    progress: &mut dyn FnMut(BackupProgress) -> ControlFlow<()>,
) -> Result<BackedUp, BackupError> {
    let log = directory(log.as_ref(), Existing::Only)?;
    backup_on(log, &*made(destination.as_ref())?, progress)
}

/// The same, on any disks.
pub fn backup_on(
    log: Arc<dyn Disk>,
    destination: &dyn Disk,
    progress: &mut dyn FnMut(BackupProgress) -> ControlFlow<()>,
) -> Result<BackedUp, BackupError> {
    let (log, _) = Log::open_read_only_on(log, Options::default())?;
    take::backup(log.identity(), log.segments(), destination, progress)
}

impl Log {
    /// Backs up the log into a directory while it is open: see [`backup`]. It reads the disk on the
    /// thread of the caller, and holds up neither the writer nor readers.
    pub fn backup(
        &self,
        destination: impl AsRef<Path>,
        progress: &mut dyn FnMut(BackupProgress) -> ControlFlow<()>,
    ) -> Result<BackedUp, BackupError> {
        self.backup_on(&*made(destination.as_ref())?, progress)
    }

    /// The same, on any disk.
    pub fn backup_on(
        &self,
        destination: &dyn Disk,
        progress: &mut dyn FnMut(BackupProgress) -> ControlFlow<()>,
    ) -> Result<BackedUp, BackupError> {
        take::backup(self.identity(), self.segments(), destination, progress)
    }
}

impl LogFollower {
    /// Backs up the log into a directory, as far as this process has followed it: see [`backup`].
    pub fn backup(
        &self,
        destination: impl AsRef<Path>,
        progress: &mut dyn FnMut(BackupProgress) -> ControlFlow<()>,
    ) -> Result<BackedUp, BackupError> {
        self.opened().backup(destination, progress)
    }
}

/// Opens the directory of a backup, which is made if it is not there.
fn made(path: &Path) -> Result<Box<dyn Disk>, BackupError> {
    let opened = Real::create(path).map_err(|error| at(path, &error))?;
    Ok(Box::new(opened))
}

/// Opens the directory of a backup that must be there.
fn opened(path: &Path) -> Result<Box<dyn Disk>, BackupError> {
    match Real::open(path) {
        Ok(disk) => Ok(Box::new(disk)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(BackupError::Missing { place: path.display().to_string() })
        }
        Err(error) => Err(at(path, &error)),
    }
}

fn at(path: &Path, error: &io::Error) -> BackupError {
    BackupError::Io { detail: format!("{}: {error}", path.display()) }
}

/// The name of the copy of a segment.
fn copy_name(number: u64) -> String {
    format!("backup-{number:012}.seg")
}

/// Counter of bytes, which tells the caller.
struct ByteCount<'a> {
    count: BackupProgress,
    told: &'a mut dyn FnMut(BackupProgress) -> ControlFlow<()>,
}

impl ByteCount<'_> {
    fn add(&mut self, bytes: u64) -> Result<(), BackupError> {
        self.count.bytes_done += bytes;
        match (self.told)(self.count) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(BackupError::Stopped),
        }
    }
}
