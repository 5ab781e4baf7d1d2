//! A transaction: a station's reports of its start and its stop, and its end without a stop.
//!
//! Stations report facts, perhaps long after they happened, perhaps twice, with clocks that may be
//! wrong. Two reports of a start are about the same one only if nothing speaks against it, see
//! [`Station::repeated_start`](super::station::Station::repeated_start); the message id says
//! nothing. What is in doubt is kept as two transactions, and the second one says so.

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock::believed;
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
    /// True if a later start on its connector was known: it is history, and does not run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) late: bool,
    /// Transaction whose start was reported with the same content, if it is in doubt whether this
    /// is that start again: the clock tells nothing, or something has happened in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) possible_repeat_of: Option<TransactionId>,
}

impl TransactionStarted {
    /// Returns the moment of the start, as far as the station's clock can be believed.
    #[must_use]
    pub(crate) fn moment(&self) -> Option<Timestamp> {
        believed(self.timestamp, self.received_at)
    }

    /// Returns what the report says of the start itself.
    #[must_use]
    pub(crate) fn content(&self) -> StartContent {
        let Self { connector_id, meter_start_wh, timestamp, .. } = *self;
        StartContent { connector_id, id_tag: self.id_tag.clone(), meter_start_wh, timestamp }
    }
}

/// Content of a report of a start: equal in a report that is sent again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StartContent {
    /// Connector.
    pub(crate) connector_id: u32,
    /// Id tag that started it.
    pub(crate) id_tag: String,
    /// The meter at the start, in Wh.
    pub(crate) meter_start_wh: Option<i64>,
    /// Moment of the start, by the station's clock.
    pub(crate) timestamp: Option<Timestamp>,
}

/// A station reported that a transaction stopped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TransactionStopped {
    /// Id of the transaction. If it could not be told which one is meant, the number that the
    /// station said: any number; `None` if it said none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) transaction_id: Option<i64>,
    /// Number that the station said, if the transaction was found in another way than by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reported_id: Option<i64>,
    /// True if the station said no id of ours, and the transaction was the only one that the report
    /// can be about.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) guessed: bool,
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
    /// stop, provided that they name a transaction.
    #[must_use]
    pub(crate) fn natural_key(&self) -> String {
        let number = |number: Option<i64>| {
            number.map_or_else(|| "-".to_owned(), |number| number.to_string())
        };
        let timestamp =
            self.timestamp.map_or_else(|| "-".to_owned(), |timestamp| timestamp.to_string());
        format!("{}/{timestamp}/{}", number(self.transaction_id), number(self.meter_stop_wh))
    }

    /// Returns the moment of the stop, as far as the station's clock can be believed.
    #[must_use]
    pub(crate) fn moment(&self) -> Option<Timestamp> {
        believed(self.timestamp, self.received_at)
    }

    /// Tells whether the report says the same of the moment and the meter as the last one.
    #[must_use]
    pub(crate) fn says_the_same(&self, other: &LastStop) -> bool {
        (self.timestamp, self.meter_stop_wh) == (other.timestamp, other.meter_stop_wh)
    }
}

/// The stop on a connector that was reported last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LastStop {
    /// The meter at the stop, in Wh.
    pub(crate) meter_stop_wh: Option<i64>,
    /// Moment of the stop, by the station's clock.
    pub(crate) timestamp: Option<Timestamp>,
    /// Moment when the report reached us.
    pub(crate) received_at: Timestamp,
}

/// A transaction is over as far as can be told, though no stop was reported. A stop that is
/// reported later still counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TransactionEnded {
    /// Id of the transaction.
    pub(crate) transaction_id: TransactionId,
    /// Connector.
    pub(crate) connector_id: u32,
    /// Cause of the conclusion.
    pub(crate) cause: EndCause,
    /// Moment of the end: of the report that shows it, or of the act.
    pub(crate) at: Timestamp,
    /// Moment when this was concluded.
    pub(crate) concluded_at: Timestamp,
}

/// Cause of taking a transaction as ended without a stop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum EndCause {
    /// The station reported its connector as free after the start.
    ConnectorFree,
    /// The station started again, and reports its connector in a state in which nothing charges.
    StationRestarted,
    /// A person closed it.
    Closed {
        /// Name of the person.
        by: String,
        /// Reason in words.
        reason: String,
    },
}

/// A station reported about a transaction that it began under another backend. It is taken over
/// under a number of ours, and goes by that one in all other events; the station keeps using its
/// own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TransactionAdopted {
    /// Id that the transaction was given.
    pub(crate) transaction_id: TransactionId,
    /// Id that the station uses.
    pub(crate) reported_id: i64,
    /// Connector; 0 if the station did not say.
    pub(crate) connector_id: u32,
    /// Moment when the first report about it reached us.
    pub(crate) received_at: Timestamp,
}

/// A transaction whose stop was not reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Transaction {
    /// Its id.
    pub(crate) id: TransactionId,
    /// Id that the station uses, if it is another one.
    pub(crate) reported_id: Option<i64>,
    /// Content of the report of its start.
    pub(crate) start: StartContent,
    /// Moment when the start was reported first.
    pub(crate) received_at: Timestamp,
    /// Group of the tag at the start.
    pub(crate) parent_id_tag: Option<String>,
    /// The remote start that led to it.
    pub(crate) remote_start: Option<RequestId>,
    /// True if another one was started on its connector since: its stop was lost, or comes late. It
    /// holds no connector and no longer counts as running.
    pub(crate) superseded: bool,
    /// Moment of its end, if it was concluded that it has ended.
    pub(crate) ended_at: Option<Timestamp>,
    /// True if a person has closed it.
    pub(crate) is_closed: bool,
    /// Remote stop that is under way, and the moment until which another one is refused.
    pub(crate) stop_requested: Option<(RequestId, Timestamp)>,
}

impl From<&TransactionStarted> for Transaction {
    fn from(started: &TransactionStarted) -> Self {
        Self {
            id: started.transaction_id,
            reported_id: None,
            start: started.content(),
            received_at: started.received_at,
            parent_id_tag: started.parent_id_tag.clone(),
            remote_start: started.remote_start.clone(),
            superseded: started.late,
            ended_at: None,
            is_closed: false,
            stop_requested: None,
        }
    }
}

impl From<&TransactionAdopted> for Transaction {
    fn from(adopted: &TransactionAdopted) -> Self {
        Self {
            id: adopted.transaction_id,
            reported_id: Some(adopted.reported_id),
            start: StartContent {
                connector_id: adopted.connector_id,
                id_tag: String::new(),
                meter_start_wh: None,
                timestamp: None,
            },
            received_at: adopted.received_at,
            parent_id_tag: None,
            remote_start: None,
            superseded: false,
            ended_at: None,
            is_closed: false,
            stop_requested: None,
        }
    }
}

impl Transaction {
    /// Tells whether it runs, as far as is known.
    #[must_use]
    pub(crate) fn is_running(&self) -> bool {
        !self.superseded && self.ended_at.is_none()
    }

    /// Returns the id that the station knows it by.
    #[must_use]
    pub(crate) fn station_id(&self) -> i64 {
        self.reported_id.unwrap_or(self.id.value())
    }

    /// Returns the moment of the start, as far as the station's clock can be believed.
    #[must_use]
    pub(crate) fn moment(&self) -> Option<Timestamp> {
        believed(self.start.timestamp, self.received_at)
    }

    /// Tells whether a tag may stop it: the tag that started it, and any of the same group.
    #[must_use]
    pub(crate) fn may_be_stopped_by(&self, id_tag: &str, parent_id_tag: Option<&str>) -> bool {
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        let own_group = self.parent_id_tag.as_deref();
        same(&self.start.id_tag, id_tag)
            || own_group.zip(parent_id_tag).is_some_and(|(own, its)| same(own, its))
    }
}
