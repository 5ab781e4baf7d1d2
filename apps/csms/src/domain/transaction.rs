//! A transaction: a station's reports of its start and its stop.
//!
//! Stations report facts, perhaps long after they happened, perhaps twice. Two reports are the same
//! if their content is, see [`TransactionStarted::natural_key`] and
//! [`TransactionStopped::natural_key`]; the message id says nothing.

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::request::RequestId;
use crate::ocpp::v16::{AuthorizationStatus, MeterValue, Reason, TransactionId};

/// A station reported that a transaction started.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TransactionStarted {
    /// Id that the transaction was given.
    pub(crate) transaction_id: TransactionId,
    /// Connector; 0 if the station did not say.
    pub(crate) connector_id: u32,
    /// Id tag that started it, as it came; empty if the station did not say.
    pub(crate) id_tag: String,
    /// Group of the tag at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent_id_tag: Option<String>,
    /// Authorization status of the tag, as the station was told. The transaction exists all the
    /// same.
    pub(crate) authorization: AuthorizationStatus,
    /// The meter at the start, in Wh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) meter_start_wh: Option<i64>,
    /// Moment of the start, by the station's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<Timestamp>,
    /// Moment when the report reached us.
    pub(crate) received_at: Timestamp,
    /// The reservation that it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reservation_id: Option<i64>,
    /// Remote start that led to it, as far as that can be told: same tag, same connector, in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) remote_start: Option<RequestId>,
}

impl TransactionStarted {
    /// Returns the key that two reports of a station have in common if they are about the same
    /// start; `None` if the start has no moment: then only a start that is still running can be
    /// recognized.
    #[must_use]
    pub(crate) fn natural_key(&self) -> Option<String> {
        let timestamp = self.timestamp?;
        let meter = self.meter_start_wh.map_or_else(|| "-".to_owned(), |wh| wh.to_string());
        Some(format!("{}/{timestamp}/{meter}/{}", self.connector_id, self.id_tag))
    }

    /// Tells whether the report is about the start of this transaction, by all that a station says.
    #[must_use]
    pub(crate) fn is_same_start(&self, other: &Transaction) -> bool {
        (self.connector_id, self.meter_start_wh, self.timestamp)
            == (other.connector_id, other.meter_start_wh, other.timestamp)
            && self.id_tag == other.id_tag
    }
}

/// A station reported that a transaction stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TransactionStopped {
    /// Id of the transaction, as the station said it: any number; `None` if it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) transaction_id: Option<i64>,
    /// Id tag that stopped it; `None` if it was not stopped with a tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) id_tag: Option<String>,
    /// The meter at the stop, in Wh.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) meter_stop_wh: Option<i64>,
    /// Moment of the stop, by the station's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<Timestamp>,
    /// Moment when the report reached us.
    pub(crate) received_at: Timestamp,
    /// Reason of the stop; `None` stands for `Local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<Reason>,
    /// Meter values of the whole transaction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) transaction_data: Vec<MeterValue>,
}

impl TransactionStopped {
    /// Returns the key that two reports of a station have in common if they are about the same
    /// stop.
    #[must_use]
    pub(crate) fn natural_key(&self) -> String {
        let number = |number: Option<i64>| {
            number.map_or_else(|| "-".to_owned(), |number| number.to_string())
        };
        let timestamp =
            self.timestamp.map_or_else(|| "-".to_owned(), |timestamp| timestamp.to_string());
        format!("{}/{timestamp}/{}", number(self.transaction_id), number(self.meter_stop_wh))
    }
}

/// A transaction that has not stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    /// Its id.
    pub(crate) id: TransactionId,
    /// Connector.
    pub(crate) connector_id: u32,
    /// Id tag that started it.
    pub(crate) id_tag: String,
    /// Group of the tag at the start.
    pub(crate) parent_id_tag: Option<String>,
    /// The meter at the start, in Wh.
    pub(crate) meter_start_wh: Option<i64>,
    /// Moment of the start, by the station's clock.
    pub(crate) timestamp: Option<Timestamp>,
    /// The remote start that led to it.
    pub(crate) remote_start: Option<RequestId>,
    /// True if another one was started on its connector since: its stop was lost, or comes late. It
    /// holds no connector and no longer counts as running.
    pub(crate) superseded: bool,
    /// Remote stop that is under way, and the moment until which another one is refused.
    pub(crate) stop_requested: Option<(RequestId, Timestamp)>,
}

impl From<&TransactionStarted> for Transaction {
    fn from(started: &TransactionStarted) -> Self {
        Self {
            id: started.transaction_id,
            connector_id: started.connector_id,
            id_tag: started.id_tag.clone(),
            parent_id_tag: started.parent_id_tag.clone(),
            meter_start_wh: started.meter_start_wh,
            timestamp: started.timestamp,
            remote_start: started.remote_start.clone(),
            superseded: false,
            stop_requested: None,
        }
    }
}

impl Transaction {
    /// Tells whether a tag may stop it: the tag that started it, and any of the same group.
    #[must_use]
    pub(crate) fn may_be_stopped_by(&self, id_tag: &str, parent_id_tag: Option<&str>) -> bool {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let own_group = self.parent_id_tag.as_deref();
        same(&self.id_tag, id_tag)
            || own_group.zip(parent_id_tag).is_some_and(|(own, its)| same(own, its))
    }
}
