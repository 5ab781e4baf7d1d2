//! The life of an effect, in one process in which nothing fails but the outside world.

use std::sync::Arc;

use leftfold_core::runtime::{
    CancelError, EffectFilter, EffectId, EffectState, Effects, ResolveError, RunningRuntime,
    Runtime, StartError, Verdict,
};
use leftfold_core::store::{
    Append, EventType, Kind, NewEvent, Position, Store, StreamName, Version,
};
use serde_json::json;
use tokio::sync::Notify;

use crate::runtime_stage::{
    Command, Door, Opener, Process, SECOND, Stage, done, everything, in_doubt, not_done, quiet,
    settled, story, until,
};

/// A process that carries out the effect, and the handle on it.
async fn world(opener: &Opener) -> (Stage, Process, RunningRuntime, Effects) {
    let stage = Stage::new();
    let process = stage.process();
    let runtime = process.opens(opener).await;
    let effects = runtime.effects();
    (stage, process, runtime, effects)
}

fn by_runtime(outcome: &str) -> EffectState {
    EffectState::Done { outcome: json!(outcome), by: "runtime".into() }
}

#[tokio::test]
async fn an_outcome_and_what_the_target_makes_of_it_are_one_append() {
    let (_stage, process, _runtime, effects) = world(&Opener::opening()).await;
    let id = process.ask("front", 7).await;
    assert_eq!(settled(&effects, id).await, by_runtime("open"));
    assert_eq!(story(&process.store).await, ["OpeningAsked", "AttemptOpened", "Opened+Done"]);
    let events = everything(&process.store).await;
    let asked = events[0].id.to_string();
    let labels = [&events[2].metadata.causation, &events[2].metadata.correlation]
        .map(|l| l.as_ref().map(|l| l.to_string()));
    assert_eq!(labels, [Some(asked.clone()), Some(asked)]);
    assert_eq!(events[1].stream.as_ref().unwrap().name.as_str(), "$effect-1");
    assert_eq!(process.store.aggregate::<Door>().load("front").await.unwrap().state.opened, 1);
}

#[tokio::test]
async fn an_effect_that_did_not_take_place_is_told_so() {
    let (_stage, process, _runtime, effects) =
        world(&Opener::doing(|_| async { not_done("it is offline") })).await;
    let id = process.ask("front", 7).await;
    let ended = EffectState::NotDone { reason: "it is offline".into(), by: "runtime".into() };
    assert_eq!(settled(&effects, id).await, ended);
    assert_eq!(
        story(&process.store).await,
        ["OpeningAsked", "AttemptOpened", "StayedShut+NotDone"]
    );
}

#[tokio::test]
async fn an_outcome_is_recorded_even_if_the_target_refuses_it() {
    let come = Arc::new(Notify::new());
    let opener = Opener::doing({
        let come = come.clone();
        move |_| {
            let come = come.clone();
            async move {
                come.notified().await;
                done("open")
            }
        }
    });
    let (_stage, process, _runtime, effects) = world(&opener).await;
    let id = process.ask("front", 7).await;
    until("it is performed", async || opener.performs() == 1).await;
    process.store.aggregate::<Door>().execute("front", Command::WallUp).await.unwrap();
    come.notify_one();
    assert_eq!(settled(&effects, id).await, by_runtime("open"));
    assert_eq!(
        effects.find(id).await.unwrap().unwrap().report_refused.as_deref(),
        Some("refused: it is walled up")
    );
    assert_eq!(story(&process.store).await, ["OpeningAsked", "AttemptOpened", "WalledUp", "Done"]);
}

#[tokio::test]
async fn an_effect_that_tells_nobody_is_concluded_alone() {
    let (_stage, process, _runtime, effects) =
        world(&Opener::opening().reporting(|_, _| None)).await;
    let id = process.ask("front", 7).await;
    assert_eq!(settled(&effects, id).await, by_runtime("open"));
    assert_eq!(story(&process.store).await, ["OpeningAsked", "AttemptOpened", "Done"]);
}

#[tokio::test]
async fn the_attempt_is_durable_before_the_outside_world_is_touched() {
    let stage = Stage::new();
    let process = stage.process();
    let store = process.store.clone();
    let opener = Opener::doing(move |attempt| {
        let store = store.clone();
        async move {
            let last = everything(&store).await.pop().unwrap();
            assert_eq!(attempt.number, 1);
            done(&last.event_type)
        }
    });
    let runtime = process.opens(&opener).await;
    let id = process.ask("front", 7).await;
    assert_eq!(settled(&runtime.effects(), id).await, by_runtime("$effect.AttemptOpened"));
}

#[tokio::test]
async fn a_doubt_is_resolved_by_a_look_and_only_after_the_deadline() {
    let opener = Opener::doing(|_| async { in_doubt("the line went dead") }).resolving(
        |attempt| async move {
            assert_eq!(attempt.number, 1);
            done("it had opened")
        },
    );
    let (stage, process, _runtime, effects) = world(&opener).await;
    let id = process.ask("front", 7).await;
    assert!(
        matches!(settled(&effects, id).await, EffectState::InDoubt { reason, .. } if reason == "the line went dead")
    );
    stage.clock.advance(29 * SECOND);
    effects.look_again();
    quiet().await;
    assert_eq!(opener.looks(), 0);
    stage.clock.advance(SECOND);
    until("it is looked up", async || settled(&effects, id).await == by_runtime("it had opened"))
        .await;
    assert_eq!((opener.performs(), opener.looks()), (1, 1));
    assert_eq!(
        story(&process.store).await,
        ["OpeningAsked", "AttemptOpened", "Doubted", "Opened+Done"]
    );
}

#[tokio::test]
async fn a_look_that_finds_that_nothing_happened_ends_the_effect() {
    let opener = Opener::silent().resolving(|_| async { not_done("it never heard of it") });
    let (stage, process, _runtime, effects) = world(&opener).await;
    let id = process.ask("front", 7).await;
    until("it is performed", async || opener.performs() == 1).await;
    stage.clock.advance(30 * SECOND);
    until("it is concluded", async || settled(&effects, id).await.is_concluded()).await;
    assert_eq!(
        opener.under_way.load(std::sync::atomic::Ordering::SeqCst),
        0,
        "the attempt was dropped at its deadline"
    );
    assert_eq!(
        story(&process.store).await,
        ["OpeningAsked", "AttemptOpened", "Doubted", "StayedShut+NotDone"]
    );
}

#[tokio::test]
async fn looks_that_find_nothing_become_rarer_and_a_person_can_ask_for_one() {
    let opener = Opener::doing(|_| async { in_doubt("?") })
        .with(|policy| policy.deadline(SECOND).backoff(4 * SECOND, SECOND * 60));
    let (stage, process, _runtime, effects) = world(&opener).await;
    let id = process.ask("front", 7).await;
    settled(&effects, id).await;
    for (waited, looks) in [(1, 1), (3, 1), (1, 2), (4, 2), (60, 3)] {
        stage.clock.advance(waited * SECOND);
        quiet().await;
        assert_eq!(opener.looks(), looks);
    }
    effects.look_again();
    until("it is looked at again", async || opener.looks() == 4).await;
}

/// Drives an effect into doubt, past its deadline.
async fn doubtful(opener: &Opener) -> (Stage, Process, RunningRuntime, Effects, EffectId) {
    let (stage, process, runtime, effects) = world(opener).await;
    let id = process.ask("front", 7).await;
    settled(&effects, id).await;
    stage.clock.advance(30 * SECOND);
    until("it is looked at", async || opener.looks() == 1).await;
    quiet().await;
    (stage, process, runtime, effects, id)
}

#[tokio::test]
async fn a_person_says_that_it_was_done() {
    let (_stage, process, _runtime, effects, id) =
        doubtful(&Opener::doing(|_| async { in_doubt("?") })).await;
    let wrong = effects.resolve(id, Verdict::Done(json!({"open": true})), "ann").await;
    assert!(matches!(wrong, Err(ResolveError::Outcome { effect: "open", .. })), "{wrong:?}");
    let status = effects.resolve(id, Verdict::Done(json!("I saw it")), "ann").await.unwrap();
    assert_eq!(status.state, EffectState::Done { outcome: json!("I saw it"), by: "ann".into() });
    assert_eq!(
        story(&process.store).await,
        ["OpeningAsked", "AttemptOpened", "Doubted", "Opened+Done"]
    );
    let again = effects.resolve(id, Verdict::NotDone { reason: "no".into() }, "bob").await;
    assert_eq!(again, Err(ResolveError::NotOpen { id }));
}

#[tokio::test]
async fn a_person_says_that_it_was_not_done_and_nothing_is_tried_again() {
    let opener = Opener::doing(|_| async { in_doubt("?") }).with(|policy| policy.attempts(5));
    let (stage, process, _runtime, effects, id) = doubtful(&opener).await;
    let status =
        effects.resolve(id, Verdict::NotDone { reason: "it is shut".into() }, "ann").await.unwrap();
    assert_eq!(
        status.state,
        EffectState::NotDone { reason: "it is shut".into(), by: "ann".into() }
    );
    stage.clock.advance(1_000 * SECOND);
    quiet().await;
    assert_eq!(opener.performs(), 1);
    assert_eq!(story(&process.store).await.last().unwrap(), "StayedShut+NotDone");
}

#[tokio::test]
async fn a_person_is_refused_where_nothing_is_in_doubt_or_it_may_still_happen() {
    let opener = Opener::doing(|attempt| async move {
        if attempt.intent.code == 7 { std::future::pending().await } else { in_doubt("?") }
    });
    let (stage, process, _runtime, effects) = world(&opener).await;
    let verdict = || Verdict::NotDone { reason: "no".into() };
    let (running, doubted) = (process.ask("front", 7).await, process.ask("back", 8).await);
    until("both are performed", async || opener.performs() == 2).await;
    assert_eq!(
        effects.resolve(running, verdict(), "ann").await,
        Err(ResolveError::NotInDoubt { id: running })
    );
    settled(&effects, doubted).await;
    let early = effects.resolve(doubted, verdict(), "ann").await;
    assert!(matches!(early, Err(ResolveError::TooEarly { id, .. }) if id == doubted), "{early:?}");
    let nothing = EffectId(Position(99));
    assert_eq!(
        effects.resolve(nothing, verdict(), "ann").await,
        Err(ResolveError::NotOpen { id: nothing })
    );
    stage.clock.advance(30 * SECOND);
    until("the verdict is taken", async || {
        effects.resolve(doubted, verdict(), "ann").await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn a_verdict_does_not_wait_for_the_look_under_way_whose_finding_then_changes_nothing() {
    let come = Arc::new(Notify::new());
    let found = come.clone();
    let opener = Opener::doing(|_| async { in_doubt("?") }).resolving(move |_| {
        let found = found.clone();
        async move {
            found.notified().await;
            done("it had opened")
        }
    });
    let (_stage, process, runtime, effects, id) = doubtful(&opener).await;
    let status =
        effects.resolve(id, Verdict::NotDone { reason: "no".into() }, "ann").await.unwrap();
    come.notify_one();
    until("the look has ended", async || runtime.status()[0].under_way == 0).await;
    assert_eq!(effects.find(id).await.unwrap().unwrap(), status);
    assert_eq!(story(&process.store).await.last().unwrap(), "StayedShut+NotDone");
    assert_eq!(runtime.status()[0].waiting, 0);
}

#[tokio::test]
async fn a_panic_of_the_code_that_performs_is_a_doubt_and_the_others_go_on() {
    let opener = Opener::doing(|attempt| async move {
        assert_ne!(attempt.intent.code, 7, "seven");
        done("open")
    });
    let (_stage, process, runtime, effects) = world(&opener).await;
    let (panics, opens) = (process.ask("front", 7).await, process.ask("back", 8).await);
    assert!(matches!(
        settled(&effects, panics).await,
        EffectState::InDoubt { reason, .. } if reason.contains("seven")
    ));
    assert_eq!(settled(&effects, opens).await, by_runtime("open"));
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn a_panic_of_the_code_that_reports_loses_no_outcome_and_the_others_go_on() {
    let opener = Opener::opening().reporting(|attempt, conclusion| match attempt.intent.code {
        1 => panic!("report exploded"),
        2 => Some(("front".into(), Command::Explode)),
        _ => Some(("front".into(), Command::Hear(conclusion.clone()))),
    });
    let (_stage, process, runtime, effects) = world(&opener).await;
    for (code, panic) in [(1, Some("report exploded")), (2, Some("decide exploded")), (3, None)] {
        let id = process.ask("front", code).await;
        assert_eq!(settled(&effects, id).await, by_runtime("open"));
        let refused = effects.find(id).await.unwrap().unwrap().report_refused;
        assert_eq!(refused.as_deref().map(|why| why.split_once(": ").unwrap().1), panic);
    }
    runtime.stop().await.unwrap();
}

#[tokio::test]
async fn an_effect_is_tried_again_later_and_later_until_its_last_attempt() {
    let opener = Opener::doing(|_| async { not_done("no") }).repeatable(4);
    let (stage, process, _runtime, effects) = world(&opener).await;
    let id = process.ask("front", 7).await;
    for attempt in 1..4 {
        until("the attempt failed", async || {
            matches!(effects.find(id).await.unwrap().unwrap().state, EffectState::Waiting { .. })
                && opener.performs() == attempt
        })
        .await;
        stage.clock.advance(SECOND / 2);
        quiet().await;
        assert_eq!(opener.performs(), attempt, "the wait has a quarter of jitter, never a half");
        stage.clock.advance(SECOND * (1 << (attempt - 1)));
    }
    assert_eq!(
        settled(&effects, id).await,
        EffectState::NotDone { reason: "no".into(), by: "runtime".into() }
    );
    let failed = ["AttemptOpened", "AttemptFailed"].repeat(3);
    let whole = [&["OpeningAsked"], &failed[..], &["AttemptOpened", "StayedShut+NotDone"]].concat();
    assert_eq!(story(&process.store).await, whole);
}

#[tokio::test]
async fn a_repeatable_effect_whose_last_attempt_is_unknown_is_in_doubt() {
    let opener = Opener::doing(|_| async { in_doubt("?") }).repeatable(2);
    let (stage, process, _runtime, effects) = world(&opener).await;
    let id = process.ask("front", 7).await;
    until("the attempt failed", async || story(&process.store).await.len() == 3).await;
    effects.look_again();
    quiet().await;
    assert_eq!(opener.performs(), 1, "a look spends no attempt");
    stage.clock.advance(SECOND);
    assert!(matches!(settled(&effects, id).await, EffectState::InDoubt { .. }));
    stage.clock.advance(3_000 * SECOND);
    quiet().await;
    assert_eq!(opener.performs(), 2);
}

#[tokio::test]
async fn no_more_are_under_way_than_allowed_and_a_slow_one_holds_up_no_other() {
    let opener = Opener::doing(|attempt| async move {
        match attempt.intent.code {
            0 => std::future::pending().await,
            _ => tokio::task::yield_now().await,
        }
        done("open")
    })
    .with(|policy| policy.concurrency(3));
    let (_stage, process, runtime, effects) = world(&opener).await;
    for code in 0..50 {
        process.ask(&format!("d{code}"), code).await;
    }
    until("all but the slow one are done", async || {
        effects.list(EffectFilter::Concluded, EffectId::default(), 100).await.unwrap().effects.len()
            == 49
    })
    .await;
    assert_eq!(opener.under_way_max.load(std::sync::atomic::Ordering::SeqCst), 3);
    assert_eq!(runtime.status()[0].under_way, 1);
}

#[tokio::test]
async fn a_list_shows_also_what_was_not_taken_up_yet_and_is_turned_page_by_page() {
    let opener = Opener::doing(|attempt| async move {
        match attempt.intent.code {
            0..3 => done("open"),
            3 => in_doubt("?"),
            _ => std::future::pending().await,
        }
    })
    .with(|policy| policy.concurrency(1));
    let (_stage, process, _runtime, effects) = world(&opener).await;
    let mut asked = Vec::new();
    for code in 0..8 {
        asked.push(process.ask("front", code).await);
    }
    until("the fifth is performed", async || opener.performs() == 5).await;
    for (filter, expected) in [
        (EffectFilter::All, &asked[..]),
        (EffectFilter::Concluded, &asked[..3]),
        (EffectFilter::InDoubt, &asked[3..4]),
        (EffectFilter::Open, &asked[3..]),
    ] {
        let (mut after, mut listed) = (EffectId::default(), Vec::new());
        loop {
            let page = effects.list(filter, after, 2).await.unwrap();
            assert!(page.effects.len() <= 2);
            listed.extend(page.effects.iter().map(|status| status.id));
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(listed, expected, "{filter:?}");
    }
}

#[tokio::test]
async fn waiting_ends_with_the_time_and_says_how_it_stands_then() {
    let (_stage, process, _runtime, effects) = world(&Opener::silent()).await;
    let id = process.ask("front", 7).await;
    let status = effects.wait(id, SECOND / 50).await.unwrap().unwrap();
    assert!(matches!(status.state, EffectState::InFlight { .. }));
    assert_eq!((status.attempts, status.intent), (1, json!({"code": 7})));
    assert_eq!(
        effects.wait(EffectId(Position(2)), SECOND).await.unwrap(),
        None,
        "the attempt's own event asks for nothing"
    );
    assert_eq!(effects.find(EffectId::default()).await.unwrap(), None);
}

#[tokio::test]
async fn an_intent_that_does_not_parse_ends_undone_with_the_reason() {
    let opener = Opener::opening();
    let (_stage, process, _runtime, effects) = world(&opener).await;
    let asked = EventType::new("door.OpeningAsked").unwrap();
    let event = NewEvent::new(asked, r#"{"code":"seven"}"#)
        .in_stream(StreamName::of("door", "front").unwrap());
    process.store.append(Append::of(vec![event])).await.unwrap();
    let state = settled(&effects, EffectId(Position(1))).await;
    assert!(
        matches!(&state, EffectState::NotDone { reason, by } if reason.contains("does not parse") && by == "runtime"),
        "{state:?}"
    );
    let readable = process.ask("back", 7).await;
    assert_eq!(settled(&effects, readable).await, by_runtime("open"));
    assert_eq!(opener.performs(), 1);
}

#[tokio::test]
async fn reasons_beyond_their_limit_are_shortened() {
    let (_stage, process, _runtime, effects) =
        world(&Opener::doing(|_| async { not_done(&"ä".repeat(20 << 20)) })).await;
    let id = process.ask("front", 7).await;
    let EffectState::NotDone { reason, .. } = settled(&effects, id).await else {
        panic!("it was not done")
    };
    assert_eq!(reason, "ä".repeat(2_048));
}

#[tokio::test]
async fn an_outcome_that_the_store_cannot_take_is_a_doubt() {
    let (_stage, process, _runtime, effects) =
        world(&Opener::doing(|_| async { done(&"x".repeat(20 << 20)) })).await;
    let id = process.ask("front", 7).await;
    let state = settled(&effects, id).await;
    assert!(
        matches!(&state, EffectState::InDoubt { reason, .. } if reason.starts_with("it took place, but")),
        "{state:?}"
    );
}

#[tokio::test]
async fn what_was_asked_for_while_nothing_ran_is_done_after_the_start() {
    let stage = Stage::new();
    let process = stage.process();
    let opener = Opener::opening().with_history();
    let id = process.ask("front", 7).await;
    let runtime = process.opens(&opener).await;
    assert_eq!(settled(&runtime.effects(), id).await, by_runtime("open"));
    runtime.stop().await.unwrap();
    let later = process.ask("front", 8).await;
    let runtime = process.opens(&opener).await;
    assert_eq!(settled(&runtime.effects(), later).await, by_runtime("open"));
    assert_eq!(
        process.store.version(StreamName::new("$effect-1").unwrap()).await.unwrap(),
        Version(2)
    );
    assert_eq!(opener.performs(), 2);
}

#[tokio::test]
async fn stopping_waits_for_what_is_under_way_and_starts_nothing_new() {
    let come = Arc::new(Notify::new());
    let (asked, go) = (come.clone(), come.clone());
    let opener = Opener::doing(move |_| {
        let go = go.clone();
        async move {
            go.notified().await;
            done("open")
        }
    })
    .with(|policy| policy.concurrency(1));
    let (_stage, process, runtime, effects) = world(&opener).await;
    let (first, second) = (process.ask("front", 7).await, process.ask("front", 8).await);
    until("the first is performed", async || opener.performs() == 1).await;
    let stopping = tokio::spawn(runtime.stop());
    quiet().await;
    assert!(!stopping.is_finished());
    asked.notify_one();
    stopping.await.unwrap().unwrap();
    assert_eq!(settled(&effects, first).await, by_runtime("open"));
    assert_eq!(effects.find(second).await.unwrap().unwrap().state, EffectState::Pending);
}

#[tokio::test]
async fn a_runtime_that_has_stopped_takes_no_word_on_an_effect_and_says_so() {
    let opener = Opener::doing(|_| async { in_doubt("no answer") });
    let (_stage, process, runtime, effects) = world(&opener).await;
    let id = process.ask("front", 7).await;
    let before = settled(&effects, id).await;
    runtime.stop().await.unwrap();
    let verdict = Verdict::NotDone { reason: "no".into() };
    let resolved = effects.resolve(id, verdict, "ann").await.unwrap_err();
    assert_eq!((resolved.kind(), &resolved), (Kind::Unavailable, &ResolveError::Stopped));
    let cancelled = effects.cancel(id, "the door is gone", "ann").await.unwrap_err();
    assert_eq!((cancelled.kind(), &cancelled), (Kind::Unavailable, &CancelError::Stopped));
    assert_eq!(effects.find(id).await.unwrap().unwrap().state, before, "nothing was recorded");
}

#[tokio::test]
async fn names_and_intents_are_checked_at_the_start() {
    let store = Store::memory();
    let error = |started: Result<RunningRuntime, StartError>| started.err().unwrap();
    let twice =
        Runtime::new(&store).effect(Opener::opening()).effect(Opener::opening()).start().await;
    let opener = std::any::type_name::<Opener>();
    assert_eq!(error(twice), StartError::NameTaken { name: "open", types: [opener; 2] });
    let unknown = Runtime::new(&store).effect(named::Unknown).start().await;
    let unknown = error(unknown);
    assert!(
        matches!(
            unknown,
            StartError::UnknownIntent { effect: "unknown", intent: "door.NeverHeardOf", .. }
        ),
        "{unknown}"
    );
    let taken = Runtime::new(&store).effect(Opener::opening()).effect(named::Second).start().await;
    let types = [opener, std::any::type_name::<named::Second>()];
    assert_eq!(
        error(taken),
        StartError::IntentTaken { intent: EventType::new("door.OpeningAsked").unwrap(), types }
    );
}

mod named {
    use crate::runtime_stage::{Command, Door, Opening};
    use leftfold_core::runtime::{Attempt, Conclusion, Effect, Performed, Policy};

    macro_rules! effect {
        ($type:ident, $name:literal, $intent:literal) => {
            pub(super) struct $type;

            impl Effect for $type {
                const NAME: &'static str = $name;
                const INTENT: &'static str = $intent;
                type Intent = Opening;
                type Outcome = ();
                type Target = Door;
                fn policy(&self) -> Policy {
                    Policy::once()
                }
                async fn perform(&self, _: &Attempt<Opening>) -> Performed<()> {
                    Performed::Done(())
                }
                fn report(
                    &self,
                    _: &Attempt<Opening>,
                    _: &Conclusion<()>,
                ) -> Option<(String, Command)> {
                    None
                }
            }
        };
    }

    effect!(Unknown, "unknown", "door.NeverHeardOf");
    effect!(Second, "second", "door.OpeningAsked");
}
