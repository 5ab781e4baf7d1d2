//! A difference is found and named.

use std::sync::Arc;

use leftfold_core::copy::Difference;
use leftfold_core::store::{Append, Checkpoint, MemoryBackend, Position, Store};

use crate::stage::{Crashing, append, event, history, reforming};

/// Finds the difference of a copy one append of which was changed on its way.
async fn found(plant: fn(&mut Append) -> bool) -> Difference {
    let old = Store::memory();
    history(&old, 11, 40).await;
    append(
        &old,
        Append::of(vec![
            event("depot-9", "goods.Marked", "{}"),
            event("depot-9", "goods.Counted", "{}"),
        ]),
    )
    .await;
    let marked = old.head().position.0 - 1;
    history(&old, 12, 40).await;
    let new = Store::shared(Arc::new(Crashing::planting(Arc::new(MemoryBackend::new()), plant)));
    let copy = reforming(&old, &new);
    // It copies to the end before it could notice.
    let switched = copy.switch().await;
    assert!(switched.is_ok(), "{switched:?}");
    let difference = copy.verify().await.unwrap().difference.expect("a difference");
    assert_eq!(difference.old.0, marked);
    assert_eq!(difference.new, copy.map(Position(marked)).await.unwrap().position);
    difference
}

fn is_marked(append: &Append) -> bool {
    append.events.first().is_some_and(|event| &*event.event_type == "goods.Marked")
}

#[tokio::test]
async fn a_changed_event_is_named_by_both_its_positions() {
    let detail = found(|append| {
        let marked = is_marked(append);
        if marked {
            append.events[0].data = "{\"n\":0}".into();
        }
        marked
    })
    .await
    .detail;
    assert!(detail.starts_with("its data should be another"), "{detail}");
}

#[tokio::test]
async fn a_lost_tag_is_noticed() {
    let detail = found(|append| {
        let marked = is_marked(append);
        if marked {
            append.events[0].tags = leftfold_core::store::Tags::none().with("x");
        }
        marked
    })
    .await
    .detail;
    assert!(detail.starts_with("its tags should be another"), "{detail}");
}

#[tokio::test]
async fn a_lost_answer_is_noticed() {
    let old = Store::memory();
    history(&old, 11, 40).await;
    let new =
        Store::shared(Arc::new(Crashing::planting(Arc::new(MemoryBackend::new()), |append| {
            append.command.take_if(|command| *command.answer == *b"done").is_some()
        })));
    let copy = reforming(&old, &new);
    copy.switch().await.unwrap();
    let difference = copy.verify().await.unwrap().difference.expect("a difference");
    assert!(
        difference.detail.contains("command") || difference.detail.contains("missing"),
        "{difference}"
    );
}

#[tokio::test]
async fn what_the_old_store_takes_after_the_switch_is_noticed() {
    let (old, new) = (Store::memory(), Store::memory());
    history(&old, 11, 40).await;
    let copy = reforming(&old, &new);
    copy.switch().await.unwrap();
    assert!(copy.verify().await.unwrap().is_sound());
    let late = append(&old, Append::of(vec![event("depot-1", "goods.Counted", "{}")])).await;
    let difference = copy.verify().await.unwrap().difference.expect("a difference");
    assert_eq!(difference.old, late);
    assert!(difference.detail.contains("written after the switch"), "{difference}");
}

#[tokio::test]
async fn a_copy_that_is_under_way_and_a_store_that_goes_on_are_sound() {
    let (old, new) = (Store::memory(), Store::memory());
    let copy = reforming(&old, &new);
    assert!(copy.verify().await.unwrap().is_sound());
    history(&old, 11, 40).await;
    copy.run_until_caught_up().await.unwrap();
    history(&old, 12, 40).await;
    let report = copy.verify().await.unwrap();
    assert_eq!((report.difference, report.through < old.head().position), (None, true));
    copy.switch().await.unwrap();
    let before = copy.verify().await.unwrap();
    // The new store serves.
    history(&new, 13, 40).await;
    assert_eq!(copy.verify().await.unwrap(), before);
    let checkpoint: Checkpoint =
        new.checkpoint_at(copy.map(Position(9)).await.unwrap().through).await.unwrap();
    assert_eq!(new.verify(&checkpoint).await, Ok(()));
}
