//! Going through the groups of one segment, checking each: what recovery, verification and
//! rebuilding share.

use std::io;
use std::sync::Arc;

use leftfold_core::store::{Hash, Head, Position};

use crate::disk::{Disk, File};
use crate::format::{
    Binding, CheckpointView, CommandView, DurableMark, EventView, FencesView, FormatError,
    GROUP_HEADER_BYTES, GROUP_MAGIC, GroupHeader, GroupHeaderFault, NO_TIME, RecordFrame,
    RecordKind, SEAL, SegmentHeader, moment,
};

/// The address of a place: segment number, then byte.
pub(crate) const fn address(segment: u64, offset: u64) -> u64 {
    segment << 32 | offset
}

/// Segment number and byte of an address.
pub(crate) const fn place_of(address: u64) -> (u64, u64) {
    (address >> 32, address & 0xffff_ffff)
}

/// State of the chain: the next group must follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChainState {
    /// The position that the next event gets.
    pub(crate) next: Position,
    pub(crate) hash: Hash,
    /// The recorded time of the last group, as it is stored.
    pub(crate) recorded_at: i64,
}

impl ChainState {
    /// Returns the state of the chain before the first group of a segment.
    pub(crate) fn before(header: &SegmentHeader) -> Self {
        Self { next: header.first, hash: header.hash, recorded_at: header.recorded_at }
    }

    /// Returns the head that readers are told. While nothing was recorded they see an empty store,
    /// even if it has an identity.
    pub(crate) fn head(&self) -> Head {
        if self.recorded_at == NO_TIME {
            return Head::EMPTY;
        }
        Head { position: self.last(), chain: self.hash, recorded_at: moment(self.recorded_at) }
    }

    /// The position of the last event.
    pub(crate) fn last(&self) -> Position {
        Position(self.next.0.saturating_sub(1))
    }
}

/// Reason why there is no valid group at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupFault {
    /// The file ends there.
    #[error("the file ends")]
    End,
    /// The header does not check.
    #[error(transparent)]
    Header(FormatError),
    /// The group was written for another place.
    #[error("the group belongs elsewhere")]
    Address,
    /// The group does not follow from the one before.
    #[error("the group does not follow from the one before")]
    ChainState,
    /// The body does not lie within the file.
    #[error("the body ends beyond the file")]
    Length,
    /// A record does not check.
    #[error("the record at byte {offset} does not check: {fault}")]
    Record {
        /// Byte of the segment where the record begins.
        offset: u64,
        /// Fault of the record.
        fault: FormatError,
    },
    /// The header counts other records than there are.
    #[error("the header counts other records than there are")]
    Counts,
}

impl GroupFault {
    /// Tells whether an interrupted write can have left the fault. Bytes whose checksum is right
    /// and that are wrong all the same were written so: by another release, or into another
    /// history.
    pub(crate) fn may_be_torn(&self) -> bool {
        match self {
            Self::End | Self::Length => true,
            Self::Header(fault) | Self::Record { fault, .. } => {
                matches!(fault, FormatError::Checksum { .. } | FormatError::Short { .. })
            }
            Self::Address | Self::ChainState | Self::Counts => false,
        }
    }
}

/// A group whose header and records check.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group<'a> {
    pub(crate) header: GroupHeader,
    /// As it is stored, header included.
    pub(crate) bytes: &'a [u8],
    pub(crate) body: &'a [u8],
    pub(crate) offset: u64,
}

/// A record, decoded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Record<'a> {
    Event(EventView<'a>),
    Command(CommandView<'a>),
    Checkpoint(CheckpointView<'a>),
    Fences(FencesView),
    Skipped,
}

impl<'a> Record<'a> {
    pub(crate) fn decode(frame: &RecordFrame<'a>) -> Result<Self, FormatError> {
        Ok(match frame.kind {
            RecordKind::Event => Self::Event(EventView::decode(frame.body)?),
            RecordKind::Command => Self::Command(CommandView::decode(frame.body)?),
            RecordKind::Checkpoint => Self::Checkpoint(CheckpointView::decode(frame.body)?),
            RecordKind::Fences => Self::Fences(FencesView::decode(frame.body)?),
            RecordKind::Skipped => Self::Skipped,
        })
    }
}

impl<'a> Group<'a> {
    /// Returns the byte of the segment where the next group begins.
    pub(crate) fn end(&self) -> u64 {
        self.offset + (GROUP_HEADER_BYTES + self.body.len()) as u64
    }

    /// Tells whether a clean close wrote the group.
    pub(crate) fn is_seal(&self) -> bool {
        self.header.flags & SEAL != 0
    }

    /// The chain after the group.
    pub(crate) fn chain(&self) -> ChainState {
        ChainState {
            next: Position(self.header.first.0.saturating_add(u64::from(self.header.events))),
            hash: self.header.chain(self.body),
            recorded_at: self.header.recorded_at,
        }
    }

    /// Returns the records, each with its offset in the segment. An error is the last item.
    pub(crate) fn records(
        &self,
    ) -> impl Iterator<Item = Result<(u64, Record<'a>), GroupFault>> + use<'a> {
        let (body, start) = (self.body, self.offset + GROUP_HEADER_BYTES as u64);
        let mut position = self.header.first;
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = body.get(at..).filter(|rest| !rest.is_empty())?;
            let offset = start + at as u64;
            let decoded = RecordFrame::decode(rest, position)
                .and_then(|frame| Record::decode(&frame).map(|record| (frame.bytes, record)));
            Some(match decoded {
                Ok((bytes, record)) => {
                    at += bytes;
                    if matches!(record, Record::Event(_)) {
                        position = position.next();
                    }
                    Ok((offset, record))
                }
                Err(fault) => {
                    at = body.len();
                    Err(GroupFault::Record { offset, fault })
                }
            })
        })
    }

    /// Checks every record, and that the header counts them.
    pub(crate) fn check(&self) -> Result<(), GroupFault> {
        let (mut records, mut events) = (0_u32, 0_u32);
        for record in self.records() {
            records = records.saturating_add(1);
            if let (_, Record::Event(_)) = record? {
                events += 1;
            }
        }
        let counted = records == self.header.records && events == self.header.events;
        if counted && self.header.next().is_some() { Ok(()) } else { Err(GroupFault::Counts) }
    }
}

/// Result of looking for a group, or its header, at a byte that could be read.
#[derive(Debug)]
pub(crate) enum GroupScan<T> {
    Valid(T),
    /// There is none: the end, a torn write, or damage.
    Invalid(GroupFault),
}

impl<T> GroupScan<T> {
    /// Returns what is valid, or the error that a caller makes of the fault.
    pub(crate) fn valid_or<E>(self, error: impl FnOnce(GroupFault) -> E) -> Result<T, E> {
        match self {
            Self::Valid(value) => Ok(value),
            Self::Invalid(fault) => Err(error(fault)),
        }
    }

    fn is_valid_and(&self, holds: impl FnOnce(&T) -> bool) -> bool {
        matches!(self, Self::Valid(value) if holds(value))
    }
}

/// Valid group of which nothing in its segment tells that it is durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DoubtfulGroup {
    pub(crate) events: u32,
    /// Byte of the segment where the group ends.
    pub(crate) end: u64,
    /// Chain after the group.
    pub(crate) chain: ChainState,
}

/// Reads the groups of one file, through a window that slides over it.
#[derive(Debug)]
pub(crate) struct Groups {
    file: Arc<dyn File>,
    number: u64,
    binding: Binding,
    len: u64,
    window: Vec<u8>,
    base: u64,
}

const WINDOW_BYTES: u64 = 1 << 20;

impl Groups {
    pub(crate) fn of(file: Arc<dyn File>, header: &SegmentHeader) -> io::Result<Self> {
        let len = file.len()?;
        Ok(Self {
            file,
            number: header.number,
            binding: header.binding,
            len,
            window: Vec::new(),
            base: 0,
        })
    }

    /// The length of the file, zeros that were allocated ahead included.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Forgets what was read, and how long the file was: another process may be writing it.
    pub(crate) fn look_again(&mut self) -> io::Result<()> {
        self.window.clear();
        self.len = self.file.len()?;
        Ok(())
    }

    /// Tells whether a group may begin at a byte: its first bytes are read, and no more.
    pub(crate) fn may_begin_at(&self, offset: u64) -> io::Result<bool> {
        let mut magic = [0; GROUP_MAGIC.len()];
        if offset.saturating_add(GROUP_HEADER_BYTES as u64) > self.len {
            return Ok(false);
        }
        self.file.read_exact_at(&mut magic, offset)?;
        Ok(magic == GROUP_MAGIC)
    }

    /// Returns the group at a byte, valid in itself, and following from the chain if one is given.
    pub(crate) fn at(
        &mut self,
        offset: u64,
        chain: Option<&ChainState>,
    ) -> io::Result<GroupScan<Group<'_>>> {
        let header = match self.header_at(offset)? {
            GroupScan::Valid(header) => header,
            GroupScan::Invalid(fault) => return Ok(GroupScan::Invalid(fault)),
        };
        let follows = chain.is_none_or(|chain| {
            header.hash == chain.hash
                && header.first == chain.next
                && header.recorded_at > chain.recorded_at
        });
        if !follows {
            return Ok(GroupScan::Invalid(GroupFault::ChainState));
        }
        let bytes = (GROUP_HEADER_BYTES + header.body_bytes as usize) as u64;
        if self.len - offset < bytes {
            return Ok(GroupScan::Invalid(GroupFault::Length));
        }
        let whole = self.bytes(offset, bytes as usize)?;
        let group = Group { header, bytes: whole, body: &whole[GROUP_HEADER_BYTES..], offset };
        Ok(match group.check() {
            Ok(()) => GroupScan::Valid(group),
            Err(fault) => GroupScan::Invalid(fault),
        })
    }

    /// The group at a byte, if it is valid, records something, and no group behind it shows that it
    /// is durable: a group is begun only when the one before it is.
    pub(crate) fn in_doubt(
        &mut self,
        offset: u64,
        chain: &ChainState,
    ) -> io::Result<Option<DoubtfulGroup>> {
        let GroupScan::Valid(group) = self.at(offset, Some(chain))? else { return Ok(None) };
        let doubtful =
            DoubtfulGroup { events: group.header.events, end: group.end(), chain: group.chain() };
        let seal = group.is_seal();
        let followed = self.begins_with(doubtful.end, &doubtful.chain)?;
        Ok((!seal && !followed).then_some(doubtful))
    }

    /// The group at a byte, if it is valid and nothing tells that it is durable: neither a group
    /// behind it nor the mark of the directory.
    pub(crate) fn held_back(
        &mut self,
        disk: &dyn Disk,
        header: &SegmentHeader,
        (offset, chain): (u64, &ChainState),
    ) -> io::Result<Option<DoubtfulGroup>> {
        if self.in_doubt(offset, chain)?.is_none() {
            return Ok(None);
        }
        // The mark goes first: if it names a later group by now, that one is seen behind this one.
        let mark = DurableMark::read(disk);
        self.look_again()?;
        let marked = |last: &DoubtfulGroup| {
            let named = DurableMark {
                store: header.store,
                address: address(header.number, last.end),
                hash: last.chain.hash,
            };
            mark == Some(named)
        };
        Ok(self.in_doubt(offset, chain)?.filter(|last| !marked(last)))
    }

    /// Tells whether the header of a group stands at a byte that follows from the chain.
    pub(crate) fn begins_with(&mut self, offset: u64, chain: &ChainState) -> io::Result<bool> {
        let header = self.header_at(offset)?;
        Ok(header.is_valid_and(|next| next.hash == chain.hash && next.first == chain.next))
    }

    /// Returns the header at a byte, if it is valid and was written for this place.
    pub(crate) fn header_at(&mut self, offset: u64) -> io::Result<GroupScan<GroupHeader>> {
        if offset.saturating_add(GROUP_HEADER_BYTES as u64) > self.len {
            return Ok(GroupScan::Invalid(GroupFault::End));
        }
        let (number, binding) = (self.number, self.binding);
        let bytes = self.bytes(offset, GROUP_HEADER_BYTES)?;
        let Some(bytes) = bytes.first_chunk() else {
            return Ok(GroupScan::Invalid(GroupFault::End));
        };
        Ok(match GroupHeader::decode(bytes, &binding, address(number, offset)) {
            Ok(header) => GroupScan::Valid(header),
            Err(GroupHeaderFault::Format(fault)) => GroupScan::Invalid(GroupFault::Header(fault)),
            Err(GroupHeaderFault::Elsewhere) => GroupScan::Invalid(GroupFault::Address),
        })
    }

    /// Searches behind a place where no valid group begins for a group that was begun when that
    /// place was durable.
    ///
    /// If the header at the place is valid, its body is passed over: it may be torn, and hold
    /// anything that a user wrote. Behind the one group that was not synced there was nothing but
    /// zeros.
    pub(crate) fn later_group(&mut self, from: u64, chain: &ChainState) -> io::Result<Option<u64>> {
        let mut offset = match self.header_at(from)? {
            GroupScan::Valid(header) => {
                from + (GROUP_HEADER_BYTES + header.body_bytes as usize) as u64
            }
            GroupScan::Invalid(_) => from + 1,
        };
        while offset + GROUP_HEADER_BYTES as u64 <= self.len {
            let count = (self.len - offset).min(WINDOW_BYTES) as usize;
            let bytes = self.bytes(offset, count)?;
            let found = bytes.windows(GROUP_MAGIC.len()).position(|window| window == GROUP_MAGIC);
            let Some(found) = found else {
                // Windows overlap, so that a magic across their border is seen.
                offset += (count - (GROUP_MAGIC.len() - 1).min(count - 1)) as u64;
                continue;
            };
            let candidate = offset + found as u64;
            if self.is_later(candidate, chain)? {
                return Ok(Some(candidate));
            }
            offset = candidate + 1;
        }
        Ok(None)
    }

    fn is_later(&mut self, offset: u64, chain: &ChainState) -> io::Result<bool> {
        Ok(self.at(offset, None)?.is_valid_and(|group| {
            group.header.recorded_at >= chain.recorded_at && group.header.first >= chain.next
        }))
    }

    /// Tells whether there are only zeros from a byte to the end.
    pub(crate) fn only_zeros(&mut self, from: u64) -> io::Result<bool> {
        let mut offset = from;
        while offset < self.len {
            let count = (self.len - offset).min(WINDOW_BYTES) as usize;
            if self.bytes(offset, count)?.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            offset += count as u64;
        }
        Ok(true)
    }

    /// Bytes that lie within the file.
    fn bytes(&mut self, offset: u64, count: usize) -> io::Result<&[u8]> {
        let end = offset + count as u64;
        if offset < self.base || end > self.base + self.window.len() as u64 {
            let fill = (self.len - offset).min((count as u64).max(WINDOW_BYTES)) as usize;
            // Where reading fails the window holds nothing.
            self.base = offset;
            self.window.clear();
            let mut window = std::mem::take(&mut self.window);
            window.resize(fill, 0);
            self.file.read_exact_at(&mut window, offset)?;
            self.window = window;
        }
        let start = (offset - self.base) as usize;
        Ok(&self.window[start..start + count])
    }
}
