//! What is wanted of a station, and why it may not be had.

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::event::{Booted, OfflineReason};
use crate::domain::connector::StatusChanged;
use crate::domain::request::{
    Answered, RemoteStartRequested, RequestId, ReservationCancelRequested, ReservationRequested, UnlockRequested,
};
use crate::domain::transaction::{Started, Stopped};
use crate::ocpp::v16::{AuthorizationStatus, ChargePointStatus, IdToken, TransactionId};

/// What is wanted of a station, or reported by it. Reports of transactions are never refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum StationCommand {
    /// Make it known.
    Register,
    /// Say how many transactions it can serve at a time.
    LimitTransactions {
        /// How many; none for as many as it has connectors.
        transactions_max: Option<u32>,
    },
    /// It says that it has started.
    Boot(Booted),
    /// It was heard of.
    MarkOnline {
        /// When.
        at: Timestamp,
    },
    /// It was not heard of.
    MarkOffline {
        /// Since when that is known.
        at: Timestamp,
        /// Why.
        reason: OfflineReason,
    },
    /// It reports the state of a connector.
    ReportStatus(StatusChanged),
    /// It reports the start of a transaction. The transaction id and the remote start that led to it are decided here:
    /// the id given is one that is free.
    ReportStart(Started),
    /// It reports the stop of a transaction.
    ReportStop(Stopped),
    /// Ask it to start a transaction.
    RemoteStart {
        /// What is asked for. Its moment is now, and its name a new one.
        asked: RemoteStartRequested,
        /// What is thought of the tag.
        authorization: AuthorizationStatus,
        /// The group of the tag, whose reservations it may use.
        #[serde(default)]
        parent_id_tag: Option<IdToken>,
    },
    /// Ask it to stop a transaction.
    RemoteStop(RemoteStop),
    /// Ask it to unlock a connector, under a new name.
    Unlock(UnlockRequested),
    /// A remote start came to its end.
    ConcludeRemoteStart(Answered),
    /// A remote stop came to its end.
    ConcludeRemoteStop(Answered),
    /// An unlocking came to its end.
    ConcludeUnlock(Answered),
    /// The time of a remote start is over.
    LapseRemoteStart {
        /// Which.
        request: RequestId,
        /// When it was over.
        at: Timestamp,
    },
    /// Ask it to keep a connector for a driver. The reservation's id is decided here.
    Reserve {
        /// What is asked for. Its moment is now, and its name a new one.
        asked: ReservationRequested,
        /// What is thought of the tag.
        authorization: AuthorizationStatus,
    },
    /// Ask it to take a reservation back, under a new name.
    CancelReservation(ReservationCancelRequested),
    /// A reservation was made, or not.
    ConcludeReservation(Answered),
    /// A reservation was taken back, or not.
    ConcludeCancelReservation(Answered),
    /// The time of a reservation is over.
    ExpireReservation {
        /// Which.
        reservation_id: i64,
        /// When it was over.
        at: Timestamp,
    },
}

/// What is wanted of a station that is to stop a transaction.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RemoteStop {
    /// The station.
    pub station: String,
    /// A new name for the request.
    pub request: RequestId,
    /// Which transaction, as the caller said: any number.
    pub transaction_id: i64,
    /// On whose behalf; none for the operator's own.
    pub on_behalf: Option<OnBehalf>,
    /// Now.
    pub now: Timestamp,
    /// Until when it may be sent.
    pub until: Timestamp,
}

/// A driver for whom a transaction is to be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnBehalf {
    /// The driver's tag.
    pub id_tag: String,
    /// The group of that tag.
    pub parent_id_tag: Option<String>,
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
pub enum StationRefusal {
    /// Nobody has ever heard of it.
    #[error("there is no such station; it has to connect, or to be registered")]
    Unknown,
    /// It cannot be reached.
    #[error("the station is offline; try again when it is back")]
    Offline,
    /// The station as a whole is out of order.
    #[error("the station is {status}; try again when it is available")]
    StationOutOfOrder {
        /// What connector 0 is.
        status: ChargePointStatus,
    },
    /// The station never told of such a connector.
    #[error("the station has no connector {connector_id} that it has told of; choose one that is listed")]
    UnknownConnector {
        /// Which.
        connector_id: u32,
    },
    /// The connector is out of order.
    #[error("connector {connector_id} is {status}; choose another one")]
    OutOfOrder {
        /// Which.
        connector_id: u32,
        /// What it is.
        status: ChargePointStatus,
    },
    /// A transaction runs there.
    #[error("connector {connector_id} is occupied; choose another one")]
    Occupied {
        /// Which.
        connector_id: u32,
    },
    /// Another remote start came first.
    #[error("connector {connector_id} is kept for another driver until {until}; choose another one")]
    Claimed {
        /// Which.
        connector_id: u32,
        /// Until when.
        until: Timestamp,
    },
    /// It is reserved.
    #[error("connector {connector_id} is reserved for another driver until {until}; choose another one")]
    Reserved {
        /// Which.
        connector_id: u32,
        /// Until when.
        until: Timestamp,
    },
    /// The reservation would be over when it begins.
    #[error("the expiry date is over; choose a later one")]
    ExpiryOver,
    /// There is no such reservation.
    #[error("there is no reservation {reservation_id} at this station; it was used, cancelled, or is over")]
    UnknownReservation {
        /// Which.
        reservation_id: i64,
    },
    /// All connectors are taken or out of order.
    #[error("the station has no free connector; choose another station")]
    NoFreeConnector,
    /// The station serves no more at a time.
    #[error("the station serves {transactions_max} transactions at a time and has that many; wait for one to end")]
    LimitReached {
        /// How many.
        transactions_max: u32,
    },
    /// The tag may not charge.
    #[error("the tag is {}; use one that is accepted", .status.as_str())]
    NotAuthorized {
        /// What is thought of it.
        status: AuthorizationStatus,
    },
    /// No such transaction is open at this station.
    #[error("transaction {transaction_id} is not running at this station; look up its id and its station")]
    NotRunning {
        /// Which.
        transaction_id: i64,
    },
    /// The driver has nothing to do with the transaction.
    #[error("transaction {} was started by a tag of another group; stop it with that tag", .transaction_id.value())]
    ForeignTag {
        /// Which.
        transaction_id: TransactionId,
    },
    /// It is being stopped.
    #[error("transaction {} is being stopped already; wait for the answer", .transaction_id.value())]
    BeingStopped {
        /// Which.
        transaction_id: TransactionId,
    },
    /// More connectors than any station has.
    #[error("more than {connectors_max} connectors; number them from 1")]
    TooManyConnectors {
        /// How many are kept.
        connectors_max: usize,
    },
    /// More is under way than is kept.
    #[error("too many requests to this station are under way; wait for their answers")]
    TooManyRequests,
}

impl StationRefusal {
    /// A word for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown-station",
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
            Self::TooManyRequests => "too-many-requests",
        }
    }
}
