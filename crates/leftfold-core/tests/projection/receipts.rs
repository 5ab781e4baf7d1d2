//! Receipts: a skipped or doubled event is detected, in rows that look right.

use leftfold_core::runtime::projection::{RECEIPT_RANGE, Verified, VerifyError, verify};
use leftfold_core::store::{Position, Store, SubscribeError};

use crate::projection_stage::{Shelf, Tally, add_many, settle};
use crate::runtime_stage::{Process, Stage};

const RECEIPT: &str = "receipt/00000000000000000001/000";

async fn built<const M: usize, const L: usize>(events: u64) -> (Process, Shelf<M>) {
    let process = Stage::new().process();
    add_many(&process.store, events).await;
    let shelf = Shelf::<M>::new();
    settle(&process, Tally::<1, L>::default(), &shelf).await;
    (process, shelf.restarted())
}

async fn verified(store: &Store, shelf: &Shelf) -> Result<Verified, VerifyError> {
    verify(store, shelf, &Tally::<1, 1>::default()).await
}

#[tokio::test]
async fn what_was_consumed_once_is_verified_over_all_ranges() {
    let (process, shelf) = built::<1, 1>(3 * RECEIPT_RANGE + 10).await;
    let through = Position(3 * RECEIPT_RANGE + 10);
    assert_eq!(
        verified(&process.store, &shelf).await.unwrap(),
        Verified { through, ranges: 4, events: through.0 }
    );
    let (process, shelf) = built::<4, 4>(2 * RECEIPT_RANGE).await;
    let all = verify(&process.store, &shelf, &Tally::<1, 4>::default()).await.unwrap();
    assert_eq!((all.ranges, all.events), (3, 2 * RECEIPT_RANGE));
}

/// The sum of hashes of one event, taken from the difference of two honest runs.
async fn receipt_of_last(events: u64) -> (u64, u128) {
    let sums = |shelf: &Shelf| {
        let notes = shelf.notes("tally", 1, RECEIPT);
        u128::from_be_bytes(notes[0].1[8..].try_into().unwrap())
    };
    let process = Stage::new().process();
    add_many(&process.store, events - 1).await;
    let shelf = Shelf::<1>::new();
    settle(&process, Tally::<1, 1>::default(), &shelf).await;
    let before = sums(&shelf);
    add_many(&process.store, 1).await;
    let shelf = shelf.restarted::<1>();
    settle(&process, Tally::<1, 1>::default(), &shelf).await;
    (events, sums(&shelf).wrapping_sub(before))
}

#[tokio::test]
async fn a_skipped_event_is_found_with_its_range() {
    let (process, shelf) = built::<1, 1>(RECEIPT_RANGE + 100).await;
    let [(_, honest)] = &shelf.notes("tally", 1, RECEIPT)[..] else { panic!("no receipt") };
    let mut skipped = honest.clone();
    skipped[7] -= 1;
    shelf.scribble("tally", 1, RECEIPT, Some(skipped));
    let error = verified(&process.store, &shelf).await.unwrap_err();
    let VerifyError::Mismatch { from, to, expected, found } = error else { panic!("{error}") };
    assert_eq!((from, to), (Position(RECEIPT_RANGE), Position(RECEIPT_RANGE + 100)));
    assert_eq!((expected.events, found.events), (101, 100));
}

#[tokio::test]
async fn an_event_taken_twice_in_place_of_another_is_found_though_the_count_is_right() {
    let (process, shelf) = built::<1, 1>(RECEIPT_RANGE + 100).await;
    let (_, other) = receipt_of_last(RECEIPT_RANGE + 100).await;
    let mut doubled = shelf.notes("tally", 1, RECEIPT)[0].1.clone();
    let sum = u128::from_be_bytes(doubled[8..].try_into().unwrap());
    doubled[8..].copy_from_slice(&sum.wrapping_add(other).to_be_bytes());
    shelf.scribble("tally", 1, RECEIPT, Some(doubled));
    let error = verified(&process.store, &shelf).await.unwrap_err();
    let VerifyError::Mismatch { expected, found, .. } = error else { panic!("{error}") };
    assert_eq!(expected.events, found.events);
}

#[tokio::test]
async fn a_receipt_that_is_missing_or_of_the_future_is_found() {
    let (process, shelf) = built::<1, 1>(RECEIPT_RANGE + 100).await;
    let honest = shelf.notes("tally", 1, RECEIPT)[0].1.clone();
    shelf.scribble("tally", 1, RECEIPT, None);
    assert!(matches!(verified(&process.store, &shelf).await, Err(VerifyError::Mismatch { .. })));
    shelf.scribble("tally", 1, RECEIPT, Some(honest[..20].to_vec()));
    assert!(matches!(verified(&process.store, &shelf).await, Err(VerifyError::Target(_))));
}

#[tokio::test]
async fn a_version_that_is_not_there_or_not_of_this_log_is_not_verified() {
    let (process, shelf) = built::<1, 1>(10).await;
    let absent = verify(&process.store, &shelf, &Tally::<2, 1>::default()).await;
    assert!(matches!(absent, Err(VerifyError::Absent { name: "tally", version: 2 })));
    let other = Store::memory();
    let foreign = verified(&other, &shelf).await;
    assert!(matches!(foreign, Err(VerifyError::Foreign(SubscribeError::OtherStore { .. }))));
}
