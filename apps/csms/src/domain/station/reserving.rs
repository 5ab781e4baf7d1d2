//! Reservations, and remote starts that nobody followed.

use leftfold::prelude::Timestamp;

use super::{Station, StationEvent, StationRefusal};
use crate::domain::request::{
    RequestAnswered, RequestId, Reservation, ReservationCancelRequested, ReservationRequested,
    StationAnswer,
};
use crate::domain::transaction::TransactionStarted;
use crate::ocpp::v16::{AuthorizationStatus, ChargePointStatus};

/// Reservations of a station that can be open at a time.
pub(super) const RESERVATIONS_MAX: usize = 64;

/// The folds.
impl Station {
    pub(super) fn reservation_requested(&mut self, asked: &ReservationRequested) {
        self.reservation_last = self.reservation_last.max(asked.reservation_id);
        // Those that are over wait for that to be recorded, but not without bound.
        while self.reservations.len() >= 2 * RESERVATIONS_MAX {
            self.reservations.pop_first();
        }
        self.reservations.insert(
            asked.reservation_id,
            Reservation { asked: asked.clone(), accepted: false, cancel: None },
        );
    }

    pub(super) fn reservation_answered(&mut self, answered: &RequestAnswered) {
        match answered.answer {
            StationAnswer::Accepted => {
                let made = self
                    .reservations
                    .values_mut()
                    .filter(|it| it.asked.request == answered.request);
                made.for_each(|it| it.accepted = true);
            }
            StationAnswer::Rejected { .. } | StationAnswer::NotDone { .. } => {
                self.reservations.retain(|_, it| it.asked.request != answered.request);
            }
        }
    }

    pub(super) fn reservation_cancel_answered(&mut self, answered: &RequestAnswered) {
        let is_gone = match &answered.answer {
            StationAnswer::Accepted => true,
            // So OCPP 1.6 says that it has no such reservation.
            StationAnswer::Rejected { status } => status == "Rejected",
            StationAnswer::NotDone { .. } => false,
        };
        let is_meant = |it: &Reservation| it.cancel.as_ref() == Some(&answered.request);
        if is_gone {
            self.reservations.retain(|_, it| !is_meant(it));
        } else {
            self.reservations
                .values_mut()
                .filter(|it| is_meant(it))
                .for_each(|it| it.cancel = None);
        }
    }

    /// Ends the reservation that a transaction uses: the one that it names; if it names none, the
    /// one of its tag on its connector.
    pub(super) fn use_reservation(&mut self, started: &TransactionStarted) {
        let is_used = |id: i64, it: &Reservation| match started.reservation_id {
            Some(used) => used == id,
            None => {
                let is_for = it.is_for(&started.id_tag, started.parent_id_tag.as_deref());
                it.asked.connector_id.get() == started.connector_id
                    && it.holds(started.received_at)
                    && is_for
            }
        };
        self.reservations.retain(|id, it| !is_used(*id, it));
    }

    /// Returns the reservation that keeps a connector.
    #[must_use]
    pub(crate) fn reservation_on(&self, connector_id: u32, now: Timestamp) -> Option<&Reservation> {
        self.reservations
            .values()
            .find(|it| it.asked.connector_id.get() == connector_id && it.holds(now))
    }
}

/// The decisions.
impl Station {
    pub(super) fn decide_lapse(&self, request: &RequestId, at: Timestamp) -> Vec<StationEvent> {
        match self.remote_start(request) {
            Some(start) if start.awaits_start() => {
                vec![StationEvent::RemoteStartLapsed { request: request.clone(), at }]
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn decide_reserve(
        &self,
        asked: &ReservationRequested,
        authorization: AuthorizationStatus,
    ) -> Result<Vec<StationEvent>, StationRefusal> {
        self.reachable()?;
        if authorization != AuthorizationStatus::Accepted {
            return Err(StationRefusal::NotAuthorized { status: authorization });
        }
        if asked.expiry_date <= asked.requested_at {
            return Err(StationRefusal::ExpiryOver);
        }
        if let Some(status @ (ChargePointStatus::Faulted | ChargePointStatus::Unavailable)) =
            self.own_status()
        {
            return Err(StationRefusal::StationOutOfOrder { status: status.clone() });
        }
        let claims = self.claims(asked.requested_at, |_| true);
        self.free(asked.connector_id.get(), &claims)?;
        self.within_limit(&claims)?;
        if claims.reservations.len() >= RESERVATIONS_MAX {
            return Err(StationRefusal::TooManyRequests);
        }
        Ok(vec![self.reserved_next(asked)])
    }

    /// Returns the request under the next id of this station.
    pub(super) fn reserved_next(&self, asked: &ReservationRequested) -> StationEvent {
        let reservation_id = self.reservation_last + 1;
        StationEvent::ReservationRequested(ReservationRequested { reservation_id, ..asked.clone() })
    }

    pub(super) fn decide_cancel_reservation(
        &self,
        asked: &ReservationCancelRequested,
    ) -> Result<Vec<StationEvent>, StationRefusal> {
        self.reachable()?;
        let reservation_id = asked.reservation_id;
        let reservation = self
            .reservations
            .get(&reservation_id)
            .ok_or(StationRefusal::UnknownReservation { reservation_id })?;
        if reservation.cancel.is_some() {
            return Err(StationRefusal::TooManyRequests);
        }
        Ok(vec![StationEvent::ReservationCancelRequested(asked.clone())])
    }

    pub(super) fn decide_expiry(&self, reservation_id: i64, at: Timestamp) -> Vec<StationEvent> {
        if self.reservations.contains_key(&reservation_id) {
            return vec![StationEvent::ReservationExpired { reservation_id, at }];
        }
        Vec::new()
    }
}
