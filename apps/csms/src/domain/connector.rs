//! A connector of a station: a fold nested in the station's.

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock::believed;
use super::transaction::{LastStop, StartContent, Transaction, TransactionStopped};
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
    /// Returns the moment since which the status holds, as far as the station's clock can be
    /// believed.
    #[must_use]
    pub(crate) fn moment(&self) -> Option<Timestamp> {
        believed(self.timestamp, self.received_at)
    }

    /// Returns the moment since which the status holds, as far as can be known.
    #[must_use]
    pub(crate) fn since(&self) -> Timestamp {
        self.moment().unwrap_or(self.received_at)
    }

    /// Tells whether the status shows that no transaction goes on. A station that has restarted may
    /// find a cable that is still plugged in.
    #[must_use]
    pub(crate) fn shows_no_transaction(&self, has_restarted: bool) -> bool {
        match self.status {
            ChargePointStatus::Available | ChargePointStatus::Reserved => true,
            ChargePointStatus::Preparing => has_restarted,
            _ => false,
        }
    }

    /// Tells whether the status is that of a transaction under way.
    #[must_use]
    pub(crate) fn is_charging(&self) -> bool {
        matches!(
            self.status,
            ChargePointStatus::Charging
                | ChargePointStatus::SuspendedEv
                | ChargePointStatus::SuspendedEvse
        )
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
    /// Latest moment of a report by a clock that can be believed, which tells newer reports from
    /// past ones. `None` after the station has booted, since its clock may have been wrong until
    /// then.
    pub(crate) reported_since: Option<Timestamp>,
    /// Moment of the latest past report, so that this report is not recorded twice.
    pub(crate) late_since: Option<Timestamp>,
    /// Transaction that runs on it: the one that was started last.
    pub(crate) transaction: Option<TransactionId>,
    /// Start that was reported last, by the station's clock if that can be believed.
    pub(crate) last_start: Option<LastStart>,
    /// Stop that was reported last.
    pub(crate) last_stop: Option<LastStop>,
    /// End of the transaction that ran on it last.
    pub(crate) freed: Option<Freed>,
    /// True if the station has restarted since the transaction on it began, and has not shown that
    /// it goes on.
    pub(crate) has_restarted: bool,
}

/// The start on a connector that was reported last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastStart {
    /// Its transaction.
    pub(crate) transaction: TransactionId,
    /// Content of its report.
    pub(crate) content: StartContent,
    /// Its moment, as far as the station's clock can be believed.
    pub(crate) moment: Option<Timestamp>,
}

/// End of the transaction that ran on a connector.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Freed {
    /// Its moment, as far as the station's clock can be believed.
    pub(crate) moment: Option<Timestamp>,
    /// Moment when it was recorded.
    pub(crate) recorded_at: Timestamp,
}

impl Connector {
    /// Returns the status that was reported last; `None` if none was.
    #[must_use]
    pub(crate) fn status(&self) -> Option<&ChargePointStatus> {
        self.report.as_ref().map(|report| &report.status)
    }

    /// Tells whether something charges on it: a transaction runs, or the station reports one since
    /// the last one has ended.
    #[must_use]
    pub(crate) fn is_occupied(&self) -> bool {
        let reports_charging =
            self.report.as_ref().is_some_and(|it| it.is_charging() && !self.is_outdated(it));
        self.transaction.is_some() || reports_charging
    }

    /// Tells whether a report is older than the end of the transaction that ran on the connector.
    fn is_outdated(&self, report: &StatusChanged) -> bool {
        self.freed.is_some_and(|freed| {
            report.received_at <= freed.recorded_at
                || report.moment().zip(freed.moment).is_some_and(|(at, freed)| at < freed)
        })
    }

    /// Tells whether the report contains anything new.
    #[must_use]
    pub(crate) fn is_news(&self, report: &StatusChanged) -> bool {
        if self.is_past(report) {
            return self.late_since != Some(report.since());
        }
        self.report
            .as_ref()
            .is_none_or(|known| !known.says_the_same(report) || self.is_outdated(known))
    }

    /// Tells whether a later report is known: stations queue messages, and send some after newer
    /// ones. A report by a clock that cannot be believed counts by its arrival.
    #[must_use]
    pub(crate) fn is_past(&self, report: &StatusChanged) -> bool {
        self.reported_since.zip(report.moment()).is_some_and(|(since, moment)| moment < since)
    }

    /// Tells whether the report shows that a transaction on the connector is over: the connector is
    /// free later than the transaction began.
    #[must_use]
    pub(crate) fn shows_the_end(&self, report: &StatusChanged, of: &Transaction) -> bool {
        // A clock that begins anew with the station is compared with none of before.
        let is_older = !self.has_restarted
            && report.moment().zip(of.moment()).is_some_and(|(free, started)| free <= started);
        report.shows_no_transaction(self.has_restarted)
            && !is_older
            && !self.is_past(report)
            && report.received_at >= of.received_at
    }

    pub(super) fn changed(&mut self, report: &StatusChanged) {
        if self.is_past(report) {
            self.late_since = Some(report.since());
            return;
        }
        self.reported_since = report.moment().or(self.reported_since);
        self.has_restarted &= !report.is_charging();
        self.report = Some(report.clone());
    }

    pub(super) fn booted(&mut self) {
        self.reported_since = None;
        self.late_since = None;
        if let Some(last) = &mut self.last_start {
            last.moment = None;
        }
        self.has_restarted = self.transaction.is_some();
    }

    pub(super) fn started(&mut self, transaction: &Transaction) {
        self.transaction = Some(transaction.id);
        self.has_restarted = false;
        self.last_start = Some(LastStart {
            transaction: transaction.id,
            content: transaction.start.clone(),
            moment: transaction.moment(),
        });
    }

    pub(super) fn stopped(&mut self, transaction: TransactionId, stopped: &TransactionStopped) {
        let TransactionStopped { meter_stop_wh, timestamp, received_at, .. } = *stopped;
        self.last_stop = Some(LastStop { meter_stop_wh, timestamp, received_at });
        self.ended(transaction, stopped.moment(), received_at);
    }

    pub(super) fn ended(
        &mut self,
        transaction: TransactionId,
        moment: Option<Timestamp>,
        recorded_at: Timestamp,
    ) {
        if self.transaction.take_if(|running| *running == transaction).is_some() {
            self.freed = Some(Freed { moment, recorded_at });
            self.has_restarted = false;
        }
    }
}
