//! In which order effects are carried out, who waits for whom, and how one is called off.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use leftfold_core::runtime::{
    CancelError, EffectId, EffectState, Order, UNDER_WAY_BYTES_MAX, Verdict,
};
use leftfold_core::store::{Append, EventType, NewEvent, Position, StreamName};
use serde_json::json;

use crate::runtime_stage::{
    Opener, SECOND, Seen, Stage, done, in_doubt, not_done, quiet, settled, story, until,
};

/// An opener that writes down the codes in the order in which they were tried.
fn noting(
    answer: impl Fn(&Seen) -> Option<&'static str> + Send + Sync + 'static,
) -> (Opener, Arc<Mutex<Vec<u32>>>) {
    let tried: Arc<Mutex<Vec<u32>>> = Arc::default();
    let noted = tried.clone();
    let opener = Opener::doing(move |attempt| {
        noted.lock().unwrap().push(attempt.intent.code);
        let answer = answer(&attempt);
        async move {
            match answer {
                Some("hangs") => std::future::pending().await,
                Some("doubt") => in_doubt("who knows"),
                Some(reason) => not_done(reason),
                None => done("open"),
            }
        }
    });
    (opener, tried)
}

/// A later one used to be carried out while the earlier one of the same stream waited to be tried
/// again.
#[tokio::test]
async fn what_is_tried_again_is_not_passed_by_a_later_one_of_its_stream() {
    let (opener, tried) =
        noting(|attempt| (attempt.intent.code == 1 && attempt.number == 1).then_some("busy"));
    let (stage, process) = {
        let stage = Stage::new();
        let process = stage.process();
        (stage, process)
    };
    let runtime = process.opens(&opener.with(|policy| policy.attempts(5))).await;
    process.ask("front", 1).await;
    let last = process.ask("front", 2).await;
    let other = process.ask("back", 3).await;
    settled(&runtime.effects(), other).await;
    quiet().await;
    assert_eq!(*tried.lock().unwrap(), [1, 3]);
    stage.clock.advance(SECOND);
    settled(&runtime.effects(), last).await;
    assert_eq!(*tried.lock().unwrap(), [1, 3, 1, 2]);
}

/// The attempts of one target that hangs used to take up all there may be at a time.
#[tokio::test]
async fn a_target_that_hangs_holds_up_no_other_one() {
    let (opener, tried) = noting(|attempt| (attempt.intent.code == 0).then_some("hangs"));
    let process = Stage::new().process();
    let runtime = process.opens(&opener).await;
    for _ in 0..200 {
        process.ask("dead", 0).await;
    }
    let other = process.ask("alive", 7).await;
    assert!(matches!(settled(&runtime.effects(), other).await, EffectState::Done { .. }));
    assert_eq!(*tried.lock().unwrap(), [0, 7]);
}

/// As many streams as there are slots, each with one intent for a target that hangs, used to hold
/// up all others for as long as the deadline, again and again.
#[tokio::test]
async fn those_that_hang_give_their_slots_to_others_and_keep_their_place_in_the_order() {
    let (opener, tried) = noting(|attempt| (attempt.intent.code == 0).then_some("hangs"));
    let stage = Stage::new();
    let process = stage.process();
    let runtime = process.opens(&opener).await;
    for door in 0..200 {
        process.ask(&format!("dead{door}"), 0).await;
    }
    process.ask("dead0", 1).await;
    let healthy = process.ask("alive", 7).await;
    for seconds in [0, 3, 6, 9] {
        let count = tried.lock().unwrap().len();
        until(format!("more begin after {seconds} s"), async || {
            tried.lock().unwrap().len() > count
        })
        .await;
        quiet().await;
        stage.clock.advance(3 * SECOND);
    }
    assert!(matches!(settled(&runtime.effects(), healthy).await, EffectState::Done { .. }));
    assert_eq!(tried.lock().unwrap().iter().filter(|code| **code == 0).count(), 200);
    assert_eq!(opener.under_way.load(Ordering::SeqCst), 200);
    assert!(
        !tried.lock().unwrap().contains(&1),
        "it waits for the one that hangs before it in its stream"
    );
    stage.clock.advance(30 * SECOND);
    until("it has its turn", async || tried.lock().unwrap().contains(&1)).await;
    until("none is under way", async || opener.under_way.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn a_policy_may_have_those_that_hang_keep_their_slots() {
    for (hanging, tried_then) in [(0, 2), (1, 3), (5, 4)] {
        let opener = Opener::silent().with(|policy| policy.concurrency(2).hanging(hanging));
        let stage = Stage::new();
        let process = stage.process();
        let _runtime = process.opens(&opener).await;
        for door in 0..4 {
            process.ask(&format!("dead{door}"), 0).await;
        }
        until("two are tried", async || opener.performs() == 2).await;
        stage.clock.advance(29 * SECOND);
        quiet().await;
        assert_eq!(opener.performs(), tried_then, "{hanging} may hang");
    }
}

/// Intents are counted in bytes too, with slots to spare.
#[tokio::test]
async fn large_intents_are_under_way_up_to_so_many_bytes_but_for_those_that_hang() {
    let opener = Opener::silent();
    let stage = Stage::new();
    let process = stage.process();
    let _runtime = process.opens(&opener).await;
    let bytes = UNDER_WAY_BYTES_MAX / 4 - 1_000;
    for door in 0..7 {
        let data = format!(r#"{{"code":0,"picture":"{}"}}"#, "x".repeat(bytes));
        let event = NewEvent::new(EventType::new("door.OpeningAsked").unwrap(), data);
        let event = event.in_stream(StreamName::of("door", &door.to_string()).unwrap());
        process.store.append(Append::of(vec![event])).await.unwrap();
    }
    for performs in [4, 7] {
        until(format!("{performs} are under way"), async || opener.performs() == performs).await;
        quiet().await;
        assert_eq!(opener.performs(), performs);
        stage.clock.advance(3 * SECOND);
    }
}

#[tokio::test]
async fn looks_that_hang_give_their_slots_to_others() {
    let opener = Opener::doing(|_| async { in_doubt("?") });
    let opener = opener.resolving(|_| std::future::pending()).with(|policy| policy.concurrency(4));
    let stage = Stage::new();
    let process = stage.process();
    let _runtime = process.opens(&opener).await;
    for door in 0..20 {
        process.ask(&format!("dead{door}"), 0).await;
    }
    until("all are in doubt", async || opener.performs() == 20).await;
    stage.clock.advance(30 * SECOND);
    for looks in [4, 8, 12, 16, 20] {
        until(format!("{looks} are looked up"), async || opener.looks() == looks).await;
        quiet().await;
        stage.clock.advance(3 * SECOND);
    }
}

#[tokio::test]
async fn a_key_of_its_own_orders_over_streams_and_none_orders_nothing() {
    for (order, first) in [
        ((|_| Order::Key("the one line".into())) as fn(&_) -> Order, vec![0]),
        (|_| Order::Stream, vec![0, 1]),
        (|_| Order::None, vec![0, 1, 2]),
    ] {
        let (opener, tried) = noting(|_| Some("hangs"));
        let process = Stage::new().process();
        let _runtime = process.opens(&opener.ordered(order)).await;
        for (code, door) in ["front", "back", "back"].into_iter().enumerate() {
            process.ask(door, code as u32).await;
        }
        quiet().await;
        assert_eq!(*tried.lock().unwrap(), first);
    }
}

#[tokio::test]
async fn one_in_doubt_gives_way_if_nothing_of_it_follows_and_else_keeps_its_place() {
    for (attempts, holds, tried_then) in
        [(1, false, vec![1, 2]), (2, false, vec![1]), (1, true, vec![1])]
    {
        let (opener, tried) = noting(|attempt| (attempt.intent.code == 1).then_some("doubt"));
        let opener = opener
            .with(|policy| if holds { policy.doubts_hold() } else { policy }.attempts(attempts));
        let stage = Stage::new();
        let process = stage.process();
        let runtime = process.opens(&opener).await;
        let first = process.ask("front", 1).await;
        let second = process.ask("front", 2).await;
        settled(&runtime.effects(), first).await;
        quiet().await;
        assert_eq!(*tried.lock().unwrap(), tried_then, "{attempts} attempts, holds: {holds}");
        // What a person says lets the others go on.
        stage.clock.advance(30 * SECOND);
        let verdict = Verdict::Done(json!("I saw it"));
        until("the word is taken", async || {
            runtime.effects().resolve(first, verdict.clone(), "ann").await.is_ok()
        })
        .await;
        settled(&runtime.effects(), second).await;
        assert_eq!(*tried.lock().unwrap(), [1, 2]);
    }
}

/// Looks at what is in doubt used to take the place of new attempts.
#[tokio::test]
async fn looks_that_hang_hold_up_no_attempt() {
    let opener = Opener::doing(|attempt| async move {
        if attempt.intent.code == 0 { in_doubt("?") } else { done("open") }
    });
    let opener = opener.resolving(|_| std::future::pending()).with(|policy| policy.concurrency(4));
    let stage = Stage::new();
    let process = stage.process();
    let runtime = process.opens(&opener).await;
    for door in 0..20 {
        process.ask(&format!("dead{door}"), 0).await;
    }
    until("all are in doubt", async || opener.performs() == 20).await;
    stage.clock.advance(30 * SECOND);
    until("some are looked up", async || opener.looks() == 4).await;
    let id = process.ask("alive", 1).await;
    assert!(matches!(settled(&runtime.effects(), id).await, EffectState::Done { .. }));
    assert_eq!(opener.looks(), 4);
}

#[tokio::test]
async fn a_person_calls_off_what_has_not_begun_and_the_target_hears_of_it() {
    let (opener, tried) = noting(|attempt| match attempt.intent.code {
        0 => Some("hangs"),
        1 => Some("busy"),
        _ => Some("doubt"),
    });
    let stage = Stage::new();
    let process = stage.process();
    let runtime = process.opens(&opener.with(|policy| policy.attempts(5))).await;
    let effects = runtime.effects();
    let hangs = process.ask("front", 0).await;
    let pending = process.ask("front", 1).await;
    let waiting = process.ask("back", 1).await;
    let doubtful = process.ask("side", 2).await;
    settled(&effects, doubtful).await;
    until("it is tried", async || tried.lock().unwrap().len() == 3).await;
    quiet().await;
    let under_way = effects.cancel(hangs, "too late", "ann").await;
    assert!(
        matches!(under_way, Err(CancelError::UnderWay { id, .. }) if id == hangs),
        "{under_way:?}"
    );
    assert_eq!(
        effects.cancel(doubtful, "too late", "ann").await,
        Err(CancelError::InDoubt { id: doubtful })
    );
    for id in [pending, waiting] {
        let ended = EffectState::NotDone { reason: "no longer wanted".into(), by: "ann".into() };
        assert_eq!(effects.cancel(id, "no longer wanted", "ann").await.unwrap().state, ended);
        assert_eq!(story(&process.store).await.last().unwrap(), "StayedShut+NotDone");
        assert_eq!(effects.cancel(id, "again", "bob").await, Err(CancelError::NotOpen { id }));
    }
    let nothing = EffectId(Position(99));
    assert_eq!(
        effects.cancel(nothing, "no", "ann").await,
        Err(CancelError::NotOpen { id: nothing })
    );
    stage.clock.advance(29 * SECOND);
    quiet().await;
    assert_eq!(tried.lock().unwrap().len(), 3, "what was called off is never tried");
}

#[tokio::test]
async fn what_is_called_off_after_a_doubt_is_not_tried_again_and_stays_in_doubt() {
    let opener = Opener::doing(|_| async { in_doubt("?") }).repeatable(9);
    let stage = Stage::new();
    let process = stage.process();
    let runtime = process.opens(&opener).await;
    let id = process.ask("front", 1).await;
    until("it waits", async || story(&process.store).await.len() == 3).await;
    let state = runtime.effects().cancel(id, "no longer wanted", "ann").await.unwrap().state;
    assert!(
        matches!(&state, EffectState::InDoubt { reason, .. } if reason.contains("no longer wanted")),
        "{state:?}"
    );
    stage.clock.advance(3_000 * SECOND);
    until("it is looked up", async || opener.looks() > 0).await;
    assert_eq!(opener.performs(), 1);
    let verdict = Verdict::NotDone { reason: "I looked".into() };
    assert!(runtime.effects().resolve(id, verdict, "ann").await.unwrap().state.is_concluded());
}

/// Repeating a payment that the target refused the second time, after the answer to the first one
/// was lost, ended as not done; each of the attempts has to be looked up before that may be said.
#[tokio::test]
async fn every_attempt_that_is_in_doubt_is_looked_up_by_its_own_number() {
    let looked_up: Arc<Mutex<Vec<u32>>> = Arc::default();
    let noted = looked_up.clone();
    let opener = Opener::doing(|attempt| async move {
        if attempt.number == 3 { not_done("no") } else { in_doubt("?") }
    });
    let opener = opener.repeatable(3).resolving(move |attempt| {
        noted.lock().unwrap().push(attempt.number);
        async { not_done("it never came") }
    });
    let stage = Stage::new();
    let process = stage.process();
    let runtime = process.opens(&opener).await;
    let id = process.ask("front", 1).await;
    for _ in 0..2 {
        until("it waits", async || {
            matches!(
                runtime.effects().find(id).await.unwrap().unwrap().state,
                EffectState::Waiting { .. }
            )
        })
        .await;
        stage.clock.advance(2 * SECOND);
        quiet().await;
    }
    assert!(matches!(settled(&runtime.effects(), id).await, EffectState::InDoubt { .. }));
    assert_eq!(*looked_up.lock().unwrap(), [0; 0], "its attempts may still take place");
    stage.clock.advance(30 * SECOND);
    until("it is concluded", async || settled(&runtime.effects(), id).await.is_concluded()).await;
    assert_eq!(*looked_up.lock().unwrap(), [1, 2]);
    assert_eq!(story(&process.store).await.last().unwrap(), "StayedShut+NotDone");
}
