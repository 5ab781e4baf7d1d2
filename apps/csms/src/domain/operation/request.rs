//! The operations that can be asked of a station, and what comes of them: one pair of events for
//! all.

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::bounded::{BoundedText, Natural};
use super::profile::{ChargingProfile, ProfilePurpose, RateUnit};
use crate::domain::request::{RequestId, StationAnswer};
use crate::ocpp::v16::{AuthorizationStatus, IdToken};

/// Key of a setting.
pub(crate) type SettingKey = BoundedText<50>;
/// Place that a station loads a file from, or sends a file to.
pub(crate) type FileLocation = BoundedText<512>;

/// Settings that one operation reads at most.
pub(crate) const KEYS_MAX: usize = 500;

/// Operation that a station is asked for. The aliases are the names of OCPP 1.6, in which callers
/// of the API spell them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) enum StationOperation {
    /// Put a connector, or with number 0 the station, into or out of service (1.6:
    /// ChangeAvailability).
    ChangeAvailability {
        /// Connector; 0 is the station with all its connectors.
        connector_id: Natural,
        /// State to be in.
        #[serde(alias = "type")]
        availability: OperationalState,
    },
    /// Change a setting (1.6: ChangeConfiguration).
    ChangeSetting {
        /// Key of the setting.
        key: SettingKey,
        /// New value; `None` in events if it is a secret.
        #[serde(default)]
        value: Option<BoundedText<500>>,
    },
    /// Read settings (1.6: GetConfiguration).
    ReadSettings {
        /// Keys to read, at most [`KEYS_MAX`]; empty for all settings.
        #[serde(default, alias = "key")]
        keys: Vec<SettingKey>,
    },
    /// Forget the tags that were accepted lately (1.6: ClearCache).
    ClearCache {},
    /// Restart (1.6: Reset).
    Reset {
        /// Manner of the restart.
        #[serde(alias = "type")]
        kind: ResetKind,
    },
    /// Take a message of a vendor's own (1.6: DataTransfer).
    SendVendorMessage {
        /// Vendor that defines the message.
        vendor_id: BoundedText<255>,
        /// Kind of the message.
        #[serde(default)]
        message_id: Option<BoundedText<50>>,
        /// Content of the message.
        #[serde(default)]
        data: Option<BoundedText<40_000>>,
    },
    /// Send a report (1.6: TriggerMessage).
    Trigger {
        /// Report to send.
        #[serde(alias = "requested_message")]
        report: TriggeredReport,
        /// Connector that the report is about; `None` for all of them.
        #[serde(default)]
        connector_id: Option<Natural>,
    },
    /// Send a report, of the reports of the security extension too (1.6: ExtendedTriggerMessage).
    TriggerExtended {
        /// Report to send.
        #[serde(alias = "requested_message")]
        report: TriggeredReport,
        /// Connector that the report is about; `None` for all of them.
        #[serde(default)]
        connector_id: Option<Natural>,
    },
    /// Tell the version of the local list (1.6: GetLocalListVersion).
    ReadLocalListVersion {},
    /// Take a local list, or changes to it (1.6: SendLocalList).
    UpdateLocalList {
        /// Version of the list afterwards.
        #[serde(alias = "list_version")]
        version: Natural,
        /// Extent of the entries.
        #[serde(alias = "update_type")]
        extent: ListExtent,
        /// Entries; of a change those without terms are removed.
        #[serde(default, alias = "local_authorization_list")]
        entries: Vec<ListEntry>,
    },
    /// Limit the power (1.6: SetChargingProfile).
    SetChargingProfile {
        /// Connector; 0 is the station.
        connector_id: Natural,
        /// Limits.
        #[serde(alias = "cs_charging_profiles")]
        profile: ChargingProfile,
    },
    /// Take limits of power back: those that fit everything that is given (1.6:
    /// ClearChargingProfile).
    ClearChargingProfiles {
        /// Id of the profile.
        #[serde(default)]
        id: Option<Natural>,
        /// Connector of the profiles.
        #[serde(default)]
        connector_id: Option<Natural>,
        /// Purpose of the profiles.
        #[serde(default, alias = "charging_profile_purpose")]
        purpose: Option<ProfilePurpose>,
        /// Stack level of the profiles.
        #[serde(default)]
        stack_level: Option<Natural>,
    },
    /// Tell the limits that hold together (1.6: GetCompositeSchedule).
    ReadCompositeSchedule {
        /// Connector; 0 is the station.
        connector_id: Natural,
        /// Time to tell of, in seconds.
        #[serde(rename = "duration_s", alias = "duration")]
        duration_s: Natural,
        /// Unit of the limits; `None` leaves the choice to the station.
        #[serde(default, alias = "charging_rate_unit")]
        unit: Option<RateUnit>,
    },
    /// Upload diagnostics (1.6: GetDiagnostics).
    UploadDiagnostics {
        /// Folder to upload to.
        location: FileLocation,
        /// Repetitions at most.
        #[serde(default)]
        retries: Option<Natural>,
        /// Time between two, in seconds.
        #[serde(default, rename = "retry_interval_s", alias = "retry_interval")]
        retry_interval_s: Option<Natural>,
        /// Moment of the oldest line.
        #[serde(default, alias = "start_time")]
        oldest: Option<Timestamp>,
        /// Moment of the newest line.
        #[serde(default, alias = "stop_time")]
        newest: Option<Timestamp>,
    },
    /// Upload a log (1.6: GetLog).
    UploadLog {
        /// Kind of the log.
        #[serde(alias = "log_type")]
        kind: LogKind,
        /// Number that the reports about it carry.
        request_id: Natural,
        /// Place and extent.
        log: LogExtent,
        /// Repetitions at most.
        #[serde(default)]
        retries: Option<Natural>,
        /// Time between two, in seconds.
        #[serde(default, rename = "retry_interval_s", alias = "retry_interval")]
        retry_interval_s: Option<Natural>,
    },
    /// Install firmware (1.6: UpdateFirmware).
    UpdateFirmware {
        /// File to load.
        location: FileLocation,
        /// Moment from which it is there.
        #[serde(alias = "retrieve_date")]
        retrieve_at: Timestamp,
        /// Repetitions at most.
        #[serde(default)]
        retries: Option<Natural>,
        /// Time between two, in seconds.
        #[serde(default, rename = "retry_interval_s", alias = "retry_interval")]
        retry_interval_s: Option<Natural>,
    },
    /// Install firmware whose signature is checked (1.6: SignedUpdateFirmware).
    UpdateSignedFirmware {
        /// Number that the reports about it carry.
        request_id: Natural,
        /// The firmware.
        firmware: SignedFirmware,
        /// Repetitions at most.
        #[serde(default)]
        retries: Option<Natural>,
        /// Time between two, in seconds.
        #[serde(default, rename = "retry_interval_s", alias = "retry_interval")]
        retry_interval_s: Option<Natural>,
    },
    /// Trust a certificate (1.6: InstallCertificate).
    InstallCertificate {
        /// Use of the certificate.
        #[serde(rename = "use", alias = "certificate_type")]
        purpose: CertificateUse,
        /// The certificate as PEM.
        certificate: BoundedText<5_500>,
    },
    /// Trust a certificate no more (1.6: DeleteCertificate).
    DeleteCertificate {
        /// The certificate.
        #[serde(alias = "certificate_hash_data")]
        certificate: CertificateHash,
    },
    /// Tell the certificates that are trusted (1.6: GetInstalledCertificateIds).
    ReadCertificates {
        /// Use of the certificates.
        #[serde(rename = "use", alias = "certificate_type")]
        purpose: CertificateUse,
    },
    /// Use a signed certificate as the own (1.6: CertificateSigned).
    ProvideCertificate {
        /// The certificate and those above it, as PEM.
        #[serde(alias = "certificate_chain")]
        chain: BoundedText<10_000>,
    },
}

/// State of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OperationalState {
    /// In service.
    Operative,
    /// Out of service.
    Inoperative,
}

/// Manner of a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ResetKind {
    /// At once.
    Hard,
    /// In order: transactions are stopped first.
    Soft,
}

/// Report that a station can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TriggeredReport {
    /// Data of the station, as after a start.
    #[serde(alias = "BootNotification")]
    Boot,
    /// Progress of an upload of diagnostics.
    #[serde(alias = "DiagnosticsStatusNotification")]
    DiagnosticsStatus,
    /// Progress of an update of firmware.
    #[serde(alias = "FirmwareStatusNotification")]
    FirmwareStatus,
    /// A sign of life.
    Heartbeat,
    /// Progress of an upload of a log.
    #[serde(alias = "LogStatusNotification")]
    LogStatus,
    /// Values of the meters.
    MeterValues,
    /// A request for a certificate of its own.
    #[serde(alias = "SignChargePointCertificate")]
    CertificateRequest,
    /// State of connectors.
    #[serde(alias = "StatusNotification")]
    ConnectorStatus,
}

/// Extent of the entries of a local list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ListExtent {
    /// Changes to the list of the version before.
    Differential,
    /// The whole list.
    Full,
}

/// Entry of a local list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListEntry {
    /// Id tag.
    pub(crate) id_tag: IdToken,
    /// Terms of the tag; `None` removes it.
    #[serde(default, alias = "id_tag_info")]
    pub(crate) terms: Option<ListTerms>,
}

/// Terms of an id tag in a local list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListTerms {
    /// Verdict on the tag.
    pub(crate) status: AuthorizationStatus,
    /// Moment until which it holds.
    #[serde(default)]
    pub(crate) expiry_date: Option<Timestamp>,
    /// Group of the tag.
    #[serde(default)]
    pub(crate) parent_id_tag: Option<IdToken>,
}

/// Kind of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LogKind {
    /// For the diagnosis of faults.
    #[serde(alias = "DiagnosticsLog")]
    Diagnostics,
    /// Of what concerns security.
    #[serde(alias = "SecurityLog")]
    Security,
}

/// Place and extent of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LogExtent {
    /// Folder to upload to.
    #[serde(alias = "remote_location")]
    pub(crate) location: FileLocation,
    /// Moment of the oldest line.
    #[serde(default, alias = "oldest_timestamp")]
    pub(crate) oldest: Option<Timestamp>,
    /// Moment of the newest line.
    #[serde(default, alias = "latest_timestamp")]
    pub(crate) newest: Option<Timestamp>,
}

/// Firmware with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignedFirmware {
    /// File to load.
    pub(crate) location: FileLocation,
    /// Moment from which it is there.
    #[serde(alias = "retrieve_date_time")]
    pub(crate) retrieve_at: Timestamp,
    /// Moment from which it may be installed.
    #[serde(default, alias = "install_date_time")]
    pub(crate) install_at: Option<Timestamp>,
    /// Certificate of the signer, as PEM.
    pub(crate) signing_certificate: BoundedText<5_500>,
    /// Signature, as Base64.
    pub(crate) signature: BoundedText<800>,
}

/// Use of a certificate that a station trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum CertificateUse {
    /// To know the management system.
    #[serde(alias = "CentralSystemRootCertificate")]
    ManagementRoot,
    /// To know the signers of firmware.
    #[serde(alias = "ManufacturerRootCertificate")]
    ManufacturerRoot,
}

/// Hashes that name a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateHash {
    /// Function of the hashes.
    pub(crate) hash_algorithm: HashFunction,
    /// Hash of the issuer's name.
    pub(crate) issuer_name_hash: BoundedText<128>,
    /// Hash of the issuer's key.
    pub(crate) issuer_key_hash: BoundedText<128>,
    /// Serial number of the certificate.
    pub(crate) serial_number: BoundedText<40>,
}

/// Function of a hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HashFunction {
    /// SHA-256
    #[serde(rename = "SHA256")]
    Sha256,
    /// SHA-384
    #[serde(rename = "SHA384")]
    Sha384,
    /// SHA-512
    #[serde(rename = "SHA512")]
    Sha512,
}

/// An operation is asked of a station: the intent of an effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OperationRequested {
    /// The station.
    pub(crate) station: String,
    /// Id of the request.
    pub(crate) request: RequestId,
    /// The operation, without its secret.
    pub(crate) operation: StationOperation,
    /// True if a part of the operation is a secret that is in no event.
    #[serde(default)]
    pub(crate) has_secret: bool,
    /// Name of who asked.
    pub(crate) by: String,
    /// True if it is sent whatever speaks against it.
    #[serde(default)]
    pub(crate) forced: bool,
    /// Moment of the request.
    pub(crate) requested_at: Timestamp,
    /// Moment until which it is sent.
    pub(crate) until: Timestamp,
}

/// An operation has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OperationAnswered {
    /// Id of the request.
    pub(crate) request: RequestId,
    /// Moment of the answer.
    pub(crate) at: Timestamp,
    /// Outcome.
    pub(crate) answer: StationAnswer,
    /// Content of the answer beyond that; `None` if it says no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<OperationResult>,
}

/// Content of a station's answer beyond yes and no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum OperationResult {
    /// It will be done when a transaction has ended.
    Scheduled {},
    /// It takes effect after a restart.
    RestartRequired {},
    /// It takes the place of one that was under way.
    Replaced {
        /// Name of the file that is uploaded.
        #[serde(default)]
        file_name: Option<String>,
    },
    /// Settings as they are.
    Settings {
        /// Settings that the station has.
        settings: Vec<ReportedSetting>,
        /// Keys that it does not know.
        unknown: Vec<String>,
    },
    /// All settings as they were known already.
    SettingsUnchanged {},
    /// Version of the local list; 0 if it is empty, -1 if there are none.
    LocalListVersion {
        /// The version.
        version: i64,
    },
    /// Name of the file that is uploaded.
    File {
        /// The name.
        name: String,
    },
    /// Data of a vendor's own.
    VendorData {
        /// The data.
        data: String,
    },
    /// Certificates that are trusted.
    Certificates {
        /// Their hashes.
        certificates: Vec<CertificateHash>,
    },
    /// Limits that hold together.
    CompositeSchedule(super::profile::ReportedSchedule),
}

/// Setting as a station reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReportedSetting {
    /// Its key.
    pub(crate) key: String,
    /// True if it cannot be changed.
    pub(crate) readonly: bool,
    /// Its value; `None` if it has none, or if it is a secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) value: Option<String>,
    /// True if the value is a secret.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) is_secret: bool,
}

impl StationOperation {
    /// Tells whether the station may be asked again without harm if its answer was lost: questions,
    /// and changes to a state that is named.
    #[must_use]
    pub(crate) fn is_repeatable(&self) -> bool {
        match self {
            Self::ChangeAvailability { .. }
            | Self::ChangeSetting { .. }
            | Self::ReadSettings { .. }
            | Self::ClearCache {}
            | Self::Trigger { .. }
            | Self::TriggerExtended { .. }
            | Self::ReadLocalListVersion {}
            | Self::SetChargingProfile { .. }
            | Self::ClearChargingProfiles { .. }
            | Self::ReadCompositeSchedule { .. }
            | Self::ReadCertificates { .. }
            | Self::InstallCertificate { .. }
            | Self::ProvideCertificate { .. } => true,
            Self::UpdateLocalList { extent, .. } => *extent == ListExtent::Full,
            Self::Reset { .. }
            | Self::SendVendorMessage { .. }
            | Self::UploadDiagnostics { .. }
            | Self::UploadLog { .. }
            | Self::UpdateFirmware { .. }
            | Self::UpdateSignedFirmware { .. }
            | Self::DeleteCertificate { .. } => false,
        }
    }

    /// Tells whether it asks only, and changes nothing at the station that lasts.
    #[must_use]
    pub(crate) fn is_question(&self) -> bool {
        matches!(
            self,
            Self::ReadSettings { .. }
                | Self::Trigger { .. }
                | Self::TriggerExtended { .. }
                | Self::ReadLocalListVersion {}
                | Self::ReadCompositeSchedule { .. }
                | Self::ReadCertificates { .. }
        )
    }
}
