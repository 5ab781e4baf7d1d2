//! Subscriptions: catch-up, then live, none skipped, none stalled.

use std::time::Duration;

use leftfold_core::store::{
    Append, Checkpoint, Hash, MoveFrom, Position, Query, RecordedEvent, Signal, StoreId,
    SubscribeError, Subscription,
};
use tokio::task::JoinSet;

use super::Factory;
use super::examples::{event, events, label, moving, positions, tagged};
use super::subject::TestedStore;

async fn take(subscription: &mut Subscription, count: usize) -> Vec<RecordedEvent> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(subscription.event().await.expect("the subscription goes on"));
    }
    taken
}

/// The signals up to and with the first that says the subscription has caught up.
async fn until_caught_up(subscription: &mut Subscription) -> (Vec<RecordedEvent>, Position) {
    let mut taken = Vec::new();
    loop {
        match subscription.next().await.expect("the subscription goes on") {
            Signal::Event(event) => taken.push(event),
            Signal::CaughtUp(position) => return (taken, position),
            Signal::Progress(_) | Signal::FellBehind(_) => {}
        }
    }
}

/// First what is there, then what comes, in order, each once; the events are those that a read
/// returns.
pub async fn it_catches_up_and_then_follows(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 5)).await;
    let mut subscription = store.subscribe(Query::all(), Position(2));
    assert_eq!(positions(&take(&mut subscription, 3).await), [3, 4, 5]);
    for round in 0..10 {
        store.appended(events("a-1", 2)).await;
        let live = take(&mut subscription, 2).await;
        assert_eq!(positions(&live), [6 + 2 * round, 7 + 2 * round]);
        assert_eq!(live, store.everything().await[5 + 2 * round as usize..]);
        assert_eq!(subscription.through(), Position(7 + 2 * round));
    }
}

/// A subscription reports, at the head, that everything is delivered, even if there was nothing.
pub async fn it_says_when_it_has_caught_up(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let (none, at) = until_caught_up(&mut store.subscribe(Query::all(), Position::START)).await;
    assert_eq!((none.len(), at), (0, Position::START), "an empty store");
    store
        .appended(Append::of(vec![tagged(event("a-1"), &["t"]), event("a-1"), event("a-1")]))
        .await;
    for (query, after, expected) in [
        (Query::all(), 0, vec![1, 2, 3]),
        (Query::tag("t"), 0, vec![1]),
        (Query::tag("t"), 1, vec![]),
        (Query::all(), 3, vec![]),
    ] {
        let (taken, at) =
            until_caught_up(&mut store.subscribe(query.clone(), Position(after))).await;
        assert_eq!((positions(&taken), at), (expected, Position(3)), "{query:?} after {after}");
    }
}

/// Events that do not match move it on all the same, so that a filtered consumer can keep its
/// place.
pub async fn it_reports_progress_past_what_does_not_match(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 3)).await;
    let mut subscription = store.subscribe(Query::tag("t"), Position::START);
    assert_eq!(until_caught_up(&mut subscription).await.1, Position(3));
    store.appended(events("a-1", 4)).await;
    while subscription.through() < Position(7) {
        let signal = subscription.next().await.expect("the subscription goes on");
        assert!(!matches!(signal, Signal::Event(_)), "nothing matches, but there is {signal:?}");
    }
    store.appended(Append::of(vec![tagged(event("a-1"), &["t"])])).await;
    assert_eq!(positions(&take(&mut subscription, 1).await), [8]);
}

/// A consumer that recorded its position goes on from there, after the store was opened again too.
pub async fn it_resumes_from_a_checkpoint(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    store.appended(events("a-1", 2)).await;
    store.appended(events("a-1", 4)).await;
    for at in 0..=6 {
        let checkpoint = store.checkpoint_at(Position(at)).await.expect("the position is there");
        store
            .appended(moving("c", MoveFrom::Exactly(Position(at.saturating_sub(1))), checkpoint))
            .await;
        store.reopen().await;
        let checkpoint = store
            .checkpoint(label("c"))
            .await
            .expect("the store can be read")
            .expect("it was recorded");
        let mut resumed = store
            .resume(Query::all(), &checkpoint)
            .await
            .expect("the checkpoint is of this history");
        let (taken, _) = until_caught_up(&mut resumed).await;
        assert_eq!(positions(&taken), (at + 1..=6).collect::<Vec<_>>(), "resumed at {at}");
    }
}

/// A checkpoint of another store is refused, with both ids.
pub async fn a_checkpoint_of_another_store_is_refused(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let other = TestedStore::new(factory).await;
    store.appended(events("a-1", 1)).await;
    other.appended(events("a-1", 1)).await;
    let foreign = other.checkpoint_at(Position(1)).await.expect("the position is there");
    let refused = store.resume(Query::all(), &foreign).await.err();
    let (expected, actual) = (other.identity().store, store.identity().store);
    assert_eq!(refused, Some(SubscribeError::OtherStore { expected, actual }));
    let drawn = Checkpoint { store: StoreId::random(), ..foreign };
    assert!(matches!(store.verify(&drawn).await, Err(SubscribeError::OtherStore { .. })));
}

/// A checkpoint beyond the end tells of a store that was restored.
pub async fn a_checkpoint_ahead_of_the_store_is_refused(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 2)).await;
    let mut ahead = store.checkpoint_at(Position(2)).await.expect("the position is there");
    for position in [Position(3), Position::END] {
        ahead.position = position;
        let told = SubscribeError::Ahead { checkpoint: position, head: Position(2) };
        assert_eq!(store.resume(Query::all(), &ahead).await.err(), Some(told.clone()));
        assert_eq!(store.checkpoint_at(position).await, Err(told));
    }
}

/// A checkpoint whose hash is not the history's is refused: the store has another history.
pub async fn a_checkpoint_of_another_history_is_refused(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 2)).await;
    let own = store.checkpoint_at(Position(2)).await.expect("the position is there");
    let start = store.checkpoint_at(Position::START).await.expect("the start is there");
    for (checkpoint, hash) in [(&own, Hash::EMPTY), (&own, Hash([9; 32])), (&start, own.hash)] {
        let other = Checkpoint { hash, ..checkpoint.clone() };
        let told = SubscribeError::OtherHistory { position: other.position };
        assert_eq!(store.resume(Query::all(), &other).await.err(), Some(told));
    }
    for checkpoint in [own, start] {
        assert_eq!(store.verify(&checkpoint).await, Ok(()));
    }
}

/// A subscriber that does not pull is only late: writers go on, and everything is there when it is
/// pulled.
pub async fn a_slow_reader_does_not_hold_up_writers(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 1)).await;
    let mut slow = store.subscribe(Query::all(), Position::START);
    assert_eq!(positions(&take(&mut slow, 1).await), [1]);
    for _ in 0..300 {
        store.appended(events("a-1", 100)).await;
    }
    assert_eq!(positions(&take(&mut slow, 30_000).await), (2..=30_001).collect::<Vec<_>>());
}

/// Under concurrent writers each subscription sees every event that matches, in order.
pub async fn it_never_skips_under_load(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let mut readers = JoinSet::new();
    for query in [Query::all(), Query::all(), Query::tag("t"), Query::category("w")] {
        let mut subscription = store.subscribe(query.clone(), Position::START);
        let last = Query::tag("last");
        readers.spawn(async move {
            let mut taken = Vec::new();
            loop {
                let event = subscription.event().await.expect("the subscription goes on");
                let is_last = last.matches(&event);
                taken.push(event);
                if is_last {
                    return (query, taken);
                }
            }
        });
    }
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let store = (*store).clone();
        writers.spawn(async move {
            for number in 0..100 {
                let tags: &[&str] = if number % 3 == 0 { &["t"] } else { &[] };
                let batch = vec![tagged(event(&format!("w-{writer}")), tags); 1 + number % 4];
                let answer = store.append(Append::of(batch)).await;
                assert!(answer.is_ok(), "{answer:?}");
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.expect("a writer ends without a panic");
    }
    store.appended(Append::of(vec![tagged(event("w-9"), &["t", "last"])])).await;
    let all = store.everything().await;
    while let Some(ended) = readers.join_next().await {
        let (query, taken) = ended.expect("a reader ends without a panic");
        let expected: Vec<u64> =
            all.iter().filter(|event| query.matches(event)).map(|event| event.position.0).collect();
        assert_eq!(positions(&taken), expected, "{query:?}");
    }
}

/// A wait that was given up, at any moment, loses nothing.
pub async fn a_cancelled_wait_loses_nothing(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let mut subscription = store.subscribe(Query::all(), Position::START);
    let mut taken = Vec::new();
    for round in 0..200_u64 {
        if round % 2 == 0 {
            drop(store.append(events("a-1", 1)));
        }
        let patience = Duration::from_micros(round % 5 * 50);
        if let Ok(signal) = tokio::time::timeout(patience, subscription.next()).await
            && let Signal::Event(event) = signal.expect("the subscription goes on")
        {
            taken.push(event);
        }
    }
    taken.extend(take(&mut subscription, 100 - taken.len()).await);
    assert_eq!(positions(&taken), (1..=100).collect::<Vec<_>>());
}
