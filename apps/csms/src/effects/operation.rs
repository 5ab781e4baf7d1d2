//! All operations that have no effect of their own: one effect for all of them.
//!
//! If its answer was lost an operation is in doubt. One that can be repeated without harm is asked
//! for again, as long as its time lasts; a question ends with its time. Of the others a report of
//! the station is the proof (a start after a restart was asked for, progress of firmware, a setting
//! that is read with its new value), or a late answer, or a person's word.

use std::sync::Arc;

use leftfold::prelude::Timestamp;
use leftfold::runtime::{Attempt, Conclusion, Effect, Performed, Policy};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::doubt;
use crate::app::Csms;
use crate::connections::Called;
use crate::domain::operation::{OperationAnswered, OperationRequested, OperationResult};
use crate::domain::request::{RequestId, StationAnswer};
use crate::domain::station::{Station, StationCommand};
use crate::ocpp::v16::{CentralRequest, OperationReply, StationConfirmation};

/// Asks a station for an operation.
pub(super) struct AskForOperation(pub(super) Arc<Csms>);

/// Name of the effect.
pub(crate) const OPERATION: &str = "operation";

/// Outcome of an operation, with the station's whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OperationOutcome {
    /// Meaning of the answer.
    pub(crate) answer: StationAnswer,
    /// Content of the answer beyond that.
    #[serde(default)]
    pub(crate) result: Option<OperationResult>,
    /// The whole answer as it came, of settings what was read; `None` if there was none.
    #[serde(default)]
    pub(crate) response: Option<Value>,
}

impl From<StationAnswer> for OperationOutcome {
    fn from(answer: StationAnswer) -> Self {
        Self { answer, result: None, response: None }
    }
}

impl Effect for AskForOperation {
    const NAME: &'static str = OPERATION;
    const INTENT: &'static str = "station.OperationRequested";
    type Intent = OperationRequested;
    type Outcome = OperationOutcome;
    type Target = Station;

    fn policy(&self) -> Policy {
        self.0.once()
    }

    fn is_here(&self, intent: &OperationRequested) -> bool {
        let has_secret = !intent.has_secret || self.0.secrets.has(&intent.request);
        has_secret && self.0.registry.is_connected(&intent.station)
    }

    async fn perform(&self, attempt: &Attempt<OperationRequested>) -> Performed<OperationOutcome> {
        let intent = &attempt.intent;
        let Some(request) = self.0.operation(intent) else {
            let reason = "its secret part was kept in memory and is gone; ask again".to_owned();
            return Performed::NotDone { reason };
        };
        self.0.ask_operation(intent, Some(&intent.request), &request).await
    }

    async fn resolve(&self, attempt: &Attempt<OperationRequested>) -> Performed<OperationOutcome> {
        let intent = &attempt.intent;
        let bare = CentralRequest::Operation(intent.operation.clone());
        if let Some(called) = self.0.registry.late_answer(&intent.request, &bare)
            && let known @ Performed::Done(_) = outcome(called)
        {
            return known;
        }
        let Ok(station) = self.0.stations.load(&intent.station).await else {
            return doubt("the station cannot be loaded");
        };
        if station.state.proves(intent) {
            return Performed::Done(StationAnswer::Accepted.into());
        }
        if Timestamp::now() < intent.until && intent.operation.is_repeatable() {
            let Some(request) = self.0.operation(intent) else {
                return doubt("its secret part is gone, so it cannot be asked for again");
            };
            return self.0.ask_operation(intent, None, &request).await;
        }
        if Timestamp::now() >= intent.until && intent.operation.is_question() {
            let reason = "no answer came in its time".to_owned();
            return Performed::NotDone { reason };
        }
        doubt("the station did not say whether it has done it; look, and say so")
    }

    fn report(
        &self,
        attempt: &Attempt<OperationRequested>,
        conclusion: &Conclusion<OperationOutcome>,
    ) -> Option<(String, StationCommand)> {
        let OperationRequested { station, request, .. } = &attempt.intent;
        self.0.secrets.forget(request);
        let (answer, result) = match conclusion {
            Conclusion::Done(outcome) => (outcome.answer.clone(), outcome.result.clone()),
            Conclusion::NotDone { reason } => {
                (StationAnswer::NotDone { reason: reason.clone() }, None)
            }
        };
        let (request, at) = (request.clone(), Timestamp::now());
        let answered = OperationAnswered { request, at, answer, result };
        Some((station.clone(), StationCommand::ConcludeOperation(Box::new(answered))))
    }
}

impl Csms {
    /// Returns the request with its secret; `None` if that is gone.
    fn operation(&self, intent: &OperationRequested) -> Option<CentralRequest> {
        let operation = intent.operation.clone();
        if !intent.has_secret {
            return Some(CentralRequest::Operation(operation));
        }
        let secret = self.secrets.find(&intent.request)?;
        Some(CentralRequest::Operation(operation.with_secret(secret.reveal())))
    }

    async fn ask_operation(
        &self,
        intent: &OperationRequested,
        name: Option<&RequestId>,
        request: &CentralRequest,
    ) -> Performed<OperationOutcome> {
        match self.called(&intent.station, name, request, intent.until).await {
            Ok(called) => outcome(called),
            Err(reason) => Performed::NotDone { reason },
        }
    }
}

/// Turns the result of a call into the result of an attempt.
fn outcome(called: Called) -> Performed<OperationOutcome> {
    match called {
        Called::Answered(StationConfirmation::Operation(reply)) => {
            let OperationReply { answer, result, response } = reply;
            Performed::Done(OperationOutcome { answer, result, response })
        }
        Called::Answered(other) => {
            doubt(&format!("the answer is one to another request: {other:?}"))
        }
        Called::Refused(error) => {
            let response = serde_json::json!({
                "errorCode": error.code.as_str(),
                "errorDescription": error.description,
            });
            let answer = StationAnswer::Rejected { status: error.code.as_str().to_owned() };
            Performed::Done(OperationOutcome { answer, result: None, response: Some(response) })
        }
        Called::NotSent(reason) => Performed::NotDone { reason: reason.to_owned() },
        Called::Unknown(reason) => doubt(reason),
    }
}
