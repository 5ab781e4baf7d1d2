//! What a station reports of itself beside its connectors and transactions.

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::progress::{FirmwareReported, UploadReported};
use super::security::{CertificateRequested, SecurityEventReported};

/// A station sent a message of a vendor that is registered here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VendorMessageReceived {
    /// Vendor that defines the message.
    pub(crate) vendor_id: String,
    /// Kind of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) message_id: Option<String>,
    /// Content of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) data: Option<String>,
    /// Moment when it reached us.
    pub(crate) received_at: Timestamp,
}

/// Report of a station about what it does for itself, or about its security.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum EquipmentReport {
    /// Progress of an update of firmware.
    Firmware(FirmwareReported),
    /// Progress of an upload.
    Upload(UploadReported),
    /// Something that concerns security.
    Security(SecurityEventReported),
    /// Request for a certificate.
    Certificate(CertificateRequested),
    /// Message of a vendor.
    Vendor(VendorMessageReceived),
}
