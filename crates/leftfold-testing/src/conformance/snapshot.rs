//! Snapshots: a cache, which may lose but never mix up.

use bytes::Bytes;
use leftfold_core::store::limits::SNAPSHOT_BYTES_MAX;

use super::Factory;
use super::subject::TestedStore;

/// Under a key there is what was kept under it at some time, or nothing; never a value of another
/// key.
pub async fn a_snapshot_is_what_was_kept_or_nothing(factory: &impl Factory) {
    let mut store = TestedStore::new(factory).await;
    let keys: Vec<Bytes> = (0..50_usize).map(|number| vec![b'k'; number].into()).collect();
    let value = |key: &Bytes, round: usize| Bytes::from(format!("{} in round {round}", key.len()));
    for round in 0..3 {
        for key in &keys {
            store.keep_snapshot(key.clone(), value(key, round));
        }
        for _ in 0..2 {
            for key in &keys {
                let found = store.snapshot(key.clone()).await.expect("the store can be read");
                let kept = (0..=round).any(|earlier| found == Some(value(key, earlier)));
                assert!(
                    found.is_none() || kept,
                    "{found:?} was never kept under a key of {} bytes",
                    key.len()
                );
            }
            store.reopen().await;
        }
    }
    assert_eq!(store.snapshot(Bytes::from_static(b"never kept")).await, Ok(None));
    assert_eq!(store.snapshot(Bytes::from_static(b"kkkkkkkkkkkkj")).await, Ok(None));
}

/// One beyond its limit is not kept, and does no harm.
pub async fn a_snapshot_beyond_its_limit_is_not_kept(factory: &impl Factory) {
    let store = TestedStore::new(factory).await;
    let key = Bytes::from_static(b"key");
    store.keep_snapshot(key.clone(), vec![7; SNAPSHOT_BYTES_MAX + 1].into());
    assert_eq!(store.snapshot(key.clone()).await, Ok(None));
    let largest = Bytes::from(vec![7; SNAPSHOT_BYTES_MAX]);
    store.keep_snapshot(key.clone(), largest.clone());
    let found = store.snapshot(key).await.expect("the store can be read");
    assert!(found.is_none_or(|found| found == largest), "another value than the one kept");
}
