//! Opening: docs/log-format.md, section 5.

use std::sync::Arc;
use std::time::{Duration, Instant};

use leftfold_core::store::{Epoch, Hash, Head, Identity, Position};

use crate::clock::CLOCK_JUMP_MAX;
use crate::disk::Disk;
use crate::format::{EventView, NO_TIME, SegmentHeader, offsets_name, segment_name};
use crate::index::{Covered, Index, IndexSettings, Memtable};
use crate::open::contents::{headers, keep_witness};
use crate::open::doubt::{self, ClockDoubt, LogTimes};
use crate::open::error::{Cut, LogOpenError, Recovery};
use crate::options::{ClockBehind, Options};
use crate::segments::offsets::{Offsets, OffsetsFile};
use crate::segments::scan::{
    ChainState, Group, GroupFault, GroupScan, Groups, Record, address, place_of,
};
use crate::segments::segment::{OffsetsUse, Segment, Segments};
use crate::write::fences::FENCES_KEY;
use crate::write::tail::{OpenPurpose, Tail};

/// A log that is ready to be read, and to be written on.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Arc<Segments>,
    pub(crate) index: Index,
    pub(crate) tail: Tail,
    pub(crate) report: Recovery,
}

/// Recovers the log in a directory, or begins one in it.
pub(crate) fn recover(
    disk: &Arc<dyn Disk>,
    options: &Options,
    purpose: OpenPurpose,
) -> Result<Recovered, LogOpenError> {
    let started = Instant::now();
    let headers = headers(disk, options)?;
    // The list has at least the first segment, which was there or was just made.
    let last = headers[headers.len() - 1];
    let mut walk = RecoveryWalk::begin(disk, options, &headers, purpose)?;
    for (index, header) in headers.iter().enumerate().skip(walk.from) {
        walk.segment(header, headers.get(index + 1))?;
    }
    let tail = walk.tail.take();
    let mut tail = tail.ok_or_else(|| {
        LogOpenError::damaged(last.number, 0, &"the last segment was not reached")
    })?;
    let closed_cleanly = tail.sealed || tail.chain.recorded_at == NO_TIME;
    let mut clock_doubt = None;
    if purpose == OpenPurpose::Write {
        clock_doubt = check_clock(options, &headers, &tail)?;
        settle(disk, options, &mut tail, walk.last.as_ref())?;
        keep_witness(&**disk, last.store);
    }
    walk.release()?;
    let RecoveryWalk { index, segments, complete, replayed, rebuilt, cut, held_back, .. } = walk;
    let segments = Segments::new(Arc::clone(disk), last.store, segments, options);
    for (segment, hash) in complete {
        segments.keep_offsets(&segment, hash, OffsetsUse::ReadFromFile);
    }
    let report = Recovery {
        identity: Identity { store: last.store, epoch: last.epoch },
        head: tail.head(),
        closed_cleanly,
        replayed,
        cut,
        held_back,
        index_rebuilt: rebuilt,
        no_room: None,
        clock_doubt,
        elapsed: started.elapsed(),
    };
    Ok(Recovered { segments: Arc::new(segments), index, tail, report })
}

/// Compares the clock with known moments, before anything is recorded by it.
fn check_clock(
    options: &Options,
    headers: &[SegmentHeader],
    tail: &Tail,
) -> Result<Option<ClockDoubt>, LogOpenError> {
    let (recorded, now) = (tail.head().recorded_at, options.clock.wall());
    if recorded.since(now) > CLOCK_JUMP_MAX {
        let is_refused = options.clock_behind == ClockBehind::Refuse;
        return if is_refused {
            Err(LogOpenError::ClockBehind { recorded, now })
        } else {
            Ok(None)
        };
    }
    let history = LogTimes { headers, last: tail.chain.recorded_at, changed: tail.file.changed()? };
    let doubt = doubt::judge(options, history).map_err(LogOpenError::ClockDoubtful)?;
    if let Some(doubt) = &doubt {
        tracing::warn!(now = %doubt.now, known = %doubt.known, "{doubt}; what is recorded by it stays in the log for good");
    }
    Ok(doubt)
}

/// Makes the log that was found durable before any of it is shown, with a seal behind it. The last
/// group may be in the system's memory only: written and not synced, or synced without success. So
/// it is written again.
fn settle(
    disk: &Arc<dyn Disk>,
    options: &Options,
    tail: &mut Tail,
    last: Option<&LastGroup>,
) -> Result<(), LogOpenError> {
    if tail.len > tail.end && !tail.zeros_behind {
        tail.file.set_len(tail.end)?;
        tail.len = tail.end;
    }
    if let Some(last) = last {
        tail.file.write_all_at(&last.bytes, last.offset)?;
    }
    tail.file.sync()?;
    disk.sync_names()?;
    if !tail.sealed && tail.end > tail.segment.header.bytes() {
        let now = options.clock.wall().as_micros();
        tail.write_seal(now.max(tail.chain.recorded_at.saturating_add(1)))?;
    }
    Ok(())
}

/// The bytes of the last group, to be written again.
struct LastGroup {
    offset: u64,
    bytes: Vec<u8>,
}

/// Repetitions that a reader has left for bytes that another process may be writing, with a wait
/// before each.
#[derive(Debug)]
pub(crate) struct TailRetries {
    left: u32,
}

impl TailRetries {
    const MAX: u32 = 32;

    pub(crate) fn new() -> Self {
        Self { left: Self::MAX }
    }

    /// Waits a little; returns false if no repetition is left.
    pub(crate) fn again(&mut self) -> bool {
        let Some(left) = self.left.checked_sub(1) else { return false };
        // 64 ms in all, the longer the longer it takes.
        std::thread::sleep(Duration::from_micros(u64::from(Self::MAX - self.left) * 128));
        self.left = left;
        true
    }
}

/// End of the groups of a segment.
struct GroupsEnd {
    offset: u64,
    /// True if the last of them is a seal.
    sealed: bool,
}

/// The walk from the last group that the index covers to the end of the log.
struct RecoveryWalk {
    purpose: OpenPurpose,
    disk: Arc<dyn Disk>,
    index: Index,
    pending: Memtable,
    covered: Covered,
    /// Part of the log that the index covers once it has the group in `pending`.
    held: Option<Covered>,
    chain: ChainState,
    /// Index of the segment that is read first; `offset` is the byte to begin at, `None` for its
    /// start.
    from: usize,
    offset: Option<u64>,
    segments: Vec<Arc<Segment>>,
    /// Sealed segments that were gone through from their start, and the hash at their end.
    complete: Vec<(Arc<Segment>, Hash)>,
    tail: Option<Tail>,
    replayed: u64,
    rebuilt: Option<String>,
    cut: Option<Cut>,
    /// Events of a last group that may not be durable.
    held_back: u64,
    last: Option<LastGroup>,
}

impl RecoveryWalk {
    fn begin(
        disk: &Arc<dyn Disk>,
        options: &Options,
        headers: &[SegmentHeader],
        purpose: OpenPurpose,
    ) -> Result<Self, LogOpenError> {
        let settings =
            IndexSettings { memory_bytes: options.memory_bytes / 8 * 7, upkeep: options.upkeep };
        let store = headers[0].store;
        let opened = Index::open(Arc::clone(disk), store, settings)?;
        let (index, covered, rebuilt) = (opened.index, opened.covered, opened.discarded);
        let mut resumed =
            ResumePoint { from: 0, offset: None, chain: ChainState::before(&headers[0]) };
        if covered != Covered::NONE {
            resumed = resume(disk, headers, &covered)?;
        }
        let segments = headers[..resumed.from]
            .iter()
            .map(|header| Arc::new(Segment::new(*header, None)))
            .collect();
        Ok(Self {
            purpose,
            disk: Arc::clone(disk),
            pending: index.pending(),
            index,
            covered,
            held: None,
            chain: resumed.chain,
            from: resumed.from,
            offset: resumed.offset,
            segments,
            complete: Vec::new(),
            tail: None,
            replayed: 0,
            rebuilt,
            cut: None,
            held_back: 0,
            last: None,
        })
    }

    /// Takes a segment in. The last one, which has no next, becomes the tail of the log.
    fn segment(
        &mut self,
        header: &SegmentHeader,
        next: Option<&SegmentHeader>,
    ) -> Result<(), LogOpenError> {
        // What the index covers is not read again: the first segment may be begun in its middle.
        let resumed = self.offset.take();
        let (from, whole) = (resumed.unwrap_or_else(|| header.bytes()), resumed.is_none());
        // A segment that is read from its start has to follow from what was read before.
        if whole {
            self.enter(header)?;
            if ChainState::before(header) != self.chain {
                return Err(LogOpenError::damaged(
                    header.number,
                    0,
                    &"the segment does not follow from the one before",
                ));
            }
        }
        // The offsets of its groups are kept if it was read from its start, and for the tail.
        let file = self.disk.open(&segment_name(header.number))?;
        let mut groups = Groups::of(Arc::clone(&file), header)?;
        let mut offsets = if whole {
            Some(Offsets::default())
        } else if next.is_none() {
            Some(offsets_until(&*self.disk, &mut groups, header, from, self.chain.hash)?)
        } else {
            None
        };
        let end = self.groups((header, next), &mut groups, from, offsets.as_mut())?;
        let len = groups.len();
        let segment = Arc::new(Segment::new(*header, offsets));
        self.segments.push(Arc::clone(&segment));
        if next.is_some() {
            if whole {
                self.complete.push((segment, self.chain.hash));
            }
        } else {
            // Reading may have begun behind the seal's predecessor, never behind the seal.
            let (chain, covered) = (self.chain, self.covered);
            let zeros_behind = self.cut.is_none();
            self.tail = Some(Tail {
                segment,
                file,
                end: end.offset,
                len,
                zeros_behind,
                chain,
                sealed: end.sealed,
                covered,
            });
        }
        Ok(())
    }

    /// Takes the groups of a segment in, from an offset to the end of what is whole.
    fn groups(
        &mut self,
        (header, next): (&SegmentHeader, Option<&SegmentHeader>),
        groups: &mut Groups,
        from: u64,
        mut offsets: Option<&mut Offsets>,
    ) -> Result<GroupsEnd, LogOpenError> {
        let mut end = GroupsEnd { offset: from, sealed: false };
        let mut looks = TailRetries::new();
        while end.offset < groups.len() {
            let offset = end.offset;
            // A reader shows no last group of which nothing tells that it is durable.
            if next.is_none()
                && self.purpose == OpenPurpose::Read
                && let Some(last) = groups.held_back(&*self.disk, header, (offset, &self.chain))?
            {
                self.held_back = last.events.into();
                break;
            }
            let group = match groups.at(offset, Some(&self.chain))? {
                GroupScan::Valid(group) => group,
                // The next segment was begun when this one was durable: a fault in it is damage.
                GroupScan::Invalid(fault) if next.is_some() => {
                    return Err(LogOpenError::damaged(header.number, offset, &fault));
                }
                GroupScan::Invalid(fault) => {
                    // A reader may meet a group that is being written at this moment.
                    if self.purpose == OpenPurpose::Read
                        && !groups.only_zeros(offset)?
                        && looks.again()
                    {
                        groups.look_again()?;
                        continue;
                    }
                    // Zeros are the end, and a torn write is cut; anything else is damage.
                    self.cut = end_of_log(groups, header.number, offset, &self.chain, fault)?;
                    break;
                }
            };
            if next.is_none() {
                self.last.replace(LastGroup { offset, bytes: group.bytes.to_vec() });
            }
            let events = self.take(header.number, &group)?;
            if let Some(offsets) = &mut offsets {
                offsets.add_group(offset as u32, &events, group.end() as u32);
            }
            self.chain = group.chain();
            end = GroupsEnd { offset: group.end(), sealed: group.is_seal() };
            looks = TailRetries::new();
        }
        Ok(end)
    }

    /// An epoch begins with its identity in the chain.
    fn enter(&mut self, header: &SegmentHeader) -> Result<(), LogOpenError> {
        let Some(before) = self.segments.last().map(|segment| segment.header) else {
            let identity = SegmentHeader::epoch_hash(Hash::EMPTY, header.store, &header.epoch);
            let begun = ChainState { next: Position(1), hash: identity, recorded_at: NO_TIME };
            if begun != ChainState::before(header) {
                return Err(LogOpenError::damaged(
                    header.number,
                    0,
                    &"the first segment does not begin a history",
                ));
            }
            return Ok(());
        };
        if before.epoch != header.epoch {
            self.chain.hash =
                SegmentHeader::epoch_hash(self.chain.hash, header.store, &header.epoch);
        }
        Ok(())
    }

    /// Tells the index of the group that was held back.
    fn release(&mut self) -> Result<(), LogOpenError> {
        if let Some(covered) = self.held.take() {
            self.index.make_room()?;
            self.index.insert_group(&mut self.pending, covered);
        }
        Ok(())
    }

    /// Takes a group for the index, which is told of it when another one follows, or when it is
    /// known to be durable: the index must never know of more than that. Returns the offsets of its
    /// events.
    fn take(&mut self, number: u64, group: &Group<'_>) -> Result<Vec<u32>, LogOpenError> {
        self.release()?;
        let events = read_into(&mut self.pending, &self.index, number, group)?;
        self.replayed += events.len() as u64;
        if !group.is_seal() {
            self.covered = covered_by(number, group);
            self.held = Some(self.covered);
        }
        Ok(events)
    }
}

/// Part of the log that an index covers once it has a group.
pub(crate) fn covered_by(number: u64, group: &Group<'_>) -> Covered {
    let chain = group.chain();
    Covered { position: chain.last(), address: address(number, group.offset), hash: chain.hash }
}

/// Adds the records of a group to a table for the index. Returns the offsets of its events.
pub(crate) fn read_into(
    pending: &mut Memtable,
    index: &Index,
    number: u64,
    group: &Group<'_>,
) -> Result<Vec<u32>, LogOpenError> {
    let mut position = group.header.first;
    let mut events = Vec::with_capacity(group.header.events as usize);
    for record in group.records() {
        let (offset, record) =
            record.map_err(|fault| LogOpenError::damaged(number, group.offset, &fault))?;
        match record {
            Record::Event(event) => {
                events.push(offset as u32);
                check_version(pending, index, &event)
                    .map_err(|detail| LogOpenError::damaged(number, offset, &detail))?;
                pending.add_event(
                    position,
                    event.event_type,
                    event.stream,
                    event.tags(),
                    event.id.as_ref(),
                );
                position = position.next();
            }
            Record::Command(command) => pending.add_command(&command.id, address(number, offset)),
            Record::Checkpoint(record) => {
                pending.add_checkpoint(record.key().as_bytes(), address(number, offset))
            }
            Record::Fences(_) => pending.add_checkpoint(FENCES_KEY, address(number, offset)),
            Record::Skipped => {}
        }
    }
    Ok(events)
}

/// Checks that the versions of a stream follow each other without gaps; otherwise another program
/// wrote the event. If the index cannot be read, the version is accepted: the index is derived, and
/// rebuilt when it is damaged.
fn check_version(pending: &Memtable, index: &Index, event: &EventView<'_>) -> Result<(), String> {
    let Some((name, version)) = event.stream else { return Ok(()) };
    let before = match pending.version(name) {
        Some(version) => version,
        None => match index.stream_version(name, Position::END) {
            Ok(version) => version,
            Err(_) => return Ok(()),
        },
    };
    if version == before.next() {
        Ok(())
    } else {
        Err(format!("version {version} of {name} follows version {before}"))
    }
}

struct ResumePoint {
    from: usize,
    offset: Option<u64>,
    chain: ChainState,
}

/// Finds the place to go on behind the groups that the index covers. It covers only durable groups,
/// so the last one that it covers must be there, unchanged.
fn resume(
    disk: &Arc<dyn Disk>,
    headers: &[SegmentHeader],
    covered: &Covered,
) -> Result<ResumePoint, LogOpenError> {
    let (number, offset) = place_of(covered.address);
    let missing = |detail: &dyn std::fmt::Display| {
        let what = format!(
            "the index knows of a durable group here, up to position {}, but {detail}",
            covered.position
        );
        LogOpenError::damaged(number, offset, &what)
    };
    let from = usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(1);
    if from >= headers.len() {
        return Err(missing(&"the segment is not there"));
    }
    let mut groups = Groups::of(disk.open(&segment_name(number))?, &headers[from])?;
    let group = groups.at(offset, None)?.valid_or(|fault| missing(&fault))?;
    let chain = group.chain();
    if chain.hash != covered.hash || chain.last() != covered.position {
        return Err(missing(&"another group is there"));
    }
    Ok(ResumePoint { from, offset: Some(group.end()), chain })
}

/// Returns the offsets of the last segment up to the end of what the index covers: from their file
/// if it goes just that far, else by going through the groups.
fn offsets_until(
    disk: &dyn Disk,
    groups: &mut Groups,
    header: &SegmentHeader,
    end: u64,
    hash: Hash,
) -> Result<Offsets, LogOpenError> {
    if let Ok(file) = disk.open(&offsets_name(header.number))
        && let Ok(kept) = OffsetsFile::of(&*file, header, end, |found| found == hash)
        && let Ok(offsets) = kept.load(&*file)
    {
        return Ok(offsets);
    }
    let mut offsets = Offsets::default();
    let mut chain = ChainState::before(header);
    let mut offset = header.bytes();
    while offset < end {
        let damage = |fault| LogOpenError::damaged(header.number, offset, &fault);
        let group = groups.at(offset, Some(&chain))?.valid_or(damage)?;
        let mut events = Vec::with_capacity(group.header.events as usize);
        for record in group.records() {
            if let (at, Record::Event(_)) = record.map_err(damage)? {
                events.push(at as u32);
            }
        }
        offsets.add_group(offset as u32, &events, group.end() as u32);
        chain = group.chain();
        offset = group.end();
    }
    Ok(offsets)
}

/// Decides between damage, bytes to be cut, and the plain end, at the first place without a valid
/// group.
pub(crate) fn end_of_log(
    groups: &mut Groups,
    number: u64,
    offset: u64,
    chain: &ChainState,
    fault: GroupFault,
) -> Result<Option<Cut>, LogOpenError> {
    if groups.only_zeros(offset)? {
        return Ok(None);
    }
    if !fault.may_be_torn() {
        return Err(LogOpenError::damaged(number, offset, &fault));
    }
    if let Some(later) = groups.later_group(offset, chain)? {
        let detail = format!(
            "{fault}, though a later group at byte {later} was begun when this one was durable"
        );
        return Err(LogOpenError::damaged(number, offset, &detail));
    }
    let bytes = groups.len() - offset;
    Ok(Some(Cut { place: crate::segments::segment::place(number, offset), bytes, fault }))
}

/// The epoch that begins now, by a declared restore.
pub(crate) fn next_epoch(identity: Identity, head: Head) -> Epoch {
    Epoch {
        id: uuid::Uuid::new_v4(),
        number: identity.epoch.number.saturating_add(1),
        began_after: head.position,
    }
}
