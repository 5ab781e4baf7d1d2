//! From where an effect begins, who of several runtimes carries it out, and what is kept when one
//! stops.

use leftfold_core::runtime::{EffectId, EffectState, STOP_RECORDS_WITHIN, WORK_LEASE};
use leftfold_core::store::Position;
use serde_json::json;

use crate::runtime_stage::{
    Fault, Opener, SECOND, Stage, done, in_doubt, quiet, record, settled, until,
};

/// An effect that was added to a program used to carry out everything that had ever been asked for.
#[tokio::test]
async fn an_effect_that_is_new_to_a_store_begins_now_unless_it_says_history() {
    for (history, performed) in [(false, 1), (true, 6)] {
        let process = Stage::new().process();
        for door in 0..5 {
            process.ask(&format!("old{door}"), 1).await;
        }
        let opener = Opener::opening();
        let opener = if history { opener.with_history() } else { opener };
        let runtime = process.opens(&opener).await;
        let id = process.ask("new", 1).await;
        assert!(matches!(settled(&runtime.effects(), id).await, EffectState::Done { .. }));
        runtime.stop().await.unwrap();
        process.opens(&opener).await.stop().await.unwrap();
        assert_eq!(opener.performs(), performed);
    }
}

#[tokio::test]
async fn where_an_effect_begins_survives_a_crash_before_its_first_checkpoint() {
    let stage = Stage::new();
    let asking = stage.process();
    asking.ask("old", 1).await;
    let first = stage.process();
    let opener = Opener::opening();
    let _dead = first.opens(&opener).await;
    first.kill();
    let id = asking.ask("asked for in between", 1).await;
    let again = stage.process();
    let runtime = again.opens(&opener).await;
    stage.clock.advance(WORK_LEASE);
    assert!(matches!(settled(&runtime.effects(), id).await, EffectState::Done { .. }));
    assert_eq!(opener.performs(), 1);
}

/// Up to the first release no beginning was recorded, and effects took up everything.
#[tokio::test]
async fn an_effect_that_was_at_work_under_an_earlier_release_goes_on() {
    let stage = Stage::new();
    let process = stage.process();
    let (first, second) = (process.ask("front", 1).await, process.ask("back", 1).await);
    let ledger = format!("$effect-{first}");
    let opened = r#"{"effect":"open","number":1,"deadline":"2026-01-01T00:00:00Z"}"#;
    let failed = r#"{"number":1,"reason":"busy","again_at":"2026-01-01T00:00:01Z"}"#;
    record(&process.store, &ledger, "$effect.AttemptOpened", 1, opened).await;
    record(&process.store, &ledger, "$effect.AttemptFailed", 1, failed).await;
    let opener = Opener::doing(|attempt| async move {
        assert_eq!(attempt.number, if attempt.effect.0 == Position(1) { 2 } else { 1 });
        done("open")
    });
    let runtime = process.opens(&opener).await;
    for id in [first, second] {
        assert!(matches!(settled(&runtime.effects(), id).await, EffectState::Done { .. }));
    }
}

/// Two runtimes over one store used to take up every intent twice, and only the ledger kept them
/// apart.
#[tokio::test]
async fn of_two_runtimes_one_works_and_the_other_takes_over_when_it_is_gone() {
    let stage = Stage::new();
    let (opener, idle) = (Opener::opening(), Opener::opening());
    let (one, two) = (stage.process(), stage.process());
    let _working = one.opens(&opener).await;
    // It has the work before there is another one.
    quiet().await;
    let standby = two.opens(&idle).await;
    for door in 0..20 {
        let id = one.ask(&format!("d{door}"), 1).await;
        assert!(matches!(settled(&standby.effects(), id).await, EffectState::Done { .. }));
        stage.clock.advance(WORK_LEASE / 3);
        quiet().await;
    }
    assert_eq!((opener.performs(), idle.performs()), (20, 0));
    let stands = &standby.status()[0];
    assert!(stands.standby && !stands.stalled && !stands.needs_person, "{stands:?}");
    one.kill();
    let id = two.ask("front", 1).await;
    stage.clock.advance(WORK_LEASE);
    assert!(matches!(settled(&standby.effects(), id).await, EffectState::Done { .. }));
    assert_eq!((opener.performs(), idle.performs()), (20, 1));
}

#[tokio::test]
async fn whoever_lost_the_lease_opens_no_attempt() {
    let stage = Stage::new();
    let opener = Opener::opening();
    let process = stage.process();
    let runtime = process.opens(&opener).await;
    quiet().await;
    let lease = stage.holder_takes("$effect:open");
    let id = process.ask("front", 1).await;
    until("it stands by", async || runtime.status()[0].waits_for.contains("the lease, held by"))
        .await;
    assert_eq!(
        (opener.performs(), runtime.effects().find(id).await.unwrap().unwrap().state),
        (0, EffectState::Pending)
    );
    stage.gives_back(lease);
    stage.clock.advance(WORK_LEASE / 3);
    assert!(matches!(settled(&runtime.effects(), id).await, EffectState::Done { .. }));
}

/// A runtime that was stopped while its store took no appends forgot the result of an attempt:
/// it was in doubt.
#[tokio::test]
async fn an_outcome_that_is_known_when_the_runtime_stops_is_recorded_when_the_store_works_again() {
    let stage = Stage::new();
    let process = stage.process();
    let faults = process.faults.clone();
    let opener = Opener::doing(move |_| {
        faults.set(Fault::ReadOnly);
        async { done("paid") }
    });
    let runtime = process.opens(&opener).await;
    let id = process.ask("front", 1).await;
    until("it cannot be recorded", async || {
        runtime.status()[0].waits_for.contains("to be recorded")
    })
    .await;
    let effects = runtime.effects();
    let stopping = tokio::spawn(runtime.stop());
    quiet().await;
    assert!(!stopping.is_finished());
    process.faults.set(Fault::None);
    stopping.await.unwrap().unwrap();
    let paid = EffectState::Done { outcome: json!("paid"), by: "runtime".into() };
    assert_eq!(effects.find(id).await.unwrap().unwrap().state, paid);
}

/// It used to be lost without a word.
#[tokio::test(start_paused = true)]
async fn a_stop_does_not_wait_for_ever_for_a_store_that_takes_no_appends() {
    let stage = Stage::new();
    let process = stage.process();
    let faults = process.faults.clone();
    let opener = Opener::doing(move |_| {
        faults.set(Fault::ReadOnly);
        async { done("paid") }
    });
    let runtime = process.opens(&opener).await;
    let id = process.ask("front", 1).await;
    until("it cannot be recorded", async || {
        runtime.status()[0].waits_for.contains("to be recorded")
    })
    .await;
    let effects = runtime.effects();
    let began = tokio::time::Instant::now();
    runtime.stop().await.unwrap();
    assert_eq!(began.elapsed().as_secs(), STOP_RECORDS_WITHIN.as_secs());
    assert!(matches!(effects.find(id).await.unwrap().unwrap().state, EffectState::InFlight { .. }));
}

/// An open attempt used to be found again only from a checkpoint below it.
#[tokio::test]
async fn what_is_in_doubt_is_found_again_after_a_restart_and_a_person_can_say_what_happened() {
    let stage = Stage::new();
    let opener = Opener::doing(|attempt| async move {
        if attempt.intent.code == 0 { in_doubt("?") } else { done("open") }
    });
    let process = stage.process();
    let runtime = process.opens(&opener).await;
    let mut doubtful = Vec::new();
    for door in 0..40 {
        let id = process.ask(&format!("d{door}"), door % 10).await;
        settled(&runtime.effects(), id).await;
        doubtful.extend((door % 10 == 0).then_some(id));
    }
    runtime.stop().await.unwrap();
    let again = stage.process();
    let runtime = again.opens(&opener).await;
    until("they are found", async || runtime.status()[0].waiting == 4).await;
    let found =
        runtime.effects().list(Default::default(), EffectId::default(), 100).await.unwrap().effects;
    assert_eq!(
        found.iter().filter(|one| !one.state.is_concluded()).map(|one| one.id).collect::<Vec<_>>(),
        doubtful
    );
    stage.clock.advance(30 * SECOND);
    until("they are looked up", async || opener.looks() == 4).await;
    assert_eq!(opener.performs(), 40);
}
