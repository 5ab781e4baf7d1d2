//! A crash at every call that the runner makes of its store.

use std::collections::BTreeMap;

use leftfold_core::fold::ExecuteError;
use leftfold_core::store::{Query, RecordedEvent};

use crate::clerk::{
    Act, Clerk, Desk, Do, ask, cancel, continues, starts, texts, timer, works, write,
};
use crate::runtime_stage::{Crash, Process, SECOND, Stage, everything, quiet};
use crate::transfer::{Move, Purse, Transfer};

/// Runs both processes until nothing is left to do, over all that is due.
async fn run(process: &Process) {
    let Ok(running) = process.runtime().process::<Clerk>().process::<Transfer>().start().await
    else {
        return;
    };
    for _ in 0..5 {
        // Nothing waits but for the clock: so many turns are enough for all that is due.
        for _ in 0..300 {
            tokio::task::yield_now().await;
        }
        process.clock.advance(40 * SECOND);
    }
    running.stop().await.unwrap();
}

async fn told() -> Stage {
    let stage = Stage::new();
    let asking = stage.process();
    let purses = asking.store.aggregate::<Purse>();
    purses.execute("a", Move::Fill { amount: 10 }).await.unwrap();
    purses.execute("c", Move::Close).await.unwrap();
    for (transfer, to, amount) in [("good", "b", 4), ("too much", "b", 40), ("closed", "c", 3)] {
        let (transfer, to) = (transfer.to_owned(), to.to_owned());
        purses.execute("a", Move::AskTransfer { transfer, to, amount }).await.unwrap();
    }
    let store = &asking.store;
    let late = [write("d", "first timer"), timer("second", 30)];
    ask(
        store,
        starts("k", [write("d", "1"), timer("first", 30), timer("never", 20)]).later("first", late),
    )
    .await;
    ask(
        store,
        continues("k", [cancel("never"), Act::Scrawl { desk: "d".into() }])
            .later("refused", [write("e", "refused")]),
    )
    .await;
    ask(store, starts("l", [write("d", "2"), Act::End])).await;
    ask(store, starts("l", [write("e", "3"), Act::End]).later("second", [write("e", "no")])).await;
    ask(store, continues("k", []).later("second", [write("d", "second timer"), Act::End])).await;
    stage
}

/// The streams of users, each in its order, and of the processes what they reacted to.
async fn ends(stage: &Stage) -> BTreeMap<String, Vec<String>> {
    let mut ends: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let line = |event: &RecordedEvent| {
        if !event.is_system() {
            return String::from_utf8_lossy(&event.data).into_owned();
        }
        let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
        // Positions and moments differ from run to run.
        format!(
            "{} {}",
            event.event_type.as_str(),
            data["cause"].as_object().unwrap().keys().next().unwrap()
        )
    };
    for event in everything(&stage.process().store).await {
        ends.entry(event.stream.as_ref().unwrap().name.to_string()).or_default().push(line(&event));
    }
    ends
}

#[tokio::test]
async fn a_crash_at_any_call_of_the_store_changes_nothing_of_what_comes_of_it() {
    let undisturbed = told().await;
    run(&undisturbed.process()).await;
    let expected = ends(&undisturbed).await;
    let store = undisturbed.process().store;
    assert_eq!(texts(&store, "d").await, ["1", "2", "first timer", "second timer"]);
    assert_eq!(texts(&store, "e").await, ["3", "refused"]);
    let mut calls = 0;
    for number in 0.. {
        for crash in [Crash::Before, Crash::After] {
            let stage = told().await;
            let killed = stage.process();
            killed.faults.crash_at(number, crash);
            run(&killed).await;
            calls = killed.faults.calls();
            // The lease of the one that was killed is over by then.
            stage.clock.advance(40 * SECOND);
            run(&stage.process()).await;
            let mut actual = ends(&stage).await;
            // Commands for one desk by two instances may be carried out in either order.
            let mut expected = expected.clone();
            for stream in ["desk-d", "desk-e", "purse-a"] {
                expected.get_mut(stream).unwrap().sort_unstable();
                actual.get_mut(stream).unwrap().sort_unstable();
            }
            assert_eq!(actual, expected, "{crash:?} call {number}");
        }
        if number > calls {
            assert!(calls > 60, "{calls} calls are too few to have done anything");
            return;
        }
    }
}

#[tokio::test]
async fn delivering_everything_again_changes_nothing() {
    let stage = told().await;
    run(&stage.process()).await;
    let before = everything(&stage.process().store).await.len();
    for _ in 0..3 {
        run(&stage.process()).await;
    }
    assert_eq!(everything(&stage.process().store).await.len(), before);
}

#[tokio::test]
async fn a_store_that_fails_for_a_while_delays_and_loses_nothing() {
    let stage = Stage::new();
    let (process, asking) = (stage.process(), stage.process());
    let running = works(&process).await;
    for fault in [crate::runtime_stage::Fault::ReadOnly, crate::runtime_stage::Fault::Unreadable] {
        process.faults.set(fault);
        ask(
            &asking.store,
            starts("f", [write("f", &format!("{fault:?}")), Act::Hit { desk: "f".into() }]),
        )
        .await;
        quiet().await;
        stage.clock.advance(2 * SECOND);
        quiet().await;
        let waits_for = running.status().remove(0).waits_for;
        assert!(
            waits_for.contains("was pulled") || waits_for.contains("the disk is gone"),
            "{waits_for}"
        );
        process.faults.set(crate::runtime_stage::Fault::None);
        stage.clock.advance(40 * SECOND);
        quiet().await;
    }
    assert_eq!(texts(&asking.store, "f").await, ["ReadOnly", "hit", "Unreadable", "hit"]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn an_append_that_was_made_and_never_answered_is_not_made_again() {
    let stage = Stage::new();
    let (process, asking) = (stage.process(), stage.process());
    let running = works(&process).await;
    process.faults.set(crate::runtime_stage::Fault::Unknown);
    ask(
        &asking.store,
        starts("u", [write("u", "once"), timer("t", 1)]).later("t", [write("u", "then")]),
    )
    .await;
    quiet().await;
    process.faults.set(crate::runtime_stage::Fault::None);
    for _ in 0..3 {
        stage.clock.advance(40 * SECOND);
        quiet().await;
    }
    assert_eq!(texts(&asking.store, "u").await, ["once", "then"]);
    running.stop().await.unwrap();
}

/// The id of a command used to be looked at by the store alone; here the answer is known by its
/// digest too.
#[tokio::test]
async fn what_a_person_does_under_way_is_not_undone_by_a_repetition() {
    let stage = Stage::new();
    let process = stage.process();
    ask(&process.store, starts("p", [write("p", "clerk")])).await;
    run(&process).await;
    process.store.aggregate::<Desk>().execute("p", Do::Write("person".into())).await.unwrap();
    let refused = process.store.aggregate::<Desk>().execute("p", Do::Scrawl).await;
    assert!(matches!(refused, Err(ExecuteError::Refused(_))));
    run(&process).await;
    assert_eq!(texts(&process.store, "p").await, ["clerk", "person"]);
    let reactions = process.store.read(leftfold_core::store::Read::matching(
        Query::category("$process:clerk"),
        leftfold_core::store::Position(1),
    ));
    assert_eq!(reactions.all().await.unwrap().len(), 1);
}
