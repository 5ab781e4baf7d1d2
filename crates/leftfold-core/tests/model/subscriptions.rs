//! Following what aggregates record: catching up, then live, from a checkpoint, as slowly as one
//! likes.

use futures_util::{FutureExt, StreamExt};
use leftfold_core::fold::{LoadError, Schema};
use leftfold_core::store::{
    Append, EventType, NewEvent, Position, Query, ReadError, Signal, Store, SubscribeError,
};

use crate::purse::{Do, Purse, PurseEvent, put, taken};

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_catches_up_and_then_hears_what_commands_record() {
    let store = Store::memory();
    let purses = store.aggregate::<Purse>();
    purses.commands("1", vec![Do::Put(3), Do::Take(1)]).execute().await.unwrap();
    let query = Schema::of::<PurseEvent>().unwrap().query();
    let mut following = store.subscribe(query, Position::START);
    let mut heard = Vec::new();
    loop {
        match following.next().await.unwrap() {
            Signal::Event(event) => heard.extend(purses.decode(&event).unwrap()),
            Signal::CaughtUp(position) => break assert_eq!(position, Position(2)),
            Signal::Progress(_) | Signal::FellBehind(_) => {}
        }
    }
    assert_eq!(heard, [put(3), taken(1)]);
    let writer = purses.clone();
    let writing = tokio::spawn(async move { writer.execute("2", Do::Put(9)).await.unwrap() });
    let event = following.event().await.unwrap();
    assert_eq!(purses.decode(&event), Ok(vec![put(9)]));
    assert_eq!(
        (writing.await.unwrap().position, following.through()),
        (event.position, event.position)
    );
}

#[tokio::test]
async fn who_follows_an_enum_gets_its_events_of_all_streams_and_no_others() {
    let store = Store::memory();
    let purses = store.aggregate::<Purse>();
    let append = Append::of(vec![NewEvent::new(EventType::new("other.Thing").unwrap(), "{}")]);
    for (purse, command) in [("1", Do::Put(3)), ("2", Do::Put(4)), ("1", Do::Take(1))] {
        purses.execute(purse, command).await.unwrap();
        store.append(append.clone()).await.unwrap();
    }
    let mut following = store.follow::<PurseEvent>(Position(1)).unwrap();
    let second = following.next().await.unwrap();
    assert_eq!((second.stream_id(), &second.event), ("2", &put(4)));
    let third = following.find(|recorded| recorded.stream_id() == "1").await.unwrap();
    assert_eq!((third.envelope.position, third.event), (Position(5), taken(1)));
}

/// A wait that is dropped once took its place in the line of those who are woken with it.
#[tokio::test]
async fn a_follower_is_a_stream_and_loses_nothing_to_waits_that_are_dropped() {
    let (store, events) = (Store::memory(), 40);
    let purses = store.aggregate::<Purse>();
    let mut following = store.follow::<PurseEvent>(Position::START).unwrap();
    let writer = tokio::spawn(async move {
        for coins in 1..=events {
            tokio::task::yield_now().await;
            purses.execute("1", Do::Put(coins)).await.unwrap();
        }
    });
    let mut seen = Vec::new();
    while seen.len() < usize::try_from(events).unwrap() {
        // Every second wait is dropped after one look, be it of the stream or of the method.
        if let Some(event) = following.next().now_or_never() {
            seen.push(event.unwrap().event);
        }
        let event = tokio::select! {
            biased;
            event = StreamExt::next(&mut following) => event.unwrap(),
            () = tokio::task::yield_now() => continue,
        };
        seen.push(event.unwrap().event);
    }
    writer.await.unwrap();
    assert_eq!(seen, (1..=events).map(put).collect::<Vec<_>>());
    store.close().await.unwrap();
    let rest: Vec<_> = following.collect().await;
    assert_eq!(
        rest,
        [Err(LoadError::Read(ReadError::Closed))],
        "it ends behind the error of a closed store"
    );
}

#[tokio::test]
async fn a_follower_goes_on_from_its_checkpoint_and_only_in_its_own_store() {
    let (store, other) = (Store::memory(), Store::memory());
    for store in [&store, &other] {
        for coins in 1..=5 {
            store.aggregate::<Purse>().execute("1", Do::Put(coins)).await.unwrap();
        }
    }
    let mut following = store.subscribe(Query::category("purse"), Position::START);
    for _ in 0..3 {
        following.event().await.unwrap();
    }
    let checkpoint = store.checkpoint_at(following.through()).await.unwrap();
    drop(following);
    let mut following = store.resume(Query::category("purse"), &checkpoint).await.unwrap();
    let event = following.event().await.unwrap();
    assert_eq!(store.aggregate::<Purse>().decode(&event), Ok(vec![put(4)]));
    let elsewhere = other.resume(Query::category("purse"), &checkpoint).await;
    assert!(matches!(elsewhere, Err(SubscribeError::OtherStore { .. })));
}

#[tokio::test]
async fn a_follower_that_stands_still_holds_nobody_up_and_misses_nothing() {
    const EVENTS: u64 = 20_000;
    let store = Store::memory();
    let purses = store.aggregate::<Purse>();
    let mut following = store.subscribe(Query::tag("purses"), Position::START);
    for _ in 0..EVENTS / 1_000 {
        purses.commands("1", vec![Do::Put(1); 1_000]).execute().await.unwrap();
    }
    for position in 1..=EVENTS {
        assert_eq!(following.event().await.unwrap().position, Position(position));
    }
}
