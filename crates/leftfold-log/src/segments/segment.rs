//! The segments of a log, as readers use them: the offset of an event, and the bytes there.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use leftfold_core::store::{Hash, Position, ReadError, StoreId};

use crate::disk::lacks_room;
use crate::disk::{Disk, File};
use crate::format::{RECORD_HEADER_BYTES, SegmentHeader, segment_name};
use crate::options::Options;
use crate::segments::buffers::Buffers;
use crate::segments::offsets::{self, Blocks, OffsetTable, Offsets, OffsetsFault, OffsetsFile};
use crate::segments::open_files::{OpenFiles, SegmentFile};
use crate::segments::scan::{ChainState, GroupFault, Groups, Record, place_of};

/// One segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) header: SegmentHeader,
    /// See [`SegmentHeader::minter`].
    pub(crate) minter: StoreId,
    /// Loaded when it is first needed.
    table: RwLock<Option<OffsetTable>>,
}

/// All segments, in order.
#[derive(Debug)]
pub(crate) struct Segments {
    disk: Arc<dyn Disk>,
    store: StoreId,
    list: RwLock<Vec<Arc<Segment>>>,
    files: Arc<OpenFiles>,
    blocks: Blocks,
    pub(crate) buffers: Buffers,
}

impl Segment {
    pub(crate) fn new(header: SegmentHeader, offsets: Option<Offsets>) -> Self {
        Self {
            header,
            minter: header.minter(),
            table: RwLock::new(offsets.map(OffsetTable::Memory)),
        }
    }

    pub(crate) fn index_of(&self, position: Position) -> u32 {
        // A segment of 2^31 bytes holds fewer events than that.
        u32::try_from(position.0 - self.header.first.0).unwrap_or(u32::MAX)
    }
}

impl Segments {
    /// Of the memory for it, and of the files that may be open, as the options say.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        store: StoreId,
        list: Vec<Arc<Segment>>,
        options: &Options,
    ) -> Self {
        let files = Arc::new(OpenFiles::new(Arc::clone(&disk), options.open_files));
        Self {
            disk,
            store,
            list: RwLock::new(list),
            blocks: Blocks::new(Arc::clone(&files), options.memory_bytes / 8),
            files,
            buffers: Buffers::default(),
        }
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// Closes the file of a segment that is in another directory now.
    pub(crate) fn forget_file(&self, number: u64) {
        self.files.forget(SegmentFile::Segment(number));
    }

    pub(crate) fn store(&self) -> StoreId {
        self.store
    }

    pub(crate) fn push(&self, segment: Arc<Segment>) {
        self.list.write().unwrap_or_else(PoisonError::into_inner).push(segment);
    }

    /// Returns the number of segments, and the bytes of those that are complete.
    pub(crate) fn sealed(&self) -> (usize, u64) {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        // Each tells how long the one before it is.
        (
            list.len(),
            list.iter().skip(1).map(|segment| u64::from(segment.header.length_before)).sum(),
        )
    }

    /// Returns the headers of all segments, each with its durable length.
    pub(crate) fn extents(&self) -> Result<Vec<(SegmentHeader, u64)>, ReadError> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner).clone();
        let lengths = list.iter().skip(1).map(|segment| u64::from(segment.header.length_before));
        let last = match list.last() {
            // A segment without a group has no end in the table.
            Some(last) => {
                u64::from(self.table(last, |table, _| Ok(table.end()))?).max(last.header.bytes())
            }
            None => 0,
        };
        let lengths = lengths.chain([last]);
        Ok(list.iter().map(|segment| segment.header).zip(lengths).collect())
    }

    /// The first segment.
    pub(crate) fn first(&self) -> Arc<Segment> {
        // Invariant: a log has one, and segments are only added.
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(list.first().expect("a log has a first segment"))
    }

    /// The segment that holds a position at or before the head.
    pub(crate) fn holding(&self, position: Position) -> Option<Arc<Segment>> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let after = list.partition_point(|segment| segment.header.first <= position);
        list.get(after.checked_sub(1)?).cloned()
    }

    /// The segment of a number.
    pub(crate) fn numbered(&self, number: u64) -> Option<Arc<Segment>> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let found = list.binary_search_by_key(&number, |segment| segment.header.number);
        found.ok().map(|index| Arc::clone(&list[index]))
    }

    /// The segment after one.
    pub(crate) fn following(&self, segment: &Segment) -> Option<Arc<Segment>> {
        let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
        let after = list.partition_point(|other| other.header.number <= segment.header.number);
        list.get(after).cloned()
    }

    pub(crate) fn file(&self, number: u64) -> Result<Arc<dyn File>, ReadError> {
        self.open_file(number).map_err(|error| io_error(number, &error))
    }

    pub(crate) fn open_file(&self, number: u64) -> io::Result<Arc<dyn File>> {
        self.files.open(SegmentFile::Segment(number))
    }

    /// Closes the files that were read, when another handle is needed. Returns true if there were
    /// any.
    pub(crate) fn let_go_of_files(&self) -> bool {
        self.files.let_go()
    }

    /// Adds a durable group to the segment that grows. Only the writer calls this, before it
    /// publishes the head.
    pub(crate) fn add_group(&self, segment: &Segment, offset: u32, events: &[u32], end: u32) {
        let mut table = segment.table.write().unwrap_or_else(PoisonError::into_inner);
        if let OffsetTable::Memory(offsets) =
            table.get_or_insert_with(|| OffsetTable::Memory(Offsets::default()))
        {
            offsets.add_group(offset, events, end);
        }
    }

    /// A seal ends the segment that grew.
    pub(crate) fn end_at(&self, segment: &Segment, end: u32) {
        if let Some(OffsetTable::Memory(offsets)) =
            &mut *segment.table.write().unwrap_or_else(PoisonError::into_inner)
        {
            offsets.end_at(end);
        }
    }

    /// Writes the offsets of a segment to their file. They stay in memory if that fails, or if the
    /// segment goes on growing.
    pub(crate) fn keep_offsets(&self, segment: &Segment, hash: Hash, then: OffsetsUse) {
        let held = segment.table.read().unwrap_or_else(PoisonError::into_inner);
        let Some(OffsetTable::Memory(offsets)) = &*held else { return };
        let written = offsets::write(&*self.disk, &segment.header, offsets, hash);
        drop(held);
        self.forget_offsets(segment);
        match (written, then) {
            (Ok(file), OffsetsUse::ReadFromFile) => {
                *segment.table.write().unwrap_or_else(PoisonError::into_inner) =
                    Some(OffsetTable::File(file));
            }
            (Ok(_), OffsetsUse::StayInMemory) => {}
            (Err(error), _) => tracing::debug!(%error, "the offsets of a segment stay in memory"),
        }
    }

    /// Asks the table of a segment, which is loaded or rebuilt if needed. If the system lacks a
    /// handle or memory, the table is not rebuilt: nothing is wrong with it, and it is asked again
    /// another time.
    pub(crate) fn table<T>(
        &self,
        segment: &Segment,
        ask: impl Fn(&OffsetTable, &Blocks) -> Result<T, OffsetsFault>,
    ) -> Result<T, ReadError> {
        let number = segment.header.number;
        if let Some(table) = &*segment.table.read().unwrap_or_else(PoisonError::into_inner) {
            match ask(table, &self.blocks) {
                Ok(answer) => return Ok(answer),
                Err(OffsetsFault::Io(error)) if lacks_room(&error) => {
                    return Err(io_error(number, &error));
                }
                Err(fault) => tracing::warn!(%fault, segment = number, "offsets are rebuilt"),
            }
        }
        let mut held = segment.table.write().unwrap_or_else(PoisonError::into_inner);
        let table = match held.take() {
            None => self.load(segment)?,
            Some(OffsetTable::File(_)) => self.remake(segment)?,
            Some(memory) => memory,
        };
        let table = held.insert(table);
        match ask(table, &self.blocks) {
            Ok(answer) => Ok(answer),
            Err(OffsetsFault::Io(error)) if lacks_room(&error) => Err(io_error(number, &error)),
            Err(_) => {
                let (offsets, _) = self.walk(segment)?;
                let walked = held.insert(OffsetTable::Memory(offsets));
                ask(walked, &self.blocks)
                    .map_err(|fault| ReadError::Io { detail: fault.to_string() })
            }
        }
    }

    fn load(&self, segment: &Segment) -> Result<OffsetTable, ReadError> {
        let number = segment.header.number;
        let len = self.file(number)?.len().map_err(|error| io_error(number, &error))?;
        if let Some(next) = self.following(segment) {
            let opened =
                self.files.open(SegmentFile::Offsets(number)).map_err(OffsetsFault::Io).and_then(
                    |file| {
                        OffsetsFile::of(&*file, &segment.header, len, |hash| {
                            next.header.follows_hash(hash, &segment.header)
                        })
                    },
                );
            match opened {
                Ok(file) => return Ok(OffsetTable::File(file)),
                Err(OffsetsFault::Io(error)) if lacks_room(&error) => {
                    return Err(io_error(number, &error));
                }
                Err(_) => {}
            }
        }
        self.remake(segment)
    }

    /// Rebuilds the offsets of a sealed segment. They stay in memory only if they cannot be
    /// written.
    fn remake(&self, segment: &Segment) -> Result<OffsetTable, ReadError> {
        self.forget_offsets(segment);
        let (offsets, hash) = self.walk(segment)?;
        Ok(match offsets::write(&*self.disk, &segment.header, &offsets, hash) {
            Ok(file) => OffsetTable::File(file),
            Err(_) => OffsetTable::Memory(offsets),
        })
    }

    fn forget_offsets(&self, segment: &Segment) {
        self.files.forget(SegmentFile::Offsets(segment.header.number));
        self.blocks.forget(segment.header.number);
    }

    /// Goes through a sealed segment for its offsets, and the chain hash at its end.
    fn walk(&self, segment: &Segment) -> Result<(Offsets, Hash), ReadError> {
        let number = segment.header.number;
        let mut groups = Groups::of(self.file(number)?, &segment.header)
            .map_err(|error| io_error(number, &error))?;
        let mut chain = ChainState::before(&segment.header);
        let mut offset = segment.header.bytes();
        let mut offsets = Offsets::default();
        while offset < groups.len() {
            let group =
                groups.at(offset, Some(&chain)).map_err(|error| io_error(number, &error))?;
            let group = group.valid_or(|fault| group_damage(number, offset, fault))?;
            let mut events = Vec::new();
            for record in group.records() {
                if let (at, Record::Event(_)) =
                    record.map_err(|fault| group_damage(number, offset, fault))?
                {
                    events.push(at as u32);
                }
            }
            offsets.add_group(offset as u32, &events, group.end() as u32);
            chain = group.chain();
            offset = group.end();
        }
        Ok((offsets, chain.hash))
    }

    /// The record at an address, as bytes that [`RecordFrame::decode`] takes.
    pub(crate) fn record_at(&self, address: u64) -> Result<Bytes, ReadError> {
        let (number, offset) = place_of(address);
        let file = self.file(number)?;
        let mut header = [0; RECORD_HEADER_BYTES];
        file.read_exact_at(&mut header, offset).map_err(|error| io_error(number, &error))?;
        let len = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
        let file_len = file.len().map_err(|error| io_error(number, &error))?;
        let whole = RECORD_HEADER_BYTES + len;
        if offset + whole as u64 > file_len {
            return Err(damaged(number, offset, &"a record ends beyond its segment"));
        }
        let mut bytes = vec![0; whole];
        file.read_exact_at(&mut bytes, offset).map_err(|error| io_error(number, &error))?;
        Ok(bytes.into())
    }

    /// The chain hash after the group that recorded a position at or before the head.
    pub(crate) fn hash_after_group_of(&self, position: Position) -> Result<Hash, ReadError> {
        let segment = self.holding(position).ok_or_else(|| missing(position))?;
        let number = segment.header.number;
        let anchor =
            self.table(&segment, |table, blocks| table.anchor(segment.index_of(position), blocks))?;
        let mut offset = u64::from(anchor.ok_or_else(|| missing(position))?.offset);
        let mut groups = Groups::of(self.file(number)?, &segment.header)
            .map_err(|error| io_error(number, &error))?;
        loop {
            let header = groups.header_at(offset).map_err(|error| io_error(number, &error))?;
            let header = header.valid_or(|fault| group_damage(number, offset, fault))?;
            if header.next().is_some_and(|next| next > position) && header.events > 0 {
                let group = groups.at(offset, None).map_err(|error| io_error(number, &error))?;
                let group = group.valid_or(|fault| group_damage(number, offset, fault))?;
                return Ok(group.chain().hash);
            }
            offset += (crate::format::GROUP_HEADER_BYTES + header.body_bytes as usize) as u64;
        }
    }
}

/// Use of the offsets of a segment once they are in a file: read from there, or kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OffsetsUse {
    /// The segment is sealed.
    ReadFromFile,
    /// It may grow.
    StayInMemory,
}

pub(crate) fn missing(position: Position) -> ReadError {
    ReadError::Damaged {
        place: format!("position {position}"),
        detail: "no segment holds it".to_owned(),
    }
}

/// The place of a byte, for messages.
pub(crate) fn place(number: u64, offset: u64) -> String {
    format!("{} byte {offset}", segment_name(number))
}

pub(crate) fn damaged(number: u64, offset: u64, detail: &impl ToString) -> ReadError {
    ReadError::Damaged { place: place(number, offset), detail: detail.to_string() }
}

fn group_damage(number: u64, offset: u64, fault: GroupFault) -> ReadError {
    damaged(number, offset, &fault)
}

pub(crate) fn io_error(number: u64, error: &io::Error) -> ReadError {
    ReadError::Io { detail: format!("{}: {error}", segment_name(number)) }
}
