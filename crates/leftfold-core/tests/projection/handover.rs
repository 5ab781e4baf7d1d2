//! The handover from the rows that serve to those of another version: what somebody waited for is
//! in the rows that are read afterwards, whichever these are.

use std::sync::Arc;

use leftfold_core::runtime::RunningRuntime;
use leftfold_core::runtime::projection::NotReached;
use leftfold_core::store::Position;
use tokio::sync::Semaphore;

use super::versions::Slow;
use crate::projection_stage::{
    Fault, Shelf, Tally, add, add_many, fold_of, reach, settle, time_goes_by,
};
use crate::runtime_stage::{Process, SECOND, Stage, until};

/// Version 1, and version 2 that applies what it is allowed to: each with its own way to one
/// target.
async fn start_both(
    process: &Process,
    old: &Shelf,
    next: &Shelf,
    allowed: &Arc<Semaphore>,
) -> RunningRuntime {
    let next = (Slow::<2>(allowed.clone()), next.clone());
    let both = process.runtime().project(Tally::<1, 1>::default(), old.clone());
    both.project(next.0, next.1).start().await.unwrap()
}

/// Version 2 begins to take over when it is behind: it has the first ten events, and version 1 five
/// more.
async fn handing_over(
    process: &Process,
    old: &Shelf,
    next: &Shelf,
) -> (RunningRuntime, Arc<Semaphore>) {
    add_many(&process.store, 10).await;
    settle(process, Tally::<1, 1>::default(), old).await;
    let allowed = Arc::new(Semaphore::new(9));
    let running = start_both(process, old, next, &allowed).await;
    until("version 2 has read ten events", async || allowed.available_permits() == 0).await;
    add_many(&process.store, 5).await;
    reach(process, &running, Position(15)).await;
    allowed.add_permits(1);
    until("version 2 has ten events", async || through_of(&running, 2) == Position(10)).await;
    (running, allowed)
}

fn through_of(running: &RunningRuntime, version: u32) -> Position {
    let all = running.projections().list();
    all.iter().find(|status| status.version == version).unwrap().consumer.through
}

fn serves(running: &RunningRuntime) -> u32 {
    let all = running.projections().list();
    all.iter().find(|status| status.serves).unwrap().version
}

fn is_seen(shelf: &Shelf, position: Position) -> bool {
    shelf.served("tally").values().any(|row| row.contains(&position.0))
}

#[tokio::test]
async fn a_version_serves_when_it_has_all_that_was_promised_of_the_one_before() {
    let process = Stage::new().process();
    let shelf = Shelf::<1>::new();
    let (running, allowed) = handing_over(&process, &shelf, &shelf).await;
    let latest = add(&process.store, "s", "k", "fine").await;
    until("version 1 has it", async || through_of(&running, 1) == latest).await;
    assert_eq!(serves(&running), 1);
    assert_eq!(shelf.served("tally"), fold_of(&process.store).await);
    // Version 1 has it, but may be replaced before it is read there.
    let projections = running.projections();
    let late = projections.wait_until("tally", latest, SECOND / 50).await.unwrap_err();
    let NotReached::Late { stands_at, waits_for, .. } = late else { panic!("{late:?}") };
    assert_eq!(stands_at, Position(15));
    assert!(waits_for.starts_with("version 2 to take its place"), "{waits_for}");
    // What was promised before is answered all the same.
    assert_eq!(projections.wait_until("tally", Position(12), SECOND).await, Ok(Position(15)));
    allowed.add_permits(5);
    until("version 2 serves", async || serves(&running) == 2).await;
    assert!(is_seen(&shelf, Position(15)));
    allowed.add_permits(1);
    reach(&process, &running, latest).await;
    assert!(is_seen(&shelf, latest));
}

#[tokio::test]
async fn a_version_in_trouble_lets_the_one_before_go_on_and_takes_over_later() {
    let process = Stage::new().process();
    let old = Shelf::<1>::new();
    let next = old.another();
    let (running, allowed) = handing_over(&process, &old, &next).await;
    next.cut(true);
    allowed.add_permits(5);
    let latest = add(&process.store, "s", "k", "fine").await;
    let projections = running.projections();
    assert_eq!(projections.wait_until("tally", latest, 10 * SECOND).await, Ok(latest));
    assert!(is_seen(&old, latest) && serves(&running) == 1);
    next.cut(false);
    allowed.add_permits(100);
    tokio::select! {
        () = until("version 2 serves", async || serves(&running) == 2) => {}
        () = time_goes_by(&process.clock) => {}
    }
    assert!(is_seen(&old, latest));
}

#[tokio::test]
async fn what_was_waited_for_is_seen_whichever_call_of_the_target_fails() {
    let mut call = 0;
    for fault in [Fault::Gone, Fault::GoneAfter, Fault::Refused] {
        loop {
            call += 1;
            if !is_seen_at_all_times(call, fault).await {
                break;
            }
        }
        assert!(call > 10, "{fault:?}: {call} calls were tried");
        call = 0;
    }
}

/// Appends, waits and reads while version 2 takes over, whose target fails at a call. Returns false
/// if there were fewer calls.
async fn is_seen_at_all_times(call: u64, fault: Fault) -> bool {
    let process = Stage::new().process();
    let old = Shelf::<1>::new();
    add_many(&process.store, 10).await;
    settle(&process, Tally::<1, 1>::default(), &old).await;
    let (next, allowed) = (old.another(), Arc::new(Semaphore::new(10_000)));
    next.fail_at(call, fault);
    let running = start_both(&process, &old, &next, &allowed).await;
    let projections = running.projections();
    let work = async {
        for round in 0.. {
            let latest = add(&process.store, "s", &format!("k{}", round % 3), "fine").await;
            projections.wait_until("tally", latest, 10 * SECOND).await.unwrap();
            assert!(is_seen(&old, latest), "call {call}, {fault:?}: {latest} was waited for");
            assert!(round < 1_000, "call {call}, {fault:?}: {:?}", projections.list());
            if round > 5 && serves(&running) == 2 {
                return;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = comes_back(&process, &next) => {}
    }
    assert_eq!(old.served("tally").len(), old.rows("tally", 2).len());
    next.calls() >= call
}

/// Lets time pass forever; a target that has failed comes back after some of it.
async fn comes_back(process: &Process, next: &Shelf) {
    loop {
        for _ in 0..5 {
            process.clock.advance(SECOND / 10);
            tokio::task::yield_now().await;
        }
        next.comes_back(2);
    }
}
