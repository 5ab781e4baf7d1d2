//! Opening: docs/log-format.md, section 5.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use leftfold_core::store::{Epoch, Hash, Head, Identity, Position, StoreId};

use crate::disk::{Disk, File};
use crate::error::{Cut, OpenError, Recovery};
use crate::format::{NO_TIME, SEGMENT_HEADER_BYTES, SegmentFault, SegmentHeader, moment, segment_name, segment_number};
use crate::index::{Covered, Index, Memtable, Settings};
use crate::offsets::{Offsets, OffsetsFile};
use crate::options::{Existing, Options, Upkeep};
use crate::scan::{Chain, Group, GroupFault, Groups, Record, address, place_of};
use crate::segment::{Segment, Segments, Then};

/// A log that is ready to be read, and to be written on.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) segments: Arc<Segments>,
    pub(crate) index: Index,
    pub(crate) tail: Tail,
    pub(crate) report: Recovery,
}

/// Where the writer goes on.
#[derive(Debug)]
pub(crate) struct Tail {
    pub(crate) segment: Arc<Segment>,
    pub(crate) file: Arc<dyn File>,
    /// The durable end.
    pub(crate) end: u64,
    /// The length of the file: what is behind the end are zeros.
    pub(crate) len: u64,
    pub(crate) chain: Chain,
    /// Whether the last group is a seal.
    pub(crate) sealed: bool,
    /// What the index holds.
    pub(crate) covered: Covered,
}

impl Tail {
    pub(crate) fn head(&self) -> Head {
        let recorded_at = if self.chain.recorded_at == NO_TIME { Head::EMPTY.recorded_at } else { moment(self.chain.recorded_at) };
        Head { position: self.chain.last(), hash: self.chain.hash, recorded_at }
    }
}

/// Opens what a directory holds, or begins a log in it.
pub(crate) fn recover(disk: &Arc<dyn Disk>, options: &Options) -> Result<Recovered, OpenError> {
    let started = Instant::now();
    let headers = headers(disk, options)?;
    // The list has at least the first segment, which was there or was just made.
    let last = headers[headers.len() - 1];
    let mut walk = Walk::begin(disk, options, &headers)?;
    for (index, header) in headers.iter().enumerate().skip(walk.from) {
        walk.segment(header, headers.get(index + 1))?;
    }
    let Walk { index, segments, tail, replayed, rebuilt, cut, .. } = walk;
    let mut tail = tail.ok_or_else(|| OpenError::damaged(last.number, 0, &"the last segment was not reached"))?;
    settle(disk, &mut tail, cut.as_ref())?;
    let list = segments.clone();
    let segments = Segments::new(Arc::clone(disk), last.store, list, options.memory_bytes / 8);
    for segment in walk.complete {
        segments.keep_offsets(&segment.0, segment.1, Then::ReadFromFile);
    }
    let report = Recovery {
        identity: Identity { store: last.store, epoch: last.epoch },
        head: tail.head(),
        closed_cleanly: tail.sealed || tail.chain.recorded_at == NO_TIME,
        replayed,
        cut,
        index_rebuilt: rebuilt,
        elapsed: started.elapsed(),
    };
    Ok(Recovered { segments: Arc::new(segments), index, tail, report })
}

/// Makes what was found durable before anything of it is shown: a process that was killed may have written it without
/// a sync. What is behind the last group is cut.
fn settle(disk: &Arc<dyn Disk>, tail: &mut Tail, cut: Option<&Cut>) -> Result<(), OpenError> {
    if cut.is_some() {
        tail.file.set_len(tail.end)?;
        tail.len = tail.end;
    }
    tail.file.sync()?;
    disk.sync_names()?;
    Ok(())
}

/// The headers of all segments, in order, of a log that is there or is begun.
fn headers(disk: &Arc<dyn Disk>, options: &Options) -> Result<Vec<SegmentHeader>, OpenError> {
    let names = disk.names()?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
    numbers.sort_unstable();
    if numbers.first() != Some(&1) {
        let ours = |name: &str| name == LOCK || name.ends_with(".tmp");
        if let Some(file) = names.iter().find(|name| !ours(name)) {
            return Err(OpenError::Foreign { place: disk.place(), file: file.clone() });
        }
        return create(disk, options).map(|header| vec![header]);
    }
    if let Some((index, _)) = numbers.iter().enumerate().find(|(index, number)| **number != *index as u64 + 1) {
        return Err(OpenError::damaged(index as u64 + 1, 0, &"the segment is missing"));
    }
    let mut headers = Vec::with_capacity(numbers.len());
    for number in &numbers {
        match header(disk, *number)? {
            Ok(header) => headers.push(header),
            Err(SegmentFault::Broken(_)) if Some(number) == numbers.last() && never_begun(disk, *number)? => {
                disk.remove(&segment_name(*number))?;
                disk.sync_names()?;
            }
            Err(fault) => return Err(OpenError::header(*number, fault, &disk.place())),
        }
    }
    if headers.is_empty() {
        return create(disk, options).map(|header| vec![header]);
    }
    if options.open == Existing::Never {
        return Err(OpenError::AlreadyThere { place: disk.place() });
    }
    for name in names.iter().filter(|name| name.ends_with(".tmp")) {
        disk.remove(name)?;
    }
    check_order(&headers)?;
    Ok(headers)
}

/// The name of the file that is locked while the log is open.
pub(crate) const LOCK: &str = "lock";

fn header(disk: &Arc<dyn Disk>, number: u64) -> Result<Result<SegmentHeader, SegmentFault>, OpenError> {
    let file = disk.open(&segment_name(number))?;
    let mut bytes = vec![0; file.len()?.min(SEGMENT_HEADER_BYTES as u64) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(SegmentHeader::decode(&bytes))
}

/// Whether a segment whose header does not check holds no group either.
fn never_begun(disk: &Arc<dyn Disk>, number: u64) -> Result<bool, OpenError> {
    let mut groups = Groups::new(disk.open(&segment_name(number))?, number)?;
    Ok(groups.look_on(0)?.header_at.is_none())
}

fn check_order(headers: &[SegmentHeader]) -> Result<(), OpenError> {
    for (index, header) in headers.iter().enumerate() {
        let before = if index == 0 { header } else { &headers[index - 1] };
        let follows = header.number == index as u64 + 1
            && header.store == before.store
            && header.first >= before.first
            && header.epoch.number >= before.epoch.number;
        if !follows {
            return Err(OpenError::damaged(index as u64 + 1, 0, &"the segment does not follow from the one before"));
        }
    }
    Ok(())
}

fn create(disk: &Arc<dyn Disk>, options: &Options) -> Result<SegmentHeader, OpenError> {
    if options.open == Existing::Only {
        return Err(OpenError::Missing { place: disk.place() });
    }
    let header = SegmentHeader {
        store: StoreId::random(),
        epoch: Epoch::FIRST,
        number: 1,
        first: Position(1),
        hash: Hash::EMPTY,
        recorded_at: NO_TIME,
    };
    begin_segment(&**disk, &header)?;
    Ok(header)
}

/// Makes the file of a segment, durable with its name, before a group goes into it.
pub(crate) fn begin_segment(disk: &dyn Disk, header: &SegmentHeader) -> io::Result<Arc<dyn File>> {
    let file = disk.create(&segment_name(header.number))?;
    file.write_all_at(&header.encode(), 0)?;
    file.sync()?;
    disk.sync_names()?;
    Ok(file)
}

/// The walk from the last group that the index covers to the end of the log.
struct Walk {
    disk: Arc<dyn Disk>,
    index: Index,
    pending: Memtable,
    covered: Covered,
    chain: Chain,
    /// Which segment is read first, and from which byte.
    from: usize,
    offset: u64,
    segments: Vec<Arc<Segment>>,
    /// Sealed segments that were gone through from their start, and the hash at their end.
    complete: Vec<(Arc<Segment>, Hash)>,
    tail: Option<Tail>,
    replayed: u64,
    rebuilt: Option<String>,
    cut: Option<Cut>,
}

impl Walk {
    fn begin(disk: &Arc<dyn Disk>, options: &Options, headers: &[SegmentHeader]) -> Result<Self, OpenError> {
        let upkeep = match options.upkeep {
            Upkeep::Thread => crate::index::Upkeep::Thread,
            Upkeep::Inline => crate::index::Upkeep::Inline,
        };
        let settings = Settings { memory_bytes: options.memory_bytes / 8 * 7, upkeep };
        let store = headers[0].store;
        let opened = Index::open(Arc::clone(disk), store, settings)?;
        let mut rebuilt = opened.discarded;
        let (mut index, mut covered) = (opened.index, opened.covered);
        let mut resumed = Resumed { from: 0, offset: SEGMENT_HEADER_BYTES as u64, chain: Chain::before(&headers[0]) };
        if covered != Covered::NONE {
            match resume(disk, headers, &covered)? {
                Ok(found) => resumed = found,
                Err(why) => {
                    drop(index);
                    Index::discard(&**disk)?;
                    let opened = Index::open(Arc::clone(disk), store, settings)?;
                    (index, covered) = (opened.index, opened.covered);
                    rebuilt = Some(why);
                }
            }
        }
        let segments = headers[..resumed.from].iter().map(|header| Arc::new(Segment::new(*header, None))).collect();
        Ok(Self {
            disk: Arc::clone(disk),
            pending: index.pending(),
            index,
            covered,
            chain: resumed.chain,
            from: resumed.from,
            offset: resumed.offset,
            segments,
            complete: Vec::new(),
            tail: None,
            replayed: 0,
            rebuilt,
            cut: None,
        })
    }

    fn segment(&mut self, header: &SegmentHeader, next: Option<&SegmentHeader>) -> Result<(), OpenError> {
        let from = std::mem::replace(&mut self.offset, SEGMENT_HEADER_BYTES as u64);
        let whole = from == SEGMENT_HEADER_BYTES as u64;
        if whole && Chain::before(header) != self.chain {
            return Err(OpenError::damaged(header.number, 0, &"the segment does not follow from the one before"));
        }
        let file = self.disk.open(&segment_name(header.number))?;
        let mut groups = Groups::new(Arc::clone(&file), header.number)?;
        let mut offsets = if whole {
            Some(Offsets::default())
        } else if next.is_none() {
            Some(offsets_until(&*self.disk, &mut groups, header, from, self.chain.hash)?)
        } else {
            None
        };
        let mut offset = from;
        let mut sealed = false;
        while offset < groups.len() {
            let group = match groups.at(offset, Some(&self.chain))? {
                Ok(group) => group,
                Err(fault) if next.is_some() => return Err(OpenError::damaged(header.number, offset, &fault)),
                Err(fault) => {
                    self.cut = end_of_log(&mut groups, header.number, offset, fault)?;
                    break;
                }
            };
            let events = self.take(header.number, &group)?;
            if let Some(offsets) = &mut offsets {
                offsets.add_group(offset as u32, &events, group.end() as u32);
            }
            sealed = group.is_seal();
            self.chain = group.chain();
            offset = group.end();
        }
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
            self.tail = Some(Tail { segment, file, end: offset, len, chain, sealed, covered });
        }
        Ok(())
    }

    /// Brings the index up to date with a group. Returns where its events are.
    fn take(&mut self, number: u64, group: &Group<'_>) -> Result<Vec<u32>, OpenError> {
        let mut position = group.header.first;
        let mut events = Vec::with_capacity(group.header.events as usize);
        for record in group.records() {
            let (offset, record) = record.map_err(|fault| OpenError::damaged(number, group.offset, &fault))?;
            match record {
                Record::Event(event) => {
                    events.push(offset as u32);
                    self.pending.add_event(position, event.event_type, event.stream, event.tags(), event.id.as_ref());
                    position = position.next();
                }
                Record::Command(command) => self.pending.add_command(&command.id, address(number, offset)),
                Record::Checkpoint(record) => self.pending.add_checkpoint(record.consumer, address(number, offset)),
                Record::Skipped => {}
            }
        }
        self.replayed += events.len() as u64;
        if !group.is_seal() {
            self.index.make_room()?;
            let chain = group.chain();
            self.covered = Covered { position: chain.last(), address: address(number, group.offset), hash: chain.hash };
            self.index.insert_group(&mut self.pending, self.covered);
        }
        Ok(events)
    }
}

struct Resumed {
    from: usize,
    offset: u64,
    chain: Chain,
}

/// Where to go on behind what the index covers: the last group that it covers must be there, as it was.
fn resume(
    disk: &Arc<dyn Disk>,
    headers: &[SegmentHeader],
    covered: &Covered,
) -> Result<Result<Resumed, String>, OpenError> {
    let (number, offset) = place_of(covered.address);
    let Some(from) = usize::try_from(number).ok().and_then(|number| number.checked_sub(1)).filter(|i| *i < headers.len())
    else {
        return Ok(Err(format!("the index covers segment {number}, which is not there")));
    };
    let mut groups = Groups::new(disk.open(&segment_name(number))?, number)?;
    let group = match groups.at(offset, None)? {
        Ok(group) => group,
        Err(fault) => return Ok(Err(format!("the index covers a group that is not there: {fault}"))),
    };
    let chain = group.chain();
    if chain.hash != covered.hash || chain.last() != covered.position {
        return Ok(Err("the index covers another history".to_owned()));
    }
    Ok(Ok(Resumed { from, offset: group.end(), chain }))
}

/// The offsets of the last segment up to where the index covers it: from their file if it goes just that far, else by
/// going through the groups.
fn offsets_until(
    disk: &dyn Disk,
    groups: &mut Groups,
    header: &SegmentHeader,
    end: u64,
    hash: Hash,
) -> Result<Offsets, OpenError> {
    if let Ok(file) = OffsetsFile::open(disk, header, Some((end, hash)))
        && let Ok(offsets) = file.load()
    {
        return Ok(offsets);
    }
    let mut offsets = Offsets::default();
    let mut chain = Chain::before(header);
    let mut offset = SEGMENT_HEADER_BYTES as u64;
    while offset < end {
        let damage = |fault| OpenError::damaged(header.number, offset, &fault);
        let group = groups.at(offset, Some(&chain))?.map_err(damage)?;
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

/// Decides what the first place without a valid group is: damage, something to be cut, or just the end.
fn end_of_log(groups: &mut Groups, number: u64, offset: u64, fault: GroupFault) -> Result<Option<Cut>, OpenError> {
    let behind = groups.look_on(offset)?;
    if let Some(later) = behind.header_at {
        let detail = format!("{fault}, though a later group at byte {later} was begun when this one was durable");
        return Err(OpenError::damaged(number, offset, &detail));
    }
    if behind.only_zeros {
        return Ok(None);
    }
    let bytes = groups.len() - offset;
    Ok(Some(Cut { place: crate::segment::place(number, offset), bytes, fault }))
}

/// The position that an epoch which begins now begins after.
pub(crate) fn next_epoch(identity: Identity, head: Head) -> Epoch {
    Epoch { number: identity.epoch.number.saturating_add(1), began_after: Position(head.position.0) }
}
