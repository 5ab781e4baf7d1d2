//! A page of sorted entries: how it is written, and how it is searched.
//!
//! An entry is
//!
//! ```text
//! shared varint, unshared varint, unshared bytes of the key, at varint,
//! [ordinal varint, of streams only], value length varint, value
//! ```
//!
//! where `shared` counts the bytes that the key has in common with the key before it in the page.
//! The page ends with the crc of its file's number, its offset and its bytes, so that a page found
//! at a wrong place does not check.

use std::cmp::Ordering;

use super::key::KeyKind;
use crate::format::varint;

/// Bytes of entries after which a page is cut. An entry larger than that has a page of its own.
pub(super) const PAGE_BYTES: usize = 4096;
const CRC_BYTES: usize = 4;

/// An entry: what is known of a key from some place on. Entries are sorted by key, then by place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry<'a> {
    /// Kind first.
    pub(super) key: &'a [u8],
    /// The first position of a chunk; of a command or a consumer, the address; of a snapshot 0.
    pub(super) at: u64,
    /// Of a stream, the version of the event at `at`; of anything else 0.
    pub(super) ordinal: u64,
    pub(super) value: &'a [u8],
}

/// A place within the entries of one key. Positions and versions of a stream grow together, so both
/// can be searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Point {
    At(u64),
    Ordinal(u64),
}

impl IndexEntry<'_> {
    fn order(&self, key: &[u8], point: Point) -> Ordering {
        self.key.cmp(key).then_with(|| match point {
            Point::At(at) => self.at.cmp(&at),
            Point::Ordinal(ordinal) => self.ordinal.cmp(&ordinal),
        })
    }
}

/// The key and place of the first entry of a page, by which a page above leads to it.
#[derive(Debug)]
pub(super) struct FirstEntry {
    key: Vec<u8>,
    at: u64,
    ordinal: u64,
}

impl FirstEntry {
    /// The entry of the page above.
    pub(super) fn leading_to<'a>(&'a self, value: &'a [u8]) -> IndexEntry<'a> {
        IndexEntry { key: &self.key, at: self.at, ordinal: self.ordinal, value }
    }
}

/// Collects entries, in order, into a page.
#[derive(Debug, Default)]
pub(super) struct PageWriter {
    bytes: Vec<u8>,
    last_key: Vec<u8>,
    first: Option<FirstEntry>,
    count: usize,
}

impl PageWriter {
    pub(super) fn push(&mut self, entry: IndexEntry<'_>) {
        if self.first.is_none() {
            self.first =
                Some(FirstEntry { key: entry.key.to_vec(), at: entry.at, ordinal: entry.ordinal });
        }
        let shared = entry.key.iter().zip(&self.last_key).take_while(|(a, b)| a == b).count();
        varint::put(shared as u64, &mut self.bytes);
        varint::put((entry.key.len() - shared) as u64, &mut self.bytes);
        self.bytes.extend_from_slice(&entry.key[shared..]);
        varint::put(entry.at, &mut self.bytes);
        if KeyKind::of(entry.key) == Some(KeyKind::Stream) {
            varint::put(entry.ordinal, &mut self.bytes);
        }
        varint::put(entry.value.len() as u64, &mut self.bytes);
        self.bytes.extend_from_slice(entry.value);
        self.last_key.truncate(shared);
        self.last_key.extend_from_slice(&entry.key[shared..]);
        self.count += 1;
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Tells whether the page is so full that an entry of this size belongs into the next one.
    pub(super) fn is_full_for(&self, entry: IndexEntry<'_>) -> bool {
        self.count > 0 && self.bytes.len() + entry.key.len() + entry.value.len() > PAGE_BYTES
    }

    /// Returns the finished page for its place in a file, and the place of its first entry; leaves
    /// the writer empty. `None` if there was no entry.
    pub(super) fn finish(&mut self, file: u64, offset: u64) -> Option<(Vec<u8>, FirstEntry)> {
        let first = self.first.take()?;
        self.count = 0;
        self.last_key.clear();
        let mut bytes = std::mem::take(&mut self.bytes);
        seal(&mut bytes, file, offset);
        Some((bytes, first))
    }
}

/// Appends the crc of a page.
pub(super) fn seal(bytes: &mut Vec<u8>, file: u64, offset: u64) {
    let crc = checksum(bytes, file, offset);
    bytes.extend_from_slice(&crc.to_le_bytes());
}

/// Takes the crc off a page; `None` if the crc is wrong.
pub(super) fn unseal(bytes: &mut Vec<u8>, file: u64, offset: u64) -> Option<()> {
    let (payload, crc) = bytes.split_last_chunk::<CRC_BYTES>()?;
    let sound = checksum(payload, file, offset) == u32::from_le_bytes(*crc);
    bytes.truncate(bytes.len() - CRC_BYTES);
    sound.then_some(())
}

fn checksum(payload: &[u8], file: u64, offset: u64) -> u32 {
    let place = [file.to_le_bytes(), offset.to_le_bytes()].concat();
    crc32c::crc32c_append(crc32c::crc32c(&place), payload)
}

/// A page in memory, its keys spelt out, so that it can be searched both ways.
#[derive(Debug)]
pub(super) struct IndexPage {
    bytes: Box<[u8]>,
    keys: Box<[u8]>,
    entries: Box<[EntryLocation]>,
}

/// Location of the parts of an entry: offsets into `keys` and `bytes`.
#[derive(Debug)]
struct EntryLocation {
    at: u64,
    ordinal: u64,
    key: (u32, u32),
    value: (u32, u32),
}

impl IndexPage {
    /// Parses a page without its crc. The result is sorted, and within bounds; `None` if it would
    /// not be.
    pub(super) fn parse(bytes: Vec<u8>) -> Option<Self> {
        u32::try_from(bytes.len()).ok()?;
        let mut keys: Vec<u8> = Vec::with_capacity(bytes.len());
        let mut entries: Vec<EntryLocation> = Vec::new();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let (start, end) =
                entries.last().map_or((0, 0), |last| (last.key.0 as usize, last.key.1 as usize));
            let shared = varint::take_usize(&mut rest)?;
            let unshared = varint::take_usize(&mut rest)?;
            let suffix = varint::take_bytes(&mut rest, unshared)?;
            if shared > end - start {
                return None;
            }
            let key = if unshared == 0 && shared == end - start {
                (start, end)
            } else {
                keys.extend_from_within(start..start + shared);
                keys.extend_from_slice(suffix);
                (end, end + shared + unshared)
            };
            let at = varint::take(&mut rest)?;
            let is_stream = KeyKind::of(&keys[key.0..key.1])? == KeyKind::Stream;
            let ordinal = if is_stream { varint::take(&mut rest)? } else { 0 };
            let value_len = varint::take_usize(&mut rest)?;
            let value_start = bytes.len() - rest.len();
            let value = varint::take_bytes(&mut rest, value_len)?;
            let narrow = |(from, to): (usize, usize)| {
                Some((u32::try_from(from).ok()?, u32::try_from(to).ok()?))
            };
            let place = EntryLocation {
                at,
                ordinal,
                key: narrow(key)?,
                value: narrow((value_start, value_start + value.len()))?,
            };
            if let Some(last) = entries.last() {
                let (a, b) = (&keys[last.key.0 as usize..last.key.1 as usize], &keys[key.0..key.1]);
                let sorted =
                    a < b || a == b && last.at < at && (!is_stream || last.ordinal < ordinal);
                if !sorted {
                    return None;
                }
            }
            entries.push(place);
        }
        (!entries.is_empty()).then_some(())?;
        Some(Self { keys: keys.into(), entries: entries.into(), bytes: bytes.into() })
    }

    /// Returns the number of entries; at least one.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn entry(&self, index: usize) -> Option<IndexEntry<'_>> {
        self.entries.get(index).map(|place| self.at(place))
    }

    /// The last entry at or before a place, if this page has one.
    pub(super) fn floor(&self, key: &[u8], point: Point) -> Option<usize> {
        self.entries
            .partition_point(|place| self.at(place).order(key, point) != Ordering::Greater)
            .checked_sub(1)
    }

    /// Returns the bytes of memory that the page takes.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.len()
            + self.keys.len()
            + self.entries.len() * size_of::<EntryLocation>()
            + size_of::<Self>()
    }

    fn at(&self, place: &EntryLocation) -> IndexEntry<'_> {
        IndexEntry {
            key: &self.keys[place.key.0 as usize..place.key.1 as usize],
            at: place.at,
            ordinal: place.ordinal,
            value: &self.bytes[place.value.0 as usize..place.value.1 as usize],
        }
    }
}
