//! Commands that are scheduled and that no runtime carries out.

use std::time::Duration;

use leftfold_core::runtime::Clock;
use leftfold_core::store::{Store, Timestamp};

use crate::runtime_stage::warnings::{ALONE, Warnings};
use crate::runtime_stage::{SECOND, Stage, until};
use crate::till::{Counter, opened};

const SENT: &str = "a command was scheduled, and no runtime has carried out";
const WAIT: &str = "no runtime carries them out";
const HOUR: Duration = Duration::from_secs(3_600);

async fn send(store: &Store, id: &str, at: Timestamp) {
    store.scheduled::<Counter>(id).send("1", &opened(), at).await.unwrap();
}

#[tokio::test]
async fn whoever_schedules_what_no_runtime_carries_out_is_warned_once_and_told_what_to_write() {
    let _alone = ALONE.lock().await;
    let (warnings, _guard) = Warnings::default().heard();
    let stage = Stage::new();
    let process = stage.process();
    let _runtime = process.runtime().run_until_idle().await.unwrap();
    for id in ["one", "two"] {
        send(&process.store, id, stage.clock.now()).await;
    }
    let said = warnings.saying(&[SENT]);
    assert_eq!(said.len(), 1, "{said:?}");
    for part in ["till::Counter", "counter", "Runtime::scheduled", "of this program"] {
        assert!(said[0].contains(part), "{part} is missing in {said:?}");
    }
}

#[tokio::test]
async fn nobody_is_warned_of_what_this_program_or_another_one_carries_out() {
    let _alone = ALONE.lock().await;
    let (warnings, _guard) = Warnings::default().heard();
    let stage = Stage::new();
    let works = stage.process();
    let runtime = works.runtime().scheduled::<Counter>().start().await.unwrap();
    send(&works.store, "one", stage.clock.now().plus(HOUR)).await;
    until("it is taken up", async || {
        runtime.status().iter().all(|status| status.through == status.head)
    })
    .await;
    // A program that only schedules.
    let other = stage.process();
    send(&other.store, "two", stage.clock.now().plus(HOUR)).await;
    until("it is taken up", async || {
        runtime.status().iter().all(|status| status.through == status.head)
    })
    .await;
    runtime.stop().await.unwrap();
    stage.process().runtime().run_until_idle().await.unwrap();
    assert_eq!(warnings.saying(&["scheduled"]), [""; 0]);
}

#[tokio::test]
async fn a_runtime_that_starts_over_commands_that_nobody_takes_up_names_their_category() {
    let _alone = ALONE.lock().await;
    let stage = Stage::new();
    let at = stage.clock.now().plus(HOUR);
    for id in ["one", "two", "three"] {
        send(&stage.process().store, id, at).await;
    }
    stage.process().store.scheduled::<Counter>("three").cancel().await.unwrap();
    let (warnings, _guard) = Warnings::default().heard();
    stage.process().runtime().run_until_idle().await.unwrap();
    let said = warnings.saying(&[WAIT]);
    assert_eq!(said.len(), 1, "{said:?}");
    for part in ["\"counter\"", "count=2", "Runtime::scheduled", "start the program"] {
        assert!(said[0].contains(part), "{part} is missing in {said:?}");
    }
}

#[tokio::test]
async fn a_runtime_of_a_release_that_dropped_the_scheduled_commands_names_those_that_are_overdue() {
    let _alone = ALONE.lock().await;
    let (warnings, _guard) = Warnings::default().heard();
    let stage = Stage::new();
    let earlier = stage.process();
    let registered = || earlier.runtime().scheduled::<Counter>();
    registered().run_until_idle().await.unwrap();
    send(&earlier.store, "one", stage.clock.now().plus(HOUR)).await;
    registered().run_until_idle().await.unwrap();
    stage.clock.advance(HOUR + SECOND);
    // It is another program's turn, which may be about to carry it out.
    stage.process().runtime().run_until_idle().await.unwrap();
    assert_eq!(warnings.saying(&[WAIT]).len(), 0);
    stage.clock.advance(60 * SECOND);
    stage.process().runtime().run_until_idle().await.unwrap();
    assert_eq!(warnings.saying(&[WAIT, "counter", "count=1"]).len(), 1);
    // The release that has them says nothing.
    stage.process().runtime().scheduled::<Counter>().run_until_idle().await.unwrap();
    assert_eq!(warnings.saying(&[WAIT]).len(), 1);
}
