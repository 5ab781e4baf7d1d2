//! Short ways to say events, names and requests.

use bytes::Bytes;

use leftfold_core::store::{
    Append, Checkpoint, CheckpointRecord, CommandId, CommandRecord, Digest, EventType, Hash, Label,
    MoveFrom, NewEvent, Partition, Position, RecordedEvent, StoreId, StreamName, Tags,
};

pub(super) fn stream(name: &str) -> StreamName {
    StreamName::new(name.to_owned()).expect("the name of a stream")
}

pub(super) fn event_type(name: &str) -> EventType {
    EventType::new(name.to_owned()).expect("the name of a type")
}

pub(super) fn label(text: &str) -> Label {
    Label::new(text.to_owned()).expect("a label")
}

/// An event without a stream.
pub(super) fn fact(name: &str) -> NewEvent {
    NewEvent::new(event_type(name), "{}")
}

/// An event of one stream.
pub(super) fn event(name: &str) -> NewEvent {
    fact("test.Happened").in_stream(stream(name))
}

pub(super) fn tagged(event: NewEvent, tags: &[&str]) -> NewEvent {
    event.tagged(tags.iter().fold(Tags::none(), |all, tag| all.with(tag.to_string())))
}

/// An append of this number of events of one stream.
pub(super) fn events(name: &str, count: usize) -> Append {
    Append::of(vec![event(name); count])
}

/// A request whose bytes are its key.
pub(super) fn command(key: &str) -> CommandRecord {
    let answer = Bytes::from(format!("answer to {key}"));
    CommandRecord {
        id: CommandId::new("conformance", key),
        digest: Digest::of(key.as_bytes()),
        answer,
    }
}

/// A checkpoint as a consumer of another system writes it: without a hash.
pub(super) fn checkpoint(store: StoreId, position: u64) -> Checkpoint {
    Checkpoint {
        store,
        partition: Partition::default(),
        position: Position(position),
        hash: Hash::EMPTY,
    }
}

pub(super) fn moving(consumer: &str, from: MoveFrom, checkpoint: Checkpoint) -> Append {
    let record = CheckpointRecord { consumer: label(consumer), from, checkpoint };
    Append { checkpoint: Some(record), ..Append::default() }
}

pub(super) fn positions(events: &[RecordedEvent]) -> Vec<u64> {
    events.iter().map(|event| event.position.0).collect()
}

pub(super) fn versions(events: &[RecordedEvent]) -> Vec<u64> {
    events.iter().map(|event| event.version().0).collect()
}
