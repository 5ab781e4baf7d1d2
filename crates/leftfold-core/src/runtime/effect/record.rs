//! Results of attempts, recorded: by the policy they lead to another attempt, to a doubt or to the
//! end of the effect.
//!
//! Every line of the ledger is appended on condition that no other was, so of two that write one
//! goes on. The result of an attempt is known to one process only, so it is kept until it is
//! recorded.

use super::Effect;
use super::attempt::{Attempt, Conclusion, Performed};
use super::ledger::{EffectState, Ledger, LedgerEvent};
use super::turn::{
    EffectTurns, EndedAttempt, Fenced, NextTurn, ROUNDS_MAX, RUNTIME, TurnError, overtaken, turned,
};
use crate::runtime::consumer::shortened;
use crate::store::{Append, AppendError, Authority, Condition, Expected, NewEvent, Outcome};

impl<E: Effect> EffectTurns<E> {
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
    pub(super) async fn unknown(
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

    pub(super) async fn doubt(
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

    /// Appends lines to a ledger, if nobody else has since it was read.
    pub(super) async fn write(
        &self,
        ledger: &Ledger,
        events: &[LedgerEvent],
    ) -> Result<(), TurnError> {
        self.write_under(ledger, events, None).await
    }

    /// The same under the lease of the runner: it is refused if the work went to another one.
    pub(super) async fn write_under(
        &self,
        ledger: &Ledger,
        events: &[LedgerEvent],
        fence: Fenced,
    ) -> Result<(), TurnError> {
        let entries = events.iter().map(|event| ledger.entry(event)).collect::<Result<_, _>>()?;
        self.append(ledger, entries, fence).await
    }

    pub(super) async fn append(
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
}
