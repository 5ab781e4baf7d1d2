//! Copying what is new of a log elsewhere, of the bytes that its chain covers.
//!
//! The copy has segments of its own, with secrets of their own; the history in them, and with it
//! the chain, is the same.

use std::ops::ControlFlow;
use std::sync::Arc;

use leftfold_core::store::limits::APPEND_BYTES_MAX;
use leftfold_core::store::{
    Epoch, Hash, Head, HistoryEnd, HistoryFrom, HistoryKind, HistoryLink, HistoryPage, HistoryRule,
    Identity, Position, ReadError,
};

use super::manifest::{BackedUpSegment, BackupManifest};
use super::take::{checked, digest, hash_of, lock, manifest, other_history};
use super::{BackedUp, BackupError, BackupProgress, ByteCount, copy_name};
use crate::disk::{Disk, File};
use crate::format::{DESCRIBED_BYTES, GROUP_HEADER_BYTES, GroupHeader, NO_TIME, SegmentHeader};
use crate::options::{GROUP_BYTES_MAX, Options};
use crate::segments::scan::{ChainState, Group, address};

/// Bytes that are written at once.
const WRITTEN_AT_ONCE: usize = 1 << 20;
/// Bytes of a link: the largest group, with the append that filled it, which has more than its data
/// when it is encoded.
const LINK_BYTES_MAX: usize = GROUP_BYTES_MAX + 2 * APPEND_BYTES_MAX;

/// Backs up a log that a server keeps: the same as [`backup`](super::backup), of the
/// [history](leftfold_core::store::Store::history) that a handle gives, page by page. Every link is
/// checked before it is copied.
///
/// The backup is of the same store: positions, times, ids and the chain of hashes are those of the
/// log. Its segments begin elsewhere, so a backup that was made in one way goes on in that way.
///
/// `history` asks the store and waits for the page. Of the options the bytes of a segment count.
///
/// # Errors
/// [`BackupError::NoLog`] if the store is kept in something else.
pub fn backup_history_on(
    identity: Identity,
    history: &mut dyn FnMut(HistoryFrom) -> Result<HistoryPage, ReadError>,
    destination: &dyn Disk,
    options: &Options,
    progress: &mut dyn FnMut(BackupProgress) -> ControlFlow<()>,
) -> Result<BackedUp, BackupError> {
    let to = destination;
    let _lock = lock(to)?;
    let before = manifest(to, identity)?;
    let mut copy = HistoryCopy::after(to, identity, before, options.segment_bytes())?;
    let mut count = ByteCount { count: BackupProgress { bytes_done: 0, bytes: 0 }, told: progress };
    let mut from = copy.begins();
    let (mut end, mut is_found, mut is_end_passed) = (Head::EMPTY, false, false);
    'pages: loop {
        let page = history(from)?;
        if page.rule != HistoryRule::Blake3 {
            return Err(no_log("its history is not that of a log"));
        }
        // What is recorded from now on is for the next backup.
        if end.chain == Hash::EMPTY {
            end = page.head;
        }
        is_found |= page.before == copy.chain.hash && copy.part.is_empty();
        if page.links.is_empty() && !is_found {
            return Err(other_history(to, copy.number()));
        }
        if page.links.is_empty() && end.chain != Hash::EMPTY && copy.chain.hash != end.chain {
            return Err(copy.damaged(&"it ends before the end that the store names"));
        }
        if page.links.is_empty() {
            break;
        }
        if page.next == from {
            return Err(copy.damaged(&"a page ends in the place that it begins in"));
        }
        from = page.next;
        let mut links = page.links.into_iter();
        loop {
            let is_at_end = copy.growing.is_some() && copy.chain.hash == end.chain;
            if is_found && (is_at_end || is_end_passed) {
                break 'pages;
            }
            if is_found && end.chain != Hash::EMPTY && copy.chain.last() > end.position {
                return Err(copy.damaged(&"it passes by the end that the store names"));
            }
            let Some(link) = links.next() else { break };
            if is_found {
                copy.take(link, &mut count)?;
            } else if let Some(passed) = link.end {
                is_found = passed.hash == copy.chain.hash;
                is_end_passed |= passed.hash == end.chain;
                if !is_found && passed.position > copy.chain.last() {
                    return Err(other_history(to, copy.number()));
                }
            }
        }
    }
    if copy.growing.is_none() {
        return Err(no_log("its history does not begin as that of a log"));
    }
    copy.complete(&mut count)?;
    let (identity, head) = (copy.identity, copy.chain.head());
    let copied_bytes = count.count.bytes_done;
    Ok(BackedUp { identity, head, segments: copy.number(), copied_bytes })
}

/// The backup as it grows.
struct HistoryCopy<'a> {
    to: &'a dyn Disk,
    /// Of the last segment.
    identity: Identity,
    /// Segments that are complete.
    kept: Vec<BackedUpSegment>,
    /// The last segment; `None` before the first one.
    growing: Option<GrowingCopy>,
    /// Chain behind everything.
    chain: ChainState,
    /// Bytes of the link whose end was not seen yet.
    part: Vec<u8>,
    segment_bytes: u64,
}

/// The last segment of the backup.
struct GrowingCopy {
    header: SegmentHeader,
    file: Arc<dyn File>,
    /// Bytes of the segment, those that wait to be written included.
    bytes: u64,
    hasher: blake3::Hasher,
    waiting: Vec<u8>,
}

impl<'a> HistoryCopy<'a> {
    /// Goes on behind what is whole of the backup that is there.
    fn after(
        to: &'a dyn Disk,
        identity: Identity,
        before: Option<BackupManifest>,
        segment_bytes: u64,
    ) -> Result<Self, BackupError> {
        let chain = ChainState { next: Position(1), hash: Hash::EMPTY, recorded_at: NO_TIME };
        let (kept, growing, part) = (Vec::new(), None, Vec::new());
        let mut copy = Self { to, identity, kept, growing, chain, part, segment_bytes };
        let mut segments = before.map_or_else(Vec::new, |before| before.segments);
        while let Some(last) = segments.pop() {
            if let Some((growing, chain)) = whole(to, &last)? {
                // The log may have begun another life since.
                copy.identity.epoch = growing.header.epoch;
                (copy.growing, copy.chain, copy.kept) = (Some(growing), chain, segments);
                break;
            }
        }
        Ok(copy)
    }

    /// Returns the place in the history at which the copy goes on, or a little before.
    fn begins(&self) -> HistoryFrom {
        match self.growing {
            Some(_) => HistoryFrom::after(self.chain.last()),
            None => HistoryFrom::START,
        }
    }

    /// Returns the number of the last segment.
    fn number(&self) -> u64 {
        self.kept.len() as u64 + u64::from(self.growing.is_some())
    }

    fn take(&mut self, link: HistoryLink, count: &mut ByteCount<'_>) -> Result<(), BackupError> {
        if link.hashed.len() > LINK_BYTES_MAX - self.part.len() {
            return Err(self.damaged(&"more bytes follow than the largest group has"));
        }
        if link.hashed.is_empty() && link.end.is_none() {
            return Err(self.damaged(&"a link goes on without bytes"));
        }
        self.part.extend_from_slice(&link.hashed);
        let Some(end) = link.end else { return Ok(()) };
        let hashed = std::mem::take(&mut self.part);
        match link.kind {
            HistoryKind::Life => {
                let life = SegmentHeader::of_life(&hashed);
                let (store, epoch) = life.map_err(|fault| self.damaged(&fault))?;
                let hash = SegmentHeader::epoch_hash(self.chain.hash, store, &epoch);
                if store != self.identity.store || hash != end.hash {
                    return Err(self.damaged(&"a life of the store has another hash"));
                }
                self.begin_segment(epoch, link.version, hash, count)
            }
            HistoryKind::Records => self.add_group(&hashed, link.version, end, count),
        }
    }

    fn add_group(
        &mut self,
        hashed: &[u8],
        version: u32,
        end: HistoryEnd,
        count: &mut ByteCount<'_>,
    ) -> Result<(), BackupError> {
        let Some((described, body)) = hashed.split_first_chunk::<DESCRIBED_BYTES>() else {
            return Err(self.damaged(&"a group ends too early"));
        };
        let Some(growing) = &self.growing else {
            return Err(no_log("its history does not begin as that of a log"));
        };
        let header = growing.header;
        let bytes = (GROUP_HEADER_BYTES + body.len()) as u64;
        let is_full = growing.bytes > header.bytes() && growing.bytes + bytes > self.segment_bytes;
        if is_full || u32::from(header.version()) != version {
            self.begin_segment(header.epoch, version, self.chain.hash, count)?;
        }
        let Some(growing) = &mut self.growing else { return Ok(()) };
        let place = address(growing.header.number, growing.bytes);
        let made = GroupHeader::of_described(described, place, self.chain.hash);
        let damaged = |detail: &dyn ToString| damaged_behind(&self.chain, detail);
        let made = made.map_err(|fault| damaged(&fault))?;
        let group = Group { header: made, bytes: hashed, body, offset: growing.bytes };
        let follows = made.first == self.chain.next
            && made.recorded_at > self.chain.recorded_at
            && made.body_bytes as usize == body.len();
        if !follows {
            return Err(damaged(&"a group does not follow from the one before"));
        }
        group.check().map_err(|fault| damaged(&fault))?;
        let chain = group.chain();
        if (chain.hash, chain.last()) != (end.hash, end.position) {
            return Err(damaged(&"the bytes of a group have another hash"));
        }
        let header = made.encode(&growing.header.binding);
        growing.append(&[&header, body], count)?;
        self.chain = chain;
        Ok(())
    }

    fn begin_segment(
        &mut self,
        epoch: Epoch,
        version: u32,
        hash: Hash,
        count: &mut ByteCount<'_>,
    ) -> Result<(), BackupError> {
        let binding = SegmentHeader::binding_of(version);
        let binding = binding.ok_or_else(|| no_log("a later release wrote it"))?;
        self.complete(count)?;
        let mut length_before = 0;
        if let Some(sealed) = self.growing.take() {
            // A segment is at most 2^31 bytes long: a full one, or a header and one group.
            length_before = sealed.bytes as u32;
            self.kept.push(sealed.named());
        }
        self.identity.epoch = epoch;
        self.chain.hash = hash;
        let header = SegmentHeader {
            store: self.identity.store,
            epoch,
            length_before,
            number: self.kept.len() as u64 + 1,
            first: self.chain.next,
            hash,
            recorded_at: self.chain.recorded_at,
            binding,
        };
        let name = copy_name(header.number);
        let file = match self.to.open(&name) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.to.create(&name)?,
            // An interrupted backup, or a copy that was not whole.
            opened => opened?,
        };
        let (hasher, waiting) = (blake3::Hasher::new(), Vec::new());
        let mut growing = GrowingCopy { header, file, bytes: 0, hasher, waiting };
        growing.append(&[&header.encode()], count)?;
        self.growing = Some(growing);
        Ok(())
    }

    /// Makes what was copied so far the backup.
    fn complete(&mut self, count: &mut ByteCount<'_>) -> Result<(), BackupError> {
        let Some(growing) = &mut self.growing else { return Ok(()) };
        growing.write(count)?;
        // An interrupted backup may have copied more.
        if growing.file.len()? > growing.bytes {
            growing.file.set_len(growing.bytes)?;
        }
        growing.file.sync()?;
        let (identity, head) = (self.identity, self.chain.head());
        let segments = self.kept.iter().copied().chain([growing.named()]).collect();
        self.to.sync_names()?;
        BackupManifest { identity, head, segments }.replace(self.to)?;
        Ok(())
    }

    fn damaged(&self, detail: &dyn ToString) -> BackupError {
        damaged_behind(&self.chain, detail)
    }
}

impl GrowingCopy {
    fn append(&mut self, parts: &[&[u8]], count: &mut ByteCount<'_>) -> Result<(), BackupError> {
        for part in parts {
            self.hasher.update(part);
            self.waiting.extend_from_slice(part);
            self.bytes += part.len() as u64;
        }
        if self.waiting.len() < WRITTEN_AT_ONCE { Ok(()) } else { self.write(count) }
    }

    fn write(&mut self, count: &mut ByteCount<'_>) -> Result<(), BackupError> {
        let waiting = std::mem::take(&mut self.waiting);
        self.file.write_all_at(&waiting, self.bytes - waiting.len() as u64)?;
        count.add(waiting.len() as u64)
    }

    fn named(&self) -> BackedUpSegment {
        let SegmentHeader { number, hash: chain, .. } = self.header;
        BackedUpSegment { number, bytes: self.bytes, chain, digest: digest(&self.hasher) }
    }
}

/// Returns a segment of a backup and the chain behind it; `None` if it is not what was copied.
fn whole(
    to: &dyn Disk,
    segment: &BackedUpSegment,
) -> Result<Option<(GrowingCopy, ChainState)>, BackupError> {
    let file = match to.open(&copy_name(segment.number)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let bytes = segment.bytes;
    let mut hasher = blake3::Hasher::new();
    if file.len()? < bytes {
        return Ok(None);
    }
    hash_of(&*file, bytes, &mut hasher)?;
    if digest(&hasher) != segment.digest {
        return Ok(None);
    }
    let mut begun = vec![0; bytes.min(SegmentHeader::BYTES_MAX) as usize];
    file.read_exact_at(&mut begun, 0)?;
    let Ok(header) = SegmentHeader::decode(&begun) else { return Ok(None) };
    let chain = match checked(&file, &header, bytes) {
        Err(BackupError::SourceDamaged { .. }) => return Ok(None),
        chain => chain?,
    };
    let waiting = Vec::new();
    Ok(Some((GrowingCopy { header, file, bytes, hasher, waiting }, chain)))
}

fn damaged_behind(chain: &ChainState, detail: &dyn ToString) -> BackupError {
    let place = format!("the history behind position {}", chain.last());
    BackupError::SourceDamaged { place, detail: detail.to_string() }
}

fn no_log(detail: &str) -> BackupError {
    BackupError::NoLog { detail: detail.to_owned() }
}
