//! Commands about a station, and their refusals.

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::credential::{AccessCommand, StationCredential};
use super::event::{Booted, OfflineReason};
use crate::domain::connector::StatusChanged;
use crate::domain::operation::{
    EquipmentReport, OperationAnswered, OperationRefusal, OperationRequested,
};
use crate::domain::request::{
    RemoteStartRequested, RequestAnswered, RequestId, ReservationCancelRequested,
    ReservationRequested, UnlockRequested,
};
use crate::domain::server::ServerId;
use crate::domain::transaction::{TransactionAdopted, TransactionStarted, TransactionStopped};
use crate::ocpp::v16::{
    AuthorizationStatus, ChargePointStatus, IdToken, RegistrationStatus, TransactionId,
};

/// Command about a station, or report by it. Reports of transactions are never refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum StationCommand {
    /// Register the station.
    Register,
    /// Limit the transactions that the station serves at a time.
    LimitTransactions {
        /// Limit; `None` for as many as it has connectors.
        transactions_max: Option<u32>,
    },
    /// Decide if the station is accepted when it starts.
    DecideRegistration {
        /// Status; `None` for that of the configuration.
        registration: Option<RegistrationStatus>,
    },
    /// Something about the access of the station.
    Access(AccessCommand),
    /// The station reports that it has started.
    Boot(Booted),
    /// The station was heard of on a new connection: from now on this server hears it.
    MarkConnected {
        /// Moment of the sign of life.
        at: Timestamp,
        /// Server that it is connected to.
        server: ServerId,
    },
    /// The station was heard of after a silence. Nothing happens if it is online: another server
    /// may hear it since.
    MarkOnline {
        /// Moment of the sign of life.
        at: Timestamp,
        /// Server that heard it.
        server: ServerId,
    },
    /// The station was not heard of. Nothing happens if another server hears it.
    MarkOffline {
        /// Moment when this was noticed.
        at: Timestamp,
        /// Reason for being offline.
        reason: OfflineReason,
        /// Server that heard it last, as far as is known to whoever noticed.
        heard_by: Option<ServerId>,
    },
    /// The station reports the state of a connector.
    ReportStatus(StatusChanged),
    /// The station reports the start of a transaction. The remote start that led to it is decided
    /// here. The transaction id is a free one; it is used unless this start is known to be running.
    ReportStart(TransactionStarted),
    /// The station reports the stop of a transaction.
    ReportStop {
        /// The report, with the number that the station said.
        stopped: TransactionStopped,
        /// Free number for the transaction, if it began under another backend; `None` if the
        /// station never reports about such a one.
        adopt_as: Option<TransactionId>,
    },
    /// The station reports meter values of a transaction that began under another backend.
    ReportForeign(TransactionAdopted),
    /// A person closes a transaction that the station has forgotten.
    CloseTransaction {
        /// Transaction to close: any number.
        transaction_id: i64,
        /// Name of the person.
        by: String,
        /// Reason in words.
        reason: String,
        /// Present moment.
        now: Timestamp,
    },
    /// Ask the station to start a transaction.
    RemoteStart {
        /// The request. Its moment is now, and its id a new one.
        asked: RemoteStartRequested,
        /// Verdict on the tag.
        authorization: AuthorizationStatus,
        /// Group of the tag, which may use the reservations of the group.
        #[serde(default)]
        parent_id_tag: Option<IdToken>,
    },
    /// Ask the station to stop a transaction.
    RemoteStop(RemoteStop),
    /// Ask the station to unlock a connector, under a new request id.
    Unlock(UnlockRequested),
    /// Ask the station as the command says, whatever speaks against it but that the station is
    /// unknown, or that too much is under way.
    Forced(Box<StationCommand>),
    /// Ask the station for an operation, under a new request id.
    Operate(Box<OperationRequested>),
    /// Ask the station, by an operation whose secret it is, to take a new credential.
    OfferCredential(Box<OperationRequested>, StationCredential),
    /// An operation has ended.
    ConcludeOperation(Box<OperationAnswered>),
    /// The station reports what it does for itself, or something about its security.
    ReportEquipment(EquipmentReport),
    /// A remote start has ended.
    ConcludeRemoteStart(RequestAnswered),
    /// A remote stop has ended.
    ConcludeRemoteStop(RequestAnswered),
    /// An unlocking has ended.
    ConcludeUnlock(RequestAnswered),
    /// The time of a remote start is over.
    LapseRemoteStart {
        /// Id of the remote start's request.
        request: RequestId,
        /// Moment when its time was over.
        at: Timestamp,
    },
    /// Ask the station to keep a connector for a driver. The id of the reservation is decided here.
    Reserve {
        /// The request. Its moment is now, and its id a new one.
        asked: ReservationRequested,
        /// Verdict on the tag.
        authorization: AuthorizationStatus,
    },
    /// Ask the station to cancel a reservation, under a new request id.
    CancelReservation(ReservationCancelRequested),
    /// The request for a reservation has ended.
    ConcludeReservation(RequestAnswered),
    /// The request to cancel a reservation has ended.
    ConcludeCancelReservation(RequestAnswered),
    /// The time of a reservation is over.
    ExpireReservation {
        /// Id of the reservation.
        reservation_id: i64,
        /// Moment when its time was over.
        at: Timestamp,
    },
}

/// Data of [`StationCommand::RemoteStop`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RemoteStop {
    /// The station.
    pub(crate) station: String,
    /// New id of the request.
    pub(crate) request: RequestId,
    /// Transaction to stop, as the caller named it: any number.
    pub(crate) transaction_id: i64,
    /// Driver on whose behalf it is stopped; `None` for the operator's own request.
    pub(crate) on_behalf: Option<OnBehalf>,
    /// Present moment.
    pub(crate) now: Timestamp,
    /// Moment until which the request may be sent.
    pub(crate) until: Timestamp,
}

/// A driver for whom a transaction is to be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OnBehalf {
    /// The driver's tag.
    pub(crate) id_tag: String,
    /// The group of that tag.
    pub(crate) parent_id_tag: Option<String>,
}

/// Refusal of a [`StationCommand`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum StationRefusal {
    /// The station is unknown: it never connected, and was not registered.
    #[error("there is no such station; it has to connect, or to be registered")]
    Unknown,
    /// The station was told that it is not accepted.
    #[error("the station was told {}; accept it, and have it start again", .registration.as_str())]
    NotAccepted {
        /// Status that it was told.
        registration: RegistrationStatus,
    },
    /// The station is offline.
    #[error("the station is offline; try again when it is back")]
    Offline,
    /// The station as a whole is out of order.
    #[error("the station is {status}; try again when it is available")]
    StationOutOfOrder {
        /// Status of connector 0, the station itself.
        status: ChargePointStatus,
    },
    /// The station never reported such a connector.
    #[error(
        "the station has no connector {connector_id} that it has told of; choose one that is listed"
    )]
    UnknownConnector {
        /// Connector that was asked for.
        connector_id: u32,
    },
    /// The connector is out of order.
    #[error("connector {connector_id} is {status}; choose another one")]
    OutOfOrder {
        /// Connector that was asked for.
        connector_id: u32,
        /// Status of the connector.
        status: ChargePointStatus,
    },
    /// A transaction runs on the connector, or remote starts that name no connector need it.
    #[error("connector {connector_id} is occupied; choose another one")]
    Occupied {
        /// Connector that was asked for.
        connector_id: u32,
    },
    /// Another remote start keeps the connector.
    #[error(
        "connector {connector_id} is kept for another driver until {until}; choose another one"
    )]
    Claimed {
        /// Connector that was asked for.
        connector_id: u32,
        /// Moment until which it is kept.
        until: Timestamp,
    },
    /// The connector is reserved for another driver.
    #[error(
        "connector {connector_id} is reserved for another driver until {until}; choose another one"
    )]
    Reserved {
        /// Connector that was asked for.
        connector_id: u32,
        /// Moment until which it is reserved.
        until: Timestamp,
    },
    /// The reservation would be over when it begins.
    #[error("the expiry date is over; choose a later one")]
    ExpiryOver,
    /// The station has no such reservation.
    #[error(
        "there is no reservation {reservation_id} at this station; it was used, cancelled, or is over"
    )]
    UnknownReservation {
        /// Reservation that was named.
        reservation_id: i64,
    },
    /// All connectors are taken or out of order.
    #[error("the station has no free connector; choose another station")]
    NoFreeConnector,
    /// The station serves no more transactions at a time.
    #[error(
        "the station serves {transactions_max} transactions at a time and has that many; wait for one to end"
    )]
    LimitReached {
        /// Limit of transactions at a time.
        transactions_max: u32,
    },
    /// The tag may not charge.
    #[error("the tag is {}; use one that is accepted", .status.as_str())]
    NotAuthorized {
        /// Verdict on the tag.
        status: AuthorizationStatus,
    },
    /// No such transaction is open at this station.
    #[error(
        "transaction {transaction_id} is not running at this station; look up its id and its station"
    )]
    NotRunning {
        /// Transaction that was named.
        transaction_id: i64,
    },
    /// The driver's tag did not start the transaction, and is not of the same group.
    #[error("transaction {} was started by a tag of another group; stop it with that tag", .transaction_id.value())]
    ForeignTag {
        /// Transaction that was named.
        transaction_id: TransactionId,
    },
    /// The transaction is being stopped already.
    #[error("transaction {} is being stopped already; wait for the answer", .transaction_id.value())]
    BeingStopped {
        /// Transaction that was named.
        transaction_id: TransactionId,
    },
    /// The station has as many connectors as are kept.
    #[error("more than {connectors_max} connectors; number them from 1")]
    TooManyConnectors {
        /// Connectors of a station that are kept at most.
        connectors_max: usize,
    },
    /// Something speaks against the operation.
    #[error(transparent)]
    Operation(#[from] OperationRefusal),
    /// It is not known yet which credential the station has.
    #[error(
        "the station was asked to take a key, and it is not known yet if it has; wait until it connects, or use force"
    )]
    CredentialInDoubt,
    /// Too many requests to the station are under way.
    #[error("too many requests to this station are under way; wait for their answers")]
    TooManyRequests,
}

impl StationRefusal {
    /// Returns a word for programs.
    #[must_use]
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown-station",
            Self::NotAccepted { .. } => "station-not-accepted",
            Self::Offline => "station-offline",
            Self::StationOutOfOrder { .. } => "station-out-of-order",
            Self::UnknownConnector { .. } => "unknown-connector",
            Self::OutOfOrder { .. } => "connector-out-of-order",
            Self::Occupied { .. } => "connector-occupied",
            Self::Claimed { .. } => "connector-claimed",
            Self::Reserved { .. } => "connector-reserved",
            Self::ExpiryOver => "expiry-over",
            Self::UnknownReservation { .. } => "unknown-reservation",
            Self::NoFreeConnector => "no-free-connector",
            Self::LimitReached { .. } => "transaction-limit-reached",
            Self::NotAuthorized { .. } => "tag-not-accepted",
            Self::NotRunning { .. } => "transaction-not-running",
            Self::ForeignTag { .. } => "foreign-tag",
            Self::BeingStopped { .. } => "transaction-being-stopped",
            Self::TooManyConnectors { .. } => "too-many-connectors",
            Self::Operation(refusal) => refusal.code(),
            Self::CredentialInDoubt => "credential-in-doubt",
            Self::TooManyRequests => "too-many-requests",
        }
    }
}
