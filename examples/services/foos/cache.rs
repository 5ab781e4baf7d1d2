//! The same read model in Redis, which has no transaction over rows and checkpoint: every write is
//! guarded by the position of its event, so that whatever is written again changes nothing.

use leftfold::prelude::*;
use leftfold::redis::{Redis, Writes};

use crate::foo::{FooFact, FooName};

/// Latest sighting of each foo, with its time: the guard knows the order of the log, not that of
/// the world.
pub(crate) struct FooCache;

// ANCHOR: cache
impl Projection<Redis> for FooCache {
    const NAME: &'static str = "foos";
    type Event = FooFact;

    async fn apply(
        &self,
        rows: &mut Writes,
        event: &Recorded<FooFact>,
    ) -> Result<(), ProjectionError> {
        let id = FooName::of(event)?.id;
        let (key, at, value) = match &event.event {
            FooFact::StatusSeen { at, status } => (format!("{id}:status"), at, status.name()),
            FooFact::Labelled { at, label } => (format!("{id}:label"), at, label.as_str()),
        };
        let known = rows.read(&key).await?;
        if known.is_none_or(|known| seen(&known).0 < at.as_micros()) {
            rows.put(key, format!("{} {value}", at.as_micros()))?;
        }
        Ok(())
    }
}
// ANCHOR_END: cache

/// When a value was seen, and the value.
pub(crate) fn seen(stored: &[u8]) -> (i64, String) {
    let text = String::from_utf8_lossy(stored);
    let (at, value) = text.split_once(' ').unwrap_or(("", &text));
    (at.parse().unwrap_or(i64::MIN), value.to_owned())
}
