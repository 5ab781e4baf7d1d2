//! A run: one immutable, sorted file of the index. Derived, and free to change with its version.
//!
//! ```text
//! part*  root page  footer
//! part   = data page (up to 64)  guide page  filter
//! footer = magic `LFIR` 4, version 4, store id 16, run number 8, root offset 8, root bytes 8,
//!          crc 4
//! ```
//!
//! Every page is as [`block`](super::block) says. A data page holds entries: chunks of positions
//! (the first position as `at`, the version there as `ordinal`, the distances of the rest as
//! value), addresses (as `at`), snapshots (as value). A guide page holds the first key and place of
//! each data page, with `offset varint, bytes varint` as value; the root page those of each part,
//! with the places of its guide page and its filter. A filter is a Bloom filter over the keys of
//! the part, with a crc like a page.
//!
//! Only the root page is resident: about a thousandth of the file. Guide pages, filters and data
//! pages go through the cache, so the memory of an index does not grow with its history. A lookup
//! reads three pages at most: a filter, which ends it for most absent keys, a guide page and a data
//! page.

use std::io;
use std::sync::Arc;

use leftfold_core::store::{Direction, StoreId, Version};
use uuid::Uuid;

use super::block::{IndexEntry, IndexPage, Point, unseal};
use super::bloom::{Bloom, stored_hash};
use super::cache::{Cache, Cached};
use super::chunk;
use super::error::IndexError;
use super::manifest::{RunEntry, run_name, take, take_u64};
use crate::disk::{Disk, File};
use crate::format::varint;

/// A run that is open. Its file may be removed while readers have it.
#[derive(Debug)]
pub(super) struct SortedRun {
    pub(super) entry: RunEntry,
    name: String,
    file: Arc<dyn File>,
    cache: Arc<Cache>,
    seed: u64,
    /// The parts. Absent in a run without entries.
    root: Option<IndexPage>,
}

/// The end of a run file.
#[derive(Debug)]
pub(super) struct Footer {
    pub(super) store: StoreId,
    pub(super) number: u64,
    pub(super) root_offset: u64,
    pub(super) root_bytes: u64,
}

/// An entry of a run, by its place.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    part: usize,
    guide: Arc<IndexPage>,
    leaf: usize,
    page: Arc<IndexPage>,
    index: usize,
}

/// Returns the seed of the filters of a store.
pub(super) fn filter_seed(store: StoreId) -> u64 {
    store.0.as_u64_pair().1
}

impl SortedRun {
    pub(super) fn open(
        disk: &dyn Disk,
        store: StoreId,
        entry: RunEntry,
        cache: Arc<Cache>,
    ) -> Result<Self, IndexError> {
        let name = run_name(entry.number);
        let file = disk.open(&name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => IndexError::damaged(&name, 0, "it is missing"),
            _ => IndexError::io(&name, &error),
        })?;
        let mut run = Self { entry, name, file, cache, seed: filter_seed(store), root: None };
        let len = run.file.len().map_err(|error| IndexError::io(&run.name, &error))?;
        let footer_at = len.checked_sub(Footer::BYTES as u64).filter(|_| len == entry.bytes);
        let footer_at =
            footer_at.ok_or_else(|| run.damaged(0, "its length is not what was written"))?;
        let mut bytes = [0; Footer::BYTES];
        run.read(&mut bytes, footer_at)?;
        let footer = Footer::parse(&bytes).map_err(|detail| run.damaged(footer_at, detail))?;
        if footer.store != store || footer.number != entry.number {
            return Err(run.damaged(footer_at, "it belongs to another index"));
        }
        if footer.root_offset.checked_add(footer.root_bytes) != Some(footer_at) {
            return Err(run.damaged(footer_at, "its footer names no root"));
        }
        if footer.root_bytes > 0 {
            run.root = Some(run.load_page(footer.root_offset, footer.root_bytes)?);
        }
        Ok(run)
    }

    /// Adds up to one chunk of the positions of a key to `out`: forwards those from `bound` on,
    /// backwards those from it down, in that order; none if there are none.
    pub(super) fn positions(
        &self,
        key: &[u8],
        bound: u64,
        direction: Direction,
        out: &mut Vec<u64>,
    ) -> Result<(), IndexError> {
        let start = out.len();
        match direction {
            Direction::Forwards => {
                let (floor, mut after) = self.around(key, Point::At(bound))?;
                if let Some(spot) = &floor {
                    self.decode(spot, out)?;
                    let early = out[start..].partition_point(|&position| position < bound);
                    out.drain(start..start + early);
                    if out.len() == start {
                        after = self.next(spot)?;
                    }
                }
                if out.len() == start
                    && let Some(spot) = after.filter(|spot| spot.entry().key == key)
                {
                    self.decode(&spot, out)?;
                }
            }
            Direction::Backwards => {
                if let Some(spot) = self.floor(key, Point::At(bound))? {
                    self.decode(&spot, out)?;
                    let kept = out[start..].partition_point(|&position| position <= bound);
                    out.truncate(start + kept);
                    out[start..].reverse();
                }
            }
        }
        Ok(())
    }

    /// The version of a stream after its events up to and including `through`, if one of them is
    /// here.
    pub(super) fn version_through(
        &self,
        key: &[u8],
        through: u64,
    ) -> Result<Option<Version>, IndexError> {
        let Some(spot) = self.floor(key, Point::At(through))? else { return Ok(None) };
        let mut positions = Vec::new();
        self.decode(&spot, &mut positions)?;
        let count = positions.partition_point(|&position| position <= through) as u64;
        Ok(Some(Version(spot.entry().ordinal.saturating_add(count).saturating_sub(1))))
    }

    /// Returns the position of the event of this version, `None` if it is not in this run.
    pub(super) fn position_of(
        &self,
        key: &[u8],
        version: Version,
    ) -> Result<Option<u64>, IndexError> {
        let Some(spot) = self.floor(key, Point::Ordinal(version.0))? else { return Ok(None) };
        let mut positions = Vec::new();
        self.decode(&spot, &mut positions)?;
        let index = usize::try_from(version.0 - spot.entry().ordinal).ok();
        Ok(index.and_then(|index| positions.get(index).copied()))
    }

    /// The single value of a key: its address and its bytes.
    pub(super) fn value<T>(
        &self,
        key: &[u8],
        of: impl FnOnce(IndexEntry<'_>) -> T,
    ) -> Result<Option<T>, IndexError> {
        Ok(self.floor(key, Point::At(u64::MAX))?.map(|spot| of(spot.entry())))
    }

    /// Calls `found` with each key that begins with `prefix`, in order, until it returns false.
    pub(super) fn keys_with_prefix(
        &self,
        prefix: &[u8],
        mut found: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), IndexError> {
        let mut next = self.after(prefix, Point::At(0))?;
        while let Some(spot) = next {
            let key = spot.entry().key;
            if !key.starts_with(prefix) || !found(key) {
                break;
            }
            next = self.after(key, Point::At(u64::MAX))?;
        }
        Ok(())
    }

    /// The first entry, to go through all of them past the cache.
    pub(super) fn first(&self, through: PageAccess) -> Result<Option<Spot>, IndexError> {
        if self.root.is_none() { Ok(None) } else { self.spot(0, 0, 0, through) }
    }

    /// The entry after this one.
    pub(super) fn next(&self, spot: &Spot) -> Result<Option<Spot>, IndexError> {
        self.next_through(spot.clone(), PageAccess::Cache)
    }

    pub(super) fn next_through(
        &self,
        mut spot: Spot,
        through: PageAccess,
    ) -> Result<Option<Spot>, IndexError> {
        spot.index += 1;
        if spot.index < spot.page.len() {
            return Ok(Some(spot));
        }
        if spot.leaf + 1 < spot.guide.len() {
            (spot.leaf, spot.index) = (spot.leaf + 1, 0);
            spot.page = self.leaf(&spot.guide, spot.leaf, through)?;
            return Ok(Some(spot));
        }
        if self.root.as_ref().is_none_or(|root| spot.part + 1 >= root.len()) {
            return Ok(None);
        }
        self.spot(spot.part + 1, 0, 0, through)
    }

    /// The positions of a chunk.
    pub(super) fn decode(&self, spot: &Spot, out: &mut Vec<u64>) -> Result<(), IndexError> {
        let entry = spot.entry();
        chunk::decode(entry.at, entry.value, out)
            .ok_or_else(|| self.damaged(0, "a list of positions does not increase"))
    }

    pub(super) fn damaged(&self, offset: u64, detail: &'static str) -> IndexError {
        IndexError::damaged(&self.name, offset, detail)
    }

    /// The last entry of the key at or before a point.
    fn floor(&self, key: &[u8], point: Point) -> Result<Option<Spot>, IndexError> {
        let Some(part) = self.part(key, point) else { return Ok(None) };
        if !self.may_contain(part, key)? {
            // Entries of the key in the part before would lie between that part's end and the
            // point: none do, for then this part would begin with the key.
            return Ok(None);
        }
        Ok(self.floor_in(part, key, point)?.filter(|spot| spot.entry().key == key))
    }

    /// The last entry of the key at or before a point; or else the first after the point, of
    /// whichever key.
    fn around(&self, key: &[u8], point: Point) -> Result<(Option<Spot>, Option<Spot>), IndexError> {
        let Some(root) = &self.root else { return Ok((None, None)) };
        let Some(part) = self.part(key, point) else {
            return Ok((None, self.first(PageAccess::Cache)?));
        };
        if !self.may_contain(part, key)? {
            let next_begins_so = root.entry(part + 1).is_some_and(|next| next.key == key);
            return Ok((
                None,
                if next_begins_so { self.spot(part + 1, 0, 0, PageAccess::Cache)? } else { None },
            ));
        }
        match self.floor_in(part, key, point)? {
            Some(spot) if spot.entry().key == key => Ok((Some(spot), None)),
            Some(spot) => Ok((None, self.next(&spot)?)),
            None => Ok((None, self.spot(part, 0, 0, PageAccess::Cache)?)),
        }
    }

    /// The first entry after a point, of whichever key.
    fn after(&self, key: &[u8], point: Point) -> Result<Option<Spot>, IndexError> {
        let Some(part) = self.part(key, point) else { return self.first(PageAccess::Cache) };
        match self.floor_in(part, key, point)? {
            Some(spot) => self.next(&spot),
            None => self.spot(part, 0, 0, PageAccess::Cache),
        }
    }

    fn part(&self, key: &[u8], point: Point) -> Option<usize> {
        self.root.as_ref()?.floor(key, point)
    }

    fn floor_in(&self, part: usize, key: &[u8], point: Point) -> Result<Option<Spot>, IndexError> {
        let guide = self.guide(part, PageAccess::Cache)?;
        let Some(leaf) = guide.floor(key, point) else { return Ok(None) };
        let page = self.leaf(&guide, leaf, PageAccess::Cache)?;
        Ok(page.floor(key, point).map(|index| Spot { part, guide, leaf, page, index }))
    }

    fn spot(
        &self,
        part: usize,
        leaf: usize,
        index: usize,
        through: PageAccess,
    ) -> Result<Option<Spot>, IndexError> {
        let guide = self.guide(part, through)?;
        let page = self.leaf(&guide, leaf, through)?;
        Ok(Some(Spot { part, guide, leaf, page, index }))
    }

    fn guide(&self, part: usize, through: PageAccess) -> Result<Arc<IndexPage>, IndexError> {
        let (guide, _) = self.places(part)?;
        self.page(guide, through)
    }

    fn leaf(
        &self,
        guide: &IndexPage,
        leaf: usize,
        through: PageAccess,
    ) -> Result<Arc<IndexPage>, IndexError> {
        let place = guide.entry(leaf).and_then(|entry| take_place(&mut { entry.value }));
        self.page(place.ok_or_else(|| self.damaged(0, "a guide page names no data page"))?, through)
    }

    /// Returns the extents of the guide page and of the filter of a part.
    fn places(&self, part: usize) -> Result<(Extent, Extent), IndexError> {
        let places = || {
            let mut value = self.root.as_ref()?.entry(part)?.value;
            Some((take_place(&mut value)?, take_place(&mut value)?))
        };
        places().ok_or_else(|| self.damaged(0, "the root page names no part"))
    }

    fn may_contain(&self, part: usize, key: &[u8]) -> Result<bool, IndexError> {
        let (_, (offset, bytes)) = self.places(part)?;
        let id = (self.entry.number, offset);
        let bloom = match self.cache.page(id) {
            Some(Cached::Bloom(bloom)) => bloom,
            _ => {
                let bloom = Bloom::parse(self.load(offset, bytes)?);
                let bloom =
                    Arc::new(bloom.ok_or_else(|| self.damaged(offset, "a filter is empty"))?);
                self.cache.keep(id, Cached::Bloom(Arc::clone(&bloom)));
                bloom
            }
        };
        Ok(bloom.may_contain(stored_hash(self.seed, key)))
    }

    fn page(
        &self,
        (offset, bytes): Extent,
        through: PageAccess,
    ) -> Result<Arc<IndexPage>, IndexError> {
        let id = (self.entry.number, offset);
        if through == PageAccess::Cache
            && let Some(Cached::IndexPage(page)) = self.cache.page(id)
        {
            return Ok(page);
        }
        let page = Arc::new(self.load_page(offset, bytes)?);
        if through == PageAccess::Cache {
            self.cache.keep(id, Cached::IndexPage(Arc::clone(&page)));
        }
        Ok(page)
    }

    fn load_page(&self, offset: u64, bytes: u64) -> Result<IndexPage, IndexError> {
        IndexPage::parse(self.load(offset, bytes)?)
            .ok_or_else(|| self.damaged(offset, "a page is not sorted"))
    }

    /// Reads a page, and takes off its crc.
    fn load(&self, offset: u64, len: u64) -> Result<Vec<u8>, IndexError> {
        let within = offset.checked_add(len).is_some_and(|end| end <= self.entry.bytes);
        let len = usize::try_from(len).ok().filter(|_| within);
        let mut bytes =
            vec![0; len.ok_or_else(|| self.damaged(offset, "a page lies beyond the end"))?];
        self.read(&mut bytes, offset)?;
        unseal(&mut bytes, self.entry.number, offset)
            .ok_or_else(|| self.damaged(offset, "the checksum of a page does not match"))?;
        Ok(bytes)
    }

    fn read(&self, bytes: &mut [u8], offset: u64) -> Result<(), IndexError> {
        self.file.read_exact_at(bytes, offset).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(offset, "it ends too early"),
            _ => IndexError::io(&self.name, &error),
        })
    }
}

/// Extent of a page in the file: its offset and its bytes.
type Extent = (u64, u64);

/// Way in which a page is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageAccess {
    /// Through the cache.
    Cache,
    /// Past it: a reader of everything would only displace the pages that others use.
    Disk,
}

impl Spot {
    pub(super) fn entry(&self) -> IndexEntry<'_> {
        // Invariant: a spot is made with an index below the page's length, and pages do not change.
        self.page.entry(self.index).expect("a spot is an entry of its page")
    }
}

fn take_place(value: &mut &[u8]) -> Option<Extent> {
    Some((varint::take(value)?, varint::take(value)?))
}

impl Footer {
    /// Bytes of a footer.
    pub(super) const BYTES: usize = 52;
    const MAGIC: [u8; 4] = *b"LFIR";
    const VERSION: u32 = 1;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::BYTES);
        bytes.extend_from_slice(&Self::MAGIC);
        bytes.extend_from_slice(&Self::VERSION.to_le_bytes());
        bytes.extend_from_slice(self.store.0.as_bytes());
        for number in [self.number, self.root_offset, self.root_bytes] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn parse(bytes: &[u8; Self::BYTES]) -> Result<Self, &'static str> {
        const SHORT: &str = "its footer is too short";
        let (mut rest, crc) = bytes.split_last_chunk::<4>().ok_or(SHORT)?;
        if crc32c::crc32c(rest) != u32::from_le_bytes(*crc) {
            return Err("the checksum of its footer does not match");
        }
        let rest = &mut rest;
        if take::<4>(rest) != Some(Self::MAGIC)
            || take::<4>(rest).map(u32::from_le_bytes) != Some(Self::VERSION)
        {
            return Err("it was written by another release");
        }
        let store = StoreId(Uuid::from_bytes(take(rest).ok_or(SHORT)?));
        let mut number = || take_u64(rest).ok_or(SHORT);
        Ok(Self { store, number: number()?, root_offset: number()?, root_bytes: number()? })
    }
}
