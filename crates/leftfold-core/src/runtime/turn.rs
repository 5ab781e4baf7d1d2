//! One turn of one effect: look at its ledger, do what is next, record what came of it.
//!
//! ```text
//! pending ──attempt──▶ in flight ──▶ done | not done
//!    ▲                   │    │
//!    │                   │    └─ unknown ──▶ in doubt ──look, or a person──▶ done | not done
//!    └── failed, again ◀─┘                     │
//!                ▲────── certainly not ────────┘
//! ```

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::board::Board;
use super::effect::{Attempt, Conclusion, Effect, EffectId, Performed, Policy, Repetition};
use super::ledger::{EffectState, Ledger, LedgerEvent};
use super::{Asked, ResolveError, StartError, Verdict};
use crate::fold::{Aggregate, Aggregates, Alongside, Cause, EventError, ExecuteError, Schema};
use crate::store::{Append, Condition, EventType, Expected, NewEvent, Outcome, RecordedEvent, Store, Timestamp};

/// What the runtime writes as the one who says so.
const RUNTIME: &str = "runtime";
/// How often the ledger is read anew because someone else wrote it.
const ROUNDS_MAX: u32 = 8;

/// Takes turns for one kind of effect.
pub(super) struct Turn<E: Effect> {
    store: Store,
    effect: Arc<E>,
    policy: Policy,
    schema: Arc<Schema>,
    intent_type: EventType,
    targets: Aggregates<E::Target>,
}

/// An intent that was found.
pub(super) struct Intent {
    pub(super) id: EffectId,
    pub(super) event: RecordedEvent,
}

/// When the next turn is.
#[derive(Debug)]
pub(super) enum Next {
    /// Never: it is concluded.
    Concluded,
    /// At a moment.
    At(Timestamp),
    /// As soon as the store works again.
    StoreFailed(String),
}

/// Why a turn ended early.
enum Stopped {
    /// Someone else wrote the ledger: look again.
    Overtaken,
    Failed(String),
}

impl<T: std::error::Error> From<T> for Stopped {
    fn from(error: T) -> Self {
        Self::Failed(error.to_string())
    }
}

impl<E: Effect> Turn<E> {
    pub(super) fn new(store: Store, effect: E) -> Result<Self, StartError> {
        let schema = Schema::of::<<E::Target as Aggregate>::Event>()?;
        let intent_type = EventType::new(E::INTENT)?;
        if !schema.wanted().contains(&intent_type) {
            return Err(StartError::UnknownIntent { effect: E::NAME, intent: E::INTENT });
        }
        let (policy, targets) = (effect.policy(), store.aggregate());
        Ok(Self { store, effect: Arc::new(effect), policy, schema, intent_type, targets })
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(super) fn intent_type(&self) -> EventType {
        self.intent_type.clone()
    }

    /// Does what is next, as far as it goes without waiting for anything but the effect itself.
    pub(super) async fn take(&self, intent: &Intent, board: &Board) -> Next {
        for _ in 0..ROUNDS_MAX {
            match self.step(intent, board).await {
                Ok(next) => return next,
                Err(Stopped::Overtaken) => {}
                Err(Stopped::Failed(detail)) => return Next::StoreFailed(detail),
            }
        }
        Next::StoreFailed("others keep writing the effect's ledger".to_owned())
    }

    async fn step(&self, intent: &Intent, board: &Board) -> Result<Next, Stopped> {
        let ledger = Ledger::load(&self.store, intent.id).await?;
        board.shows(intent.id, &ledger.state);
        let now = Timestamp::now();
        let attempt = |number, deadline| self.attempt(intent, number, deadline);
        match &ledger.state {
            EffectState::Done { .. } | EffectState::NotDone { .. } => Ok(Next::Concluded),
            EffectState::Pending if self.is_of_an_earlier_life(intent) => {
                let reason = "the store was restored from a copy after this was asked for".to_owned();
                self.doubt(&ledger, 0, reason).await
            }
            EffectState::Pending => self.perform(intent, &ledger, board).await,
            EffectState::Waiting { again_at, .. } if now < *again_at => Ok(Next::At(*again_at)),
            EffectState::Waiting { .. } => self.perform(intent, &ledger, board).await,
            // A turn that runs an attempt ends with its outcome: this one was left open by a runner that is gone.
            EffectState::InFlight { .. } => {
                let reason = "the process ended before the outcome was recorded".to_owned();
                self.doubt(&ledger, ledger.attempts, reason).await
            }
            EffectState::InDoubt { since, .. } => {
                let deadline = ledger.deadline.unwrap_or(*since);
                if now < deadline {
                    return Ok(Next::At(deadline));
                }
                let attempt = attempt(ledger.attempts, deadline)?;
                self.look(&attempt, &ledger, *since).await
            }
        }
    }

    /// Whether the intent was recorded before the store was last restored: what was done since that copy is unknown.
    fn is_of_an_earlier_life(&self, intent: &Intent) -> bool {
        let epoch = self.store.identity().epoch;
        epoch.number > 1 && intent.id.0 <= epoch.began_after
    }

    /// Opens the next attempt, and touches the outside world.
    async fn perform(&self, intent: &Intent, ledger: &Ledger, board: &Board) -> Result<Next, Stopped> {
        let number = ledger.attempts + 1;
        let deadline = Timestamp::now().plus(self.policy.deadline);
        let attempt = match self.attempt(intent, number, deadline) {
            Ok(attempt) => attempt,
            // Nothing was tried: the effect ends, and the reason can be read.
            Err(error) => return self.conclude_unread(intent, ledger, error).await,
        };
        let opened = LedgerEvent::AttemptOpened { effect: E::NAME.to_owned(), number, deadline };
        self.write(ledger, &opened).await?;
        board.shows(intent.id, &EffectState::InFlight { deadline });
        let performed = self.call(&attempt, Call::Perform, self.policy.deadline).await;
        let ledger = Ledger::load(&self.store, intent.id).await?;
        self.record(&attempt, &ledger, performed).await
    }

    /// Looks what became of an attempt in doubt.
    async fn look(&self, attempt: &Attempt<E::Intent>, ledger: &Ledger, since: Timestamp) -> Result<Next, Stopped> {
        match self.call(attempt, Call::Resolve, self.policy.deadline).await {
            Performed::InDoubt { .. } => {
                // The longer it has been in doubt, the longer until the next look.
                let doubted = Timestamp::now().since(since);
                let wait = doubted.clamp(self.policy.backoff.first, self.policy.backoff.longest);
                Ok(Next::At(Timestamp::now().plus(wait)))
            }
            found => self.record(attempt, ledger, found).await,
        }
    }

    /// Calls the user's code in a task of its own: within the time, and a panic is a doubt.
    async fn call(&self, attempt: &Attempt<E::Intent>, call: Call, within: Duration) -> Performed<E::Outcome> {
        let (effect, attempt) = (self.effect.clone(), attempt.clone());
        let task = tokio::spawn(async move {
            let answered = async {
                match call {
                    Call::Perform => effect.perform(&attempt).await,
                    Call::Resolve => effect.resolve(&attempt).await,
                }
            };
            tokio::time::timeout(within, answered).await
        });
        let in_doubt = |reason: &str| Performed::InDoubt { reason: reason.to_owned() };
        match task.await {
            Ok(Ok(performed)) => performed,
            Ok(Err(_)) => in_doubt("no answer before the deadline"),
            Err(_) => in_doubt("the code that carries out the effect panicked"),
        }
    }

    /// Records what came of an attempt.
    async fn record(
        &self,
        attempt: &Attempt<E::Intent>,
        ledger: &Ledger,
        performed: Performed<E::Outcome>,
    ) -> Result<Next, Stopped> {
        let may_repeat = ledger.attempts < self.policy.attempts_max;
        match performed {
            Performed::Done(outcome) => self.conclude(attempt, ledger, &Conclusion::Done(outcome), RUNTIME).await,
            Performed::NotDone { reason } if may_repeat => self.again(ledger, reason).await,
            Performed::NotDone { reason } => self.conclude(attempt, ledger, &Conclusion::NotDone { reason }, RUNTIME).await,
            Performed::InDoubt { reason } if may_repeat && self.policy.repetition == Repetition::Repeatable => {
                self.again(ledger, reason).await
            }
            Performed::InDoubt { reason } => self.doubt(ledger, attempt.number, reason).await,
        }
    }

    async fn again(&self, ledger: &Ledger, reason: String) -> Result<Next, Stopped> {
        let again_at = Timestamp::now().plus(self.policy.backoff.after(ledger.attempts));
        self.write(ledger, &LedgerEvent::AttemptFailed { number: ledger.attempts, reason, again_at }).await?;
        Ok(Next::At(again_at))
    }

    async fn doubt(&self, ledger: &Ledger, number: u32, reason: String) -> Result<Next, Stopped> {
        self.write(ledger, &LedgerEvent::Doubted { number, reason }).await?;
        Ok(Next::At(ledger.deadline.unwrap_or_else(Timestamp::now)))
    }

    async fn write(&self, ledger: &Ledger, event: &LedgerEvent) -> Result<(), Stopped> {
        let condition = Condition::stream(ledger.stream.clone(), Expected::Exact(ledger.version));
        let append = Append::of(vec![ledger.entry(event)?]).when(condition);
        match self.store.append(append).await? {
            Outcome::Appended(_) => Ok(()),
            Outcome::Conflict(_) | Outcome::Repeated(_) => Err(Stopped::Overtaken),
        }
    }

    /// Records the outcome together with what the target makes of it; where that refuses, the outcome with the refusal.
    async fn conclude(
        &self,
        attempt: &Attempt<E::Intent>,
        ledger: &Ledger,
        conclusion: &Conclusion<E::Outcome>,
        by: &str,
    ) -> Result<Next, Stopped> {
        let entry = |report_refused| -> Result<NewEvent, Stopped> {
            let by = by.to_owned();
            let event = match conclusion {
                Conclusion::Done(outcome) => LedgerEvent::Done { outcome: serde_json::to_value(outcome)?, by, report_refused },
                Conclusion::NotDone { reason } => LedgerEvent::NotDone { reason: reason.clone(), by, report_refused },
            };
            Ok(ledger.entry(&event)?)
        };
        let expected = (ledger.stream.clone(), Expected::Exact(ledger.version));
        let refused = match self.effect.report(attempt, conclusion) {
            None => None,
            Some((id, command)) => {
                let alongside = Alongside { events: vec![entry(None)?], expected: vec![expected.clone()], checkpoint: None };
                let command = self.targets.command(&id, command).caused_by(Cause::from(&attempt.event));
                match command.alongside(alongside).execute().await {
                    Ok(_) => return Ok(Next::Concluded),
                    // Either the target is hotly contended, or the ledger is no longer what it was.
                    Err(ExecuteError::Contended { .. }) => return Err(Stopped::Overtaken),
                    Err(ExecuteError::Refused(refusal)) => Some(refusal.to_string()),
                    Err(error) if error.is_of_the_store() => return Err(Stopped::Failed(error.to_string())),
                    Err(error) => Some(error.to_string()),
                }
            }
        };
        let condition = Condition { streams: vec![expected], none_matching: None };
        match self.store.append(Append::of(vec![entry(refused)?]).when(condition)).await? {
            Outcome::Appended(_) => Ok(Next::Concluded),
            Outcome::Conflict(_) | Outcome::Repeated(_) => Err(Stopped::Overtaken),
        }
    }

    /// Ends an effect whose intent does not parse: nothing was tried, and nobody can be told.
    async fn conclude_unread(&self, intent: &Intent, ledger: &Ledger, error: EventError) -> Result<Next, Stopped> {
        tracing::error!(effect = E::NAME, id = %intent.id, %error, "an intent cannot be read and is not carried out");
        let (reason, by) = (error.to_string(), RUNTIME.to_owned());
        self.write(ledger, &LedgerEvent::NotDone { reason, by, report_refused: None }).await?;
        Ok(Next::Concluded)
    }

    /// Records what a person says of an effect in doubt.
    pub(super) async fn verdict(&self, intent: &Intent, asked: Asked) -> Next {
        let Asked { verdict, by, answer, .. } = asked;
        let judged = self.judge(intent, verdict, &by).await;
        let (answered, next) = match judged {
            Ok(next) => (Ok(()), next),
            Err(error) => (Err(error), Next::At(Timestamp::now())),
        };
        // Whoever asked may be gone; the verdict stands.
        let _ = answer.send(answered);
        next
    }

    async fn judge(&self, intent: &Intent, verdict: Verdict, by: &str) -> Result<Next, ResolveError> {
        let id = intent.id;
        let store = |detail: String| ResolveError::Store { detail };
        let ledger = Ledger::load(&self.store, id).await.map_err(|error| store(error.to_string()))?;
        if !matches!(ledger.state, EffectState::InDoubt { .. }) {
            return Err(ResolveError::NotInDoubt { id });
        }
        let conclusion = match verdict {
            Verdict::NotDone { reason } => Conclusion::NotDone { reason },
            Verdict::Done(outcome) => Conclusion::Done(parse::<E>(outcome)?),
        };
        let deadline = ledger.deadline.unwrap_or_else(Timestamp::now);
        let attempt = self.attempt(intent, ledger.attempts, deadline).map_err(|error| store(error.to_string()))?;
        self.conclude(&attempt, &ledger, &conclusion, by).await.map_err(|stopped| match stopped {
            Stopped::Overtaken => ResolveError::Busy { id },
            Stopped::Failed(detail) => store(detail),
        })
    }

    fn attempt(&self, intent: &Intent, number: u32, deadline: Timestamp) -> Result<Attempt<E::Intent>, EventError> {
        let event = intent.event.clone();
        let intent_data = self.schema.payload(&event, &self.intent_type)?;
        Ok(Attempt { effect: intent.id, number, intent: intent_data, event, deadline })
    }
}

#[derive(Clone, Copy)]
enum Call {
    Perform,
    Resolve,
}

fn parse<E: Effect>(outcome: Value) -> Result<E::Outcome, ResolveError> {
    serde_json::from_value(outcome).map_err(|error| ResolveError::Outcome { effect: E::NAME, detail: error.to_string() })
}
