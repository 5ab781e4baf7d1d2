//! The contents of a directory: a log, the remains of one, something else, or nothing.
//!
//! If any file here is a sign of history, a missing or unreadable part is damage, and is named: no
//! error advises to begin elsewhere, and no new log is begun in its place.

use std::io;
use std::sync::Arc;

use leftfold_core::store::{Epoch, Hash, Position, StoreId};

use crate::disk::{Disk, File};
use crate::format::{
    Binding, MARK, NO_TIME, SegmentHeader, offsets_number, segment_name, segment_number,
};
use crate::index;
use crate::open::doubt::{self, LogTimes};
use crate::open::error::LogOpenError;
use crate::options::{Existing, Options};
use crate::write::tail::begin_segment;

/// The name of the file that is locked while the log is open.
pub(crate) const LOCK: &str = "lock";

/// The name of a file that is there while a backup is brought back.
pub(crate) const UNFINISHED: &str = "restore-unfinished";

/// Refuses a directory into which a backup was not brought back completely.
pub(crate) fn refuse_unfinished(disk: &dyn Disk, names: &[String]) -> Result<(), LogOpenError> {
    if names.iter().any(|name| name == UNFINISHED) {
        return Err(LogOpenError::Unfinished { place: disk.place() });
    }
    Ok(())
}

/// The headers of all segments, in order, of a log that is there or is begun.
pub(crate) fn headers(
    disk: &Arc<dyn Disk>,
    options: &Options,
) -> Result<Vec<SegmentHeader>, LogOpenError> {
    let names = disk.names()?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    if numbers.is_empty() {
        refuse_foreign(&**disk, &names)?;
        return create(disk, options).map(|header| vec![header]);
    }
    if let Some((index, _)) =
        numbers.iter().enumerate().find(|(index, number)| **number != *index as u64 + 1)
    {
        return Err(missing(&**disk, &names, index as u64 + 1, "segments behind it are there"));
    }
    let mut headers: Vec<SegmentHeader> = Vec::with_capacity(numbers.len());
    let mut length_before = 0;
    for number in numbers {
        let file = disk.open(&segment_name(number))?;
        let header = header(&*file, number)?;
        if header.number != number {
            let detail = format!(
                "its header is that of segment {}, so it was renamed or replaced",
                header.number
            );
            return Err(LogOpenError::damaged(number, 0, &detail));
        }
        let follows = headers.last().is_none_or(|before| follows(before, &header));
        if !follows || u64::from(header.length_before) != length_before {
            return Err(LogOpenError::damaged(
                number,
                0,
                &"the segment does not follow from the one before",
            ));
        }
        length_before = file.len()?;
        headers.push(header);
    }
    refuse_lost_end(&**disk, &names, &headers)?;
    if options.open == Existing::Never {
        return Err(LogOpenError::AlreadyThere { place: disk.place() });
    }
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        match disk.remove(name) {
            // A reader meets a writer that had just made it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(headers)
}

/// Begins a log in a directory.
fn create(disk: &Arc<dyn Disk>, options: &Options) -> Result<SegmentHeader, LogOpenError> {
    if options.open == Existing::Only {
        return Err(LogOpenError::Missing { place: disk.place() });
    }
    doubt::judge(options, LogTimes::NONE).map_err(LogOpenError::ClockDoubtful)?;
    let (store, epoch) = (StoreId::random(), Epoch::first());
    let header = SegmentHeader {
        store,
        epoch,
        length_before: 0,
        number: 1,
        first: Position(1),
        hash: SegmentHeader::epoch_hash(Hash::EMPTY, store, &epoch),
        recorded_at: NO_TIME,
        binding: Binding::draw(),
    };
    begin_segment(&**disk, &header)?;
    Ok(header)
}

/// Refuses a directory without a log that holds other files: it belongs to another program. A
/// directory that holds the remains of a log is damaged.
pub(crate) fn refuse_foreign(disk: &dyn Disk, names: &[String]) -> Result<(), LogOpenError> {
    if names.iter().any(|name| segment_number(name).is_some()) {
        return Ok(());
    }
    if let Some(derived) = names.iter().find(|name| is_derived(name)) {
        return Err(missing(
            disk,
            names,
            1,
            &format!("{derived} is there, which was made from it"),
        ));
    }
    if let Some((name, header)) = names.iter().find_map(|name| renamed(disk, name)) {
        return Err(missing(disk, names, header.number, &format!("{name} is there")));
    }
    if names.iter().any(|name| name == LOCK) && has_witness(disk)? {
        return Err(missing(disk, names, 1, "a log was begun here, as the file lock says"));
    }
    match names.iter().find(|name| *name != LOCK && !name.ends_with(".tmp")) {
        Some(file) => Err(LogOpenError::Foreign { place: disk.place(), file: file.clone() }),
        None => Ok(()),
    }
}

/// Tells whether a file is made from a log, or speaks of it.
pub(crate) fn is_derived(name: &str) -> bool {
    offsets_number(name).is_some() || index::is_file(name) || name == MARK
}

/// Refuses a log whose last segments are gone, as far as other files show: their offsets, or the
/// segments themselves under other names.
fn refuse_lost_end(
    disk: &dyn Disk,
    names: &[String],
    headers: &[SegmentHeader],
) -> Result<(), LogOpenError> {
    let Some(last) = headers.last() else { return Ok(()) };
    if let Some(lost) = names
        .iter()
        .filter_map(|name| offsets_number(name))
        .filter(|number| *number > last.number)
        .min()
    {
        return Err(missing(disk, names, lost, "its offsets are there"));
    }
    let is_lost =
        |header: &SegmentHeader| header.store == last.store && header.number > last.number;
    match names.iter().filter_map(|name| renamed(disk, name)).find(|(_, header)| is_lost(header)) {
        Some((name, header)) => {
            Err(missing(disk, names, header.number, &format!("{name} is there")))
        }
        None => Ok(()),
    }
}

/// Makes the error of a segment that must be there, and is not there under its name.
fn missing(disk: &dyn Disk, names: &[String], number: u64, why: &str) -> LogOpenError {
    let name = segment_name(number);
    let is_it = |(_, header): &(&String, SegmentHeader)| header.number == number;
    let detail = match names.iter().filter_map(|name| renamed(disk, name)).find(is_it) {
        Some((other, _)) => format!(
            "the file is missing, but {other} has its header; if it was renamed, name it {name} again"
        ),
        None => format!("the file is missing, though {why}"),
    };
    LogOpenError::Damaged { place: name, detail }
}

/// Returns the header of a file that is a segment by its content, though not by its name, and that
/// has more than a header: a segment that is being created has no more.
fn renamed<'a>(disk: &dyn Disk, name: &'a String) -> Option<(&'a String, SegmentHeader)> {
    if segment_number(name).is_some() || is_derived(name) || name == LOCK {
        return None;
    }
    // What cannot be read as a file, as a directory, is none.
    let file = disk.open(name).ok()?;
    let header = header(&*file, 0).ok()?;
    (file.len().ok()? > header.bytes()).then_some((name, header))
}

/// Leaves a word in the lock file that a log was begun: so its first segment is missed even if
/// nothing else is left. It is best effort: a log opens without it.
pub(crate) fn keep_witness(disk: &dyn Disk, store: StoreId) {
    let write = || -> io::Result<()> {
        let file = match disk.open(LOCK) {
            // A disk may lock without a file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        if file.len()? == 0 {
            file.write_all_at(
                format!("This directory holds the log of the Leftfold store {store}.\n").as_bytes(),
                0,
            )?;
            file.sync()?;
        }
        Ok(())
    };
    if let Err(error) = write() {
        tracing::debug!(%error, "the file lock does not say that a log was begun");
    }
}

fn has_witness(disk: &dyn Disk) -> Result<bool, LogOpenError> {
    match disk.open(LOCK) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        opened => Ok(opened?.len()? > 0),
    }
}

/// Reads the header of a segment; an error of it names the segment by its number.
pub(crate) fn header(file: &dyn File, number: u64) -> Result<SegmentHeader, LogOpenError> {
    let mut bytes = vec![0; file.len()?.min(SegmentHeader::BYTES_MAX) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    SegmentHeader::decode(&bytes).map_err(|fault| LogOpenError::header(number, fault))
}

fn follows(before: &SegmentHeader, header: &SegmentHeader) -> bool {
    let same_epoch = header.epoch == before.epoch;
    header.store == before.store
        && header.first >= before.first
        && header.recorded_at >= before.recorded_at
        && (same_epoch || header.epoch.number == before.epoch.number.wrapping_add(1))
}
