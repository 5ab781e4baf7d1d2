//! Requests of stations to us.

use jiff::Timestamp;

use super::core::{DataTransfer, read_data_transfer};
use super::firmware::{FirmwareStatus, ProgressReport, UploadStatus, read_progress};
use super::meter::{MeterValue, read_meter_values};
use super::security::{SecurityEventNotification, read_security_event, read_sign_certificate};
use super::types::{ChargePointErrorCode, ChargePointStatus, Reason};
use crate::ocpp::frame::{ErrorCode, Payload};
use crate::ocpp::reading::{Fields, Notes, Presence, WithViolations};
use crate::ocpp::session::Reply;

/// A station's request, an operation initiated by the charge point (OCPP 1.6 section 4).
///
/// BootNotification, Heartbeat, the three messages of a transaction, and all that came with later
/// profiles can be read from any payload. A CALLERROR to StartTransaction, StopTransaction or
/// MeterValues makes the station send it again, with everything that it has queued waiting behind,
/// and in the end drop it (section 9.1, TransactionMessageAttempts); so a missing field is `None`,
/// and reading these messages never fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StationRequest {
    /// BootNotification
    BootNotification(BootNotification),
    /// Heartbeat, which has no fields
    Heartbeat,
    /// StatusNotification
    StatusNotification(StatusNotification),
    /// Authorize
    Authorize(Authorize),
    /// StartTransaction
    StartTransaction(StartTransaction),
    /// MeterValues
    MeterValues(MeterValues),
    /// StopTransaction
    StopTransaction(StopTransaction),
    /// DataTransfer
    DataTransfer(DataTransfer),
    /// DiagnosticsStatusNotification
    DiagnosticsStatusNotification(ProgressReport<UploadStatus>),
    /// FirmwareStatusNotification, and SignedFirmwareStatusNotification of the security extension
    FirmwareStatusNotification(ProgressReport<FirmwareStatus>),
    /// LogStatusNotification
    LogStatusNotification(ProgressReport<UploadStatus>),
    /// SecurityEventNotification
    SecurityEventNotification(SecurityEventNotification),
    /// SignCertificate; `None` if there is no text that could be a request for a certificate.
    SignCertificate(Option<String>),
}

/// A station has started (OCPP 1.6 sections 4.2 and 6.3). No field of it is needed to serve the
/// station.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct BootNotification {
    /// Required by the specification.
    pub(crate) charge_point_vendor: Option<String>,
    /// Required by the specification.
    pub(crate) charge_point_model: Option<String>,
    /// The charge point's serial number.
    pub(crate) charge_point_serial_number: Option<String>,
    /// The charge box's serial number; deprecated.
    pub(crate) charge_box_serial_number: Option<String>,
    /// The firmware's version.
    pub(crate) firmware_version: Option<String>,
    /// ICCID of the modem's SIM card.
    pub(crate) iccid: Option<String>,
    /// IMSI of the modem's SIM card.
    pub(crate) imsi: Option<String>,
    /// The main meter's type.
    pub(crate) meter_type: Option<String>,
    /// The main meter's serial number.
    pub(crate) meter_serial_number: Option<String>,
}

/// A connector's state has changed (OCPP 1.6 sections 4.9 and 6.47).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StatusNotification {
    /// Connector; 0 is the station itself.
    pub(crate) connector_id: u32,
    /// Error code; `NoError` if the station left it out.
    pub(crate) error_code: ChargePointErrorCode,
    /// The state.
    pub(crate) status: ChargePointStatus,
    /// Further text about the error.
    pub(crate) info: Option<String>,
    /// Moment since which the status holds, by the station's clock; `None` stands for now.
    pub(crate) timestamp: Option<Timestamp>,
    /// Vendor that defines the vendor's error code.
    pub(crate) vendor_id: Option<String>,
    /// The vendor's error code.
    pub(crate) vendor_error_code: Option<String>,
}

/// May this tag charge? (OCPP 1.6 sections 4.1 and 6.1)
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authorize {
    /// Id tag as it came: it may be empty or too long for any tag that we know.
    pub(crate) id_tag: String,
}

/// A transaction has started (OCPP 1.6 sections 4.8 and 6.45). It is a fact, told perhaps long
/// after it happened, and perhaps for the second time under another message id. All fields but
/// `reservation_id` are required by the specification; a field is `None` if it is missing or
/// nonsense.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StartTransaction {
    /// Connector; above 0 if the station is right.
    pub(crate) connector_id: Option<u32>,
    /// Id tag that started it, as it came.
    pub(crate) id_tag: Option<String>,
    /// The meter at the start, in Wh.
    pub(crate) meter_start: Option<i64>,
    /// Moment of the start, by the station's clock.
    pub(crate) timestamp: Option<Timestamp>,
    /// The reservation that it ends.
    pub(crate) reservation_id: Option<i64>,
}

/// Meter values, of a transaction or not (OCPP 1.6 sections 4.7 and 6.31).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MeterValues {
    /// Connector; 0 is the station's main meter. Required by the specification.
    pub(crate) connector_id: Option<u32>,
    /// Transaction of the values; `None` if they belong to none. It may be any number, such as
    /// `-1`.
    pub(crate) transaction_id: Option<i64>,
    /// The values; required by the specification.
    pub(crate) meter_values: Vec<MeterValue>,
}

/// A transaction has stopped (OCPP 1.6 sections 4.10 and 6.49). It is a fact, like
/// [`StartTransaction`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct StopTransaction {
    /// Transaction id, perhaps unknown to us, and `-1` if the station never learnt it. Required by
    /// the specification.
    pub(crate) transaction_id: Option<i64>,
    /// Id tag that stopped it; `None` if it was not stopped with a tag.
    pub(crate) id_tag: Option<String>,
    /// The meter at the stop, in Wh. Required by the specification.
    pub(crate) meter_stop: Option<i64>,
    /// Moment of the stop, by the station's clock. Required by the specification.
    pub(crate) timestamp: Option<Timestamp>,
    /// Reason of the stop; `None` stands for `Local`.
    pub(crate) reason: Option<Reason>,
    /// Values of the whole transaction.
    pub(crate) transaction_data: Vec<MeterValue>,
}

/// A request that is answered with a CALLERROR.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RequestError {
    /// The action is not one of OCPP 1.6.
    #[error("no action of OCPP 1.6: {action}")]
    UnknownAction {
        /// Its name.
        action: String,
    },
    /// The action is one of OCPP 1.6, but is not supported here.
    #[error("{action} is not supported here")]
    UnsupportedAction {
        /// Its name.
        action: String,
    },
    /// The payload is not an object.
    #[error("the payload is no JSON object; send the fields of the request as one")]
    NotAnObject,
    /// A field without which the request means nothing is missing.
    #[error("{field} is missing; send it")]
    Missing {
        /// Its name.
        field: &'static str,
    },
    /// A field without which the request means nothing is unreadable.
    #[error("{field} is unreadable; send it in the type that the schema demands")]
    Unreadable {
        /// Its name.
        field: &'static str,
    },
}

impl RequestError {
    /// The code to answer with (OCPP-J 1.6 section 4.2.3).
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownAction { .. } => ErrorCode::NotImplemented,
            Self::UnsupportedAction { .. } => ErrorCode::NotSupported,
            Self::NotAnObject => ErrorCode::FormationViolation,
            Self::Missing { .. } => ErrorCode::OccurenceConstraintViolation,
            Self::Unreadable { .. } => ErrorCode::TypeConstraintViolation,
        }
    }
}

impl From<RequestError> for Reply {
    fn from(error: RequestError) -> Self {
        Self::Error { code: error.code(), description: error.to_string() }
    }
}

impl StationRequest {
    /// Reads a request. An error is to be answered with its [`code`](RequestError::code); it never
    /// concerns BootNotification, Heartbeat, StartTransaction, MeterValues or StopTransaction.
    pub(crate) fn read(
        action: &str,
        payload: &Payload,
    ) -> Result<WithViolations<Self>, RequestError> {
        let json = payload.as_str();
        let mut notes = Notes::default();
        let request = match action {
            "Heartbeat" => {
                Fields::of_any(json, &mut notes).finish(&mut notes);
                Self::Heartbeat
            }
            "BootNotification" => Self::BootNotification(read_boot_notification(json, &mut notes)),
            "StartTransaction" => Self::StartTransaction(read_start_transaction(json, &mut notes)),
            "MeterValues" => Self::MeterValues(read_meter_values_request(json, &mut notes)),
            "StopTransaction" => Self::StopTransaction(read_stop_transaction(json, &mut notes)),
            "StatusNotification" => {
                Self::StatusNotification(read_status_notification(json, &mut notes)?)
            }
            "Authorize" => Self::Authorize(read_authorize(json, &mut notes)?),
            "DataTransfer" => {
                return Ok(read_data_transfer(payload).map(Self::DataTransfer));
            }
            "DiagnosticsStatusNotification" => {
                return Ok(read_progress(payload).map(Self::DiagnosticsStatusNotification));
            }
            "FirmwareStatusNotification" | "SignedFirmwareStatusNotification" => {
                return Ok(read_progress(payload).map(Self::FirmwareStatusNotification));
            }
            "LogStatusNotification" => {
                return Ok(read_progress(payload).map(Self::LogStatusNotification));
            }
            "SecurityEventNotification" => {
                return Ok(read_security_event(payload).map(Self::SecurityEventNotification));
            }
            "SignCertificate" => {
                return Ok(read_sign_certificate(payload).map(Self::SignCertificate));
            }
            action if UNSUPPORTED_ACTIONS.contains(&action) => {
                return Err(RequestError::UnsupportedAction { action: action.to_owned() });
            }
            action => {
                return Err(RequestError::UnknownAction { action: action.to_owned() });
            }
        };
        Ok(notes.read(request))
    }
}

/// Actions of OCPP 1.6 and its security extension that we do not take from a station, including
/// those that are only sent to stations.
const UNSUPPORTED_ACTIONS: [&str; 25] = [
    "CancelReservation",
    "CertificateSigned",
    "ChangeAvailability",
    "ChangeConfiguration",
    "ClearCache",
    "ClearChargingProfile",
    "DeleteCertificate",
    "ExtendedTriggerMessage",
    "GetCompositeSchedule",
    "GetConfiguration",
    "GetDiagnostics",
    "GetInstalledCertificateIds",
    "GetLocalListVersion",
    "GetLog",
    "InstallCertificate",
    "RemoteStartTransaction",
    "RemoteStopTransaction",
    "ReserveNow",
    "Reset",
    "SendLocalList",
    "SetChargingProfile",
    "SignedUpdateFirmware",
    "TriggerMessage",
    "UnlockConnector",
    "UpdateFirmware",
];

const ID_TAG_CHARS_MAX: usize = super::types::IdToken::CHARS_MAX;

fn read_boot_notification(json: &str, notes: &mut Notes) -> BootNotification {
    use Presence::{Optional, Required};
    let mut fields = Fields::of_any(json, notes);
    let boot = BootNotification {
        charge_point_vendor: fields.text("chargePointVendor", 20, Required, notes),
        charge_point_model: fields.text("chargePointModel", 20, Required, notes),
        charge_point_serial_number: fields.text("chargePointSerialNumber", 25, Optional, notes),
        charge_box_serial_number: fields.text("chargeBoxSerialNumber", 25, Optional, notes),
        firmware_version: fields.text("firmwareVersion", 50, Optional, notes),
        iccid: fields.text("iccid", 20, Optional, notes),
        imsi: fields.text("imsi", 20, Optional, notes),
        meter_type: fields.text("meterType", 25, Optional, notes),
        meter_serial_number: fields.text("meterSerialNumber", 25, Optional, notes),
    };
    fields.finish(notes);
    boot
}

fn read_status_notification(
    json: &str,
    notes: &mut Notes,
) -> Result<StatusNotification, RequestError> {
    use Presence::{Optional, Required};
    let mut fields = Fields::of(json, "").ok_or(RequestError::NotAnObject)?;
    let missing = indispensable(&fields, "connectorId");
    let connector_id = fields.ordinal("connectorId", Required, notes).ok_or(missing)?;
    let missing = indispensable(&fields, "status");
    let status = fields.choice("status", Required, notes).ok_or(missing)?;
    let notification = StatusNotification {
        connector_id,
        status,
        error_code: fields
            .choice("errorCode", Required, notes)
            .unwrap_or(ChargePointErrorCode::NoError),
        info: fields.text("info", 50, Optional, notes),
        timestamp: fields.timestamp("timestamp", Optional, notes),
        vendor_id: fields.text("vendorId", 255, Optional, notes),
        vendor_error_code: fields.text("vendorErrorCode", 50, Optional, notes),
    };
    fields.finish(notes);
    Ok(notification)
}

fn read_authorize(json: &str, notes: &mut Notes) -> Result<Authorize, RequestError> {
    let mut fields = Fields::of(json, "").ok_or(RequestError::NotAnObject)?;
    let missing = indispensable(&fields, "idTag");
    let id_tag =
        fields.text("idTag", ID_TAG_CHARS_MAX, Presence::Required, notes).ok_or(missing)?;
    fields.finish(notes);
    Ok(Authorize { id_tag })
}

fn read_start_transaction(json: &str, notes: &mut Notes) -> StartTransaction {
    use Presence::{Optional, Required};
    let mut fields = Fields::of_any(json, notes);
    let start = StartTransaction {
        connector_id: fields.ordinal("connectorId", Required, notes),
        id_tag: fields.text("idTag", ID_TAG_CHARS_MAX, Required, notes),
        meter_start: fields.quantity("meterStart", Required, notes),
        timestamp: fields.timestamp("timestamp", Required, notes),
        reservation_id: fields.integer("reservationId", Optional, notes),
    };
    fields.finish(notes);
    start
}

fn read_meter_values_request(json: &str, notes: &mut Notes) -> MeterValues {
    use Presence::{Optional, Required};
    let mut fields = Fields::of_any(json, notes);
    let values = MeterValues {
        connector_id: fields.ordinal("connectorId", Required, notes),
        transaction_id: fields.integer("transactionId", Optional, notes),
        meter_values: read_meter_values(&mut fields, "meterValue", Required, notes),
    };
    fields.finish(notes);
    values
}

fn read_stop_transaction(json: &str, notes: &mut Notes) -> StopTransaction {
    use Presence::{Optional, Required};
    let mut fields = Fields::of_any(json, notes);
    let stop = StopTransaction {
        transaction_id: fields.integer("transactionId", Required, notes),
        id_tag: fields.text("idTag", ID_TAG_CHARS_MAX, Optional, notes),
        meter_stop: fields.quantity("meterStop", Required, notes),
        timestamp: fields.timestamp("timestamp", Required, notes),
        reason: fields.choice("reason", Optional, notes),
        transaction_data: read_meter_values(&mut fields, "transactionData", Optional, notes),
    };
    fields.finish(notes);
    stop
}

/// Returns the error for a field that cannot be read.
fn indispensable(fields: &Fields<'_>, field: &'static str) -> RequestError {
    if fields.has(field) {
        RequestError::Unreadable { field }
    } else {
        RequestError::Missing { field }
    }
}
