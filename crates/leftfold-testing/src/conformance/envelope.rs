//! Envelopes come out as they went in: every field of an event, any text, data of every size.

use std::collections::HashSet;

use bytes::Bytes;
use leftfold_core::store::limits::TRACE_STATE_BYTES_MAX;
use leftfold_core::store::{
    Append, Condition, ContentType, EventId, Expected, InStream, Metadata, NewEvent, Position,
    Query, Read, RecordedEvent, Tags, Timestamp, TraceContext, Version,
};
use uuid::Uuid;

use super::Factory;
use super::examples::{event, event_type, events, fact, label, stream, tagged};
use super::subject::TestedStore;

/// Returns the event that the store should make of a new one; a minted id is taken as it was found.
fn recorded(
    new: &NewEvent,
    position: u64,
    at: Timestamp,
    version: u64,
    found: &RecordedEvent,
) -> RecordedEvent {
    RecordedEvent {
        position: Position(position),
        recorded_at: at,
        stream: new.stream.clone().map(|name| InStream { name, version: Version(version) }),
        id: new.id.unwrap_or(found.id),
        event_type: new.event_type.clone(),
        schema_version: new.schema_version,
        content_type: new.content_type.clone(),
        data: new.data.clone(),
        metadata: new.metadata.clone(),
        tags: new.tags.clone(),
        key_ids: new.key_ids.clone(),
        append_continues: false,
    }
}

async fn assert_survives<F: Factory>(store: &mut TestedStore<'_, F>, new: Vec<NewEvent>) {
    let mut expected = Vec::new();
    for event in new {
        let appended = store.appended(Append::of(vec![event.clone()])).await;
        expected.push((event, appended));
    }
    for when in ["before", "after"] {
        for (new, appended) in &expected {
            let page = store
                .read_page(Read::matching(Query::everything(), appended.first).page_of(1))
                .await;
            let found = &page.events[0];
            let whole = recorded(
                new,
                appended.first.0,
                appended.recorded_at,
                appended.versions[0].0,
                found,
            );
            assert!(*found == whole, "{when} reopening, expected {whole:?}, found {found:?}");
        }
        store.reopen().await;
    }
}

fn full() -> NewEvent {
    NewEvent {
        stream: Some(stream("station-CP-1")),
        event_type: event_type("station.Booted"),
        schema_version: 4_000_000_000,
        content_type: ContentType::Other(label("application/vnd.leftfold+cbor; v=1")),
        data: Bytes::from((0..=255).collect::<Vec<u8>>()),
        metadata: Metadata {
            correlation: Some(label("the conversation")),
            causation: Some(label("the cause")),
            user: Bytes::from((0..=255).rev().collect::<Vec<u8>>()),
            trace: TraceContext::new([0xab; 16], [7; 8], 1, "vendor=1,other=2"),
        },
        tags: ["vendor:x", "site:9", "a"].iter().fold(Tags::none(), |tags, tag| tags.with(*tag)),
        id: Some(EventId(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef))),
        key_ids: vec![label("key 2"), label("key 1")],
    }
}

/// All fields together, and each one left out.
pub async fn every_field_survives(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let full = full();
    let metadata = |change: fn(&mut Metadata)| {
        let mut event = full.clone();
        change(&mut event.metadata);
        event
    };
    let all = vec![
        full.clone(),
        fact("test.Bare"),
        NewEvent { stream: None, ..full.clone() },
        NewEvent { schema_version: 1, ..full.clone() },
        NewEvent { content_type: ContentType::Json, ..full.clone() },
        NewEvent { content_type: ContentType::Binary, ..full.clone() },
        // A caller's text is kept, also where the store has a shorter word for it.
        NewEvent { content_type: ContentType::Other(label("application/json")), ..full.clone() },
        metadata(|metadata| metadata.correlation = None),
        metadata(|metadata| metadata.causation = None),
        metadata(|metadata| metadata.user = Bytes::new()),
        metadata(|metadata| metadata.trace = None),
        NewEvent { metadata: Metadata::default(), ..full.clone() },
        NewEvent { tags: Tags::none(), ..full.clone() },
        NewEvent { id: None, ..full.clone() },
        NewEvent { id: Some(EventId(Uuid::nil())), ..full.clone() },
        NewEvent { id: Some(EventId(Uuid::max())), ..full.clone() },
        NewEvent { key_ids: vec![], ..full.clone() },
        NewEvent { key_ids: vec![label("one key")], ..full.clone() },
        NewEvent { data: Bytes::new(), ..full.clone() },
    ];
    assert_survives(&mut store, all).await;
}

/// The place in a distributed trace: with a state and without, sampled and not, beside other
/// metadata and alone.
pub async fn a_trace_context_survives(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let longest = "v".repeat(TRACE_STATE_BYTES_MAX);
    let traces = [("", 0), ("", 1), ("vendor=1,other=2", 1), (&*longest, 0xff)];
    let traced = traces.into_iter().flat_map(|(state, flags)| {
        let trace = TraceContext::new([0x4b; 16], [0xf0; 8], flags, state);
        let alone = Metadata { trace, ..Metadata::default() };
        let beside = Metadata {
            correlation: Some(label("the conversation")),
            user: Bytes::from_static(b"{}"),
            ..alone.clone()
        };
        [alone, beside].map(|metadata| NewEvent { metadata, ..fact("test.Traced") })
    });
    let traced = traced.collect();
    assert_survives(&mut store, traced).await;
}

const TEXTS: [&str; 12] = [
    "with spaces in it",
    "$system",
    "$$a-1",
    "-",
    "a-b-c",
    "--",
    "ÄÖÜ ß",
    "日本語",
    "🦀🦀",
    "a\nb\tc\0d",
    "\u{feff}",
    "e\u{301} é",
];

/// Streams, types and tags may be any text; none is trimmed, folded or normalized.
pub async fn any_text_survives(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let all = TEXTS.map(|text| {
        let metadata = Metadata {
            correlation: Some(label(text)),
            causation: Some(label(text)),
            ..Metadata::default()
        };
        let key_ids = vec![label(text)];
        tagged(NewEvent { metadata, key_ids, ..fact(text).in_stream(stream(text)) }, &["k:v", text])
    });
    assert_survives(&mut store, all.to_vec()).await;
    for (index, text) in TEXTS.iter().enumerate() {
        let position = [index as u64 + 1];
        assert_eq!(store.version(stream(text)).await, Ok(Version(1)), "version of {text:?}");
        assert_eq!(store.matching(Query::stream(stream(text))).await, position, "stream {text:?}");
        let typed = Query::from(leftfold_core::store::QueryItem {
            types: vec![leftfold_core::store::TypeMatch::Exact(event_type(text))],
            ..Query::everything().items()[0].clone()
        });
        assert_eq!(store.matching(typed).await, position, "type {text:?}");
        let tag = Query::everything().and_tag(*text);
        assert_eq!(store.matching(tag).await, position, "tag {text:?}");
        let stale = Append::default().when(Condition::stream(stream(text), Expected::Absent));
        store.conflict(stale).await;
    }
}

/// No byte, one, around powers of two, 1 MiB.
pub async fn data_of_every_size_survives(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let sizes = [0, 1, 2, 127, 128, 129, 4_095, 4_096, 4_097, 65_535, 65_536, 1 << 20];
    let of = |size: usize| {
        (0..size).map(|index| (index.wrapping_mul(31) >> 3) as u8).collect::<Vec<u8>>()
    };
    let all = sizes
        .map(|size| NewEvent::new(event_type("test.Sized"), of(size)).in_stream(stream("a-1")));
    assert_survives(&mut store, all.to_vec()).await;
}

/// By position, by query, by stream, forwards and backwards: the same event.
pub async fn every_read_finds_the_same_event(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let new = full();
    let name = stream("station-CP-1");
    store.appended(Append::of(vec![event("x-1"), new.clone(), event("x-1")])).await;
    let expected = store.everything().await[1].clone();
    assert_eq!(expected.tags, new.tags);
    let reads = [
        Read::stream(name.clone(), Version(1)),
        Read::stream(name.clone(), Version::END).backwards(),
        Read::matching(Query::stream(name), Position(1)),
        Read::matching(Query::category("station"), Position::END).backwards(),
        Read::matching(Query::tag("site:9"), Position(2)),
        Read::matching(Query::types([new.event_type.clone()]), Position(2)),
    ];
    for read in reads {
        let found = store.read_all(read.clone()).await;
        assert!(found == [expected.clone()], "{read:?} finds {found:?}");
    }
}

/// If the caller brings no id, the event gets one of its own: a UUID of version 7.
pub async fn minted_ids_are_version_7_and_distinct(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    for _ in 0..20 {
        store.appended(events("a-1", 50)).await;
    }
    let all = store.everything().await;
    let ids: HashSet<EventId> = all.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), 1_000, "distinct ids of 1000 events");
    for event in &all {
        let millis = event.recorded_at.as_micros().cast_unsigned() / 1_000;
        assert_eq!(
            (event.id.0.get_version_num(), event.id.0.as_u128() >> 80),
            (7, u128::from(millis)),
            "{}",
            event.id
        );
    }
    assert_eq!(store.positions_of(all[0].id, 10).await, Ok(vec![]), "minted ids are not found");
}

/// Not after reopening, and not by another store, though both mint at the same time.
pub async fn minted_ids_are_never_given_again(factory: &impl Factory) {
    const ROUNDS: usize = 40;
    let mut stores = [TestedStore::new(factory).await, TestedStore::new(factory).await];
    for _ in 0..3 {
        for _ in 0..ROUNDS {
            for store in &stores {
                store.appended(events("a-1", 5)).await;
            }
        }
        for store in &mut stores {
            store.reopen().await;
        }
    }
    let mut ids = HashSet::new();
    for store in &stores {
        ids.extend(store.everything().await.into_iter().map(|event| event.id));
    }
    assert_eq!(ids.len(), 2 * 3 * ROUNDS * 5, "distinct ids of all events");
}

/// Ids of callers are found, the oldest first, as many as wanted; one id may stand on several
/// events.
pub async fn ids_that_callers_brought_are_found(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let brought = |number: u128, name: &str| NewEvent {
        id: Some(EventId(Uuid::from_u128(number))),
        ..event(name)
    };
    store.appended(Append::of(vec![brought(1, "a-1"), event("a-1"), brought(2, "b-1")])).await;
    store.appended(Append::of(vec![brought(1, "b-1"), brought(1, "a-1")])).await;
    let stale = Append::of(vec![brought(3, "a-1")])
        .when(Condition::stream(stream("a-1"), Expected::Absent));
    store.conflict(stale).await;
    for _ in 0..2 {
        let found = async |number, at_most| {
            store.positions_of(EventId(Uuid::from_u128(number)), at_most).await
        };
        assert_eq!(found(1, 10).await, Ok([1, 4, 5].map(Position).to_vec()));
        assert_eq!(found(1, 2).await, Ok([1, 4].map(Position).to_vec()), "at most two");
        assert_eq!(found(1, 0).await, Ok(vec![]), "at most none");
        assert_eq!(found(2, 1).await, Ok(vec![Position(3)]));
        assert_eq!(found(3, 1).await, Ok(vec![]), "the id of an event that was not appended");
        assert_eq!(found(4, 1).await, Ok(vec![]), "an id that never was");
        store.reopen().await;
    }
}

/// A minted id is stored, or made of what is: it does not change.
pub async fn ids_are_the_same_after_reopening(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    store.appended(events("a-1", 5)).await;
    let before = store.everything().await;
    store.reopen().await;
    let after = store.everything().await;
    let ids = |events: &[RecordedEvent]| events.iter().map(|event| event.id).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&after));
}
