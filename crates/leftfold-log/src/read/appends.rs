//! Appends as they stand in the log, group by group: what a copy of the store reads.

use std::sync::Arc;

use bytes::Bytes;
use leftfold_core::store::{
    AppendsFrom, AppendsPage, Checkpoint, Hash, Partition, Position, ReadError, RecordedAppend,
};

use crate::format::{
    Binding, CheckpointView, CommandView, EventView, FormatError, NextRecord, RecordFrame,
    RecordKind, SegmentHeader, moment,
};
use crate::segments::scan::{Group, Groups, address, place_of};
use crate::segments::segment::{Segment, damaged, io_error, missing};
use crate::shared::SharedLog;

/// Reads whole groups until the page is full.
pub(crate) fn page(
    shared: &SharedLog,
    from: AppendsFrom,
    page_bytes: u32,
) -> Result<AppendsPage, ReadError> {
    let head = shared.head();
    let (mut segment, mut offset, after) = begin(shared, from)?;
    let mut page = AppendsPage { appends: Vec::new(), next: from, head };
    let mut bytes = 0;
    loop {
        let number = segment.header.number;
        let next = shared.segments.following(&segment);
        let end = match &next {
            Some(next) => u64::from(next.header.length_before),
            // What lies behind it is not durable yet.
            None => u64::from(shared.segments.table(&segment, |table, _| Ok(table.end()))?),
        };
        let file = shared.segments.file(number)?;
        let mut groups =
            Groups::of(file, &segment.header).map_err(|error| io_error(number, &error))?;
        while offset < end {
            let group = groups.at(offset, None).map_err(|error| io_error(number, &error))?;
            let group = group.valid_or(|fault| damaged(number, offset, &fault))?;
            if moment(group.header.recorded_at) > head.recorded_at {
                // It is durable, and not shown yet.
                return Ok(page);
            }
            let appends =
                appends_of(&segment, &group).map_err(|fault| damaged(number, offset, &fault))?;
            page.appends.extend(appends.into_iter().filter(|append| !is_before(append, after)));
            bytes += group.body.len();
            offset = group.end();
            page.next = AppendsFrom::Mark(address(number, offset));
            if bytes >= page_bytes as usize && !page.appends.is_empty() {
                return Ok(page);
            }
        }
        match next {
            Some(next) => (segment, offset) = (Arc::clone(&next), next.header.bytes()),
            None => return Ok(page),
        }
    }
}

/// The group to begin with, and the position whose append is the last that is not wanted.
fn begin(
    shared: &SharedLog,
    from: AppendsFrom,
) -> Result<(Arc<Segment>, u64, Position), ReadError> {
    let segments = &shared.segments;
    match from {
        AppendsFrom::After(position) => {
            let position = position.min(shared.head().position);
            if position == Position::START {
                // The first segments may hold records and no events: what holds position 1 may come
                // long after them.
                let first = segments.first();
                let offset = first.header.bytes();
                return Ok((first, offset, position));
            }
            let segment = segments.holding(position).ok_or_else(|| missing(position))?;
            let index = segment.index_of(position);
            let anchor = segments.table(&segment, |table, blocks| table.anchor(index, blocks))?;
            let anchor = anchor.ok_or_else(|| missing(position))?;
            Ok((segment, u64::from(anchor.offset), position))
        }
        AppendsFrom::Mark(mark) => {
            let (number, offset) = place_of(mark);
            let segment =
                segments.numbered(number).filter(|segment| offset >= segment.header.bytes());
            let segment = segment
                .ok_or_else(|| damaged(number, offset, &"no page of this store ended here"))?;
            Ok((segment, offset, Position::START))
        }
    }
}

/// Tells whether an append is the one that holds `after`, or an earlier one. An append without
/// events stands behind the event that it names, so it is wanted.
fn is_before(append: &RecordedAppend, after: Position) -> bool {
    if append.events.is_empty() { append.first < after } else { append.first <= after }
}

fn appends_of(segment: &Segment, group: &Group<'_>) -> Result<Vec<RecordedAppend>, FormatError> {
    // One buffer that the events of the group share.
    let body = Bytes::copy_from_slice(group.body);
    let hash = group.chain().hash;
    let mut position = group.header.first;
    let mut appends = Vec::new();
    let mut append = UnfinishedAppend::default();
    let mut at = 0;
    while at < body.len() {
        let frame = RecordFrame::decode(&body[at..], position)?;
        match frame.kind {
            RecordKind::Event => {
                append.events.push(EventView::decode(frame.body)?.to_event(
                    segment.minter,
                    position,
                    &body,
                )?);
                position = position.next();
            }
            RecordKind::Command => {
                append.command = Some(CommandView::decode(frame.body)?.to_answered())
            }
            RecordKind::Checkpoint => {
                let view = CheckpointView::decode(frame.body)?;
                append.checkpoint = Some((view.to_consumer()?, view.to_checkpoint()?));
            }
            RecordKind::Fences | RecordKind::Skipped => {}
        }
        at += frame.bytes;
        if frame.next == NextRecord::Other {
            let whole = std::mem::take(&mut append).finish(position, hash);
            // The log's own records are nobody's append.
            if !is_nothing(&whole) && !counts_openings(&segment.header, &whole) {
                appends.push(whole);
            }
        }
    }
    Ok(appends)
}

fn is_nothing(append: &RecordedAppend) -> bool {
    append.events.is_empty() && append.command.is_none() && append.checkpoint.is_none()
}

/// An append whose last record was not seen yet.
#[derive(Default)]
struct UnfinishedAppend {
    events: Vec<leftfold_core::store::RecordedEvent>,
    command: Option<leftfold_core::store::Answered>,
    checkpoint: Option<(leftfold_core::store::Label, Checkpoint)>,
}

impl UnfinishedAppend {
    fn finish(self, next: Position, hash: Hash) -> RecordedAppend {
        let Self { events, command, checkpoint } = self;
        let first = events.first().map_or(Position(next.0 - 1), |event| event.position);
        RecordedAppend { first, events, command, checkpoint, hash }
    }
}

/// In version 1, the consumer whose checkpoint counted the openings of the log that gave leases.
const OPENINGS: &str = "$leases";

/// Tells whether an append in a segment of version 1 is the log's own: its record is a checkpoint,
/// which a user can write too, but hardly alone, for this store and without a hash.
fn counts_openings(header: &SegmentHeader, append: &RecordedAppend) -> bool {
    let RecordedAppend { events, command: None, checkpoint: Some((consumer, at)), .. } = append
    else {
        return false;
    };
    let own = *at
        == Checkpoint {
            store: header.store,
            partition: Partition::default(),
            position: at.position,
            hash: Hash::EMPTY,
        };
    header.binding == Binding::Address && events.is_empty() && consumer.as_str() == OPENINGS && own
}
