//! Records of a process: `$process.…` events in the streams of its instances.

use serde::{Deserialize, Deserializer, Serialize};

use crate::fold::{Event, Schema};
use crate::runtime::json::Json;
use crate::runtime::positions::{self, Owner, Positions, RewriteError, no_label};
use crate::store::limits::DATA_BYTES_MAX;
use crate::store::{Invalid, Label, NewEvent, Position, RecordedEvent, Tags, Timestamp};

/// Fact about an instance, in the stream `$process:NAME-KEY`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum ProcessEvent {
    /// It reacted.
    Reacted(ReactionRecord),
    /// A trigger waits for a person, or behind one that does.
    Parked(ParkedRecord),
    /// A person let a parked trigger go, without a reaction.
    Skipped {
        /// The trigger.
        cause: StoredCause,
        /// Name of the person.
        by: String,
    },
    /// A trigger was reacted to that had been parked; one that could not be read was given to the
    /// instances that it concerns.
    Unparked {
        /// The trigger.
        cause: StoredCause,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ReactionRecord {
    pub(super) process: String,
    pub(super) cause: StoredCause,
    /// True if the instance began with it, on an empty state.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) starts: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) ends: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) commands: Vec<StoredCommand>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) timers: Vec<SetTimer>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) cancelled: Vec<String>,
    /// Number of triggers that were still parked for the instance.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) behind: u32,
    /// Number of reactions that led here one from another, by commands and without anything from
    /// outside.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) depth: u32,
    /// Number of timers that led here one from another, each due at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) rounds: u32,
    /// The commands of all reactions of the process up to here are carried out.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) carried: u64,
    /// Every timer of the process that was set before this and is due before that moment, in
    /// microseconds since 1970, has fired or was cancelled.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) fired_before: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ParkedRecord {
    pub(super) process: String,
    pub(super) cause: StoredCause,
    /// Reason, for people; absent if it only waits behind another one.
    pub(super) error: Option<String>,
}

/// Trigger of a reaction, as it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum StoredCause {
    /// An event: its place, and which of those that upcasters make of it.
    Event {
        position: u64,
        #[serde(default, skip_serializing_if = "is_default")]
        part: u32,
    },
    /// A timer, and the reaction that set it.
    Timer { name: String, due: Timestamp, set_at: u64 },
    /// A refusal of a command: the reaction that issued it, and which of its commands.
    Refused {
        position: u64,
        index: u32,
        to: String,
        id: String,
        command: Json,
        #[serde(default, deserialize_with = "present")]
        refusal: Option<Json>,
        reason: String,
    },
    /// A command that cannot be carried out, for a reason that will not pass: the reaction that
    /// issued it, and which of its commands.
    Command { position: u64, index: u32, to: String, id: String },
    /// A record in the instance's own stream that cannot be read.
    Record { position: u64 },
}

/// A command as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct StoredCommand {
    pub(super) to: String,
    pub(super) id: String,
    pub(super) command: Json,
}

/// A timer as it is recorded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SetTimer {
    pub(super) name: String,
    pub(super) due: Timestamp,
    /// True if it is due at the moment of its trigger: then no time passes before it fires.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(super) at_once: bool,
}

impl Event for ProcessEvent {
    const NAMESPACE: &'static str = "$process";

    /// Timers are found by the minute in which they are due.
    fn tags(&self) -> Tags {
        match self {
            Self::Reacted(reacted) => reacted.timers.iter().fold(Tags::none(), |tags, timer| {
                tags.with(due_tag(&reacted.process, bucket(timer.due)))
            }),
            Self::Parked(_) | Self::Skipped { .. } | Self::Unparked { .. } => Tags::none(),
        }
    }
}

/// Microseconds that one bucket of due times spans.
const BUCKET_MICROS: i64 = 60_000_000;

/// The bucket of a due time: the minutes since 1970.
pub(super) fn bucket(due: Timestamp) -> i64 {
    due.as_micros().div_euclid(BUCKET_MICROS)
}

/// Returns the beginning of a bucket.
pub(super) fn bucket_start(bucket: i64) -> Timestamp {
    Timestamp::from_micros(bucket.saturating_mul(BUCKET_MICROS))
}

/// Returns the tag of the reactions that set timers of a bucket.
pub(super) fn due_tag(process: &str, bucket: i64) -> String {
    format!("$due:{process}:{bucket}")
}

impl StoredCause {
    /// The position that it speaks of.
    pub(super) fn position(&self) -> Position {
        match self {
            Self::Event { position, .. }
            | Self::Refused { position, .. }
            | Self::Command { position, .. }
            | Self::Record { position } => Position(*position),
            Self::Timer { set_at, .. } => Position(*set_at),
        }
    }

    /// Returns the rank in which the triggers parked for an instance are concluded: a record
    /// determines the state, and a command was issued before any trigger that waits was reacted to.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Record { .. } => 0,
            Self::Command { .. } => 1,
            Self::Event { .. } | Self::Timer { .. } | Self::Refused { .. } => 2,
        }
    }

    /// Tells whether it is a command that cannot be carried out.
    pub(super) fn is_command(&self) -> bool {
        matches!(self, Self::Command { .. })
    }

    /// Checks that it can be recorded as waiting for a person, whatever else fails.
    pub(super) fn can_be_parked(&self) -> Result<(), String> {
        let (process, cause) = (String::new(), self.clone());
        let parked = ProcessEvent::Parked(ParkedRecord { process, cause, error: None });
        let record = Schema::of::<ProcessEvent>()
            .and_then(|own| own.encode(&parked))
            .map_err(|error| error.to_string())?;
        Invalid::if_over("the record of it", record.data.len(), DATA_BYTES_MAX / 2)
            .map_err(|invalid| invalid.to_string())
    }

    /// Returns the approximate number of bytes it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let of_users = match self {
            Self::Event { .. } | Self::Record { .. } => 0,
            Self::Timer { name, .. } => name.len(),
            Self::Command { to, id, .. } => to.len() + id.len(),
            Self::Refused { to, id, command, refusal, reason, .. } => {
                let refusal = refusal.as_ref().map_or(0, |refusal| refusal.text().len());
                to.len() + id.len() + command.text().len() + refusal + reason.len()
            }
        };
        of_users + size_of::<Self>()
    }
}

/// Reads a value that is present, `null` too: that is how a refusal without fields is written.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Json>, D::Error> {
    Json::deserialize(deserializer).map(Some)
}

/// Records of instances in a copy of the store.
pub(in crate::runtime) const OWNER: Owner = Owner { category: "$process", rewrite, label };
/// Owner of the records of parked triggers that cannot be read.
pub(in crate::runtime) const OWNER_OF_UNREAD: Owner =
    Owner { category: "$parked", rewrite, label: no_label };

fn rewrite(
    record: &RecordedEvent,
    positions: &dyn Positions,
) -> Result<Option<NewEvent>, RewriteError> {
    positions::changed(record, |event: &mut ProcessEvent| event.rewrite(positions)).map(Some)
}

/// Rewrites `$process:NAME@POSITION`, the cause of the events that a reaction led to.
fn label(label: &Label, positions: &dyn Positions) -> Option<String> {
    let (process, position) = label.strip_prefix("$process:")?.rsplit_once('@')?;
    let reaction = positions.event(Position(position.parse().ok()?)).unwrap_or_default();
    Some(format!("$process:{process}@{reaction}"))
}

impl ProcessEvent {
    fn rewrite(&mut self, positions: &dyn Positions) {
        match self {
            Self::Reacted(reacted) => {
                reacted.carried = positions.through(Position(reacted.carried)).0;
                reacted.cause.rewrite(positions);
            }
            Self::Parked(ParkedRecord { cause, .. })
            | Self::Skipped { cause, .. }
            | Self::Unparked { cause } => {
                cause.rewrite(positions);
            }
        }
    }
}

impl StoredCause {
    /// Rewrites its position; a dropped event becomes position 0. The record must stay: the
    /// versions behind it are part of command ids.
    fn rewrite(&mut self, positions: &dyn Positions) {
        let at = match self {
            Self::Event { position, .. }
            | Self::Refused { position, .. }
            | Self::Command { position, .. }
            | Self::Record { position } => position,
            Self::Timer { set_at, .. } => set_at,
        };
        *at = positions.event(Position(*at)).unwrap_or_default().0;
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
