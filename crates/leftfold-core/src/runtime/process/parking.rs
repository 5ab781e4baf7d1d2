//! Items parked in a process: triggers, commands and records that wait for a person, and what
//! waits behind them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::batch::BatchEntry;
use super::instance::{InstanceReader, category, unreadable};
use super::record::{ParkedRecord, ProcessEvent, StoredCause};
use super::step::ProcessTrouble;
use super::whose::Whose;
use crate::fold::{EventError, LoadError};
use crate::runtime::consumer::PARKED_MAX;
use crate::store::limits::STREAM_BYTES_MAX;
use crate::store::{
    Digest, EventType, Invalid, Metadata, Position, Query, Read, RecordedEvent, StreamName, Version,
};

/// Bytes of all parked triggers at most, about.
pub const PARKED_BYTES_MAX: usize = 64 << 20;

/// Everything that is parked in one process.
#[derive(Debug, Default)]
pub(super) struct Parking {
    /// Events that cannot be read, by the stream that they are in, and the triggers that wait
    /// behind them.
    pub(super) unread: BTreeMap<String, UnreadStream>,
    /// Number of parked triggers of each instance that has any.
    parked: BTreeMap<String, usize>,
    /// Sum over all of them.
    tally: Tally,
    /// Records that cannot be read and were parked for that, or let go.
    records: BTreeSet<Position>,
}

/// Count of parked triggers and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Triggers and commands, those that wait behind others included.
    pub(super) parked: usize,
    /// The commands among them.
    pub(super) stuck: usize,
    bytes: usize,
}

impl Tally {
    /// With one more, or one less.
    fn changed(self, cause: &StoredCause, change: fn(usize, usize) -> usize) -> Self {
        let stuck = change(self.stuck, usize::from(cause.is_command()));
        Self { parked: change(self.parked, 1), stuck, bytes: change(self.bytes, cause.bytes()) }
    }

    /// Tells whether nothing more can be parked, beside the triggers in a batch.
    fn is_full(self, in_batch: usize) -> bool {
        self.parked + in_batch >= PARKED_MAX || self.bytes >= PARKED_BYTES_MAX
    }
}

/// A record of the process's own that cannot be read, found by who looked for something else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnreadableRecord {
    pub(super) whose: Whose,
    pub(super) position: Position,
    pub(super) why: String,
}

impl UnreadableRecord {
    /// A record in the stream of an instance, or in that of the triggers parked for a stream;
    /// `None` if it is in no stream.
    pub(super) fn new(process: &str, record: &RecordedEvent, why: &EventError) -> Option<Self> {
        let stream = &record.stream.as_ref()?.name;
        let id = stream.id().to_owned();
        let whose = if stream.category() == category(process) {
            Whose::Instance(id)
        } else {
            Whose::Stream(id)
        };
        Some(Self { whose, position: record.position, why: unreadable(record, why) })
    }
}

/// Triggers that are parked for a stream.
#[derive(Debug, Default)]
pub(super) struct UnreadStream {
    version: Version,
    pub(super) causes: VecDeque<StoredCause>,
}

impl Parking {
    /// Loads the parked triggers from the log, with the records of them that cannot be read.
    pub(super) async fn load(
        archive: &InstanceReader,
        process: &str,
    ) -> Result<(Self, Vec<UnreadableRecord>), LoadError> {
        let mut parking = Self::default();
        let mut unreadable: Vec<UnreadableRecord> = Vec::new();
        let mut events = archive.store.read(Read::matching(about_parking(process)?, Position(1)));
        while let Some(event) = events.next().await? {
            let Some(at) = &event.stream else { continue };
            let of_stream = at.name.category() != category(process);
            if of_stream {
                parking.unread.entry(at.name.id().to_owned()).or_default().version = at.version;
            }
            match archive.own(&event) {
                Ok(own) if of_stream => {
                    parking.count("", &own);
                    parking.unread.entry(at.name.id().to_owned()).or_default().take(own);
                }
                Ok(own) => parking.count(at.name.id(), &own),
                Err(why) => unreadable.extend(UnreadableRecord::new(process, &event, &why)),
            }
        }
        unreadable.retain(|found| !parking.records.contains(&found.position));
        Ok((parking, unreadable))
    }

    /// Returns the count of parked triggers.
    pub(super) fn tally(&self) -> Tally {
        self.tally
    }

    /// Counts the triggers parked for an instance; without a key, for a stream.
    pub(super) fn count(&mut self, key: &str, event: &ProcessEvent) {
        if let ProcessEvent::Parked(ParkedRecord {
            cause: StoredCause::Record { position }, ..
        })
        | ProcessEvent::Skipped { cause: StoredCause::Record { position }, .. } = event
        {
            self.records.insert(Position(*position));
        }
        match event {
            ProcessEvent::Parked(ParkedRecord { cause, .. }) => {
                self.tally = self.tally.changed(cause, usize::saturating_add);
                if !key.is_empty() {
                    *self.parked.entry(key.to_owned()).or_default() += 1;
                }
            }
            ProcessEvent::Skipped { cause, .. } | ProcessEvent::Unparked { cause } => {
                self.tally = self.tally.changed(cause, usize::saturating_sub);
                if let Some(parked) = self.parked.get_mut(key) {
                    *parked = parked.saturating_sub(1);
                    if *parked == 0 {
                        self.parked.remove(key);
                    }
                }
            }
            ProcessEvent::Reacted(_) => {}
        }
    }

    /// Tells whether a record that cannot be read is parked, or was let go.
    pub(super) fn knows_record(&self, position: Position) -> bool {
        self.records.contains(&position)
    }

    /// Describes the parked triggers that a person is to look at.
    pub(super) fn trouble(&self) -> Option<String> {
        let parked = self.parked.first_key_value().map(|(key, _)| format!("instance {key}"));
        let unread = || {
            self.unread
                .iter()
                .find(|(_, unread)| !unread.causes.is_empty())
                .map(|(s, _)| format!("stream {s}"))
        };
        parked
            .or_else(unread)
            .map(|whose| format!("events; what is parked for {whose} waits for a person"))
    }

    /// Tells whether nothing more can be parked, beside the triggers in a batch.
    pub(super) fn is_full(&self, in_batch: usize) -> bool {
        self.tally.is_full(in_batch)
    }

    /// Describes the reason why nothing more can be parked.
    pub(super) fn full() -> String {
        format!(
            "a person: {PARKED_MAX} triggers are parked, or {PARKED_BYTES_MAX} bytes of them, retry or skip some"
        )
    }

    /// A line about an event that could not be read.
    pub(super) fn unread_entry(
        &mut self,
        process: &str,
        of: &str,
        event: ProcessEvent,
        metadata: Metadata,
    ) -> Result<BatchEntry, ProcessTrouble> {
        let name = format!("{}-{of}", unread_category(process));
        let stream =
            StreamName::new(name).map_err(|invalid| ProcessTrouble::Store(invalid.to_string()))?;
        let unread = self.unread.entry(of.to_owned()).or_default();
        let before = unread.version;
        unread.version = before.next();
        Ok(BatchEntry::new(String::new(), (stream, before), event, Vec::new(), metadata))
    }
}

impl UnreadStream {
    fn take(&mut self, own: ProcessEvent) {
        match own {
            ProcessEvent::Parked(ParkedRecord { cause, .. }) => self.causes.push_back(cause),
            ProcessEvent::Skipped { cause, .. } | ProcessEvent::Unparked { cause } => {
                if let Some(at) = self.causes.iter().position(|waiting| *waiting == cause) {
                    self.causes.remove(at);
                }
            }
            ProcessEvent::Reacted(_) => {}
        }
    }
}

/// Returns the category of the triggers that are parked because they cannot be read.
pub(super) fn unread_category(process: &str) -> String {
    format!("$parked:{process}")
}

/// Returns the query for the records of parked triggers, and of each conclusion of one other than
/// by a reaction.
pub(super) fn about_parking(process: &str) -> Result<Query, Invalid> {
    let streams = Query::category(category(process)).or(Query::category(unread_category(process)));
    let types = ["$process.Parked", "$process.Unparked", "$process.Skipped"]
        .into_iter()
        .map(EventType::new);
    Ok(streams.of_types(&types.collect::<Result<Vec<_>, _>>()?))
}

/// Returns the id under which the triggers parked for a stream are found: its name, or as much of
/// it as fits into a name.
pub(super) fn parked_as(process: &str, stream: &str) -> String {
    let room = STREAM_BYTES_MAX - unread_category(process).len() - 1;
    if stream.len() <= room {
        return stream.to_owned();
    }
    let Digest(digest) = Digest::of(stream.as_bytes());
    let digest = digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let end =
        (0..=room - digest.len() - 1).rev().find(|end| stream.is_char_boundary(*end)).unwrap_or(0);
    format!("{}~{digest}", &stream[..end])
}
