//! Requests of operators about what a process has parked.

use leftfold_core::runtime::operator::{
    NewRequest, OperatorAction, OperatorRequests, ParkedChoice, RequestState,
};
use leftfold_core::store::Position;

use crate::clerk::{Clerk, ask, break_it, fix, parked, starts, until_written, works, write};
use crate::runtime_stage::{SECOND, Stage, until};

fn for_the_next(action: OperatorAction) -> NewRequest {
    let (by, reason) = ("ann".to_owned(), "it was a test".to_owned());
    NewRequest { action, by, reason, runtime: Some("next".to_owned()) }
}

/// They stay open until a runtime is there that has the work: nobody has looked at what is parked
/// meanwhile.
#[tokio::test]
async fn what_is_parked_after_a_skip_or_a_retry_was_asked_is_not_meant_by_it() {
    let stage = Stage::in_time();
    let process = stage.process();
    let store = &process.store;
    let running = works(&process).await;
    for name in ["seen", "mended", "unseen"] {
        break_it(name);
    }
    ask(store, starts("seen", [write("seen", "1")])).await;
    ask(store, starts("mended", [write("mended", "1")])).await;
    until("two wait", async || parked(&running.processes()).await == 2).await;
    let requests = OperatorRequests::of(store);
    let consumer = || "clerk".to_owned();
    let key = |key: &str| ParkedChoice { key: Some(key.to_owned()), ..ParkedChoice::default() };
    let retry = OperatorAction::Retry { consumer: consumer(), parked: key("mended") };
    let early = OperatorAction::Retry { consumer: consumer(), parked: key("unseen") };
    let skip = OperatorAction::Skip { consumer: consumer(), parked: key("seen") };
    let mut asked = Vec::new();
    for action in [retry, early, skip] {
        asked.push(requests.ask(for_the_next(action)).await.unwrap());
    }
    ask(store, starts("seen", [write("seen", "2")])).await;
    ask(store, starts("unseen", [write("unseen", "1")])).await;
    until("four wait", async || parked(&running.processes()).await == 4).await;
    running.stop().await.unwrap();

    fix("mended");
    fix("unseen");
    let runtime = process.runtime().named("next").process::<Clerk>();
    let running = runtime.start().await.unwrap();
    let mut answers = Vec::new();
    for id in asked {
        answers.push(requests.wait(id, 20 * SECOND).await.unwrap().unwrap().state);
    }
    assert!(matches!(answers[0], RequestState::Done { number: 1, .. }), "{answers:?}");
    assert!(matches!(answers[1], RequestState::Refused { .. }), "{answers:?}");
    assert!(matches!(answers[2], RequestState::Done { number: 1, .. }), "{answers:?}");
    until_written(store, "mended", &["1"]).await;
    let left = running.processes().parked("clerk").await.unwrap();
    let left: Vec<Position> = left.iter().map(|trigger| trigger.position).collect();
    assert_eq!(left.len(), 2, "{left:?}");
    // An item that is named by its position is meant.
    let parked = ParkedChoice { position: Some(left[0]), ..ParkedChoice::default() };
    let named = for_the_next(OperatorAction::Skip { consumer: consumer(), parked });
    let id = requests.ask(named).await.unwrap();
    let named = requests.wait(id, 20 * SECOND).await.unwrap().unwrap();
    assert!(matches!(named.state, RequestState::Done { number: 1, .. }), "{named:?}");
    running.stop().await.unwrap();
}
