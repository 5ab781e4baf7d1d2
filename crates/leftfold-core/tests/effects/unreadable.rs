//! What this release cannot read: it is left for a person, and stops nothing else.

use leftfold_core::runtime::{EffectFilter, EffectId, EffectState, WORK_LEASE};

use crate::runtime_stage::{Opener, Process, Stage, quiet, record, settled, until};

/// Asks as a newer release does, in a shape that this one does not know.
async fn ask_newer(process: &Process, door: &str) -> EffectId {
    EffectId(
        record(
            &process.store,
            &format!("door-{door}"),
            "door.OpeningAsked",
            2,
            r#"{"code":7,"until":"noon"}"#,
        )
        .await,
    )
}

/// An intent of a later schema version used to be carried out as if it were of this one: with a
/// default for the amount.
#[tokio::test]
async fn an_intent_of_a_newer_release_is_not_carried_out_and_others_go_on() {
    let stage = Stage::new();
    let process = stage.process();
    let opener = Opener::opening();
    let runtime = process.opens(&opener).await;
    let newer = ask_newer(&process, "front").await;
    let (other, id) = (process.ask("back", 1).await, newer);
    assert!(matches!(settled(&runtime.effects(), other).await, EffectState::Done { .. }));
    until("it is left for a person", async || runtime.status()[0].parked == 1).await;
    let status = &runtime.status()[0];
    assert!(
        status.needs_person
            && !status.stalled
            && status.waits_for.contains(&format!("effect {id}")),
        "{status:?}"
    );
    assert!(status.waits_for.contains("version 2"), "{status:?}");
    let state = runtime.effects().find(id).await.unwrap().unwrap().state;
    assert!(
        matches!(&state, EffectState::Parked { reason } if reason.contains("version 2")),
        "{state:?}"
    );
    assert_eq!(opener.performs(), 1);
    // It is found again after a restart.
    runtime.stop().await.unwrap();
    let runtime = stage.process().opens(&opener).await;
    until("it is found again", async || runtime.status()[0].parked == 1).await;
}

/// One ledger that could not be read was tried again forever, and the list of effects could not be
/// shown.
#[tokio::test]
async fn a_ledger_that_cannot_be_read_parks_its_effect_and_no_other_one() {
    let stage = Stage::new();
    let process = stage.process();
    let opener = Opener::opening();
    process.opens(&opener).await.stop().await.unwrap();
    let damaged = process.ask("front", 1).await;
    record(
        &process.store,
        &format!("$effect-{damaged}"),
        "$effect.AttemptOpened",
        1,
        r#"{"number":"one"}"#,
    )
    .await;
    let other = process.ask("back", 1).await;
    let again = stage.process();
    let runtime = again.opens(&opener).await;
    stage.clock.advance(WORK_LEASE);
    assert!(matches!(settled(&runtime.effects(), other).await, EffectState::Done { .. }));
    until("it is left for a person", async || runtime.status()[0].parked == 1).await;
    quiet().await;
    assert!(runtime.status()[0].waits_for.contains("cannot be read"), "{:?}", runtime.status()[0]);
    let listed =
        runtime.effects().list(EffectFilter::All, EffectId::default(), 10).await.unwrap().effects;
    assert!(
        matches!(&listed[0].state, EffectState::Parked { reason } if reason.contains("position")),
        "{:?}",
        listed[0]
    );
    assert_eq!((listed.len(), opener.performs()), (2, 1));
}
