//! A charging station: its state, and the decisions about it.
//!
//! Recorded are: a boot; a report of state if it tells anything new, also out of the past; the
//! start and the stop of transactions, whatever they say; silence and the end of silence; our
//! requests and their outcomes. Heartbeats are not recorded, unless the configuration asks for it
//! (`--keep-heartbeats`), and meter values have a stream of their own.
//!
//! Reports are facts. They are never refused for what they say, and never change what a newer
//! report said.
//!
//! - `identity`: the name that a station connects by
//! - `event` and `command`: its facts, and what may be decided, with the refusals
//! - `reserving`: the part of the fold and the decisions that keep a connector for a driver

mod command;
mod event;
mod identity;
mod reserving;

pub(crate) use command::{OnBehalf, RemoteStop, StationCommand, StationRefusal};
pub(crate) use event::{Booted, OfflineReason, StationEvent};
pub(crate) use identity::is_identity;

use std::collections::BTreeMap;

use leftfold::prelude::{Aggregate, SnapshotPolicy, Timestamp};
use serde::{Deserialize, Serialize};

use super::connector::{Connector, StatusChanged};
use super::request::{
    RemoteStart, RemoteStartRequested, RemoteStopRequested, RequestAnswered, RequestId,
    Reservation, StationAnswer, UnlockRequested,
};
use super::server::ServerId;
use super::transaction::{Transaction, TransactionStarted, TransactionStopped};
use crate::ocpp::v16::{AuthorizationStatus, ChargePointStatus, IdToken, TransactionId};

/// Connectors of a station that are kept at most.
pub(crate) const CONNECTORS_MAX: usize = 128;
/// Open transactions of a station that are kept at most; beyond that the oldest superseded one is
/// forgotten here.
pub(crate) const OPEN_TRANSACTIONS_MAX: usize = 256;
/// Remote starts of a station that can be under way at a time.
pub(crate) const REMOTE_STARTS_MAX: usize = 64;

/// A charging station.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Station {
    /// True if any event of the station is recorded.
    pub(crate) known: bool,
    /// True if an operator has registered the station.
    pub(crate) registered: bool,
    /// True if the station is online: it can be counted on.
    pub(crate) online: bool,
    /// Moment of the last change of `online`; `None` if it never changed.
    pub(crate) online_changed_at: Option<Timestamp>,
    /// Server that hears it, or heard it last; `None` if it is not known.
    #[serde(default)]
    pub(crate) heard_by: Option<ServerId>,
    /// Data that the station sent when it started last; `None` if it never did.
    pub(crate) booted: Option<Booted>,
    /// Limit of transactions at a time; `None` for as many as it has connectors.
    pub(crate) transactions_max: Option<u32>,
    /// Its connectors by number; 0 is the station itself.
    pub(crate) connectors: BTreeMap<u32, Connector>,
    /// Its transactions that have not stopped.
    pub(crate) transactions: BTreeMap<i64, Transaction>,
    /// Remote starts that keep a connector, that await the station's answer, or that await their
    /// transaction.
    pub(crate) remote_starts: Vec<RemoteStart>,
    /// Connectors that are kept for drivers, by the ids of their reservations.
    #[serde(default)]
    pub(crate) reservations: BTreeMap<i64, Reservation>,
    /// Id of the last reservation that was requested; 0 before the first.
    #[serde(default)]
    pub(crate) reservation_last: i64,
}

impl Aggregate for Station {
    const CATEGORY: &'static str = "station";
    const FOLD_VERSION: u32 = 3;
    type Event = StationEvent;
    type Command = StationCommand;
    type Refusal = StationRefusal;

    fn snapshots() -> SnapshotPolicy {
        SnapshotPolicy::every_events(500)
    }

    fn apply(&mut self, event: &StationEvent) {
        self.known = true;
        match event {
            StationEvent::Registered => self.registered = true,
            StationEvent::TransactionsLimited { transactions_max } => {
                self.transactions_max = *transactions_max
            }
            StationEvent::Booted(booted) => {
                self.booted = Some(booted.clone());
                self.connectors.values_mut().for_each(Connector::booted);
            }
            StationEvent::CameOnline { at, server } => {
                if !self.online {
                    (self.online, self.online_changed_at) = (true, Some(*at));
                }
                self.heard_by = *server;
            }
            StationEvent::WentOffline { at, .. } => {
                (self.online, self.online_changed_at) = (false, Some(*at))
            }
            StationEvent::HeartbeatReceived { .. } => {}
            StationEvent::StatusChanged(report) => {
                self.connectors.entry(report.connector_id).or_default().changed(report);
            }
            StationEvent::TransactionStarted(started) => self.started(started),
            StationEvent::TransactionStopped(stopped) => self.stopped(stopped),
            StationEvent::UnmatchedStopReported(_) => {}
            StationEvent::RemoteStartRequested(asked) => self.remote_start_requested(asked),
            StationEvent::RemoteStartAnswered(answered) => self.remote_start_answered(answered),
            StationEvent::RemoteStopRequested(asked) => {
                if let Some(transaction) = self.transactions.get_mut(&asked.transaction_id.value())
                {
                    transaction.stop_requested = Some((asked.request.clone(), asked.until));
                }
            }
            StationEvent::RemoteStopAnswered(answered) => {
                for transaction in self.transactions.values_mut() {
                    transaction.stop_requested.take_if(|(request, _)| *request == answered.request);
                }
            }
            StationEvent::RemoteStartLapsed { request, .. } => {
                self.remote_starts.retain(|start| start.asked.request != *request);
            }
            StationEvent::ReservationRequested(asked) => self.reservation_requested(asked),
            StationEvent::ReservationAnswered(answered) => self.reservation_answered(answered),
            StationEvent::ReservationCancelAnswered(answered) => {
                self.reservation_cancel_answered(answered)
            }
            StationEvent::ReservationExpired { reservation_id, .. } => {
                _ = self.reservations.remove(reservation_id)
            }
            StationEvent::ReservationCancelRequested(asked) => {
                if let Some(reservation) = self.reservations.get_mut(&asked.reservation_id) {
                    reservation.cancel = Some(asked.request.clone());
                }
            }
            StationEvent::UnlockRequested(_) | StationEvent::UnlockAnswered(_) => {}
        }
    }

    fn decide(&self, command: &StationCommand) -> Result<Vec<StationEvent>, StationRefusal> {
        match command {
            StationCommand::Register if self.registered => Ok(Vec::new()),
            StationCommand::Register => Ok(vec![StationEvent::Registered]),
            StationCommand::LimitTransactions { transactions_max }
                if self.transactions_max == *transactions_max =>
            {
                Ok(Vec::new())
            }
            StationCommand::LimitTransactions { transactions_max } => {
                Ok(vec![StationEvent::TransactionsLimited { transactions_max: *transactions_max }])
            }
            StationCommand::Boot(booted) => Ok(vec![StationEvent::Booted(booted.clone())]),
            StationCommand::MarkConnected { server, .. }
                if self.online && self.heard_by == Some(*server) =>
            {
                Ok(Vec::new())
            }
            StationCommand::MarkOnline { .. } if self.online => Ok(Vec::new()),
            StationCommand::MarkConnected { at, server }
            | StationCommand::MarkOnline { at, server } => {
                Ok(vec![StationEvent::CameOnline { at: *at, server: Some(*server) }])
            }
            StationCommand::MarkOffline { heard_by, .. }
                if !self.online || self.heard_by != *heard_by =>
            {
                Ok(Vec::new())
            }
            StationCommand::MarkOffline { at, reason, .. } => {
                Ok(vec![StationEvent::WentOffline { at: *at, reason: *reason }])
            }
            StationCommand::ReportStatus(report) => self.decide_status(report),
            StationCommand::ReportStart(started) => Ok(self.decide_start(started)),
            StationCommand::ReportStop(stopped) => Ok(self.decide_stop(stopped)),
            StationCommand::RemoteStart { asked, authorization, parent_id_tag } => {
                self.decide_remote_start(asked, *authorization, parent_id_tag.as_ref())
            }
            StationCommand::RemoteStop(wanted) => self.decide_remote_stop(wanted),
            StationCommand::Unlock(asked) => self.decide_unlock(asked),
            StationCommand::ConcludeRemoteStart(answered) => {
                Ok(vec![StationEvent::RemoteStartAnswered(answered.clone())])
            }
            StationCommand::ConcludeRemoteStop(answered) => {
                Ok(vec![StationEvent::RemoteStopAnswered(answered.clone())])
            }
            StationCommand::ConcludeUnlock(answered) => {
                Ok(vec![StationEvent::UnlockAnswered(answered.clone())])
            }
            StationCommand::LapseRemoteStart { request, at } => Ok(self.decide_lapse(request, *at)),
            StationCommand::Reserve { asked, authorization } => {
                self.decide_reserve(asked, *authorization)
            }
            StationCommand::CancelReservation(asked) => self.decide_cancel_reservation(asked),
            StationCommand::ConcludeReservation(answered) => {
                Ok(vec![StationEvent::ReservationAnswered(answered.clone())])
            }
            StationCommand::ConcludeCancelReservation(answered) => {
                Ok(vec![StationEvent::ReservationCancelAnswered(answered.clone())])
            }
            StationCommand::ExpireReservation { reservation_id, at } => {
                Ok(self.decide_expiry(*reservation_id, *at))
            }
        }
    }
}

/// The folds.
impl Station {
    fn started(&mut self, started: &TransactionStarted) {
        if let Some(before) = self.superseded_by(started)
            && let Some(transaction) = self.transactions.get_mut(&before.value())
        {
            transaction.superseded = true;
        }
        let transaction = Transaction::from(started);
        if self.connectors.len() < CONNECTORS_MAX
            || self.connectors.contains_key(&started.connector_id)
        {
            self.connectors.entry(started.connector_id).or_default().started(&transaction);
        }
        let remote_start = self
            .remote_starts
            .iter_mut()
            .find(|start| Some(&start.asked.request) == started.remote_start.as_ref());
        if let Some(remote_start) = remote_start {
            remote_start.transaction = Some(started.transaction_id);
        }
        self.use_reservation(started);
        self.transactions.insert(started.transaction_id.value(), transaction);
        if self.transactions.len() > OPEN_TRANSACTIONS_MAX
            && let Some(oldest) =
                self.transactions.values().find(|t| t.superseded).map(|t| t.id.value())
        {
            self.transactions.remove(&oldest);
        }
        self.forget_finished_remote_starts(started.received_at);
    }

    fn stopped(&mut self, stopped: &TransactionStopped) {
        let Some(transaction) = stopped.transaction_id.and_then(|id| self.transactions.remove(&id))
        else {
            return;
        };
        if let Some(connector) = self.connectors.get_mut(&transaction.connector_id) {
            connector.stopped(transaction.id);
        }
    }

    fn remote_start_requested(&mut self, asked: &RemoteStartRequested) {
        self.forget_finished_remote_starts(asked.requested_at);
        self.remote_starts.push(RemoteStart {
            asked: asked.clone(),
            accepted: false,
            transaction: None,
        });
    }

    fn remote_start_answered(&mut self, answered: &RequestAnswered) {
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
    fn forget_finished_remote_starts(&mut self, now: Timestamp) {
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

/// The reports.
impl Station {
    fn decide_status(&self, report: &StatusChanged) -> Result<Vec<StationEvent>, StationRefusal> {
        match self.connectors.get(&report.connector_id) {
            Some(connector) if !connector.is_news(report) => Ok(Vec::new()),
            None if self.connectors.len() >= CONNECTORS_MAX => {
                Err(StationRefusal::TooManyConnectors { connectors_max: CONNECTORS_MAX })
            }
            _ => Ok(vec![StationEvent::StatusChanged(report.clone())]),
        }
    }

    fn decide_start(&self, started: &TransactionStarted) -> Vec<StationEvent> {
        if self.running_as(started).is_some() {
            return Vec::new();
        }
        let led_to = |start: &&RemoteStart| {
            start.may_have_led_to(
                started.connector_id,
                &started.id_tag,
                started.timestamp,
                started.received_at,
            )
        };
        // One that named this connector is likelier than one that left the choice to the station.
        let mut candidates: Vec<_> = self.remote_starts.iter().filter(led_to).collect();
        candidates.sort_by_key(|start| start.asked.connector_id.is_none());
        let remote_start = candidates.first().map(|start| start.asked.request.clone());
        vec![StationEvent::TransactionStarted(TransactionStarted {
            remote_start,
            ..started.clone()
        })]
    }

    fn decide_stop(&self, stopped: &TransactionStopped) -> Vec<StationEvent> {
        let is_open = stopped.transaction_id.is_some_and(|id| self.transactions.contains_key(&id));
        let stopped = stopped.clone();
        vec![if is_open {
            StationEvent::TransactionStopped(stopped)
        } else {
            StationEvent::UnmatchedStopReported(stopped)
        }]
    }

    /// Returns the open transaction that a report of a start is about, if the start was reported
    /// before.
    #[must_use]
    pub(crate) fn running_as(&self, started: &TransactionStarted) -> Option<&Transaction> {
        self.transactions
            .values()
            .find(|transaction| !transaction.superseded && started.is_same_start(transaction))
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

    /// Returns the transaction that a start on its connector supersedes: its stop was lost, or
    /// comes late.
    #[must_use]
    pub(crate) fn superseded_by(&self, started: &TransactionStarted) -> Option<TransactionId> {
        self.connectors.get(&started.connector_id)?.transaction
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

/// The requests.
impl Station {
    fn decide_remote_start(
        &self,
        asked: &RemoteStartRequested,
        authorization: AuthorizationStatus,
        parent_id_tag: Option<&IdToken>,
    ) -> Result<Vec<StationEvent>, StationRefusal> {
        self.reachable()?;
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

    fn decide_remote_stop(&self, wanted: &RemoteStop) -> Result<Vec<StationEvent>, StationRefusal> {
        let RemoteStop { station, request, transaction_id, on_behalf, now, until } = wanted;
        self.reachable()?;
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
            until,
        })])
    }

    fn decide_unlock(&self, asked: &UnlockRequested) -> Result<Vec<StationEvent>, StationRefusal> {
        self.reachable()?;
        if !self.connectors.contains_key(&asked.connector_id.get()) {
            return Err(StationRefusal::UnknownConnector {
                connector_id: asked.connector_id.get(),
            });
        }
        Ok(vec![StationEvent::UnlockRequested(asked.clone())])
    }

    fn reachable(&self) -> Result<(), StationRefusal> {
        match (self.known, self.online) {
            (false, _) => Err(StationRefusal::Unknown),
            (true, false) => Err(StationRefusal::Offline),
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
    fn claims(
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

    fn within_limit(&self, claims: &ConnectorClaims<'_>) -> Result<(), StationRefusal> {
        let Some(transactions_max) = self.transactions_max else { return Ok(()) };
        let running =
            self.transactions.values().filter(|transaction| !transaction.superseded).count();
        if running + claims.starts.len() + claims.reservations.len() >= transactions_max as usize {
            return Err(StationRefusal::LimitReached { transactions_max });
        }
        Ok(())
    }

    fn free(&self, connector_id: u32, claims: &ConnectorClaims<'_>) -> Result<(), StationRefusal> {
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
        if connector.transaction.is_some() || connector.status().is_some_and(is_charging) {
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
            !out_of_order
                && connector.transaction.is_none()
                && !connector.status().is_some_and(is_charging)
        };
        let free = self
            .connectors
            .iter()
            .filter(|(id, connector)| **id > 0 && usable(connector) && !named(**id))
            .count();
        if free > unnamed { Ok(()) } else { Err(StationRefusal::NoFreeConnector) }
    }
}

/// Claims on connectors.
struct ConnectorClaims<'a> {
    starts: Vec<&'a RemoteStart>,
    reservations: Vec<&'a Reservation>,
}

/// Tells whether the status is that of a transaction under way.
fn is_charging(status: &ChargePointStatus) -> bool {
    matches!(
        status,
        ChargePointStatus::Charging
            | ChargePointStatus::SuspendedEv
            | ChargePointStatus::SuspendedEvse
    )
}

#[cfg(test)]
mod tests;
