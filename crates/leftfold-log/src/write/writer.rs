//! The one writer: it gathers what waits into a group, makes the group durable with one sync, and
//! answers.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use leftfold_core::store::{AppendError, CloseError, Epoch, Head, State};

use crate::disk::lacks_room;
use crate::disk::{DirectoryOwnership, Disk, Lock};
use crate::format::{Binding, DurableMark, NO_TIME, SegmentHeader, segment_name};
use crate::index::{Covered, IndexError};
use crate::options::{Options, Upkeep};
use crate::segments::scan::{ChainState, address};
use crate::segments::segment::{OffsetsUse, Segment};
use crate::shared::{GroupSpan, SharedLog};
use crate::write::group::GroupBuilder;
use crate::write::mark::{EndMark, MARKED_AFTER};
use crate::write::queue::Dequeued;
use crate::write::request::WriteRequest;
use crate::write::tail::{OpenPurpose, Tail, begin_segment};

/// Usual size of groups below which zeros are written ahead: an overwrite is synced faster than a
/// file that grows. Above it the bytes of the zeros cost more than that saves: with 256 writers,
/// whose groups have about 40 KiB, growing gave a sixth more appends.
const SMALL_GROUP_BYTES: usize = 20 << 10;
/// Bytes of zeros that are written ahead.
const AHEAD_BYTES: usize = 1 << 20;

/// The writer, and all that only it may touch.
#[derive(Debug)]
pub(crate) struct LogWriter {
    /// The directory, for as long as the log is open. It goes first: nothing is changed after it.
    pub(crate) tenure: Option<DirectoryOwnership>,
    pub(crate) shared: Arc<SharedLog>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: Options,
    pub(crate) epoch: Epoch,
    pub(crate) purpose: OpenPurpose,
    pub(crate) tail: Tail,
    pub(crate) mark: EndMark,
    /// Bytes of the latest groups, smoothed.
    pub(crate) usual_bytes: usize,
    /// True if parts of a next segment that could not be begun may be there.
    pub(crate) half_made: bool,
}

/// Reason why a group was not made durable.
#[derive(Debug)]
enum CommitError {
    /// There was no room. What was written is cut off again, durably.
    Full(String),
    /// The group may be there or not.
    Unknown(String),
}

/// Gives the directory back and says that the log is closed when the writer ends, also by a panic
/// of a clock or a disk: nothing is changed once another process may have the directory, and no
/// caller waits for a writer that has ended.
struct WriterGuard {
    shared: Arc<SharedLog>,
    tenure: Option<DirectoryOwnership>,
    /// Result of closing; `None` if the writer panicked.
    closed: Option<Result<(), CloseError>>,
}

impl Drop for WriterGuard {
    fn drop(&mut self) {
        let panicked = || Err(CloseError { detail: "the writer panicked".to_owned() });
        let closed = self.closed.take().unwrap_or_else(panicked);
        drop(self.tenure.take());
        // Anyone who is told that it is closed finds that the status says so.
        self.shared.status.send_modify(|status| status.state = State::Closed);
        self.shared.queue.closed(closed);
    }
}

impl LogWriter {
    /// Keeps the lock of the directory.
    pub(crate) fn hold(&mut self, lock: Box<dyn Lock>) {
        if let Some(tenure) = &mut self.tenure {
            tenure.lock(lock);
        }
    }

    /// Works until the log is closed.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut ending =
            WriterGuard { shared: Arc::clone(&shared), tenure: self.tenure.take(), closed: None };
        let mut waiting = VecDeque::new();
        let mut gathering = GroupBuilder::new(&shared.index);
        while let Dequeued::Requests = self.next(&mut waiting) {
            while !waiting.is_empty() {
                self.group(&mut waiting, &mut gathering);
            }
        }
        ending.closed = Some(self.seal());
    }

    /// Waits for requests. If none comes for a moment, readers in other processes are told how far
    /// the log is durable.
    fn next(&mut self, waiting: &mut VecDeque<WriteRequest>) -> Dequeued {
        let is_marked = !self.disk.is_shared()
            || self.tail.sealed
            || self.tail.end == self.tail.segment.header.bytes()
            || self.mark.names(address(self.number(), self.tail.end));
        if !is_marked {
            if let Some(dequeued) = self.shared.queue.take_within(waiting, MARKED_AFTER) {
                return dequeued;
            }
            self.mark_end();
        }
        self.shared.queue.take(waiting)
    }

    fn mark_end(&mut self) {
        let mark = DurableMark {
            store: self.shared.segments.store(),
            address: address(self.number(), self.tail.end),
            hash: self.tail.chain.hash,
        };
        self.mark.write(&*self.disk, &mark);
    }

    /// Takes what waits into one group, as far as it goes.
    fn group(&mut self, waiting: &mut VecDeque<WriteRequest>, gathering: &mut GroupBuilder) {
        if let Some(detail) = self.shared.read_only() {
            return refuse(&self.shared, waiting, &AppendError::ReadOnly { detail });
        }
        if let Err(error) = self.make_room() {
            return refuse(&self.shared, waiting, &error);
        }
        let recorded_at = self.shared.tick();
        let (binding, place) =
            (self.tail.segment.header.binding, address(self.number(), self.tail.end));
        gathering.begin(&self.shared, self.tail.chain, recorded_at, place, binding);
        let mut judged_bytes = 0;
        while let Some(mut request) = waiting.pop_front() {
            if let WriteRequest::Lease(lease) = &mut request {
                lease.at = self.shared.steady_now();
            }
            judged_bytes += request.held_bytes();
            gathering.add(&self.shared, request);
            // What is refused adds nothing to the group, but waits for its answer all the same.
            if gathering.bytes().max(judged_bytes) >= self.options.group_bytes() {
                break;
            }
            if waiting.is_empty() {
                // What came in while these were looked at goes along.
                self.shared.queue.take_more(waiting);
            }
        }
        if gathering.is_empty() {
            return gathering.answer(&self.shared);
        }
        match self.commit(gathering) {
            Ok(()) => gathering.answer(&self.shared),
            Err(CommitError::Full(detail)) => {
                gathering.fail(&self.shared, &AppendError::Full { detail })
            }
            Err(CommitError::Unknown(detail)) => {
                self.shared.become_read_only(&detail);
                gathering.fail(&self.shared, &AppendError::Unknown { detail });
            }
        }
    }

    fn number(&self) -> u64 {
        self.tail.segment.header.number
    }

    /// Makes room in the index, and begins the next segment if this one is full.
    fn make_room(&mut self) -> Result<(), AppendError> {
        match self.try_to_make_room() {
            // What is lacking may be a handle, and readers can open their files again.
            Err(AppendError::Full { .. }) if self.shared.segments.let_go_of_files() => {
                self.try_to_make_room()
            }
            tried => tried,
        }
    }

    fn try_to_make_room(&mut self) -> Result<(), AppendError> {
        self.shared.index.make_room().map_err(|error| match &error {
            IndexError::Full { .. } => AppendError::Full { detail: error.to_string() },
            _ => AppendError::ReadOnly { detail: error.to_string() },
        })?;
        // Nothing but a seal is written into a segment of an earlier version.
        let header = &self.tail.segment.header;
        if self.tail.end < self.options.segment_bytes() && header.binding != Binding::Address {
            return Ok(());
        }
        self.rotate(self.epoch).map_err(|failed| match failed {
            CommitError::Full(detail) => AppendError::Full { detail },
            CommitError::Unknown(detail) => {
                self.shared.become_read_only(&detail);
                AppendError::ReadOnly { detail }
            }
        })
    }

    /// Completes the segment, and begins the next.
    fn rotate(&mut self, epoch: Epoch) -> Result<(), CommitError> {
        let unknown = |error: io::Error| CommitError::Unknown(error.to_string());
        if self.tail.len > self.tail.end {
            self.tail.file.set_len(self.tail.end).map_err(|error| failure(&error))?;
            self.tail.file.sync().map_err(unknown)?;
            self.tail.len = self.tail.end;
        }
        let header = self.next_header(epoch);
        let file = match begin_segment(&*self.disk, &header) {
            Ok(file) => file,
            Err(error) => {
                // The log grows no further until the next segment is there. What was begun of it is
                // replaced then; if it stayed, a seal would be written behind a segment that is
                // complete.
                self.half_made = true;
                return Err(match self.unmake_next() {
                    Err(later) if !lacks_room(&later) => {
                        CommitError::Unknown(format!("{error}; and taking it back: {later}"))
                    }
                    _ => failure(&error),
                });
            }
        };
        self.half_made = false;
        let segment =
            Arc::new(Segment::new(header, Some(crate::segments::offsets::Offsets::default())));
        let sealed = std::mem::replace(&mut self.tail.segment, Arc::clone(&segment));
        // What it ends with may be a seal, which no group told of.
        self.shared.segments.end_at(&sealed, self.tail.end as u32);
        self.shared.segments.push(segment);
        self.shared.segments.keep_offsets(&sealed, self.tail.chain.hash, OffsetsUse::ReadFromFile);
        self.tail.chain.hash = header.hash;
        self.tail.file = file;
        self.tail.end = header.bytes();
        self.tail.len = self.tail.end;
        self.shared.figures.tail_bytes.store(self.tail.len, Ordering::Relaxed);
        Ok(())
    }

    fn next_header(&self, epoch: Epoch) -> SegmentHeader {
        let chain = self.tail.chain;
        let store = self.shared.segments.store();
        let begins = epoch != self.tail.segment.header.epoch;
        SegmentHeader {
            store,
            epoch,
            // A segment is at most 2^31 bytes long.
            length_before: self.tail.end as u32,
            number: self.number() + 1,
            first: chain.next,
            hash: if begins {
                SegmentHeader::epoch_hash(chain.hash, store, &epoch)
            } else {
                chain.hash
            },
            recorded_at: chain.recorded_at,
            binding: Binding::draw(),
        }
    }

    /// Sees that there is no next segment, durably, after it could not be begun.
    fn unmake_next(&mut self) -> io::Result<()> {
        if self.half_made {
            match self.disk.remove(&segment_name(self.number() + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.disk.sync_names()?;
            self.half_made = false;
        }
        Ok(())
    }

    /// Writes the group, syncs it, and shows it to readers.
    fn commit(&mut self, gathering: &mut GroupBuilder) -> Result<(), CommitError> {
        let header = gathering.finish();
        let chain = gathering.chain(&header);
        self.write(gathering.buffer())?;
        self.shared.figures.group(gathering.appends(), gathering.buffer().len());
        self.shared.figures.tail_bytes.store(self.tail.len, Ordering::Relaxed);
        let start = self.tail.end;
        let end = start + gathering.buffer().len() as u64;
        let covered = Covered { position: chain.last(), address: header.address, hash: chain.hash };
        self.shared.segments.add_group(
            &self.tail.segment,
            start as u32,
            gathering.offsets(),
            end as u32,
        );
        self.advance(chain, end);
        self.tail.sealed = false;
        self.tail.covered = covered;
        if header.events > 0 {
            self.shared.note_group(GroupSpan {
                first: header.first,
                last: chain.last(),
                hash: chain.hash,
            });
        }
        let head = self.tail.head();
        let status = &self.shared.status;
        let show = || {
            // Anyone who waits for it is woken below, when no lock is held.
            status.send_if_modified(|status| {
                status.head = head;
                false
            });
        };
        self.shared.index.show_group(gathering.pending(), covered, show);
        status.send_modify(|_| ());
        if self.options.upkeep == Upkeep::Inline && self.disk.is_shared() {
            // At a fixed place, so that a run can be repeated.
            self.mark_end();
        }
        Ok(())
    }

    fn advance(&mut self, chain: ChainState, end: u64) {
        self.tail.chain = chain;
        self.tail.end = end;
        self.tail.len = self.tail.len.max(end);
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CommitError> {
        let end = self.tail.end + bytes.len() as u64;
        self.usual_bytes = (self.usual_bytes * 7 + bytes.len()) / 8;
        if let Err(error) = self.tail.file.write_all_at(bytes, self.tail.end) {
            return Err(self.take_back(&error));
        }
        if end > self.tail.len {
            self.tail.len = end;
            if self.usual_bytes < SMALL_GROUP_BYTES {
                self.write_ahead(end);
            }
        }
        let began = Instant::now();
        self.tail.file.sync().map_err(|error| CommitError::Unknown(error.to_string()))?;
        self.shared.figures.synced(began.elapsed());
        Ok(())
    }

    /// Writes zeros behind the end. If that fails nothing is lost: the group itself is there, and
    /// its own sync tells whether it is durable.
    fn write_ahead(&mut self, end: u64) {
        let room = self.options.segment_bytes().saturating_sub(end).min(AHEAD_BYTES as u64);
        if room > 0 && self.tail.file.write_all_at(&vec![0; room as usize], end).is_ok() {
            self.tail.len = end + room;
        } else {
            self.tail.len = self.tail.file.len().unwrap_or(end).max(end);
        }
    }

    /// After a write that failed: cuts off what it may have left, durably. Only then is it known
    /// that nothing was written.
    fn take_back(&mut self, error: &io::Error) -> CommitError {
        let cut = self.tail.file.set_len(self.tail.end).and_then(|()| self.tail.file.sync());
        match cut {
            Ok(()) => {
                self.tail.len = self.tail.end;
                failure(error)
            }
            Err(later) => CommitError::Unknown(format!("{error}; and taking it back: {later}")),
        }
    }

    /// Ends the log cleanly: with a seal, so that opening knows that what stands before it is
    /// durable.
    fn seal(&mut self) -> Result<(), CloseError> {
        if self.purpose != OpenPurpose::Write {
            return Ok(());
        }
        if let Some(detail) = self.shared.read_only() {
            return Err(CloseError { detail });
        }
        let indexed = self.shared.index.flush(self.tail.covered);
        let offsets_hash = self.tail.chain.hash;
        if !self.tail.sealed {
            self.shared.segments.keep_offsets(
                &self.tail.segment,
                offsets_hash,
                OffsetsUse::StayInMemory,
            );
        }
        self.write_seal().map_err(|error| {
            self.shared.become_read_only(&error.to_string());
            CloseError { detail: error.to_string() }
        })?;
        indexed.map_err(|error| CloseError { detail: error.to_string() })
    }

    fn write_seal(&mut self) -> io::Result<()> {
        self.unmake_next()?;
        let cut = self.tail.len > self.tail.end;
        if cut {
            self.tail.file.set_len(self.tail.end)?;
            self.tail.len = self.tail.end;
        }
        if self.tail.sealed || self.tail.chain.recorded_at == NO_TIME {
            return if cut { self.tail.file.sync() } else { Ok(()) };
        }
        let recorded_at = self.shared.tick();
        self.tail.write_seal(recorded_at)
    }

    /// Seals the log, and begins a new life of it in a segment of its own.
    pub(crate) fn begin_epoch(mut self, epoch: Epoch) -> Result<Head, CloseError> {
        self.seal()?;
        let begun = self.rotate(epoch).map_err(|failed| match failed {
            CommitError::Full(detail) | CommitError::Unknown(detail) => CloseError { detail },
        });
        begun.map(|()| self.tail.head())
    }
}

fn failure(error: &io::Error) -> CommitError {
    if lacks_room(error) {
        CommitError::Full(error.to_string())
    } else {
        CommitError::Unknown(error.to_string())
    }
}

fn refuse(shared: &SharedLog, waiting: &mut VecDeque<WriteRequest>, error: &AppendError) {
    for mut request in waiting.drain(..) {
        request.answer(&shared.figures, Err(error.clone()));
    }
}
