//! What the messages of all profiles share.

use leftfold::prelude::Timestamp;
use serde_json::Value;

/// The station answered, but its status cannot be read: it is unknown if the station acts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the answer has no readable status; treat the outcome as unknown")]
pub(crate) struct ConfirmationError;

/// Returns an object of the fields that are there.
pub(super) fn object<const FIELDS: usize>(fields: [(&str, Option<Value>); FIELDS]) -> Value {
    let there = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(there.collect())
}

/// Returns a moment as stations read it.
pub(super) fn stamp(moment: Timestamp) -> Value {
    let moment =
        jiff::Timestamp::from_microsecond(moment.as_micros()).unwrap_or(jiff::Timestamp::MAX);
    super::confirmation::moment(moment).into()
}
