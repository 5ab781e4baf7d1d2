//! What happens to a station.

use leftfold::prelude::{Event, Tags, Timestamp};
use serde::{Deserialize, Serialize};

use crate::domain::connector::StatusChanged;
use crate::domain::meter::transaction_tag;
use crate::domain::request::{
    Answered, RemoteStartRequested, RemoteStopRequested, RequestId, ReservationCancelRequested, ReservationRequested,
    UnlockRequested,
};
use crate::domain::transaction::{Started, Stopped};

/// What happened to a station; in the stream `station-{identity}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum StationEvent {
    /// An operator made it known: it may connect where strangers may not.
    Registered,
    /// An operator said how many transactions it can serve at a time; none for as many as it has connectors.
    TransactionsLimited {
        /// How many.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transactions_max: Option<u32>,
    },
    /// It started, and was accepted.
    Booted(Booted),
    /// It was heard of again.
    CameOnline {
        /// When.
        at: Timestamp,
    },
    /// It cannot be counted on.
    WentOffline {
        /// Since when that is known.
        at: Timestamp,
        /// Why.
        reason: OfflineReason,
    },
    /// A sign of life. Recorded only where that was asked for.
    HeartbeatReceived {
        /// When.
        at: Timestamp,
    },
    /// A connector, or the station itself, told something new of its state.
    StatusChanged(StatusChanged),
    /// A transaction started.
    TransactionStarted(Started),
    /// A transaction stopped.
    TransactionStopped(Stopped),
    /// The station told of the stop of a transaction that is not open here.
    UnmatchedStopReported(Stopped),
    /// Someone wants a transaction started: the intent of an effect.
    RemoteStartRequested(RemoteStartRequested),
    /// A remote start came to its end.
    RemoteStartAnswered(Answered),
    /// The station accepted a remote start, and nobody started a transaction in its time. It is not asked again.
    RemoteStartLapsed {
        /// Which.
        request: RequestId,
        /// When its time was over.
        at: Timestamp,
    },
    /// Someone wants a connector kept: the intent of an effect.
    ReservationRequested(ReservationRequested),
    /// A reservation was made, or not.
    ReservationAnswered(Answered),
    /// Someone wants a reservation taken back: the intent of an effect.
    ReservationCancelRequested(ReservationCancelRequested),
    /// A reservation was taken back, or not.
    ReservationCancelAnswered(Answered),
    /// Nobody used a reservation in its time.
    ReservationExpired {
        /// Which.
        reservation_id: i64,
        /// When its time was over.
        at: Timestamp,
    },
    /// Someone wants a transaction stopped: the intent of an effect.
    RemoteStopRequested(RemoteStopRequested),
    /// A remote stop came to its end.
    RemoteStopAnswered(Answered),
    /// Someone wants a connector unlocked: the intent of an effect.
    UnlockRequested(UnlockRequested),
    /// An unlocking came to its end.
    UnlockAnswered(Answered),
}

/// What a station said of itself when it started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Booted {
    /// Its vendor.
    pub vendor: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its serial number.
    pub serial_number: Option<String>,
    /// The version of its firmware.
    pub firmware_version: Option<String>,
    /// The number of its SIM card.
    pub iccid: Option<String>,
    /// The subscriber of its SIM card.
    pub imsi: Option<String>,
    /// The type of its main meter.
    pub meter_type: Option<String>,
    /// The serial number of its main meter.
    pub meter_serial_number: Option<String>,
}

/// Why a station cannot be counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OfflineReason {
    /// Nothing was heard of it for too long.
    Silent,
    /// We were not there to hear it.
    ServerRestarted,
}

impl Event for StationEvent {
    const NAMESPACE: &'static str = "station";

    fn tags(&self) -> Tags {
        match self {
            Self::TransactionStarted(started) => Tags::none().with(transaction_tag(started.transaction_id.value())),
            Self::TransactionStopped(stopped) | Self::UnmatchedStopReported(stopped) => {
                stopped.transaction_id.map_or_else(Tags::none, |id| Tags::none().with(transaction_tag(id)))
            }
            Self::RemoteStopRequested(asked) => Tags::none().with(transaction_tag(asked.transaction_id.value())),
            _ => Tags::none(),
        }
    }
}
