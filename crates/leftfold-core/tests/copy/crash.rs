//! A copy that is interrupted at any append goes on to the same end.

use std::sync::Arc;

use leftfold_core::copy::{Copy, CopyError, PositionMap, Progress};
use leftfold_core::store::{
    Append, AppendError, Checkpoint, CheckpointRecord, Hash, Label, MemoryBackend, MoveFrom,
    Partition, Position, Store, StoreId,
};
use leftfold_testing::seed;

use crate::stage::{Crash, Crashing, append, event, everything, history, reforming, shape};

/// A consumer of the store, and one that follows another store.
async fn with_consumers(old: &Store, other: StoreId) {
    let own = old.checkpoint_at(Position(9)).await.unwrap();
    let foreign = Checkpoint { store: other, hash: Hash([3; 32]), ..own.clone() };
    for (consumer, checkpoint) in [("projection", own), ("inbox", foreign)] {
        let record = CheckpointRecord {
            consumer: Label::new(consumer).unwrap(),
            from: MoveFrom::Earlier,
            checkpoint,
        };
        append(old, Append { checkpoint: Some(record), ..Append::default() }).await;
    }
}

async fn all(copy: &Copy) -> Result<Progress, CopyError> {
    copy.run_until_caught_up().await?;
    copy.switch().await
}

#[tokio::test]
async fn a_copy_that_is_interrupted_at_any_append_ends_as_one_that_was_not() {
    let old = Store::memory();
    let seed = seed();
    history(&old, seed, 40).await;
    let other = StoreId::random();
    with_consumers(&old, other).await;
    history(&old, seed.wrapping_add(1), 40).await;

    let counting =
        Arc::new(Crashing::new(Arc::new(MemoryBackend::new()), usize::MAX, Crash::Before));
    let reference = Store::shared(counting.clone());
    all(&reforming(&old, &reference)).await.unwrap();
    let report = reforming(&old, &reference).verify().await.unwrap();
    assert_eq!(report.difference, None);
    let appends = counting.appends();
    assert!(appends > 50, "{appends} appends");

    for at in 0..appends {
        for crash in [Crash::Before, Crash::After] {
            let backend = Arc::new(MemoryBackend::new());
            let crashing = Store::shared(Arc::new(Crashing::new(backend.clone(), at, crash)));
            let interrupted = all(&reforming(&old, &crashing)).await;
            assert!(
                matches!(interrupted, Err(CopyError::Append(AppendError::Unknown { .. }))),
                "{at} {crash:?}: {interrupted:?}"
            );
            let new = Store::shared(backend);
            let copy = reforming(&old, &new);
            let found = copy.verify().await.unwrap();
            assert_eq!(found.difference, None, "after the crash at append {at}, {crash:?}");
            copy.switch().await.unwrap();
            assert_eq!(copy.verify().await.unwrap(), report, "at append {at}, {crash:?}");
            assert_eq!(shape(&new).await, shape(&reference).await, "at append {at}, {crash:?}");
            same_map(&old, &new, &reference).await;
            same_checkpoints(&new, &reference, other).await;
        }
    }
}

/// Both stores map every position to the same event, though records of the copy may stand
/// elsewhere.
async fn same_map(old: &Store, one: &Store, other: &Store) {
    let store = old.identity().store;
    let (mut map, mut reference) = (
        PositionMap::open(one, store).await.unwrap(),
        PositionMap::open(other, store).await.unwrap(),
    );
    let (events, expected) = (everything(one).await, everything(other).await);
    for position in 1..=old.head().position.0 {
        let (image, same) = (
            map.image(Position(position)).await.unwrap(),
            reference.image(Position(position)).await.unwrap(),
        );
        assert_eq!(image.fate, same.fate);
        if image.position > Position::START {
            assert_eq!(
                events[image.position.0 as usize - 1].id,
                expected[same.position.0 as usize - 1].id
            );
        }
    }
}

/// Consumers stand behind the same events, those of other stores where they stood.
async fn same_checkpoints(one: &Store, reference: &Store, other: StoreId) {
    let (projection, inbox) = (Label::new("projection").unwrap(), Label::new("inbox").unwrap());
    let stands = one.checkpoint(projection.clone()).await.unwrap().unwrap();
    let expected = reference.checkpoint(projection).await.unwrap().unwrap();
    assert_eq!(one.verify(&stands).await, Ok(()));
    assert_eq!(handled(one, stands.position).await, handled(reference, expected.position).await);
    let stands = one.checkpoint_in(inbox, other).await.unwrap().unwrap();
    assert_eq!((stands.store, stands.position, stands.hash), (other, Position(9), Hash([3; 32])));
}

async fn handled(store: &Store, through: Position) -> usize {
    everything(store)
        .await
        .iter()
        .filter(|event| event.position <= through && !event.is_system())
        .count()
}

#[tokio::test]
async fn nothing_goes_past_an_append_that_was_refused() {
    let old = Store::memory();
    history(&old, 5, 60).await;
    for at in 0..40 {
        let new = Store::shared(Arc::new(Crashing::new(
            Arc::new(MemoryBackend::new()),
            at,
            Crash::Hiccup,
        )));
        let copy = reforming(&old, &new);
        assert_eq!(
            copy.run_until_caught_up().await,
            Err(CopyError::Append(AppendError::Busy { waiting: 1 }))
        );
        assert_eq!(copy.verify().await.unwrap().difference, None, "after append {at} was refused");
        copy.switch().await.unwrap();
        assert_eq!(copy.verify().await.unwrap().difference, None, "after append {at} was refused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_copiers_at_once_none_does_harm() {
    let (old, new) = (Store::memory(), Store::memory());
    history(&old, 5, 500).await;
    let copying = || {
        let copy = reforming(&old, &new);
        tokio::spawn(async move { copy.run_until_caught_up().await })
    };
    let (one, other) = (copying(), copying());
    for ended in [one.await.unwrap(), other.await.unwrap()] {
        let harmless = matches!(
            ended,
            Ok(_)
                | Err(CopyError::Overtaken { .. }
                    | CopyError::Foreign { .. }
                    | CopyError::OtherFunction(_))
        );
        assert!(harmless, "{ended:?}");
    }
    let copy = reforming(&old, &new);
    copy.switch().await.unwrap();
    assert_eq!(copy.verify().await.unwrap().difference, None);
}

#[tokio::test]
async fn a_call_that_is_dropped_half_way_is_called_again() {
    let (old, new) = (Store::memory(), Store::memory());
    history(&old, 5, 200).await;
    let copy = reforming(&old, &new);
    for _ in 0..20 {
        let mut running = Box::pin(copy.run_until_caught_up());
        let once = std::future::poll_fn(|context| {
            let _ = running.as_mut().poll(context);
            std::task::Poll::Ready(())
        });
        once.await;
    }
    copy.switch().await.unwrap();
    assert_eq!(copy.verify().await.unwrap().difference, None);
}

#[tokio::test]
async fn a_restored_old_store_is_noticed() {
    let (old, new) = (Arc::new(MemoryBackend::new()), Store::memory());
    let old_store = Store::shared(old);
    history(&old_store, 5, 20).await;
    let copy = reforming(&old_store, &new);
    copy.run_until_caught_up().await.unwrap();
    // The copy's own checkpoint speaks of a history that is not there: as after a restore from a
    // backup.
    let consumer = Label::new("$copy").unwrap();
    let checkpoint = Checkpoint {
        store: old_store.identity().store,
        partition: Partition::default(),
        position: old_store.head().position,
        hash: Hash([7; 32]),
    };
    let record = CheckpointRecord { consumer, from: MoveFrom::Anywhere, checkpoint };
    append(&new, Append { checkpoint: Some(record), ..Append::default() }).await;
    assert!(matches!(copy.run_until_caught_up().await, Err(CopyError::OtherHistory(_))));
}

#[tokio::test]
async fn a_copy_does_not_go_on_through_another_function() {
    let (old, new) = (Store::memory(), Store::memory());
    history(&old, 5, 50).await;
    reforming(&old, &new).run_until_caught_up().await.unwrap();
    append(&old, Append::of(vec![event("shop-1", "goods.Sold", "{}")])).await;
    let other = Copy::from(&old).into(&new).through(|_| leftfold_core::copy::Transformed::Keep);
    assert!(matches!(other.run_until_caught_up().await, Err(CopyError::OtherFunction(_))));
    reforming(&old, &new).run_until_caught_up().await.unwrap();
}
