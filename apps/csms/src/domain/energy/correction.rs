//! The energy of a transaction by the word of a person.

use leftfold::prelude::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ocpp::v16::TransactionId;

/// A person said the energy of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EnergyCorrected {
    /// The transaction.
    pub(crate) transaction_id: TransactionId,
    /// The energy in Wh.
    pub(crate) energy_wh: i64,
    /// Reason, in the person's words.
    pub(crate) reason: String,
    /// The person.
    pub(crate) by: String,
    /// Moment of the correction.
    pub(crate) at: Timestamp,
}
