//! Events of a station.

use leftfold::prelude::{Event, Tags, Timestamp};
use serde::{Deserialize, Serialize};

use super::credential::{
    CredentialOffered, CredentialSet, CredentialSettled, SecurityProfileChanged,
};
use crate::domain::connector::StatusChanged;
use crate::domain::energy::EnergyCorrected;
use crate::domain::meter::{reported_tag, transaction_tag};
use crate::domain::operation::{
    CertificateRequested, FirmwareReported, OperationAnswered, OperationRequested,
    SecurityEventReported, UploadReported, VendorMessageReceived,
};
use crate::domain::request::{
    RemoteStartRequested, RemoteStopRequested, RequestAnswered, RequestId,
    ReservationCancelRequested, ReservationRequested, UnlockRequested,
};
use crate::domain::server::ServerId;
use crate::domain::transaction::{
    TransactionAdopted, TransactionEnded, TransactionStarted, TransactionStopped,
};
use crate::ocpp::v16::RegistrationStatus;

/// Event of a station; in the stream `station-{identity}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum StationEvent {
    /// An operator registered the station: it may connect even if unregistered stations may not.
    Registered,
    /// An operator limited the transactions that the station serves at a time.
    TransactionsLimited {
        /// Limit; `None` for as many as it has connectors.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transactions_max: Option<u32>,
    },
    /// An operator set what the station must show.
    CredentialSet(CredentialSet),
    /// The station is asked to take a new credential.
    CredentialOffered(CredentialOffered),
    /// It is known which credential the station has.
    CredentialSettled(CredentialSettled),
    /// The security profile below which the station is refused changed.
    SecurityProfileChanged(SecurityProfileChanged),
    /// The station started, and was told if it is accepted.
    Booted(Booted),
    /// An operator decided if the station is accepted when it starts.
    RegistrationDecided {
        /// Status; `None` for that of the configuration.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        registration: Option<RegistrationStatus>,
    },
    /// The station was heard of again, or is heard by another server than before.
    CameOnline {
        /// Moment of the sign of life.
        at: Timestamp,
        /// Server that hears it; `None` in events of releases that ran as one server.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<ServerId>,
    },
    /// The station went offline: it cannot be counted on.
    WentOffline {
        /// Moment when this was noticed.
        at: Timestamp,
        /// Reason for being offline.
        reason: OfflineReason,
    },
    /// A sign of life. Recorded only if the configuration asks for it.
    HeartbeatReceived {
        /// Moment of the heartbeat.
        at: Timestamp,
    },
    /// A connector, or the station itself, reported a new state.
    StatusChanged(StatusChanged),
    /// A transaction started.
    TransactionStarted(TransactionStarted),
    /// A transaction stopped.
    TransactionStopped(TransactionStopped),
    /// A transaction is over as far as can be told, though its stop was not reported.
    TransactionEnded(TransactionEnded),
    /// A transaction that began under another backend was taken over.
    TransactionAdopted(TransactionAdopted),
    /// The station reported the stop of a transaction that is not open here.
    UnmatchedStopReported(TransactionStopped),
    /// A person said the energy of a transaction.
    EnergyCorrected(EnergyCorrected),
    /// A transaction is to be started: the intent of an effect.
    RemoteStartRequested(RemoteStartRequested),
    /// A remote start has ended.
    RemoteStartAnswered(RequestAnswered),
    /// The station accepted a remote start, and no transaction started in its time. The station is
    /// not asked again.
    RemoteStartLapsed {
        /// Id of the remote start's request.
        request: RequestId,
        /// Moment when its time was over.
        at: Timestamp,
    },
    /// A connector is to be kept: the intent of an effect.
    ReservationRequested(ReservationRequested),
    /// The request for a reservation has ended.
    ReservationAnswered(RequestAnswered),
    /// A reservation is to be cancelled: the intent of an effect.
    ReservationCancelRequested(ReservationCancelRequested),
    /// The request to cancel a reservation has ended.
    ReservationCancelAnswered(RequestAnswered),
    /// A reservation was not used in its time.
    ReservationExpired {
        /// Id of the reservation.
        reservation_id: i64,
        /// Moment when its time was over.
        at: Timestamp,
    },
    /// A transaction is to be stopped: the intent of an effect.
    RemoteStopRequested(RemoteStopRequested),
    /// A remote stop has ended.
    RemoteStopAnswered(RequestAnswered),
    /// A connector is to be unlocked: the intent of an effect.
    UnlockRequested(UnlockRequested),
    /// An unlocking has ended.
    UnlockAnswered(RequestAnswered),
    /// An operation is asked for: the intent of an effect.
    OperationRequested(Box<OperationRequested>),
    /// An operation has ended.
    OperationAnswered(Box<OperationAnswered>),
    /// The station reported the progress of an update of its firmware.
    FirmwareReported(FirmwareReported),
    /// The station reported the progress of an upload.
    UploadReported(UploadReported),
    /// The station reported something that concerns its security.
    SecurityEventReported(SecurityEventReported),
    /// The station asked for a certificate of its own.
    CertificateRequested(CertificateRequested),
    /// The station sent a message of a vendor that is registered here.
    VendorMessageReceived(VendorMessageReceived),
}

impl StationEvent {
    /// Tells whether the event is about an operation that was asked for, and so about nothing that
    /// lists of stations show.
    #[must_use]
    pub(crate) fn is_of_operation(&self) -> bool {
        matches!(self, Self::OperationRequested(_) | Self::OperationAnswered(_))
    }
}

/// Data that a station sent about itself when it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Booted {
    /// Its vendor.
    pub(crate) vendor: Option<String>,
    /// Its model.
    pub(crate) model: Option<String>,
    /// Its serial number.
    pub(crate) serial_number: Option<String>,
    /// The version of its firmware.
    pub(crate) firmware_version: Option<String>,
    /// The number of its SIM card.
    pub(crate) iccid: Option<String>,
    /// The subscriber of its SIM card.
    pub(crate) imsi: Option<String>,
    /// The type of its main meter.
    pub(crate) meter_type: Option<String>,
    /// The serial number of its main meter.
    pub(crate) meter_serial_number: Option<String>,
    /// Status that it was told; `None` if it was accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) registration: Option<RegistrationStatus>,
}

/// Reason why a station is offline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OfflineReason {
    /// Nothing was heard of the station for too long.
    Silent,
    /// The server restarted or is gone, and no other one has heard the station since.
    ServerRestarted,
}

impl Event for StationEvent {
    const NAMESPACE: &'static str = "station";

    fn tags(&self) -> Tags {
        match self {
            Self::TransactionStarted(started) => {
                Tags::none().with(transaction_tag(started.transaction_id.value()))
            }
            Self::TransactionEnded(ended) => {
                Tags::none().with(transaction_tag(ended.transaction_id.value()))
            }
            Self::TransactionAdopted(adopted) => Tags::none()
                .with(transaction_tag(adopted.transaction_id.value()))
                .with(reported_tag(adopted.reported_id)),
            Self::TransactionStopped(stopped) | Self::UnmatchedStopReported(stopped) => stopped
                .transaction_id
                .map_or_else(Tags::none, |id| Tags::none().with(transaction_tag(id))),
            Self::EnergyCorrected(corrected) => {
                Tags::none().with(transaction_tag(corrected.transaction_id.value()))
            }
            Self::RemoteStopRequested(asked) => {
                Tags::none().with(transaction_tag(asked.transaction_id.value()))
            }
            _ => Tags::none(),
        }
    }
}
