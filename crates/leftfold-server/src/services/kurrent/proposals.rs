//! Events as clients propose them.

use bytes::Bytes;
use leftfold::store::limits::APPEND_EVENTS_MAX;
use leftfold::store::{ContentType, EventId, Label, NewEvent};
use tonic::Status;
use uuid::Uuid;

use super::faults;
use super::indexed::correlation_tag;
use super::names;
use super::records::id_of;
use super::wire::streams::ProposedMessage;

/// Bytes of the events of one append, as their server has it.
pub(super) const APPEND_BYTES_MAX: usize = 1 << 20;

/// Refuses more events than an append may have; what they count in bytes says little of the memory
/// that small ones take.
pub(super) fn refuse_too_many(events: usize) -> Result<(), Status> {
    if events <= APPEND_EVENTS_MAX {
        return Ok(());
    }
    let text = format!("an append has at most {APPEND_EVENTS_MAX} events");
    Err(Status::invalid_argument(text))
}

/// Reads an event that is to be appended.
pub(super) fn event_of(message: ProposedMessage) -> Result<NewEvent, Status> {
    let property =
        |name: &str| message.metadata.get(name).ok_or_else(|| faults::metadata_missing(name));
    let (kind, content_type) = (property("type")?, property("content-type")?);
    let id = id_of(message.id.as_ref());
    let id = id.ok_or_else(|| Status::invalid_argument("the id of an event is a UUID"))?;
    proposed(id, kind, content_type, message.custom_metadata, message.data)
}

/// Makes an event of what a client sent.
pub(super) fn proposed(
    id: Uuid,
    kind: &str,
    content_type: &str,
    metadata: Bytes,
    data: Bytes,
) -> Result<NewEvent, Status> {
    if id.is_nil() {
        return Err(Status::invalid_argument("an event has an id that is not all zeros"));
    }
    let mut event = NewEvent::new(names::stored_type(kind)?, data);
    event.id = Some(EventId(id));
    if kind != names::LINK_TYPE
        && let Some(tag) = correlation_tag(&metadata)
    {
        event.tags.insert(tag);
    }
    event.metadata.user = metadata;
    event.content_type = match content_type {
        "application/json" => ContentType::Json,
        "" | "application/octet-stream" => ContentType::Binary,
        other => ContentType::Other(
            Label::new(other.to_owned())
                .map_err(|invalid| Status::invalid_argument(invalid.to_string()))?,
        ),
    };
    Ok(event)
}

/// Returns the bytes that their server counts for an event.
pub(super) fn counted_bytes(event: &NewEvent) -> usize {
    let kind = names::shown(&event.event_type);
    event.data.len() + event.metadata.user.len() + 2 * kind.encode_utf16().count()
}
