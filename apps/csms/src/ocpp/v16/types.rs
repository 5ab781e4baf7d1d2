//! Types of OCPP 1.6 section 7 that several messages share.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ocpp::open_enum::open_enum;

open_enum! {
    /// Status of a connector as its station reports it (OCPP 1.6 section 7.7). Connector 0 is the
    /// station itself and knows `Available`, `Unavailable` and `Faulted` only.
    ChargePointStatus {
        Available = "Available",
        Preparing = "Preparing",
        Charging = "Charging",
        SuspendedEvse = "SuspendedEVSE",
        SuspendedEv = "SuspendedEV",
        Finishing = "Finishing",
        Reserved = "Reserved",
        Unavailable = "Unavailable",
        Faulted = "Faulted",
    }
}

open_enum! {
    /// Error of a connector (OCPP 1.6 section 7.6).
    ChargePointErrorCode {
        ConnectorLockFailure = "ConnectorLockFailure",
        EvCommunicationError = "EVCommunicationError",
        GroundFailure = "GroundFailure",
        HighTemperature = "HighTemperature",
        InternalError = "InternalError",
        LocalListConflict = "LocalListConflict",
        NoError = "NoError",
        OtherError = "OtherError",
        OverCurrentFailure = "OverCurrentFailure",
        OverVoltage = "OverVoltage",
        PowerMeterFailure = "PowerMeterFailure",
        PowerSwitchFailure = "PowerSwitchFailure",
        ReaderFailure = "ReaderFailure",
        ResetFailure = "ResetFailure",
        UnderVoltage = "UnderVoltage",
        WeakSignal = "WeakSignal",
    }
}

open_enum! {
    /// Reason of the stop of a transaction (OCPP 1.6 section 7.36). The specification's `Other` is
    /// [`Reason::OtherReason`].
    Reason {
        DeAuthorized = "DeAuthorized",
        EmergencyStop = "EmergencyStop",
        EvDisconnected = "EVDisconnected",
        HardReset = "HardReset",
        Local = "Local",
        OtherReason = "Other",
        PowerLoss = "PowerLoss",
        Reboot = "Reboot",
        Remote = "Remote",
        SoftReset = "SoftReset",
        UnlockCommand = "UnlockCommand",
    }
}

open_enum! {
    /// A station's answer to a remote start or stop (OCPP 1.6 section 7.39). `Accepted` means that
    /// it will try.
    RemoteStartStopStatus {
        Accepted = "Accepted",
        Rejected = "Rejected",
    }
}

open_enum! {
    /// A station's answer to UnlockConnector (OCPP 1.6 section 7.46).
    UnlockStatus {
        Unlocked = "Unlocked",
        UnlockFailed = "UnlockFailed",
        NotSupported = "NotSupported",
    }
}

open_enum! {
    /// A station's answer to ReserveNow (OCPP 1.6 section 7.41).
    ReservationStatus {
        Accepted = "Accepted",
        Faulted = "Faulted",
        Occupied = "Occupied",
        Rejected = "Rejected",
        Unavailable = "Unavailable",
    }
}

open_enum! {
    /// A station's answer to CancelReservation (OCPP 1.6 section 7.8). `Rejected` means that it has
    /// no such reservation.
    CancelReservationStatus {
        Accepted = "Accepted",
        Rejected = "Rejected",
    }
}

open_enum! {
    /// A station's answer to TriggerMessage (OCPP 1.6 section 7.44).
    TriggerMessageStatus {
        Accepted = "Accepted",
        Rejected = "Rejected",
        NotImplemented = "NotImplemented",
    }
}

/// Our answer to a BootNotification (OCPP 1.6 section 7.38).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum RegistrationStatus {
    /// The station may work.
    Accepted,
    /// The station is to wait; remote starts and stops may not be sent to it yet.
    Pending,
    /// The station is not served.
    Rejected,
}

/// Our verdict on an id tag (OCPP 1.6 section 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum AuthorizationStatus {
    /// The tag may charge.
    Accepted,
    /// The tag has been blocked.
    Blocked,
    /// The tag has expired.
    Expired,
    /// The tag is unknown.
    Invalid,
    /// The tag already charges elsewhere, and may not do so twice. Only for StartTransaction.
    ConcurrentTx,
}

impl RegistrationStatus {
    /// As the specification spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Pending => "Pending",
            Self::Rejected => "Rejected",
        }
    }
}

impl AuthorizationStatus {
    /// As the specification spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Blocked => "Blocked",
            Self::Expired => "Expired",
            Self::Invalid => "Invalid",
            Self::ConcurrentTx => "ConcurrentTx",
        }
    }
}

/// The message that TriggerMessage asks for (OCPP 1.6 section 7.32).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum MessageTrigger {
    /// BootNotification
    BootNotification,
    /// DiagnosticsStatusNotification
    DiagnosticsStatusNotification,
    /// FirmwareStatusNotification
    FirmwareStatusNotification,
    /// Heartbeat
    Heartbeat,
    /// MeterValues
    MeterValues,
    /// StatusNotification
    StatusNotification,
}

impl MessageTrigger {
    /// As the specification spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::BootNotification => "BootNotification",
            Self::DiagnosticsStatusNotification => "DiagnosticsStatusNotification",
            Self::FirmwareStatusNotification => "FirmwareStatusNotification",
            Self::Heartbeat => "Heartbeat",
            Self::MeterValues => "MeterValues",
            Self::StatusNotification => "StatusNotification",
        }
    }
}

/// An id tag that may be sent: 1 to 20 characters (OCPP 1.6 section 7.28, IdToken, CiString20Type).
/// The specification compares id tags without regard to upper and lower case; equality here is of
/// the exact text.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct IdToken(String);

impl IdToken {
    /// The longest id tag, in characters.
    pub(crate) const CHARS_MAX: usize = 20;

    /// Takes 1 to [`Self::CHARS_MAX`] characters.
    pub(crate) fn new(text: impl Into<String>) -> Result<Self, IdTokenError> {
        let text = text.into();
        match text.chars().count() {
            1..=Self::CHARS_MAX => Ok(Self(text)),
            chars => Err(IdTokenError { chars }),
        }
    }

    /// The tag as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for IdToken {
    type Error = IdTokenError;

    fn try_from(text: String) -> Result<Self, IdTokenError> {
        Self::new(text)
    }
}

impl From<IdToken> for String {
    fn from(token: IdToken) -> Self {
        token.0
    }
}

/// A text that cannot be sent to a station as an id tag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an id tag of {chars} characters; use 1 to {}", IdToken::CHARS_MAX)]
pub(crate) struct IdTokenError {
    /// Its length in characters.
    pub(crate) chars: usize,
}

/// The id that we assign to a transaction: positive, and within 32 bits, as stations keep it in a
/// signed integer. The transaction id that a station sends may be any number, `-1` included, and is
/// an `i64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub(crate) struct TransactionId(i32);

impl TransactionId {
    /// Takes 1 to 2,147,483,647.
    pub(crate) fn new(id: i64) -> Result<Self, TransactionIdError> {
        match i32::try_from(id) {
            Ok(id) if id > 0 => Ok(Self(id)),
            _ => Err(TransactionIdError { id }),
        }
    }

    /// The id as a number.
    pub(crate) fn value(self) -> i64 {
        self.0.into()
    }
}

impl TryFrom<i64> for TransactionId {
    type Error = TransactionIdError;

    fn try_from(id: i64) -> Result<Self, TransactionIdError> {
        Self::new(id)
    }
}

impl From<TransactionId> for i64 {
    fn from(id: TransactionId) -> Self {
        id.value()
    }
}

/// A number that we never assign as a transaction id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("transaction id {id} is not one of ours; use 1 to {}", i32::MAX)]
pub(crate) struct TransactionIdError {
    /// The number.
    pub(crate) id: i64,
}

/// Information for a station about an id tag (OCPP 1.6 section 7.27).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IdTagInfo {
    /// Verdict on the tag.
    pub(crate) status: AuthorizationStatus,
    /// Moment until which the station may keep the tag in its cache; written in UTC with
    /// milliseconds.
    pub(crate) expiry_date: Option<Timestamp>,
    /// Group of the tag: tags of one group can stop each other's transactions.
    pub(crate) parent_id_tag: Option<IdToken>,
}

impl From<AuthorizationStatus> for IdTagInfo {
    fn from(status: AuthorizationStatus) -> Self {
        Self { status, expiry_date: None, parent_id_tag: None }
    }
}
