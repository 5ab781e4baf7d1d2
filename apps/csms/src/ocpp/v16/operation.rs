//! The operations of the domain as messages of OCPP 1.6: the action and the payload of each, the
//! reading of its answer, and the reading of a payload in a caller's words.
//!
//! The names of the variants and of the routes stand in one table, [`ACTIONS`].

use serde_json::{Map, Value, json};

use super::parts::ConfirmationError;
use super::{core, firmware, local_list, security, smart_charging};
use crate::domain::operation::{ChargingProfile, OperationResult, StationOperation};
use crate::domain::request::StationAnswer;
use crate::ocpp::frame::Payload;
use crate::ocpp::open_enum::open_enum;
use crate::ocpp::reading::{Fields, Notes, Presence, WithViolations};

/// The longest answer of a station that is kept with the effect, in bytes.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// Action of OCPP 1.6: the variant of [`StationOperation`] that it stands for, and its route.
#[derive(Debug)]
pub(crate) struct OperationAction {
    /// The variant's name.
    variant: &'static str,
    /// The last part of its route: the action with hyphens.
    pub(crate) route: &'static str,
}

/// Returns a row of [`ACTIONS`].
const fn row(variant: &'static str, route: &'static str) -> OperationAction {
    OperationAction { variant, route }
}

/// All actions that are operations.
pub(crate) const ACTIONS: [OperationAction; 21] = [
    row("ProvideCertificate", "certificate-signed"),
    row("ChangeAvailability", "change-availability"),
    row("ChangeSetting", "change-configuration"),
    row("ClearCache", "clear-cache"),
    row("ClearChargingProfiles", "clear-charging-profile"),
    row("SendVendorMessage", "data-transfer"),
    row("DeleteCertificate", "delete-certificate"),
    row("TriggerExtended", "extended-trigger-message"),
    row("ReadCompositeSchedule", "get-composite-schedule"),
    row("ReadSettings", "get-configuration"),
    row("UploadDiagnostics", "get-diagnostics"),
    row("ReadCertificates", "get-installed-certificate-ids"),
    row("ReadLocalListVersion", "get-local-list-version"),
    row("UploadLog", "get-log"),
    row("InstallCertificate", "install-certificate"),
    row("Reset", "reset"),
    row("UpdateLocalList", "send-local-list"),
    row("SetChargingProfile", "set-charging-profile"),
    row("UpdateSignedFirmware", "signed-update-firmware"),
    row("Trigger", "trigger-message"),
    row("UpdateFirmware", "update-firmware"),
];

open_enum! {
    /// Status of a station's answer to an operation, of all actions together.
    OperationStatus {
        Accepted = "Accepted",
        AcceptedCanceled = "AcceptedCanceled",
        Failed = "Failed",
        InvalidCertificate = "InvalidCertificate",
        NotFound = "NotFound",
        NotImplemented = "NotImplemented",
        NotSupported = "NotSupported",
        RebootRequired = "RebootRequired",
        Rejected = "Rejected",
        RevokedCertificate = "RevokedCertificate",
        Scheduled = "Scheduled",
        NotKnown = "Unknown",
        UnknownMessageId = "UnknownMessageId",
        UnknownVendorId = "UnknownVendorId",
        VersionMismatch = "VersionMismatch",
    }
}

/// A station's answer to an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OperationReply {
    /// Its meaning.
    pub(crate) answer: StationAnswer,
    /// Content of the answer beyond that.
    pub(crate) result: Option<OperationResult>,
    /// The whole answer without secrets; `None` if it is longer than [`RESPONSE_BYTES_MAX`].
    pub(crate) response: Option<Value>,
}

/// Error of a payload in a caller's words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    /// It is not an object.
    #[error("the body is no JSON object; send the fields of the request as one")]
    NotAnObject,
    /// A field is missing, unknown, or has a value that the specification does not allow.
    #[error("{0}")]
    Field(serde_json::Error),
}

/// Returns the action that an operation is.
pub(crate) fn action_of(operation: &StationOperation) -> &'static str {
    match operation {
        StationOperation::ChangeAvailability { .. } => "ChangeAvailability",
        StationOperation::ChangeSetting { .. } => "ChangeConfiguration",
        StationOperation::ReadSettings { .. } => "GetConfiguration",
        StationOperation::ClearCache {} => "ClearCache",
        StationOperation::Reset { .. } => "Reset",
        StationOperation::SendVendorMessage { .. } => "DataTransfer",
        StationOperation::Trigger { .. } => "TriggerMessage",
        StationOperation::TriggerExtended { .. } => "ExtendedTriggerMessage",
        StationOperation::ReadLocalListVersion {} => "GetLocalListVersion",
        StationOperation::UpdateLocalList { .. } => "SendLocalList",
        StationOperation::SetChargingProfile { .. } => "SetChargingProfile",
        StationOperation::ClearChargingProfiles { .. } => "ClearChargingProfile",
        StationOperation::ReadCompositeSchedule { .. } => "GetCompositeSchedule",
        StationOperation::UploadDiagnostics { .. } => "GetDiagnostics",
        StationOperation::UploadLog { .. } => "GetLog",
        StationOperation::UpdateFirmware { .. } => "UpdateFirmware",
        StationOperation::UpdateSignedFirmware { .. } => "SignedUpdateFirmware",
        StationOperation::InstallCertificate { .. } => "InstallCertificate",
        StationOperation::DeleteCertificate { .. } => "DeleteCertificate",
        StationOperation::ReadCertificates { .. } => "GetInstalledCertificateIds",
        StationOperation::ProvideCertificate { .. } => "CertificateSigned",
    }
}

/// Returns the route of an operation that stands in an event as this JSON.
pub(crate) fn route_of(operation: &Value) -> Option<&'static str> {
    let variant = operation.as_object()?.keys().next()?;
    ACTIONS.iter().find(|row| row.variant == variant).map(|row| row.route)
}

/// Reads an operation from the payload of its action, with the names of the specification.
pub(crate) fn read_operation(
    row: &OperationAction,
    body: &[u8],
) -> Result<StationOperation, OperationError> {
    let body = if body.is_empty() { b"{}" } else { body };
    let payload: Value = serde_json::from_slice(body).map_err(OperationError::Field)?;
    if !payload.is_object() {
        return Err(OperationError::NotAnObject);
    }
    let named = Map::from_iter([(row.variant.to_owned(), in_snake_case(payload))]);
    serde_json::from_value(Value::Object(named)).map_err(OperationError::Field)
}

/// Reads a charging profile with the names of the specification.
pub(crate) fn read_profile(payload: Value) -> Result<ChargingProfile, OperationError> {
    serde_json::from_value(in_snake_case(payload)).map_err(OperationError::Field)
}

/// Returns the same value with all names in snake case, as they are in events. A name that is in
/// snake case already is spoilt, so that nobody takes it for a right one.
fn in_snake_case(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let renamed = |(name, value): (String, Value)| {
                let name = name.chars().fold(String::new(), |mut snake, character| {
                    match character {
                        '_' => snake.push_str("__"),
                        'A'..='Z' => snake.extend(['_', character.to_ascii_lowercase()]),
                        _ => snake.push(character),
                    }
                    snake
                });
                (name, in_snake_case(value))
            };
            Value::Object(fields.into_iter().map(renamed).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(in_snake_case).collect()),
        value => value,
    }
}

/// Returns the payload of an operation.
pub(crate) fn payload_of(operation: &StationOperation) -> Value {
    core::payload(operation)
        .or_else(|| local_list::payload(operation))
        .or_else(|| smart_charging::payload(operation))
        .or_else(|| firmware::payload(operation))
        .or_else(|| security::payload(operation))
        .unwrap_or_else(|| json!({}))
}

/// Reads a station's answer to an operation. A status that is not in the specification is a no.
pub(crate) fn read_reply(
    operation: &StationOperation,
    payload: &Payload,
) -> Result<WithViolations<OperationReply>, ConfirmationError> {
    let mut notes = Notes::default();
    let mut fields = Fields::of(payload.as_str(), "").ok_or(ConfirmationError)?;
    let (answer, result) = match operation {
        StationOperation::ReadSettings { .. } => {
            (StationAnswer::Accepted, Some(core::settings(&mut fields, &mut notes)))
        }
        StationOperation::ReadLocalListVersion {} => {
            (StationAnswer::Accepted, Some(local_list::version(&mut fields, &mut notes)?))
        }
        StationOperation::UploadDiagnostics { .. } => {
            (StationAnswer::Accepted, firmware::file_name("fileName", &mut fields, &mut notes))
        }
        StationOperation::UpdateFirmware { .. } => (StationAnswer::Accepted, None),
        _ => read_status(operation, &mut fields, &mut notes)?,
    };
    fields.finish(&mut notes);
    let response = response(result.as_ref(), payload);
    Ok(notes.read(OperationReply { answer, result, response }))
}

fn read_status(
    operation: &StationOperation,
    fields: &mut Fields<'_>,
    notes: &mut Notes,
) -> Result<(StationAnswer, Option<OperationResult>), ConfirmationError> {
    let status: OperationStatus =
        fields.choice("status", Presence::Required, notes).ok_or(ConfirmationError)?;
    let more = match operation {
        StationOperation::SendVendorMessage { .. } => core::vendor_data(fields, notes),
        StationOperation::ReadCompositeSchedule { .. } => smart_charging::composite(fields, notes),
        StationOperation::UploadLog { .. } => firmware::file_name("filename", fields, notes),
        StationOperation::ReadCertificates { .. } => security::certificates(fields, notes),
        _ => None,
    };
    Ok(match status {
        OperationStatus::Accepted => (StationAnswer::Accepted, more),
        OperationStatus::Scheduled => {
            (StationAnswer::Accepted, Some(OperationResult::Scheduled {}))
        }
        OperationStatus::RebootRequired => {
            (StationAnswer::Accepted, Some(OperationResult::RestartRequired {}))
        }
        OperationStatus::AcceptedCanceled => {
            let file_name = match more {
                Some(OperationResult::File { name }) => Some(name),
                _ => None,
            };
            (StationAnswer::Accepted, Some(OperationResult::Replaced { file_name }))
        }
        // No certificate is an answer to the question for all of them.
        OperationStatus::NotFound
            if matches!(operation, StationOperation::ReadCertificates { .. }) =>
        {
            let certificates = Vec::new();
            (StationAnswer::Accepted, Some(OperationResult::Certificates { certificates }))
        }
        status => (StationAnswer::Rejected { status: status.as_str().to_owned() }, more),
    })
}

/// Returns the whole answer without secrets: of settings what was read of it.
fn response(result: Option<&OperationResult>, payload: &Payload) -> Option<Value> {
    if payload.as_str().len() > RESPONSE_BYTES_MAX {
        return None;
    }
    match result {
        Some(OperationResult::Settings { settings, unknown }) => {
            Some(core::settings_shown(settings, unknown))
        }
        _ => serde_json::from_str(payload.as_str()).ok(),
    }
}
