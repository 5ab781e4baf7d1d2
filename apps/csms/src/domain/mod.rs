//! State and decisions: pure folds of events. No clock, no socket, no store: the moment, the
//! verdict on an id tag and a fresh transaction id come in with the command.
//!
//! - [`station`]: the aggregate of a charging station. Its [`connector`]s are a fold nested in it,
//!   as are its open [`transaction`]s; requests to it are in [`request`].
//! - [`operation`]: what else can be asked of a station, and what is known of it from that
//! - [`id_tag`]: the aggregate of a tag that may charge
//! - [`person`]: who may call: users, their sessions, and tokens
//! - [`energy`]: the energy of a transaction, from all that a station said about it
//! - [`server`]: the running servers that share a store
//! - [`transaction_ids`]: the aggregate of the numbers that are reserved for transactions
//! - [`clock`]: what can be believed of the moments that stations tell
//! - [`meter`]: the values that stations read from their meters: facts that nothing depends on
//! - [`availability`]: the time that a station was online in a span of time: a fold for a report

pub(crate) mod availability;
pub(crate) mod clock;
pub(crate) mod connector;
pub(crate) mod energy;
pub(crate) mod id_tag;
pub(crate) mod meter;
pub(crate) mod operation;
pub(crate) mod person;
pub(crate) mod request;
pub(crate) mod server;
pub(crate) mod station;
pub(crate) mod transaction;
pub(crate) mod transaction_ids;

use leftfold::prelude::Timestamp;

/// The moment as the store writes it, to the microsecond.
#[must_use]
pub(crate) fn moment(moment: jiff::Timestamp) -> Timestamp {
    Timestamp::from_micros(moment.as_microsecond())
}
