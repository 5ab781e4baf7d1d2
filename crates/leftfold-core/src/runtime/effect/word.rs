//! What people say of effects: what happened to one in doubt, and that one is not wanted any more.

use serde_json::Value;

use super::handle::{CancelError, PersonsWord, ResolveError, Verdict, Word};
use super::ledger::{EffectState, Ledger, LedgerEvent, shortened};
use super::turn::{EffectTurns, Intent, NextTurn, ROUNDS_MAX, TurnError};
use super::{Conclusion, Effect};
use crate::json;

impl<E: Effect> EffectTurns<E> {
    /// Takes a person's word. It is carried out even if the caller is gone.
    pub(super) async fn hear(&self, PersonsWord { intent, by, word }: PersonsWord) -> NextTurn<E> {
        let (id, by) = (intent.id, shortened(by));
        let next = match word {
            Word::Verdict(verdict, answer) => {
                let mut judged = Err(ResolveError::Busy { id });
                for _ in 0..ROUNDS_MAX {
                    judged = self.judge(&intent, verdict.clone(), &by).await;
                    if !matches!(judged, Err(ResolveError::Busy { .. })) {
                        break;
                    }
                }
                let _ = answer.send(judged.as_ref().map(drop).map_err(Clone::clone));
                judged.ok()
            }
            Word::Cancel(reason, answer) => {
                let mut cancelled = Err(CancelError::Busy { id });
                for _ in 0..ROUNDS_MAX {
                    cancelled = self.cancel(&intent, &reason, &by).await;
                    if !matches!(cancelled, Err(CancelError::Busy { .. })) {
                        break;
                    }
                }
                let _ = answer.send(cancelled.as_ref().map(drop).map_err(Clone::clone));
                cancelled.ok()
            }
        };
        next.unwrap_or_else(|| self.again_at(self.now()))
    }

    async fn cancel(
        &self,
        intent: &Intent,
        reason: &str,
        by: &str,
    ) -> Result<NextTurn<E>, CancelError> {
        let id = intent.id;
        let store = |detail: String| CancelError::Store { detail };
        let ledger =
            Ledger::load(&self.host.store, id).await.map_err(|error| store(error.to_string()))?;
        match &ledger.state {
            EffectState::Done { .. } | EffectState::NotDone { .. } => {
                return Err(CancelError::NotOpen { id });
            }
            EffectState::InFlight { deadline } => {
                return Err(CancelError::UnderWay { id, deadline: *deadline });
            }
            EffectState::InDoubt { .. } => return Err(CancelError::InDoubt { id }),
            EffectState::Pending | EffectState::Waiting { .. }
                if self.is_of_an_earlier_life(ledger.position) =>
            {
                return Err(CancelError::InDoubt { id });
            }
            EffectState::Pending | EffectState::Waiting { .. } | EffectState::Parked { .. } => {}
        }
        let reason = shortened(reason.to_owned());
        let done = if ledger.doubts(self.unsaid()).next().is_some() {
            let cancelled = LedgerEvent::Cancelled { reason, by: by.to_owned() };
            let until = ledger.deadline().unwrap_or_else(|| self.now());
            self.write(&ledger, &[cancelled]).await.map(|()| self.in_doubt(&ledger, until))
        } else {
            let attempt = self.attempt(intent, &ledger, ledger.attempts, self.now());
            let attempt = attempt.as_ref().map_err(Clone::clone);
            self.conclude(attempt, &ledger, Conclusion::NotDone { reason }, by).await
        };
        done.map_err(|stopped| match stopped {
            TurnError::Overtaken => CancelError::Busy { id },
            TurnError::Failed(detail)
            | TurnError::Unreadable(detail)
            | TurnError::Unwritable(detail) => store(detail),
            TurnError::Fenced => store("the work went to another runner".to_owned()),
        })
    }

    async fn judge(
        &self,
        intent: &Intent,
        verdict: Verdict,
        by: &str,
    ) -> Result<NextTurn<E>, ResolveError> {
        let id = intent.id;
        let store = |detail: String| ResolveError::Store { detail };
        let ledger =
            Ledger::load(&self.host.store, id).await.map_err(|error| store(error.to_string()))?;
        match &ledger.state {
            EffectState::Done { .. } | EffectState::NotDone { .. } => {
                return Err(ResolveError::NotOpen { id });
            }
            EffectState::InDoubt { .. } => {}
            _ => return Err(ResolveError::NotInDoubt { id }),
        }
        let deadline = ledger.deadline().unwrap_or_else(|| self.now());
        if self.now() < deadline {
            return Err(ResolveError::TooEarly { id, deadline });
        }
        let conclusion = match verdict {
            Verdict::NotDone { reason } => Conclusion::NotDone { reason },
            Verdict::Done(outcome) => Conclusion::Done(parse::<E>(outcome)?),
        };
        let attempt = self.attempt(intent, &ledger, ledger.attempts, deadline);
        self.conclude(attempt.as_ref().map_err(Clone::clone), &ledger, conclusion, by)
            .await
            .map_err(|stopped| match stopped {
                TurnError::Overtaken => ResolveError::Busy { id },
                TurnError::Unwritable(detail) => ResolveError::Outcome { effect: E::NAME, detail },
                TurnError::Failed(detail) | TurnError::Unreadable(detail) => store(detail),
                TurnError::Fenced => store("the work went to another runner".to_owned()),
            })
    }
}

fn parse<E: Effect>(outcome: Value) -> Result<E::Outcome, ResolveError> {
    json::decode(outcome.to_string().as_bytes())
        .map_err(|error| ResolveError::Outcome { effect: E::NAME, detail: error.to_string() })
}
