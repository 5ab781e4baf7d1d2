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
//! An attempt is opened under the lease of the runner, and belongs to that runner until its
//! deadline, also where the lease went to another one: what came of it is recorded by whoever knows
//! it, without the lease. Every line of the ledger is appended on condition that no other was, so
//! of two that write one goes on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::Instrument;

use super::ledger::{EffectState, Ledger, LedgerEvent, Unsaid, needs_release, shortened};
use super::queue::{Rest, TurnKind};
use super::{
    Attempt, Begin, Conclusion, Effect, EffectId, Order, Performed, Policy, Repetition, span,
};
use crate::fold::{
    Aggregate, Aggregates, Alongside, AlongsideError, Cause, EventError, ExecuteError, LoadError,
    Schema,
};
use crate::runtime::json::Json;
use crate::runtime::{Host, StartError, StartFault, contained};
use crate::store::{
    Append, AppendError, Authority, Condition, EventType, Expected, Fence, Label, NewEvent,
    Outcome, Position, Query, Read, ReadError, RecordedEvent, Store, Timestamp,
};

/// Recorded as the author when the runtime itself concludes an attempt.
const RUNTIME: &str = "runtime";
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

/// Lease under which an attempt is opened; `None` if nobody else can work on it.
pub(crate) type Fenced = Option<(Label, Fence)>;

/// Time of the next turn.
pub(crate) enum NextTurn<E: Effect> {
    /// Never: it is concluded.
    Concluded,
    /// At a moment.
    Rests(Rest),
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
    attempt: Attempt<E::Intent>,
    performed: Performed<E::Outcome>,
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

/// Result of telling the target.
enum Reported {
    /// It was recorded together with the outcome.
    Recorded,
    /// Nobody is to be told.
    Nobody,
    /// It could not be told, or refused.
    Refused(String),
}

impl<E: Effect> EffectTurns<E> {
    pub(crate) fn new(host: Host, effect: E) -> Result<Self, StartFault> {
        let schema =
            host.store.schema::<<E::Target as Aggregate>::Event>(crate::fold::Purpose::Writing)?;
        let intent_type = EventType::new(E::INTENT)?;
        if !schema.wanted().contains(&intent_type) {
            let known = schema.wanted().iter().map(ToString::to_string).collect();
            let effect_type = std::any::type_name::<E>();
            return Err(StartError::UnknownIntent {
                effect_type,
                known,
                effect: E::NAME,
                intent: E::INTENT,
            }
            .into());
        }
        let (policy, targets) = (effect.policy(), host.store.aggregate());
        Ok(Self { host, effect: Arc::new(effect), policy, schema, intent_type, targets })
    }

    pub(super) fn policy(&self) -> Policy {
        self.policy
    }

    pub(crate) fn intents(&self) -> Query {
        Query::types(self.schema().names_of(&self.intent_type))
    }

    /// Returns the present schema of intents.
    pub(super) fn schema(&self) -> Arc<Schema> {
        self.schema.renewed().ok().flatten().unwrap_or_else(|| self.schema.clone())
    }

    /// Returns the hash of an intent's order key: intents with the same number are kept in order.
    /// `None` if it is in order with none.
    pub(super) fn key(&self, event: &RecordedEvent) -> Option<u64> {
        // What cannot be read stays in its stream, and so does what users' code panics at.
        let order = catch_unwind(AssertUnwindSafe(|| {
            let intent = self.schema.payload(event, &self.intent_type).ok()?;
            Some(self.effect.order(&intent, event))
        }));
        let name = match order.ok().flatten().unwrap_or_default() {
            Order::Stream => format!("stream/{}", event.stream.as_ref()?.name),
            Order::Key(key) => format!("key/{key}"),
            Order::None => return None,
        };
        blake3::hash(name.as_bytes()).as_bytes().first_chunk().copied().map(u64::from_le_bytes)
    }

    pub(super) fn begins(&self) -> Begin {
        self.effect.begins()
    }

    /// Reads the event that asks for an effect; `None` if there is none.
    pub(super) async fn intent(&self, id: EffectId) -> Result<Option<Intent>, ReadError> {
        let read = Read::matching(self.intents(), id.0).page_of(1);
        let event = self
            .host
            .store
            .page(read)
            .await?
            .events
            .into_iter()
            .next()
            .filter(|event| event.position == id.0);
        Ok(event.map(|event| Intent { id, event: event.detached() }))
    }

    /// Takes the next step of an effect, and waits for nothing but the effect itself. A doubt is
    /// not looked up.
    pub(crate) async fn take(&self, intent: &Intent, fence: Fenced) -> NextTurn<E> {
        for _ in 0..ROUNDS_MAX {
            if let Some(next) = turned(self.step(intent, &fence).await) {
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

    async fn step(&self, intent: &Intent, fence: &Fenced) -> Result<NextTurn<E>, TurnError> {
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
                let given_up_at = deadline.plus(ATTEMPT_GRACE);
                if now < given_up_at {
                    return Ok(self.again_at(given_up_at));
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
            Ok(self.in_doubt(&ledger, deadline))
        } else {
            self.look_up(intent, &ledger, since).await
        }
    }

    /// It keeps its place, and has a turn at this moment.
    pub(super) fn again_at(&self, until: Timestamp) -> NextTurn<E> {
        NextTurn::Rests(Rest { until, kind: TurnKind::Attempt, keeps_place: true })
    }

    /// Lets an effect in doubt rest until a moment. It keeps its place if it may be tried again, or
    /// if the policy says so. One open at a restore is not in order with later ones.
    pub(super) fn in_doubt(&self, ledger: &Ledger, until: Timestamp) -> NextTurn<E> {
        let may_go_on =
            self.has_attempts_left(ledger) && !self.is_of_an_earlier_life(ledger.intent);
        NextTurn::Rests(Rest {
            until,
            kind: TurnKind::Look,
            keeps_place: self.policy.doubts_hold || may_go_on,
        })
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
        fence: &Fenced,
    ) -> Result<NextTurn<E>, TurnError> {
        let number = ledger.attempts.saturating_add(1);
        let deadline = self.now().plus(self.policy.deadline);
        let attempt = match self.attempt(intent, ledger, number, deadline) {
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
        self.write_under(ledger, &[opened], fence.clone()).await?;
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
            let attempt = match self.attempt(intent, ledger, tried.number, tried.deadline) {
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
    fn look_wait(&self, since: Timestamp) -> Duration {
        let doubted = self.now().since(since);
        doubted.max(self.policy.backoff.first).min(self.policy.backoff.longest).max(LOOK_WAIT_MIN)
    }

    /// Tells whether an attempt of unknown result is followed by another one.
    fn repeats(&self, ledger: &Ledger) -> bool {
        self.policy.repetition == Repetition::Repeatable && self.has_attempts_left(ledger)
    }

    fn has_attempts_left(&self, ledger: &Ledger) -> bool {
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

    /// Records the result of an attempt, which only this process knows: it is kept until then.
    pub(crate) async fn record(&self, ended: Box<EndedAttempt<E>>) -> NextTurn<E> {
        let mut next = None;
        for _ in 0..ROUNDS_MAX {
            next = turned(self.try_record(&ended).await);
            if next.is_some() {
                break;
            }
        }
        match next.unwrap_or_else(overtaken) {
            NextTurn::Failed { detail, .. } | NextTurn::Parked(detail) => {
                NextTurn::Failed { detail, unrecorded: Some(ended) }
            }
            next => next,
        }
    }

    async fn try_record(
        &self,
        EndedAttempt { attempt, performed }: &EndedAttempt<E>,
    ) -> Result<NextTurn<E>, TurnError> {
        let ledger = Ledger::load(&self.host.store, attempt.effect).await?;
        if ledger.state.is_concluded() {
            if let Performed::Done(_) = performed {
                tracing::warn!(effect = E::NAME, id = %attempt.effect, "an outcome came after the effect was concluded");
            }
            return Ok(NextTurn::Concluded);
        }
        match performed.clone() {
            // It took place: that counts, even where another attempt has been opened since.
            Performed::Done(outcome) => {
                let concluded =
                    self.conclude(Ok(attempt), &ledger, Conclusion::Done(outcome), RUNTIME).await;
                match concluded {
                    Err(TurnError::Unwritable(detail)) => {
                        let reason =
                            format!("it took place, but its outcome cannot be recorded: {detail}");
                        self.doubt(&ledger, attempt.number, reason).await
                    }
                    concluded => concluded,
                }
            }
            Performed::NotDone { reason } => self.cleared(attempt, &ledger, reason).await,
            Performed::InDoubt { reason } if ledger.waits_for(attempt.number) => {
                self.unknown(&ledger, attempt.number, reason).await
            }
            Performed::InDoubt { .. } => Ok(self.again_at(self.now())),
        }
    }

    /// An attempt certainly did not take place. Others may have.
    async fn cleared(
        &self,
        attempt: &Attempt<E::Intent>,
        ledger: &Ledger,
        reason: String,
    ) -> Result<NextTurn<E>, TurnError> {
        let number = attempt.number;
        let others = ledger.doubts(self.unsaid()).filter(|tried| tried.number != number).last();
        let is_doubted = ledger.doubts(self.unsaid()).any(|tried| tried.number == number);
        let decides = match ledger.state {
            EffectState::InFlight { .. } => ledger.attempts == number,
            EffectState::InDoubt { .. } => is_doubted && others.is_none(),
            _ => false,
        };
        if !decides {
            // It is good to know, and more is not.
            if is_doubted {
                self.write(ledger, &[LedgerEvent::Cleared { number, reason: shortened(reason) }])
                    .await?;
            }
            return Ok(self.again_at(self.now()));
        }
        match others {
            Some(_) if self.repeats(ledger) => self.again(ledger, number, reason, false).await,
            None if self.has_attempts_left(ledger) => {
                self.again(ledger, number, reason, false).await
            }
            None => {
                self.conclude(Ok(attempt), ledger, Conclusion::NotDone { reason }, RUNTIME).await
            }
            Some(doubted) => {
                let whole = format!(
                    "attempt {number} did not take place ({reason}), {}",
                    ledger.doubtful(self.unsaid(), number)
                );
                let again_at = self.now();
                let failed = LedgerEvent::AttemptFailed {
                    number,
                    reason: shortened(reason),
                    again_at,
                    in_doubt: Some(false),
                };
                let doubted =
                    LedgerEvent::Doubted { number: doubted.number, reason: shortened(whole) };
                self.write(ledger, &[failed, doubted]).await?;
                Ok(self.in_doubt(ledger, ledger.deadline().unwrap_or(again_at)))
            }
        }
    }

    /// Records that it is not known if an attempt took place, and goes on by the policy.
    async fn unknown(
        &self,
        ledger: &Ledger,
        number: u32,
        reason: String,
    ) -> Result<NextTurn<E>, TurnError> {
        if self.repeats(ledger) {
            self.again(ledger, number, reason, true).await
        } else {
            self.doubt(ledger, number, reason).await
        }
    }

    async fn again(
        &self,
        ledger: &Ledger,
        number: u32,
        reason: String,
        in_doubt: bool,
    ) -> Result<NextTurn<E>, TurnError> {
        let again_at = self.now().plus(self.policy.backoff.after(ledger.attempts));
        let (reason, in_doubt) = (shortened(reason), Some(in_doubt));
        self.write(ledger, &[LedgerEvent::AttemptFailed { number, reason, again_at, in_doubt }])
            .await?;
        Ok(self.again_at(again_at))
    }

    async fn doubt(
        &self,
        ledger: &Ledger,
        number: u32,
        reason: String,
    ) -> Result<NextTurn<E>, TurnError> {
        if let EffectState::InDoubt { since, .. } = ledger.state {
            return Ok(self.in_doubt(ledger, self.now().plus(self.look_wait(since))));
        }
        self.write(ledger, &[LedgerEvent::Doubted { number, reason: shortened(reason) }]).await?;
        Ok(self.in_doubt(ledger, ledger.deadline().unwrap_or_else(|| self.now())))
    }

    /// Records the outcome together with the events that the target makes of it; if the target
    /// refuses, the outcome with the refusal.
    pub(super) async fn conclude(
        &self,
        attempt: Result<&Attempt<E::Intent>, EventError>,
        ledger: &Ledger,
        conclusion: Conclusion<E::Outcome>,
        by: &str,
    ) -> Result<NextTurn<E>, TurnError> {
        let concluded = |report_refused| {
            Concluded { conclusion: &conclusion, by, report_refused }.entry(ledger)
        };
        let told = match attempt {
            Ok(attempt) => self.tell(attempt, &conclusion, ledger, concluded(None)?).await?,
            Err(error) => Reported::Refused(error.to_string()),
        };
        match told {
            Reported::Recorded => {}
            Reported::Nobody => self.append(ledger, vec![concluded(None)?], None).await?,
            Reported::Refused(why) => {
                tracing::warn!(effect = E::NAME, ledger = %ledger.stream, why, "an outcome is recorded, but its target did not take it");
                self.append(ledger, vec![concluded(Some(shortened(why)))?], None).await?;
            }
        }
        Ok(NextTurn::Concluded)
    }

    /// Tells the target, contained: a panic of users' code is a refusal.
    async fn tell(
        &self,
        attempt: &Attempt<E::Intent>,
        conclusion: &Conclusion<E::Outcome>,
        ledger: &Ledger,
        concluded: NewEvent,
    ) -> Result<Reported, TurnError> {
        let expected = vec![(ledger.stream.clone(), Expected::Exact(ledger.version))];
        let alongside = Alongside { events: vec![concluded], expected, ..Alongside::default() };
        let (effect, targets) = (self.effect.clone(), self.targets.clone());
        let (attempt, conclusion) = (attempt.clone(), conclusion.clone());
        let told = contained(async move {
            let Some((id, command)) = effect.report(&attempt, &conclusion) else {
                return Ok(Reported::Nobody);
            };
            let command = targets.command(&id, command).caused_by(Cause::from(&attempt.event));
            match command.alongside(alongside).execute().await {
                Ok(_) => Ok(Reported::Recorded),
                Err(AlongsideError::Overtaken) => Err(TurnError::Overtaken),
                Err(AlongsideError::Command(error)) => match error {
                    // The target is hotly contended: look again whether it is still to be told.
                    ExecuteError::Contended { .. } => Err(TurnError::Overtaken),
                    error if error.is_of_the_store() => Err(TurnError::Failed(error.to_string())),
                    error => Ok(Reported::Refused(error.to_string())),
                },
            }
        });
        told.await.unwrap_or_else(|panic| {
            Ok(Reported::Refused(format!("the code that reports the outcome panicked: {panic}")))
        })
    }

    pub(super) async fn write(
        &self,
        ledger: &Ledger,
        events: &[LedgerEvent],
    ) -> Result<(), TurnError> {
        self.write_under(ledger, events, None).await
    }

    async fn write_under(
        &self,
        ledger: &Ledger,
        events: &[LedgerEvent],
        fence: Fenced,
    ) -> Result<(), TurnError> {
        let entries = events.iter().map(|event| ledger.entry(event)).collect::<Result<_, _>>()?;
        self.append(ledger, entries, fence).await
    }

    async fn append(
        &self,
        ledger: &Ledger,
        entries: Vec<NewEvent>,
        fence: Fenced,
    ) -> Result<(), TurnError> {
        let condition = Condition::stream(ledger.stream.clone(), Expected::Exact(ledger.version));
        let append = Append { fence, ..Append::of(entries).when(condition).by(Authority::RUNTIME) };
        match self.host.store.append(append).await {
            Ok(Outcome::Appended(_)) => Ok(()),
            Ok(Outcome::Conflict(_) | Outcome::Repeated(_)) => Err(TurnError::Overtaken),
            Err(AppendError::Invalid(invalid)) => Err(TurnError::Unwritable(invalid.to_string())),
            Err(AppendError::Fenced { .. }) => Err(TurnError::Fenced),
            Err(error) => Err(TurnError::Failed(error.to_string())),
        }
    }

    pub(super) fn attempt(
        &self,
        intent: &Intent,
        ledger: &Ledger,
        number: u32,
        deadline: Timestamp,
    ) -> Result<Attempt<E::Intent>, EventError> {
        let (event, tries) = (intent.event.clone(), ledger.tries.clone());
        let intent_data = self.schema.payload(&event, &self.intent_type)?;
        Ok(Attempt { effect: intent.id, number, intent: intent_data, event, deadline, tries })
    }
}

/// Returns the result of a turn; `None` if it has to begin again.
fn turned<E: Effect>(step: Result<NextTurn<E>, TurnError>) -> Option<NextTurn<E>> {
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

/// Returns the reason why this release cannot carry out an intent of a store, if it cannot.
pub(super) fn unreadable<E: Effect>(store: &Store, event: &RecordedEvent) -> Option<String> {
    let read = || {
        let schema =
            store.schema::<<E::Target as Aggregate>::Event>(crate::fold::Purpose::Writing)?;
        schema.payload::<E::Intent>(event, &EventType::new(E::INTENT)?).map(drop)
    };
    match read() {
        // What is of a known shape and is none ends the effect.
        Ok(()) | Err(EventError::Decode { .. }) => None,
        Err(error) => Some(needs_release(&error)),
    }
}

fn overtaken<E: Effect>() -> NextTurn<E> {
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

/// The last line of a ledger.
struct Concluded<'a, O> {
    conclusion: &'a Conclusion<O>,
    by: &'a str,
    report_refused: Option<String>,
}

impl<O: Serialize + DeserializeOwned> Concluded<'_, O> {
    fn entry(self, ledger: &Ledger) -> Result<NewEvent, TurnError> {
        let entry = |event: &LedgerEvent| {
            ledger.entry(event).map_err(|error| TurnError::Unwritable(error.to_string()))
        };
        let (by, report_refused) = (self.by.to_owned(), self.report_refused);
        match self.conclusion {
            Conclusion::Done(outcome) => {
                let outcome =
                    Json::of(outcome).map_err(|error| TurnError::Unwritable(error.with_name()))?;
                entry(&LedgerEvent::Done { outcome, by, report_refused })
            }
            Conclusion::NotDone { reason } => entry(&LedgerEvent::NotDone {
                reason: shortened(reason.clone()),
                by,
                report_refused,
            }),
        }
    }
}
