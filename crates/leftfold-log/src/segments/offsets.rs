//! Offsets of the events of one segment: in memory while the segment grows, in a file when it is
//! sealed.
//!
//! The file is derived. Every block of it is checked when it is read; the file is rebuilt from the
//! segment if one is damaged.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use leftfold_core::store::{Hash, Position, StoreId};

use crate::disk::{Disk, File};
use crate::format::{Decoder, FormatError, SegmentHeader, offsets_name};
use crate::segments::open_files::{OpenFiles, SegmentFile};

const MAGIC: [u8; 8] = *b"LFOFFS01";
const HEADER_BYTES: usize = 128;
const BLOCK_BYTES: usize = 4096;
const BLOCK_WORDS: usize = BLOCK_BYTES / 4 - 1;
/// Groups closer than this to the anchor before have none of their own.
const ANCHOR_BYTES: u32 = 16 << 10;

/// The offsets of a segment, in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    /// Of each event's record.
    events: Vec<u32>,
    /// Some groups: the offset of each, and the number of events of the segment before it.
    anchors: Vec<Anchor>,
    /// End of the last group, which may be a seal.
    end: u32,
}

/// A group that is found without a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    pub(crate) offset: u32,
    pub(crate) events_before: u32,
}

impl Offsets {
    pub(crate) fn add_group(&mut self, offset: u32, events: &[u32], end: u32) {
        if self.anchors.last().is_none_or(|last| offset - last.offset >= ANCHOR_BYTES) {
            self.anchors.push(Anchor { offset, events_before: self.events.len() as u32 });
        }
        self.events.extend_from_slice(events);
        self.end = end;
    }

    /// A seal stands behind the last group: it holds nothing, and the offsets go as far.
    pub(crate) fn end_at(&mut self, end: u32) {
        self.end = end;
    }

    fn events(&self) -> u32 {
        self.events.len() as u32
    }
}

/// The offsets of a segment: in memory, or in a file.
#[derive(Debug)]
pub(crate) enum OffsetTable {
    Memory(Offsets),
    File(OffsetsFile),
}

impl OffsetTable {
    /// Returns the begin of the record of each event, with a bound of its end: the next event, or
    /// the end of the last group. Stops early if there is no such event.
    pub(crate) fn extents(
        &self,
        indexes: impl Iterator<Item = u32>,
        blocks: &Blocks,
    ) -> Result<Vec<(u32, u32)>, OffsetsFault> {
        let mut extents = Vec::with_capacity(indexes.size_hint().0);
        match self {
            Self::Memory(offsets) => {
                let start = |index: u32| offsets.events.get(index as usize).copied();
                extents.extend(indexes.map_while(|index| {
                    start(index).map(|at| (at, start(index + 1).unwrap_or(offsets.end)))
                }));
            }
            Self::File(file) => {
                let mut words = WordReader { file, blocks, at: None };
                for index in indexes.take_while(|index| *index < file.events) {
                    let start = words.word(index)?;
                    let end =
                        if index + 1 < file.events { words.word(index + 1)? } else { file.end };
                    extents.push((start, end));
                }
            }
        }
        Ok(extents)
    }

    /// The last anchor at or before the event with an index.
    pub(crate) fn anchor(
        &self,
        index: u32,
        blocks: &Blocks,
    ) -> Result<Option<Anchor>, OffsetsFault> {
        let count = match self {
            Self::Memory(offsets) => offsets.anchors.len() as u32,
            Self::File(file) => file.anchors,
        };
        let at = |n: u32| match self {
            Self::Memory(offsets) => Ok(offsets.anchors[n as usize]),
            Self::File(file) => Ok(Anchor {
                offset: file.word(file.events + 2 * n, blocks)?,
                events_before: file.word(file.events + 2 * n + 1, blocks)?,
            }),
        };
        // The group that holds the event begins with at most so many events before it.
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            if at(middle)?.events_before <= index { low = middle + 1 } else { high = middle }
        }
        if low == 0 { Ok(None) } else { at(low - 1).map(Some) }
    }

    pub(crate) fn end(&self) -> u32 {
        match self {
            Self::Memory(offsets) => offsets.end,
            Self::File(file) => file.end,
        }
    }
}

/// Offsets in a file, which is opened when it is read from: of sealed segments there may be any
/// number.
#[derive(Debug)]
pub(crate) struct OffsetsFile {
    number: u64,
    events: u32,
    anchors: u32,
    end: u32,
}

/// Reason why a file of offsets cannot be used: it is rebuilt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OffsetsFault {
    #[error("the offsets file cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the offsets file is not what was written: {0}")]
    Format(#[from] FormatError),
    #[error("the offsets file belongs to another history")]
    Other,
}

impl OffsetsFile {
    /// Reads the header of a file of offsets. The file must belong to the segment and go up to
    /// `end`, and `is_right` must accept its chain hash there.
    pub(crate) fn of(
        file: &dyn File,
        header: &SegmentHeader,
        end: u64,
        is_right: impl Fn(Hash) -> bool,
    ) -> Result<Self, OffsetsFault> {
        let mut bytes = [0; HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0)?;
        let what = "offsets header";
        let (body, crc) = bytes.split_at(HEADER_BYTES - 4);
        if crc != crc32c::crc32c(body).to_le_bytes() {
            return Err(FormatError::Checksum { what }.into());
        }
        let mut input = Decoder::new(body, what);
        let magic: [u8; 8] = input.array()?;
        let store = StoreId(uuid::Uuid::from_bytes(input.array()?));
        let (number, first) = (input.u64()?, Position(input.u64()?));
        let (events, anchors, covered) = (input.u32()?, input.u32()?, input.u32()?);
        let (before, after) = (Hash(input.array()?), Hash(input.array()?));
        let same = magic == MAGIC
            && (store, number, first, before)
                == (header.store, header.number, header.first, header.hash)
            && u64::from(covered) == end
            && is_right(after);
        if same {
            Ok(Self { number, events, anchors, end: covered })
        } else {
            Err(OffsetsFault::Other)
        }
    }

    fn word(&self, index: u32, blocks: &Blocks) -> Result<u32, OffsetsFault> {
        WordReader { file: self, blocks, at: None }.word(index)
    }

    fn read_block(&self, file: &dyn File, block: u32) -> Result<Vec<u32>, OffsetsFault> {
        let words = (self.events + 2 * self.anchors) as usize;
        let count = words.saturating_sub(block as usize * BLOCK_WORDS).min(BLOCK_WORDS);
        let mut bytes = vec![0; (count + 1) * 4];
        file.read_exact_at(&mut bytes, (HEADER_BYTES + block as usize * BLOCK_BYTES) as u64)?;
        let (body, crc) = bytes.split_at(count * 4);
        if crc != block_crc(block, body).to_le_bytes() {
            return Err(FormatError::Checksum { what: "offsets block" }.into());
        }
        Ok(body.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect())
    }

    /// All of it, to go on with it in memory.
    pub(crate) fn load(&self, file: &dyn File) -> Result<Offsets, OffsetsFault> {
        let words = self.events as usize + 2 * self.anchors as usize;
        let mut all = Vec::with_capacity(words);
        for block in 0..words.div_ceil(BLOCK_WORDS) as u32 {
            all.extend(self.read_block(file, block)?);
        }
        let anchors = all.split_off(self.events as usize);
        let anchors = anchors
            .as_chunks::<2>()
            .0
            .iter()
            .map(|[offset, events_before]| Anchor {
                offset: *offset,
                events_before: *events_before,
            })
            .collect();
        Ok(Offsets { events: all, anchors, end: self.end })
    }
}

/// Reads words of a file one after the other, mostly of the same block.
struct WordReader<'a> {
    file: &'a OffsetsFile,
    blocks: &'a Blocks,
    at: Option<(u32, Arc<Vec<u32>>)>,
}

impl WordReader<'_> {
    fn word(&mut self, index: u32) -> Result<u32, OffsetsFault> {
        let (block, word) = (index / BLOCK_WORDS as u32, index as usize % BLOCK_WORDS);
        let words = match &self.at {
            Some((at, words)) if *at == block => words,
            _ => &self.at.insert((block, self.blocks.block(self.file, block)?)).1,
        };
        words
            .get(word)
            .copied()
            .ok_or(OffsetsFault::Format(FormatError::Short { what: "offsets block" }))
    }
}

/// Writes the file of a segment. Nothing is synced: what a crash leaves of it is checked, and
/// rebuilt if it is damaged.
pub(crate) fn write(
    disk: &dyn Disk,
    header: &SegmentHeader,
    offsets: &Offsets,
    hash: Hash,
) -> io::Result<OffsetsFile> {
    let (name, temporary) =
        (offsets_name(header.number), format!("{}.tmp", offsets_name(header.number)));
    if let Err(error) = disk.remove(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let file = disk.create(&temporary)?;
    let mut bytes = encode_header(header, offsets, hash);
    let anchors = offsets.anchors.iter().flat_map(|anchor| [anchor.offset, anchor.events_before]);
    let words: Vec<u32> = offsets.events.iter().copied().chain(anchors).collect();
    for (block, words) in words.chunks(BLOCK_WORDS).enumerate() {
        let body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.extend_from_slice(&body);
        bytes.extend_from_slice(&block_crc(block as u32, &body).to_le_bytes());
    }
    file.write_all_at(&bytes, 0)?;
    disk.rename(&temporary, &name)?;
    let (events, anchors) = (offsets.events(), offsets.anchors.len() as u32);
    Ok(OffsetsFile { number: header.number, events, anchors, end: offsets.end })
}

fn encode_header(header: &SegmentHeader, offsets: &Offsets, hash: Hash) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(header.store.0.as_bytes());
    bytes.extend_from_slice(&header.number.to_le_bytes());
    bytes.extend_from_slice(&header.first.0.to_le_bytes());
    for count in [offsets.events(), offsets.anchors.len() as u32, offsets.end] {
        bytes.extend_from_slice(&count.to_le_bytes());
    }
    bytes.extend_from_slice(&header.hash.0);
    bytes.extend_from_slice(&hash.0);
    bytes.resize(HEADER_BYTES - 4, 0);
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

fn block_crc(block: u32, body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block.to_le_bytes()), body)
}

/// Segment and block.
type BlockKey = (u64, u32);

/// Blocks of offsets that were read, up to a bound; which one goes when it is reached is left to
/// chance.
#[derive(Debug)]
pub(crate) struct Blocks {
    files: Arc<OpenFiles>,
    kept: Mutex<HashMap<BlockKey, Arc<Vec<u32>>>>,
    blocks_max: usize,
}

impl Blocks {
    pub(crate) fn new(files: Arc<OpenFiles>, memory_bytes: usize) -> Self {
        Self { files, kept: Mutex::default(), blocks_max: (memory_bytes / BLOCK_BYTES).max(16) }
    }

    fn block(&self, file: &OffsetsFile, block: u32) -> Result<Arc<Vec<u32>>, OffsetsFault> {
        let key = (file.number, block);
        if let Some(words) = self.kept.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(words));
        }
        let handle = self.files.open(SegmentFile::Offsets(file.number))?;
        let words = Arc::new(file.read_block(&*handle, block)?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= self.blocks_max {
            let out = kept.keys().next().copied();
            out.and_then(|out| kept.remove(&out));
        }
        kept.insert(key, Arc::clone(&words));
        Ok(words)
    }

    /// Forgets the blocks of a segment whose file is rebuilt.
    pub(crate) fn forget(&self, number: u64) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).retain(|(of, _), _| *of != number);
    }
}
