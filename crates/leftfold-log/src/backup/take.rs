//! Copying what is new into a backup.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use leftfold_core::store::{Hash, Identity};

use super::manifest::{BackedUpSegment, BackupManifest};
use super::{BackedUp, BackupError, BackupProgress, ByteCount, Segments, copy_name};
use crate::disk::{Disk, File, Lock};
use crate::format::{SegmentHeader, segment_name};
use crate::segments::scan::{ChainState, Groups};
use crate::segments::segment::place;

/// The name of the file that is locked while a backup is made.
const LOCK: &str = "backup.lock";
/// Bytes that are copied at once.
const COPIED_AT_ONCE: usize = 1 << 20;
/// Segments after which the backup is completed up to there.
const SEGMENTS_AT_ONCE: usize = 16;

/// Segment with its durable length.
pub(super) type SegmentExtent = (SegmentHeader, u64);

/// Backs up the segments of a log, as far as they are durable now.
pub(super) fn backup(
    identity: Identity,
    segments: &Arc<Segments>,
    to: &dyn Disk,
    progress: &mut dyn FnMut(BackupProgress) -> ControlFlow<()>,
) -> Result<BackedUp, BackupError> {
    let _lock = lock(to)?;
    let extents = segments.extents()?;
    let before = manifest(to, identity)?;
    check_history(to, before.as_ref(), &extents)?;
    // Of the last one more may be there by now.
    let done = before.map_or_else(Vec::new, |before| before.segments);
    let from = done.len().saturating_sub(1);
    let bytes = extents[from..].iter().map(|(_, bytes)| bytes).sum::<u64>();
    let bytes = bytes - done.last().map_or(0, |last| last.bytes.min(bytes));
    let mut count = ByteCount { count: BackupProgress { bytes_done: 0, bytes }, told: progress };
    let mut kept = done[..from].to_vec();
    let mut head = leftfold_core::store::Head::EMPTY;
    for (index, (header, bytes)) in extents.iter().enumerate().skip(from) {
        let source = segments.file(header.number)?;
        let chain = checked(&source, header, *bytes)?;
        if let Some((next, _)) = extents.get(index + 1)
            && !next.follows_hash(chain.hash, header)
        {
            let (place, detail) = (place(next.number, 0), "it does not follow".to_owned());
            return Err(BackupError::SourceDamaged { place, detail });
        }
        head = chain.head();
        kept.push(copied(to, (header, *bytes), &*source, done.get(index), &mut count)?);
        if (index + 1) % SEGMENTS_AT_ONCE == 0 || index + 1 == extents.len() {
            let identity = Identity { store: header.store, epoch: header.epoch };
            to.sync_names()?;
            BackupManifest { identity, head, segments: kept.clone() }.replace(to)?;
        }
    }
    Ok(BackedUp {
        identity,
        head,
        segments: kept.len() as u64,
        copied_bytes: count.count.bytes_done,
    })
}

/// Takes the lock of a backup.
pub(super) fn lock(to: &dyn Disk) -> Result<Box<dyn Lock>, BackupError> {
    to.lock(LOCK).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => BackupError::InUse { place: to.place() },
        _ => error.into(),
    })
}

/// The manifest of the backup that is there, of this store.
pub(super) fn manifest(
    to: &dyn Disk,
    identity: Identity,
) -> Result<Option<BackupManifest>, BackupError> {
    let Some(manifest) = BackupManifest::read(to)? else {
        let ours = |name: &String| name.starts_with("backup") || name.ends_with(".tmp");
        return match to.names()?.into_iter().find(|name| !ours(name)) {
            Some(file) => Err(BackupError::Foreign { place: to.place(), file }),
            None => Ok(None),
        };
    };
    let found = manifest.identity.store;
    if found != identity.store {
        let (place, expected) = (to.place(), identity.store);
        return Err(BackupError::OtherStore { place, expected, found });
    }
    Ok(Some(manifest))
}

/// Checks that the log goes on from what was backed up: each segment begins with the same chain,
/// which stands for everything before it, and is as long; the last one may be longer now.
fn check_history(
    to: &dyn Disk,
    before: Option<&BackupManifest>,
    extents: &[SegmentExtent],
) -> Result<(), BackupError> {
    let Some(before) = before else { return Ok(()) };
    for (index, kept) in before.segments.iter().enumerate() {
        let is_last = index + 1 == before.segments.len();
        let same = extents.get(index).is_some_and(|(header, bytes)| {
            let goes_on = is_last && *bytes >= kept.bytes || *bytes == kept.bytes;
            header.number == kept.number && header.hash == kept.chain && goes_on
        });
        if !same {
            return Err(other_history(to, kept.number));
        }
    }
    Ok(())
}

pub(super) fn other_history(to: &dyn Disk, number: u64) -> BackupError {
    BackupError::OtherHistory { place: to.place(), segment: segment_name(number) }
}

/// Checks every group of a segment up to its durable end. Returns the chain there.
pub(super) fn checked(
    file: &Arc<dyn File>,
    header: &SegmentHeader,
    bytes: u64,
) -> Result<ChainState, BackupError> {
    let mut groups = Groups::of(Arc::clone(file), header)?;
    let (mut chain, mut offset) = (ChainState::before(header), header.bytes());
    while offset < bytes {
        let damaged = |fault: &dyn std::fmt::Display| BackupError::SourceDamaged {
            place: place(header.number, offset),
            detail: fault.to_string(),
        };
        let group = groups.at(offset, Some(&chain))?.valid_or(|fault| damaged(&fault))?;
        (chain, offset) = (group.chain(), group.end());
    }
    if offset == bytes {
        return Ok(chain);
    }
    let (place, detail) = (place(header.number, bytes), "a group ends behind it".to_owned());
    Err(BackupError::SourceDamaged { place, detail })
}

/// Copies a segment, or what is new of it. What was copied before is compared with the log: it may
/// be another one from some place on, and the copy may have changed.
fn copied(
    to: &dyn Disk,
    (header, bytes): (&SegmentHeader, u64),
    source: &dyn File,
    before: Option<&BackedUpSegment>,
    count: &mut ByteCount<'_>,
) -> Result<BackedUpSegment, BackupError> {
    let name = copy_name(header.number);
    let target = match to.open(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => to.create(&name)?,
        opened => opened?,
    };
    let mut hasher = blake3::Hasher::new();
    let mut offset = 0;
    if let Some(before) = before {
        hash_of(source, before.bytes, &mut hasher)?;
        if digest(&hasher) != before.digest {
            return Err(other_history(to, header.number));
        }
        let mut copy = blake3::Hasher::new();
        let is_whole = target.len()? >= before.bytes
            && hash_of(&*target, before.bytes, &mut copy).is_ok()
            && digest(&copy) == before.digest;
        if is_whole {
            offset = before.bytes;
        } else {
            hasher.reset();
        }
    }
    let mut buffer = vec![0; COPIED_AT_ONCE];
    while offset < bytes {
        let part = &mut buffer[..(bytes - offset).min(COPIED_AT_ONCE as u64) as usize];
        source.read_exact_at(part, offset)?;
        target.write_all_at(part, offset)?;
        hasher.update(part);
        offset += part.len() as u64;
        count.add(part.len() as u64)?;
    }
    // An interrupted backup may have copied more.
    if target.len()? > bytes {
        target.set_len(bytes)?;
    }
    target.sync()?;
    let digest = digest(&hasher);
    Ok(BackedUpSegment { number: header.number, bytes, chain: header.hash, digest })
}

pub(super) fn digest(hasher: &blake3::Hasher) -> Hash {
    Hash(*hasher.finalize().as_bytes())
}

pub(super) fn hash_of(file: &dyn File, bytes: u64, hasher: &mut blake3::Hasher) -> io::Result<()> {
    let mut buffer = vec![0; COPIED_AT_ONCE];
    let mut offset = 0;
    while offset < bytes {
        let part = &mut buffer[..(bytes - offset).min(COPIED_AT_ONCE as u64) as usize];
        file.read_exact_at(part, offset)?;
        hasher.update(part);
        offset += part.len() as u64;
    }
    Ok(())
}
