//! Check of a whole log: every group, the chain, every record, and the index against
//! them.

use std::io;
use std::path::Path;
use std::sync::Arc;

use leftfold_core::store::{Direction, Hash, Head, Identity, Position, StreamName};

use crate::disk::{Disk, Overlay};
use crate::format::{EventView, NO_TIME, SegmentHeader, segment_name};
use crate::index::{Index, IndexError, PostingKey};
use crate::open::contents::{LOCK, headers, refuse_foreign, refuse_unfinished};
use crate::open::directory::directory;
use crate::open::error::{Cut, LogOpenError};
use crate::open::recover::{end_of_log, recover};
use crate::options::{Existing, Options};
use crate::segments::scan::{ChainState, Group, GroupScan, Groups, Record, address};
use crate::write::fences::FENCES_KEY;

/// Result of verifying a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedLog {
    /// Identity of the store.
    pub identity: Identity,
    /// Its durable end, or the last group before the damage.
    pub head: Head,
    /// True if the last group is a seal.
    pub closed_cleanly: bool,
    /// Segments that were gone through.
    pub segments: u64,
    /// Groups that were gone through.
    pub groups: u64,
    /// Events that were gone through.
    pub events: u64,
    /// Command records that were gone through.
    pub commands: u64,
    /// Checkpoint records that were gone through.
    pub checkpoints: u64,
    /// Bytes behind the last group, which were never acknowledged: opening the log cuts them off.
    /// `None` if there are none.
    pub tail: Option<Cut>,
    /// The first damage, if there is any.
    pub damage: Option<Damage>,
    /// The first place where the index says something else than the log. Delete the index, and
    /// opening the log rebuilds it.
    pub index_damage: Option<Damage>,
}

impl VerifiedLog {
    /// Tells whether neither log nor index is damaged.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.damage.is_none() && self.index_damage.is_none()
    }
}

/// Something that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {detail}")]
pub struct Damage {
    /// File and byte of the damage.
    pub place: String,
    /// Description of the damage.
    pub detail: String,
}

/// Verifies the log in a directory, which no process has open. It changes nothing.
///
/// ```
/// use leftfold_core::store::Store;
/// use leftfold_log::{Log, Options, verify};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// # let directory = place.path().join("events");
/// # Store::new(Log::open(&directory, Options::default())?.0).close().await?;
/// let verified = verify(&directory)?;
/// assert!(verified.is_sound(), "{:?} {:?}", verified.damage, verified.index_damage);
/// println!("{} events in {} segments", verified.events, verified.segments);
/// # Ok(()) }
/// ```
pub fn verify(path: impl AsRef<Path>) -> Result<VerifiedLog, LogOpenError> {
    verify_on(directory(path.as_ref(), Existing::Only)?)
}

/// The same, on any disk.
pub fn verify_on(disk: Arc<dyn Disk>) -> Result<VerifiedLog, LogOpenError> {
    let _lock = lock_if_writable(&*disk)?;
    let over: Arc<dyn Disk> = Arc::new(Overlay::over(disk));
    let options = Options { open: Existing::Only, ..Options::default() };
    let mut verified = walk(&over, &options, &mut |_| Ok(()))?;
    if verified.damage.is_none() {
        verified.index_damage = index_damage(&over, &options)?;
    }
    Ok(verified)
}

/// Takes the lock, so that no process writes meanwhile; `None` if the directory cannot be written,
/// for then no process can. In a foreign directory no lock is created.
pub(crate) fn lock_if_writable(
    disk: &dyn Disk,
) -> Result<Option<Box<dyn crate::disk::Lock>>, LogOpenError> {
    let names = disk.names()?;
    refuse_unfinished(disk, &names)?;
    refuse_foreign(disk, &names)?;
    match disk.lock(LOCK) {
        Ok(lock) => Ok(Some(lock)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock => Err(LogOpenError::InUse { place: disk.place() }),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Ok(None),
            _ => Err(LogOpenError::io(&error)),
        },
    }
}

/// One thing that a walk over a log comes by.
pub(crate) enum LogPart<'a> {
    Segment(&'a SegmentHeader),
    Group(u64, &'a Group<'a>),
}

impl VerifiedLog {
    fn count(&mut self, group: &Group<'_>) {
        self.groups += 1;
        for record in group.records().flatten() {
            match record.1 {
                Record::Event(_) => self.events += 1,
                Record::Command(_) => self.commands += 1,
                Record::Checkpoint(_) => self.checkpoints += 1,
                Record::Fences(_) | Record::Skipped => {}
            }
        }
    }
}

/// Goes through all groups from the first on, until the end or the first damage.
pub(crate) fn walk(
    disk: &Arc<dyn Disk>,
    options: &Options,
    visit: &mut dyn FnMut(LogPart<'_>) -> Result<(), LogOpenError>,
) -> Result<VerifiedLog, LogOpenError> {
    let headers = headers(disk, options)?;
    // A log that is there has a first segment.
    let last = headers[headers.len() - 1];
    let mut chain = ChainState { next: Position(1), hash: Hash::EMPTY, recorded_at: NO_TIME };
    let mut verified = VerifiedLog {
        identity: Identity { store: last.store, epoch: last.epoch },
        head: Head::EMPTY,
        closed_cleanly: false,
        segments: 0,
        groups: 0,
        events: 0,
        commands: 0,
        checkpoints: 0,
        tail: None,
        damage: None,
        index_damage: None,
    };
    for (index, header) in headers.iter().enumerate() {
        visit(LogPart::Segment(header))?;
        verified.segments += 1;
        // An epoch begins with its identity in the chain, and each segment follows from the one
        // before.
        let begins = index == 0 || headers[index - 1].epoch != header.epoch;
        if begins {
            chain.hash = SegmentHeader::epoch_hash(chain.hash, header.store, &header.epoch);
        }
        if ChainState::before(header) != chain {
            verified.damage =
                Some(damage(header.number, 0, "the segment does not follow from the one before"));
            break;
        }
        let mut groups = Groups::of(disk.open(&segment_name(header.number))?, header)?;
        let mut offset = header.bytes();
        while offset < groups.len() {
            match groups.at(offset, Some(&chain))? {
                GroupScan::Valid(group) => {
                    visit(LogPart::Group(header.number, &group))?;
                    verified.count(&group);
                    (chain, offset) = (group.chain(), group.end());
                    verified.closed_cleanly = group.is_seal();
                }
                // In the last segment it may be a write that was never finished: no damage.
                GroupScan::Invalid(fault) if header.number == last.number => {
                    match end_of_log(&mut groups, header.number, offset, &chain, fault) {
                        Ok(tail) => verified.tail = tail,
                        Err(LogOpenError::Damaged { place, detail }) => {
                            verified.damage = Some(Damage { place, detail })
                        }
                        Err(other) => return Err(other),
                    }
                    break;
                }
                GroupScan::Invalid(fault) => {
                    verified.damage = Some(damage(header.number, offset, &fault.to_string()));
                    break;
                }
            }
        }
        if verified.damage.is_some() {
            break;
        }
    }
    verified.head = chain.head();
    Ok(verified)
}

fn damage(number: u64, offset: u64, detail: &str) -> Damage {
    Damage { place: crate::segments::segment::place(number, offset), detail: detail.to_owned() }
}

/// Brings the index up to date in memory, and asks it for everything that the log holds.
fn index_damage(disk: &Arc<dyn Disk>, options: &Options) -> Result<Option<Damage>, LogOpenError> {
    let recovered = match recover(disk, options, crate::write::tail::OpenPurpose::Verify) {
        Ok(recovered) => recovered,
        Err(LogOpenError::Damaged { place, detail }) => return Ok(Some(Damage { place, detail })),
        Err(other) => return Err(other),
    };
    let head = recovered.report.head.position;
    let mut found = None;
    walk(disk, options, &mut |step| {
        if let (LogPart::Group(number, group), None) = (step, &found) {
            found = compare(&recovered.index, head, number, group);
        }
        Ok(())
    })?;
    Ok(found)
}

fn compare(index: &Index, head: Position, number: u64, group: &Group<'_>) -> Option<Damage> {
    let mut position = group.header.first;
    for (offset, record) in group.records().flatten() {
        let checked = match record {
            Record::Event(event) => {
                let checked = compare_event(index, head, position, &event);
                position = position.next();
                checked
            }
            Record::Command(command) => index.command(&command.id).map(|found| {
                // Of one id there is one record.
                (found != Some(address(number, offset)))
                    .then(|| "the index does not find the command".to_owned())
            }),
            Record::Checkpoint(record) => index.checkpoint(record.key().as_bytes()).map(|found| {
                (found < Some(address(number, offset)))
                    .then(|| "the index has an older checkpoint".to_owned())
            }),
            Record::Fences(_) => index.checkpoint(FENCES_KEY).map(|found| {
                (found < Some(address(number, offset)))
                    .then(|| "the index has an older record of fences".to_owned())
            }),
            Record::Skipped => Ok(None),
        };
        match checked {
            Ok(None) => {}
            Ok(Some(detail)) => return Some(damage(number, offset, &detail)),
            Err(error) => return Some(damage(number, offset, &error.to_string())),
        }
    }
    None
}

fn compare_event(
    index: &Index,
    head: Position,
    position: Position,
    event: &EventView<'_>,
) -> Result<Option<String>, IndexError> {
    if let Some((stream, version)) = event.stream
        && index.position_of(stream, version)? != Some(position)
    {
        return Ok(Some(format!("the index does not find version {version} of stream {stream}")));
    }
    let category = event.stream.and_then(|(stream, _)| StreamName::new(stream.to_owned()).ok());
    let keys = [PostingKey::Type(event.event_type)]
        .into_iter()
        .chain(category.as_ref().map(|stream| PostingKey::Category(stream.category())))
        .chain(event.tags().map(PostingKey::Tag))
        .chain(event.id.as_ref().map(PostingKey::EventId));
    for key in keys {
        let found = index.postings(key, position, Direction::Forwards, head).next().transpose()?;
        if found != Some(position) {
            return Ok(Some(format!("the index does not find position {position} under {key:?}")));
        }
    }
    Ok(None)
}
