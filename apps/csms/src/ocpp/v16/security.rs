//! Operations and reports of the security extension: certificates, logs, signed firmware, security
//! events.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::parts::{object, stamp};
use crate::domain::operation::{
    CertificateHash, CertificateUse, LogKind, OperationResult, StationOperation,
};
use crate::ocpp::frame::Payload;
use crate::ocpp::reading::{Fields, Notes, Presence, ViolationKind, WithViolations};

/// Certificates of an answer that are read at most.
const CERTIFICATES_MAX: usize = 100;
/// The longest request for a certificate that is kept, in characters.
pub(crate) const CSR_CHARS_MAX: usize = 5_500;

/// Returns the payload of an operation of the security extension.
pub(super) fn payload(operation: &StationOperation) -> Option<Value> {
    Some(match operation {
        StationOperation::UploadLog { kind, request_id, log, retries, retry_interval_s } => {
            let kind = match kind {
                LogKind::Diagnostics => "DiagnosticsLog",
                LogKind::Security => "SecurityLog",
            };
            let log = object([
                ("remoteLocation", Some(log.location.as_str().into())),
                ("oldestTimestamp", log.oldest.map(stamp)),
                ("latestTimestamp", log.newest.map(stamp)),
            ]);
            object([
                ("logType", Some(kind.into())),
                ("requestId", Some(request_id.get().into())),
                ("log", Some(log)),
                ("retries", retries.map(|retries| retries.get().into())),
                ("retryInterval", retry_interval_s.map(|interval| interval.get().into())),
            ])
        }
        StationOperation::UpdateSignedFirmware {
            request_id,
            firmware,
            retries,
            retry_interval_s,
        } => {
            let firmware = object([
                ("location", Some(firmware.location.as_str().into())),
                ("retrieveDateTime", Some(stamp(firmware.retrieve_at))),
                ("installDateTime", firmware.install_at.map(stamp)),
                ("signingCertificate", Some(firmware.signing_certificate.as_str().into())),
                ("signature", Some(firmware.signature.as_str().into())),
            ]);
            object([
                ("requestId", Some(request_id.get().into())),
                ("firmware", Some(firmware)),
                ("retries", retries.map(|retries| retries.get().into())),
                ("retryInterval", retry_interval_s.map(|interval| interval.get().into())),
            ])
        }
        StationOperation::InstallCertificate { purpose, certificate } => json!({
            "certificateType": use_name(*purpose),
            "certificate": certificate.as_str(),
        }),
        StationOperation::DeleteCertificate { certificate } => {
            json!({ "certificateHashData": certificate_hash(certificate) })
        }
        StationOperation::ReadCertificates { purpose } => {
            json!({ "certificateType": use_name(*purpose) })
        }
        StationOperation::ProvideCertificate { chain } => {
            json!({ "certificateChain": chain.as_str() })
        }
        _ => return None,
    })
}

/// Returns the use of a certificate in the words of the specification.
pub(crate) fn use_name(purpose: CertificateUse) -> &'static str {
    match purpose {
        CertificateUse::ManagementRoot => "CentralSystemRootCertificate",
        CertificateUse::ManufacturerRoot => "ManufacturerRootCertificate",
    }
}

/// Returns the hashes of a certificate in the names of the specification.
pub(crate) fn certificate_hash(certificate: &CertificateHash) -> Value {
    json!({
        "hashAlgorithm": certificate.hash_algorithm,
        "issuerNameHash": certificate.issuer_name_hash,
        "issuerKeyHash": certificate.issuer_key_hash,
        "serialNumber": certificate.serial_number,
    })
}

/// Reads the certificates that a station trusts.
pub(super) fn certificates(fields: &mut Fields<'_>, notes: &mut Notes) -> Option<OperationResult> {
    let listed = fields.list("certificateHashData", Presence::Optional, notes);
    let read = |(path, raw): (String, &serde_json::value::RawValue)| {
        let mut fields = Fields::of(raw.get(), format!("{path}."))?;
        let mut text = |name: &str, chars_max| {
            fields.text(name, chars_max, Presence::Required, notes).unwrap_or_default()
        };
        let hash = json!({
            "hash_algorithm": text("hashAlgorithm", 6),
            "issuer_name_hash": text("issuerNameHash", 128),
            "issuer_key_hash": text("issuerKeyHash", 128),
            "serial_number": text("serialNumber", 40),
        });
        fields.finish(notes);
        let certificate = serde_json::from_value::<CertificateHash>(hash).ok();
        if certificate.is_none() {
            notes.note(&path, ViolationKind::Unreadable);
        }
        certificate
    };
    let certificates = listed.into_iter().take(CERTIFICATES_MAX).filter_map(read).collect();
    Some(OperationResult::Certificates { certificates })
}

/// Something that concerns a station's security has happened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct SecurityEventNotification {
    /// Kind of the event. Required by the specification.
    pub(crate) kind: Option<String>,
    /// Moment of the event, by the station's clock. Required by the specification.
    pub(crate) timestamp: Option<Timestamp>,
    /// Details.
    pub(crate) tech_info: Option<String>,
}

/// Reads a security event.
pub(super) fn read_security_event(payload: &Payload) -> WithViolations<SecurityEventNotification> {
    let mut notes = Notes::default();
    let mut fields = Fields::of_any(payload.as_str(), &mut notes);
    let event = SecurityEventNotification {
        kind: fields.text("type", 50, Presence::Required, &mut notes),
        timestamp: fields.timestamp("timestamp", Presence::Required, &mut notes),
        tech_info: fields.text("techInfo", 255, Presence::Optional, &mut notes),
    };
    fields.finish(&mut notes);
    notes.read(event)
}

/// Reads a request for a certificate; `None` if there is no text that could be one.
pub(super) fn read_sign_certificate(payload: &Payload) -> WithViolations<Option<String>> {
    let mut notes = Notes::default();
    let mut fields = Fields::of_any(payload.as_str(), &mut notes);
    let csr = fields.content("csr", CSR_CHARS_MAX, Presence::Required, &mut notes);
    fields.finish(&mut notes);
    notes.read(csr.filter(|csr| !csr.is_empty() && csr.chars().count() <= CSR_CHARS_MAX))
}
