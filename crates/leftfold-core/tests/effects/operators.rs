//! Requests of operators about effects: a word of a person is a record, which any runtime with the
//! effect's code takes.

use leftfold_core::runtime::operator::{
    NewRequest, OperatorAction, OperatorRequests, RequestState, RequestStatus,
};
use leftfold_core::runtime::{EffectId, EffectState, Verdict};
use leftfold_core::store::{Position, Store};
use serde_json::json;

use crate::runtime_stage::{Door, Opener, SECOND, Stage, done, in_doubt, settled, story, until};

fn asked(action: OperatorAction) -> NewRequest {
    let reason = "seen in their ledger".to_owned();
    NewRequest { action, by: "ann".to_owned(), reason, runtime: None }
}

fn opened(effect: EffectId, answer: serde_json::Value) -> NewRequest {
    asked(OperatorAction::Conclude { effect, verdict: Verdict::Done(answer) })
}

async fn ended(store: &Store, request: NewRequest) -> RequestStatus {
    let requests = OperatorRequests::of(store);
    let id = requests.ask(request).await.unwrap();
    requests.wait(id, 20 * SECOND).await.unwrap().unwrap()
}

fn refused(status: &RequestStatus) -> &str {
    match &status.state {
        RequestState::Refused { reason, .. } => reason,
        state => panic!("{state:?}"),
    }
}

/// The process died while it opened the door. Before another one is started, a person has looked.
#[tokio::test]
async fn a_word_about_an_attempt_that_a_crash_has_cut_off_counts_when_the_next_process_starts() {
    let stage = Stage::in_time();
    let first = stage.process();
    let silent = Opener::silent();
    let running = first.opens(&silent).await;
    let id = first.ask("front", 7).await;
    until("it is performed", async || silent.performs() == 1).await;
    first.kill();
    drop(running);

    let store = stage.process().store;
    let requests = OperatorRequests::of(&store);
    let early = requests.ask(opened(id, json!("early"))).await.unwrap();
    stage.clock.advance(31 * SECOND);
    let word = requests.ask(opened(id, json!("open"))).await.unwrap();

    let second = stage.process();
    let opener = Opener::opening();
    let running = second.opens(&opener).await;
    stage.clock.advance(61 * SECOND);
    let word = requests.wait(word, 20 * SECOND).await.unwrap().unwrap();
    assert!(matches!(word.state, RequestState::Done { number: 1, .. }), "{word:?}");
    let early = requests.wait(early, 20 * SECOND).await.unwrap().unwrap();
    assert!(refused(&early).contains("may take place until"), "{early:?}");
    let state = settled(&running.effects(), id).await;
    assert_eq!(state, EffectState::Done { outcome: json!("open"), by: "ann".into() });
    assert_eq!(opener.performs(), 0);
    let story = story(&second.store).await;
    assert!(story.contains(&"Opened+Done".to_owned()), "{story:?}");
    assert_eq!(second.store.aggregate::<Door>().load("front").await.unwrap().state.opened, 1);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn of_two_runtimes_one_takes_a_word_and_nobody_refuses_it() {
    let stage = Stage::in_time();
    let processes = [stage.process(), stage.process()];
    let opener = Opener::doing(|_| async { in_doubt("no answer") });
    let mut running = Vec::new();
    for process in &processes {
        running.push(process.opens(&opener).await);
    }
    for code in 0..5 {
        let id = processes[0].ask(&format!("door{code}"), code).await;
        let state = settled(&running[0].effects(), id).await;
        assert!(matches!(state, EffectState::InDoubt { .. }), "{state:?}");
        stage.clock.advance(31 * SECOND);
        let word = ended(&processes[1].store, opened(id, json!("open"))).await;
        assert!(matches!(word.state, RequestState::Done { number: 1, .. }), "{word:?}");
        assert_eq!(
            running[1].effects().find(id).await.unwrap().unwrap().state,
            EffectState::Done { outcome: json!("open"), by: "ann".into() }
        );
    }
    for running in running {
        running.stop().await.unwrap();
    }
}

#[tokio::test]
async fn a_word_that_cannot_be_taken_is_refused_with_the_reason() {
    let stage = Stage::in_time();
    let process = stage.process();
    let opener = Opener::doing(|attempt| async move {
        if attempt.intent.code == 0 { in_doubt("no answer") } else { done("open") }
    });
    let running = process.opens(&opener).await;
    let (doubted, opens) = (process.ask("a", 0).await, process.ask("b", 1).await);
    for id in [doubted, opens] {
        settled(&running.effects(), id).await;
    }
    stage.clock.advance(31 * SECOND);
    let (store, cancel) = (&process.store, |effect| asked(OperatorAction::Cancel { effect }));
    let table = [
        (opened(opens, json!("again")), "took place, as runtime has said"),
        (opened(doubted, json!(7)), "this is no outcome of open"),
        (cancel(doubted), "is in doubt, say by a verdict"),
    ];
    for (request, says) in table {
        let status = ended(store, request).await;
        assert!(refused(&status).contains(says), "{status:?}");
    }
    let not_done = Verdict::NotDone { reason: "it is shut".to_owned() };
    let word = asked(OperatorAction::Conclude { effect: doubted, verdict: not_done });
    assert!(matches!(ended(store, word).await.state, RequestState::Done { .. }));
    // Who asks for what is no effect waits for a runtime that knows one there.
    let requests = OperatorRequests::of(store);
    let nowhere = EffectId(Position(store.head().position.0 + 100));
    let nowhere = requests.ask(cancel(nowhere)).await.unwrap();
    let later = ended(store, opened(opens, json!("again"))).await;
    assert!(refused(&later).contains("took place"), "{later:?}");
    assert_eq!(requests.find(nowhere).await.unwrap().unwrap().state, RequestState::Open);
    running.stop().await.unwrap();
}

/// She said that it happened, saw her mistake, and was told "done" for the contrary.
#[tokio::test]
async fn a_word_that_differs_from_what_the_same_person_has_said_is_never_told_as_done() {
    let stage = Stage::in_time();
    let process = stage.process();
    let running = process.opens(&Opener::doing(|_| async { in_doubt("no answer") })).await;
    let (happened, did_not) = (process.ask("a", 0).await, process.ask("b", 1).await);
    for id in [happened, did_not] {
        settled(&running.effects(), id).await;
    }
    stage.clock.advance(31 * SECOND);
    let not_done = |effect, reason: &str| {
        let verdict = Verdict::NotDone { reason: reason.to_owned() };
        asked(OperatorAction::Conclude { effect, verdict })
    };
    let cancel = |effect| asked(OperatorAction::Cancel { effect });
    let took_place = Some("took place, as ann has said");
    let table = [
        (opened(happened, json!("open")), None),
        (opened(happened, json!("open")), None),
        (opened(happened, json!("ajar")), Some("as ann has said, with another outcome")),
        (opened(happened, json!(7)), Some("as ann has said, with another outcome")),
        (not_done(happened, "it is shut"), took_place),
        (cancel(happened), took_place),
        (NewRequest { by: "ben".to_owned(), ..opened(happened, json!("open")) }, took_place),
        (not_done(did_not, "it is shut"), None),
        (not_done(did_not, "it stayed shut"), None),
        (cancel(did_not), None),
        (opened(did_not, json!("open")), Some("did not take place, as ann has said")),
    ];
    for (request, refusal) in table {
        let status = ended(&process.store, request).await;
        match refusal {
            None => assert!(matches!(status.state, RequestState::Done { number: 1, .. })),
            Some(says) => assert!(refused(&status).contains(says), "{status:?}"),
        }
    }
    running.stop().await.unwrap();
}
