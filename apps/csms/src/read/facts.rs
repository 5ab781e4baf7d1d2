//! Events as the read models read them: no more variants than they need.

use leftfold::prelude::{Event, Owners, Timestamp};
use serde::{Deserialize, Serialize};

use crate::domain::energy::EnergyCorrected;
use crate::domain::meter::MeterEvent;
use crate::domain::station::StationEvent;
use crate::domain::transaction::{
    TransactionAdopted, TransactionEnded, TransactionStarted, TransactionStopped,
};
use crate::ocpp::v16::MeterValue;

/// Event of the charging of a transaction, from start to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum ChargingFact {
    /// A transaction started.
    #[serde(rename = "station.TransactionStarted")]
    Started(TransactionStarted),
    /// A transaction stopped.
    #[serde(rename = "station.TransactionStopped")]
    Stopped(TransactionStopped),
    /// A transaction ended without a stop.
    #[serde(rename = "station.TransactionEnded")]
    Ended(TransactionEnded),
    /// A transaction that began under another backend was taken over.
    #[serde(rename = "station.TransactionAdopted")]
    Adopted(TransactionAdopted),
    /// A stop was reported of a transaction that was not open: a second stop, or one that came long
    /// after the next start.
    #[serde(rename = "station.UnmatchedStopReported")]
    StoppedLate(TransactionStopped),
    /// A person said the energy of a transaction.
    #[serde(rename = "station.EnergyCorrected")]
    Corrected(EnergyCorrected),
    /// A meter was read.
    #[serde(rename = "meter.ValuesRecorded")]
    Read(MeterRead),
}

impl Event for ChargingFact {
    const NAMESPACE: &'static str = "charging_fact";

    fn owners() -> Owners {
        Owners::of::<StationEvent>().and::<MeterEvent>()
    }
}

/// Event of a meter, of a transaction or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum MeterFact {
    /// A meter was read.
    #[serde(rename = "meter.ValuesRecorded")]
    Read(MeterRead),
}

impl Event for MeterFact {
    const NAMESPACE: &'static str = "meter_fact";

    fn owners() -> Owners {
        Owners::of::<MeterEvent>()
    }
}

/// A message with meter values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct MeterRead {
    /// Connector; 0 is the main meter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connector_id: Option<u32>,
    /// The transaction, as the station said: any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) transaction_id: Option<i64>,
    /// The values.
    pub(crate) values: Vec<MeterValue>,
    /// Moment when the message reached us.
    pub(crate) received_at: Timestamp,
}
