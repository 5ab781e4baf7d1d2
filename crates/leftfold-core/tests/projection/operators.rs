//! Requests of operators about what a projection has parked: records that a runtime carries out,
//! also one that is started later.

use std::time::Duration;

use leftfold_core::runtime::operator::{
    LISTED_ITEMS_MAX, ListedItem, NewRequest, OPEN_REQUESTS_MAX, OperatorAction, OperatorError,
    OperatorRequests, ParkedChoice, RequestFilter, RequestState, RequestStatus,
};
use leftfold_core::runtime::projection::PARKED_MAX;
use leftfold_core::store::{Position, Store};

use crate::projection_stage::{Code, Shelf, Tally, add, fold_of, fold_without, reach};
use crate::runtime_stage::{Process, SECOND, Stage};

fn asked(action: OperatorAction) -> NewRequest {
    let reason = "mended in 1.2".to_owned();
    NewRequest { action, by: "ann".to_owned(), reason, runtime: None }
}

fn retry(consumer: &str, parked: ParkedChoice) -> NewRequest {
    asked(OperatorAction::Retry { consumer: consumer.to_owned(), parked })
}

fn skip(position: Position) -> NewRequest {
    let parked = ParkedChoice { position: Some(position), ..ParkedChoice::default() };
    asked(OperatorAction::Skip { consumer: "tally".to_owned(), parked })
}

/// Runs the projection until it has come to a position.
async fn run(
    process: &Process,
    code: &Code,
    shelf: &Shelf<1>,
    to: Position,
) -> leftfold_core::runtime::RunningRuntime {
    let runtime =
        process.runtime().named("east").project(Tally::<1, 1>(code.clone()), shelf.clone());
    let running = runtime.start().await.unwrap();
    reach(process, &running, to).await;
    running
}

async fn ended(store: &Store, request: NewRequest) -> RequestStatus {
    let requests = OperatorRequests::of(store);
    let id = requests.ask(request).await.unwrap();
    requests.wait(id, 20 * SECOND).await.unwrap().unwrap()
}

/// A release has mended what an event was parked for. While nothing ran a person asked for another
/// try; the next start makes it, and says who asked.
#[tokio::test]
async fn a_poison_event_is_tried_again_by_the_start_that_follows_the_request() {
    let stage = Stage::in_time();
    let process = stage.process();
    let store = &process.store;
    add(store, "a", "x", "poison").await;
    let last = add(store, "a", "x", "fine").await;
    let shelf = Shelf::<1>::new();
    run(&process, &Code::refusing("poison", u32::MAX), &shelf, last).await.stop().await.unwrap();
    assert_eq!(shelf.rows("tally", 1), fold_without(store, &[1, 2]).await);

    let requests = OperatorRequests::of(store);
    let id = requests.ask(retry("tally", ParkedChoice::default())).await.unwrap();
    let open = requests.find(id).await.unwrap().unwrap();
    assert_eq!((open.state, open.request.by.as_str()), (RequestState::Open, "ann"));
    let at_once = requests.wait(id, Duration::ZERO).await.unwrap().unwrap();
    assert_eq!(at_once.state, RequestState::Open);

    let running = run(&process, &Code::default(), &shelf, last).await;
    let answered = requests.wait(id, 20 * SECOND).await.unwrap().unwrap();
    let RequestState::Done { runtime, number, failing, at } = answered.state else {
        panic!("{answered:?}")
    };
    assert_eq!((runtime.as_str(), number, &failing[..]), ("east", 2, &[][..]));
    assert!(at > answered.asked_at);
    assert_eq!(shelf.rows("tally", 1), fold_of(store).await);
    let mut all = Vec::new();
    requests.each(RequestFilter::Open, |status| all.push(status.id)).await.unwrap();
    assert_eq!(all, []);
    requests.each(RequestFilter::All, |status| all.push(status.id)).await.unwrap();
    assert_eq!(all, [id]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_request_that_fails_again_says_at_what_and_one_that_skips_names_the_person() {
    let process = Stage::in_time().process();
    let store = &process.store;
    let poison = add(store, "a", "x", "poison").await;
    let last = add(store, "a", "x", "fine").await;
    let shelf = Shelf::<1>::new();
    let running = run(&process, &Code::refusing("poison", u32::MAX), &shelf, last).await;

    let again = ended(store, retry("tally", ParkedChoice::default())).await;
    let RequestState::Refused { reason, .. } = again.state else { panic!("{again:?}") };
    assert!(reason.contains("key x at 1: poison is refused"), "{reason}");
    let other = ParkedChoice { key: Some("y".to_owned()), ..ParkedChoice::default() };
    let nothing = ended(store, retry("tally", other)).await;
    let RequestState::Refused { reason, .. } = nothing.state else { panic!("{nothing:?}") };
    assert!(reason.contains("nothing is parked"), "{reason}");

    let skipped = ended(store, skip(poison)).await;
    assert!(matches!(skipped.state, RequestState::Done { number: 1, .. }), "{skipped:?}");
    assert_eq!(shelf.rows("tally", 1), fold_without(store, &[1]).await);
    let notes = shelf.notes("tally", 1, "skipped/");
    assert!(String::from_utf8_lossy(&notes[0].1).contains("ann"), "{notes:?}");
    running.stop().await.unwrap();
}

/// Returns the pages of what a projection has parked.
async fn listed(store: &Store, consumer: Option<&str>) -> Vec<Vec<ListedItem>> {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let consumer = consumer.map(ToOwned::to_owned);
        let status = ended(store, asked(OperatorAction::List { consumer, after })).await;
        let RequestState::Listed { runtime, items, has_more, .. } = status.state else {
            panic!("{status:?}")
        };
        assert_eq!(runtime, "east");
        after = items.last().map(|last| last.place.clone());
        pages.push(items);
        if !has_more {
            return pages;
        }
    }
}

/// The items are in the target, which only the runtime with the code knows.
#[tokio::test]
async fn what_is_parked_is_listed_in_pages_to_whoever_asks_from_another_program() {
    let process = Stage::in_time().process();
    let store = &process.store;
    let poison = add(store, "a", "x", "poison").await;
    let mut last = poison;
    for _ in 0..LISTED_ITEMS_MAX {
        last = add(store, "a", "x", "fine").await;
    }
    let shelf = Shelf::<1>::new();
    let running = run(&process, &Code::refusing("poison", u32::MAX), &shelf, last).await;
    for consumer in [None, Some("tally")] {
        let pages = listed(store, consumer).await;
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [LISTED_ITEMS_MAX, 1]);
        let first = &pages[0][0];
        assert_eq!((first.place.consumer.as_str(), first.place.position), ("tally", poison));
        assert_eq!((first.key.as_str(), first.error.as_deref()), ("x", Some("poison is refused")));
        assert_eq!((pages[1][0].place.position, &pages[1][0].error), (last, &None));
    }
    let skipped = ended(store, skip(poison)).await;
    assert!(matches!(skipped.state, RequestState::Done { .. }), "{skipped:?}");
    assert_eq!(listed(store, None).await, [vec![]]);
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_request_for_another_runtime_stays_open_until_it_is_withdrawn() {
    let process = Stage::in_time().process();
    let store = &process.store;
    let poison = add(store, "a", "x", "poison").await;
    let running = run(&process, &Code::refusing("poison", u32::MAX), &Shelf::new(), poison).await;
    let requests = OperatorRequests::of(store);
    let elsewhere = NewRequest { runtime: Some("west".to_owned()), ..skip(poison) };
    let misspelt = retry("tallly", ParkedChoice::default());
    let mut ids = Vec::new();
    for request in [elsewhere, misspelt] {
        ids.push(requests.ask(request).await.unwrap());
    }
    // The follower has read them by the time that it has answered a later one.
    let last = ended(store, skip(poison)).await;
    assert!(matches!(last.state, RequestState::Done { number: 1, .. }), "{last:?}");
    for id in &ids {
        assert_eq!(requests.find(*id).await.unwrap().unwrap().state, RequestState::Open);
        requests.withdraw(*id, "ben", "misspelt").await.unwrap();
        let status = requests.wait(*id, SECOND).await.unwrap().unwrap();
        assert!(matches!(status.state, RequestState::Withdrawn { by, .. } if by == "ben"));
        let twice = requests.withdraw(*id, "ben", "misspelt").await;
        assert_eq!(twice, Err(OperatorError::Ended { id: *id }));
    }
    let unknown = "01890000-0000-7000-8000-000000000000".parse().unwrap();
    let unknown_id = requests.withdraw(unknown, "ben", "misspelt").await;
    assert_eq!(unknown_id, Err(OperatorError::NotFound { id: unknown }));
    running.stop().await.unwrap();
}

#[tokio::test]
async fn a_request_without_a_name_or_a_reason_is_not_recorded() {
    let store = Stage::in_time().process().store;
    let requests = OperatorRequests::of(&store);
    for (by, reason) in [("", "mended"), ("ann", " "), ("ann", &"x".repeat(PARKED_MAX))] {
        let (by, reason) = (by.to_owned(), reason.to_owned());
        let request = NewRequest { by, reason, ..skip(Position(1)) };
        let refused = requests.ask(request).await;
        assert!(matches!(refused, Err(OperatorError::Invalid(_))), "{refused:?}");
    }
    assert_eq!(store.head().position, Position::START);
}

/// Nobody has looked at what came after the request.
#[tokio::test]
async fn a_skip_of_all_lets_nothing_go_that_came_after_it_was_asked() {
    let process = Stage::in_time().process();
    let (store, shelf) = (&process.store, Shelf::<1>::new());
    let seen = add(store, "a", "x", "poison").await;
    let code = Code::refusing("poison", u32::MAX);
    let running = run(&process, &code, &shelf, seen).await;
    let requests = OperatorRequests::of(store);
    let action = OperatorAction::Skip {
        consumer: "tally".to_owned(),
        parked: ParkedChoice { saying: Some("refused".to_owned()), ..ParkedChoice::default() },
    };
    let later = NewRequest { runtime: Some("west".to_owned()), ..asked(action) };
    let id = requests.ask(later).await.unwrap();
    let unseen = add(store, "b", "y", "poison").await;
    reach(&process, &running, unseen).await;
    running.stop().await.unwrap();

    let runtime = process.runtime().named("west").project(Tally::<1, 1>(code), shelf.clone());
    let running = runtime.start().await.unwrap();
    let status = requests.wait(id, 20 * SECOND).await.unwrap().unwrap();
    assert!(matches!(status.state, RequestState::Done { number: 1, .. }), "{status:?}");
    let parked = running.projections().parked("tally").unwrap();
    assert_eq!(parked.iter().map(|item| item.position).collect::<Vec<_>>(), [unseen]);
    running.stop().await.unwrap();
}

/// A thousand requests that nobody could answer were all that a runtime kept, and whatever was
/// asked later waited until a person withdrew some of them.
#[tokio::test]
async fn requests_that_nobody_can_answer_hold_up_no_later_one() {
    let process = Stage::in_time().process();
    let store = &process.store;
    let first = add(store, "a", "x", "fine").await;
    let requests = OperatorRequests::of(store);
    for _ in 0..2 * OPEN_REQUESTS_MAX + 100 {
        requests.ask(retry("tallly", ParkedChoice::default())).await.unwrap();
    }
    let before = requests.ask(retry("tally", ParkedChoice::default())).await.unwrap();
    let running = run(&process, &Code::default(), &Shelf::new(), first).await;
    // It is asked before the start, and the next one when the runtime knows all others.
    for id in [before, requests.ask(retry("tally", ParkedChoice::default())).await.unwrap()] {
        let answered = requests.wait(id, 60 * SECOND).await.unwrap().unwrap();
        assert!(matches!(answered.state, RequestState::Refused { .. }), "{answered:?}");
    }
    running.stop().await.unwrap();
}
