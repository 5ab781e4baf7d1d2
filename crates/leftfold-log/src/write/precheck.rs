//! Lookups that the caller of an append makes for the writer, off the writer's path: against the
//! durable history up to some head. The writer then looks only at the events since.

use std::collections::HashMap;

use leftfold_core::store::{
    Append, AppendError, Appended, CheckpointRecord, CommandRecord, Condition, Conflict, Expected,
    Head, Outcome, Position, ReadError, StreamName, Version,
};

use crate::format::{CheckpointView, CommandView, RecordFrame, checkpoint_key};
use crate::index::unreadable;
use crate::read::candidates;
use crate::segments::scan::place_of;
use crate::segments::segment::damaged;
use crate::shared::SharedLog;
use crate::write::request::Precheck;

/// Result of the lookups for an append, before the writer sees it.
pub(crate) enum PrecheckResult {
    /// The answer is final: no later event can change it.
    Answered(Outcome),
    /// The writer decides, from these facts.
    Undecided(Precheck),
}

/// Tells whether the lookups may take long: they are made on a thread of the log then.
pub(crate) fn is_slow(shared: &SharedLog, append: &Append) -> bool {
    append.condition.none_matching.iter().any(|none| {
        let head = shared.head().position;
        let since = shared.index.recent().since().position;
        let span = head.0.saturating_sub(none.after.0);
        span > if none.after >= since && candidates::is_indexed(&none.query) {
            100_000
        } else {
            100
        }
    })
}

/// Order of judging an append among those that wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JudgingOrder {
    /// It may be judged before those that wait.
    Free,
    /// It is judged after those that were handed over with it.
    InTurn,
}

/// Looks everything up that the append depends on.
pub(crate) fn precheck(
    shared: &SharedLog,
    append: &Append,
    order: JudgingOrder,
) -> Result<PrecheckResult, AppendError> {
    // The head is read first: the index then knows at least as much.
    let head = shared.head();
    if let Some(command) = &append.command
        && let Some(address) = shared.index.command(&command.id.0).map_err(unreadable)?
    {
        return repeated(shared, command, address).map(PrecheckResult::Answered);
    }
    let mut facts = Precheck { at: head.position, ..Precheck::default() };
    streams(shared, append, head, &mut facts)?;
    if let Some(record) = &append.checkpoint {
        facts.consumer = consumer_at(shared, &consumer_key(record))?;
    }
    for (clause, none) in append.condition.none_matching.iter().enumerate() {
        if let Some(found) =
            candidates::first_match(shared, &none.query, none.after, head.position)?
        {
            // It has failed already; of the queries behind it nothing is ever told.
            facts.found = Some((clause, found));
            break;
        }
    }
    // A command id that comes from somewhere else at the same time is the writer's to see, and so
    // are fences.
    if order == JudgingOrder::Free
        && append.command.is_none()
        && append.fence.is_none()
        && let Some(conflict) = lasting_conflict(&append.condition, &facts)
    {
        return Ok(PrecheckResult::Answered(Outcome::Conflict(conflict)));
    }
    Ok(PrecheckResult::Undecided(facts))
}

fn streams(
    shared: &SharedLog,
    append: &Append,
    head: Head,
    facts: &mut Precheck,
) -> Result<(), ReadError> {
    let mut known: HashMap<StreamName, u32> = HashMap::new();
    let mut slot = |name: &StreamName, facts: &mut Precheck| -> Result<u32, ReadError> {
        // Most appends are about one stream; only large ones need the map.
        let few = facts.streams.len() <= 8;
        let found = if few {
            facts.streams.iter().position(|(other, _)| other == name).map(|index| index as u32)
        } else {
            if known.is_empty() {
                known.extend(
                    facts
                        .streams
                        .iter()
                        .enumerate()
                        .map(|(index, (name, _))| (name.clone(), index as u32)),
                );
            }
            known.get(name).copied()
        };
        if let Some(found) = found {
            return Ok(found);
        }
        let version = shared.index.stream_version(name, head.position).map_err(unreadable)?;
        let index = facts.streams.len() as u32;
        facts.streams.push((name.clone(), version));
        if !few {
            known.insert(name.clone(), index);
        }
        Ok(index)
    };
    for (name, _) in &append.condition.streams {
        let index = slot(name, facts)?;
        facts.of_expectations.push(index);
    }
    facts.of_events.reserve(append.events.len());
    for event in &append.events {
        let index = event.stream.as_ref().map(|name| slot(name, facts)).transpose()?;
        facts.of_events.push(index);
    }
    Ok(())
}

/// Returns the conflict of a condition at the head of the facts if no later event can undo it:
/// versions only grow, and events stay.
fn lasting_conflict(condition: &Condition, facts: &Precheck) -> Option<Conflict> {
    for ((stream, expected), slot) in condition.streams.iter().zip(&facts.of_expectations) {
        let actual = facts.streams[*slot as usize].1;
        let lasting = match expected {
            Expected::Any | Expected::Exists => false,
            Expected::Absent => actual > Version::ABSENT,
            Expected::Exact(version) => actual > *version,
        };
        if lasting {
            return Some(Conflict::Stream { stream: stream.clone(), expected: *expected, actual });
        }
        if !expected.holds(actual) {
            // It may hold by the time that the writer looks.
            return None;
        }
    }
    let (clause, found) = facts.found?;
    Some(Conflict::Matching { clause, after: condition.none_matching[clause].after, found })
}

/// Returns the answer that was recorded under a command id, whose durable record is at the address.
pub(crate) fn repeated(
    shared: &SharedLog,
    command: &CommandRecord,
    address: u64,
) -> Result<Outcome, AppendError> {
    let bytes = shared.segments.record_at(address)?;
    judge_repeat(command, &bytes, address)
}

/// The same, from the bytes of the record.
pub(crate) fn judge_repeat(
    command: &CommandRecord,
    record: &[u8],
    address: u64,
) -> Result<Outcome, AppendError> {
    let (number, offset) = place_of(address);
    let view = RecordFrame::decode(record, Position::START)
        .and_then(|frame| CommandView::decode(frame.body));
    let view = view.map_err(|fault| damaged(number, offset, &fault))?;
    if view.id != command.id.0 {
        return Err(damaged(number, offset, &"another command's record is here").into());
    }
    let answered = view.to_answered();
    if answered.record.digest == command.digest {
        Ok(Outcome::Repeated(answered))
    } else {
        Err(AppendError::CommandIdReused { id: command.id })
    }
}

/// Returns the key of a consumer's checkpoint in the index.
pub(crate) fn consumer_key(record: &CheckpointRecord) -> String {
    let partition = record.checkpoint.partition.0.as_deref().unwrap_or("");
    checkpoint_key(&record.consumer, record.checkpoint.store.0.as_bytes(), partition)
}

fn consumer_at(shared: &SharedLog, consumer: &str) -> Result<Option<Position>, ReadError> {
    let Some(address) = shared.index.checkpoint(consumer.as_bytes()).map_err(unreadable)? else {
        return Ok(None);
    };
    checkpoint_position(&shared.segments.record_at(address)?, address).map(Some)
}

/// The position of a checkpoint record.
pub(crate) fn checkpoint_position(record: &[u8], address: u64) -> Result<Position, ReadError> {
    let (number, offset) = place_of(address);
    RecordFrame::decode(record, Position::START)
        .and_then(|frame| CheckpointView::decode(frame.body))
        .map(|view| view.position)
        .map_err(|fault| damaged(number, offset, &fault))
}

/// The answer to an append of nothing, under a condition that holds.
pub(crate) fn appended_nothing(head: Head) -> Outcome {
    Outcome::Appended(Appended {
        first: head.position,
        versions: Vec::new(),
        recorded_at: head.recorded_at,
    })
}
