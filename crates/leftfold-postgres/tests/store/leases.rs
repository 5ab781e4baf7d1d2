//! Leases of two processes, each of which reads only what the other one changed.

use std::time::Duration;

use leftfold_core::store::limits::LEASES_MAX;
use leftfold_core::store::{
    Append, AppendError, EventType, Fence, Holder, Lease, LeaseRequest, Leased, NewEvent, Outcome,
    Store,
};
use leftfold_postgres::PostgresStore;

use crate::support::{label, place};

async fn open(url: &str) -> Store {
    Store::new(PostgresStore::open(url).await.unwrap())
}

/// A lease that is over as soon as it is given.
fn short(work: &str) -> LeaseRequest {
    LeaseRequest::new(label(work), Holder::random(), Duration::from_micros(1))
}

async fn lease(store: &Store, work: &str) -> Lease {
    match store.lease(short(work)).await.unwrap() {
        Leased::Held(lease) => lease,
        other => panic!("{other:?}"),
    }
}

async fn append_under(store: &Store, lease: &Lease) -> Result<Outcome, AppendError> {
    let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
    store.append(Append::of(vec![event]).under(lease)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_another_process_fences_a_holder_that_was_late() {
    let (_, url) = place("fences");
    let (one, other) = (open(&url).await, open(&url).await);
    let (first, kept) = (lease(&one, "work").await, lease(&one, "kept").await);
    append_under(&one, &first).await.unwrap();
    let second = lease(&other, "work").await;
    let refused = append_under(&one, &first).await.unwrap_err();
    let AppendError::Fenced { current, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(current, Some(second.fence));
    append_under(&other, &second).await.unwrap();
    append_under(&other, &kept).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_holder_is_fenced_also_if_the_tenure_after_its_own_was_forgotten() {
    let (_, url) = place("forgotten");
    let (one, other) = (open(&url).await, open(&url).await);
    let first = lease(&one, "work").await;
    append_under(&one, &first).await.unwrap();
    let second = lease(&other, "work").await;
    assert!(second.fence > first.fence);
    let many: Vec<_> =
        (0..=LEASES_MAX).map(|number| other.lease(short(&number.to_string()))).collect();
    let mut last = Fence(0);
    for leased in many {
        let Leased::Held(lease) = leased.await.unwrap() else { panic!() };
        assert!(lease.fence > last);
        last = lease.fence;
    }
    let refused = append_under(&one, &first).await.unwrap_err();
    let AppendError::Fenced { current, .. } = refused else { panic!("{refused:?}") };
    assert_eq!(current, None, "it was forgotten");
    assert!(lease(&one, "work").await.fence > last);
}
