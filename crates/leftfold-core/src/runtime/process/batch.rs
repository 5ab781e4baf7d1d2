//! What goes into one append: the reactions to several triggers, each in its instance's stream.

use std::collections::HashMap;

use super::record::{Parked, ProcessEvent, Reacted};
use crate::fold::{EventError, Schema};
use crate::store::{
    Append, Appended, CheckpointRecord, Condition, Expected, Metadata, NewEvent, NoneMatching, Position, StreamName, Version,
};

/// Triggers that are taken into one append.
const TRIGGERS_MAX: usize = 256;
/// Bytes after which an append takes no further trigger.
const BYTES_FULL: usize = 4 << 20;
/// Streams after which an append takes no further trigger: one trigger may bring as many again as it may concern.
const STREAMS_FULL: usize = 100;

/// One line for the stream of an instance, and what is asked for with it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) stream: StreamName,
    /// The version of the stream before it.
    pub(super) before: Version,
    pub(super) event: ProcessEvent,
    pub(super) intents: Vec<NewEvent>,
    pub(super) metadata: Metadata,
}

/// Entries on their way into one append.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    triggers: usize,
    bytes: usize,
    expected: HashMap<StreamName, Version>,
}

/// A reaction that is durable.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) key: String,
    pub(super) event: ProcessEvent,
    pub(super) position: Position,
    pub(super) version: Version,
    pub(super) metadata: Metadata,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether something of an instance is in it.
    pub(super) fn concerns(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    pub(super) fn has_room(&self) -> bool {
        self.triggers < TRIGGERS_MAX && self.bytes < BYTES_FULL && self.expected.len() <= STREAMS_FULL
    }

    /// Takes what one trigger led to.
    pub(super) fn take(&mut self, entries: Vec<Entry>) {
        self.triggers += 1;
        for entry in entries {
            self.expected.entry(entry.stream.clone()).or_insert(entry.before);
            self.bytes += entry.event.weight() + entry.intents.iter().map(|intent| intent.data.len()).sum::<usize>();
            self.entries.push(entry);
        }
    }

    /// The append. Two runners, or a person and a runner, cannot both do it: each stream is expected as it was.
    pub(super) fn append(
        &self,
        own: &Schema,
        checkpoint: Option<CheckpointRecord>,
        none_matching: Option<NoneMatching>,
    ) -> Result<Append, EventError> {
        let mut events = Vec::with_capacity(self.entries.len());
        for entry in &self.entries {
            let mut event = own.encode(&entry.event)?.in_stream(entry.stream.clone());
            event.metadata = entry.metadata.clone();
            events.push(event);
            events.extend(entry.intents.iter().cloned().map(|mut intent| {
                intent.metadata = entry.metadata.clone();
                intent
            }));
        }
        let streams = self.expected.iter().map(|(stream, version)| (stream.clone(), Expected::Exact(*version))).collect();
        Ok(Append { events, condition: Condition { streams, none_matching }, command: None, checkpoint, fence: None })
    }

    /// What was recorded where.
    pub(super) fn settled(self, appended: &Appended) -> Vec<Settled> {
        let mut offset = 0;
        let settle = |entry: Entry| {
            let at = offset;
            offset += 1 + entry.intents.len();
            Settled {
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

impl Entry {
    /// Marks that the commands of all reactions up to there are carried out.
    pub(super) fn carried(&mut self, up_to: Position) {
        if let ProcessEvent::Reacted(reacted) = &mut self.event {
            reacted.carried = up_to.0;
        }
    }
}

impl ProcessEvent {
    /// About how many bytes it takes.
    pub(super) fn weight(&self) -> usize {
        match self {
            Self::Reacted(Reacted { commands, timers, .. }) => {
                256 + timers.len() * 64 + commands.iter().map(|one| 64 + one.id.len() + size(&one.command)).sum::<usize>()
            }
            Self::Parked(Parked { error, .. }) => 256 + error.as_ref().map_or(0, String::len),
            Self::Skipped { .. } | Self::Unparked { .. } => 256,
        }
    }
}

/// About how many bytes a value takes as JSON.
fn size(value: &serde_json::Value) -> usize {
    use serde_json::Value;
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
        Value::String(text) => 2 + text.len(),
        Value::Array(all) => 2 + all.iter().map(size).sum::<usize>(),
        Value::Object(all) => 2 + all.iter().map(|(key, value)| key.len() + 4 + size(value)).sum::<usize>(),
    }
}
