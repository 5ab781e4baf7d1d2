//! What is true, and what may follow from it: pure folds of events. No clock, no socket, no store: the moment, the
//! verdict on an id tag and a fresh transaction id come in with the command.
//!
//! - [`station`]: a charging station. Its [`connector`]s are a fold nested in it, as are its open [`transaction`]s; what
//!   was asked of it and awaits its answer is in [`request`].
//! - [`availability`]: how much of a span of time a station could be counted on.
//! - [`id_tag`]: who may charge.
//! - [`meter`]: what stations read from their meters. Facts that nothing depends on.
//! - [`transaction_ids`]: which numbers are still free.

pub mod availability;
pub mod connector;
pub mod id_tag;
pub mod meter;
pub mod request;
pub mod station;
pub mod transaction;
pub mod transaction_ids;

use leftfold::prelude::Timestamp;

/// The moment as the store writes it, to the microsecond.
#[must_use]
pub fn moment(moment: jiff::Timestamp) -> Timestamp {
    Timestamp::from_micros(moment.as_microsecond())
}
