//! Events of the store as clients of this protocol receive them, and links to events.

use std::collections::HashMap;

use bytes::Bytes;
use leftfold::store::{
    ContentType, Position, Query, Read, ReadError, RecordedEvent, Timestamp, Version,
};
use uuid::Uuid;

use super::Facade;
use super::indexed::IndexedStream;
use super::names::{self, DELETED_TYPE, LINK_TYPE, METADATA_STREAM, NamedStream, STREAMLESS};
use super::wire::streams::ReadResp;
use super::wire::streams::read_resp::{Content, ReadEvent, RecordedEvent as WireEvent, read_event};
use super::wire::{AllStreamPosition, Moment, Uuid as WireUuid, uuid as wire_uuid};
use crate::groups::ParkedEntry;

/// Revision of the event that ends a stream for ever.
const LAST_REVISION: u64 = i64::MAX.unsigned_abs();
/// Digits and bytes of the text of a link.
const LINK_BYTES_MAX: usize = 1_024;

/// Spelling of ids that a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IdSpelling {
    Structured,
    Text,
}

pub(super) fn wire_id(id: Uuid, spelling: IdSpelling) -> WireUuid {
    let value = match spelling {
        IdSpelling::Text => wire_uuid::Value::String(id.to_string()),
        IdSpelling::Structured => {
            let (most, least) = id.as_u64_pair();
            wire_uuid::Value::Structured(wire_uuid::Structured {
                most_significant_bits: most.cast_signed(),
                least_significant_bits: least.cast_signed(),
            })
        }
    };
    WireUuid { value: Some(value) }
}

/// Returns the id that a client sent; `None` if it is none.
pub(super) fn id_of(id: Option<&WireUuid>) -> Option<Uuid> {
    match id?.value.as_ref()? {
        wire_uuid::Value::String(text) => Uuid::try_parse(text).ok(),
        wire_uuid::Value::Structured(bits) => Some(Uuid::from_u64_pair(
            bits.most_significant_bits.cast_unsigned(),
            bits.least_significant_bits.cast_unsigned(),
        )),
    }
}

pub(super) fn wire_position(position: Position) -> AllStreamPosition {
    AllStreamPosition { commit_position: position.0, prepare_position: position.0 }
}

pub(super) fn moment(at: Timestamp) -> Moment {
    let micros = at.as_micros();
    let nanos = micros.rem_euclid(1_000_000) * 1_000;
    Moment { seconds: micros.div_euclid(1_000_000), nanos: i32::try_from(nanos).unwrap_or(0) }
}

/// Units of 100 ns since 1970.
pub(super) fn ticks(at: Timestamp) -> i64 {
    at.as_micros().saturating_mul(10)
}

/// Returns the moment of such units.
pub(super) fn moment_of(ticks: i64) -> Timestamp {
    Timestamp::from_micros(ticks.div_euclid(10))
}

/// Returns the text of a content type.
fn content_type(of: &ContentType) -> &str {
    match of {
        ContentType::Json => "application/json",
        ContentType::Binary => "application/octet-stream",
        ContentType::Other(other) => other,
    }
}

/// Returns the place at which clients see an event: the name of its stream, and its revision there.
pub(super) fn shown_at(event: &RecordedEvent) -> (&str, u64) {
    let Some(at) = &event.stream else {
        return (STREAMLESS, event.position.0.saturating_sub(1));
    };
    let stream = names::shown(&at.name);
    if names::shown(&event.event_type) == DELETED_TYPE
        && let Some(deleted) = stream.strip_prefix(METADATA_STREAM)
    {
        return (deleted, LAST_REVISION);
    }
    (stream, at.version.0.saturating_sub(1))
}

fn wire_event(event: &RecordedEvent, spelling: IdSpelling) -> WireEvent {
    let (stream, revision) = shown_at(event);
    WireEvent {
        id: Some(wire_id(event.id.0, spelling)),
        stream_identifier: Some(names::identifier(stream)),
        stream_revision: revision,
        prepare_position: event.position.0,
        commit_position: event.position.0,
        metadata: system_metadata(
            names::shown(&event.event_type),
            content_type(&event.content_type),
            event.recorded_at,
        ),
        custom_metadata: event.metadata.user.clone(),
        data: event.data.clone(),
    }
}

fn system_metadata(kind: &str, content_type: &str, at: Timestamp) -> HashMap<String, String> {
    [("type", kind), ("content-type", content_type), ("created", &ticks(at).to_string())]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// An event on its way to a client, with the link by which it was found.
#[derive(Clone, Debug)]
pub(super) struct FoundEvent {
    /// `None` if the link leads nowhere.
    event: Option<WireEvent>,
    link: Option<WireEvent>,
    position: Position,
}

impl FoundEvent {
    /// The event, the link by which it was found, and the position.
    pub(super) fn into_parts(self) -> (Option<WireEvent>, Option<WireEvent>, Position) {
        (self.event, self.link, self.position)
    }

    pub(super) fn into_response(self) -> ReadResp {
        let position = Some(read_event::Position::CommitPosition(self.position.0));
        let event = ReadEvent { event: self.event, link: self.link, position };
        ReadResp { content: Some(Content::Event(event)) }
    }
}

/// The manner in which a client wants its events.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventForm {
    pub(super) spelling: IdSpelling,
    pub(super) resolves_links: bool,
}

impl EventForm {
    /// An event as it was found; the event that a link leads to in place of the link, if the client
    /// wants it so.
    pub(super) async fn found(
        self,
        facade: &Facade,
        event: &RecordedEvent,
    ) -> Result<FoundEvent, ReadError> {
        let position = event.position;
        if let Some(entry) = ParkedEntry::of(event) {
            return self.parked(facade, event, &entry).await;
        }
        let shown = wire_event(event, self.spelling);
        if !self.resolves_links || names::shown(&event.event_type) != LINK_TYPE {
            return Ok(FoundEvent { event: Some(shown), link: None, position });
        }
        let target = linked(facade, &event.data).await?;
        let event = match target {
            Some(target) if !facade.marks.hide(&facade.store, &target).await? => {
                Some(wire_event(&target, self.spelling))
            }
            _ => None,
        };
        Ok(FoundEvent { event, link: Some(shown), position })
    }

    /// The record of a parked event: a link to the event.
    async fn parked(
        self,
        facade: &Facade,
        record: &RecordedEvent,
        entry: &ParkedEntry,
    ) -> Result<FoundEvent, ReadError> {
        let (at, position) = (Position(entry.position), record.position);
        let read = Read::matching(Query::everything(), at).page_of(1);
        let events = facade.store.page(read).await?.events;
        let event = events.into_iter().find(|event| event.position == at);
        let stream = record.stream.as_ref().map_or("", |at| at.name.id());
        let data = event.as_ref().map_or_else(String::new, |event| {
            let (of, revision) = shown_at(event);
            format!("{revision}@{of}")
        });
        let metadata = serde_json::json!({
            "added": record.recorded_at.to_string(),
            "reason": entry.reason,
        });
        let link = WireEvent {
            stream_identifier: Some(names::identifier(&names::parked_stream(stream))),
            metadata: system_metadata(LINK_TYPE, "application/octet-stream", record.recorded_at),
            custom_metadata: metadata.to_string().into(),
            data: data.into(),
            ..wire_event(record, self.spelling)
        };
        if !self.resolves_links {
            return Ok(FoundEvent { event: Some(link), link: None, position });
        }
        let event = match event {
            Some(event) if !facade.marks.hide(&facade.store, &event).await? => {
                Some(wire_event(&event, self.spelling))
            }
            _ => None,
        };
        Ok(FoundEvent { event, link: Some(link), position })
    }

    /// An event as it stands in an indexed stream under a number. Nobody sees through a link to it
    /// if `is_hidden`.
    pub(super) fn indexed(
        self,
        stream: &IndexedStream,
        revision: u64,
        event: &RecordedEvent,
        is_hidden: bool,
    ) -> FoundEvent {
        let (of, at) = shown_at(event);
        let (kind, data) = stream.entry(of, at);
        let position = event.position;
        let entry = WireEvent {
            id: Some(wire_id(event.id.derived(&stream.shown), self.spelling)),
            stream_identifier: Some(names::identifier(&stream.shown)),
            stream_revision: revision,
            prepare_position: position.0,
            commit_position: position.0,
            metadata: system_metadata(kind, "application/octet-stream", event.recorded_at),
            custom_metadata: Bytes::new(),
            data: data.into(),
        };
        if !self.resolves_links || kind != LINK_TYPE {
            return FoundEvent { event: Some(entry), link: None, position };
        }
        let event = (!is_hidden).then(|| wire_event(event, self.spelling));
        FoundEvent { event, link: Some(entry), position }
    }
}

/// Returns the event that a link leads to; `None` if there is none, or not for the caller.
async fn linked(facade: &Facade, link: &[u8]) -> Result<Option<RecordedEvent>, ReadError> {
    if link.len() > LINK_BYTES_MAX {
        return Ok(None);
    }
    let parts = std::str::from_utf8(link).ok().and_then(|text| text.split_once('@'));
    let Some((revision, stream)) = parts else { return Ok(None) };
    let Ok(revision) = revision.parse::<u64>() else { return Ok(None) };
    let Ok(stream) = NamedStream::named(stream.to_owned()) else { return Ok(None) };
    if facade.may_read(&stream).is_err() {
        return Ok(None);
    }
    let version = Version(revision.saturating_add(1));
    let read = Read::stream(stream.name, version).page_of(1);
    let found = facade.store.page(read).await?.events.into_iter().next();
    Ok(found.filter(|found| found.version() == version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_in_both_spellings() {
        let id = Uuid::from_u128(0xfedc_ba98_7654_3210_8123_4567_89ab_cdef);
        for spelling in [IdSpelling::Text, IdSpelling::Structured] {
            assert_eq!(id_of(Some(&wire_id(id, spelling))), Some(id));
        }
        let broken = WireUuid { value: Some(wire_uuid::Value::String("no id".to_owned())) };
        assert_eq!(id_of(Some(&broken)), None);
        assert_eq!(id_of(None), None);
    }

    #[test]
    fn a_moment_before_1970_has_positive_nanoseconds() {
        let before = moment(Timestamp::from_micros(-1));
        assert_eq!((before.seconds, before.nanos), (-1, 999_999_000));
    }
}
