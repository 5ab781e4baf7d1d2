//! Writing a run. What it looks like is said in [`run`](super::run).

use std::sync::Arc;

use leftfold_core::store::StoreId;

use super::block::{IndexEntry, PageWriter, seal};
use super::bloom::{Bloom, stored_hash};
use super::chunk::{self, CHUNK_POSITIONS};
use super::error::IndexError;
use super::manifest::{RunEntry, remove_if_there, run_name, temporary};
use super::run::{Footer, filter_seed};
use crate::disk::{Disk, File};
use crate::format::varint;

/// Data pages in one part of a run: each part has one page that leads to them, and one filter.
const PART_PAGES: usize = 64;
/// Bytes gathered before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// Takes sorted entries, and makes them a run file. Dropped before [`finish`](Self::finish), it
/// leaves a `*.tmp` file.
#[derive(Debug)]
pub(super) struct RunWriter<'d> {
    disk: &'d dyn Disk,
    store: StoreId,
    number: u64,
    temporary: String,
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    written: u64,
    data: PageWriter,
    part: PageWriter,
    root: PageWriter,
    /// Of the keys of the part under way.
    hashes: Vec<u64>,
    last_key: Vec<u8>,
}

impl<'d> RunWriter<'d> {
    pub(super) fn create(
        disk: &'d dyn Disk,
        store: StoreId,
        number: u64,
    ) -> Result<Self, IndexError> {
        let temporary = temporary(&run_name(number));
        remove_if_there(disk, &temporary)?;
        let file = disk.create(&temporary).map_err(|error| IndexError::io(&temporary, &error))?;
        Ok(Self {
            disk,
            store,
            number,
            temporary,
            file,
            buffer: Vec::with_capacity(WRITE_BYTES * 2),
            written: 0,
            data: PageWriter::default(),
            part: PageWriter::default(),
            root: PageWriter::default(),
            hashes: Vec::new(),
            last_key: Vec::new(),
        })
    }

    /// Adds an entry; they come sorted by key and place.
    pub(super) fn push(&mut self, entry: IndexEntry<'_>) -> Result<(), IndexError> {
        if self.data.is_full_for(entry) {
            self.end_page()?;
        }
        if self.hashes.is_empty() || self.last_key != entry.key {
            self.hashes.push(stored_hash(filter_seed(self.store), entry.key));
            self.last_key.clear();
            self.last_key.extend_from_slice(entry.key);
        }
        self.data.push(entry);
        Ok(())
    }

    /// Adds the positions of a key as chunks.
    pub(super) fn push_positions(
        &mut self,
        key: &[u8],
        ordinal: u64,
        positions: &[u64],
    ) -> Result<(), IndexError> {
        for (index, chunk) in positions.chunks(CHUNK_POSITIONS).enumerate() {
            let value = chunk::encode(chunk);
            let ordinal = ordinal + (index * CHUNK_POSITIONS) as u64;
            self.push(IndexEntry { key, at: chunk[0], ordinal, value: &value })?;
        }
        Ok(())
    }

    /// Makes the file durable under its name. It holds what lies after `after` and up to `through`.
    pub(super) fn finish(mut self, after: u64, through: u64) -> Result<RunEntry, IndexError> {
        self.end_page()?;
        self.end_part()?;
        let root_offset = self.offset();
        let root =
            self.root.finish(self.number, root_offset).map_or_else(Vec::new, |(page, _)| page);
        let footer = Footer {
            store: self.store,
            number: self.number,
            root_offset,
            root_bytes: root.len() as u64,
        };
        self.buffer.extend_from_slice(&root);
        self.buffer.extend_from_slice(&footer.encode());
        self.write()?;
        let failed = |error| IndexError::io(&self.temporary, &error);
        self.file.sync().map_err(failed)?;
        self.disk.rename(&self.temporary, &run_name(self.number)).map_err(failed)?;
        self.disk.sync_names().map_err(failed)?;
        Ok(RunEntry { number: self.number, bytes: self.written, after, through })
    }

    fn offset(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn end_page(&mut self) -> Result<(), IndexError> {
        let offset = self.offset();
        let Some((page, first)) = self.data.finish(self.number, offset) else { return Ok(()) };
        let mut place = Vec::new();
        varint::put(offset, &mut place);
        varint::put(page.len() as u64, &mut place);
        self.part.push(first.leading_to(&place));
        self.buffer.extend_from_slice(&page);
        if self.part.count() >= PART_PAGES {
            self.end_part()?;
        }
        if self.buffer.len() >= WRITE_BYTES { self.write() } else { Ok(()) }
    }

    fn end_part(&mut self) -> Result<(), IndexError> {
        let offset = self.offset();
        let Some((page, first)) = self.part.finish(self.number, offset) else { return Ok(()) };
        let filter_offset = offset + page.len() as u64;
        let mut filter = Bloom::of(&self.hashes).as_bytes().to_vec();
        seal(&mut filter, self.number, filter_offset);
        let mut place = Vec::new();
        for number in [offset, page.len() as u64, filter_offset, filter.len() as u64] {
            varint::put(number, &mut place);
        }
        self.root.push(first.leading_to(&place));
        self.buffer.extend_from_slice(&page);
        self.buffer.extend_from_slice(&filter);
        self.hashes.clear();
        Ok(())
    }

    fn write(&mut self) -> Result<(), IndexError> {
        self.file
            .write_all_at(&self.buffer, self.written)
            .map_err(|error| IndexError::io(&self.temporary, &error))?;
        self.written = self.offset();
        self.buffer.clear();
        Ok(())
    }
}
