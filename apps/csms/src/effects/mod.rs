//! Requests to stations, after the commit: each request is an event first, and its answer is an
//! event too.
//!
//! A request that may have reached a station is never repeated blindly. A remote start whose answer
//! was lost is in doubt: the proof that it took place is a transaction with its tag, on its
//! connector, in its time; the proof that it did not is a station that reports the connector as
//! available after that time. One gap remains: a station that started and stopped a transaction
//! while it was cut off, and reports its connector before its queued messages. Its transaction is
//! recorded all the same, without the reference to the remote start.

mod fault;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use leftfold::prelude::Timestamp;
use leftfold::runtime::{Attempt, Conclusion, Effect, Performed, Policy};
use tokio::time::timeout;

pub(crate) use fault::Fault;

use crate::Csms;
use crate::connections::Called;
use crate::domain::request::{
    Answered, RemoteStartRequested, RemoteStopRequested, RequestId, ReservationCancelRequested,
    ReservationRequested, StationAnswer, UnlockRequested,
};
use crate::domain::station::{Station, StationCommand};
use crate::ocpp::v16::{
    Answer, CancelReservationStatus, CentralRequest, ChargePointStatus, MessageTrigger,
    RemoteStartStopStatus, ReservationStatus, TriggerMessageStatus, UnlockStatus,
};

/// Time that a station may take to send a report after it agreed to send it.
const REPORT_WITHIN: Duration = Duration::from_secs(10);

/// Starts a transaction remotely.
pub struct RemoteStart(pub Arc<Csms>);

/// Stops a transaction remotely.
pub struct RemoteStop(pub Arc<Csms>);

/// Unlocks a connector.
pub struct Unlock(pub Arc<Csms>);

// ANCHOR: remote-start
impl Effect for RemoteStart {
    const NAME: &'static str = "remote-start";
    const INTENT: &'static str = "station.RemoteStartRequested";
    type Intent = RemoteStartRequested;
    type Outcome = StationAnswer;
    type Target = Station;

    fn policy(&self) -> Policy {
        self.0.once()
    }

    async fn perform(&self, attempt: &Attempt<RemoteStartRequested>) -> Performed<StationAnswer> {
        let RemoteStartRequested { station, request, until, .. } = &attempt.intent;
        self.0.ask(station, request, &remote_start(&attempt.intent), *until).await
    }

    async fn resolve(&self, attempt: &Attempt<RemoteStartRequested>) -> Performed<StationAnswer> {
        let intent = &attempt.intent;
        if let Some(known) = self.0.late(&intent.request, &remote_start(intent)) {
            return known;
        }
        match self.0.started(intent).await {
            Some(performed) => performed,
            None => self.0.look(intent).await,
        }
    }

    fn report(
        &self,
        attempt: &Attempt<RemoteStartRequested>,
        conclusion: &Conclusion<StationAnswer>,
    ) -> Option<(String, StationCommand)> {
        let RemoteStartRequested { station, request, .. } = &attempt.intent;
        Some((station.clone(), StationCommand::ConcludeRemoteStart(answered(request, conclusion))))
    }
}
// ANCHOR_END: remote-start

impl Effect for RemoteStop {
    const NAME: &'static str = "remote-stop";
    const INTENT: &'static str = "station.RemoteStopRequested";
    type Intent = RemoteStopRequested;
    type Outcome = StationAnswer;
    type Target = Station;

    fn policy(&self) -> Policy {
        self.0.once()
    }

    async fn perform(&self, attempt: &Attempt<RemoteStopRequested>) -> Performed<StationAnswer> {
        let RemoteStopRequested { station, request, until, .. } = &attempt.intent;
        self.0.ask(station, request, &remote_stop(&attempt.intent), *until).await
    }

    /// A transaction that has stopped is the proof. While it runs the station has not heard, or is
    /// about to stop.
    async fn resolve(&self, attempt: &Attempt<RemoteStopRequested>) -> Performed<StationAnswer> {
        let intent = &attempt.intent;
        if let Some(known) = self.0.late(&intent.request, &remote_stop(intent)) {
            return known;
        }
        let Ok(station) = self.0.stations.load(&intent.station).await else {
            return doubt("the station cannot be loaded");
        };
        if station.state.transactions.contains_key(&intent.transaction_id.value()) {
            return doubt(
                "the transaction has not stopped, and the station did not say whether it will",
            );
        }
        Performed::Done(StationAnswer::Accepted)
    }

    fn report(
        &self,
        attempt: &Attempt<RemoteStopRequested>,
        conclusion: &Conclusion<StationAnswer>,
    ) -> Option<(String, StationCommand)> {
        let RemoteStopRequested { station, request, .. } = &attempt.intent;
        Some((station.clone(), StationCommand::ConcludeRemoteStop(answered(request, conclusion))))
    }
}

impl Effect for Unlock {
    const NAME: &'static str = "unlock";
    const INTENT: &'static str = "station.UnlockRequested";
    type Intent = UnlockRequested;
    type Outcome = StationAnswer;
    type Target = Station;

    fn policy(&self) -> Policy {
        self.0.once()
    }

    async fn perform(&self, attempt: &Attempt<UnlockRequested>) -> Performed<StationAnswer> {
        let UnlockRequested { station, request, connector_id, until } = &attempt.intent;
        self.0
            .ask(
                station,
                request,
                &CentralRequest::UnlockConnector { connector_id: *connector_id },
                *until,
            )
            .await
    }

    /// A station does not tell whether a connector is unlocked: only a late answer, or a person,
    /// can say.
    async fn resolve(&self, attempt: &Attempt<UnlockRequested>) -> Performed<StationAnswer> {
        let UnlockRequested { request, connector_id, .. } = &attempt.intent;
        let late =
            self.0.late(request, &CentralRequest::UnlockConnector { connector_id: *connector_id });
        late.unwrap_or_else(|| {
            doubt("a station does not tell whether a connector is unlocked; look, and say so")
        })
    }

    fn report(
        &self,
        attempt: &Attempt<UnlockRequested>,
        conclusion: &Conclusion<StationAnswer>,
    ) -> Option<(String, StationCommand)> {
        let UnlockRequested { station, request, .. } = &attempt.intent;
        Some((station.clone(), StationCommand::ConcludeUnlock(answered(request, conclusion))))
    }
}

/// Keeps a connector for a driver.
pub struct Reserve(pub Arc<Csms>);

/// Takes a reservation back.
pub struct CancelReservation(pub Arc<Csms>);

impl Effect for Reserve {
    const NAME: &'static str = "reserve";
    const INTENT: &'static str = "station.ReservationRequested";
    type Intent = ReservationRequested;
    type Outcome = StationAnswer;
    type Target = Station;

    fn policy(&self) -> Policy {
        self.0.once()
    }

    async fn perform(&self, attempt: &Attempt<ReservationRequested>) -> Performed<StationAnswer> {
        let ReservationRequested { station, request, until, .. } = &attempt.intent;
        self.0.ask(station, request, &reserve_now(&attempt.intent), *until).await
    }

    /// A connector that is reported as reserved is the proof. After the reservation's expiry date
    /// the answer no longer matters.
    async fn resolve(&self, attempt: &Attempt<ReservationRequested>) -> Performed<StationAnswer> {
        let intent = &attempt.intent;
        if let Some(known) = self.0.late(&intent.request, &reserve_now(intent)) {
            return known;
        }
        let Ok(station) = self.0.stations.load(&intent.station).await else {
            return doubt("the station cannot be loaded");
        };
        let connector = station.state.connectors.get(&intent.connector_id.get());
        let reported = connector.and_then(|connector| connector.report.as_ref());
        if reported.is_some_and(|it| {
            it.status == ChargePointStatus::Reserved && it.received_at >= intent.requested_at
        }) {
            return Performed::Done(StationAnswer::Accepted);
        }
        if Timestamp::now() >= intent.expiry_date {
            let reason =
                "its time is over, whether the station kept the connector or not".to_owned();
            return Performed::NotDone { reason };
        }
        doubt("the station did not say whether it keeps the connector")
    }

    fn report(
        &self,
        attempt: &Attempt<ReservationRequested>,
        conclusion: &Conclusion<StationAnswer>,
    ) -> Option<(String, StationCommand)> {
        let ReservationRequested { station, request, .. } = &attempt.intent;
        Some((station.clone(), StationCommand::ConcludeReservation(answered(request, conclusion))))
    }
}

impl Effect for CancelReservation {
    const NAME: &'static str = "cancel-reservation";
    const INTENT: &'static str = "station.ReservationCancelRequested";
    type Intent = ReservationCancelRequested;
    type Outcome = StationAnswer;
    type Target = Station;

    fn policy(&self) -> Policy {
        self.0.once()
    }

    async fn perform(
        &self,
        attempt: &Attempt<ReservationCancelRequested>,
    ) -> Performed<StationAnswer> {
        let ReservationCancelRequested { station, request, reservation_id, until } =
            &attempt.intent;
        self.0
            .ask(
                station,
                request,
                &CentralRequest::CancelReservation { reservation_id: *reservation_id },
                *until,
            )
            .await
    }

    /// A reservation that was used or is over needs no cancelling.
    async fn resolve(
        &self,
        attempt: &Attempt<ReservationCancelRequested>,
    ) -> Performed<StationAnswer> {
        let ReservationCancelRequested { station, request, reservation_id, .. } = &attempt.intent;
        if let Some(known) = self
            .0
            .late(request, &CentralRequest::CancelReservation { reservation_id: *reservation_id })
        {
            return known;
        }
        let Ok(station) = self.0.stations.load(station).await else {
            return doubt("the station cannot be loaded");
        };
        if station.state.reservations.contains_key(reservation_id) {
            return doubt("the station did not say whether it still keeps the connector");
        }
        Performed::Done(StationAnswer::Accepted)
    }

    fn report(
        &self,
        attempt: &Attempt<ReservationCancelRequested>,
        conclusion: &Conclusion<StationAnswer>,
    ) -> Option<(String, StationCommand)> {
        let ReservationCancelRequested { station, request, .. } = &attempt.intent;
        Some((
            station.clone(),
            StationCommand::ConcludeCancelReservation(answered(request, conclusion)),
        ))
    }
}

fn reserve_now(intent: &ReservationRequested) -> CentralRequest {
    let expiry_date = jiff::Timestamp::from_microsecond(intent.expiry_date.as_micros())
        .unwrap_or(jiff::Timestamp::MAX);
    CentralRequest::ReserveNow {
        connector_id: intent.connector_id,
        expiry_date,
        id_tag: intent.id_tag.clone(),
        parent_id_tag: intent.parent_id_tag.clone(),
        reservation_id: intent.reservation_id,
    }
}

fn remote_start(intent: &RemoteStartRequested) -> CentralRequest {
    CentralRequest::RemoteStartTransaction {
        connector_id: intent.connector_id,
        id_tag: intent.id_tag.clone(),
    }
}

fn remote_stop(intent: &RemoteStopRequested) -> CentralRequest {
    CentralRequest::RemoteStopTransaction { transaction_id: intent.transaction_id }
}

fn doubt(reason: &str) -> Performed<StationAnswer> {
    Performed::InDoubt { reason: reason.to_owned() }
}

fn answered(request: &RequestId, conclusion: &Conclusion<StationAnswer>) -> Answered {
    let answer = match conclusion {
        Conclusion::Done(answer) => answer.clone(),
        Conclusion::NotDone { reason } => StationAnswer::NotDone { reason: reason.clone() },
    };
    Answered { request: request.clone(), answer }
}

/// Turns the result of a call into the result of an attempt.
fn performed(called: Called) -> Performed<StationAnswer> {
    let rejected =
        |status: &str| Performed::Done(StationAnswer::Rejected { status: status.to_owned() });
    match called {
        Called::Answered(
            Answer::RemoteStartTransaction(RemoteStartStopStatus::Accepted)
            | Answer::RemoteStopTransaction(RemoteStartStopStatus::Accepted)
            | Answer::UnlockConnector(UnlockStatus::Unlocked)
            | Answer::ReserveNow(ReservationStatus::Accepted)
            | Answer::CancelReservation(CancelReservationStatus::Accepted),
        ) => Performed::Done(StationAnswer::Accepted),
        Called::Answered(
            Answer::RemoteStartTransaction(status) | Answer::RemoteStopTransaction(status),
        ) => rejected(status.as_str()),
        Called::Answered(Answer::UnlockConnector(status)) => rejected(status.as_str()),
        Called::Answered(Answer::ReserveNow(status)) => rejected(status.as_str()),
        Called::Answered(Answer::CancelReservation(status)) => rejected(status.as_str()),
        Called::Answered(Answer::TriggerMessage(status)) => rejected(status.as_str()),
        Called::Refused(error) => rejected(error.code.as_str()),
        Called::NotSent(reason) => Performed::NotDone { reason: reason.to_owned() },
        Called::Unknown(reason) => doubt(reason),
    }
}

impl Csms {
    /// An attempt may wait for the station to come back, and then for its answer.
    fn once(&self) -> Policy {
        let deadline = 2 * self.config.call_timeout + Duration::from_secs(1);
        Policy::once()
            .deadline(deadline)
            .backoff(Duration::from_secs(2), Duration::from_secs(300))
            .concurrency(256)
    }

    /// Asks a station for something, unless its time is over.
    async fn ask(
        &self,
        station: &str,
        name: &RequestId,
        request: &CentralRequest,
        until: Timestamp,
    ) -> Performed<StationAnswer> {
        // After a restart, or a broken line, the station is about to come back.
        let left = until.since(Timestamp::now());
        self.registry.wait_for(station, self.config.call_timeout.min(left)).await;
        if Timestamp::now() >= until {
            let reason = "its time was over before it could be sent".to_owned();
            return Performed::NotDone { reason };
        }
        performed(self.registry.call(station, Some(name), request, self.config.call_timeout).await)
    }

    /// Returns the result of an answer that came after its call was given up; `None` if there is no
    /// such answer, or if it does not settle the request.
    fn late(&self, name: &RequestId, request: &CentralRequest) -> Option<Performed<StationAnswer>> {
        let performed = performed(self.registry.late_answer(name, request)?);
        matches!(performed, Performed::Done(_)).then_some(performed)
    }

    /// Returns the proof that a remote start took place; `None` if there is none.
    async fn started(&self, intent: &RemoteStartRequested) -> Option<Performed<StationAnswer>> {
        let Ok(station) = self.stations.load(&intent.station).await else {
            return Some(doubt("the station cannot be loaded"));
        };
        station.state.result_of(&intent.request).map(|_| Performed::Done(StationAnswer::Accepted))
    }

    // ANCHOR: look
    /// Asks the station how the connector is, and concludes from that what can be.
    async fn look(&self, intent: &RemoteStartRequested) -> Performed<StationAnswer> {
        if Timestamp::now() < intent.until {
            return doubt("a transaction may still start");
        }
        let Some(mut reports) = self.registry.reports(&intent.station) else {
            return doubt("the station is not connected");
        };
        reports.mark_unchanged();
        let request = trigger_status(intent.connector_id);
        let called =
            self.registry.call(&intent.station, None, &request, self.config.call_timeout).await;
        if called != Called::Answered(Answer::TriggerMessage(TriggerMessageStatus::Accepted)) {
            return doubt("the station does not say how its connector is");
        }
        if !matches!(
            timeout(REPORT_WITHIN.min(self.config.call_timeout), reports.changed()).await,
            Ok(Ok(()))
        ) {
            return doubt("the station did not send the report that it was asked for");
        }
        if let Some(proof) = self.started(intent).await {
            return proof;
        }
        let Ok(station) = self.stations.load(&intent.station).await else {
            return doubt("the station cannot be loaded");
        };
        let connectors = &station.state.connectors;
        let is_available = |id: u32| {
            let status = connectors.get(&id).and_then(|connector| connector.status());
            matches!(status, Some(ChargePointStatus::Available))
        };
        let all_available = match intent.connector_id {
            Some(connector_id) => is_available(connector_id.get()),
            None => connectors.keys().filter(|id| **id > 0).all(|id| is_available(*id)),
        };
        if all_available {
            let reason =
                "the station reports the connector as available, and no transaction has started"
                    .to_owned();
            return Performed::NotDone { reason };
        }
        doubt("the connector is in use, but by no transaction that was reported")
    }
    // ANCHOR_END: look
}

fn trigger_status(connector_id: Option<NonZeroU32>) -> CentralRequest {
    CentralRequest::TriggerMessage {
        requested_message: MessageTrigger::StatusNotification,
        connector_id,
    }
}
