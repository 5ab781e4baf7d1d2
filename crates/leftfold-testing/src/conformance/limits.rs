//! Limits: what is beyond one gets a typed error and changes nothing; what is at it is kept.

use leftfold_core::store::limits::{
    ANSWER_BYTES_MAX, APPEND_EVENTS_MAX, DATA_BYTES_MAX, EXPECTATIONS_MAX, ITEM_TERMS_MAX,
    KEY_IDS_MAX, METADATA_BYTES_MAX, QUERIES_MAX, QUERY_ITEMS_MAX, STREAM_BYTES_MAX, TAG_BYTES_MAX,
    TAGS_MAX, TYPE_BYTES_MAX,
};
use leftfold_core::store::{
    Append, AppendError, CheckpointRecord, CommandRecord, Condition, Expected, Invalid, MoveFrom,
    NewEvent, Outcome, Position, Query, QueryItem, Read, ReadError, Tags, Version,
};

use super::Factory;
use super::examples::{command, event, events, fact, label, stream, tagged};
use super::subject::TestedStore;

fn sized(bytes: usize) -> NewEvent {
    NewEvent { data: vec![7; bytes].into(), ..event("a-1") }
}

fn with_metadata(bytes: usize) -> NewEvent {
    let mut new = event("a-1");
    new.metadata.user = vec![7; bytes].into();
    new
}

fn with_tags(count: usize) -> NewEvent {
    event("a-1")
        .tagged((0..count).fold(Tags::none(), |tags, number| tags.with(format!("t:{number}"))))
}

fn with_keys(count: usize) -> NewEvent {
    NewEvent {
        key_ids: (0..count).map(|number| label(&format!("key {number}"))).collect(),
        ..event("a-1")
    }
}

fn expecting(count: usize) -> Append {
    let streams =
        (0..count).map(|number| (stream(&format!("s-{number}")), Expected::Absent)).collect();
    events("a-1", 1).when(Condition { streams, none_matching: Vec::new() })
}

fn answering(bytes: usize) -> Append {
    let record = CommandRecord { answer: vec![7; bytes].into(), ..command("limit") };
    Append { command: Some(record), ..events("a-1", 1) }
}

fn query_of_items(count: usize) -> Query {
    (0..count).map(|number| Query::tag(format!("t {number}")).items()[0].clone()).collect()
}

fn query_of_types(count: usize) -> Query {
    Query::types((0..count).map(|number| super::examples::event_type(&format!("never.{number}"))))
}

fn query_of_tags(count: usize) -> Query {
    let tags =
        (0..count).map(|number| Query::tag(format!("t {number}")).items()[0].tags[0].clone());
    Query::from(QueryItem { tags: tags.collect(), ..QueryItem::default() })
}

fn without(query: Query) -> Append {
    events("a-1", 1).when(Condition::none_matching(query, Position::START))
}

/// A condition with this number of queries, each with this number of items.
fn without_all(queries: usize, items: usize) -> Append {
    let add = |condition: Condition, _| {
        condition.and_none_matching(query_of_items(items), Position::START)
    };
    events("a-1", 1).when((0..queries).fold(Condition::none(), add))
}

/// Each limit, one beyond it; nothing of the append is there after it, not even its command id.
pub async fn what_is_beyond_a_limit_is_refused(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 1)).await;
    let of = |new| Append::of(vec![event("b-1"), new]);
    let cases = [
        ("data", of(sized(DATA_BYTES_MAX + 1))),
        ("metadata", of(with_metadata(METADATA_BYTES_MAX + 1))),
        ("tags", of(with_tags(TAGS_MAX + 1))),
        ("an overlong tag", of(tagged(event("a-1"), &[&"x".repeat(TAG_BYTES_MAX + 1)]))),
        ("an empty tag", of(tagged(event("a-1"), &[""]))),
        ("keys", of(with_keys(KEY_IDS_MAX + 1))),
        ("bytes", Append::of(vec![sized(DATA_BYTES_MAX); 3])),
        ("events", events("a-1", APPEND_EVENTS_MAX + 1)),
        ("expectations", expecting(EXPECTATIONS_MAX + 1)),
        ("answer", answering(ANSWER_BYTES_MAX + 1)),
        ("items", without(query_of_items(QUERY_ITEMS_MAX + 1))),
        ("queries", without_all(QUERIES_MAX + 1, 1)),
        ("items of all queries", without_all(2, QUERY_ITEMS_MAX / 2 + 1)),
        ("types", without(query_of_types(ITEM_TERMS_MAX + 1))),
        ("query tags", without(query_of_tags(ITEM_TERMS_MAX + 1))),
        ("an overlong query tag", without(Query::tag("x".repeat(TAG_BYTES_MAX + 1)))),
        ("an empty query tag", without(Query::tag(""))),
    ];
    for (what, append) in cases {
        let append =
            Append { command: append.command.or_else(|| Some(command("limit"))), ..append };
        let refused = store.refused(append).await;
        let expected = if what.contains("empty") {
            matches!(refused, AppendError::Invalid(Invalid::Empty { .. }))
        } else {
            matches!(
                refused,
                AppendError::Invalid(Invalid::TooLarge { size, limit, .. }) if size > limit
            )
        };
        assert!(expected, "{what}: {refused:?}");
        assert_eq!(
            store.answered(command("limit").id).await,
            Ok(None),
            "{what}: the command id is not remembered"
        );
    }
    assert_eq!(store.appended(events("a-1", 1)).await.first, Position(2), "the store goes on");
}

/// Each limit, at it.
pub async fn what_is_at_a_limit_is_kept(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let longest =
        fact(&"y".repeat(TYPE_BYTES_MAX)).in_stream(stream(&"s".repeat(STREAM_BYTES_MAX)));
    let new = [
        sized(DATA_BYTES_MAX),
        with_metadata(METADATA_BYTES_MAX),
        with_tags(TAGS_MAX),
        tagged(event("a-1"), &[&"x".repeat(TAG_BYTES_MAX)]),
        with_keys(KEY_IDS_MAX),
        longest,
    ];
    for event in &new {
        store.appended(Append::of(vec![event.clone()])).await;
    }
    for append in [
        expecting(EXPECTATIONS_MAX),
        answering(ANSWER_BYTES_MAX),
        without(query_of_items(QUERY_ITEMS_MAX).and_tag("none")),
        without_all(QUERIES_MAX, QUERY_ITEMS_MAX / QUERIES_MAX),
        without(query_of_types(ITEM_TERMS_MAX)),
        without(query_of_tags(ITEM_TERMS_MAX)),
    ] {
        store.appended(append).await;
    }
    store.reopen().await;
    let all = store.everything().await;
    assert_eq!(all.len(), new.len() + 6);
    for (found, new) in all.iter().zip(&new) {
        let same =
            found.data == new.data && found.metadata == new.metadata && found.tags == new.tags;
        let same = same && found.key_ids == new.key_ids && found.event_type == new.event_type;
        assert!(same, "the event at {} is not what was appended", found.position);
    }
}

/// A read with a query beyond a limit is refused.
pub async fn a_query_beyond_a_limit_cannot_be_read(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 1)).await;
    for query in [
        query_of_items(QUERY_ITEMS_MAX + 1),
        query_of_types(ITEM_TERMS_MAX + 1),
        query_of_tags(ITEM_TERMS_MAX + 1),
    ] {
        let error = store.read_error(Read::matching(query, Position(1))).await;
        assert!(matches!(error, ReadError::Invalid(Invalid::TooLarge { .. })), "{error:?}");
    }
    let error = store.read_error(Read::matching(Query::tag(""), Position(1))).await;
    assert!(matches!(error, ReadError::Invalid(Invalid::Empty { .. })), "{error:?}");
    assert_eq!(store.matching(query_of_items(QUERY_ITEMS_MAX)).await, [] as [u64; 0]);
}

/// An application writes no stream, event type or consumer of the runtime; the runtime itself does.
pub async fn names_of_the_runtime_are_refused_from_an_application(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let checkpoint =
        store.checkpoint_at(Position::START).await.expect("the start has a checkpoint");
    let record =
        CheckpointRecord { consumer: label("$effect:mail"), from: MoveFrom::Anywhere, checkpoint };
    let reserved = [
        ("a stream name", events("$effect-1", 1)),
        ("a stream name", Append::of(vec![event("a-1"), event("$process:p-1")])),
        ("an event type", Append::of(vec![fact("$timer.Set")])),
        ("a consumer", Append { checkpoint: Some(record), ..events("a-1", 1) }),
    ];
    for (kind, append) in reserved {
        let answer = store.append(append.clone()).await;
        let Err(AppendError::Invalid(Invalid::Reserved { what, .. })) = &answer else {
            panic!("{kind} of the runtime should have been refused, but the answer is {answer:?}");
        };
        assert_eq!(*what, kind);
        assert_eq!(store.head().position, Position::START, "a refused append moved the head");
    }
    let consumer = store.checkpoint(label("$effect:mail")).await.expect("the store can be read");
    assert_eq!(consumer, None, "a refused append moved a consumer");
    store.appended(events("$effect-1", 1)).await;
}

/// A caller that hands over more than may wait is refused, and nothing of the refused append is
/// there: no event, no command id.
pub async fn what_was_refused_as_too_much_is_not_there(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let requests: Vec<Append> = (0..40)
        .map(|number: usize| Append {
            command: Some(command(&number.to_string())),
            ..Append::of(vec![sized(1 << 20)])
        })
        .collect();
    let handed_over: Vec<_> = requests.iter().map(|append| store.append(append.clone())).collect();
    let mut appended = 0;
    for (request, pending) in requests.into_iter().zip(handed_over) {
        let id =
            request.command.as_ref().map(|command| command.id).expect("every request has an id");
        match pending.await {
            Ok(Outcome::Appended(_)) => appended += 1,
            Err(AppendError::Busy { waiting }) => {
                assert!(waiting > 0, "something waits in a busy store");
                assert_eq!(
                    store.answered(id).await,
                    Ok(None),
                    "a request that was refused is not remembered"
                );
            }
            other => panic!("a request within its limits was answered {other:?}"),
        }
    }
    let end = Position(appended);
    assert_eq!(store.head().position, end, "events that went in, and only those");
    assert_eq!(
        store.appended(events("a-1", 1)).await.versions,
        [Version(appended + 1)],
        "the store goes on"
    );
}
