//! Effects where processes are killed, share a store, or have one that fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use leftfold_core::runtime::{
    ATTEMPT_GRACE, EffectId, EffectState, Order, RunningRuntime, Verdict,
};
use leftfold_core::store::{Epoch, Label, Position, Version};
use serde_json::json;
use tokio::sync::Notify;

use crate::runtime_stage::{
    Command, Door, Fault, Opener, Process, SECOND, Stage, done, everything, in_doubt, not_done,
    quiet, settled, story, until,
};

/// An opener that opens once it is let, and the way to let it.
fn let_in() -> (Opener, Arc<Notify>) {
    let go = Arc::new(Notify::new());
    let come = go.clone();
    let opener = Opener::doing(move |_| {
        let come = come.clone();
        async move {
            come.notified().await;
            done("open")
        }
    });
    (opener, go)
}

/// A process that was killed in the middle of an attempt.
async fn killed_in_the_middle(stage: &Stage, opener: &Opener) -> (EffectId, RunningRuntime) {
    let process = stage.process();
    let runtime = process.opens(opener).await;
    let id = process.ask("front", 7).await;
    until("it is performed", async || opener.performs() == 1).await;
    process.kill();
    (id, runtime)
}

#[tokio::test]
async fn after_a_crash_in_the_middle_nothing_is_repeated_and_the_doubt_waits_for_the_deadline() {
    let stage = Stage::new();
    let opener = Opener::silent().resolving(|_| async { done("it had opened") });
    let (id, _dead) = killed_in_the_middle(&stage, &opener).await;
    let process = stage.process();
    let runtime = process.opens(&opener).await;
    stage.clock.advance(30 * SECOND);
    quiet().await;
    let state = runtime.effects().find(id).await.unwrap().unwrap().state;
    assert!(
        matches!(state, EffectState::InFlight { .. }),
        "until its lease is over it may be someone's: {state:?}"
    );
    stage.clock.advance(ATTEMPT_GRACE);
    until("it is looked up", async || settled(&runtime.effects(), id).await.is_concluded()).await;
    assert_eq!((opener.performs(), opener.looks()), (1, 1));
    assert_eq!(
        story(&process.store).await,
        ["OpeningAsked", "AttemptOpened", "Doubted", "Opened+Done"]
    );
}

#[test]
fn what_is_under_way_ends_with_the_runtime_that_it_runs_in() {
    let executor = || tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (stage, opener) = (Stage::new(), Opener::silent());
    let (first, second) = (executor(), executor());
    let (id, _dead) = first.block_on(killed_in_the_middle(&stage, &opener));
    drop(first);
    assert_eq!(opener.under_way.load(Ordering::SeqCst), 0);
    second.block_on(async {
        let runtime = stage.process().opens(&opener).await;
        stage.clock.advance(30 * SECOND + ATTEMPT_GRACE);
        assert!(matches!(settled(&runtime.effects(), id).await, EffectState::InDoubt { .. }));
        assert_eq!(opener.performs(), 1);
    });
}

#[tokio::test]
async fn after_a_crash_in_the_middle_what_may_be_repeated_is_repeated() {
    let stage = Stage::new();
    let opener = Opener::doing(|attempt| async move {
        match attempt.number {
            1 => std::future::pending().await,
            _ => done("open"),
        }
    })
    .repeatable(2);
    let (id, _dead) = killed_in_the_middle(&stage, &opener).await;
    let process = stage.process();
    let runtime = process.opens(&opener).await;
    stage.clock.advance(30 * SECOND + ATTEMPT_GRACE);
    until("it failed", async || story(&process.store).await.len() == 3).await;
    stage.clock.advance(SECOND);
    assert!(matches!(settled(&runtime.effects(), id).await, EffectState::Done { .. }));
    let whole = ["OpeningAsked", "AttemptOpened", "AttemptFailed", "AttemptOpened", "Opened+Done"];
    assert_eq!(story(&process.store).await, whole);
}

#[tokio::test]
async fn of_two_processes_one_performs_and_both_know_of_it() {
    shared_by_two(50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_two_processes_one_performs_also_where_they_race() {
    shared_by_two(500).await;
}

async fn shared_by_two(effects: u32) {
    let stage = Stage::new();
    let opener = Opener::doing(|_| async {
        tokio::task::yield_now().await;
        done("open")
    });
    let (one, two) = (stage.process(), stage.process());
    let runtimes = [one.opens(&opener).await, two.opens(&opener).await];
    let mut asked = Vec::new();
    for code in 0..effects {
        asked.push([&one, &two][code as usize % 2].ask(&format!("d{}", code % 5), code).await);
    }
    for id in asked {
        for runtime in &runtimes {
            assert!(matches!(settled(&runtime.effects(), id).await, EffectState::Done { .. }));
        }
        assert_eq!(opener.performed.lock().unwrap()[&id], 1);
    }
    let lines = story(&one.store).await;
    let count = |line: &str| lines.iter().filter(|found| found.as_str() == line).count();
    assert_eq!(
        (count("Opened+Done"), count("AttemptOpened"), lines.len()),
        (effects as usize, effects as usize, 3 * effects as usize)
    );
}

#[tokio::test]
async fn the_attempt_of_a_living_process_is_not_doubted_by_another_one() {
    let stage = Stage::new();
    let (opener, go) = let_in();
    let (one, two) = (stage.process(), stage.process());
    let _one = one.opens(&opener).await;
    let id = one.ask("front", 7).await;
    until("it is performed", async || opener.performs() == 1).await;
    let other = two.opens(&opener).await;
    let waiting = tokio::spawn({
        let effects = other.effects();
        async move { settled(&effects, id).await }
    });
    stage.clock.advance(29 * SECOND);
    quiet().await;
    assert!(!waiting.is_finished());
    go.notify_one();
    assert!(matches!(waiting.await.unwrap(), EffectState::Done { .. }));
    assert_eq!(story(&one.store).await, ["OpeningAsked", "AttemptOpened", "Opened+Done"]);
}

/// The next runner waited until the deadline of an attempt that the one before had under way,
/// though its outcome was there after a moment.
#[tokio::test]
async fn what_a_stopped_runtime_had_under_way_holds_up_its_key_only_until_it_has_ended() {
    let stage = Stage::new();
    let (opener, go) = let_in();
    let (one, two) = (stage.process(), stage.process());
    let first = one.opens(&opener).await;
    let ids = [one.ask("front", 7).await, one.ask("front", 8).await];
    until("it is performed", async || opener.performs() == 1).await;
    let other = two.opens(&opener).await;
    let stopping = tokio::spawn(first.stop());
    quiet().await;
    // The other one takes the work over while the attempt is under way.
    stage.clock.advance(3 * SECOND);
    quiet().await;
    assert!(!stopping.is_finished() && !other.status()[0].standby);
    assert_eq!(opener.performs(), 1);
    go.notify_one();
    until("its outcome is known", async || settled(&other.effects(), ids[0]).await.is_concluded())
        .await;
    stage.clock.advance(4 * SECOND);
    until("the next one is performed", async || opener.performs() == 2).await;
    go.notify_one();
    assert!(settled(&other.effects(), ids[1]).await.is_concluded());
    stopping.await.unwrap().unwrap();
}

/// The runner that had performed found the ledger concluded, and concluded it again.
#[tokio::test]
async fn an_outcome_that_comes_after_a_verdict_concludes_nothing_twice() {
    let stage = Stage::new();
    let (opener, go) = let_in();
    let (one, two) = (stage.process(), stage.process());
    let late = one.opens(&opener).await;
    let id = one.ask("front", 7).await;
    until("it is performed", async || opener.performs() == 1).await;
    one.faults.set(Fault::ReadOnly);
    go.notify_one();
    until("its outcome cannot be recorded", async || {
        late.status()[0].waits_for.contains("read-only")
    })
    .await;
    let other = two.opens(&opener).await;
    stage.clock.advance(30 * SECOND + ATTEMPT_GRACE);
    assert!(matches!(settled(&other.effects(), id).await, EffectState::InDoubt { .. }));
    let verdict = Verdict::NotDone { reason: "it is shut".into() };
    other.effects().resolve(id, verdict, "ann").await.unwrap();
    one.faults.set(Fault::None);
    stage.clock.advance(60 * SECOND);
    until("the late one knows", async || {
        late.status()[0].waiting == 0 && late.status()[0].under_way == 0
    })
    .await;
    assert_eq!(
        story(&one.store).await,
        ["OpeningAsked", "AttemptOpened", "Doubted", "StayedShut+NotDone"]
    );
}

/// The result of an attempt was forgotten if the store failed, and the effect was in doubt.
#[tokio::test]
async fn an_outcome_is_held_while_the_store_takes_no_appends() {
    for fault in [Fault::ReadOnly, Fault::Unreadable, Fault::Unknown] {
        let stage = Stage::new();
        let (opener, go) = let_in();
        let process = stage.process();
        let runtime = process.opens(&opener).await;
        let id = process.ask("front", 7).await;
        until("it is performed", async || opener.performs() == 1).await;
        process.faults.set(fault);
        go.notify_one();
        until("the status says so", async || {
            runtime.status()[0].waits_for.starts_with("effect 1 to be recorded")
        })
        .await;
        process.faults.set(Fault::None);
        stage.clock.advance(31 * SECOND);
        let state = settled(&runtime.effects(), id).await;
        assert_eq!(state, EffectState::Done { outcome: json!("open"), by: "runtime".into() });
        until("all is well again", async || runtime.status()[0].waits_for == "new intents").await;
        assert_eq!(story(&process.store).await, ["OpeningAsked", "AttemptOpened", "Opened+Done"]);
    }
}

#[tokio::test]
async fn nothing_is_touched_while_attempts_cannot_be_recorded_and_then_it_goes_on() {
    let stage = Stage::new();
    let (process, asking) = (stage.process(), stage.process());
    let opener = Opener::opening();
    let runtime = process.opens(&opener).await;
    process.faults.set(Fault::ReadOnly);
    let id = asking.ask("front", 7).await;
    until("the status says so", async || runtime.status()[0].waits_for.contains("read-only")).await;
    assert_eq!(opener.performs(), 0);
    process.faults.set(Fault::None);
    stage.clock.advance(SECOND);
    assert!(matches!(settled(&runtime.effects(), id).await, EffectState::Done { .. }));
    process.faults.set(Fault::Unreadable);
    let id = asking.ask("front", 8).await;
    until("the status says so", async || {
        runtime.status()[0].waits_for.contains("to be read again")
    })
    .await;
    process.faults.set(Fault::None);
    stage.clock.advance(SECOND);
    assert!(matches!(settled(&runtime.effects(), id).await, EffectState::Done { .. }));
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_store_that_is_closed_ends_the_runner_and_it_says_so() {
    let stage = Stage::new();
    let (opener, go) = let_in();
    let process = stage.process();
    let runtime = process.opens(&opener).await;
    process.ask("front", 7).await;
    until("it is performed", async || opener.performs() == 1).await;
    process.store.close().await.unwrap();
    go.notify_one();
    until("it has ended", async || runtime.status()[0].waits_for == "stopped: the store is closed")
        .await;
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn after_many_conclusions_nothing_is_repeated_and_one_in_doubt_does_not_hold_the_checkpoint()
{
    let stage = Stage::new();
    let process = stage.process();
    let opener = Opener::doing(|attempt| async move {
        if attempt.intent.code == 1_500 { in_doubt("?") } else { done("open") }
    });
    let checkpoint = async || {
        process
            .store
            .checkpoint(Label::new("$effect:open").unwrap())
            .await
            .unwrap()
            .map(|at| at.position)
    };
    let runtime = process.opens(&opener).await;
    let mut doubted = EffectId::default();
    for code in 0..3_000 {
        let id = process.ask(&format!("d{}", code % 20), code).await;
        doubted = if code == 1_500 { id } else { doubted };
    }
    until("all were performed", async || opener.performs() == 3_000).await;
    until("nothing is under way", async || runtime.status()[0].under_way == 0).await;
    assert!(checkpoint().await.unwrap() > doubted.0);
    runtime.stop().await.unwrap();
    let stopped_at = checkpoint().await.unwrap();
    let before = everything(&process.store).await.len();
    let again = stage.process();
    let runtime = again.opens(&opener).await;
    until("the doubt alone is left", async || {
        runtime.status()[0].waiting == 1 && runtime.status()[0].under_way == 0
    })
    .await;
    assert_eq!((opener.performs(), everything(&process.store).await.len()), (3_000, before));
    assert!(
        stopped_at.0 as usize + 1 >= before && again.faults.calls() < 20,
        "{} calls",
        again.faults.calls()
    );
    assert!(matches!(settled(&runtime.effects(), doubted).await, EffectState::InDoubt { .. }));
}

fn restored(process: &Process, began_after: Position) {
    *process.faults.epoch.lock().unwrap() =
        Some(Epoch { number: 2, began_after, ..Epoch::first() });
}

#[tokio::test]
async fn after_a_restore_whatever_is_open_is_in_doubt_and_what_is_asked_for_later_is_not() {
    let stage = Stage::new();
    let before = stage.process();
    let opener = Opener::doing(|_| async { not_done("later") }).with(|policy| policy.attempts(9));
    let runtime = before.opens(&opener).await;
    let waiting = before.ask("front", 1).await;
    until("it waits", async || story(&before.store).await.len() == 3).await;
    runtime.stop().await.unwrap();
    let pending = before.ask("front", 2).await;

    let process = stage.process();
    restored(&process, before.store.head().position);
    let opener = Opener::opening().resolving(|attempt| async move {
        if attempt.number == 0 { not_done("no") } else { done("yes") }
    });
    let opener = opener.with(|policy| policy.attempts(9));
    let runtime = process.opens(&opener).await;
    let later = process.ask("front", 3).await;
    assert!(matches!(settled(&runtime.effects(), later).await, EffectState::Done { .. }));
    stage.clock.advance(60 * SECOND);
    until("the tried one was looked up", async || {
        settled(&runtime.effects(), waiting).await.is_concluded()
    })
    .await;
    until("the other one was looked up", async || opener.looks() == 2).await;
    stage.clock.advance(60 * SECOND);
    until("the other one is done", async || {
        settled(&runtime.effects(), pending).await.is_concluded()
    })
    .await;
    let performed = opener.performed.lock().unwrap().clone();
    assert_eq!(performed.into_iter().collect::<Vec<_>>(), [(pending, 1), (later, 1)]);
}

#[tokio::test]
async fn an_attempt_that_could_not_begin_before_its_deadline_never_begins() {
    let stage = Stage::new();
    let process = stage.process();
    let opener = Opener::opening().with(|policy| policy.deadline(std::time::Duration::ZERO));
    let runtime = process.opens(&opener).await;
    let id = process.ask("front", 7).await;
    assert!(matches!(settled(&runtime.effects(), id).await, EffectState::NotDone { .. }));
    assert_eq!(opener.performs(), 0);
}

/// The outcome was forgotten if the target was contended for, and the effect was in doubt.
#[tokio::test]
async fn an_outcome_survives_a_target_that_is_contended_for() {
    let stage = Stage::new();
    let (opener, go) = let_in();
    let opener = opener.ordered(|_| Order::None);
    let process = stage.process();
    let runtime = process.opens(&opener).await;
    let mut asked = vec![process.ask("front", 0).await];
    let (done, writing) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), stage.process());
    let writer = tokio::spawn({
        let done = done.clone();
        async move {
            while !done.load(Ordering::SeqCst) {
                let _ = writing
                    .store
                    .aggregate::<Door>()
                    .execute("front", Command::Hear(closed()))
                    .await;
                tokio::task::yield_now().await;
            }
        }
    });
    for code in 1..20 {
        asked.push(process.ask("front", code).await);
    }
    until("all are performed", async || opener.performs() == 20).await;
    go.notify_waiters();
    for id in asked {
        assert!(matches!(settled(&runtime.effects(), id).await, EffectState::Done { .. }));
    }
    done.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    assert!(process.store.version("$effect-1".try_into().unwrap()).await.unwrap() == Version(2));
}

fn closed() -> leftfold_core::runtime::Conclusion<String> {
    leftfold_core::runtime::Conclusion::NotDone { reason: "closed".into() }
}
