//! Events that fail: tried again, parked with their key, replayed or skipped by a person, once
//! each.

use leftfold_core::fold::{Event, Recorded, Upcasters};
use leftfold_core::runtime::projection::{
    APPLY_WITHIN, AskError, Memory, NotReached, PARKED_MAX, Parked, ParkedState, Projection,
    ProjectionError, Retried, TRIES, verify,
};
use leftfold_core::runtime::{ConsumerStatus, RunningRuntime};
use leftfold_core::store::Position;

use crate::projection_stage::{
    Code, Note, Shelf, Shelved, Tally, add, add_all, add_many, add_unreadable, fold_of,
    fold_without, reach, time_goes_by,
};
use crate::runtime_stage::{Process, SECOND, Stage, until};

/// Starts a projection with the code.
async fn start<const M: usize, const B: bool>(
    process: &Process,
    code: &Code,
    shelf: &Shelf<M, B>,
) -> RunningRuntime {
    process.runtime().project(Tally::<1, 1>(code.clone()), shelf.clone()).start().await.unwrap()
}

fn status(running: &RunningRuntime) -> ConsumerStatus {
    running.status().into_iter().find(|status| status.name == "tally").unwrap()
}

fn parked(running: &RunningRuntime) -> Vec<(u64, String)> {
    let parked = running.projections().parked("tally").unwrap();
    parked.into_iter().map(|Parked { position, key, .. }| (position.0, key)).collect()
}

fn applied(retried: &Retried) -> Vec<u64> {
    retried.applied.iter().map(|position| position.0).collect()
}

#[tokio::test]
async fn an_event_that_fails_for_a_while_is_tried_again_and_not_parked() {
    let process = Stage::new().process();
    let failing = add(&process.store, "a", "x", "shaky").await;
    // Once with the others, and all but the last time on its own.
    let code = Code::refusing("shaky", TRIES);
    let shelf = Shelf::<1>::new();
    let running = start(&process, &code, &shelf).await;
    reach(&process, &running, failing).await;
    assert_eq!(parked(&running), []);
    assert_eq!(code.tries(failing), 1 + TRIES as usize);
    assert_eq!(shelf.rows("tally", 1), fold_of(&process.store).await);
}

#[tokio::test]
async fn an_event_that_keeps_failing_is_parked_with_its_key_and_other_keys_go_on() {
    let process = Stage::new().process();
    let store = &process.store;
    let poison = add(store, "a", "x", "poison").await;
    add(store, "b", "x", "fine").await;
    add(store, "a", "y", "fine").await;
    let last = add(store, "b", "x", "fine").await;
    let code = Code::refusing("poison", u32::MAX);
    let shelf = Shelf::<1>::new();
    let running = start(&process, &code, &shelf).await;
    reach(&process, &running, last).await;
    assert_eq!(parked(&running), [(1, "x".into()), (2, "x".into()), (4, "x".into())]);
    assert_eq!(shelf.rows("tally", 1), fold_without(store, &[1, 2, 4]).await);
    let first = running.projections().parked("tally").unwrap().swap_remove(0);
    assert_eq!(
        first.state,
        ParkedState::Failed { error: "poison is refused".into(), attempts: TRIES }
    );
    assert_eq!(code.tries(poison), 1 + TRIES as usize);
    assert_eq!((status(&running).waiting, status(&running).stalled), (3, false));
    // What waits was never tried.
    assert_eq!(code.tries(Position(2)), 0);
}

#[tokio::test]
async fn waiting_for_an_event_that_is_parked_says_so_and_others_are_not_concerned() {
    let process = Stage::new().process();
    let store = &process.store;
    let poison = add(store, "a", "x", "poison").await;
    let behind = add(store, "a", "x", "fine").await;
    let other = add(store, "b", "y", "fine").await;
    let code = Code::refusing("poison", u32::MAX);
    let running = start(&process, &code, &Shelf::<1>::new()).await;
    reach(&process, &running, other).await;
    let projections = running.projections();
    let waited = async |position| projections.wait_until("tally", position, SECOND).await;
    let parked = |reason: &str| {
        let (name, reason) = ("tally".to_owned(), reason.to_owned());
        Err(NotReached::Parked { name, stands_at: other, position: poison, reason })
    };
    assert_eq!(waited(poison).await, parked("poison is refused"));
    assert_eq!(waited(behind).await, parked("poison is refused"));
    assert_eq!(waited(other).await, Ok(other));
    code.fix();
    projections.retry("tally", "x").await.unwrap();
    assert_eq!(waited(behind).await, Ok(other));
}

// ANCHOR: parked
#[tokio::test]
async fn a_parked_key_is_replayed_in_order_after_the_code_was_mended_once_each() {
    let process = Stage::new().process();
    let store = &process.store;
    for what in ["fine", "poison", "fine", "poison", "fine"] {
        add(store, "a", "x", what).await;
    }
    let last = add(store, "a", "y", "fine").await;
    let code = Code::refusing("poison", u32::MAX);
    let shelf = Shelf::<1>::new();
    let running = start(&process, &code, &shelf).await;
    reach(&process, &running, last).await;
    let projections = running.projections();
    let again = projections.retry("tally", "x").await.unwrap();
    assert_eq!(
        (applied(&again), again.stopped_by.map(|item| item.position)),
        (vec![], Some(Position(2)))
    );
    code.fix();
    code.refuse("poison", 0);
    assert_eq!(applied(&projections.retry("tally", "x").await.unwrap()), [2, 3, 4, 5]);
    assert_eq!(projections.retry("tally", "x").await.unwrap(), Retried::default());
    assert_eq!(parked(&running), []);
    assert_eq!(shelf.rows("tally", 1), fold_of(store).await);
    let after = add(store, "a", "x", "fine").await;
    reach(&process, &running, after).await;
    assert_eq!(shelf.rows("tally", 1), fold_of(store).await);
    assert_eq!(projections.verify("tally").await.unwrap().events, 7);
}
// ANCHOR_END: parked

#[tokio::test]
async fn a_replay_stops_at_the_first_that_fails_again_and_says_so() {
    let process = Stage::new().process();
    let store = &process.store;
    for what in ["poison", "fine", "venom"] {
        add(store, "a", "x", what).await;
    }
    let last = add(store, "a", "x", "fine").await;
    let code = Code::refusing("poison", u32::MAX);
    code.refuse("venom", u32::MAX);
    let shelf = Shelf::<1>::new();
    let running = start(&process, &code, &shelf).await;
    reach(&process, &running, last).await;
    code.refuse("poison", 0);
    let retried = running.projections().retry("tally", "x").await.unwrap();
    assert_eq!(applied(&retried), [1, 2]);
    let stopped_by = retried.stopped_by.unwrap();
    assert_eq!(
        stopped_by.state,
        ParkedState::Failed { error: "venom is refused".into(), attempts: 1 }
    );
    assert_eq!(parked(&running), [(3, "x".into()), (4, "x".into())]);
    // The state is kept with the rows.
    running.stop().await.unwrap();
    let running = start(&process, &code, &shelf.restarted::<1>()).await;
    assert_eq!(running.projections().parked("tally").unwrap()[0], stopped_by);
}

#[tokio::test]
async fn a_parked_event_is_skipped_once_and_who_said_so_is_remembered() {
    let process = Stage::new().process();
    let store = &process.store;
    for what in ["poison", "fine"] {
        add(store, "a", "x", what).await;
    }
    let code = Code::refusing("poison", u32::MAX);
    let shelf = Shelf::<1>::new();
    let running = start(&process, &code, &shelf).await;
    reach(&process, &running, Position(2)).await;
    running.stop().await.unwrap();
    // Also after a restart.
    let shelf = shelf.restarted::<1>();
    let running = start(&process, &code, &shelf).await;
    let projections = running.projections();
    assert_eq!(applied(&projections.skip("tally", Position(1), "ann").await.unwrap()), [2]);
    let twice = projections.skip("tally", Position(1), "ben").await;
    assert_eq!(twice, Err(AskError::NotParked { position: Some(Position(1)) }));
    assert_eq!(shelf.rows("tally", 1), fold_without(store, &[1]).await);
    let skipped = shelf.notes("tally", 1, "skipped/");
    let [(key, value)] = &skipped[..] else { panic!("{skipped:?}") };
    assert_eq!(key, "skipped/00000000000000000001");
    let value: serde_json::Value = serde_json::from_slice(value).unwrap();
    assert_eq!(
        (&value["by"], &value["key"], &value["error"]),
        (&"ann".into(), &"x".into(), &"poison is refused".into())
    );
    // It was consumed all the same.
    running.stop().await.unwrap();
    assert_eq!(
        verify(store, &shelf.restarted::<1>(), &Tally::<1, 1>(code)).await.unwrap().events,
        2
    );
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_parked_under_its_stream_and_holds_up_only_that() {
    let process = Stage::new().process();
    let store = &process.store;
    add(store, "a", "x", "fine").await;
    add_unreadable(store, "a").await;
    add(store, "b", "x", "fine").await;
    add(store, "a", "x", "fine").await;
    add(store, "b", "x", "fine").await;
    let last = add(store, "b", "y", "fine").await;
    let shelf = Shelf::<1>::new();
    let running = start(&process, &Code::default(), &shelf).await;
    reach(&process, &running, last).await;
    // 4 waits for its stream, and 5, another event of its key, behind it.
    assert_eq!(parked(&running), [(2, "note-a".into()), (4, "x".into()), (5, "x".into())]);
    let projections = running.projections();
    let still = projections.retry("tally", "x").await.unwrap();
    assert_eq!(
        (applied(&still), still.stopped_by.map(|item| item.position)),
        (vec![], Some(Position(4)))
    );
    let still = projections.retry("tally", "note-a").await.unwrap();
    assert!(matches!(
        still.stopped_by.unwrap().state,
        ParkedState::Unreadable { error } if error.contains("position 2")
    ));
    // Anyone who only waited for it goes on with it.
    assert_eq!(applied(&projections.skip("tally", Position(2), "ann").await.unwrap()), [4, 5]);
    assert_eq!(shelf.rows("tally", 1), fold_of(store).await);
    assert_eq!(parked(&running), []);
}

#[tokio::test]
async fn a_panic_is_a_failure_of_its_event() {
    let process = Stage::new().process();
    let store = &process.store;
    add(store, "a", "x", "panics").await;
    let last = add(store, "b", "y", "fine").await;
    let shelf = Shelf::<1>::new();
    let running = start(&process, &Code::refusing("panics", u32::MAX), &shelf).await;
    reach(&process, &running, last).await;
    let item = running.projections().parked("tally").unwrap().swap_remove(0);
    assert_eq!(item.state.error(), Some("apply panicked: it exploded"));
    assert_eq!(shelf.rows("tally", 1), fold_without(store, &[1]).await);
}

#[tokio::test]
async fn an_apply_that_hangs_is_given_up_in_its_time_and_parked() {
    let process = Stage::new().process();
    let store = &process.store;
    add(store, "a", "y", "fine").await;
    let hanging = add(store, "a", "x", "hangs").await;
    let last = add(store, "b", "y", "fine").await;
    let code = Code::refusing("hangs", u32::MAX);
    let shelf = Shelf::<1>::new();
    let running = start(&process, &code, &shelf).await;
    until("it hangs", async || code.tries(hanging) == 1).await;
    process.clock.advance(APPLY_WITHIN / 2);
    assert_eq!(status(&running).waits_for, "the event to be applied at 2, under way since 15 s");
    reach(&process, &running, last).await;
    let item = running.projections().parked("tally").unwrap().swap_remove(0);
    assert_eq!(
        item.state,
        ParkedState::Failed { error: "apply gave no answer within 30 s".into(), attempts: TRIES }
    );
    assert_eq!(shelf.rows("tally", 1), fold_without(store, &[2]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn an_apply_that_blocks_its_thread_is_named_and_holds_up_nobody_else() {
    let process = Stage::new().process();
    let store = &process.store;
    add(store, "a", "y", "fine").await;
    let blocking = add(store, "a", "x", "blocks").await;
    let code = Code::refusing("blocks", 1);
    let shelf = Shelf::<1, true>::new();
    let other = Memory::<usize>::new();
    let runtime = process.runtime().project(Tally::<1, 1>(code.clone()), shelf.clone());
    let running = runtime.project(Count, other.clone()).start().await.unwrap();
    until("it blocks", async || code.tries(blocking) == 1).await;
    process.clock.advance(40 * SECOND);
    assert_eq!(status(&running).waits_for, "the event to be applied at 2, under way since 40 s");
    assert!(
        running
            .metrics()
            .contains("reason=\"the event to be applied at 2, under way since 40 s\"} 1")
    );
    running.projections().wait_until("count", blocking, 10 * SECOND).await.unwrap();
    assert_eq!(other.read(|count| *count).await, 2);
    code.unblock();
    reach(&process, &running, blocking).await;
    until("it goes on", async || status(&running).waits_for == "new events").await;
    assert_eq!(shelf.rows("tally", 1), fold_of(store).await);
}

struct Count;

impl Projection<Memory<usize>> for Count {
    const NAME: &'static str = "count";
    type Event = Note;

    async fn apply(&self, rows: &mut usize, _: &Recorded<Note>) -> Result<(), ProjectionError> {
        *rows += 1;
        Ok(())
    }
}

#[tokio::test]
async fn a_target_that_is_away_is_waited_for_and_nothing_is_parked() {
    let process = Stage::new().process();
    let store = &process.store;
    add_many(store, 10).await;
    let shelf = Shelf::<1>::new();
    shelf.cut(true);
    let code = Code::refusing("away", 5);
    // It may be away from the start.
    let running = start(&process, &code, &shelf).await;
    let waits_for = "its target to come back: the wire is cut";
    assert_eq!(running.projections().list()[0].consumer.waits_for, waits_for);
    assert!(status(&running).stalled);
    assert!(running.metrics().contains("leftfold_consumer_up{consumer=\"tally\"} 0"));
    shelf.cut(false);
    reach(&process, &running, Position(10)).await;
    assert_eq!(
        (status(&running).stalled, status(&running).waits_for.as_str()),
        (false, "new events")
    );
    shelf.cut(true);
    let last = add(store, "a", "x", "fine").await;
    until("it is noticed", async || status(&running).stalled).await;
    assert_eq!(
        (status(&running).waits_for.as_str(), status(&running).through),
        (waits_for, Position(10))
    );
    shelf.cut(false);
    reach(&process, &running, last).await;
    // It may go away under the hands of users' code.
    let last = add(store, "a", "x", "away").await;
    reach(&process, &running, last).await;
    assert_eq!(code.tries(last), 6);
    assert_eq!(parked(&running), []);
    assert_eq!(shelf.rows("tally", 1), fold_of(store).await);
}

#[tokio::test]
async fn a_projection_with_too_many_parked_items_stops_and_says_so() {
    let process = Stage::new().process();
    let store = &process.store;
    add(store, "s", "k0", "poison").await;
    add_all(store, (0..PARKED_MAX + 100).map(|_| ("s".to_owned(), "k0".to_owned()))).await;
    let last = store.head().position;
    let code = Code::refusing("poison", u32::MAX);
    let shelf = Shelf::<1>::new();
    let running = start(&process, &code, &shelf).await;
    let stalls = until("it stops", async || status(&running).needs_person);
    tokio::select! {
        () = stalls => {}
        () = time_goes_by(&process.clock) => {}
    }
    assert!(
        status(&running)
            .waits_for
            .starts_with("parked items to be retried or skipped, there are 10000")
    );
    let projections = running.projections();
    assert_eq!(projections.parked("tally").unwrap().len(), PARKED_MAX);
    code.refuse("poison", 0);
    assert_eq!(projections.retry("tally", "k0").await.unwrap().applied.len(), PARKED_MAX);
    reach(&process, &running, last).await;
    assert_eq!(shelf.rows("tally", 1), fold_of(store).await);
    assert_eq!(projections.verify("tally").await.unwrap().events, last.0);
}

#[tokio::test]
async fn what_is_asked_of_nobody_is_an_error() {
    let process = Stage::new().process();
    let shelf = Shelf::<1>::new();
    let running = start(&process, &Code::default(), &shelf).await;
    let projections = running.projections();
    let unknown = AskError::UnknownProjection { name: "none".into() };
    assert_eq!(projections.parked("none"), Err(unknown.clone()));
    assert_eq!(projections.retry("none", "x").await, Err(unknown.clone()));
    assert_eq!(projections.skip("none", Position(1), "ann").await, Err(unknown));
    running.stop().await.unwrap();
    assert_eq!(projections.retry("tally", "x").await, Err(AskError::Stopped));
}

/// The events as a later release reads them: it knows what an old release wrote.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
enum Mended {
    #[serde(rename = "note.Added")]
    Added { key: String, what: String },
}

impl Event for Mended {
    const NAMESPACE: &'static str = "note";

    fn upcasters() -> Upcasters {
        Upcasters::none().change("note.Added", 1, |data| {
            let key = data["key"].as_str().unwrap_or("lost");
            Ok(serde_json::json!({ "key": key, "what": "fine" }))
        })
    }
}

struct MendedTally;

impl Projection<Shelf> for MendedTally {
    const NAME: &'static str = "tally";
    type Event = Mended;

    fn key(&self, event: &Recorded<Mended>) -> String {
        let Mended::Added { key, .. } = &event.event;
        key.clone()
    }

    async fn apply(
        &self,
        rows: &mut Shelved,
        event: &Recorded<Mended>,
    ) -> Result<(), ProjectionError> {
        let Mended::Added { key, .. } = &event.event;
        rows.add(key, event.envelope.position.0);
        Ok(())
    }
}

#[tokio::test]
async fn a_replay_applies_the_upcasters_of_the_release_that_replays() {
    let process = Stage::new().process();
    let store = &process.store;
    add_unreadable(store, "a").await;
    let last = add(store, "a", "x", "fine").await;
    let shelf = Shelf::<1>::new();
    let running = start(&process, &Code::default(), &shelf).await;
    reach(&process, &running, last).await;
    running.stop().await.unwrap();
    let shelf = shelf.restarted::<1>();
    let running = process.runtime().project(MendedTally, shelf.clone()).start().await.unwrap();
    assert_eq!(applied(&running.projections().retry("tally", "note-a").await.unwrap()), [1, 2]);
    let rows = shelf.rows("tally", 1);
    assert_eq!((&rows["lost"][..], &rows["x"][..]), (&[1][..], &[2][..]));
    running.stop().await.unwrap();
    verify(store, &shelf.restarted::<1>(), &MendedTally).await.unwrap();
}

#[tokio::test]
async fn everything_that_is_meant_is_tried_again_key_by_key() {
    let process = Stage::new().process();
    let store = &process.store;
    let keys = 700;
    for key in 0..keys {
        let what = if key % 7 == 0 { "venom" } else { "poison" };
        add(store, "a", &format!("k{key}"), what).await;
        add(store, "a", &format!("k{key}"), "fine").await;
    }
    let code = Code::refusing("poison", u32::MAX);
    code.refuse("venom", u32::MAX);
    let shelf = Shelf::<1>::new();
    let running = start(&process, &code, &shelf).await;
    reach(&process, &running, store.head().position).await;
    assert_eq!(parked(&running).len(), 2 * keys);
    let projections = running.projections();
    code.refuse("poison", 0);
    let meant = |item: &Parked| item.state.error() == Some("poison is refused");
    let retried = projections.retry_all("tally", meant).await.unwrap();
    assert_eq!((retried.applied.len(), retried.stopped_by), (2 * 600, None));
    assert_eq!(parked(&running).len(), 200);
    let retried = projections.retry_all("tally", |_| true).await.unwrap();
    assert_eq!((retried.applied.len(), retried.stopped_by.unwrap().position), (0, Position(1)));
    code.refuse("venom", 0);
    assert_eq!(projections.retry_all("tally", |_| true).await.unwrap().applied.len(), 200);
    assert_eq!(shelf.rows("tally", 1), fold_of(store).await);
    assert_eq!(status(&running).parked, 0);
}

#[tokio::test]
async fn everything_that_is_meant_is_let_go_and_what_waited_for_it_goes_on() {
    let process = Stage::new().process();
    let store = &process.store;
    for number in 0..1_200 {
        let key = if number % 2 == 0 { "x" } else { "y" };
        add(store, "a", key, if number < 2 { "poison" } else { "fine" }).await;
    }
    let shelf = Shelf::<1>::new();
    let running = start(&process, &Code::refusing("poison", u32::MAX), &shelf).await;
    reach(&process, &running, store.head().position).await;
    assert_eq!(parked(&running).len(), 1_200);
    let projections = running.projections();
    // Of one key all, of the other the one that failed.
    let meant = |item: &Parked| item.key == "x" || item.state != ParkedState::Waits;
    let skipped = projections.skip_all("tally", meant, "ann").await.unwrap();
    assert_eq!((skipped.skipped.len(), skipped.retried.applied.len()), (601, 599));
    assert_eq!(parked(&running), []);
    let mut gone: Vec<u64> = (1..=1_200).filter(|position| position % 2 == 1).collect();
    gone.push(2);
    assert_eq!(shelf.rows("tally", 1), fold_without(store, &gone).await);
    assert_eq!(shelf.notes("tally", 1, "skipped/").len(), 601);
    assert_eq!(projections.verify("tally").await.unwrap().events, 1_200);
}

/// A note that nobody could read kept the whole projection from starting.
#[tokio::test]
async fn a_note_of_a_parked_event_that_cannot_be_read_is_made_anew_from_the_log() {
    let process = Stage::new().process();
    let store = &process.store;
    add(store, "a", "x", "poison").await;
    add(store, "a", "y", "fine").await;
    let code = Code::refusing("poison", u32::MAX);
    let shelf = Shelf::<1>::new();
    let running = start(&process, &code, &shelf).await;
    reach(&process, &running, Position(2)).await;
    running.stop().await.unwrap();
    let [(key, _)] = &shelf.notes("tally", 1, "parked/")[..] else { panic!() };
    shelf.scribble("tally", 1, key, Some(b"{\"no\": 1}".to_vec()));
    let shelf = shelf.restarted::<1>();
    let running = start(&process, &code, &shelf).await;
    let item = running.projections().parked("tally").unwrap().swap_remove(0);
    assert_eq!(
        (item.position, item.key.as_str(), item.stream.as_str()),
        (Position(1), "x", "note-a")
    );
    assert!(item.state.error().unwrap().contains("its note could not be read"), "{item:?}");
    code.fix();
    assert_eq!(applied(&running.projections().retry("tally", "x").await.unwrap()), [1]);
    assert_eq!(shelf.rows("tally", 1), fold_of(store).await);
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_read_asks_for_a_rebuild_and_holds_up_nobody_else() {
    let process = Stage::new().process();
    let store = &process.store;
    add(store, "a", "x", "fine").await;
    let shelf = Shelf::<1>::new();
    let running = start(&process, &Code::default(), &shelf).await;
    reach(&process, &running, Position(1)).await;
    running.stop().await.unwrap();
    shelf.scribble("tally", 1, "checkpoint/000", Some(b"a later release".to_vec()));
    let shelf = shelf.restarted::<1>();
    let count = Memory::<usize>::new();
    let runtime = process.runtime().project(Tally::<1, 1>::default(), shelf.clone());
    let running = runtime.project(Count, count.clone()).start().await.unwrap();
    let last = add(store, "a", "x", "fine").await;
    running.projections().wait_until("count", last, 10 * SECOND).await.unwrap();
    let status = status(&running);
    assert!(status.stalled && status.needs_person);
    assert!(
        status
            .waits_for
            .starts_with("a rebuild, by Runtime::rebuild(\"tally\"): the note checkpoint/000"),
        "{status:?}"
    );
    running.stop().await.unwrap();
    let runtime = process.runtime().project(Tally::<1, 1>::default(), shelf.clone());
    runtime.rebuild("tally").run_until_idle().await.unwrap();
    assert_eq!(shelf.served("tally"), fold_of(store).await);
}
