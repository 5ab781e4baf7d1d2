//! The old store serves until the switch, and its tail is followed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leftfold_core::copy::{Copy, CopyError, Transformed};
use leftfold_core::store::{
    Append, AppendError, Checkpoint, CheckpointRecord, Hash, Label, MemoryBackend, MoveFrom,
    Pending, Position, Query, Store, SubscribeError,
};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::stage::{Crashing, append, event, everything, history, reforming, shape};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_is_followed_while_others_write() {
    let (old, new) = (Store::memory(), Store::memory());
    let seed = leftfold_testing::seed();
    history(&old, seed, 100).await;
    let copy = Arc::new(reforming(&old, &new));
    let (stop, stopped) = oneshot::channel::<()>();
    let following = tokio::spawn({
        let copy = Arc::clone(&copy);
        async move {
            copy.follow(async {
                let _ = stopped.await;
            })
            .await
        }
    });
    let mut writers = JoinSet::new();
    for writer in 1..=4 {
        let old = old.clone();
        writers.spawn(async move {
            history(&old, seed.wrapping_add(writer), 200).await;
            tokio::task::yield_now().await;
        });
    }
    while let Some(written) = writers.join_next().await {
        written.unwrap();
    }
    // Live: what is appended now arrives without a further call.
    let late = append(&old, Append::of(vec![event("depot-9", "goods.Late", "{}")])).await;
    let mut arrivals = new.subscribe(Query::category("depot"), Position::START);
    while &*arrivals.event().await.unwrap().event_type != "goods.Late" {}
    stop.send(()).unwrap();
    let progress = following.await.unwrap().unwrap();
    assert_eq!((progress.copied, progress.old_head), (late, late));

    copy.switch().await.unwrap();
    let report = copy.verify().await.unwrap();
    assert_eq!((report.difference, report.through), (None, old.head().position));
    let at_once = Store::memory();
    reforming(&old, &at_once).switch().await.unwrap();
    assert_eq!(reforming(&old, &at_once).verify().await.unwrap().digest, report.digest);
    assert_eq!(shape(&new).await, shape(&at_once).await);
}

#[tokio::test]
async fn a_consumer_stands_behind_all_that_came_of_what_it_had_handled() {
    let (old, new) = (Store::memory(), Store::memory());
    append(&old, Append::of(vec![event("a-1", "a.Happened", "{}"); 2])).await;
    let consumer = Label::new("projection").unwrap();
    let checkpoint = old.checkpoint_at(Position(1)).await.unwrap();
    let record =
        CheckpointRecord { consumer: consumer.clone(), from: MoveFrom::Earlier, checkpoint };
    append(&old, Append { checkpoint: Some(record), ..Append::default() }).await;
    // Its image is the first of three.
    let copy =
        Copy::from(&old).into(&new).through(|event| Transformed::Replace(vec![event.to_new(); 3]));
    copy.switch().await.unwrap();
    let stands = new.checkpoint(consumer).await.unwrap().unwrap();
    let mut rest = new.resume(Query::all(), &stands).await.unwrap();
    let (before, after) =
        (copy.map(Position(1)).await.unwrap(), copy.map(Position(2)).await.unwrap());
    assert_eq!((before.through.0 - before.position.0, stands.position), (2, before.through));
    assert_eq!(rest.event().await.unwrap().position, after.position);
}

#[tokio::test]
async fn a_checkpoint_that_did_not_belong_to_the_old_store_does_not_belong_to_the_new_one() {
    let (old, new) = (Store::memory(), Store::memory());
    history(&old, 1, 30).await;
    let consumer = Label::new("projection").unwrap();
    let checkpoint =
        Checkpoint { hash: Hash([9; 32]), ..old.checkpoint_at(Position(3)).await.unwrap() };
    let record =
        CheckpointRecord { consumer: consumer.clone(), from: MoveFrom::Earlier, checkpoint };
    append(&old, Append { checkpoint: Some(record), ..Append::default() }).await;
    reforming(&old, &new).switch().await.unwrap();
    let stands = new.checkpoint(consumer).await.unwrap().unwrap();
    assert_eq!(
        new.verify(&stands).await,
        Err(SubscribeError::OtherHistory { position: Position(3) })
    );
}

#[tokio::test]
async fn after_the_switch_the_copier_writes_no_more() {
    let (old, new) = (Store::memory(), Store::memory());
    history(&old, 1, 30).await;
    let copy = reforming(&old, &new);
    let first = copy.switch().await.unwrap();
    assert_eq!(copy.switch().await.unwrap(), first);
    append(&new, Append::of(vec![event("depot-1", "goods.Counted", "{}")])).await;
    assert_eq!(copy.run_until_caught_up().await, Err(CopyError::Switched));
    assert_eq!(copy.switch().await.unwrap().copied, first.copied);
}

#[tokio::test]
async fn a_switch_under_a_writer_is_refused_and_can_be_done_later() {
    let (old, new) = (Store::memory(), Store::memory());
    history(&old, 1, 30).await;
    let writer = old.clone();
    // A writer that nobody stopped: it writes when the last append is looked at.
    let last = old.head().position;
    let written = AtomicBool::new(false);
    let copy = Copy::from(&old).into(&new).through(move |looked| {
        if looked.position == last && !written.swap(true, Ordering::SeqCst) {
            let late = event("depot-1", "goods.Late", "{}");
            let pending: Result<_, AppendError> = now(writer.append(Append::of(vec![late])));
            pending.unwrap();
        }
        Transformed::Keep
    });
    // The end of the old store was read before the writer came.
    assert_eq!(
        copy.switch().await,
        Err(CopyError::StillWritten { copied: last, head: last.next() })
    );
    copy.switch().await.unwrap();
    assert_eq!(copy.verify().await.unwrap().difference, None);
    assert_eq!(
        everything(&new).await.iter().filter(|event| &*event.event_type == "goods.Late").count(),
        1
    );
}

#[tokio::test]
async fn what_another_process_appends_is_seen_before_this_one_hears_of_it() {
    let backend = Arc::new(MemoryBackend::new());
    let (others, new) = (Store::shared(backend.clone()), Store::memory());
    history(&others, 1, 30).await;
    let old = Store::shared(Arc::new(Crashing::deaf(backend)));
    let last = old.head().position;
    let written = AtomicBool::new(false);
    let writer = others.clone();
    let copy = Copy::from(&old).into(&new).through(move |looked| {
        if looked.position == last && !written.swap(true, Ordering::SeqCst) {
            let late = event("depot-1", "goods.Late", "{}");
            let pending: Result<_, AppendError> = now(writer.append(Append::of(vec![late])));
            pending.unwrap();
        }
        Transformed::Keep
    });
    let refused = CopyError::StillWritten { copied: last, head: last.next() };
    assert_eq!(copy.switch().await, Err(refused));
    copy.switch().await.unwrap();
    assert_eq!(copy.verify().await.unwrap().difference, None);
    append(&others, Append::of(vec![event("depot-1", "goods.Late", "{}")])).await;
    let difference = copy.verify().await.unwrap().difference.expect("it was written");
    assert!(difference.detail.contains("written after the switch"), "{difference:?}");
}

/// The answer of a store in memory is always there.
fn now<T, E>(mut pending: Pending<T, E>) -> Result<T, E>
where
    Pending<T, E>: Future<Output = Result<T, E>>,
{
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(&mut pending).poll(&mut context) {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => panic!("a store in memory answers at once"),
    }
}
