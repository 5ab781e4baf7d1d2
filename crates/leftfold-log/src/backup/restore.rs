//! Bringing a backup back.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use super::manifest::{BackedUpSegment, BackupManifest};
use super::take::digest;
use super::{BackupError, BackupProgress, ByteCount, copy_name, made, opened};
use crate::disk::Disk;
use crate::format::{segment_name, segment_number};
use crate::open::contents::{LOCK, UNFINISHED};
use crate::open::error::LogOpenError;
use crate::open::verify::SegmentWalk;
use crate::open::{Restored, declare};
use crate::options::{Existing, Options};

const COPIED_AT_ONCE: usize = 1 << 20;

/// Makes the log of a backup in a directory that is empty, or is not there, and declares it
/// restored: a new epoch begins, by which consumers notice that they may have seen more than is
/// there now.
///
/// Everything is checked: the hashes of the backup, and the chain of the log up to its end. Until
/// that is done the directory is refused as [`LogOpenError::Unfinished`]; if it was interrupted,
/// call it again, and it begins anew. The backup is only read.
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
    clear(&*log)?;
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
    let restored = declare(&log, options)?;
    log.remove(UNFINISHED)?;
    log.sync_names()?;
    Ok(restored)
}

/// Begins in an empty directory, or anew in one where it was interrupted.
fn clear(log: &dyn Disk) -> Result<(), BackupError> {
    let names = log.names()?;
    if !names.iter().any(|name| name == UNFINISHED) {
        if names.iter().any(|name| segment_number(name).is_some()) {
            return Err(LogOpenError::AlreadyThere { place: log.place() }.into());
        }
        let foreign = |name: &&String| *name != LOCK && !name.ends_with(".tmp");
        if let Some(file) = names.iter().find(foreign) {
            let file = file.clone();
            return Err(LogOpenError::Foreign { place: log.place(), file }.into());
        }
        log.create(UNFINISHED)?.sync()?;
        log.sync_names()?;
    }
    for name in names.iter().filter(|name| *name != UNFINISHED && *name != LOCK) {
        log.remove(name)?;
    }
    log.sync_names()?;
    Ok(())
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
