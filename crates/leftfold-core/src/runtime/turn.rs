//! One turn of one effect: look at its ledger, do what is next, record what came of it.
//!
//! ```text
//! pending ──attempt──▶ in flight ──▶ done | not done
//!    ▲                   │    │
//!    │                   │    └─ unknown ──▶ in doubt ──look, or a person──▶ done | not done
//!    └── failed, again ◀─┘                     │
//!                ▲────── certainly not ────────┘
//! ```
//!
//! Several runners may share a store. An attempt belongs to whoever opened it until its deadline, which is its lease;
//! every line of the ledger is appended on condition that no other was, so of two runners one goes on.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::effect::{Attempt, Conclusion, Effect, EffectId, Performed, Policy, Repetition};
use super::json::Json;
use super::ledger::{EffectState, Ledger, LedgerEvent};
use super::{Asked, Host, ResolveError, StartError, Verdict, shortened};
use crate::fold::{Aggregate, Aggregates, Alongside, AlongsideError, Cause, EventError, ExecuteError, Schema};
use crate::json;
use crate::store::{Append, AppendError, Authority, Condition, EventType, Expected, Outcome, RecordedEvent, Timestamp};

/// What the runtime writes as the one who says so.
const RUNTIME: &str = "runtime";
/// How often the ledger is read anew because someone else wrote it.
const ROUNDS_MAX: u32 = 8;
// ANCHOR: limits
/// How long after its deadline an attempt is left to whoever opened it: time to record an outcome that came at the
/// last moment, and for the clocks of processes that share a store to differ.
pub const LEASE: Duration = Duration::from_secs(2);
// ANCHOR_END: limits
/// The shortest wait between two looks at what is in doubt.
const LOOK_WAIT_MIN: Duration = Duration::from_millis(10);

/// Takes turns for one kind of effect.
pub(crate) struct Turn<E: Effect> {
    host: Host,
    effect: Arc<E>,
    policy: Policy,
    schema: Arc<Schema>,
    intent_type: EventType,
    targets: Aggregates<E::Target>,
}

/// An intent that was found.
pub(crate) struct Intent {
    pub(crate) id: EffectId,
    pub(crate) event: RecordedEvent,
}

/// When the next turn is.
pub(crate) enum Next<E: Effect> {
    /// Never: it is concluded.
    Concluded,
    /// At a moment.
    At(Timestamp),
    /// As soon as the store works again.
    Failed {
        detail: String,
        /// What came of an attempt, to be recorded then. Nobody else knows it.
        unrecorded: Option<Box<Ended<E>>>,
    },
}

/// An attempt, and what is known of it.
pub(crate) struct Ended<E: Effect> {
    attempt: Attempt<E::Intent>,
    performed: Performed<E::Outcome>,
}

/// Why a turn ended early.
enum Stopped {
    /// Someone else wrote the ledger, or keeps writing the target: look again.
    Overtaken,
    /// The store failed.
    Failed(String),
    /// What is to be recorded is nothing that the store takes.
    Unwritable(String),
}

impl<T: std::error::Error> From<T> for Stopped {
    fn from(error: T) -> Self {
        Self::Failed(error.to_string())
    }
}

/// What came of telling the target.
enum Told {
    /// It was recorded together with the outcome.
    Recorded,
    /// Nobody is to be told.
    Nobody,
    /// It could not be told, or refused.
    Refused(String),
}

impl<E: Effect> Turn<E> {
    pub(crate) fn new(host: Host, effect: E) -> Result<Self, StartError> {
        let schema = Schema::of::<<E::Target as Aggregate>::Event>()?;
        let intent_type = EventType::new(E::INTENT)?;
        if !schema.wanted().contains(&intent_type) {
            return Err(StartError::UnknownIntent { effect: E::NAME, intent: E::INTENT });
        }
        let (policy, targets) = (effect.policy(), host.store.aggregate());
        Ok(Self { host, effect: Arc::new(effect), policy, schema, intent_type, targets })
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(crate) fn intent_type(&self) -> EventType {
        self.intent_type.clone()
    }

    /// Does what is next, as far as it goes without waiting for anything but the effect itself.
    pub(crate) async fn take(&self, intent: &Intent) -> Next<E> {
        for _ in 0..ROUNDS_MAX {
            match self.step(intent).await {
                Ok(next) => return next,
                Err(Stopped::Overtaken) => {}
                Err(Stopped::Failed(detail) | Stopped::Unwritable(detail)) => return Next::Failed { detail, unrecorded: None },
            }
        }
        Next::Failed { detail: "others keep writing the effect's ledger".to_owned(), unrecorded: None }
    }

    async fn step(&self, intent: &Intent) -> Result<Next<E>, Stopped> {
        let ledger = Ledger::load(&self.host.store, intent.id).await?;
        let now = self.now();
        match &ledger.state {
            EffectState::Done { .. } | EffectState::NotDone { .. } => Ok(Next::Concluded),
            EffectState::Pending | EffectState::Waiting { .. } if self.is_of_an_earlier_life(&ledger) => {
                let reason = "the store was restored from a copy after this was asked for".to_owned();
                self.unknown(&ledger, reason).await
            }
            EffectState::Waiting { again_at, .. } if now < *again_at => Ok(Next::At(*again_at)),
            EffectState::Pending | EffectState::Waiting { .. } => self.perform(intent, &ledger).await,
            // A turn that opens an attempt ends with its outcome: this one is another runner's, which may be gone.
            EffectState::InFlight { deadline } => {
                let given_up_at = deadline.plus(LEASE);
                if now < given_up_at {
                    return Ok(Next::At(given_up_at));
                }
                let reason = "whoever opened the attempt recorded no outcome before its deadline".to_owned();
                self.unknown(&ledger, reason).await
            }
            EffectState::InDoubt { since, .. } => {
                let deadline = ledger.deadline.unwrap_or(*since);
                if now < deadline {
                    return Ok(Next::At(deadline));
                }
                match self.attempt(intent, ledger.attempts, deadline) {
                    Ok(attempt) => self.look(attempt, &ledger, *since).await,
                    // It cannot be looked up; a person can still say what happened.
                    Err(error) => {
                        tracing::error!(effect = E::NAME, id = %intent.id, %error, "an effect in doubt cannot be looked up");
                        Ok(Next::At(now.plus(self.look_wait(*since))))
                    }
                }
            }
        }
    }

    fn now(&self) -> Timestamp {
        self.host.clock.now()
    }

    /// Whether the store was restored from a copy since the ledger was last written: what was done since that copy is
    /// unknown.
    fn is_of_an_earlier_life(&self, ledger: &Ledger) -> bool {
        let epoch = self.host.store.identity().epoch;
        epoch.number > 1 && ledger.position <= epoch.began_after
    }

    /// Opens the next attempt, and touches the outside world.
    async fn perform(&self, intent: &Intent, ledger: &Ledger) -> Result<Next<E>, Stopped> {
        let number = ledger.attempts + 1;
        let deadline = self.now().plus(self.policy.deadline);
        let attempt = match self.attempt(intent, number, deadline) {
            Ok(attempt) => attempt,
            // Nothing was tried: the effect ends, and the reason can be read.
            Err(error) => {
                tracing::error!(effect = E::NAME, id = %intent.id, %error, "an intent cannot be read and is not carried out");
                let reason = error.to_string();
                return self.conclude(Err(error), ledger, Conclusion::NotDone { reason }, RUNTIME).await;
            }
        };
        self.write(ledger, LedgerEvent::AttemptOpened { effect: E::NAME.to_owned(), number, deadline }).await?;
        let performed = if self.now() < deadline {
            self.call(&attempt, Call::Perform, deadline).await
        } else {
            // Others may hold it for lost by now.
            Performed::NotDone { reason: "its deadline had passed before the attempt could begin".to_owned() }
        };
        Ok(self.record(Box::new(Ended { attempt, performed })).await)
    }

    /// Looks what became of an attempt in doubt.
    async fn look(&self, attempt: Attempt<E::Intent>, ledger: &Ledger, since: Timestamp) -> Result<Next<E>, Stopped> {
        let until = self.now().plus(self.policy.deadline);
        match self.call(&attempt, Call::Resolve, until).await {
            Performed::InDoubt { .. } if !self.repeats(ledger) => Ok(Next::At(self.now().plus(self.look_wait(since)))),
            performed => Ok(self.record(Box::new(Ended { attempt, performed })).await),
        }
    }

    /// The longer it has been in doubt, the longer until the next look.
    fn look_wait(&self, since: Timestamp) -> Duration {
        let doubted = self.now().since(since);
        doubted.max(self.policy.backoff.first).min(self.policy.backoff.longest).max(LOOK_WAIT_MIN)
    }

    /// Whether an attempt of which nothing is known is followed by another one.
    fn repeats(&self, ledger: &Ledger) -> bool {
        self.policy.repetition == Repetition::Repeatable && self.may_repeat(ledger)
    }

    fn may_repeat(&self, ledger: &Ledger) -> bool {
        ledger.attempts < self.policy.attempts_max
    }

    /// Calls the user's code, contained: within the time, and a panic is a doubt.
    async fn call(&self, attempt: &Attempt<E::Intent>, call: Call, until: Timestamp) -> Performed<E::Outcome> {
        let (effect, attempt, clock) = (self.effect.clone(), attempt.clone(), self.host.clock.clone());
        let in_doubt = |reason: &str| Performed::InDoubt { reason: reason.to_owned() };
        let called = super::contained(async move {
            let answered = async {
                match call {
                    Call::Perform => effect.perform(&attempt).await,
                    Call::Resolve => effect.resolve(&attempt).await,
                }
            };
            tokio::select! {
                biased;
                performed = answered => Some(performed),
                () = clock.sleep_until(until) => None,
            }
        });
        match called.await {
            Ok(Some(performed)) => performed,
            Ok(None) => in_doubt("no answer before the deadline"),
            Err(panic) => in_doubt(&format!("the code that carries out the effect panicked: {panic}")),
        }
    }

    /// Records what came of an attempt. It is known to this process alone, so it is not let go before it is recorded.
    pub(crate) async fn record(&self, ended: Box<Ended<E>>) -> Next<E> {
        for _ in 0..ROUNDS_MAX {
            match self.try_record(&ended).await {
                Ok(next) => return next,
                Err(Stopped::Overtaken) => {}
                Err(Stopped::Failed(detail) | Stopped::Unwritable(detail)) => {
                    return Next::Failed { detail, unrecorded: Some(ended) };
                }
            }
        }
        let detail = "others keep writing the effect's ledger or its target".to_owned();
        Next::Failed { detail, unrecorded: Some(ended) }
    }

    async fn try_record(&self, Ended { attempt, performed }: &Ended<E>) -> Result<Next<E>, Stopped> {
        let ledger = Ledger::load(&self.host.store, attempt.effect).await?;
        if ledger.state.is_concluded() {
            if let Performed::Done(_) = performed {
                tracing::warn!(effect = E::NAME, id = %attempt.effect, "an outcome came after the effect was concluded");
            }
            return Ok(Next::Concluded);
        }
        match performed.clone() {
            // It took place: that counts, even where another attempt has been opened since.
            Performed::Done(outcome) => {
                let concluded = self.conclude(Ok(attempt), &ledger, Conclusion::Done(outcome), RUNTIME).await;
                match concluded {
                    Err(Stopped::Unwritable(detail)) => {
                        let reason = format!("it took place, but its outcome cannot be recorded: {detail}");
                        self.doubt(&ledger, reason).await
                    }
                    concluded => concluded,
                }
            }
            _ if !ledger.waits_for(attempt.number) => Ok(Next::At(self.now())),
            Performed::NotDone { reason } if self.may_repeat(&ledger) => self.again(&ledger, reason).await,
            Performed::NotDone { reason } => self.conclude(Ok(attempt), &ledger, Conclusion::NotDone { reason }, RUNTIME).await,
            Performed::InDoubt { reason } => self.unknown(&ledger, reason).await,
        }
    }

    /// Whether the last attempt took place is not known.
    async fn unknown(&self, ledger: &Ledger, reason: String) -> Result<Next<E>, Stopped> {
        if self.repeats(ledger) { self.again(ledger, reason).await } else { self.doubt(ledger, reason).await }
    }

    async fn again(&self, ledger: &Ledger, reason: String) -> Result<Next<E>, Stopped> {
        let again_at = self.now().plus(self.policy.backoff.after(ledger.attempts));
        let reason = shortened(reason);
        self.write(ledger, LedgerEvent::AttemptFailed { number: ledger.attempts, reason, again_at }).await?;
        Ok(Next::At(again_at))
    }

    async fn doubt(&self, ledger: &Ledger, reason: String) -> Result<Next<E>, Stopped> {
        if let EffectState::InDoubt { since, .. } = ledger.state {
            return Ok(Next::At(self.now().plus(self.look_wait(since))));
        }
        self.write(ledger, LedgerEvent::Doubted { number: ledger.attempts, reason: shortened(reason) }).await?;
        Ok(Next::At(ledger.deadline.unwrap_or_else(|| self.now())))
    }

    /// Records the outcome together with what the target makes of it; where that refuses, the outcome with the refusal.
    async fn conclude(
        &self,
        attempt: Result<&Attempt<E::Intent>, EventError>,
        ledger: &Ledger,
        conclusion: Conclusion<E::Outcome>,
        by: &str,
    ) -> Result<Next<E>, Stopped> {
        let concluded = |report_refused| Concluded { conclusion: &conclusion, by, report_refused }.event();
        let told = match attempt {
            Ok(attempt) => self.tell(attempt, &conclusion, ledger, &concluded(None)?).await?,
            Err(error) => Told::Refused(error.to_string()),
        };
        match told {
            Told::Recorded => {}
            Told::Nobody => self.write(ledger, concluded(None)?).await?,
            Told::Refused(why) => {
                tracing::warn!(effect = E::NAME, ledger = %ledger.stream, why, "an outcome is recorded, but its target did not take it");
                self.write(ledger, concluded(Some(shortened(why)))?).await?;
            }
        }
        Ok(Next::Concluded)
    }

    /// Tells the target, contained: a panic of users' code is a refusal.
    async fn tell(
        &self,
        attempt: &Attempt<E::Intent>,
        conclusion: &Conclusion<E::Outcome>,
        ledger: &Ledger,
        concluded: &LedgerEvent,
    ) -> Result<Told, Stopped> {
        let expected = vec![(ledger.stream.clone(), Expected::Exact(ledger.version))];
        let alongside = Alongside { events: vec![ledger.entry(concluded)?], expected, ..Alongside::default() };
        let (effect, targets) = (self.effect.clone(), self.targets.clone());
        let (attempt, conclusion) = (attempt.clone(), conclusion.clone());
        let told = super::contained(async move {
            let Some((id, command)) = effect.report(&attempt, &conclusion) else { return Ok(Told::Nobody) };
            let command = targets.command(&id, command).caused_by(Cause::from(&attempt.event));
            match command.alongside(alongside).execute().await {
                Ok(_) => Ok(Told::Recorded),
                Err(AlongsideError::Overtaken) => Err(Stopped::Overtaken),
                Err(AlongsideError::Command(error)) => match error {
                    // The target is hotly contended: look again whether it is still to be told.
                    ExecuteError::Contended { .. } => Err(Stopped::Overtaken),
                    error if error.is_of_the_store() => Err(Stopped::Failed(error.to_string())),
                    error => Ok(Told::Refused(error.to_string())),
                },
            }
        });
        told.await.unwrap_or_else(|panic| Ok(Told::Refused(format!("the code that reports the outcome panicked: {panic}"))))
    }

    async fn write(&self, ledger: &Ledger, event: LedgerEvent) -> Result<(), Stopped> {
        let condition = Condition::stream(ledger.stream.clone(), Expected::Exact(ledger.version));
        let append = Append::of(vec![ledger.entry(&event)?]).when(condition).by(Authority::RUNTIME);
        match self.host.store.append(append).await {
            Ok(Outcome::Appended(_)) => Ok(()),
            Ok(Outcome::Conflict(_) | Outcome::Repeated(_)) => Err(Stopped::Overtaken),
            Err(AppendError::Invalid(invalid)) => Err(Stopped::Unwritable(invalid.to_string())),
            Err(error) => Err(Stopped::Failed(error.to_string())),
        }
    }

    /// Records what a person says of an effect in doubt.
    pub(super) async fn verdict(&self, asked: Asked) -> Next<E> {
        let Asked { intent, verdict, by, answer } = asked;
        let mut judged = Err(ResolveError::Busy { id: intent.id });
        for _ in 0..ROUNDS_MAX {
            judged = self.judge(&intent, verdict.clone(), &by).await;
            if !matches!(judged, Err(ResolveError::Busy { .. })) {
                break;
            }
        }
        let (answered, next) = match judged {
            Ok(next) => (Ok(()), next),
            Err(error) => (Err(error), Next::At(self.now())),
        };
        // Whoever asked may be gone; the verdict stands.
        let _ = answer.send(answered);
        next
    }

    async fn judge(&self, intent: &Intent, verdict: Verdict, by: &str) -> Result<Next<E>, ResolveError> {
        let id = intent.id;
        let store = |detail: String| ResolveError::Store { detail };
        let ledger = Ledger::load(&self.host.store, id).await.map_err(|error| store(error.to_string()))?;
        match &ledger.state {
            EffectState::Done { .. } | EffectState::NotDone { .. } => return Err(ResolveError::NotOpen { id }),
            EffectState::InDoubt { .. } => {}
            _ => return Err(ResolveError::NotInDoubt { id }),
        }
        let deadline = ledger.deadline.unwrap_or_else(|| self.now());
        if self.now() < deadline {
            return Err(ResolveError::TooEarly { id, deadline });
        }
        let conclusion = match verdict {
            Verdict::NotDone { reason } => Conclusion::NotDone { reason },
            Verdict::Done(outcome) => Conclusion::Done(parse::<E>(outcome)?),
        };
        let attempt = self.attempt(intent, ledger.attempts, deadline);
        self.conclude(attempt.as_ref().map_err(Clone::clone), &ledger, conclusion, by).await.map_err(|stopped| match stopped {
            Stopped::Overtaken => ResolveError::Busy { id },
            Stopped::Unwritable(detail) => ResolveError::Outcome { effect: E::NAME, detail },
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

/// The last line of a ledger.
struct Concluded<'a, O> {
    conclusion: &'a Conclusion<O>,
    by: &'a str,
    report_refused: Option<String>,
}

impl<O: serde::Serialize + serde::de::DeserializeOwned> Concluded<'_, O> {
    fn event(self) -> Result<LedgerEvent, Stopped> {
        let (by, report_refused) = (self.by.to_owned(), self.report_refused);
        match self.conclusion {
            Conclusion::Done(outcome) => {
                let outcome = Json::of(outcome).map_err(|error| Stopped::Unwritable(error.with_name()))?;
                Ok(LedgerEvent::Done { outcome, by, report_refused })
            }
            Conclusion::NotDone { reason } => Ok(LedgerEvent::NotDone { reason: shortened(reason.clone()), by, report_refused }),
        }
    }
}

fn parse<E: Effect>(outcome: Value) -> Result<E::Outcome, ResolveError> {
    json::decode(outcome.to_string().as_bytes())
        .map_err(|error| ResolveError::Outcome { effect: E::NAME, detail: error.to_string() })
}
