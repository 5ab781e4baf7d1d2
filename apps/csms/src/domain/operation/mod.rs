//! Operations: what can be asked of a station, what it answered, and what is known of the station
//! from that: a fold nested in the station's. One pair of events serves all operations.
//!
//! - `bounded`: texts and numbers that a station can take
//! - `request`: the operations, and their pair of events
//! - `secret`: parts of operations that are in no event
//! - `shared`: a state that is copied only when it changes
//! - `refusal`: what speaks against an operation
//! - `settings`: the configuration, as reported, beside what was asked and answered
//! - `local_list`: the tags that a station knows by itself, with their version
//! - `profile`: limits of power; `charging`: those that a station has; `composite`: what they come
//!   to together
//! - `progress`: updates of firmware, and uploads of diagnostics and logs
//! - `security`: security events, and certificates
//! - `report`: all that a station reports by itself
//!
//! This file has the fold as a whole.

mod bounded;
mod charging;
mod composite;
mod local_list;
mod profile;
mod progress;
mod refusal;
mod report;
mod request;
mod secret;
mod security;
mod settings;
mod shared;

use std::collections::BTreeMap;

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use bounded::BoundedText;
#[cfg(test)]
pub(crate) use bounded::{Natural, Tenths};
pub(crate) use charging::{InstalledProfile, InstalledProfiles};
pub(crate) use composite::{COMPOSITE_S_MAX, CompositeQuery};
pub(crate) use local_list::{LOCAL_LIST_MAX, LocalList};
pub(crate) use profile::{
    ChargingProfile, ChargingSchedule, PERIODS_MAX, ProfileKind, ProfilePurpose, RateUnit,
    Recurrence, ReportedSchedule, SchedulePeriod,
};
pub(crate) use progress::{FileProgress, FirmwareReported, UploadReported};
pub(crate) use refusal::OperationRefusal;
pub(crate) use report::{EquipmentReport, VendorMessageReceived};
pub(crate) use request::{
    CertificateHash, CertificateUse, KEYS_MAX, ListEntry, ListExtent, ListTerms, LogKind,
    OperationAnswered, OperationRequested, OperationResult, OperationalState, ReportedSetting,
    ResetKind, StationOperation, TriggeredReport,
};
pub(crate) use secret::is_secret;
pub(crate) use security::{CertificateRequested, Certificates, SecurityEventReported, SecurityLog};
pub(crate) use settings::{Setting, Settings};
pub(crate) use shared::Shared;

use super::request::{RequestId, StationAnswer};

/// Operations of a station that can be under way, or in doubt, at a time.
pub(crate) const OPEN_OPERATIONS_MAX: usize = 32;
/// Connectors whose service is kept at most.
const SERVICES_MAX: usize = 128;

/// State of a station as its operations tell it: by its answers and reports.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StationOperations {
    /// Operations that have not ended, the oldest first.
    pub(crate) open: Vec<OpenOperation>,
    /// Number of the station's starts, to tell one after a request from one before it.
    pub(crate) boots: u64,
    /// Its configuration.
    pub(crate) settings: Settings,
    /// Its local list.
    pub(crate) local_list: LocalList,
    /// Its charging profiles.
    pub(crate) profiles: InstalledProfiles,
    /// The update of its firmware.
    pub(crate) firmware: FileProgress,
    /// The upload of its diagnostics.
    pub(crate) diagnostics: FileProgress,
    /// The upload of a log.
    pub(crate) log: FileProgress,
    /// Its security events.
    pub(crate) security: SecurityLog,
    /// The certificates that it trusts, and its own.
    pub(crate) certificates: Certificates,
    /// Service of connectors that was asked for last; 0 is the station.
    pub(crate) services: BTreeMap<u32, AskedService>,
    /// Answer to the last restart that was asked for.
    pub(crate) restart: Option<AnsweredRestart>,
}

/// Operation that has not ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OpenOperation {
    /// The request.
    pub(crate) asked: OperationRequested,
    /// Number of the station's starts before it.
    pub(crate) boots_before: u64,
    /// True if a report of the station shows since that the operation took place.
    pub(crate) is_proved: bool,
}

/// Service of a connector that was asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AskedService {
    /// State that was asked for.
    pub(crate) state: OperationalState,
    /// Moment of the answer.
    pub(crate) at: Timestamp,
    /// Answer of the station.
    pub(crate) answer: StationAnswer,
    /// True if the station waits for the end of a transaction.
    pub(crate) is_scheduled: bool,
}

/// Restart that was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AnsweredRestart {
    /// Manner of the restart.
    pub(crate) kind: ResetKind,
    /// Moment of the answer.
    pub(crate) at: Timestamp,
    /// Answer of the station.
    pub(crate) answer: StationAnswer,
    /// True if the station has started since.
    pub(crate) has_booted: bool,
}

/// The folds.
impl StationOperations {
    /// Takes in that an operation is asked for.
    pub(crate) fn requested(&mut self, asked: &OperationRequested) {
        if self.open.len() >= OPEN_OPERATIONS_MAX {
            // One whose time is over makes room: it is in doubt.
            let over = self.open.iter().position(|open| open.asked.until < asked.requested_at);
            self.open.remove(over.unwrap_or(0));
        }
        let open =
            OpenOperation { asked: asked.clone(), boots_before: self.boots, is_proved: false };
        self.open.push(open);
    }

    /// Takes in that an operation has ended.
    pub(crate) fn answered(&mut self, answered: &OperationAnswered) {
        let is_it = |open: &OpenOperation| open.asked.request == answered.request;
        let Some(at) = self.open.iter().position(is_it) else { return };
        let OpenOperation { asked, boots_before, .. } = self.open.remove(at);
        let is_scheduled = matches!(answered.result, Some(OperationResult::Scheduled {}));
        match &asked.operation {
            StationOperation::ChangeAvailability { connector_id, availability } => {
                self.service(connector_id.get(), *availability, answered, is_scheduled);
            }
            StationOperation::ChangeSetting { key, value } => {
                self.settings.changed(
                    key.as_str(),
                    value.as_ref().map(BoundedText::as_str),
                    answered,
                );
            }
            StationOperation::ReadSettings { keys } => self.settings.read(keys, answered),
            StationOperation::Reset { kind } => {
                let (kind, at, answer) = (*kind, answered.at, answered.answer.clone());
                let has_booted = self.boots > boots_before;
                self.restart = Some(AnsweredRestart { kind, at, answer, has_booted });
            }
            StationOperation::ReadLocalListVersion {}
            | StationOperation::UpdateLocalList { .. } => {
                self.local_list.answered(&asked.operation, answered);
            }
            StationOperation::SetChargingProfile { .. }
            | StationOperation::ClearChargingProfiles { .. }
            | StationOperation::ReadCompositeSchedule { .. } => {
                self.profiles.answered(&asked.operation, answered);
            }
            StationOperation::UpdateFirmware { .. }
            | StationOperation::UpdateSignedFirmware { .. } => {
                self.firmware.answered(&asked, answered);
            }
            StationOperation::UploadDiagnostics { .. } => {
                self.diagnostics.answered(&asked, answered)
            }
            StationOperation::UploadLog { .. } => self.log.answered(&asked, answered),
            StationOperation::InstallCertificate { .. }
            | StationOperation::DeleteCertificate { .. }
            | StationOperation::ReadCertificates { .. }
            | StationOperation::ProvideCertificate { .. } => {
                self.certificates.answered(&asked.operation, answered);
            }
            StationOperation::ClearCache {}
            | StationOperation::SendVendorMessage { .. }
            | StationOperation::Trigger { .. }
            | StationOperation::TriggerExtended { .. } => {}
        }
        self.prove_settings_and_list();
    }

    fn service(
        &mut self,
        connector_id: u32,
        state: OperationalState,
        answered: &OperationAnswered,
        is_scheduled: bool,
    ) {
        let (at, answer) = (answered.at, answered.answer.clone());
        if self.services.len() < SERVICES_MAX || self.services.contains_key(&connector_id) {
            let service = AskedService { state, at, answer, is_scheduled };
            self.services.insert(connector_id, service);
        }
    }

    /// Takes in that the station has started.
    pub(crate) fn booted(&mut self) {
        self.boots += 1;
        self.settings.restart_required = false;
        self.services.values_mut().for_each(|service| service.is_scheduled = false);
        if let Some(restart) = &mut self.restart {
            restart.has_booted = true;
        }
        self.prove(|operation| matches!(operation, StationOperation::Reset { .. }));
    }

    /// Takes in a report about firmware.
    pub(crate) fn firmware_reported(&mut self, reported: &FirmwareReported) {
        let is_news = self.firmware.reported(&reported.status, reported.request_id, reported.at);
        if is_news {
            self.prove(|operation| match operation {
                StationOperation::UpdateFirmware { .. } => reported.request_id.is_none(),
                StationOperation::UpdateSignedFirmware { request_id, .. } => {
                    reported.request_id == Some(i64::from(*request_id))
                }
                _ => false,
            });
        }
    }

    /// Takes in a report about an upload.
    pub(crate) fn upload_reported(&mut self, reported: &UploadReported) {
        let UploadReported { of_log, status, request_id, at } = reported;
        let progress = if *of_log { &mut self.log } else { &mut self.diagnostics };
        if progress.reported(status, *request_id, *at) {
            self.prove(|operation| match operation {
                StationOperation::UploadDiagnostics { .. } => !of_log,
                StationOperation::UploadLog { request_id: asked, .. } => {
                    *of_log && *request_id == Some(i64::from(*asked))
                }
                _ => false,
            });
        }
    }

    /// Marks the open operations that are known to have taken place.
    fn prove(&mut self, is_proved: impl Fn(&StationOperation) -> bool) {
        for open in &mut self.open {
            open.is_proved |= is_proved(&open.asked.operation);
        }
    }

    /// Marks changes whose result the station reports.
    fn prove_settings_and_list(&mut self) {
        let (settings, list) = (&self.settings, &self.local_list);
        for open in &mut self.open {
            let since = open.asked.requested_at;
            open.is_proved |= match &open.asked.operation {
                StationOperation::ChangeSetting { key, value: Some(value) } => {
                    settings.reports_since(key.as_str(), value.as_str(), since)
                }
                StationOperation::UpdateLocalList { version, .. } => {
                    list.reports_since((*version).into(), since)
                }
                _ => false,
            };
        }
    }
}

/// The questions.
impl StationOperations {
    /// Returns the operation that a request is about, if it has not ended.
    #[must_use]
    pub(crate) fn open(&self, request: &RequestId) -> Option<&OpenOperation> {
        self.open.iter().find(|open| open.asked.request == *request)
    }

    /// Returns the answer as it is recorded: settings that are known are not repeated.
    #[must_use]
    pub(crate) fn concise(&self, answered: &OperationAnswered) -> OperationAnswered {
        let all = StationOperation::ReadSettings { keys: Vec::new() };
        let reads_all =
            self.open(&answered.request).is_some_and(|open| open.asked.operation == all);
        let mut answered = answered.clone();
        if let Some(OperationResult::Settings { settings, .. }) = &answered.result
            && reads_all
            && self.settings.are(settings)
        {
            answered.result = Some(OperationResult::SettingsUnchanged {});
        }
        answered
    }
}
