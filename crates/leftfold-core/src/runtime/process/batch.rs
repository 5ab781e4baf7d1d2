//! Content of one append: the reactions to several triggers, each in its instance's stream.

use std::collections::HashMap;

use super::record::ProcessEvent;
use crate::fold::metadata::stamp;
use crate::fold::{EventError, Schema};
use crate::store::{
    Append, Appended, Authority, CheckpointRecord, Condition, Expected, Fence, Label, Metadata,
    NewEvent, NoneMatching, Position, StreamName, Timestamp, Version,
};

/// Triggers that are taken into one append.
const TRIGGERS_MAX: usize = 256;
/// Bytes after which an append takes no further trigger.
const BYTES_FULL: usize = 4 << 20;
/// Events after which an append takes no further trigger.
const EVENTS_FULL: usize = 2_000;
/// Streams after which an append takes no further trigger: one trigger may bring as many again as
/// it may concern.
const STREAMS_FULL: usize = 100;

/// An event for the stream of an instance, and the intents recorded with it.
#[derive(Debug)]
pub(super) struct BatchEntry {
    pub(super) key: String,
    pub(super) stream: StreamName,
    /// The version of the stream before it.
    pub(super) before: Version,
    pub(super) event: ProcessEvent,
    pub(super) intents: Vec<NewEvent>,
    pub(super) metadata: Metadata,
    /// Number of bytes of the event.
    pub(super) event_bytes: usize,
    /// Approximate number of bytes together with its intents.
    pub(super) bytes: usize,
}

/// Entries on their way into one append.
#[derive(Debug, Default)]
pub(super) struct ReactionBatch {
    pub(super) entries: Vec<BatchEntry>,
    triggers: usize,
    bytes: usize,
    events: usize,
    parked: usize,
    expected: HashMap<StreamName, Version>,
}

/// A reaction that is durable.
#[derive(Debug)]
pub(super) struct DurableReaction {
    pub(super) key: String,
    pub(super) event: ProcessEvent,
    pub(super) position: Position,
    pub(super) version: Version,
    pub(super) metadata: Metadata,
}

impl ReactionBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Tells whether it contains an entry of an instance.
    pub(super) fn concerns(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// Returns the number of triggers in it that are to be parked.
    pub(super) fn parked(&self) -> usize {
        self.parked
    }

    pub(super) fn has_room(&self) -> bool {
        self.triggers < TRIGGERS_MAX
            && self.bytes < BYTES_FULL
            && self.events < EVENTS_FULL
            && self.expected.len() <= STREAMS_FULL
    }

    /// Returns the due time of the first timer that it sets.
    pub(super) fn first_due(&self) -> Timestamp {
        let timers = self.entries.iter().flat_map(|entry| match &entry.event {
            ProcessEvent::Reacted(reacted) => reacted.timers.as_slice(),
            _ => &[],
        });
        timers.map(|timer| timer.due).min().unwrap_or(Timestamp::MAX)
    }

    /// Takes the entries of one trigger.
    pub(super) fn take(&mut self, entries: Vec<BatchEntry>) {
        self.triggers += 1;
        for entry in entries {
            self.expected.entry(entry.stream.clone()).or_insert(entry.before);
            self.bytes += entry.bytes;
            self.events += entry.events();
            self.parked += usize::from(entry.is_parked());
            self.entries.push(entry);
        }
    }

    /// The append. Two runners, or a person and a runner, cannot both do it: each stream is
    /// expected as it was.
    pub(super) fn append(
        &self,
        own: &Schema,
        checkpoint: Option<CheckpointRecord>,
        none_matching: NoneMatching,
        fence: Option<(Label, Fence)>,
    ) -> Result<Append, EventError> {
        let mut events = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let mut event = own.encode(&entry.event)?.in_stream(entry.stream.clone());
            stamp(&entry.metadata, &mut event);
            events.push(event);
            events.extend(entry.intents.iter().cloned().map(|mut intent| {
                stamp(&entry.metadata, &mut intent);
                intent
            }));
        }
        let streams = self
            .expected
            .iter()
            .map(|(stream, version)| (stream.clone(), Expected::Exact(*version)))
            .collect();
        let condition = Condition { streams, none_matching: vec![none_matching] };
        Ok(Append {
            events,
            condition,
            checkpoint,
            fence,
            authority: Authority::RUNTIME,
            ..Append::default()
        })
    }

    /// Returns each recorded entry with its position and version.
    pub(super) fn settled(self, appended: &Appended) -> Vec<DurableReaction> {
        let mut offset = 0;
        let settle = |entry: BatchEntry| {
            let at = offset;
            offset += 1 + entry.intents.len();
            DurableReaction {
                key: entry.key,
                event: entry.event,
                position: Position(appended.first.0 + at as u64),
                version: appended.versions.get(at).copied().unwrap_or_default(),
                metadata: entry.metadata,
            }
        };
        self.entries.into_iter().map(settle).collect()
    }
}

impl BatchEntry {
    pub(super) fn new(
        key: String,
        (stream, before): (StreamName, Version),
        event: ProcessEvent,
        intents: Vec<NewEvent>,
        metadata: Metadata,
    ) -> Self {
        let mut counted = ByteCounter(0);
        // Nothing can fail here that does not when it is written.
        let _ = serde_json::to_writer(&mut counted, &event);
        let event_bytes = counted.0 + MARKS_BYTES;
        let asked: usize = intents.iter().map(|intent| intent.data.len() + ENVELOPE_BYTES).sum();
        let bytes = event_bytes + asked + ENVELOPE_BYTES;
        Self { key, stream, before, event, intents, metadata, event_bytes, bytes }
    }

    /// The same, as the reaction to a trigger that had been parked; `parked` others still are.
    pub(super) fn with_behind(mut self, parked: usize) -> Self {
        if let ProcessEvent::Reacted(reacted) = &mut self.event {
            reacted.behind = u32::try_from(parked).unwrap_or(u32::MAX);
        }
        self
    }

    /// Returns the number of its events.
    pub(super) fn events(&self) -> usize {
        1 + self.intents.len()
    }

    pub(super) fn is_parked(&self) -> bool {
        matches!(self.event, ProcessEvent::Parked(_))
    }

    /// Notes the position up to which commands are carried out, and the moment before which timers
    /// have fired.
    pub(super) fn mark(&mut self, carried: Position, fired_before: Timestamp) {
        if let ProcessEvent::Reacted(reacted) = &mut self.event {
            (reacted.carried, reacted.fired_before) = (carried.0, fired_before.as_micros());
        }
    }
}

/// Bytes of the marks of a reaction.
const MARKS_BYTES: usize = 96;
/// Bytes of names, tags and metadata of one event, about and at most.
const ENVELOPE_BYTES: usize = 1_024;

/// Counts what is written.
struct ByteCounter(usize);

impl std::io::Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
