//! What people say of effects: what happened to one in doubt, and that one is not wanted any more.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use super::attempt::Conclusion;
use super::intent::Intent;
use super::ledger::{EffectState, Ledger, LedgerEvent};
use super::turn::{EffectTurns, NextTurn, ROUNDS_MAX, TurnError};
use super::{Effect, EffectId};
use crate::json;
use crate::runtime::consumer::shortened;
use crate::runtime::json::Json;
use crate::store::Timestamp;

/// A person's word on its way to the runner.
pub(crate) struct PersonsWord {
    pub(super) intent: Intent,
    pub(super) by: String,
    pub(super) word: Word,
}

/// Word of a person, with the channel for the answer whether it was taken.
pub(super) enum Word {
    Verdict(Verdict, oneshot::Sender<Result<(), ResolveError>>),
    Cancel(String, oneshot::Sender<Result<(), CancelError>>),
}

/// Statement of a person about an effect in doubt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// It took place, and this came of it: the effect's outcome as JSON.
    Done(Value),
    /// It did not take place.
    NotDone {
        /// Evidence for that, for people.
        reason: String,
    },
}

/// Error of a person's statement that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// No effect of this runtime has the id, or it is concluded.
    #[error("effect {id} is not open, look it up to see how it ended")]
    NotOpen {
        /// The id.
        id: EffectId,
    },
    /// The effect is not in doubt.
    #[error("effect {id} is not in doubt, wait for its outcome")]
    NotInDoubt {
        /// The id.
        id: EffectId,
    },
    /// The attempt may still take place.
    #[error("effect {id} may take place until {deadline}, say then what happened")]
    TooEarly {
        /// The id.
        id: EffectId,
        /// The attempt's deadline.
        deadline: Timestamp,
    },
    /// Something else is being recorded of it.
    #[error("effect {id} is being looked at right now, try again")]
    Busy {
        /// The id.
        id: EffectId,
    },
    /// It is not an outcome of this effect.
    #[error("this is no outcome of {effect}: {detail}")]
    Outcome {
        /// The kind of effect.
        effect: &'static str,
        /// Message of serde.
        detail: String,
    },
    /// The store failed, or another runtime has the work.
    #[error("the answer could not be recorded: {detail}")]
    Store {
        /// Description of the failure.
        detail: String,
    },
    /// The runtime has stopped, before the answer or while it was being recorded.
    #[error("the runtime has stopped, look up the effect and ask a runtime that runs")]
    Stopped,
}

/// Error of a cancellation that was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// No effect of this runtime has the id, or it is concluded.
    #[error("effect {id} is not open, look it up to see how it ended")]
    NotOpen {
        /// The id.
        id: EffectId,
    },
    /// An attempt is under way, and may take place.
    #[error("effect {id} is being carried out until {deadline}, wait for its outcome")]
    UnderWay {
        /// The id.
        id: EffectId,
        /// The attempt's deadline.
        deadline: Timestamp,
    },
    /// It may have taken place.
    #[error("effect {id} is in doubt, say by a verdict what happened")]
    InDoubt {
        /// The id.
        id: EffectId,
    },
    /// Something else is being recorded of it.
    #[error("effect {id} is being looked at right now, try again")]
    Busy {
        /// The id.
        id: EffectId,
    },
    /// The store failed, or another runtime has the work.
    #[error("that it is cancelled could not be recorded: {detail}")]
    Store {
        /// Description of the failure.
        detail: String,
    },
    /// The runtime has stopped, before the cancellation or while it was being recorded.
    #[error("the runtime has stopped, look up the effect and ask a runtime that runs")]
    Stopped,
}

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
            let attempt = self.intents.attempt(intent, &ledger, ledger.attempts, self.now());
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
        let attempt = self.intents.attempt(intent, &ledger, ledger.attempts, deadline);
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

/// Returns an outcome of a person as the ledger shows it when it is recorded; `None` if it is none
/// of this effect.
pub(super) fn recorded<E: Effect>(outcome: &Value) -> Option<Value> {
    let outcome = parse::<E>(outcome.clone()).ok()?;
    Some(Json::of(&outcome).ok()?.shown())
}

fn parse<E: Effect>(outcome: Value) -> Result<E::Outcome, ResolveError> {
    json::decode(outcome.to_string().as_bytes())
        .map_err(|error| ResolveError::Outcome { effect: E::NAME, detail: error.to_string() })
}
