//! Check of a whole log: every group, the chain, every record, and the index against
//! them.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use leftfold_core::store::{
    Direction, Hash, Head, Identity, Kind, Position, ReadError, StreamName,
};

use crate::disk::{Disk, File, Overlay};
use crate::follow::LogFollower;
use crate::format::{EventView, NO_TIME, SegmentHeader, segment_name};
use crate::index::{Index, IndexError, PostingKey};
use crate::log::Log;
use crate::open::contents::{LOCK, headers, refuse_foreign, refuse_unfinished};
use crate::open::directory::directory;
use crate::open::error::{Cut, LogOpenError};
use crate::open::recover::{end_of_log, recover};
use crate::options::{Existing, Options};
use crate::segments::scan::{ChainState, Group, GroupScan, Groups, Record, address};
use crate::write::fences::FENCES_KEY;

/// Bytes after which the caller is told how far it is.
const TOLD_EVERY: u64 = 1 << 20;

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

/// Error of verifying a log. A damage that was found is none: [`VerifiedLog`] tells it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogVerifyError {
    /// The log cannot be opened, or its files not be read.
    #[error(transparent)]
    Open(#[from] LogOpenError),
    /// The log is open, and cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The caller ended it.
    #[error("the caller ended it, call it again")]
    Stopped,
}

impl LogVerifyError {
    /// Returns the class that the error belongs to.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Open(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Stopped => Kind::Unavailable,
        }
    }
}

/// Progress of verifying a log. The caller goes on, or ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyProgress {
    /// Bytes that were gone through.
    pub bytes_done: u64,
    /// Bytes to go through in all: those of the log, once by themselves and once against the index.
    pub bytes: u64,
}

/// Verifies the log in a directory, while a process writes it or not. It changes nothing.
///
/// Of a log that is written meanwhile everything is verified that is durable when it begins. What
/// stands behind that may not be complete yet and is not looked at, so there is no
/// [`tail`](VerifiedLog::tail).
///
/// `progress` is told how far it is, and may end it.
///
/// ```
/// use std::ops::ControlFlow;
///
/// use leftfold_core::store::Store;
/// use leftfold_log::{Log, Options, verify};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// # let directory = place.path().join("events");
/// # Store::new(Log::open(&directory, Options::default())?.0).close().await?;
/// let verified = verify(&directory, &mut |_| ControlFlow::Continue(()))?;
/// assert!(verified.is_sound(), "{:?} {:?}", verified.damage, verified.index_damage);
/// println!("{} events in {} segments", verified.events, verified.segments);
/// # Ok(()) }
/// ```
pub fn verify(
    path: impl AsRef<Path>,
    progress: &mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
) -> Result<VerifiedLog, LogVerifyError> {
    verify_on(directory(path.as_ref(), Existing::Only)?, progress)
}

/// The same, on any disk.
pub fn verify_on(
    disk: Arc<dyn Disk>,
    progress: &mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
) -> Result<VerifiedLog, LogVerifyError> {
    let _lock = match lock_if_writable(&*disk) {
        Err(LogOpenError::InUse { .. }) => {
            return Log::open_read_only_on(disk, Options::default())?.0.verify(progress);
        }
        lock => lock?,
    };
    let over: Arc<dyn Disk> = Arc::new(Overlay::over(disk));
    let options = Options { open: Existing::Only, ..Options::default() };
    let segments = SegmentWalk::over(&over, &options)?;
    let mut count = VerifyCount::twice(segments.bytes()?, progress);
    let mut verified = segments.visit_groups(&mut |part| count.add(&part))?;
    if verified.damage.is_none() {
        verified.index_damage =
            match recover(&over, &options, crate::write::tail::OpenPurpose::Verify) {
                Ok(recovered) => {
                    let head = recovered.report.head.position;
                    index_damage(&segments, &recovered.index, head, &mut count)?
                }
                Err(LogOpenError::Damaged { place, detail }) => Some(Damage { place, detail }),
                Err(other) => return Err(other.into()),
            };
    }
    count.end();
    Ok(verified)
}

impl Log {
    /// Verifies the log while it is open, up to its durable end now: see [`verify`](fn@verify). It
    /// reads the disk on the thread of the caller, and holds up neither the writer nor readers.
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
    ) -> Result<VerifiedLog, LogVerifyError> {
        // The head first: a group is in its segment before the index and the head tell of it.
        let (head, open) = (self.shared().head(), self.segments());
        let segments = SegmentWalk {
            through: Some(head),
            segments: open
                .extents()?
                .into_iter()
                .map(|(header, end)| (header, Some(end)))
                .collect(),
            file: Box::new(|number| open.open_file(number)),
        };
        let mut count = VerifyCount::twice(segments.bytes()?, progress);
        let mut verified = segments.visit_groups(&mut |part| count.add(&part))?;
        if verified.damage.is_none() {
            let index = &self.shared().index;
            verified.index_damage = index_damage(&segments, index, head.position, &mut count)?;
        }
        count.end();
        Ok(verified)
    }
}

impl LogFollower {
    /// Verifies the log as far as this process has followed it: see [`verify`](fn@verify).
    pub fn verify(
        &self,
        progress: &mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
    ) -> Result<VerifiedLog, LogVerifyError> {
        self.opened().verify(progress)
    }
}

/// Counter of bytes, which tells the caller.
struct VerifyCount<'a> {
    count: VerifyProgress,
    untold: u64,
    told: &'a mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
}

impl<'a> VerifyCount<'a> {
    fn twice(bytes: u64, told: &'a mut dyn FnMut(VerifyProgress) -> ControlFlow<()>) -> Self {
        Self { count: VerifyProgress { bytes_done: 0, bytes: bytes * 2 }, untold: 0, told }
    }

    fn add(&mut self, part: &LogPart<'_>) -> Result<(), LogVerifyError> {
        let bytes = match part {
            LogPart::Segment(header) => header.bytes(),
            LogPart::Group(_, group) => group.end() - group.offset,
        };
        self.count.bytes_done += bytes;
        self.untold += bytes;
        if self.untold < TOLD_EVERY {
            return Ok(());
        }
        self.untold = 0;
        match (self.told)(self.count) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(LogVerifyError::Stopped),
        }
    }

    /// Tells that everything was gone through, also what damage or an unfinished write cut off.
    fn end(mut self) {
        self.count.bytes_done = self.count.bytes;
        // There is nothing left to end.
        let _ = (self.told)(self.count);
    }
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
    fn empty(last: &SegmentHeader) -> Self {
        Self {
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
        }
    }

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

/// The segments of a log, to go through.
pub(crate) struct SegmentWalk<'a> {
    /// Each with the end of what is durable; `None` if no process writes the log: then what stands
    /// behind the last group is looked at.
    segments: Vec<(SegmentHeader, Option<u64>)>,
    /// The walk ends at this head, if it comes by it; at the end of what is there if it is `None`.
    through: Option<Head>,
    file: Box<dyn Fn(u64) -> io::Result<Arc<dyn File>> + 'a>,
}

impl<'a> SegmentWalk<'a> {
    /// Of a log that no process writes.
    pub(crate) fn over(disk: &'a Arc<dyn Disk>, options: &Options) -> Result<Self, LogOpenError> {
        let segments = headers(disk, options)?.into_iter().map(|header| (header, None)).collect();
        let file = |number| disk.open(&segment_name(number));
        Ok(Self { segments, through: None, file: Box::new(file) })
    }

    fn bytes(&self) -> Result<u64, LogOpenError> {
        let bytes = |(header, end): &(SegmentHeader, Option<u64>)| match end {
            Some(end) => Ok(*end),
            None => (self.file)(header.number)?.len(),
        };
        Ok(self.segments.iter().map(bytes).sum::<io::Result<u64>>()?)
    }

    /// Goes through all groups from the first on, until the end or the first damage.
    pub(crate) fn visit_groups<E: From<LogOpenError>>(
        &self,
        visit: &mut dyn FnMut(LogPart<'_>) -> Result<(), E>,
    ) -> Result<VerifiedLog, E> {
        // A log that is there has a first segment.
        let last = self.segments[self.segments.len() - 1].0;
        let mut chain = ChainState { next: Position(1), hash: Hash::EMPTY, recorded_at: NO_TIME };
        let mut verified = VerifiedLog::empty(&last);
        let mut epoch = None;
        for (header, end) in &self.segments {
            visit(LogPart::Segment(header))?;
            verified.segments += 1;
            // An epoch begins with its identity in the chain, and each segment follows from the one
            // before.
            if epoch.replace(header.epoch) != Some(header.epoch) {
                chain.hash = SegmentHeader::epoch_hash(chain.hash, header.store, &header.epoch);
            }
            if ChainState::before(header) != chain {
                let detail = "the segment does not follow from the one before";
                verified.damage = Some(damage(header.number, 0, detail));
                break;
            }
            let opened = (self.file)(header.number).and_then(|file| Groups::of(file, header));
            let mut groups = opened.map_err(LogOpenError::from)?;
            let mut offset = header.bytes();
            let ends = |chain: &ChainState| Some(chain.head()) == self.through;
            while offset < end.unwrap_or(groups.len()) && !ends(&chain) {
                match groups.at(offset, Some(&chain)).map_err(LogOpenError::from)? {
                    GroupScan::Valid(group) => {
                        visit(LogPart::Group(header.number, &group))?;
                        verified.count(&group);
                        (chain, offset) = (group.chain(), group.end());
                        verified.closed_cleanly = group.is_seal();
                    }
                    // In the last segment it may be a write that was never finished: no damage.
                    GroupScan::Invalid(fault) if end.is_none() && header.number == last.number => {
                        match end_of_log(&mut groups, header.number, offset, &chain, fault) {
                            Ok(tail) => verified.tail = tail,
                            Err(LogOpenError::Damaged { place, detail }) => {
                                verified.damage = Some(Damage { place, detail })
                            }
                            Err(other) => return Err(other.into()),
                        }
                        break;
                    }
                    GroupScan::Invalid(fault) => {
                        verified.damage = Some(damage(header.number, offset, &fault.to_string()));
                        break;
                    }
                }
            }
            if verified.damage.is_some() || ends(&chain) {
                break;
            }
        }
        verified.head = chain.head();
        Ok(verified)
    }
}

fn damage(number: u64, offset: u64, detail: &str) -> Damage {
    Damage { place: crate::segments::segment::place(number, offset), detail: detail.to_owned() }
}

/// Asks the index for everything that the log holds.
fn index_damage(
    segments: &SegmentWalk<'_>,
    index: &Index,
    head: Position,
    count: &mut VerifyCount<'_>,
) -> Result<Option<Damage>, LogVerifyError> {
    let mut found = None;
    segments.visit_groups(&mut |part| {
        count.add(&part)?;
        if let (LogPart::Group(number, group), None) = (part, &found) {
            found = compare(index, head, number, group);
        }
        Ok::<_, LogVerifyError>(())
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
