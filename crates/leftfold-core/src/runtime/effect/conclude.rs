//! The end of an effect: its outcome and the events that the target makes of it, in one append.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Effect;
use super::attempt::{Attempt, Conclusion};
use super::ledger::{Ledger, LedgerEvent};
use super::turn::{EffectTurns, NextTurn, TurnError};
use crate::fold::{Alongside, AlongsideError, Cause, EventError, ExecuteError};
use crate::runtime::consumer::{contained, shortened};
use crate::runtime::json::Json;
use crate::store::{Expected, NewEvent};

/// Result of telling the target.
enum ReportOutcome {
    /// It was recorded together with the outcome.
    Recorded,
    /// Nobody is to be told.
    Nobody,
    /// It could not be told, or refused.
    Refused(String),
}

impl<E: Effect> EffectTurns<E> {
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
            Err(error) => ReportOutcome::Refused(error.to_string()),
        };
        match told {
            ReportOutcome::Recorded => {}
            ReportOutcome::Nobody => self.append(ledger, vec![concluded(None)?], None).await?,
            ReportOutcome::Refused(why) => {
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
    ) -> Result<ReportOutcome, TurnError> {
        let expected = vec![(ledger.stream.clone(), Expected::Exact(ledger.version))];
        let alongside = Alongside { events: vec![concluded], expected, ..Alongside::default() };
        let (effect, targets) = (self.effect.clone(), self.targets.clone());
        let (attempt, conclusion) = (attempt.clone(), conclusion.clone());
        let told = contained(async move {
            let Some((id, command)) = effect.report(&attempt, &conclusion) else {
                return Ok(ReportOutcome::Nobody);
            };
            let command = targets.command(&id, command).caused_by(Cause::from(&attempt.event));
            match command.alongside(alongside).execute().await {
                Ok(_) => Ok(ReportOutcome::Recorded),
                Err(AlongsideError::Overtaken) => Err(TurnError::Overtaken),
                Err(AlongsideError::Command(error)) => match error {
                    // The target is hotly contended: look again whether it is still to be told.
                    ExecuteError::Contended { .. } => Err(TurnError::Overtaken),
                    error if error.is_of_the_store() => Err(TurnError::Failed(error.to_string())),
                    error => Ok(ReportOutcome::Refused(error.to_string())),
                },
            }
        });
        told.await.unwrap_or_else(|panic| {
            Ok(ReportOutcome::Refused(format!(
                "the code that reports the outcome panicked: {panic}"
            )))
        })
    }
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
