//! A disk that fails: the store says so, and shows nothing that is half there. Judged where the
//! factory can make it fail.

use leftfold_core::store::{
    Append, AppendError, NewEvent, Outcome, Position, Query, Read, ReadError,
};

use super::examples::{command, event, events};
use super::subject::TestedStore;
use super::{Factory, Failed, Reopens};

/// Of a batch whose write failed half-way nothing is seen, not even its command id, and the caller
/// learns of it. After reopening it is there whole or not at all.
pub async fn a_write_that_fails_leaves_nothing<F: Factory>(factory: &F) {
    let mut failures = 0;
    for nth in 1..=4 {
        let mut store = TestedStore::new(factory).await;
        let Some(faults) = store.faults() else { return };
        store.appended(events("a-1", 2)).await;
        faults.fail_write(nth);
        let (mut end, mut in_doubt) = (2, false);
        for round in 0..6 {
            let record = command(&round.to_string());
            let id = record.id;
            match store.append(Append { command: Some(record), ..events("b-1", 3) }).await {
                Ok(Outcome::Appended(appended)) => {
                    end += 3;
                    assert_eq!(appended.last(), Position(end));
                }
                Err(
                    error @ (AppendError::Unknown { .. }
                    | AppendError::Full { .. }
                    | AppendError::ReadOnly { .. }
                    | AppendError::Unavailable { .. }),
                ) => {
                    failures += 1;
                    in_doubt |= matches!(error, AppendError::Unknown { .. });
                    assert_eq!(
                        store.answered(id).await,
                        Ok(None),
                        "the request that failed with {error}"
                    );
                }
                other => panic!("a write failed, or none, and the answer is {other:?}"),
            }
            assert_eq!(store.head().position, Position(end), "the head after a write that failed");
            assert_eq!(
                store.everything().await.len() as u64,
                end,
                "what is seen after a write that failed"
            );
        }
        faults.take_back();
        store.reopen_after_failure().await;
        let found = store.everything().await.len() as u64;
        assert!(
            found == end || (in_doubt && found == end + 3),
            "{found} events are there, {end} were acknowledged"
        );
        if F::REOPENS == Reopens::Yes {
            assert_eq!(
                store.appended(events("b-1", 1)).await.first,
                Position(found + 1),
                "the store goes on"
            );
        }
    }
    assert!(failures > 0, "no write of an append could be made to fail");
}

/// A read that fails is an error, never fewer events; asked again it finds all.
pub async fn a_read_that_fails_is_an_error(factory: &impl Factory) {
    const COUNT: usize = 20;
    let mut store = TestedStore::new(factory).await;
    if store.faults().is_none() {
        return;
    }
    for _ in 0..COUNT {
        store
            .appended(Append::of(vec![NewEvent { data: vec![7; 5_000].into(), ..event("a-1") }]))
            .await;
    }
    store.reopen().await;
    let Some(faults) = store.faults() else { return };
    let mut failures = 0;
    for nth in 1..=10 {
        for read in [
            Read::matching(Query::all(), Position(1)),
            Read::matching(Query::all(), Position::END).backwards(),
        ] {
            faults.fail_read(nth);
            let found = store.read(read.clone()).all().await;
            let failed = faults.take_back();
            match found {
                Ok(found) => assert_eq!(
                    found.len(),
                    COUNT,
                    "a read during which one of the disk failed: {failed:?}"
                ),
                Err(ReadError::Io { .. } | ReadError::Damaged { .. }) if failed == Failed::Yes => {
                    failures += 1
                }
                Err(error) => panic!("nothing failed, and the answer is {error}"),
            }
            assert_eq!(store.read_all(read).await.len(), COUNT, "asked again");
        }
    }
    assert!(failures > 0, "no read could be made to fail");
}
