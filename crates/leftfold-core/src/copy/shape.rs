//! A store in today's shape: what upcasters make of old events on every read is made once.

use super::transform::Transformed;
use crate::fold::{Event, EventError, Schema, Unknown};
use crate::store::RecordedEvent;

/// Returns an event as the upcasters of `E` read it, to be [copied
/// through](super::CopyInto::through): the new store needs those upcasters no more. Tags are those
/// that the event has today. An event that has today's shape already, or that `E` does not know,
/// stays as it is; an event that cannot be read stops the copy. Of an event that is split only the
/// parts that `E` reads go over: let it have a variant for each type that its upcasters lead to.
///
/// ```
/// use leftfold_core::copy::{Copy, in_todays_shape};
/// use leftfold_core::fold::{Event, Upcasters};
/// use leftfold_core::store::{Append, EventType, NewEvent, Store};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Serialize, Deserialize)]
/// enum InvoiceEvent {
///     Sent { amount: u64, currency: String },
/// }
///
/// impl Event for InvoiceEvent {
///     const NAMESPACE: &'static str = "invoice";
///
///     fn upcasters() -> Upcasters {
///         Upcasters::none().change("invoice.Sent", 1, |mut data| {
///             data["currency"] = "EUR".into();
///             Ok(data)
///         })
///     }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (old, new) = (Store::memory(), Store::memory());
/// let sent = NewEvent::new(EventType::new("invoice.Sent")?, r#"{"amount":5}"#);
/// old.append(Append::of(vec![sent])).await?;
/// let copy = Copy::from(&old).into(&new).through(in_todays_shape::<InvoiceEvent>);
/// copy.switch().await?;
/// # use leftfold_core::store::{Position, Query, Read};
/// let read = Read::matching(Query::all(), Position(1));
/// let image = new.read(read).next().await?.ok_or("it was copied")?;
/// assert_eq!((image.schema_version, &*image.data), (2, &br#"{"amount":5,"currency":"EUR"}"#[..]));
/// # Ok(()) }
/// ```
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
