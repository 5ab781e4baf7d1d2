//! What speaks against an operation, by what is known of the station. Who forces an operation has
//! it sent all the same: laboratories want to see what a station says.

use serde::{Deserialize, Serialize};

use super::StationOperations;
use super::local_list::LOCAL_LIST_MAX;
use super::profile::{ChargingProfile, ProfileFault, ProfilePurpose};
use super::request::{ListEntry, ListExtent, StationOperation, TriggeredReport};

/// Refusal of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum OperationRefusal {
    /// The setting cannot be changed.
    #[error("the station reports {key} as read only; choose another setting")]
    ReadOnly {
        /// Its key.
        key: String,
    },
    /// A text that has to be there is empty.
    #[error("{field} is empty; give a text")]
    Empty {
        /// Its name.
        field: String,
    },
    /// The kind of trigger has no such report.
    #[error(
        "this report cannot be triggered so; use the other one of trigger-message and extended-trigger-message"
    )]
    ForeignReport,
    /// No station can make sense of the profile.
    #[error(transparent)]
    Profile(#[from] ProfileFault),
    /// The purpose of the profile does not fit the connector.
    #[error(
        "a profile of this purpose does not go to connector {connector_id}; use 0 for a ChargePointMaxProfile and a connector for a TxProfile"
    )]
    Purpose {
        /// Connector that was named.
        connector_id: u32,
    },
    /// The station takes no profile of this rank, length or unit.
    #[error("the station reports {key} as {reported}; keep to it")]
    BeyondStation {
        /// Setting that tells so.
        key: String,
        /// Value that the station reported.
        reported: String,
    },
    /// The version of the list is not above the one that the station has.
    #[error("the station has version {has} of its list; give a version above")]
    StaleVersion {
        /// Version that the station has.
        has: i64,
    },
    /// The version of a list begins at 1.
    #[error("version 0 stands for a station without a list; give a version from 1 on")]
    VersionZero,
    /// A tag is in the list twice, or an entry of a whole list has no terms.
    #[error("the entry of {id_tag} is there twice, or has no idTagInfo in a full list")]
    Entry {
        /// The tag.
        id_tag: String,
    },
    /// The list would be too long.
    #[error("the list would have {entries} entries; keep to {entries_max}")]
    ListTooLong {
        /// Entries that it would have.
        entries: usize,
        /// Entries at most.
        entries_max: u64,
    },
}

impl OperationRefusal {
    /// Returns a word for programs.
    #[must_use]
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::ReadOnly { .. } => "setting-read-only",
            Self::Empty { .. } => "empty-text",
            Self::ForeignReport => "foreign-report",
            Self::Profile(_) => "invalid-profile",
            Self::Purpose { .. } => "profile-purpose",
            Self::BeyondStation { .. } => "beyond-station",
            Self::StaleVersion { .. } => "stale-list-version",
            Self::VersionZero => "list-version-zero",
            Self::Entry { .. } => "invalid-list-entry",
            Self::ListTooLong { .. } => "list-too-long",
        }
    }
}

impl StationOperations {
    /// Checks an operation against what is known of the station.
    pub(crate) fn check(&self, operation: &StationOperation) -> Result<(), OperationRefusal> {
        match operation {
            StationOperation::ChangeSetting { key, .. } if key.as_str().is_empty() => empty("key"),
            StationOperation::ChangeSetting { key, .. }
                if self.settings.is_readonly(key.as_str()) =>
            {
                Err(OperationRefusal::ReadOnly { key: key.as_str().to_owned() })
            }
            StationOperation::SendVendorMessage { vendor_id, .. }
                if vendor_id.as_str().is_empty() =>
            {
                empty("vendorId")
            }
            StationOperation::Trigger {
                report: TriggeredReport::LogStatus | TriggeredReport::CertificateRequest,
                ..
            } => Err(OperationRefusal::ForeignReport),
            StationOperation::TriggerExtended {
                report: TriggeredReport::DiagnosticsStatus,
                ..
            } => Err(OperationRefusal::ForeignReport),
            StationOperation::UpdateLocalList { version, extent, entries } => {
                self.check_list((*version).into(), *extent, entries)
            }
            StationOperation::SetChargingProfile { connector_id, profile } => {
                self.check_profile(connector_id.get(), profile)
            }
            StationOperation::UploadDiagnostics { location, .. }
            | StationOperation::UpdateFirmware { location, .. }
                if location.as_str().is_empty() =>
            {
                empty("location")
            }
            StationOperation::InstallCertificate { certificate, .. }
                if certificate.as_str().is_empty() =>
            {
                empty("certificate")
            }
            StationOperation::ProvideCertificate { chain } if chain.as_str().is_empty() => {
                empty("certificateChain")
            }
            _ => Ok(()),
        }
    }

    fn check_list(
        &self,
        version: i64,
        extent: ListExtent,
        entries: &[ListEntry],
    ) -> Result<(), OperationRefusal> {
        let list = &self.local_list;
        if version == 0 {
            return Err(OperationRefusal::VersionZero);
        }
        if let Some(has) = list.version
            && extent == ListExtent::Differential
            && version <= has
        {
            return Err(OperationRefusal::StaleVersion { has });
        }
        let mut tags = std::collections::BTreeSet::new();
        for entry in entries {
            let id_tag = entry.id_tag.as_str();
            let is_bare = extent == ListExtent::Full && entry.terms.is_none();
            if !tags.insert(id_tag.to_ascii_lowercase()) || is_bare {
                return Err(OperationRefusal::Entry { id_tag: id_tag.to_owned() });
            }
        }
        let sent_max = self.settings.number("SendLocalListMaxLength").unwrap_or(u64::MAX);
        let kept_max = self.settings.number("LocalAuthListMaxLength").unwrap_or(u64::MAX);
        let kept_max = kept_max.min(LOCAL_LIST_MAX as u64);
        let afterwards = match extent {
            ListExtent::Full => entries.len(),
            ListExtent::Differential => {
                let known = |entry: &ListEntry| {
                    let is_it = |tag: &String| tag.eq_ignore_ascii_case(entry.id_tag.as_str());
                    list.entries.keys().any(is_it)
                };
                let added = entries.iter().filter(|it| it.terms.is_some() && !known(it)).count();
                let removed = entries.iter().filter(|it| it.terms.is_none() && known(it)).count();
                list.entries.len() + added - removed
            }
        };
        for (entries, entries_max) in [(entries.len(), sent_max), (afterwards, kept_max)] {
            if entries as u64 > entries_max {
                return Err(OperationRefusal::ListTooLong { entries, entries_max });
            }
        }
        Ok(())
    }

    /// Checks the profile of a remote start, which is one for the transaction to come.
    pub(crate) fn check_own_profile(
        &self,
        connector_id: u32,
        profile: &ChargingProfile,
    ) -> Result<(), OperationRefusal> {
        if profile.purpose != ProfilePurpose::Transaction {
            return Err(OperationRefusal::Purpose { connector_id });
        }
        self.check_profile(connector_id, profile)
    }

    /// Checks a profile for a connector.
    pub(crate) fn check_profile(
        &self,
        connector_id: u32,
        profile: &ChargingProfile,
    ) -> Result<(), OperationRefusal> {
        profile.check()?;
        match (profile.purpose, connector_id) {
            (ProfilePurpose::StationMax, 1..) | (ProfilePurpose::Transaction, 0) => {
                return Err(OperationRefusal::Purpose { connector_id });
            }
            _ => {}
        }
        let bounds = [
            ("ChargeProfileMaxStackLevel", u64::from(profile.stack_level.get())),
            ("ChargingScheduleMaxPeriods", profile.schedule.periods.len() as u64),
        ];
        for (key, asked) in bounds {
            if let Some(reported) = self.settings.number(key)
                && asked > reported
            {
                let (key, reported) = (key.to_owned(), reported.to_string());
                return Err(OperationRefusal::BeyondStation { key, reported });
            }
        }
        Ok(())
    }
}

fn empty(field: &str) -> Result<(), OperationRefusal> {
    Err(OperationRefusal::Empty { field: field.to_owned() })
}
