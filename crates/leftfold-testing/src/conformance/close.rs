//! The end of a store: what was handed over is answered, what comes later is told so, who waits is
//! woken.

use std::time::Duration;

use leftfold_core::store::{
    AppendError, EventId, Holder, LeaseError, LeaseRequest, Leased, Outcome, Position, Query, Read,
    ReadError, Signal, State, SubscribeError, Timestamp, Version,
};

use super::examples::{command, events, label, stream};
use super::subject::TestedStore;
use super::{Factory, Reopens};

/// Every call after closing answers that the store is closed; which store it was can still be
/// asked.
pub async fn a_closed_store_says_so(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 2)).await;
    let identity = store.identity();
    let last = store.checkpoint_at(Position(2)).await.expect("the position is there");
    let asking = LeaseRequest::new(label("w"), Holder::random(), Duration::from_secs(60));
    let Ok(Leased::Held(lease)) = store.lease(asking.clone()).await else {
        panic!("nobody else asked")
    };
    assert_eq!(store.status().borrow().state, State::Open);
    assert_eq!(store.close().await, Ok(()));
    assert_eq!(store.status().borrow().state, State::Closed);
    assert_eq!(store.identity(), identity);
    assert_eq!(store.append(events("a-1", 1)).await, Err(AppendError::Closed));
    let closed = Err(ReadError::Closed);
    assert_eq!(
        store.page(Read::matching(Query::all(), Position(1))).await,
        closed.clone().map(|()| unreachable!())
    );
    assert_eq!(store.version(stream("a-1")).await, closed.clone().map(|()| Version::ABSENT));
    assert_eq!(store.answered(command("1").id).await, closed.clone().map(|()| None));
    assert_eq!(store.checkpoint(label("c")).await, closed.clone().map(|()| None));
    assert_eq!(store.position_at(Timestamp::MAX).await, closed.clone().map(|()| Position::START));
    assert_eq!(store.hash_at(Position(1)).await, closed.clone().map(|()| None));
    assert_eq!(
        store.positions_of(EventId(uuid::Uuid::nil()), 1).await,
        closed.clone().map(|()| vec![])
    );
    assert_eq!(store.snapshot("key".into()).await, closed.clone().map(|()| None));
    store.keep_snapshot("key".into(), "value".into());
    assert_eq!(store.lease(asking).await, Err(LeaseError::Closed));
    assert_eq!(store.release(lease).await, Err(LeaseError::Closed));
    assert_eq!(store.leases().await, Err(LeaseError::Closed));
    let resumed = store.resume(Query::all(), &last).await.err();
    assert_eq!(resumed, Some(SubscribeError::Read(ReadError::Closed)));
    let mut subscription = store.subscribe(Query::all(), Position::START);
    assert_eq!(subscription.next().await, Err(ReadError::Closed));
    assert_eq!(
        store.clone().append(events("a-1", 1)).await,
        Err(AppendError::Closed),
        "a clone is the same store"
    );
}

/// Appends that were handed over before the end are carried out and answered.
pub async fn what_was_handed_over_is_answered<F: Factory>(factory: &F) {
    let mut store = TestedStore::new(factory).await;
    let handed_over: Vec<_> = (0..100).map(|_| store.append(events("a-1", 2))).collect();
    assert_eq!(store.close().await, Ok(()));
    for (index, pending) in handed_over.into_iter().enumerate() {
        let answer = pending.await;
        assert!(
            matches!(answer, Ok(Outcome::Appended(_))),
            "append {index} of those before the end: {answer:?}"
        );
    }
    if F::REOPENS == Reopens::Yes {
        store.reopen().await;
        assert_eq!(store.everything().await.len(), 200);
    }
}

/// Closing is idempotent, one after the other and at once.
pub async fn closing_again_is_no_error(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 1)).await;
    let (one, other) = tokio::join!(store.close(), store.clone().close());
    assert_eq!((one, other), (Ok(()), Ok(())));
    assert_eq!(store.close().await, Ok(()));
}

/// A subscription that waits for something new learns of the end.
pub async fn a_waiting_subscription_ends(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 1)).await;
    let mut subscription = store.subscribe(Query::all(), Position::START);
    while !matches!(subscription.next().await, Ok(Signal::CaughtUp(_))) {}
    let close = async {
        // The subscription is polled first, and waits.
        tokio::task::yield_now().await;
        store.close().await
    };
    let (ended, closed) = tokio::join!(subscription.next(), close);
    assert_eq!((ended, closed), (Err(ReadError::Closed), Ok(())));
}

/// A subscription also ends if it was not waiting when the store was closed, and asks only then.
pub async fn a_subscription_that_was_not_waiting_ends(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    store.appended(events("a-1", 1)).await;
    let mut subscription = store.subscribe(Query::all(), Position::START);
    while !matches!(subscription.next().await, Ok(Signal::CaughtUp(_))) {}
    assert_eq!(store.close().await, Ok(()));
    assert_eq!(subscription.next().await, Err(ReadError::Closed));
}
