//! A connector of a station: a fold nested in the station's.

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::transaction::Transaction;
use crate::ocpp::v16::{ChargePointErrorCode, ChargePointStatus, TransactionId};

/// A connector reported something that it had not reported before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatusChanged {
    /// Connector; 0 is the station itself.
    pub(crate) connector_id: u32,
    /// Status of the connector.
    pub(crate) status: ChargePointStatus,
    /// Error code of the connector.
    pub(crate) error_code: ChargePointErrorCode,
    /// Further text about the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) info: Option<String>,
    /// Vendor that defines the vendor's error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vendor_id: Option<String>,
    /// The vendor's error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vendor_error_code: Option<String>,
    /// Moment since which the status holds, by the station's clock; `None` if the station did not
    /// say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<Timestamp>,
    /// Moment when the report reached us.
    pub(crate) received_at: Timestamp,
}

impl StatusChanged {
    /// Returns the moment since which the status holds, as far as can be known: a clock that is
    /// ahead of ours is not believed.
    #[must_use]
    pub(crate) fn since(&self) -> Timestamp {
        self.timestamp.map_or(self.received_at, |timestamp| timestamp.min(self.received_at))
    }

    fn says_the_same(&self, other: &Self) -> bool {
        (&self.status, &self.error_code, &self.info)
            == (&other.status, &other.error_code, &other.info)
            && (&self.vendor_id, &self.vendor_error_code)
                == (&other.vendor_id, &other.vendor_error_code)
    }
}

/// One connector. Number 0 is the station itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Connector {
    /// Latest report about it; `None` if only transactions have mentioned it.
    pub(crate) report: Option<StatusChanged>,
    /// Moment of the latest report, which tells newer reports from past ones. `None` after the
    /// station has booted, since its clock may have been wrong until then.
    pub(crate) reported_since: Option<Timestamp>,
    /// Moment of the latest past report, so that this report is not recorded twice.
    pub(crate) late_since: Option<Timestamp>,
    /// Transaction that runs on it: the one that was started last.
    pub(crate) transaction: Option<TransactionId>,
}

impl Connector {
    /// Returns the status that was reported last; `None` if none was.
    #[must_use]
    pub(crate) fn status(&self) -> Option<&ChargePointStatus> {
        self.report.as_ref().map(|report| &report.status)
    }

    /// Tells whether the report contains anything new.
    #[must_use]
    pub(crate) fn is_news(&self, report: &StatusChanged) -> bool {
        if self.is_past(report) {
            return self.late_since != Some(report.since());
        }
        self.report.as_ref().is_none_or(|known| !known.says_the_same(report))
    }

    /// Tells whether a later report is known: stations queue messages, and send some after newer
    /// ones.
    #[must_use]
    pub(crate) fn is_past(&self, report: &StatusChanged) -> bool {
        self.reported_since.is_some_and(|since| report.since() < since)
    }

    pub(super) fn changed(&mut self, report: &StatusChanged) {
        if self.is_past(report) {
            self.late_since = Some(report.since());
        } else {
            self.reported_since = Some(report.since());
            self.report = Some(report.clone());
        }
    }

    pub(super) fn booted(&mut self) {
        self.reported_since = None;
        self.late_since = None;
    }

    pub(super) fn started(&mut self, transaction: &Transaction) {
        self.transaction = Some(transaction.id);
    }

    pub(super) fn stopped(&mut self, transaction: TransactionId) {
        self.transaction.take_if(|running| *running == transaction);
    }
}
