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
//! - `credential`: what it shows to connect; `access`: what it must show
//! - `event` and `command`: its facts, and what may be decided, with the refusals
//! - `reporting`: what it reports of its connectors
//! - `transacting`: what it reports of its transactions, and their end without a stop
//! - `operating`: the other operations that are asked of it, and its reports of them
//! - `correcting`: what a person says of a transaction that is over
//! - `requesting`: what is asked of it, and what keeps a connector for that
//! - `reserving`: the part of the fold and the decisions that keep a connector for a driver

mod access;
mod command;
mod correcting;
mod credential;
mod event;
mod identity;
mod operating;
mod reporting;
mod requesting;
mod reserving;
mod transacting;

pub(crate) use access::StationAccess;
pub(crate) use command::{OnBehalf, RemoteStop, StationCommand, StationRefusal};
pub(crate) use correcting::{CorrectEnergy, CorrectionRefusal};
pub(crate) use credential::{
    AccessCommand, CredentialSet, SecurityProfile, ShownCredential, StationCredential,
};
pub(crate) use event::{Booted, OfflineReason, StationEvent};
pub(crate) use identity::is_identity;

use std::collections::BTreeMap;

use leftfold::prelude::{Aggregate, SnapshotPolicy, Timestamp};
use serde::{Deserialize, Serialize};

use super::connector::Connector;
use super::operation::{Shared, StationOperations};
use super::request::{RemoteStart, Reservation};
use super::server::ServerId;
use super::transaction::Transaction;
use crate::ocpp::v16::RegistrationStatus;

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
    /// Access of the station to the server.
    #[serde(default)]
    pub(crate) access: StationAccess,
    /// Data that the station sent when it started last; `None` if it never did.
    pub(crate) booted: Option<Booted>,
    /// Status that it is told when it starts, as an operator decided; `None` for that of the
    /// configuration.
    #[serde(default)]
    pub(crate) registration: Option<RegistrationStatus>,
    /// Limit of transactions at a time; `None` for as many as it has connectors.
    pub(crate) transactions_max: Option<u32>,
    /// Its connectors by number; 0 is the station itself.
    pub(crate) connectors: BTreeMap<u32, Connector>,
    /// Its transactions whose stop was not reported.
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
    /// State that the operations that were asked of it tell.
    #[serde(default)]
    pub(crate) operations: Shared<StationOperations>,
}

impl Aggregate for Station {
    const CATEGORY: &'static str = "station";
    const FOLD_VERSION: u32 = 6;
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
                self.operations.change().booted();
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
            StationEvent::RegistrationDecided { registration } => self.registration = *registration,
            StationEvent::StatusChanged(report) => {
                self.connectors.entry(report.connector_id).or_default().changed(report);
            }
            StationEvent::TransactionStarted(started) => self.started(started),
            StationEvent::TransactionStopped(stopped) => self.stopped(stopped),
            StationEvent::TransactionEnded(ended) => self.ended(ended),
            StationEvent::TransactionAdopted(adopted) => self.adopted(adopted),
            StationEvent::UnmatchedStopReported(_) | StationEvent::EnergyCorrected(_) => {}
            StationEvent::RemoteStartRequested(asked) => self.remote_start_requested(asked),
            StationEvent::RemoteStartAnswered(answered) => self.remote_start_answered(answered),
            StationEvent::RemoteStopRequested(asked) => self.remote_stop_requested(asked),
            StationEvent::RemoteStopAnswered(answered) => self.remote_stop_answered(answered),
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
            StationEvent::UnlockRequested(_)
            | StationEvent::UnlockAnswered(_)
            | StationEvent::VendorMessageReceived(_) => {}
            StationEvent::OperationRequested(_)
            | StationEvent::OperationAnswered(_)
            | StationEvent::FirmwareReported(_)
            | StationEvent::UploadReported(_)
            | StationEvent::SecurityEventReported(_)
            | StationEvent::CertificateRequested(_) => self.operated(event),
            _ => self.access.apply(event),
        }
    }

    fn decide(&self, command: &StationCommand) -> Result<Vec<StationEvent>, StationRefusal> {
        match command {
            StationCommand::Register if self.registered => Ok(Vec::new()),
            StationCommand::Register => Ok(vec![StationEvent::Registered]),
            StationCommand::LimitTransactions { transactions_max } => {
                Ok(self.decide_limit(*transactions_max))
            }
            StationCommand::DecideRegistration { registration } => {
                Ok(self.decide_registration(*registration))
            }
            StationCommand::Access(command) => Ok(self.decide_access(command)),
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
            StationCommand::MarkOffline { at, reason, heard_by } => {
                Ok(self.decide_offline(*at, *reason, *heard_by))
            }
            StationCommand::ReportStatus(report) => self.decide_status(report),
            StationCommand::ReportStart(started) => Ok(self.decide_start(started)),
            StationCommand::ReportStop { stopped, adopt_as } => {
                Ok(self.decide_stop(stopped, *adopt_as))
            }
            StationCommand::ReportForeign(adopted) => Ok(self.decide_adoption(adopted)),
            StationCommand::CloseTransaction { transaction_id, by, reason, now } => {
                self.decide_close(*transaction_id, by, reason, *now)
            }
            StationCommand::RemoteStart { asked, authorization, parent_id_tag } => {
                self.decide_remote_start(asked, *authorization, parent_id_tag.as_ref())
            }
            StationCommand::RemoteStop(wanted) => self.decide_remote_stop(wanted),
            StationCommand::Unlock(asked) => self.decide_unlock(asked),
            StationCommand::Forced(command) => self.decide_forced(command),
            StationCommand::Operate(asked) => self.decide_operation(asked),
            StationCommand::OfferCredential(asked, offered) => self.decide_offer(asked, offered),
            StationCommand::ConcludeOperation(answered) => Ok(self.decide_conclusion(answered)),
            StationCommand::ReportEquipment(report) => Ok(self.decide_equipment(report)),
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

impl Station {
    /// Decides on a silence, which counts only from the server that hears the station.
    fn decide_offline(
        &self,
        at: Timestamp,
        reason: OfflineReason,
        heard_by: Option<ServerId>,
    ) -> Vec<StationEvent> {
        if !self.online || self.heard_by != heard_by {
            return Vec::new();
        }
        vec![StationEvent::WentOffline { at, reason }]
    }
}

#[cfg(test)]
mod interleavings;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod transaction_tests;
