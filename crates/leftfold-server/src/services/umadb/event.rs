//! Events of the protocol as the store has them, and back.

use std::collections::HashSet;

use bytes::{BufMut, Bytes};
use leftfold::store::limits::{METADATA_BYTES_MAX, TAGS_MAX};
use leftfold::store::{
    ContentType, EventId, EventType, Invalid, Metadata, NewEvent, RecordedEvent, Tag, Tags,
};
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint, message};
use uuid::Uuid;

use crate::services::{SHOWN_CHARACTERS_MAX, cut};

use super::metadata::{Beside, Unplaced, has_uuid};
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
fn sequenced(event: &RecordedEvent) -> wire::SequencedEvent {
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
            data: event.data.clone(),
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

/// Events of one message, as they are encoded.
#[derive(Default)]
pub(super) struct EventBatch {
    encoded: Vec<u8>,
    count: usize,
    /// Position of the last event; `None` if there is none.
    pub(super) last: Option<u64>,
}

impl EventBatch {
    /// Adds an event, or gives it back if clients would not take the message any more.
    ///
    /// # Errors
    /// [`UnreadableEvent`] if clients would take no message with the event.
    pub(super) fn push(
        &mut self,
        event: RecordedEvent,
    ) -> Result<Option<RecordedEvent>, UnreadableEvent> {
        let before = self.encoded.len();
        put_event(&event, &mut self.encoded);
        let bytes = self.encoded.len();
        if bytes > BATCH_BYTES_MAX && self.count > 0 {
            self.encoded.truncate(before);
            return Ok(Some(event));
        }
        if bytes > MESSAGE_BYTES_MAX - HEAD_BYTES {
            return Err(UnreadableEvent { position: event.position.0, bytes });
        }
        self.count += 1;
        self.last = Some(event.position.0);
        Ok(None)
    }

    /// Number of the events.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Returns the bytes of the message, with the head if there is one.
    pub(super) fn finish(mut self, head: Option<u64>) -> Bytes {
        if let Some(head) = head {
            self.encoded.put_u8(HEAD_KEY);
            encode_varint(head, &mut self.encoded);
        }
        self.encoded.into()
    }
}

/// Keys of fields in `proto/umadb.proto`, with the wire type of each.
const EVENTS_KEY: u8 = 1 << 3 | 2;
const HEAD_KEY: u8 = 2 << 3;
const POSITION_KEY: u8 = 1 << 3;
const EVENT_KEY: u8 = 2 << 3 | 2;
const TYPE_KEY: u8 = 1 << 3 | 2;
const TAG_KEY: u8 = 2 << 3 | 2;
const DATA_KEY: u8 = 3 << 3 | 2;
const UUID_KEY: u8 = 4 << 3 | 2;

/// Bytes of a field with so many bytes.
fn field_bytes(bytes: usize) -> usize {
    1 + encoded_len_varint(bytes as u64) + bytes
}

fn put_field(key: u8, bytes: &[u8], to: &mut Vec<u8>) {
    to.put_u8(key);
    encode_varint(bytes.len() as u64, to);
    to.extend_from_slice(bytes);
}

/// Adds an event to a message. Nearly all have nothing but what the envelope has: they are written
/// as they are.
fn put_event(event: &RecordedEvent, to: &mut Vec<u8>) {
    let has_uuid = match has_uuid(&event.metadata.user) {
        Some(has_uuid) if event.stream.is_none() => has_uuid,
        _ => return message::encode(1, &sequenced(event), to),
    };
    let event_type = TYPE.text_of(&event.event_type);
    let tags = || event.tags.iter().map(|tag| TAG.text_of(tag));
    let if_any = |bytes: usize| if bytes == 0 { 0 } else { field_bytes(bytes) };
    let inner = if_any(event_type.len())
        + tags().map(|tag| field_bytes(tag.len())).sum::<usize>()
        + if_any(event.data.len())
        + if has_uuid { field_bytes(UUID_CHARACTERS) } else { 0 };
    let outer = 1 + encoded_len_varint(event.position.0) + field_bytes(inner);
    to.reserve(field_bytes(outer));
    to.put_u8(EVENTS_KEY);
    encode_varint(outer as u64, to);
    to.put_u8(POSITION_KEY);
    encode_varint(event.position.0, to);
    to.put_u8(EVENT_KEY);
    encode_varint(inner as u64, to);
    if !event_type.is_empty() {
        put_field(TYPE_KEY, event_type.as_bytes(), to);
    }
    tags().for_each(|tag| put_field(TAG_KEY, tag.as_bytes(), to));
    if !event.data.is_empty() {
        put_field(DATA_KEY, &event.data, to);
    }
    if has_uuid {
        let mut text = [0; UUID_CHARACTERS];
        put_field(UUID_KEY, event.id.0.hyphenated().encode_lower(&mut text).as_bytes(), to);
    }
}

#[cfg(test)]
mod tests {
    use leftfold::store::{InStream, Position, StreamName, Timestamp, Version};

    use super::*;

    /// The short way writes what the messages of the protocol are.
    #[test]
    fn an_event_is_written_as_its_message_is() {
        let no_uuid = Unplaced { no_uuid: true, ..Unplaced::default() };
        let tracked = Unplaced { tracking: Some(("s".to_owned(), 9)), ..Unplaced::default() };
        let mut count = 0;
        for rest in [Unplaced::default(), no_uuid, tracked] {
            let user = Beside { pairs: Vec::new(), rest }.encode();
            for text in ["a.B", "\\", "\\$timer.Set"] {
                for (data, tags) in [("", &[][..]), ("data", &["k:1", "\\"][..])] {
                    let tags = tags.iter().map(|tag| Tag::new(*tag).unwrap()).collect();
                    let new = NewEvent::new(EventType::new(text).unwrap(), data).tagged(tags);
                    let id = EventId(Uuid::from_u128(7 << 100));
                    let (at, now) = (Position(1 << 20), Timestamp::from_micros(1));
                    let mut event = RecordedEvent::of(new, at, now, None, id);
                    event.metadata.user = user.clone();
                    let mut batch = EventBatch::default();
                    assert!(batch.push(event.clone()).unwrap().is_none());
                    let name = StreamName::new("a-1").unwrap();
                    let in_stream = RecordedEvent {
                        stream: Some(InStream { name, version: Version(3) }),
                        ..event.clone()
                    };
                    assert!(batch.push(in_stream.clone()).unwrap().is_none());
                    let events = vec![sequenced(&event), sequenced(&in_stream)];
                    let message = wire::ReadResponse { events, head: Some(5) };
                    assert_eq!(batch.finish(Some(5)), message.encode_to_vec());
                    count += 1;
                }
            }
        }
        assert_eq!(count, 18);
    }
}
