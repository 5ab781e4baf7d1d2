//! A store in today's shape: what upcasters make of old events on every read is made once.

use super::transform::Transformed;
use crate::fold::{Event, EventError, Schema, Unknown};
use crate::store::RecordedEvent;

/// Returns an event as the upcasters of `E` read it, to be [copied
/// through](super::CopyInto::through): the new store needs those upcasters no more. Tags are those
/// that the event has today. An event that has today's shape already, or that `E` does not know,
/// stays as it is; an event that cannot be read stops the copy. Of an event that is split only the
/// parts that `E` reads go over: let it have a variant for each type that its upcasters lead to.
pub fn in_todays_shape<E: Event>(event: &RecordedEvent) -> Transformed {
    match upcast::<E>(event) {
        Ok(transformed) => transformed,
        Err(error) => Transformed::Refuse(error.to_string()),
    }
}

fn upcast<E: Event>(event: &RecordedEvent) -> Result<Transformed, EventError> {
    let schema = Schema::of::<E>()?;
    let is_known = schema.wanted().contains(&event.event_type);
    if !is_known || schema.current_version(&event.event_type) == Some(event.schema_version) {
        return Ok(Transformed::Keep);
    }
    let mut images = Vec::with_capacity(1);
    for today in schema.decode::<E>(event, Unknown::Refuse)? {
        let mut image = event.to_new();
        let new = schema.encode(&today)?;
        (image.event_type, image.schema_version) = (new.event_type, new.schema_version);
        (image.data, image.tags) = (new.data, new.tags);
        images.push(image);
    }
    Ok(Transformed::Replace(images))
}
