//! What is asked of a station: remote starts and stops, unlocking, and what keeps a connector.

use leftfold::prelude::{Aggregate, Timestamp};

use super::{
    OnBehalf, REMOTE_STARTS_MAX, RemoteStop, Station, StationCommand, StationEvent, StationRefusal,
};
use crate::domain::connector::Connector;
use crate::domain::request::{
    RemoteStart, RemoteStartRequested, RemoteStopRequested, RequestAnswered, RequestId,
    Reservation, StationAnswer, UnlockRequested,
};
use crate::ocpp::v16::{
    AuthorizationStatus, ChargePointStatus, IdToken, RegistrationStatus, TransactionId,
};

/// The folds.
impl Station {
    pub(super) fn remote_start_requested(&mut self, asked: &RemoteStartRequested) {
        self.forget_finished_remote_starts(asked.requested_at);
        self.remote_starts.push(RemoteStart {
            asked: asked.clone(),
            accepted: false,
            transaction: None,
        });
    }

    pub(super) fn remote_stop_requested(&mut self, asked: &RemoteStopRequested) {
        if let Some(transaction) = self.transactions.get_mut(&asked.transaction_id.value()) {
            transaction.stop_requested = Some((asked.request.clone(), asked.until));
        }
    }

    pub(super) fn remote_stop_answered(&mut self, answered: &RequestAnswered) {
        for transaction in self.transactions.values_mut() {
            transaction.stop_requested.take_if(|(request, _)| *request == answered.request);
        }
    }

    pub(super) fn remote_start_answered(&mut self, answered: &RequestAnswered) {
        let this = |start: &RemoteStart| start.asked.request == answered.request;
        match answered.answer {
            StationAnswer::Accepted => {
                self.remote_starts
                    .iter_mut()
                    .filter(|start| this(start))
                    .for_each(|start| start.accepted = true);
            }
            StationAnswer::Rejected { .. } | StationAnswer::NotDone { .. } => {
                self.remote_starts.retain(|start| !this(start))
            }
        }
    }

    /// Forgets remote starts that are finished. Kept are those that still keep a connector, those
    /// that led to a transaction before the station's answer was recorded, and those that were
    /// accepted without a transaction, until it is recorded that they were in vain. The oldest are
    /// forgotten to make room for one more.
    pub(super) fn forget_finished_remote_starts(&mut self, now: Timestamp) {
        let is_of_use = |start: &RemoteStart| {
            let awaits_answer = start.transaction.is_some() && !start.accepted;
            start.holds(now) || awaits_answer || start.awaits_start()
        };
        self.remote_starts.retain(is_of_use);
        while self.remote_starts.len() >= REMOTE_STARTS_MAX {
            self.remote_starts.remove(0);
        }
    }
}

/// The decisions.
impl Station {
    pub(super) fn decide_limit(&self, transactions_max: Option<u32>) -> Vec<StationEvent> {
        match self.transactions_max == transactions_max {
            true => Vec::new(),
            false => vec![StationEvent::TransactionsLimited { transactions_max }],
        }
    }

    pub(super) fn decide_registration(
        &self,
        registration: Option<RegistrationStatus>,
    ) -> Vec<StationEvent> {
        match self.registration == registration {
            true => Vec::new(),
            false => vec![StationEvent::RegistrationDecided { registration }],
        }
    }

    pub(super) fn decide_remote_start(
        &self,
        asked: &RemoteStartRequested,
        authorization: AuthorizationStatus,
        parent_id_tag: Option<&IdToken>,
    ) -> Result<Vec<StationEvent>, StationRefusal> {
        self.reachable()?;
        self.accepted()?;
        if authorization != AuthorizationStatus::Accepted {
            return Err(StationRefusal::NotAuthorized { status: authorization });
        }
        if let Some(status @ (ChargePointStatus::Faulted | ChargePointStatus::Unavailable)) =
            self.own_status()
        {
            return Err(StationRefusal::StationOutOfOrder { status: status.clone() });
        }
        let claims = self.claims(asked.requested_at, |it| {
            !it.is_for(asked.id_tag.as_str(), parent_id_tag.map(IdToken::as_str))
        });
        if let Some(profile) = &asked.charging_profile {
            let connector_id = asked.connector_id.map_or(1, std::num::NonZeroU32::get);
            self.operations
                .check_own_profile(connector_id, profile)
                .map_err(StationRefusal::Operation)?;
        }
        match asked.connector_id {
            Some(connector_id) => self.free(connector_id.get(), &claims)?,
            None => self.any_free(&claims)?,
        }
        self.within_limit(&claims)?;
        if claims.starts.len() >= REMOTE_STARTS_MAX {
            return Err(StationRefusal::TooManyRequests);
        }
        Ok(vec![StationEvent::RemoteStartRequested(asked.clone())])
    }

    pub(super) fn decide_remote_stop(
        &self,
        wanted: &RemoteStop,
    ) -> Result<Vec<StationEvent>, StationRefusal> {
        let RemoteStop { station, request, transaction_id, on_behalf, now, until } = wanted;
        self.reachable()?;
        self.accepted()?;
        let transaction = self.transactions.get(transaction_id);
        let transaction =
            transaction.ok_or(StationRefusal::NotRunning { transaction_id: *transaction_id })?;
        let transaction_id = transaction.id;
        if let Some(OnBehalf { id_tag, parent_id_tag }) = on_behalf
            && !transaction.may_be_stopped_by(id_tag, parent_id_tag.as_deref())
        {
            return Err(StationRefusal::ForeignTag { transaction_id });
        }
        if transaction.stop_requested.as_ref().is_some_and(|(_, until)| now < until) {
            return Err(StationRefusal::BeingStopped { transaction_id });
        }
        let (station, request, until) = (station.clone(), request.clone(), *until);
        Ok(vec![StationEvent::RemoteStopRequested(RemoteStopRequested {
            station,
            request,
            transaction_id,
            reported_id: transaction.reported_id,
            until,
        })])
    }

    /// Decides on a request that is sent whatever speaks against it: laboratories want to see what
    /// a station says.
    pub(super) fn decide_forced(
        &self,
        command: &StationCommand,
    ) -> Result<Vec<StationEvent>, StationRefusal> {
        if !self.known {
            return Err(StationRefusal::Unknown);
        }
        Ok(vec![match command {
            StationCommand::RemoteStart { asked, .. } => {
                StationEvent::RemoteStartRequested(asked.clone())
            }
            StationCommand::RemoteStop(wanted) => {
                let RemoteStop { station, request, transaction_id, until, .. } = wanted.clone();
                let transaction_id = TransactionId::new(transaction_id)
                    .map_err(|_| StationRefusal::NotRunning { transaction_id })?;
                let reported_id = self
                    .transactions
                    .get(&transaction_id.value())
                    .and_then(|transaction| transaction.reported_id);
                StationEvent::RemoteStopRequested(RemoteStopRequested {
                    station,
                    request,
                    transaction_id,
                    reported_id,
                    until,
                })
            }
            StationCommand::Unlock(asked) => StationEvent::UnlockRequested(asked.clone()),
            StationCommand::Reserve { asked, .. } => self.reserved_next(asked),
            StationCommand::CancelReservation(asked) => {
                StationEvent::ReservationCancelRequested(asked.clone())
            }
            command => return self.decide(command),
        }])
    }

    pub(super) fn decide_unlock(
        &self,
        asked: &UnlockRequested,
    ) -> Result<Vec<StationEvent>, StationRefusal> {
        self.reachable()?;
        if !self.connectors.contains_key(&asked.connector_id.get()) {
            return Err(StationRefusal::UnknownConnector {
                connector_id: asked.connector_id.get(),
            });
        }
        Ok(vec![StationEvent::UnlockRequested(asked.clone())])
    }

    /// Returns the status that the station was told when it started last.
    #[must_use]
    pub(crate) fn told(&self) -> RegistrationStatus {
        let told = self.booted.as_ref().and_then(|booted| booted.registration);
        told.unwrap_or(RegistrationStatus::Accepted)
    }

    /// Checks that the station was told that it is accepted: until then it may not be asked to
    /// start or stop anything (OCPP 1.6 section 4.2).
    pub(super) fn accepted(&self) -> Result<(), StationRefusal> {
        match self.told() {
            RegistrationStatus::Accepted => Ok(()),
            registration => Err(StationRefusal::NotAccepted { registration }),
        }
    }

    pub(super) fn reachable(&self) -> Result<(), StationRefusal> {
        match (self.known, self.online) {
            (false, _) => Err(StationRefusal::Unknown),
            (true, false) => Err(StationRefusal::Offline),
            (true, true) if self.told() == RegistrationStatus::Rejected => self.accepted(),
            (true, true) => Ok(()),
        }
    }

    /// Returns the status of the station as a whole; `None` if it never reported one.
    #[must_use]
    pub(crate) fn own_status(&self) -> Option<&ChargePointStatus> {
        self.connectors.get(&0).and_then(Connector::status)
    }

    /// Returns the claims on connectors now: remote starts, and the reservations that are in the
    /// way.
    pub(super) fn claims(
        &self,
        now: Timestamp,
        in_the_way: impl Fn(&Reservation) -> bool,
    ) -> ConnectorClaims<'_> {
        ConnectorClaims {
            starts: self.remote_starts.iter().filter(|start| start.holds(now)).collect(),
            reservations: self
                .reservations
                .values()
                .filter(|it| it.holds(now) && in_the_way(it))
                .collect(),
        }
    }

    pub(super) fn within_limit(&self, claims: &ConnectorClaims<'_>) -> Result<(), StationRefusal> {
        let Some(transactions_max) = self.transactions_max else { return Ok(()) };
        let running = self.transactions.values().filter(|it| it.is_running()).count();
        if running + claims.starts.len() + claims.reservations.len() >= transactions_max as usize {
            return Err(StationRefusal::LimitReached { transactions_max });
        }
        Ok(())
    }

    pub(super) fn free(
        &self,
        connector_id: u32,
        claims: &ConnectorClaims<'_>,
    ) -> Result<(), StationRefusal> {
        let connector = self
            .connectors
            .get(&connector_id)
            .ok_or(StationRefusal::UnknownConnector { connector_id })?;
        if let Some(status @ (ChargePointStatus::Faulted | ChargePointStatus::Unavailable)) =
            connector.status()
        {
            return Err(StationRefusal::OutOfOrder { connector_id, status: status.clone() });
        }
        if let Some(reservation) =
            claims.reservations.iter().find(|it| it.asked.connector_id.get() == connector_id)
        {
            return Err(StationRefusal::Reserved {
                connector_id,
                until: reservation.asked.expiry_date,
            });
        }
        let claim = claims.starts.iter().find(|start| {
            start.asked.connector_id.is_some_and(|claimed| claimed.get() == connector_id)
        });
        if let Some(claim) = claim {
            return Err(StationRefusal::Claimed { connector_id, until: claim.asked.until });
        }
        if connector.is_occupied() {
            return Err(StationRefusal::Occupied { connector_id });
        }
        // Claims that name no connector take any: one of those that are left must remain for each.
        self.any_free(claims).map_err(|_| StationRefusal::Occupied { connector_id })
    }

    fn any_free(&self, claims: &ConnectorClaims<'_>) -> Result<(), StationRefusal> {
        let started = |number: u32| {
            claims
                .starts
                .iter()
                .any(|start| start.asked.connector_id.is_some_and(|id| id.get() == number))
        };
        let named = |number: u32| {
            started(number)
                || claims.reservations.iter().any(|it| it.asked.connector_id.get() == number)
        };
        let unnamed =
            claims.starts.iter().filter(|start| start.asked.connector_id.is_none()).count();
        let usable = |connector: &Connector| {
            let out_of_order = matches!(
                connector.status(),
                Some(ChargePointStatus::Faulted | ChargePointStatus::Unavailable)
            );
            !out_of_order && !connector.is_occupied()
        };
        let free = self
            .connectors
            .iter()
            .filter(|(id, connector)| **id > 0 && usable(connector) && !named(**id))
            .count();
        if free > unnamed { Ok(()) } else { Err(StationRefusal::NoFreeConnector) }
    }

    /// Returns the remote start that keeps a connector now.
    #[must_use]
    pub(crate) fn claim_on(&self, connector_id: u32, now: Timestamp) -> Option<&RemoteStart> {
        let names_it = |start: &&RemoteStart| {
            start.asked.connector_id.is_some_and(|named| named.get() == connector_id)
        };
        self.remote_starts.iter().filter(names_it).find(|start| start.holds(now))
    }

    /// Returns a remote start that is under way, or that led to a transaction.
    #[must_use]
    pub(crate) fn remote_start(&self, request: &RequestId) -> Option<&RemoteStart> {
        self.remote_starts.iter().find(|start| start.asked.request == *request)
    }

    /// Returns the transaction that a remote start led to.
    #[must_use]
    pub(crate) fn result_of(&self, request: &RequestId) -> Option<TransactionId> {
        let open = self
            .transactions
            .values()
            .find(|transaction| transaction.remote_start.as_ref() == Some(request));
        open.map(|transaction| transaction.id).or_else(|| self.remote_start(request)?.transaction)
    }
}

/// Claims on connectors.
pub(super) struct ConnectorClaims<'a> {
    starts: Vec<&'a RemoteStart>,
    pub(super) reservations: Vec<&'a Reservation>,
}
