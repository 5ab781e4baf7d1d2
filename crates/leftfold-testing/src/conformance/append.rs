//! Positions, versions, batches.

use std::pin::Pin;
use std::task::Poll;

use leftfold_core::store::{
    Append, Condition, Conflict, EventId, Expected, MoveFrom, NewEvent, Position, Query, Version,
};

use super::Factory;
use super::examples::{
    checkpoint, command, event, events, fact, moving, positions, stream, tagged, versions,
};
use super::subject::TestedStore;

/// The first event has position 1, and each append goes on from the end of the one before.
pub async fn positions_count_up_from_one_without_gaps(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let mut next = 1;
    for count in [1, 3, 1, 7, 2] {
        let appended = store.appended(events("a-1", count)).await;
        assert_eq!(appended.first, Position(next), "first position of an append of {count}");
        next += count as u64;
        assert_eq!(appended.last(), Position(next - 1), "last position of an append of {count}");
    }
    let all = store.everything().await;
    assert_eq!(positions(&all), (1..=14).collect::<Vec<_>>());
}

/// Versions count the events of each stream from 1; an event without a stream has none.
pub async fn versions_count_the_events_of_each_stream(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let first = store
        .appended(Append::of(vec![event("a-1"), event("b-1"), fact("test.Fact"), event("a-1")]))
        .await;
    let second = store.appended(Append::of(vec![event("b-1"), event("a-1"), event("c-1")])).await;
    assert_eq!(first.versions, [1, 1, 0, 2].map(Version));
    assert_eq!(second.versions, [2, 3, 1].map(Version));
    let all = store.everything().await;
    assert_eq!(versions(&all), [1, 1, 0, 2, 2, 3, 1]);
    assert_eq!(all[2].stream, None, "a fact without a stream");
    for (name, version) in [("a-1", 3), ("b-1", 2), ("c-1", 1), ("d-1", 0)] {
        assert_eq!(store.version(stream(name)).await, Ok(Version(version)), "version of {name}");
    }
}

/// Events of one append stand together, in their order, and say where the append ends.
pub async fn a_batch_over_streams_stands_together(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("x-1", 1)).await;
    let batch = ["a-1", "b-1", "a-1", "c-1"];
    let appended = store.appended(Append::of(batch.map(event).to_vec())).await;
    store.appended(events("x-1", 2)).await;
    let all = store.everything().await;
    let names: Vec<&str> =
        all[1..5].iter().map(|e| e.stream.as_ref().map_or("", |at| at.name.as_str())).collect();
    assert_eq!(names, batch);
    assert!(
        all[1..5].iter().all(|e| e.recorded_at == appended.recorded_at),
        "one append has one time"
    );
    let continues: Vec<bool> = all.iter().map(|e| e.append_continues).collect();
    assert_eq!(continues, [false, true, true, true, false, true, false], "append_continues");
}

/// An append whose condition fails writes none of its events, in no stream.
pub async fn a_batch_is_all_or_nothing(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 2)).await;
    let batch = Append::of(vec![event("b-1"), event("a-1"), event("c-1")]);
    let stale = batch.clone().when(Condition::stream(stream("a-1"), Expected::Exact(Version(1))));
    store.conflict(stale).await;
    for (name, version) in [("a-1", 2), ("b-1", 0), ("c-1", 0)] {
        assert_eq!(
            store.version(stream(name)).await,
            Ok(Version(version)),
            "version of {name} after the conflict"
        );
    }
    assert_eq!(store.appended(batch).await.first, Position(3));
}

/// An append without events is answered with the last event before it and no versions; it takes no
/// position.
pub async fn an_append_without_events_takes_no_position(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let source = store.identity().store;
    let empties = || {
        let moved = moving("c", MoveFrom::Anywhere, checkpoint(source, 1));
        [Append::default(), Append { command: Some(command("empty")), ..Append::default() }, moved]
    };
    let first = store.appended(Append::default()).await;
    assert_eq!(
        (first.first, first.last(), first.versions),
        (Position::START, Position::START, vec![])
    );
    store.appended(events("a-1", 3)).await;
    for empty in empties() {
        let appended = store.appended(empty).await;
        assert_eq!(
            (appended.first, appended.last(), appended.versions),
            (Position(3), Position(3), vec![])
        );
    }
    assert_eq!(store.head().position, Position(3));
    assert_eq!(store.appended(events("a-1", 1)).await.first, Position(4));
}

/// An append's own events are not compared with its condition: it is judged by what is ordered
/// before.
pub async fn an_append_does_not_conflict_with_itself(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let mut condition = Condition::none_matching(Query::tag("unique"), Position::START);
    condition.streams.push((stream("a-1"), Expected::Absent));
    let batch =
        Append::of(vec![tagged(event("a-1"), &["unique"]), tagged(event("a-1"), &["unique"])])
            .when(condition);
    assert_eq!(store.appended(batch.clone()).await.versions, [1, 2].map(Version));
    let conflict = store.conflict(batch).await;
    let Conflict::Stream { actual: Version(2), .. } = conflict else {
        let matching = Conflict::Matching { clause: 0, after: Position::START, found: Position(1) };
        return assert_eq!(conflict, matching);
    };
}

/// When an append is answered, the head is not behind it, and a read sees it.
pub async fn what_is_answered_can_be_read(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    for round in 1..=50 {
        let appended = store.appended(events(&format!("a-{}", round % 3), 1)).await;
        assert_eq!(store.head().position, appended.last(), "the head when the append was answered");
        let read = store
            .read_all(leftfold_core::store::Read::matching(Query::all(), appended.first))
            .await;
        assert_eq!(positions(&read), [round], "what a read from the append sees");
    }
}

/// A request that was handed over is carried out, though nobody waits for its answer.
pub async fn a_request_is_carried_out_without_its_caller(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    drop(store.append(events("a-1", 2)));
    let mut status = store.status();
    let arrived = status.wait_for(|status| status.head.position >= Position(2)).await.map(drop);
    assert!(arrived.is_ok(), "the store ended before the append was carried out");
    assert_eq!(positions(&store.everything().await), [1, 2]);
}

/// It is carried out whole, though its caller has waited a while and then went.
pub async fn a_caller_may_leave_after_any_poll(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let mut status = store.status();
    for polls in 1..6_u64 {
        let mut pending = store.append(events("a-1", 3));
        for _ in 0..polls {
            let ready = std::future::poll_fn(|context| {
                Poll::Ready(Pin::new(&mut pending).poll(context).is_ready())
            })
            .await;
            if ready {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(pending);
        let end = Position(3 * polls);
        let arrived = status.wait_for(|status| status.head.position >= end).await.map(drop);
        assert!(arrived.is_ok(), "the store ended before the append was carried out");
        assert_eq!(
            positions(&store.everything().await),
            (1..=end.0).collect::<Vec<_>>(),
            "after {polls} polls"
        );
    }
}

/// Nobody looks at what is in it: what is to take effect once has a command id.
pub async fn the_same_batch_twice_goes_in_twice(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let brought = |number| Some(EventId(uuid::Uuid::from_u128(number)));
    let batch = vec![
        NewEvent { id: brought(1), ..tagged(event("a-1"), &["t"]) },
        NewEvent { id: brought(2), ..event("b-1") },
        tagged(event("b-1"), &["t"]),
    ];
    for round in 0..3 {
        let appended = store.appended(Append::of(batch.clone())).await;
        let versions = [round + 1, 2 * round + 1, 2 * round + 2].map(Version).to_vec();
        assert_eq!((appended.first, appended.versions), (Position(3 * round + 1), versions));
    }
    assert_eq!(
        store.positions_of(EventId(uuid::Uuid::from_u128(2)), 9).await,
        Ok([2, 5, 8].map(Position).to_vec())
    );
}

/// Many events in one append, as many as the limit allows.
pub async fn the_largest_number_of_events_goes_in_at_once(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let count = leftfold_core::store::limits::APPEND_EVENTS_MAX;
    let appended = store.appended(events("a-1", count)).await;
    assert_eq!(appended.versions.last(), Some(&Version(count as u64)));
    assert_eq!(store.everything().await.len(), count);
}
