//! Bringing a backup back.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::manifest::{BackedUpSegment, BackupManifest};
use super::take::digest;
use super::{BackupError, BackupProgress, ByteCount, copy_name, made, opened};
use crate::disk::{Disk, Lock};
use crate::format::{segment_name, segment_number};
use crate::open::contents::{LOCK, UNFINISHED, is_derived};
use crate::open::directory::lock_of;
use crate::open::error::LogOpenError;
use crate::open::verify::SegmentWalk;
use crate::open::{Restored, declare_locked};
use crate::options::{Existing, Options};

const COPIED_AT_ONCE: usize = 1 << 20;

/// Makes the log of a backup in a directory that is empty, or is not there, and declares it
/// restored: a new epoch begins, by which consumers notice that they may have seen more than is
/// there now.
///
/// Everything is checked: the hashes of the backup, and the chain of the log up to its end. Until
/// that is done the directory is refused as [`LogOpenError::Unfinished`]; if it was interrupted,
/// call it again, and it begins anew; while one is under way another one is refused as
/// [`LogOpenError::InUse`]. The backup is only read.
///
/// Keys of personal data are in a directory of their own and come back from a backup of their own.
pub fn restore_backup(
    backup: impl AsRef<Path>,
    log: impl AsRef<Path>,
    options: Options,
    progress: &mut dyn FnMut(BackupProgress) -> ControlFlow<()>,
) -> Result<Restored, BackupError> {
    let from = opened(backup.as_ref())?;
    // Nothing is made where there is nothing to bring back.
    BackupManifest::read(&*from)?.ok_or_else(|| BackupError::Missing { place: from.place() })?;
    restore_backup_on(&*from, Arc::from(made(log.as_ref())?), options, progress)
}

/// The same, on any disks.
pub fn restore_backup_on(
    backup: &dyn Disk,
    log: Arc<dyn Disk>,
    options: Options,
    progress: &mut dyn FnMut(BackupProgress) -> ControlFlow<()>,
) -> Result<Restored, BackupError> {
    let manifest = BackupManifest::read(backup)?
        .ok_or_else(|| BackupError::Missing { place: backup.place() })?;
    let lock = clear(&*log)?;
    let bytes = manifest.segments.iter().map(|segment| segment.bytes).sum();
    let mut count = ByteCount { count: BackupProgress { bytes_done: 0, bytes }, told: progress };
    for segment in &manifest.segments {
        copy_back(backup, &*log, segment, &mut count)?;
    }
    log.sync_names()?;
    let walked = Options { open: Existing::Only, ..options.clone() };
    let verified =
        SegmentWalk::over(&log, &walked)?.visit_groups(&mut |_| Ok::<_, LogOpenError>(()))?;
    if let Some(damage) = verified.damage {
        return Err(BackupError::damaged(&damage.place, &damage.detail));
    }
    if verified.head != manifest.head || verified.identity != manifest.identity {
        return Err(BackupError::damaged(&backup.place(), &"it ends elsewhere than it says"));
    }
    let restored = declare_locked(&log, options, &*lock)?;
    log.remove(UNFINISHED)?;
    log.sync_names()?;
    Ok(restored)
}

/// Begins in an empty directory, or anew in one where it was interrupted. Returns the lock of the
/// directory, without which a second restore would take the files of the first away.
fn clear(log: &dyn Disk) -> Result<Box<dyn Lock>, BackupError> {
    // In a directory of others not even the lock is made.
    refuse_others(log, &log.names()?)?;
    let lock = lock_of(log)?;
    let names = log.names()?;
    refuse_others(log, &names)?;
    if !names.iter().any(|name| name == UNFINISHED) {
        log.create(UNFINISHED)?.sync()?;
        log.sync_names()?;
    }
    for name in names.iter().filter(|name| *name != UNFINISHED && *name != LOCK) {
        log.remove(name)?;
    }
    log.sync_names()?;
    Ok(lock)
}

/// Refuses a directory with a log, or with files of anything else.
fn refuse_others(log: &dyn Disk, names: &[String]) -> Result<(), LogOpenError> {
    if names.iter().any(|name| name == UNFINISHED) {
        return Ok(());
    }
    if names.iter().any(|name| segment_number(name).is_some()) {
        return Err(LogOpenError::AlreadyThere { place: log.place() });
    }
    let foreign = |name: &&String| *name != LOCK && !is_half_made(name);
    match names.iter().find(foreign) {
        Some(file) => Err(LogOpenError::Foreign { place: log.place(), file: file.clone() }),
        None => Ok(()),
    }
}

/// Tells whether it is a file of a log whose writer ended while it made it.
fn is_half_made(name: &str) -> bool {
    let made = name.strip_suffix(".tmp");
    made.is_some_and(|name| segment_number(name).is_some() || is_derived(name))
}

fn copy_back(
    backup: &dyn Disk,
    log: &dyn Disk,
    segment: &BackedUpSegment,
    count: &mut ByteCount<'_>,
) -> Result<(), BackupError> {
    let name = copy_name(segment.number);
    let source = match backup.open(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::damaged(&name, &"the file is missing"));
        }
        opened => opened?,
    };
    let found = source.len()?;
    if found < segment.bytes {
        let detail = format!("it has {found} bytes, and had {}", segment.bytes);
        return Err(BackupError::damaged(&name, &detail));
    }
    let target = log.create(&segment_name(segment.number))?;
    let (mut hasher, mut offset) = (blake3::Hasher::new(), 0);
    let mut buffer = vec![0; COPIED_AT_ONCE];
    while offset < segment.bytes {
        let part = &mut buffer[..(segment.bytes - offset).min(COPIED_AT_ONCE as u64) as usize];
        source.read_exact_at(part, offset)?;
        hasher.update(part);
        target.write_all_at(part, offset)?;
        offset += part.len() as u64;
        count.add(part.len() as u64)?;
    }
    if digest(&hasher) != segment.digest {
        return Err(BackupError::damaged(&name, &"its hash is not that of the manifest"));
    }
    target.sync()?;
    Ok(())
}
