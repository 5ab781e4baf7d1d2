//! The ledger of one effect: what the log says of its attempts and their outcome, in a stream of the runtime's own.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::effect::EffectId;
use super::json::Json;
use super::positions::{Owner, Positions, RewriteError, no_label};
use crate::fold::{Event, EventError, LoadError, Schema, Unknown};
use crate::store::{Invalid, NewEvent, Position, Read, RecordedEvent, Store, StreamName, Timestamp, Version};

/// What happened to an effect, stored as `$effect.…` in the stream `$effect-ID`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum LedgerEvent {
    /// The outside world is about to be touched.
    AttemptOpened { effect: String, number: u32, deadline: Timestamp },
    /// The attempt did not take place, or may be repeated.
    AttemptFailed { number: u32, reason: String, again_at: Timestamp },
    /// Whether the attempt took place is not known.
    Doubted { number: u32, reason: String },
    /// It took place.
    Done { outcome: Json, by: String, report_refused: Option<String> },
    /// It did not take place, and will not.
    NotDone { reason: String, by: String, report_refused: Option<String> },
}

impl Event for LedgerEvent {
    const NAMESPACE: &'static str = "$effect";
}

/// Ledgers in a copy of the store.
pub(super) const OWNER: Owner = Owner { category: LedgerEvent::NAMESPACE, rewrite, label: no_label };

/// A ledger is named by its intent's position, and goes with the very event: the nearest one that is left may be another
/// intent.
fn rewrite(record: &RecordedEvent, positions: &dyn Positions) -> Result<Option<NewEvent>, RewriteError> {
    let id = record.stream.as_ref().filter(|at| at.name.category() == LedgerEvent::NAMESPACE).map(|at| at.name.id().parse());
    let Some(Ok(intent)) = id else { return Ok(Some(record.to_new())) };
    let Some(intent) = positions.event(Position(intent)) else { return Ok(None) };
    Ok(Some(record.to_new().in_stream(Ledger::stream(EffectId(intent))?)))
}

/// How an effect stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum EffectState {
    /// Nobody has begun.
    Pending,
    /// An attempt is under way.
    InFlight {
        /// When the runtime stops waiting for it.
        deadline: Timestamp,
    },
    /// The last attempt failed, another one follows.
    Waiting {
        /// Why it failed.
        reason: String,
        /// When.
        again_at: Timestamp,
    },
    /// Whether it took place is not known. It is looked up, or a person says so.
    InDoubt {
        /// Why.
        reason: String,
        /// Since when.
        since: Timestamp,
    },
    /// It took place.
    Done {
        /// What came of it.
        outcome: Value,
        /// Who says so: the runtime, or a person.
        by: String,
    },
    /// It did not take place, and will not.
    NotDone {
        /// Why.
        reason: String,
        /// Who says so: the runtime, or a person.
        by: String,
    },
}

impl EffectState {
    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_concluded(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::NotDone { .. })
    }

    /// Whether it is concluded or in doubt: nothing more is known soon.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.is_concluded() || matches!(self, Self::InDoubt { .. })
    }
}

/// The fold of a ledger.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) stream: StreamName,
    pub(super) version: Version,
    /// The last thing known of the effect: that it was asked for, if nothing else.
    pub(super) position: Position,
    pub(super) attempts: u32,
    /// The deadline of the last attempt.
    pub(super) deadline: Option<Timestamp>,
    pub(super) state: EffectState,
    pub(super) report_refused: Option<String>,
}

impl Ledger {
    pub(super) fn stream(id: EffectId) -> Result<StreamName, Invalid> {
        StreamName::new(format!("$effect-{id}"))
    }

    pub(super) async fn load(store: &Store, id: EffectId) -> Result<Self, LoadError> {
        let stream = Self::stream(id)?;
        let schema = Schema::of::<LedgerEvent>()?;
        let mut ledger = Self {
            stream: stream.clone(),
            version: Version::ABSENT,
            position: id.0,
            attempts: 0,
            deadline: None,
            state: EffectState::Pending,
            report_refused: None,
        };
        let mut events = store.read(Read::stream(stream, Version(1)));
        while let Some(recorded) = events.next().await? {
            schema.decode_each(&recorded, Unknown::Refuse, |event| ledger.apply(event, recorded.recorded_at))?;
            (ledger.version, ledger.position) = (recorded.version(), recorded.position);
        }
        Ok(ledger)
    }

    fn apply(&mut self, event: LedgerEvent, at: Timestamp) {
        self.state = match event {
            LedgerEvent::AttemptOpened { number, deadline, .. } => {
                self.attempts = number;
                self.deadline = Some(deadline);
                EffectState::InFlight { deadline }
            }
            LedgerEvent::AttemptFailed { reason, again_at, .. } => EffectState::Waiting { reason, again_at },
            LedgerEvent::Doubted { reason, .. } => EffectState::InDoubt { reason, since: at },
            LedgerEvent::Done { outcome, by, report_refused } => {
                self.report_refused = report_refused;
                EffectState::Done { outcome: outcome.shown(), by }
            }
            LedgerEvent::NotDone { reason, by, report_refused } => {
                self.report_refused = report_refused;
                EffectState::NotDone { reason, by }
            }
        };
    }

    /// Whether the attempt of this number still stands for an outcome: no other one was opened, none was concluded.
    pub(super) fn waits_for(&self, attempt: u32) -> bool {
        self.attempts == attempt && matches!(self.state, EffectState::InFlight { .. } | EffectState::InDoubt { .. })
    }

    /// The event as the store takes it.
    pub(super) fn entry(&self, event: &LedgerEvent) -> Result<NewEvent, EventError> {
        Ok(Schema::of::<LedgerEvent>()?.encode(event)?.in_stream(self.stream.clone()))
    }
}

/// Bytes of a reason that are recorded.
const REASON_BYTES_MAX: usize = 4_096;

/// A reason within its limit: what users' code says may be of any length.
pub(super) fn shortened(mut reason: String) -> String {
    // The start of a text is a boundary.
    let end = (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    reason.truncate(end.unwrap_or(0));
    reason
}
