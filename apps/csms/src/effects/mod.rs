//! Requests to stations, after the commit: each request is an event first, and its answer is an
//! event too. A request that may have reached a station is never repeated blindly.
//!
//! - `remote_start`, `remote_stop`, `unlock`, `reservation`: an effect for each request, with what
//!   proves that a request in doubt took place, or did not
//! - `operation`: one effect for all other operations
//! - `fault`: where tests have the process end
//!
//! This file has what they share: the call, and what its answer means.

mod fault;
mod operation;
mod remote_start;
mod remote_stop;
mod reservation;
mod unlock;

use std::sync::Arc;
use std::time::Duration;

use leftfold::prelude::{Runtime, Timestamp};
use leftfold::runtime::{Conclusion, Performed, Policy};

pub(crate) use fault::FaultPoint;
use operation::AskForOperation;
pub(crate) use operation::{OPERATION, OperationOutcome};
use remote_start::RemoteStartTransaction;
use remote_stop::RemoteStopTransaction;
use reservation::{CancelReservation, ReserveNow};
use unlock::UnlockConnector;

use crate::app::Csms;
use crate::connections::Called;
use crate::domain::request::{RequestAnswered, RequestId, StationAnswer};
use crate::ocpp::v16::{
    CancelReservationStatus, CentralRequest, RemoteStartStopStatus, ReservationStatus,
    StationConfirmation, UnlockStatus,
};

/// Has a runtime send the requests to the stations.
pub(crate) fn register(runtime: Runtime, csms: &Arc<Csms>) -> Runtime {
    if FaultPoint::BeforeAttempt.is_set() {
        return runtime;
    }
    runtime
        .effect(RemoteStartTransaction(csms.clone()))
        .effect(RemoteStopTransaction(csms.clone()))
        .effect(UnlockConnector(csms.clone()))
        .effect(ReserveNow(csms.clone()))
        .effect(CancelReservation(csms.clone()))
        .effect(AskForOperation(csms.clone()))
}

impl Csms {
    /// An attempt may wait for the station to come back, and then for its answer.
    fn once(&self) -> Policy {
        let deadline = 2 * self.config.call_timeout + Duration::from_secs(1);
        let policy = Policy::once()
            .deadline(deadline)
            .backoff(Duration::from_secs(2), Duration::from_secs(300))
            .concurrency(256);
        match self.config.shares_store() {
            // A station that is moving from one server to another is about to come.
            true => policy.only_here(2 * self.config.call_timeout),
            false => policy,
        }
    }

    /// Asks a station for something, unless its time is over.
    async fn ask(
        &self,
        station: &str,
        name: &RequestId,
        request: &CentralRequest,
        until: Timestamp,
    ) -> Performed<StationAnswer> {
        match self.called(station, Some(name), request, until).await {
            Ok(called) => performed(called),
            Err(reason) => Performed::NotDone { reason },
        }
    }

    /// Calls a station, unless the time for that is over.
    async fn called(
        &self,
        station: &str,
        name: Option<&RequestId>,
        request: &CentralRequest,
        until: Timestamp,
    ) -> Result<Called, String> {
        // After a restart, or a broken line, the station is about to come back.
        let left = until.since(Timestamp::now());
        self.registry.wait_for(station, self.config.call_timeout.min(left)).await;
        if Timestamp::now() >= until {
            return Err("its time was over before it could be sent".to_owned());
        }
        Ok(self.registry.call(station, name, request, self.config.call_timeout).await)
    }

    /// Returns the result of an answer that came after its call was given up; `None` if there is no
    /// such answer, or if it does not settle the request.
    fn late(&self, name: &RequestId, request: &CentralRequest) -> Option<Performed<StationAnswer>> {
        let performed = performed(self.registry.late_answer(name, request)?);
        matches!(performed, Performed::Done(_)).then_some(performed)
    }
}

fn doubt<O>(reason: &str) -> Performed<O> {
    Performed::InDoubt { reason: reason.to_owned() }
}

fn answered(request: &RequestId, conclusion: &Conclusion<StationAnswer>) -> RequestAnswered {
    let answer = match conclusion {
        Conclusion::Done(answer) => answer.clone(),
        Conclusion::NotDone { reason } => StationAnswer::NotDone { reason: reason.clone() },
    };
    RequestAnswered { request: request.clone(), answer }
}

/// Turns the result of a call into the result of an attempt.
fn performed(called: Called) -> Performed<StationAnswer> {
    let rejected =
        |status: &str| Performed::Done(StationAnswer::Rejected { status: status.to_owned() });
    match called {
        Called::Answered(
            StationConfirmation::RemoteStartTransaction(RemoteStartStopStatus::Accepted)
            | StationConfirmation::RemoteStopTransaction(RemoteStartStopStatus::Accepted)
            | StationConfirmation::UnlockConnector(UnlockStatus::Unlocked)
            | StationConfirmation::ReserveNow(ReservationStatus::Accepted)
            | StationConfirmation::CancelReservation(CancelReservationStatus::Accepted),
        ) => Performed::Done(StationAnswer::Accepted),
        Called::Answered(
            StationConfirmation::RemoteStartTransaction(status)
            | StationConfirmation::RemoteStopTransaction(status),
        ) => rejected(status.as_str()),
        Called::Answered(StationConfirmation::UnlockConnector(status)) => rejected(status.as_str()),
        Called::Answered(StationConfirmation::ReserveNow(status)) => rejected(status.as_str()),
        Called::Answered(StationConfirmation::CancelReservation(status)) => {
            rejected(status.as_str())
        }
        Called::Answered(StationConfirmation::TriggerMessage(status)) => rejected(status.as_str()),
        Called::Answered(StationConfirmation::Operation(reply)) => Performed::Done(reply.answer),
        Called::Refused(error) => rejected(error.code.as_str()),
        Called::NotSent(reason) => Performed::NotDone { reason: reason.to_owned() },
        Called::Unknown(reason) => doubt(reason),
    }
}
