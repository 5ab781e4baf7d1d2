//! Moving sealed segments to another directory, from where they are read on.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use leftfold_core::store::{Kind, ReadError};

use crate::disk::{ARCHIVE, Disk, Real, archive_name};
use crate::format::{SegmentHeader, segment_name};
use crate::log::Log;
use crate::segments::scan::{ChainState, Groups};

/// Bytes that are copied at once.
const COPIED_AT_ONCE: usize = 1 << 20;

/// Report of moving segments to an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveReport {
    /// Segments that are in the archive now.
    pub archived: u64,
    /// Segments that are in the directory of the log.
    pub kept: u64,
    /// Bytes that this call moved.
    pub moved_bytes: u64,
}

/// Error of moving segments to an archive. Every segment is in the directory of the log or in the
/// archive, whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The log has another archive.
    #[error("the log has its archive in {found}, give that one")]
    OtherArchive {
        /// The archive that it has.
        found: String,
    },
    /// The path of the archive cannot stand in a file.
    #[error("the path {path} is no text of one line, give another directory")]
    Path {
        /// The path, as far as it is text.
        path: String,
    },
    /// A segment of another log is in the archive.
    #[error("{archive} holds {segment} of another log, give a directory of its own")]
    Foreign {
        /// The archive.
        archive: String,
        /// Name of the segment.
        segment: String,
    },
    /// A segment is damaged, and stays where it is.
    #[error("{segment} is damaged at byte {offset}: {detail}; it is not moved")]
    Damaged {
        /// Name of the segment.
        segment: String,
        /// Byte of the damage.
        offset: u64,
        /// Description of the damage.
        detail: String,
    },
    /// The log was opened to be read only, or it is closed.
    #[error("only who writes the log moves its segments: {detail}")]
    ReadOnly {
        /// Reason, for people.
        detail: String,
    },
    /// The caller asked for the end.
    #[error("the caller ended it, call it again to go on")]
    Stopped,
    /// The system refused.
    #[error("segments cannot be moved, fix the disk and call it again: {detail}")]
    Io {
        /// Message of the system.
        detail: String,
    },
}

impl ArchiveError {
    /// Returns the kind of the error.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::OtherArchive { .. } | Self::Foreign { .. } => Kind::Conflict,
            Self::Path { .. } => Kind::Invalid,
            Self::Damaged { .. } => Kind::Bug,
            Self::ReadOnly { .. } | Self::Stopped | Self::Io { .. } => Kind::Unavailable,
        }
    }
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        Self::Io { detail: error.to_string() }
    }
}

impl From<ReadError> for ArchiveError {
    fn from(error: ReadError) -> Self {
        Self::Io { detail: error.to_string() }
    }
}

impl Log {
    /// Moves sealed segments to a directory, on a larger and slower disk, say, but for the last
    /// `keep` of them and the one that is written. They are read from there on, by this log, by
    /// followers and by every later opening; the file `archive` names the directory, which can be
    /// another one later if its files are moved and the path in that file is corrected.
    ///
    /// A segment is checked and copied, durably, before it is removed; so this may be interrupted
    /// at any moment and called again. It works on the thread of the caller, and holds up neither
    /// the writer nor readers. `progress` is told of each segment that was moved, and may end it.
    ///
    /// A backup of the log has its archived segments too.
    pub fn archive(
        &self,
        archive: impl AsRef<Path>,
        keep: usize,
        progress: &mut dyn FnMut(ArchiveReport) -> ControlFlow<()>,
    ) -> Result<ArchiveReport, ArchiveError> {
        let path = std::path::absolute(archive.as_ref())?;
        let shown = || ArchiveError::Path { path: path.display().to_string() };
        let name = path.to_str().filter(|name| !name.contains(['\n', '\r'])).ok_or_else(shown)?;
        let disk = Real::create(&path)?;
        self.archive_on(name, &disk, keep, progress)
    }

    /// The same, on any disk, which the log finds by that name: see
    /// [`WithArchive`](crate::disk::WithArchive).
    pub fn archive_on(
        &self,
        name: &str,
        archive: &dyn Disk,
        keep: usize,
        progress: &mut dyn FnMut(ArchiveReport) -> ControlFlow<()>,
    ) -> Result<ArchiveReport, ArchiveError> {
        if let Some(detail) = self.why_read_only() {
            return Err(ArchiveError::ReadOnly { detail });
        }
        let segments = self.segments();
        let disk = segments.disk();
        name_archive(disk, name)?;
        let extents = segments.extents()?;
        let moved = extents.len().saturating_sub(1 + keep);
        let mut report = ArchiveReport { archived: 0, kept: extents.len() as u64, moved_bytes: 0 };
        for (header, bytes) in &extents[..moved] {
            let here = segment_name(header.number);
            let copied = copy(disk, archive, header, *bytes)?;
            match disk.remove(&here) {
                Ok(()) => {
                    disk.sync_names()?;
                    segments.forget_file(header.number);
                    report.moved_bytes += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound && !copied => {}
                Err(error) => return Err(error.into()),
            }
            report.archived += 1;
            report.kept -= 1;
            if progress(report).is_break() {
                return Err(ArchiveError::Stopped);
            }
        }
        Ok(report)
    }
}

/// Names the archive in the directory of the log, durably, before anything is moved there.
fn name_archive(disk: &dyn Disk, name: &str) -> Result<(), ArchiveError> {
    match archive_name(disk)? {
        Some(found) if found == name => return Ok(()),
        Some(found) => return Err(ArchiveError::OtherArchive { found }),
        None => {}
    }
    let temporary = format!("{ARCHIVE}.tmp");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let file = disk.create(&temporary)?;
    file.write_all_at(format!("{name}\n").as_bytes(), 0)?;
    file.sync()?;
    disk.rename(&temporary, ARCHIVE)?;
    Ok(disk.sync_names()?)
}

/// Copies a segment into the archive, durably. Returns false if it was there already.
fn copy(
    disk: &dyn Disk,
    archive: &dyn Disk,
    header: &SegmentHeader,
    bytes: u64,
) -> Result<bool, ArchiveError> {
    let name = segment_name(header.number);
    match archive.open(&name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => {
            let there = opened?;
            let same = crate::open::contents::header(&*there, header.number)
                .is_ok_and(|found| found == *header)
                && there.len()? == bytes;
            return if same {
                Ok(false)
            } else {
                Err(ArchiveError::Foreign { archive: archive.place(), segment: name })
            };
        }
    }
    let source = disk.open(&name)?;
    check(disk, header, bytes)?;
    let temporary = format!("{name}.tmp");
    match archive.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let target = archive.create(&temporary)?;
    let (mut buffer, mut offset) = (vec![0; COPIED_AT_ONCE], 0);
    while offset < bytes {
        let part = &mut buffer[..(bytes - offset).min(COPIED_AT_ONCE as u64) as usize];
        source.read_exact_at(part, offset)?;
        target.write_all_at(part, offset)?;
        offset += part.len() as u64;
    }
    target.sync()?;
    archive.rename(&temporary, &name)?;
    archive.sync_names()?;
    Ok(true)
}

/// Checks every group of a segment.
fn check(disk: &dyn Disk, header: &SegmentHeader, bytes: u64) -> Result<(), ArchiveError> {
    let segment = segment_name(header.number);
    let mut groups = Groups::of(disk.open(&segment)?, header)?;
    let (mut chain, mut offset) = (ChainState::before(header), header.bytes());
    while offset < bytes {
        let damaged = |fault: crate::segments::scan::GroupFault| ArchiveError::Damaged {
            segment: segment.clone(),
            offset,
            detail: fault.to_string(),
        };
        let group = groups.at(offset, Some(&chain))?.valid_or(damaged)?;
        (chain, offset) = (group.chain(), group.end());
    }
    Ok(())
}
