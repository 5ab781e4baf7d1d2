//! The old store serves until the switch, and its tail is followed.

use std::sync::Arc;

use leftfold_core::copy::{CopyError, Transformed};
use leftfold_core::store::{Append, AppendError, Position, Store};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::stage::{append, event, everything, history, reforming, shape};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tail_is_followed_while_others_write() {
    let (old, new) = (Store::memory(), Store::memory());
    let seed = leftfold_core::testing::seed();
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
    let mut arrivals = new.subscribe(leftfold_core::store::Query::category("depot"), Position::START);
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
    let written = std::sync::atomic::AtomicBool::new(false);
    let copy = leftfold_core::copy::Copy::from(&old).into(&new).through(move |event| {
        if event.position == last && !written.swap(true, std::sync::atomic::Ordering::SeqCst) {
            let late = crate::stage::event("depot-1", "goods.Late", "{}");
            let pending: Result<_, AppendError> = futures(writer.append(Append::of(vec![late])));
            pending.unwrap();
        }
        Transformed::Keep
    });
    let refused = copy.switch().await;
    match refused {
        Err(CopyError::StillWritten { copied, head }) => assert!(copied < head),
        // It came early enough to be copied.
        ref done => assert_eq!(done.as_ref().unwrap().copied, old.head().position),
    }
    copy.switch().await.unwrap();
    assert_eq!(copy.verify().await.unwrap().difference, None);
    assert_eq!(everything(&new).await.iter().filter(|event| &*event.event_type == "goods.Late").count(), 1);
}

/// The answer of a store in memory is always there.
fn futures<T, E>(mut pending: leftfold_core::store::Pending<T, E>) -> Result<T, E>
where
    leftfold_core::store::Pending<T, E>: Future<Output = Result<T, E>>,
{
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(&mut pending).poll(&mut context) {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => panic!("a store in memory answers at once"),
    }
}
