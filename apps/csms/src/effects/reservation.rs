//! A reservation, and its cancellation.

use std::sync::Arc;

use leftfold::prelude::Timestamp;
use leftfold::runtime::{Attempt, Conclusion, Effect, Performed, Policy};

use super::{answered, doubt};
use crate::app::Csms;
use crate::domain::request::{ReservationCancelRequested, ReservationRequested, StationAnswer};
use crate::domain::station::{Station, StationCommand};
use crate::ocpp::v16::{CentralRequest, ChargePointStatus};

/// Keeps a connector for a driver.
pub(super) struct ReserveNow(pub(super) Arc<Csms>);

/// Takes a reservation back.
pub(super) struct CancelReservation(pub(super) Arc<Csms>);

impl Effect for ReserveNow {
    const NAME: &'static str = "reserve";
    const INTENT: &'static str = "station.ReservationRequested";
    type Intent = ReservationRequested;
    type Outcome = StationAnswer;
    type Target = Station;

    fn policy(&self) -> Policy {
        self.0.once()
    }

    fn is_here(&self, intent: &ReservationRequested) -> bool {
        self.0.registry.is_connected(&intent.station)
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

    fn is_here(&self, intent: &ReservationCancelRequested) -> bool {
        self.0.registry.is_connected(&intent.station)
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
