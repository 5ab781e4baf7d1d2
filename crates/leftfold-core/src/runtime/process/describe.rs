//! Records of a process's instance as plain values, for the testing kit.

use serde_json::Value;

use super::instance::category;
use super::record::{ParkedRecord, ProcessEvent, ReactionRecord, StoredCause};
use crate::fold::{Schema, Unknown};
use crate::store::{Position, RecordedEvent, Timestamp};

/// Content of one event in the stream of an instance.
#[derive(Clone, Debug, PartialEq)]
#[doc(hidden)]
pub struct RecordDescription {
    pub process: String,
    pub key: String,
    pub what: DescribedRecord,
}

#[derive(Clone, Debug, PartialEq)]
#[doc(hidden)]
pub enum DescribedRecord {
    Reacted {
        to: DescribedTrigger,
        starts: bool,
        ends: bool,
        /// Addressees and contents of the commands.
        commands: Vec<(String, Value)>,
        set: Vec<(String, Timestamp)>,
        cancelled: Vec<String>,
    },
    /// Reason, for people; `None` if it waits behind another trigger.
    Parked(Option<String>),
    /// A person let something go that was parked.
    LetGo,
}

/// Trigger of a reaction.
#[derive(Clone, Debug, PartialEq)]
#[doc(hidden)]
pub enum DescribedTrigger {
    Event(Position),
    Timer(String),
    Refused { by: String, command: Value, reason: String },
}

/// Reads an event of an instance; `None` if it is not one.
pub fn describe_record(event: &RecordedEvent) -> Option<RecordDescription> {
    let stream = &event.stream.as_ref()?.name;
    let process = stream.category().strip_prefix(&category(""))?;
    let schema = Schema::of::<ProcessEvent>().ok()?;
    let what = match schema.decode::<ProcessEvent>(event, Unknown::Ignore).ok()?.pop()? {
        ProcessEvent::Reacted(reacted) => reacted.what(),
        ProcessEvent::Parked(ParkedRecord { error, .. }) => DescribedRecord::Parked(error),
        ProcessEvent::Skipped { .. } | ProcessEvent::Unparked { .. } => DescribedRecord::LetGo,
    };
    Some(RecordDescription { process: process.to_owned(), key: stream.id().to_owned(), what })
}

impl ReactionRecord {
    fn what(self) -> DescribedRecord {
        let to = match self.cause {
            StoredCause::Event { position, .. } => DescribedTrigger::Event(Position(position)),
            StoredCause::Timer { name, .. } => DescribedTrigger::Timer(name),
            StoredCause::Refused { to, id, command, reason, .. } => DescribedTrigger::Refused {
                by: format!("{to}-{id}"),
                command: command.shown(),
                reason,
            },
            // Nothing reacts to them.
            StoredCause::Command { position, .. } | StoredCause::Record { position } => {
                DescribedTrigger::Event(Position(position))
            }
        };
        let commands = self
            .commands
            .into_iter()
            .map(|one| (format!("{}-{}", one.to, one.id), one.command.shown()))
            .collect();
        let set = self.timers.into_iter().map(|timer| (timer.name, timer.due)).collect();
        DescribedRecord::Reacted {
            to,
            starts: self.starts,
            ends: self.ends,
            commands,
            set,
            cancelled: self.cancelled,
        }
    }
}
