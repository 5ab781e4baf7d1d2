//! The ledger of one effect: what the log says of its attempts and their outcome, in a stream of
//! the runtime's own.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::EffectId;
use super::attempt::{Fate, Try};
use crate::fold::{Event, EventError, LoadError, Schema, Unknown};
use crate::runtime::json::Json;
use crate::runtime::positions::{Owner, Positions, RewriteError, no_label};
use crate::store::{
    Invalid, NewEvent, Position, Read, RecordedEvent, Store, StreamName, Timestamp, Version,
};

/// Fact about an effect, stored as `$effect.…` in the stream `$effect-ID`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[doc(hidden)]
pub enum LedgerEvent {
    /// The outside world is about to be touched.
    AttemptOpened { effect: String, number: u32, deadline: Timestamp },
    /// The attempt has ended without success, and another one follows.
    AttemptFailed {
        number: u32,
        reason: String,
        again_at: Timestamp,
        /// True if it may have taken place. `None` from releases that did not ask.
        #[serde(default)]
        in_doubt: Option<bool>,
    },
    /// It is not known if the attempt took place, and none follows before it is.
    Doubted { number: u32, reason: String },
    /// An attempt that was in doubt did not take place; others may have.
    Cleared { number: u32, reason: String },
    /// A person wants no further attempt; earlier ones may have taken place.
    Cancelled { reason: String, by: String },
    /// It took place.
    Done { outcome: Json, by: String, report_refused: Option<String> },
    /// It did not take place, and will not.
    NotDone { reason: String, by: String, report_refused: Option<String> },
}

impl Event for LedgerEvent {
    const NAMESPACE: &'static str = "$effect";
}

/// Ledgers in a copy of the store.
pub(in crate::runtime) const OWNER: Owner =
    Owner { category: LedgerEvent::NAMESPACE, rewrite, label: no_label };

/// A ledger is named by its intent's position, and goes with the very event: the nearest one that
/// is left may be another intent.
fn rewrite(
    record: &RecordedEvent,
    positions: &dyn Positions,
) -> Result<Option<NewEvent>, RewriteError> {
    let id = record
        .stream
        .as_ref()
        .filter(|at| at.name.category() == LedgerEvent::NAMESPACE)
        .map(|at| at.name.id().parse());
    let Some(Ok(intent)) = id else { return Ok(Some(record.to_new())) };
    let Some(intent) = positions.event(Position(intent)) else { return Ok(None) };
    Ok(Some(record.to_new().in_stream(Ledger::stream(EffectId(intent))?)))
}

/// The effect that an event of a ledger is about, and what it says; `None` if it is no event of a
/// ledger.
#[must_use]
pub fn entry_of(event: &RecordedEvent) -> Option<(String, LedgerEvent)> {
    let stream = event.stream.as_ref().filter(|at| at.name.category() == LedgerEvent::NAMESPACE)?;
    let entry = Schema::of::<LedgerEvent>()
        .ok()?
        .decode::<LedgerEvent>(event, Unknown::Ignore)
        .ok()?
        .pop()?;
    Some((stream.name.id().to_owned(), entry))
}

/// State of an effect.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum EffectState {
    /// Nobody has begun.
    Pending,
    /// An attempt is under way.
    InFlight {
        /// Moment at which the runtime stops waiting for it.
        deadline: Timestamp,
    },
    /// The last attempt failed, another one follows.
    Waiting {
        /// Reason for the failure, for people.
        reason: String,
        /// Moment of the next attempt.
        again_at: Timestamp,
    },
    /// A record of it cannot be read by this release, so nothing is done before a person has seen
    /// to that.
    Parked {
        /// Record that cannot be read, and the remedy.
        reason: String,
    },
    /// It is not known if it took place. It is looked up, or a person says so.
    InDoubt {
        /// Reason for the doubt, for people.
        reason: String,
        /// Time since which it is in doubt.
        since: Timestamp,
    },
    /// It took place.
    Done {
        /// Outcome as JSON.
        outcome: Value,
        /// Author of the conclusion: the runtime, or a person.
        by: String,
    },
    /// It did not take place, and will not.
    NotDone {
        /// Reason, for people.
        reason: String,
        /// Author of the conclusion: the runtime, or a person.
        by: String,
    },
}

impl EffectState {
    /// Tells whether nothing more will happen.
    #[must_use]
    pub const fn is_concluded(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::NotDone { .. })
    }

    /// Tells whether it is concluded, in doubt or parked: nothing more is known soon.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        self.is_concluded() || matches!(self, Self::InDoubt { .. } | Self::Parked { .. })
    }
}

/// The fold of a ledger.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) stream: StreamName,
    pub(super) version: Version,
    /// The event that asks for the effect.
    pub(super) intent: Position,
    /// The last thing known of the effect: that it was asked for, if nothing else.
    pub(super) position: Position,
    /// The number of the last attempt.
    pub(super) attempts: u32,
    /// Every attempt, in order. Number 0 is one that the log does not know, of before a declared
    /// restore.
    pub(super) tries: Vec<Try>,
    /// True if a person wants no further attempt.
    pub(super) cancelled: bool,
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
        let mut ledger = Self::empty(stream.clone(), id);
        let mut events = store.read(Read::stream(stream, Version(1)));
        while let Some(recorded) = events.next().await? {
            schema.decode_each(&recorded, Unknown::Refuse, |event| {
                ledger.apply(event, recorded.recorded_at)
            })?;
            (ledger.version, ledger.position) = (recorded.version(), recorded.position);
        }
        Ok(ledger)
    }

    /// Returns the ledger of an effect whose records cannot be read.
    pub(super) fn unreadable(id: EffectId, error: &EventError) -> Result<Self, Invalid> {
        let state = EffectState::Parked { reason: needs_release(error) };
        Ok(Self { state, ..Self::empty(Self::stream(id)?, id) })
    }

    fn empty(stream: StreamName, id: EffectId) -> Self {
        Self {
            stream,
            version: Version::ABSENT,
            intent: id.0,
            position: id.0,
            attempts: 0,
            tries: Vec::new(),
            cancelled: false,
            state: EffectState::Pending,
            report_refused: None,
        }
    }

    fn apply(&mut self, event: LedgerEvent, at: Timestamp) {
        self.state = match event {
            LedgerEvent::AttemptOpened { number, deadline, .. } => {
                self.attempts = number;
                self.tries.push(Try { number, deadline, fate: Fate::UnderWay });
                EffectState::InFlight { deadline }
            }
            LedgerEvent::AttemptFailed { number, reason, again_at, in_doubt } => {
                let fate = match in_doubt {
                    Some(false) => Fate::NotDone { reason: reason.clone() },
                    Some(true) => Fate::InDoubt { reason: reason.clone() },
                    None => Fate::Unsaid { reason: reason.clone() },
                };
                self.settle(number, fate, at);
                EffectState::Waiting { reason, again_at }
            }
            LedgerEvent::Doubted { number, reason } => {
                self.settle(number, Fate::InDoubt { reason: reason.clone() }, at);
                EffectState::InDoubt { reason, since: at }
            }
            LedgerEvent::Cleared { number, reason } => {
                self.settle(number, Fate::NotDone { reason }, at);
                return;
            }
            LedgerEvent::Cancelled { reason, by } => {
                self.cancelled = true;
                EffectState::InDoubt {
                    reason: format!("{by} wants no further attempt: {reason}"),
                    since: at,
                }
            }
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

    fn settle(&mut self, number: u32, fate: Fate, at: Timestamp) {
        match self.tries.iter_mut().find(|tried| tried.number == number) {
            Some(tried) => tried.fate = fate,
            // One of before a restore. It has no deadline that anybody knows, but it began before
            // this.
            None => self.tries.insert(0, Try { number, deadline: at, fate }),
        }
    }

    /// The attempts that may have taken place, the first ones first.
    pub(super) fn doubts(&self, unsaid: Unsaid) -> impl Iterator<Item = &Try> {
        self.tries.iter().filter(move |tried| match tried.fate {
            Fate::InDoubt { .. } => true,
            Fate::Unsaid { .. } => unsaid == Unsaid::IsDoubt,
            Fate::UnderWay | Fate::NotDone { .. } => false,
        })
    }

    /// Names the attempts that may have taken place, but for one.
    pub(super) fn doubtful(&self, unsaid: Unsaid, but: u32) -> String {
        let mut numbers: Vec<String> = self
            .doubts(unsaid)
            .filter(|one| one.number != but)
            .map(|one| one.number.to_string())
            .collect();
        let more = if numbers.len() > 10 { " and others" } else { "" };
        numbers.truncate(10);
        format!("but attempts {}{more} may have", numbers.join(", "))
    }

    /// Returns the moment from which no attempt can take place: the last deadline.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        self.tries.iter().map(|tried| tried.deadline).max()
    }

    /// Tells whether the attempt of this number still waits for an outcome: no other one was
    /// opened, none was concluded.
    pub(super) fn waits_for(&self, attempt: u32) -> bool {
        self.attempts == attempt
            && matches!(self.state, EffectState::InFlight { .. } | EffectState::InDoubt { .. })
    }

    /// The event as the store takes it.
    pub(super) fn entry(&self, event: &LedgerEvent) -> Result<NewEvent, EventError> {
        Ok(Schema::of::<LedgerEvent>()?.encode(event)?.in_stream(self.stream.clone()))
    }
}

/// Describes the remedy for a record that cannot be read.
pub(super) fn needs_release(error: &EventError) -> String {
    format!(
        "a record of it cannot be read, start the release that wrote it, or a newer one: {error}"
    )
}

/// Meaning of an attempt of which an earlier release recorded only that it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unsaid {
    /// The policy lets attempts in doubt be repeated, so it may have been one.
    IsDoubt,
    /// Another attempt follows only one that certainly did not take place.
    IsNotDone,
}
