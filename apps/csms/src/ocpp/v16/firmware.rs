//! Operations and reports about firmware and diagnostics.

use serde_json::Value;

use super::parts::{object, stamp};
use crate::domain::operation::{OperationResult, StationOperation};
use crate::ocpp::frame::Payload;
use crate::ocpp::open_enum::open_enum;
use crate::ocpp::reading::{Fields, Notes, Presence, WithViolations, cut};

open_enum! {
    /// Progress of an update of firmware (OCPP 1.6 section 7.25, and the security extension).
    FirmwareStatus {
        Downloaded = "Downloaded",
        DownloadFailed = "DownloadFailed",
        Downloading = "Downloading",
        DownloadScheduled = "DownloadScheduled",
        DownloadPaused = "DownloadPaused",
        Idle = "Idle",
        InstallationFailed = "InstallationFailed",
        Installing = "Installing",
        Installed = "Installed",
        InstallRebooting = "InstallRebooting",
        InstallScheduled = "InstallScheduled",
        InstallVerificationFailed = "InstallVerificationFailed",
        InvalidSignature = "InvalidSignature",
        SignatureVerified = "SignatureVerified",
    }
}

open_enum! {
    /// Progress of an upload of diagnostics or of a log (OCPP 1.6 section 7.24, and the security
    /// extension).
    UploadStatus {
        BadMessage = "BadMessage",
        Idle = "Idle",
        NotSupportedOperation = "NotSupportedOperation",
        PermissionDenied = "PermissionDenied",
        Uploaded = "Uploaded",
        UploadFailed = "UploadFailed",
        UploadFailure = "UploadFailure",
        Uploading = "Uploading",
    }
}

/// Report about a file of a station: its progress, and the request that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProgressReport<S> {
    /// Status; `None` if it is missing or nonsense. Required by the specification.
    pub(crate) status: Option<S>,
    /// Number of the request; `None` if the report carries none.
    pub(crate) request_id: Option<i64>,
}

/// Returns the payload of an operation about firmware or diagnostics.
pub(super) fn payload(operation: &StationOperation) -> Option<Value> {
    Some(match operation {
        StationOperation::UploadDiagnostics {
            location,
            retries,
            retry_interval_s,
            oldest,
            newest,
        } => object([
            ("location", Some(location.as_str().into())),
            ("retries", retries.map(|retries| retries.get().into())),
            ("retryInterval", retry_interval_s.map(|interval| interval.get().into())),
            ("startTime", oldest.map(stamp)),
            ("stopTime", newest.map(stamp)),
        ]),
        StationOperation::UpdateFirmware { location, retrieve_at, retries, retry_interval_s } => {
            object([
                ("location", Some(location.as_str().into())),
                ("retrieveDate", Some(stamp(*retrieve_at))),
                ("retries", retries.map(|retries| retries.get().into())),
                ("retryInterval", retry_interval_s.map(|interval| interval.get().into())),
            ])
        }
        _ => return None,
    })
}

/// Reads the name of a file that is uploaded.
pub(super) fn file_name(
    field: &str,
    fields: &mut Fields<'_>,
    notes: &mut Notes,
) -> Option<OperationResult> {
    let name = fields.text(field, 255, Presence::Optional, notes)?;
    Some(OperationResult::File { name: cut(&name, 255) })
}

/// Reads a report about a file.
pub(super) fn read_progress<S: crate::ocpp::open_enum::OpenEnum>(
    payload: &Payload,
) -> WithViolations<ProgressReport<S>> {
    let mut notes = Notes::default();
    let mut fields = Fields::of_any(payload.as_str(), &mut notes);
    let report = ProgressReport {
        status: fields.choice("status", Presence::Required, &mut notes),
        request_id: fields.integer("requestId", Presence::Optional, &mut notes),
    };
    fields.finish(&mut notes);
    notes.read(report)
}
