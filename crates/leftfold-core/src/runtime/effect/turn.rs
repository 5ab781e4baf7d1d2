//! One turn of one effect: look at its ledger, and do what is next.
//!
//! ```text
//! pending ──attempt──▶ in flight ──▶ done | not done
//!    ▲                   │    │
//!    │                   │    └─ unknown ──▶ in doubt ──look, or a person──▶ done | not done
//!    └── failed, again ◀─┘                     │
//!                ▲────── certainly not ────────┘
//! ```
//!
//! An attempt is opened under the lease of the runner, and belongs to that runner until its
//! deadline, also where the lease went to another one: what came of it is recorded by whoever knows
//! it, without the lease.

use std::sync::Arc;
use std::time::Duration;

use tracing::Instrument;

use super::attempt::{Attempt, Conclusion, Performed, span};
use super::intent::{Intent, Intents};
use super::ledger::{EffectState, Ledger, LedgerEvent, Unsaid, needs_release};
use super::policy::{Policy, Repetition};
use super::queue::{Rest, TurnKind};
use super::{Begin, Effect};
use crate::fold::{Aggregates, EventError, LoadError};
use crate::runtime::consumer::contained;
use crate::runtime::{Host, StartFault};
use crate::store::{Fence, Label, Position, Timestamp};

/// Recorded as the author when the runtime itself concludes an attempt.
pub(super) const RUNTIME: &str = "runtime";
/// Number of times that the ledger is read again because another process wrote it.
pub(super) const ROUNDS_MAX: u32 = 8;
// ANCHOR: limits
/// Time after its deadline for which an attempt is left to the process that opened it, if that is
/// another one: time to record an outcome that came at the last moment, and for the clocks of
/// processes that share a store to differ.
pub const ATTEMPT_GRACE: Duration = Duration::from_secs(2);
// ANCHOR_END: limits
/// The shortest wait between two looks at an effect in doubt.
const LOOK_WAIT_MIN: Duration = Duration::from_millis(10);

/// Takes turns for one kind of effect.
pub(crate) struct EffectTurns<E: Effect> {
    pub(super) host: Host,
    pub(super) effect: Arc<E>,
    pub(super) policy: Policy,
    pub(super) intents: Intents<E>,
    pub(super) targets: Aggregates<E::Target>,
}

/// Lease under which an attempt is opened; `None` if nobody else can work on it.
pub(crate) type Fenced = Option<(Label, Fence)>;

/// Right under which a runner takes a turn.
#[derive(Clone, Debug)]
pub(crate) enum TurnRight {
    /// No other runner works.
    Alone,
    /// It holds the lease of the kind.
    Holder((Label, Fence)),
    /// Another one may hold the lease: it does only what is here.
    Here,
}

impl TurnRight {
    /// Tells whether the runner judges what no runtime speaks for.
    pub(super) fn judges(&self) -> bool {
        matches!(self, Self::Alone | Self::Holder(_))
    }

    pub(super) fn fence(&self) -> Fenced {
        match self {
            Self::Holder(fence) => Some(fence.clone()),
            Self::Alone | Self::Here => None,
        }
    }
}

/// Time of the next turn.
pub(crate) enum NextTurn<E: Effect> {
    /// Never: it is concluded.
    Concluded,
    /// At a moment.
    Rests(Rest),
    /// At a moment, or as soon as it is here.
    Elsewhere {
        rest: Rest,
        /// The intent to ask about; `None` if it cannot be read.
        intent: Option<E::Intent>,
    },
    /// After a person has done something about this.
    Parked(String),
    /// The work went to another runner.
    Fenced,
    /// As soon as the store works again.
    Failed {
        detail: String,
        /// Result of an attempt, to be recorded then. Nobody else knows it.
        unrecorded: Option<Box<EndedAttempt<E>>>,
    },
}

/// An attempt that has ended, with its result.
pub(crate) struct EndedAttempt<E: Effect> {
    pub(super) attempt: Attempt<E::Intent>,
    pub(super) performed: Performed<E::Outcome>,
}

/// Reason why a turn ended early.
pub(super) enum TurnError {
    /// Someone else wrote the ledger, or keeps writing the target: look again.
    Overtaken,
    /// The work went to another runner.
    Fenced,
    /// A record cannot be read by this release.
    Unreadable(String),
    /// The store failed.
    Failed(String),
    /// The store does not accept the record.
    Unwritable(String),
}

impl From<LoadError> for TurnError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Event(error) => error.into(),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl From<EventError> for TurnError {
    fn from(error: EventError) -> Self {
        Self::Unreadable(needs_release(&error))
    }
}

impl<E: Effect> EffectTurns<E> {
    pub(crate) fn new(host: Host, effect: E) -> Result<Self, StartFault> {
        let effect = Arc::new(effect);
        let intents = Intents::new(&host.store, effect.clone())?;
        let (policy, targets) = (effect.policy(), host.store.aggregate());
        Ok(Self { host, effect, policy, intents, targets })
    }

    pub(super) fn begins(&self) -> Begin {
        self.effect.begins()
    }

    /// Takes the next step of an effect, and waits for nothing but the effect itself. A doubt is
    /// not looked up.
    pub(crate) async fn take(&self, intent: &Intent, right: TurnRight) -> NextTurn<E> {
        for _ in 0..ROUNDS_MAX {
            if let Some(next) = turned(self.step(intent, &right).await) {
                return next;
            }
        }
        overtaken()
    }

    /// Looks up an effect in doubt.
    pub(crate) async fn look(&self, intent: &Intent) -> NextTurn<E> {
        for _ in 0..ROUNDS_MAX {
            if let Some(next) = turned(self.step_in_doubt(intent).await) {
                return next;
            }
        }
        overtaken()
    }

    /// Does what is next by the state of the ledger.
    async fn step(&self, intent: &Intent, right: &TurnRight) -> Result<NextTurn<E>, TurnError> {
        let ledger = Ledger::load(&self.host.store, intent.id).await?;
        let now = self.now();
        match &ledger.state {
            EffectState::Done { .. } | EffectState::NotDone { .. } => Ok(NextTurn::Concluded),
            EffectState::Pending | EffectState::Waiting { .. }
                if self.is_of_an_earlier_life(ledger.position) =>
            {
                let reason =
                    "the store was restored from a copy after this was asked for".to_owned();
                self.unknown(&ledger, ledger.attempts, reason).await
            }
            EffectState::Waiting { again_at, .. } if now < *again_at => {
                Ok(self.again_at(*again_at))
            }
            EffectState::Pending | EffectState::Waiting { .. } => {
                if let Some(next) = self.if_elsewhere(intent, &ledger, right).await? {
                    return Ok(next);
                }
                // One that is here is opened without the lease, which another one may hold.
                let fence = if self.is_local() { None } else { right.fence() };
                self.perform(intent, &ledger, fence)
                    .instrument(span::<E>(
                        &intent.event,
                        ledger.attempts.saturating_add(1),
                        "perform",
                    ))
                    .await
            }
            // A turn that opens an attempt ends with its outcome: this one is another runner's,
            // which may be gone.
            EffectState::InFlight { deadline } => {
                if let Some(next) = self.while_in_flight(intent, *deadline, right) {
                    return Ok(next);
                }
                let reason =
                    "whoever opened the attempt recorded no outcome before its deadline".to_owned();
                self.unknown(&ledger, ledger.attempts, reason).await
            }
            EffectState::Parked { reason } => Ok(NextTurn::Parked(reason.clone())),
            EffectState::InDoubt { since, .. } => {
                Ok(self.in_doubt(&ledger, ledger.deadline().unwrap_or(*since)))
            }
        }
    }

    async fn step_in_doubt(&self, intent: &Intent) -> Result<NextTurn<E>, TurnError> {
        let ledger = Ledger::load(&self.host.store, intent.id).await?;
        let EffectState::InDoubt { since, .. } = ledger.state else {
            return Ok(self.again_at(self.now()));
        };
        let deadline = ledger.deadline().unwrap_or(since);
        if self.now() < deadline {
            return Ok(self.in_doubt(&ledger, deadline));
        }
        match self.if_doubted_elsewhere(intent, &ledger, since) {
            Some(next) => Ok(next),
            None => self.look_up(intent, &ledger, since).await,
        }
    }

    /// It keeps its place, and has a turn at this moment.
    pub(super) fn again_at(&self, until: Timestamp) -> NextTurn<E> {
        NextTurn::Rests(Rest::in_place(until))
    }

    /// Lets an effect in doubt rest until a moment. It keeps its place if it may be tried again, or
    /// if the policy says so. One open at a restore is not in order with later ones.
    pub(super) fn in_doubt(&self, ledger: &Ledger, until: Timestamp) -> NextTurn<E> {
        NextTurn::Rests(self.doubt_rest(ledger, until))
    }

    pub(super) fn doubt_rest(&self, ledger: &Ledger, until: Timestamp) -> Rest {
        let may_go_on =
            self.has_attempts_left(ledger) && !self.is_of_an_earlier_life(ledger.intent);
        let keeps_place = self.policy.doubts_hold || may_go_on;
        Rest { until, kind: TurnKind::Look, keeps_place }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.host.clock.now()
    }

    /// Tells whether the store was restored from a copy since that was recorded: it is unknown what
    /// was done since that copy.
    pub(super) fn is_of_an_earlier_life(&self, position: Position) -> bool {
        let epoch = self.host.store.identity().epoch;
        epoch.number > 1 && position <= epoch.began_after
    }

    /// Opens the next attempt, and touches the outside world.
    async fn perform(
        &self,
        intent: &Intent,
        ledger: &Ledger,
        fence: Fenced,
    ) -> Result<NextTurn<E>, TurnError> {
        let number = ledger.attempts.saturating_add(1);
        let deadline = self.now().plus(self.policy.deadline);
        let attempt = match self.intents.attempt(intent, ledger, number, deadline) {
            Ok(attempt) => attempt,
            Err(error) if let Some(doubted) = ledger.doubts(self.unsaid()).last() => {
                return self
                    .doubt(ledger, doubted.number, format!("it cannot be tried again: {error}"))
                    .await;
            }
            // A release that knows the shape can carry it out.
            Err(error) if !matches!(error, EventError::Decode { .. }) => return Err(error.into()),
            // It is of a known shape, and nothing was tried: the effect ends, and the reason can be
            // read.
            Err(error) => {
                tracing::error!(effect = E::NAME, id = %intent.id, %error, "an intent cannot be read and is not carried out");
                let reason = error.to_string();
                return self
                    .conclude(Err(error), ledger, Conclusion::NotDone { reason }, RUNTIME)
                    .await;
            }
        };
        let opened = LedgerEvent::AttemptOpened { effect: E::NAME.to_owned(), number, deadline };
        self.write_under(ledger, &[opened], fence).await?;
        let performed = if self.now() < deadline {
            self.call(&attempt, EffectCall::Perform, deadline).await
        } else {
            // Others may hold it for lost by now.
            Performed::NotDone {
                reason: "its deadline had passed before the attempt could begin".to_owned(),
            }
        };
        Ok(self.record(Box::new(EndedAttempt { attempt, performed })).await)
    }

    /// Looks up the attempts in doubt, one after the other until the result of one is known.
    async fn look_up(
        &self,
        intent: &Intent,
        ledger: &Ledger,
        since: Timestamp,
    ) -> Result<NextTurn<E>, TurnError> {
        for tried in ledger.doubts(self.unsaid()) {
            let attempt = match self.intents.attempt(intent, ledger, tried.number, tried.deadline) {
                Ok(attempt) => attempt,
                // It cannot be looked up; a person can still say what happened.
                Err(error) => {
                    tracing::error!(effect = E::NAME, id = %intent.id, %error, "an effect in doubt cannot be looked up");
                    break;
                }
            };
            let span = span::<E>(&intent.event, tried.number, "resolve");
            match self
                .call(&attempt, EffectCall::Resolve, self.now().plus(self.policy.deadline))
                .instrument(span)
                .await
            {
                Performed::InDoubt { .. } if !self.repeats(ledger) => {}
                performed => {
                    return Ok(self.record(Box::new(EndedAttempt { attempt, performed })).await);
                }
            }
        }
        Ok(self.in_doubt(ledger, self.now().plus(self.look_wait(since))))
    }

    /// The longer it has been in doubt, the longer until the next look.
    pub(super) fn look_wait(&self, since: Timestamp) -> Duration {
        let doubted = self.now().since(since);
        doubted.max(self.policy.backoff.first).min(self.policy.backoff.longest).max(LOOK_WAIT_MIN)
    }

    /// Tells whether an attempt of unknown result is followed by another one.
    pub(super) fn repeats(&self, ledger: &Ledger) -> bool {
        self.policy.repetition == Repetition::Repeatable && self.has_attempts_left(ledger)
    }

    pub(super) fn has_attempts_left(&self, ledger: &Ledger) -> bool {
        ledger.attempts < self.policy.attempts_max && !ledger.cancelled
    }

    /// Returns the meaning of a record of an earlier release that says only that an attempt failed.
    pub(super) fn unsaid(&self) -> Unsaid {
        match self.policy.repetition {
            Repetition::Once => Unsaid::IsNotDone,
            Repetition::Repeatable => Unsaid::IsDoubt,
        }
    }

    /// Calls the user's code, contained: within the time, and a panic is a doubt.
    async fn call(
        &self,
        attempt: &Attempt<E::Intent>,
        call: EffectCall,
        until: Timestamp,
    ) -> Performed<E::Outcome> {
        let (effect, attempt, clock) =
            (self.effect.clone(), attempt.clone(), self.host.clock.clone());
        let in_doubt = |reason: &str| Performed::InDoubt { reason: reason.to_owned() }.said();
        let called = contained(async move {
            let answered = async {
                match call {
                    EffectCall::Perform => effect.perform(&attempt).await,
                    EffectCall::Resolve => effect.resolve(&attempt).await,
                }
            };
            tokio::select! {
                biased;
                performed = answered => Some(performed),
                () = clock.sleep_until(until) => None,
            }
        });
        match called.await {
            Ok(Some(performed)) => performed.said(),
            Ok(None) => in_doubt("no answer before the deadline"),
            Err(panic) => {
                in_doubt(&format!("the code that carries out the effect panicked: {panic}"))
            }
        }
    }
}

/// Returns the result of a turn; `None` if it has to begin again.
pub(super) fn turned<E: Effect>(step: Result<NextTurn<E>, TurnError>) -> Option<NextTurn<E>> {
    Some(match step {
        Ok(next) => next,
        Err(TurnError::Overtaken) => return None,
        Err(TurnError::Fenced) => NextTurn::Fenced,
        Err(TurnError::Unreadable(detail)) => NextTurn::Parked(detail),
        Err(TurnError::Failed(detail) | TurnError::Unwritable(detail)) => {
            NextTurn::Failed { detail, unrecorded: None }
        }
    })
}

/// Result of a turn that began again too often.
pub(super) fn overtaken<E: Effect>() -> NextTurn<E> {
    NextTurn::Failed {
        detail: "others keep writing the effect's ledger or its target".to_owned(),
        unrecorded: None,
    }
}

#[derive(Clone, Copy)]
enum EffectCall {
    Perform,
    Resolve,
}
