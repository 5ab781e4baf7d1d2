//! Events of the protocol as the store has them, and back.

use std::collections::HashSet;

use leftfold::store::limits::{METADATA_BYTES_MAX, TAGS_MAX};
use leftfold::store::{
    ContentType, EventId, EventType, Invalid, Metadata, NewEvent, RecordedEvent, Tag, Tags,
};
use prost::Message;
use uuid::Uuid;

use crate::services::{SHOWN_CHARACTERS_MAX, cut};

use super::metadata::{Beside, Unplaced};
use super::names::{TAG, TYPE};
use super::{BATCH_BYTES_MAX, MESSAGE_BYTES_MAX, wire};

/// Metadata of the protocol that has the name of an event's stream.
const STREAM_KEY: &str = "leftfold-stream";
/// Metadata of the protocol that has the version of the stream with the event.
const VERSION_KEY: &str = "leftfold-version";

/// Characters of a UUID.
const UUID_CHARACTERS: usize = 36;
/// Bytes of the head in a message.
const HEAD_BYTES: usize = 11;
/// Bytes that a message has beside an event: position and head, keys and lengths.
const BESIDE_BYTES: usize = 64;

/// Reason why an event cannot be appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnfitEvent {
    /// Two pairs of its metadata have one key.
    #[error("the metadata of an event has the key {key:?} twice, give each key once")]
    KeyTwice {
        /// The key.
        key: String,
    },
    /// Clients could not read it: a message to them has less room.
    #[error(
        "an event has {bytes} bytes as clients read it, and may have {MESSAGE_BYTES_MAX}, make it smaller"
    )]
    TooLarge {
        /// Bytes of the event in a message to a client.
        bytes: usize,
    },
    /// It is beyond a limit of the store.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Makes an event for the store. `id` is its UUID, `None` if it came without one.
pub(crate) fn new_event(
    event: wire::Event,
    id: Option<Uuid>,
    tracking: Option<&wire::TrackingInfo>,
) -> Result<NewEvent, UnfitEvent> {
    let bytes = read_bytes(&event, tracking);
    if bytes > MESSAGE_BYTES_MAX {
        return Err(UnfitEvent::TooLarge { bytes });
    }
    let wire::Event { event_type, tags, data, uuid: _, metadata } = event;
    if let Some(key) = key_twice(&metadata) {
        return Err(UnfitEvent::KeyTwice { key: cut(key, SHOWN_CHARACTERS_MAX) });
    }
    let rest = Unplaced {
        no_uuid: id.is_none(),
        tracking: tracking.map(|tracking| (tracking.source.clone(), tracking.position)),
        event_type: TYPE.is_too_long(&event_type).then(|| event_type.clone()),
        tags: untold(&tags).then(|| tags.clone()),
    };
    let named = named(tags)?;
    let user = Beside { pairs: metadata, rest }.encode();
    Invalid::if_over("the metadata of an event", user.len(), METADATA_BYTES_MAX)?;
    Ok(NewEvent {
        content_type: ContentType::Binary,
        metadata: Metadata { user, ..Metadata::default() },
        tags: named,
        id: id.map(EventId),
        ..NewEvent::new(EventType::new(TYPE.name_of(event_type))?, data)
    })
}

/// Returns the bytes that an event will have in a message to a client, at most.
fn read_bytes(event: &wire::Event, tracking: Option<&wire::TrackingInfo>) -> usize {
    // An id is read with its hyphens, however it was written.
    let uuid = UUID_CHARACTERS.saturating_sub(event.uuid.len());
    event.encoded_len() + uuid + tracking.map_or(0, Message::encoded_len) + BESIDE_BYTES
}

/// Returns the names of tags. A request has room for a million of them: those beyond the limit are
/// not looked at.
fn named(tags: Vec<String>) -> Result<Tags, Invalid> {
    let mut named = Tags::none();
    for tag in tags {
        named.insert(Tag::new(TAG.name_of(tag))?);
        Invalid::if_over("the tags of an event", named.len(), TAGS_MAX)?;
    }
    Ok(named)
}

/// Tells whether the names of the tags do not tell the tags.
fn untold(tags: &[String]) -> bool {
    let is_twice = |(index, tag)| tags[..index].contains(tag);
    tags.iter().any(|tag| TAG.is_too_long(tag))
        || if tags.len() <= TAGS_MAX {
            tags.iter().enumerate().any(is_twice)
        } else {
            tags.iter().collect::<HashSet<_>>().len() < tags.len()
        }
}

fn key_twice(metadata: &[wire::MetadataEntry]) -> Option<&str> {
    let mut keys = HashSet::new();
    metadata.iter().map(|entry| entry.key.as_str()).find(|key| !keys.insert(*key))
}

/// Makes an event of the protocol of a recorded one.
pub(super) fn sequenced(event: RecordedEvent) -> wire::SequencedEvent {
    let Beside { pairs: mut metadata, rest } = Beside::decode(&event.metadata.user);
    // Native programs write metadata as they like. What it says of the type and of the tags counts
    // if the names are those that the event has.
    let whole_type =
        rest.event_type.filter(|text| TYPE.name_of(text.clone()) == event.event_type.as_str());
    let whole_tags =
        rest.tags.filter(|tags| named(tags.clone()).is_ok_and(|named| named == event.tags));
    if let Some(at) = &event.stream {
        metadata.push(entry(STREAM_KEY, at.name.to_string()));
        metadata.push(entry(VERSION_KEY, at.version.to_string()));
    }
    let tag = |tag: &Tag| TAG.text_of(tag).to_owned();
    wire::SequencedEvent {
        position: event.position.0,
        event: Some(wire::Event {
            event_type: whole_type.unwrap_or_else(|| TYPE.text_of(&event.event_type).to_owned()),
            tags: whole_tags.unwrap_or_else(|| event.tags.iter().map(tag).collect()),
            data: event.data,
            uuid: if rest.no_uuid { String::new() } else { event.id.to_string() },
            metadata,
        }),
        tracking_info: rest
            .tracking
            .map(|(source, position)| wire::TrackingInfo { source, position }),
    }
}

fn entry(key: &str, value: String) -> wire::MetadataEntry {
    wire::MetadataEntry { key: key.to_owned(), value }
}

/// Error of an event that is larger than the messages that clients take: one of a native program.
#[derive(Debug, thiserror::Error)]
#[error(
    "the event at position {position} has {bytes} bytes, and clients of this protocol take {MESSAGE_BYTES_MAX}, read on after it"
)]
pub(super) struct UnreadableEvent {
    position: u64,
    bytes: usize,
}

/// Events of one message.
#[derive(Default)]
pub(super) struct EventBatch {
    pub(super) events: Vec<wire::SequencedEvent>,
    bytes: usize,
}

impl EventBatch {
    /// Adds an event, or gives it back if clients would not take the message any more.
    ///
    /// # Errors
    /// [`UnreadableEvent`] if clients would take no message with the event.
    pub(super) fn push(
        &mut self,
        event: wire::SequencedEvent,
    ) -> Result<Option<wire::SequencedEvent>, UnreadableEvent> {
        let bytes = self.bytes + bytes_of(&event);
        if bytes > BATCH_BYTES_MAX && !self.events.is_empty() {
            return Ok(Some(event));
        }
        if bytes > MESSAGE_BYTES_MAX - HEAD_BYTES {
            return Err(UnreadableEvent { position: event.position, bytes });
        }
        self.bytes = bytes;
        self.events.push(event);
        Ok(None)
    }
}

/// Bytes of an event in a message: the key of the field and its length come before each.
fn bytes_of(event: &wire::SequencedEvent) -> usize {
    event.encoded_len() + 6
}
