//! Events of the protocol as the store has them, and back.

use std::collections::HashSet;

use leftfold::store::limits::{METADATA_BYTES_MAX, TAGS_MAX};
use leftfold::store::{
    ContentType, EventId, EventType, Invalid, Metadata, NewEvent, RecordedEvent, Tag, Tags,
};
use prost::Message;
use uuid::Uuid;

use super::beside::{Beside, Unplaced};
use super::names::{TAG, TYPE};
use super::{BATCH_BYTES_MAX, wire};

/// Metadata of the protocol that has the name of an event's stream.
const STREAM_KEY: &str = "leftfold-stream";
/// Metadata of the protocol that has the version of the stream with the event.
const VERSION_KEY: &str = "leftfold-version";

/// Reason why an event cannot be appended.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnfitEvent {
    /// Two pairs of its metadata have one key.
    #[error("the metadata of an event has the key {key:?} twice, give each key once")]
    KeyTwice {
        /// The key.
        key: String,
    },
    /// It is beyond a limit of the store.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Makes an event for the store. `id` is its UUID, `None` if it came without one.
pub(super) fn new_event(
    event: wire::Event,
    id: Option<Uuid>,
    tracking: Option<&wire::TrackingInfo>,
) -> Result<NewEvent, UnfitEvent> {
    let wire::Event { event_type, tags, data, uuid: _, metadata } = event;
    if let Some(key) = key_twice(&metadata) {
        return Err(UnfitEvent::KeyTwice { key: key.to_owned() });
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
    if let Some(at) = &event.stream {
        metadata.push(entry(STREAM_KEY, at.name.to_string()));
        metadata.push(entry(VERSION_KEY, at.version.to_string()));
    }
    let tag = |tag: &Tag| TAG.text_of(tag).to_owned();
    wire::SequencedEvent {
        position: event.position.0,
        event: Some(wire::Event {
            event_type: rest
                .event_type
                .unwrap_or_else(|| TYPE.text_of(&event.event_type).to_owned()),
            tags: rest.tags.unwrap_or_else(|| event.tags.iter().map(tag).collect()),
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

/// Events of one message.
#[derive(Default)]
pub(super) struct EventBatch {
    pub(super) events: Vec<wire::SequencedEvent>,
    bytes: usize,
}

impl EventBatch {
    /// A batch that begins with an event, however large.
    pub(super) fn of(event: wire::SequencedEvent) -> Self {
        Self { bytes: bytes_of(&event), events: vec![event] }
    }

    /// Adds an event, or gives it back if clients would not take the message any more.
    #[expect(clippy::result_large_err, reason = "it is what was given")]
    pub(super) fn push(&mut self, event: wire::SequencedEvent) -> Result<(), wire::SequencedEvent> {
        let bytes = self.bytes + bytes_of(&event);
        if bytes > BATCH_BYTES_MAX && !self.events.is_empty() {
            return Err(event);
        }
        self.bytes = bytes;
        self.events.push(event);
        Ok(())
    }
}

/// Bytes of an event in a message: the key of the field and its length come before each.
fn bytes_of(event: &wire::SequencedEvent) -> usize {
    event.encoded_len() + 6
}
