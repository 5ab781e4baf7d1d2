//! Reading events by their positions: those that lie close together by one read, each into one
//! buffer with its neighbours.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use leftfold_core::store::{Position, ReadError, RecordedEvent};

use crate::disk::File;
use crate::format::{EventView, RECORD_HEADER_BYTES, RecordFrame, RecordKind};
use crate::segments::segment::{Segment, Segments, damaged, io_error, missing};

/// Largest gap between two records that are read together.
const GAP_BYTES_MAX: u32 = 8 << 10;
/// Bytes that are read of a record before its length is known.
const FIRST_BYTES_MAX: u32 = 64 << 10;
/// Events that share a buffer at most, and so are kept in memory by each other.
const LOAD_EVENTS_MAX: usize = 1_024;
/// Bytes of a buffer at most, if it holds more than one event.
const LOAD_BYTES_MAX: usize = 1 << 20;

/// Answer of a reader: it wants more events, or has enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReaderDemand {
    More,
    Enough,
}

/// Events that were read into one buffer.
struct EventBuffer {
    bytes: Bytes,
    /// For each event the offset of its record in the segment, and the part of `bytes` that was
    /// read of it.
    records: Vec<(u32, std::ops::Range<usize>)>,
}

impl Segments {
    /// Reads events, whose positions increase and are at or before the head, and gives each to
    /// `take`, with the bytes that it has in the log, until it has enough.
    pub(crate) fn fetch(
        &self,
        positions: &[Position],
        take: &mut dyn FnMut(RecordedEvent, usize) -> ReaderDemand,
    ) -> Result<ReaderDemand, ReadError> {
        let mut rest = positions;
        while let Some(first) = rest.first() {
            let segment = self.holding(*first).ok_or_else(|| missing(*first))?;
            let last = self
                .following(&segment)
                .map_or(Position::END, |next| Position(next.header.first.0 - 1));
            let (here, beyond) = rest.split_at(rest.partition_point(|position| *position <= last));
            if here.is_empty() {
                return Err(missing(*first));
            }
            if self.fetch_within(&segment, here, take)? == ReaderDemand::Enough {
                return Ok(ReaderDemand::Enough);
            }
            rest = beyond;
        }
        Ok(ReaderDemand::More)
    }

    /// The same from the last position to the first. No more than about `bytes_max` are read ahead
    /// of what is taken, or one event.
    pub(crate) fn fetch_backwards(
        &self,
        positions: &[Position],
        bytes_max: usize,
        take: &mut dyn FnMut(RecordedEvent, usize) -> ReaderDemand,
    ) -> Result<ReaderDemand, ReadError> {
        let mut rest = positions;
        let mut read = Vec::new();
        while let Some(last) = rest.last() {
            let segment = self.holding(*last).ok_or_else(|| missing(*last))?;
            let here = &rest[rest.partition_point(|position| *position < segment.header.first)..];
            let here = &here[here.len().saturating_sub(LOAD_EVENTS_MAX)..];
            let together = &here[here.len() - self.last_within(&segment, here, bytes_max)?..];
            self.fetch_within(&segment, together, &mut |event, bytes| {
                read.push((event, bytes));
                ReaderDemand::More
            })?;
            for (event, bytes) in read.drain(..).rev() {
                if take(event, bytes) == ReaderDemand::Enough {
                    return Ok(ReaderDemand::Enough);
                }
            }
            rest = &rest[..rest.len() - together.len()];
        }
        Ok(ReaderDemand::More)
    }

    /// Returns how many of the last events have at most about `bytes_max` bytes together; at least
    /// one.
    fn last_within(
        &self,
        segment: &Segment,
        positions: &[Position],
        bytes_max: usize,
    ) -> Result<usize, ReadError> {
        let indexes = positions.iter().map(|position| segment.index_of(*position));
        let extents =
            self.table(segment, |table, blocks| table.extents(indexes.clone(), blocks))?;
        if extents.len() < positions.len() {
            return Err(missing(positions[extents.len()]));
        }
        let mut bytes = 0;
        let within = extents.iter().rev().take_while(|(start, end)| {
            bytes += end.saturating_sub(*start) as usize;
            bytes <= bytes_max
        });
        Ok(within.count().max(1))
    }

    /// One event.
    pub(crate) fn event_at(&self, position: Position) -> Result<RecordedEvent, ReadError> {
        let mut found = None;
        self.fetch(&[position], &mut |event, _| {
            found = Some(event);
            ReaderDemand::Enough
        })?;
        found.ok_or_else(|| missing(position))
    }

    fn fetch_within(
        &self,
        segment: &Segment,
        positions: &[Position],
        take: &mut dyn FnMut(RecordedEvent, usize) -> ReaderDemand,
    ) -> Result<ReaderDemand, ReadError> {
        let file = self.file(segment.header.number)?;
        let mut rest = positions;
        while !rest.is_empty() {
            let load =
                self.load_events(segment, &file, &rest[..rest.len().min(LOAD_EVENTS_MAX)])?;
            for (position, (start, within)) in rest.iter().zip(&load.records) {
                let buffer = load.bytes.slice(within.clone());
                let (event, bytes) = self.event(segment, &file, *position, *start, buffer)?;
                if take(event, bytes) == ReaderDemand::Enough {
                    return Ok(ReaderDemand::Enough);
                }
            }
            rest = &rest[load.records.len()..];
        }
        Ok(ReaderDemand::More)
    }

    /// Reads the first events, one at least.
    fn load_events(
        &self,
        segment: &Segment,
        file: &Arc<dyn File>,
        positions: &[Position],
    ) -> Result<EventBuffer, ReadError> {
        let indexes = positions.iter().map(|position| segment.index_of(*position));
        let mut extents =
            self.table(segment, |table, blocks| table.extents(indexes.clone(), blocks))?;
        if extents.len() < positions.len() {
            return Err(missing(positions[extents.len()]));
        }
        for (start, end) in &mut extents {
            *end = (*end).clamp(*start, start.saturating_add(FIRST_BYTES_MAX));
        }
        let mut runs: Vec<(u32, u32)> = Vec::new();
        let mut records = Vec::with_capacity(extents.len());
        let mut bytes = 0;
        for (start, end) in extents {
            let gap = runs
                .last()
                .map(|run| start.saturating_sub(run.1))
                .filter(|gap| *gap <= GAP_BYTES_MAX);
            let within = bytes + gap.unwrap_or(0) as usize;
            let after = within + (end - start) as usize;
            if after > LOAD_BYTES_MAX && !records.is_empty() {
                break;
            }
            match (gap, runs.last_mut()) {
                (Some(_), Some(run)) => run.1 = end,
                _ => runs.push((start, end)),
            }
            bytes = after;
            records.push((start, within..after));
        }
        let bytes = self.buffers.filled::<ReadError>(bytes, |mut rest| {
            for (start, end) in runs {
                let (buffer, behind) = rest.split_at_mut((end - start) as usize);
                read_into(file, segment, start, buffer)?;
                rest = behind;
            }
            Ok(())
        })?;
        Ok(EventBuffer { bytes, records })
    }

    /// The event, and how many bytes it has.
    fn event(
        &self,
        segment: &Segment,
        file: &Arc<dyn File>,
        position: Position,
        start: u32,
        mut buffer: Bytes,
    ) -> Result<(RecordedEvent, usize), ReadError> {
        let damage = |fault| damaged(segment.header.number, u64::from(start), &fault);
        let length = buffer
            .get(4..8)
            .map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let whole = length.map_or(0, |length| u64::from(length) + RECORD_HEADER_BYTES as u64);
        if whole > buffer.len() as u64 {
            let bound = self.table(segment, |table, _| Ok(table.end()))?;
            if u64::from(start) + whole > u64::from(bound) {
                return Err(damage("a record ends beyond its segment".to_owned()));
            }
            let mut bytes = vec![0; whole as usize];
            read_into(file, segment, start, &mut bytes)?;
            buffer = bytes.into();
        }
        let frame =
            RecordFrame::decode(&buffer, position).map_err(|fault| damage(fault.to_string()))?;
        if frame.kind != RecordKind::Event {
            return Err(damage(format!("no event of position {position} is here")));
        }
        EventView::decode(frame.body)
            .and_then(|view| view.to_event(segment.minter, position, &buffer))
            .map(|event| (event, whole as usize))
            .map_err(|fault| damage(fault.to_string()))
    }
}

fn read_into(
    file: &Arc<dyn File>,
    segment: &Segment,
    start: u32,
    buffer: &mut [u8],
) -> Result<(), ReadError> {
    let number = segment.header.number;
    file.read_exact_at(buffer, u64::from(start)).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            damaged(number, u64::from(start), &"the file ends too early")
        }
        _ => io_error(number, &error),
    })
}
