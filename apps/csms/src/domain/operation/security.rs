//! Security events of a station, the certificates that it trusts, and its own.

use std::collections::{BTreeMap, VecDeque};

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::request::{
    CertificateHash, CertificateUse, OperationAnswered, OperationResult, StationOperation,
};
use crate::domain::request::StationAnswer;

/// Security events of a station that are kept, the latest ones. The history has all.
const EVENTS_MAX: usize = 50;
/// Certificates of each use that are kept.
const CERTIFICATES_MAX: usize = 50;
/// Installations of certificates that are kept, the latest ones.
const INSTALLATIONS_MAX: usize = 16;

/// A station reported something that concerns its security.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SecurityEventReported {
    /// Kind of the event.
    pub(crate) kind: String,
    /// Moment of the event, by the station's clock; `None` if it did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<Timestamp>,
    /// Details.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) details: Option<String>,
    /// Moment when the report reached us.
    pub(crate) received_at: Timestamp,
}

/// A station asked for a certificate of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CertificateRequested {
    /// The request for it, as PEM.
    pub(crate) csr: String,
    /// Moment when it reached us.
    pub(crate) received_at: Timestamp,
}

/// Security events of a station.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct SecurityLog {
    /// Number of all events so far.
    pub(crate) count: u64,
    /// Latest events, the newest last.
    pub(crate) latest: VecDeque<SecurityEventReported>,
}

impl SecurityLog {
    /// Takes in an event.
    pub(crate) fn reported(&mut self, event: &SecurityEventReported) {
        self.count += 1;
        self.latest.push_back(event.clone());
        if self.latest.len() > EVENTS_MAX {
            self.latest.pop_front();
        }
    }

    /// Tells whether the event was reported already: a station repeats what it has no answer to.
    #[must_use]
    pub(crate) fn has(&self, event: &SecurityEventReported) -> bool {
        event.timestamp.is_some()
            && self.latest.iter().any(|known| {
                (&known.kind, known.timestamp, &known.details)
                    == (&event.kind, event.timestamp, &event.details)
            })
    }
}

/// Certificates of a station.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Certificates {
    /// Certificates that it trusts, as it told last, by their use.
    pub(crate) trusted: BTreeMap<CertificateUse, ToldCertificates>,
    /// Installations that were answered, the newest last.
    pub(crate) installations: VecDeque<AnsweredInstallation>,
    /// Last request of the station for a certificate of its own.
    pub(crate) requested: Option<CertificateRequested>,
    /// Answer to the certificate of its own that was sent last.
    pub(crate) own: Option<AnsweredCertificate>,
}

/// Certificates of one use, as a station told them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToldCertificates {
    /// Moment of the answer.
    pub(crate) at: Timestamp,
    /// Their hashes.
    pub(crate) certificates: Vec<CertificateHash>,
}

/// Installation of a certificate that was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AnsweredInstallation {
    /// Use of the certificate.
    pub(crate) purpose: CertificateUse,
    /// Moment of the answer.
    pub(crate) at: Timestamp,
    /// Answer of the station.
    pub(crate) answer: StationAnswer,
}

/// Certificate of its own that a station was sent, with the answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AnsweredCertificate {
    /// Moment of the answer.
    pub(crate) at: Timestamp,
    /// Answer of the station.
    pub(crate) answer: StationAnswer,
}

impl Certificates {
    /// Takes in the answer to an operation about certificates.
    pub(super) fn answered(&mut self, operation: &StationOperation, answered: &OperationAnswered) {
        let (at, answer) = (answered.at, answered.answer.clone());
        match (operation, &answered.result) {
            (
                StationOperation::ReadCertificates { purpose },
                Some(OperationResult::Certificates { certificates }),
            ) => {
                let certificates = certificates.iter().take(CERTIFICATES_MAX).cloned().collect();
                self.trusted.insert(*purpose, ToldCertificates { at, certificates });
            }
            (StationOperation::DeleteCertificate { certificate }, _) => {
                let is_gone = match &answer {
                    StationAnswer::Accepted => true,
                    StationAnswer::Rejected { status } => status == "NotFound",
                    StationAnswer::NotDone { .. } => false,
                };
                if is_gone {
                    for told in self.trusted.values_mut() {
                        told.certificates.retain(|known| known != certificate);
                    }
                }
            }
            (StationOperation::InstallCertificate { purpose, .. }, _) => {
                let purpose = *purpose;
                self.installations.push_back(AnsweredInstallation { purpose, at, answer });
                if self.installations.len() > INSTALLATIONS_MAX {
                    self.installations.pop_front();
                }
            }
            (StationOperation::ProvideCertificate { .. }, _) => {
                self.own = Some(AnsweredCertificate { at, answer });
            }
            _ => {}
        }
    }
}
