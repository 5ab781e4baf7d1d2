//! Meter values of stations: facts in a stream beside the station's, so that they neither conflict
//! with decisions about the station nor make its fold slow.

use leftfold::prelude::{Event, Tags, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ocpp::v16::MeterValue;

/// Meter values; in the stream `meter-{station}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum MeterEvent {
    /// A station reported meter values.
    ValuesRecorded {
        /// The station.
        station: String,
        /// Connector; 0 is the main meter.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connector_id: Option<u32>,
        /// The transaction, as the station said: any number.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        transaction_id: Option<i64>,
        /// The values.
        values: Vec<MeterValue>,
        /// Moment when the values reached us.
        received_at: Timestamp,
    },
}

impl Event for MeterEvent {
    const NAMESPACE: &'static str = "meter";

    fn tags(&self) -> Tags {
        let Self::ValuesRecorded { transaction_id, .. } = self;
        transaction_id.map_or_else(Tags::none, |id| Tags::none().with(transaction_tag(id)))
    }
}

/// The category of the streams.
pub(crate) const CATEGORY: &str = "meter";

/// Returns the tag of the events about a transaction, which finds them within the streams of their
/// station.
#[must_use]
pub(crate) fn transaction_tag(transaction_id: i64) -> String {
    format!("transaction:{transaction_id}")
}

/// Returns the tag of the event that takes over a transaction which the station knows by another
/// number.
#[must_use]
pub(crate) fn reported_tag(reported_id: i64) -> String {
    format!("reported:{reported_id}")
}
