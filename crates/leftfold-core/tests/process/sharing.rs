//! Several runtimes over one store: one of them works.

use leftfold_core::runtime::process::PROCESS_LEASE;

use crate::clerk::{ask, starts, texts, timer, until_written, works, write};
use crate::runtime_stage::{SECOND, Stage, everything, quiet, until};

#[tokio::test]
async fn of_two_runtimes_one_works_and_the_other_takes_over_when_it_is_killed() {
    let stage = Stage::new();
    let (one, two, asking) = (stage.process(), stage.process(), stage.process());
    let first = works(&one).await;
    ask(
        &asking.store,
        starts("k", [write("k", "1"), timer("t", 20)]).later("t", [write("k", "timer")]),
    )
    .await;
    until_written(&asking.store, "k", &["1"]).await;
    let second = works(&two).await;
    quiet().await;
    let status = second.status().remove(0);
    assert!(status.waits_for.starts_with("the lease, held by"), "{status:?}");
    // Nothing is wrong with it: it looked as if it were dead, and needed a person.
    assert_eq!((status.standby, status.stalled, status.needs_person), (true, false, false));
    // As long as it works, it keeps the work.
    for _ in 0..6 {
        stage.clock.advance(PROCESS_LEASE / 3);
        quiet().await;
    }
    until_written(&asking.store, "k", &["1", "timer"]).await;
    assert!(second.status().remove(0).waits_for.starts_with("the lease, held by"));
    one.kill();
    ask(&asking.store, starts("k", [write("k", "2")])).await;
    quiet().await;
    assert_eq!(texts(&asking.store, "k").await, ["1", "timer"]);
    for _ in 0..5 {
        stage.clock.advance(PROCESS_LEASE / 3);
        quiet().await;
    }
    until_written(&asking.store, "k", &["1", "timer", "2"]).await;
    drop(first);
    second.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_first_does_after_it_lost_the_work_is_fenced_off() {
    let stage = Stage::new();
    let (one, two, asking) = (stage.process(), stage.process(), stage.process());
    let first = works(&one).await;
    ask(&asking.store, starts("k", [write("k", "1")])).await;
    until_written(&asking.store, "k", &["1"]).await;
    let second = works(&two).await;
    quiet().await;
    let takes_over = stage.holder_takes("$process:clerk");
    let before = everything(&asking.store).await.len();
    ask(&asking.store, starts("k", [write("k", "2")])).await;
    quiet().await;
    // The first is refused what it tries: nothing but the question is recorded.
    assert_eq!(everything(&asking.store).await.len(), before + 1);
    let waits_for = first.status().remove(0).waits_for;
    assert!(waits_for.starts_with("the lease, held by"), "{waits_for}");
    stage.gives_back(takes_over);
    stage.clock.advance(PROCESS_LEASE);
    until_written(&asking.store, "k", &["1", "2"]).await;
    first.stop().await.unwrap();
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_runtime_that_is_stopped_gives_the_work_back_at_once() {
    let stage = Stage::new();
    let (one, two) = (stage.process(), stage.process());
    works(&one).await.stop().await.unwrap();
    let running = works(&two).await;
    ask(&two.store, starts("k", [write("k", "1")])).await;
    until_written(&two.store, "k", &["1"]).await;
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_hundred_handovers_lose_nothing_and_repeat_nothing() {
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let stage = Stage::new();
    let asking = stage.process();
    let mut running = Vec::new();
    for round in 0..100 {
        let process = stage.process();
        running.push((works(&process).await, process));
        let key = format!("k{}", random.u32(..10));
        let seconds = random.u32(..100);
        ask(
            &asking.store,
            starts(&key, [write("all", &round.to_string()), timer(&round.to_string(), seconds)])
                .later(&round.to_string(), [write("fired", &round.to_string())]),
        )
        .await;
        for _ in 0..random.usize(..60) {
            tokio::task::yield_now().await;
        }
        if random.bool() {
            let (runtime, process) = running.swap_remove(random.usize(..running.len()));
            process.kill();
            drop(runtime);
        }
        stage.clock.advance(SECOND * random.u32(..15));
    }
    for _ in 0..20 {
        stage.clock.advance(PROCESS_LEASE / 3);
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }
    until("all is done", async || texts(&asking.store, "fired").await.len() >= 100).await;
    let mut expected: Vec<String> = (0..100).map(|round| round.to_string()).collect();
    assert_eq!(texts(&asking.store, "all").await, expected);
    let mut fired = texts(&asking.store, "fired").await;
    fired.sort_unstable();
    expected.sort_unstable();
    assert_eq!(fired, expected);
}
