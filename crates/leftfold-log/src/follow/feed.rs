//! The thread that follows: it looks for new groups, and hands those that are durable on.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use leftfold_core::store::{Identity, State, Status};
use tokio::sync::watch;

use super::{DETAIL, FollowEnd, FollowerLife, SharedFollower};
use crate::disk::{Disk, Overlay};
use crate::format::{SegmentHeader, segment_name};
use crate::index::Memtable;
use crate::log::Log;
use crate::open::contents;
use crate::open::error::{LogOpenError, Recovery};
use crate::open::reader;
use crate::open::recover::{covered_by, end_of_log, read_into};
use crate::options::Options;
use crate::segments::offsets::Offsets;
use crate::segments::scan::{ChainState, GroupScan, Groups};
use crate::segments::segment::Segment;
use crate::shared::{GroupSpan, SharedLog};
use crate::write::writer::LogWriter;

/// Shortest and longest pause between two looks at the end: the longer nothing came, the longer.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(20);
/// Time without anything new after which the files are looked at more closely, and again.
const INSPECTED_AFTER: Duration = Duration::from_secs(1);
/// Time for which the directory may be unreadable.
const UNREADABLE_MAX: Duration = Duration::from_secs(30);
/// Bytes of the index that may be kept in memory beyond what was there at the opening, and segments
/// whose offsets may.
const OVERLAY_BYTES_MAX: usize = 32 << 20;
const SEGMENTS_MAX: usize = 16;

/// Follower of the end of a log, without its thread.
#[derive(Debug)]
pub(super) struct Feed {
    follower: Arc<SharedFollower>,
    disk: Arc<dyn Disk>,
    options: Options,
    opened: OpenedReader,
    /// Moment since which nothing can be read, and the message of the system.
    unreadable: Option<(Instant, String)>,
    /// Fault that an inspection found: it is reported if the next one finds it too.
    suspected: Option<FollowEnd>,
}

/// A log that was opened to be read, and the place where it is fed.
#[derive(Debug)]
struct OpenedReader {
    log: Arc<SharedLog>,
    overlay: Arc<Overlay>,
    /// Bytes that the overlay held at the opening.
    overlay_bytes: usize,
    pending: Memtable,
    segment: Arc<Segment>,
    groups: Groups,
    /// Byte of the segment behind the last group that was shown.
    end: u64,
    chain: ChainState,
    /// Events that opening read, and that were fed since.
    replayed: u64,
    fed: u64,
    segments_fed: usize,
}

/// Result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FollowStep {
    More,
    Nothing,
}

impl Feed {
    pub(super) fn open(
        disk: Arc<dyn Disk>,
        options: Options,
    ) -> Result<(Self, Recovery), LogOpenError> {
        let (log, opened, recovery) = OpenedReader::open(&disk, &options)?;
        let state = State::ReadOnly { detail: DETAIL.to_owned() };
        let follower = SharedFollower {
            identity: recovery.identity,
            opened: RwLock::new(log),
            status: watch::Sender::new(Status { head: recovery.head, state }),
            life: Mutex::new(FollowerLife::Following),
            changed: Condvar::new(),
        };
        let feed = Self {
            follower: Arc::new(follower),
            disk,
            options,
            opened,
            unreadable: None,
            suspected: None,
        };
        Ok((feed, recovery))
    }

    pub(super) fn follower(&self) -> Arc<SharedFollower> {
        Arc::clone(&self.follower)
    }

    #[cfg(test)]
    pub(super) fn log(&self) -> &SharedLog {
        &self.opened.log
    }

    #[cfg(test)]
    pub(super) fn place(&self) -> usize {
        self.opened.end as usize
    }

    /// Follows until it is to end.
    pub(super) fn run(mut self) {
        let (mut pause, mut inspected) = (PAUSE_MIN, Instant::now());
        loop {
            match self.look() {
                Ok(FollowStep::More) => {
                    (pause, inspected) = (PAUSE_MIN, Instant::now());
                    self.renew_if_large();
                }
                Ok(FollowStep::Nothing) => pause = (pause * 2).min(PAUSE_MAX),
                Err(end) => return self.end(end),
            }
            if inspected.elapsed() >= INSPECTED_AFTER {
                if let Err(end) = self.inspect() {
                    return self.end(end);
                }
                inspected = Instant::now();
            }
            if !self.follower.goes_on_after(pause) {
                return;
            }
        }
    }

    fn end(&self, end: FollowEnd) {
        tracing::warn!(%end, "the log is not followed any more");
        self.follower.end(FollowerLife::Ended(end));
    }

    /// Hands on everything new that is durable.
    pub(super) fn look(&mut self) -> Result<FollowStep, FollowEnd> {
        let mut found = FollowStep::Nothing;
        loop {
            match self.opened.step(self.follower.identity) {
                Ok(Ok(FollowStep::More)) => found = FollowStep::More,
                Ok(Ok(FollowStep::Nothing)) => break,
                Ok(Err(end)) => return Err(end),
                Err(error) => {
                    self.note_trouble(&error)?;
                    break;
                }
            }
            self.unreadable = None;
            let head = self.opened.chain.head();
            // Anyone who is woken finds it in the log.
            self.follower.status.send_modify(|status| status.head = head);
        }
        Ok(found)
    }

    /// Remembers that nothing can be read. Bytes that are cut off while they are read are no
    /// trouble.
    fn note_trouble(&mut self, error: &io::Error) -> Result<(), FollowEnd> {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Ok(());
        }
        let (since, detail) =
            self.unreadable.get_or_insert_with(|| (Instant::now(), error.to_string()));
        let during = since.elapsed();
        if during < UNREADABLE_MAX {
            return Ok(());
        }
        Err(FollowEnd::Unreadable { seconds: during.as_secs(), detail: detail.clone() })
    }

    /// Looks if the files are still those that are followed, and if what stands behind the end may
    /// become a group: a log that is damaged there would be taken for one that does not grow.
    pub(super) fn inspect(&mut self) -> Result<(), FollowEnd> {
        let found = match self.opened.inspect(&*self.disk) {
            Ok(found) => found,
            Err(error) => return self.note_trouble(&error),
        };
        match found {
            Some(end) if self.suspected.as_ref() == Some(&end) => Err(end),
            found => {
                self.suspected = found;
                Ok(())
            }
        }
    }

    /// Opens the log anew when the index of what was fed takes much memory: the writer has that
    /// part in files by now.
    fn renew_if_large(&mut self) {
        if self.opened.is_large() {
            self.renew();
        }
    }

    pub(super) fn renew(&mut self) {
        match OpenedReader::open(&self.disk, &self.options) {
            Ok((log, opened, recovery))
                if recovery.identity == self.follower.identity
                    && opened.chain.next >= self.opened.chain.next =>
            {
                self.opened = opened;
                let before = {
                    let mut held =
                        self.follower.opened.write().unwrap_or_else(PoisonError::into_inner);
                    std::mem::replace(&mut *held, log)
                };
                // It ends its threads, and nobody waits for that with the lock.
                drop(before);
            }
            // What is wrong with it will be seen where it is followed.
            _ => self.opened.fed = 0,
        }
    }
}

impl OpenedReader {
    fn open(
        disk: &Arc<dyn Disk>,
        options: &Options,
    ) -> Result<(Log, Self, Recovery), LogOpenError> {
        let (writer, recovery, overlay) = reader(disk, options)?;
        let LogWriter { shared, tail, .. } = &writer;
        let opened = Self {
            log: Arc::clone(shared),
            overlay_bytes: overlay.bytes(),
            overlay,
            pending: shared.index.pending(),
            segment: Arc::clone(&tail.segment),
            groups: Groups::of(Arc::clone(&tail.file), &tail.segment.header)?,
            end: tail.end,
            chain: tail.chain,
            replayed: recovery.replayed,
            fed: 0,
            segments_fed: 0,
        };
        Ok((Log::start(writer)?, opened, recovery))
    }

    /// True if it takes more memory than it should, and opening it anew costs no more than what was
    /// fed since.
    fn is_large(&self) -> bool {
        let bytes = self.overlay.bytes().saturating_sub(self.overlay_bytes);
        self.fed >= self.replayed && (bytes > OVERLAY_BYTES_MAX || self.segments_fed > SEGMENTS_MAX)
    }

    /// Hands the next group on, if there is one that is durable.
    fn step(&mut self, identity: Identity) -> io::Result<Result<FollowStep, FollowEnd>> {
        self.groups.look_again()?;
        if !self.groups.may_begin_at(self.end)? {
            return self.next_segment(identity);
        }
        let header = self.segment.header;
        let place = (self.end, &self.chain);
        if let Some(last) = self.groups.held_back(&*self.overlay, &header, place)? {
            // A segment is begun only when the one before it is durable.
            let next = self.read_next_header()?;
            let ends = next.is_some_and(|next| u64::from(next.length_before) == last.end);
            if !ends {
                return Ok(Ok(FollowStep::Nothing));
            }
        }
        let (offset, number) = (self.end, header.number);
        let group = match self.groups.at(offset, Some(&self.chain))? {
            GroupScan::Valid(group) => group,
            GroupScan::Invalid(_) => return self.next_segment(identity),
        };
        // What does not fit into memory goes to the overlay, which is memory too.
        self.log.index.make_room().map_err(io::Error::other)?;
        let read = read_into(&mut self.pending, &self.log.index, number, &group);
        let events = match read {
            Ok(events) => events,
            Err(error) => return Ok(Err(error.into())),
        };
        let (chain, end) = (group.chain(), group.end());
        self.log.segments.add_group(&self.segment, offset as u32, &events, end as u32);
        if !events.is_empty() {
            self.log.note_group(GroupSpan {
                first: group.header.first,
                last: chain.last(),
                hash: chain.hash,
            });
        }
        let covered = (!group.is_seal()).then(|| covered_by(number, &group));
        (self.chain, self.end) = (chain, end);
        self.fed += events.len() as u64;
        let status = &self.log.status;
        let show = || status.send_modify(|status| status.head = chain.head());
        match covered {
            Some(covered) => self.log.index.show_group(&mut self.pending, covered, show),
            None => show(),
        }
        Ok(Ok(FollowStep::More))
    }

    /// Goes on to the next segment, if this one is complete and the next has a group: a segment
    /// without one may be taken back.
    fn next_segment(&mut self, identity: Identity) -> io::Result<Result<FollowStep, FollowEnd>> {
        let before = self.segment.header;
        let Some(next) = self.read_next_header()? else { return Ok(Ok(FollowStep::Nothing)) };
        let replaced = || FollowEnd::Replaced { file: segment_name(next.number) };
        let length = u64::from(next.length_before);
        if next.store != identity.store || next.number != before.number + 1 || length < self.end {
            return Ok(Err(replaced()));
        }
        if length > self.end {
            // The segment grew since it was looked at; if what is there stays no group, an
            // inspection finds it.
            return Ok(Ok(FollowStep::Nothing));
        }
        if next.epoch != identity.epoch {
            return Ok(Err(FollowEnd::Restored { began_after: next.epoch.began_after }));
        }
        if ChainState::before(&next) != self.chain {
            return Ok(Err(replaced()));
        }
        let file = self.overlay.open(&segment_name(next.number))?;
        let mut groups = Groups::of(file, &next)?;
        if !groups.begins_with(next.bytes(), &self.chain)? {
            return Ok(Ok(FollowStep::Nothing));
        }
        let segment = Arc::new(Segment::new(next, Some(Offsets::default())));
        self.log.segments.end_at(&self.segment, self.end as u32);
        self.log.segments.push(Arc::clone(&segment));
        (self.segment, self.groups, self.end) = (segment, groups, next.bytes());
        self.segments_fed += 1;
        Ok(Ok(FollowStep::More))
    }

    /// Reads the header of the next segment; `None` if it is not there.
    fn read_next_header(&self) -> io::Result<Option<SegmentHeader>> {
        let number = self.segment.header.number + 1;
        let file = match self.overlay.open(&segment_name(number)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        contents::header(&*file, number).map(Some).map_err(io::Error::other)
    }

    /// Returns what is wrong with the files, if anything is.
    fn inspect(&mut self, disk: &dyn Disk) -> io::Result<Option<FollowEnd>> {
        let header = self.segment.header;
        let name = segment_name(header.number);
        let there = match disk.open(&name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            opened => {
                let file = opened?;
                let same =
                    contents::header(&*file, header.number).is_ok_and(|found| found == header);
                same && file.len()? >= self.end
            }
        };
        if !there {
            return Ok(Some(FollowEnd::Replaced { file: name }));
        }
        self.groups.look_again()?;
        if self.groups.only_zeros(self.end)? {
            return Ok(None);
        }
        let fault = match self.groups.at(self.end, Some(&self.chain))? {
            GroupScan::Valid(_) => return Ok(None),
            GroupScan::Invalid(fault) => fault,
        };
        let sealed = self.read_next_header()?.is_some();
        Ok(match end_of_log(&mut self.groups, header.number, self.end, &self.chain, fault) {
            Err(error @ LogOpenError::Damaged { .. }) => Some(error.into()),
            _ if sealed => Some(LogOpenError::damaged(header.number, self.end, &fault).into()),
            _ => None,
        })
    }
}
