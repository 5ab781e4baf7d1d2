//! Versions: the first serves at once, another is built beside and takes its place when it has
//! caught up.

use std::sync::Arc;

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::projection::{
    BESIDE, CHANGES_MAX, Change, ChangesError, Memory, NotReached, Projection, ProjectionError,
    verify,
};
use leftfold_core::runtime::{RunningRuntime, StartError};
use leftfold_core::store::{Position, SubscribeError};
use tokio::sync::Semaphore;

use crate::projection_stage::{
    Code, Note, Shelf, Shelved, Tally, add, add_many, fold_of, reach, settle, time_goes_by,
};
use crate::runtime_stage::{Fault, Process, SECOND, Stage, until};

async fn start<const V: u32>(process: &Process, shelf: &Shelf) -> RunningRuntime {
    process.runtime().project(Tally::<V, 1>::default(), shelf.clone()).start().await.unwrap()
}

/// Applies as many events as it is allowed to.
pub(crate) struct Slow<const VERSION: u32>(pub(crate) Arc<Semaphore>);

impl<const VERSION: u32> Projection<Shelf> for Slow<VERSION> {
    const NAME: &'static str = "tally";
    const VERSION: u32 = VERSION;
    type Event = Note;

    async fn apply(
        &self,
        rows: &mut Shelved,
        event: &Recorded<Note>,
    ) -> Result<(), ProjectionError> {
        self.0.acquire().await?.forget();
        let Note::Added { key, .. } = &event.event;
        rows.add(&format!("new {key}"), event.envelope.position.0);
        Ok(())
    }
}

#[tokio::test]
async fn the_first_version_serves_at_once() {
    let process = Stage::new().process();
    add_many(&process.store, 10).await;
    let (shelf, allowed) = (Shelf::<1>::new(), Arc::new(Semaphore::new(0)));
    let running =
        process.runtime().project(Slow::<1>(allowed.clone()), shelf.clone()).start().await.unwrap();
    let status = running.projections().list().swap_remove(0);
    assert_eq!(
        (status.serves, status.consumer.through, status.consumer.lag()),
        (true, Position::START, 10)
    );
    allowed.add_permits(10);
    reach(&process, &running, Position(10)).await;
}

#[tokio::test]
async fn a_changed_projection_is_built_beside_the_one_that_serves_and_takes_its_place() {
    let process = Stage::new().process();
    let store = &process.store;
    add_many(store, 10).await;
    let shelf = Shelf::<1>::new();
    settle(&process, Tally::<1, 1>::default(), &shelf).await;
    let old = fold_of(store).await;
    add_many(store, 10).await;
    let allowed = Arc::new(Semaphore::new(0));
    let running =
        process.runtime().project(Slow::<2>(allowed.clone()), shelf.clone()).start().await.unwrap();
    let projections = running.projections();
    until("it is at work", async || shelf.count("begin") > 5).await;
    for _ in 0..19 {
        allowed.add_permits(1);
        tokio::task::yield_now().await;
        assert_eq!(shelf.served("tally"), old, "readers see the old version");
    }
    // Who waits for what was written is not answered by rows that nobody sees.
    let late = projections.wait_until("tally", Position(1), SECOND / 50).await.unwrap_err();
    let NotReached::Late { stands_at, waits_for, .. } = late else { panic!("{late:?}") };
    assert!(
        stands_at == Position::START && waits_for.starts_with("version 2 to be built"),
        "{waits_for}"
    );
    allowed.add_permits(1);
    reach(&process, &running, Position(20)).await;
    assert_eq!(shelf.served("tally"), shelf.rows("tally", 2));
    assert_eq!(shelf.served("tally")["new k0"].len(), 4);
    // The one that was replaced is kept, for who still reads it.
    assert_eq!(shelf.rows("tally", 1), old);
    running.stop().await.unwrap();
    settle(&process, Tally::<3, 1>::default(), &shelf).await;
    assert_eq!(shelf.served("tally"), fold_of(store).await);
    assert_eq!((shelf.rows("tally", 1).len(), shelf.rows("tally", 2).len()), (0, 7));
}

#[tokio::test]
async fn a_build_that_dies_half_way_goes_on_where_it_stood() {
    let process = Stage::new().process();
    add_many(&process.store, 2_500).await;
    let shelf = Shelf::<1>::new();
    settle(&process, Tally::<1, 1>::default(), &shelf).await;
    let allowed = Arc::new(Semaphore::new(1_500));
    let running =
        process.runtime().project(Slow::<2>(allowed), shelf.clone()).start().await.unwrap();
    let first = || running.projections().list().swap_remove(0).consumer.through;
    until("the first batch is in", async || first() == Position(1_000)).await;
    assert_eq!(shelf.served("tally"), fold_of(&process.store).await, "readers see the old version");
    drop(running);
    let shelf = shelf.restarted::<1>();
    let code = Code::default();
    let counts = Tally::<2, 1>(code.clone());
    settle(&process, counts, &shelf).await;
    assert_eq!(code.tries(Position(1_000)) + code.tries(Position(1)), 0);
    assert_eq!((code.tries(Position(1_001)), code.tries(Position(2_500))), (1, 1));
}

#[tokio::test]
async fn two_versions_run_side_by_side_and_the_newer_one_serves() {
    let process = Stage::new().process();
    let store = &process.store;
    add_many(store, 10).await;
    let shelf = Shelf::<1>::new();
    settle(&process, Tally::<1, 1>::default(), &shelf).await;
    let runtime = process.runtime().project(Tally::<1, 1>::default(), shelf.clone());
    let running = runtime.project(Tally::<2, 1>::default(), shelf.clone()).start().await.unwrap();
    let projections = running.projections();
    until("it serves", async || {
        projections.list().iter().any(|status| status.version == 2 && status.serves)
    })
    .await;
    let last = add(store, "a", "x", "fine").await;
    let through = |version| {
        projections.list().iter().find(|status| status.version == version).unwrap().consumer.through
    };
    until("both have come to the end", async || through(1) == last && through(2) == last).await;
    assert_eq!(shelf.rows("tally", 1), shelf.rows("tally", 2));
    let names: Vec<_> = running.status().iter().map(|status| status.name).collect();
    assert_eq!(names, ["tally v1", "tally v2"]);
    assert!(
        running
            .metrics()
            .contains("leftfold_projection_serves{projection=\"tally\",version=\"2\"} 1\n")
    );
    assert!(
        running
            .metrics()
            .contains("leftfold_projection_serves{projection=\"tally\",version=\"1\"} 0\n")
    );
}

#[tokio::test]
async fn one_version_twice_or_a_name_that_is_none_does_not_start() {
    struct Odd;
    impl Projection<Memory<u32>> for Odd {
        const NAME: &'static str = "Tally-1";
        type Event = Note;
        async fn apply(&self, _: &mut u32, _: &Recorded<Note>) -> Result<(), ProjectionError> {
            Ok(())
        }
    }
    let process = Stage::new().process();
    let shelf = Shelf::<1>::new();
    let twice = process.runtime().project(Tally::<1, 1>::default(), shelf.clone());
    let twice = twice.project(Tally::<1, 1>::default(), shelf.clone()).start().await;
    assert_eq!(
        twice.err(),
        Some(StartError::NameTaken {
            name: "tally",
            types: [std::any::type_name::<Tally<1, 1>>(); 2]
        })
    );
    let odd = process.runtime().project(Odd, Memory::new()).start().await;
    assert_eq!(
        odd.err(),
        Some(StartError::ProjectionName {
            projection: std::any::type_name::<Odd>(),
            name: "Tally-1"
        })
    );
    let unknown = process.runtime().rebuild("tally").start().await;
    assert_eq!(unknown.err(), Some(StartError::UnknownProjection { name: "tally".into() }));
    assert_eq!(shelf.calls(), 0);
}

#[tokio::test]
async fn a_checkpoint_of_another_log_is_an_error_that_says_what_to_do_until_it_is_rebuilt() {
    let process = Stage::new().process();
    add_many(&process.store, 10).await;
    let shelf = Shelf::<1>::new();
    settle(&process, Tally::<1, 1>::default(), &shelf).await;
    let other = Stage::new().process();
    add_many(&other.store, 3).await;
    let refused = other
        .runtime()
        .project(Tally::<1, 1>::default(), shelf.clone())
        .start()
        .await
        .err()
        .unwrap();
    let StartError::ForeignProjection {
        name: "tally",
        version: 1,
        error: SubscribeError::OtherStore { .. },
        ..
    } = &refused
    else {
        panic!("{refused:?}")
    };
    assert!(refused.to_string().contains("Runtime::rebuild(\"tally\")"), "{refused}");
    assert_eq!(shelf.rows("tally", 1), fold_of(&process.store).await);
    let runtime = other.runtime().project(Tally::<1, 1>::default(), shelf.clone()).rebuild("tally");
    runtime.run_until_idle().await.unwrap();
    assert_eq!(shelf.served("tally"), fold_of(&other.store).await);
}

#[tokio::test]
async fn a_checkpoint_of_another_log_stalls_the_projection_which_never_begins_anew() {
    let process = Stage::new().process();
    add_many(&process.store, 10).await;
    let shelf = Shelf::<1>::new();
    settle(&process, Tally::<1, 1>::default(), &shelf).await;
    let rows = shelf.rows("tally", 1);
    let other = Stage::new().process();
    shelf.cut(true);
    let running = start::<1>(&other, &shelf).await;
    shelf.cut(false);
    let stalled = until("it stalls", async || running.status()[0].needs_person);
    tokio::select! {
        () = stalled => {}
        () = time_goes_by(&other.clock) => {}
    }
    assert!(
        running.status()[0]
            .waits_for
            .starts_with("a rebuild, by Runtime::rebuild(\"tally\"): the checkpoint belongs to")
    );
    assert_eq!(shelf.rows("tally", 1), rows);
}

#[tokio::test]
async fn changes_are_told_after_their_commit_and_only_of_the_version_that_serves() {
    let process = Stage::new().process();
    let store = &process.store;
    let shelf = Shelf::<1>::new();
    settle(&process, Tally::<1, 1>::default(), &shelf).await;
    add(store, "a", "before", "fine").await;
    // The old one serves on; the new one is built, and says nothing of the past.
    let allowed = Arc::new(Semaphore::new(0));
    let runtime =
        process.runtime().project(Tally::<1, 1>(Code::refusing("poison", u32::MAX)), shelf.clone());
    let running = runtime.project(Slow::<2>(allowed.clone()), shelf.clone()).start().await.unwrap();
    let projections = running.projections();
    let through =
        || projections.list().iter().find(|status| status.version == 1).unwrap().consumer.through;
    until("the old one has the first", async || through() == Position(1)).await;
    let mut changes = projections.changes("tally").unwrap();
    for (key, what) in [("x", "fine"), ("y", "poison"), ("x", "fine"), ("y", "fine"), ("z", "fine")]
    {
        add(store, "a", key, what).await;
    }
    let mut told = Vec::new();
    tokio::select! {
        // Not as long as the new one may wait for its turn.
        () = async {
            for _ in 0..10 {
                process.clock.advance(SECOND);
                crate::runtime_stage::quiet().await;
            }
        } => panic!("told {told:?}"),
        () = async {
            for _ in 0..3 {
                let Change { key, position } = changes.next().await.unwrap();
                assert!(shelf.rows("tally", 1)[&key].contains(&position.0));
                told.push((key, position.0));
            }
        } => {}
    }
    assert_eq!(told, [("x".into(), 2), ("x".into(), 4), ("z".into(), 6)]);
    allowed.add_permits(100);
    running.stop().await.unwrap();
    drop(projections);
    // The new one may have had time to take the place.
    let told = changes.next().await;
    let told = if told == Err(ChangesError::Missed(None)) { changes.next().await } else { told };
    assert_eq!(told, Err(ChangesError::Ended));
}

#[tokio::test]
async fn readers_of_changes_are_told_to_read_anew_when_another_version_takes_the_place() {
    let process = Stage::new().process();
    let shelf = Shelf::<1>::new();
    settle(&process, Tally::<1, 1>::default(), &shelf).await;
    let before = add(&process.store, "a", "x", "fine").await;
    let allowed = Arc::new(Semaphore::new(0));
    let runtime = process.runtime().project(Tally::<1, 1>::default(), shelf.clone());
    let running = runtime.project(Slow::<2>(allowed.clone()), shelf.clone()).start().await.unwrap();
    reach(&process, &running, before).await;
    let mut changes = running.projections().changes("tally").unwrap();
    allowed.add_permits(100);
    let told = tokio::select! {
        told = tokio::time::timeout(10 * SECOND, changes.next()) => told,
        () = time_goes_by(&process.clock) => unreachable!(),
    };
    assert_eq!(told, Ok(Err(ChangesError::Missed(None))));
    assert_eq!(
        shelf.served("tally").keys().collect::<Vec<_>>(),
        ["new x"],
        "whoever reads now finds the new rows"
    );
    let after = add(&process.store, "a", "y", "fine").await;
    assert_eq!(changes.next().await, Ok(Change { key: "note-a".into(), position: after }));
}

#[tokio::test]
async fn readers_of_changes_are_told_to_read_anew_after_a_commit_whose_answer_was_lost() {
    let process = Stage::new().process();
    let shelf = Shelf::<1>::new();
    let running = start::<1>(&process, &shelf).await;
    let first = add(&process.store, "a", "x", "fine").await;
    reach(&process, &running, first).await;
    let (calls, commits) = (shelf.calls(), shelf.count("commit"));
    add(&process.store, "a", "x", "fine").await;
    until("the second is in", async || shelf.count("commit") > commits).await;
    let calls_of_one = shelf.calls() - calls;
    let mut changes = running.projections().changes("tally").unwrap();
    crate::runtime_stage::quiet().await;
    shelf.fail_at(shelf.calls() + calls_of_one, crate::projection_stage::Fault::GoneAfter);
    let lost = add(&process.store, "a", "x", "fine").await;
    until("the target is gone", async || shelf.is_cut()).await;
    assert!(shelf.rows("tally", 1)["x"].contains(&lost.0), "it took effect");
    shelf.fail_at(0, crate::projection_stage::Fault::GoneAfter);
    shelf.cut(false);
    let told = tokio::select! {
        told = tokio::time::timeout(10 * SECOND, changes.next()) => told,
        () = time_goes_by(&process.clock) => unreachable!(),
    };
    assert_eq!(told, Ok(Err(ChangesError::Missed(None))));
}

#[tokio::test]
async fn a_slow_reader_of_changes_is_told_how_many_it_missed() {
    let process = Stage::new().process();
    let shelf = Shelf::<1>::new();
    let running = start::<1>(&process, &shelf).await;
    let mut changes = running.projections().changes("tally").unwrap();
    add_many(&process.store, CHANGES_MAX as u64 + 10).await;
    reach(&process, &running, process.store.head().position).await;
    assert_eq!(changes.next().await, Err(ChangesError::Missed(Some(10))));
    assert_eq!(changes.next().await.unwrap().position, Position(11));
}

#[tokio::test]
async fn waiting_in_vain_says_where_it_stands_and_why() {
    let process = Stage::new().process();
    let last = add(&process.store, "a", "x", "fine").await;
    let shelf = Shelf::<1>::new();
    let running = start::<1>(&process, &shelf).await;
    reach(&process, &running, last).await;
    let projections = running.projections();
    let late = projections.wait_until("tally", Position(2), SECOND / 50).await;
    let late_by =
        NotReached::Late { name: "tally".into(), stands_at: last, waits_for: "new events".into() };
    assert_eq!(late, Err(late_by));
    process.faults.set(Fault::Unreadable);
    let next = add(&process.store, "a", "x", "fine").await;
    until("it is noticed", async || running.status()[0].stalled).await;
    let Err(NotReached::Late { waits_for, .. }) =
        projections.wait_until("tally", next, SECOND / 50).await
    else {
        panic!()
    };
    assert_eq!(waits_for, "the log to be read again: the store cannot be read: the disk is gone");
    process.faults.set(Fault::None);
    reach(&process, &running, next).await;
    running.stop().await.unwrap();
    assert!(projections.wait_until("tally", Position(9), SECOND).await.is_err());
    let unknown = projections.wait_until("none", Position(1), SECOND).await;
    assert_eq!(unknown, Err(NotReached::Unknown { name: "none".into() }));
}

#[tokio::test]
async fn progress_is_figures_and_a_line_on_a_terminal() {
    #[derive(Clone, Default)]
    struct Terminal(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Terminal {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let process = Stage::new().process();
    add_many(&process.store, 4_000).await;
    let (shelf, allowed) = (Shelf::<1>::new(), Arc::new(Semaphore::new(0)));
    let running =
        process.runtime().project(Slow::<1>(allowed.clone()), shelf.clone()).start().await.unwrap();
    let through = || running.projections().list().swap_remove(0).consumer.through;
    allowed.add_permits(1_000);
    until("a quarter is in", async || through() == Position(1_000)).await;
    process.clock.advance(SECOND);
    allowed.add_permits(1_000);
    until("half of it is in", async || through() == Position(2_000)).await;
    let status = running.status().swap_remove(0);
    assert_eq!(
        (status.events, status.per_second, status.time_left()),
        (2_000, 2_000, Some(SECOND))
    );
    let terminal = Terminal::default();
    running.show_progress_on(terminal.clone());
    let shown = || String::from_utf8(terminal.0.lock().unwrap().clone()).unwrap();
    let bar = "tally v1 [############------------]  50 % 2000 of 4000 events, 2000/s, 1 s left\n";
    until("it is shown", async || shown() == bar).await;
    let metrics = running.metrics();
    for line in [
        "# TYPE leftfold_consumer_lag_events gauge\nleftfold_consumer_lag_events{consumer=\"tally\"} 2000\n",
        "# TYPE leftfold_consumer_events_total counter\nleftfold_consumer_events_total{consumer=\"tally\"} 2000\n",
        "leftfold_consumer_position{consumer=\"tally\"} 2000\n",
        "leftfold_consumer_head{consumer=\"tally\"} 4000\n",
        "leftfold_consumer_events_per_second{consumer=\"tally\"} 2000\n",
        "leftfold_consumer_seconds_left{consumer=\"tally\"} 1\n",
        "leftfold_consumer_up{consumer=\"tally\"} 1\n",
        "leftfold_consumer_waits_for{consumer=\"tally\",reason=\"its target to take what was read\"} 1\n",
        "leftfold_projection_parked{projection=\"tally\",version=\"1\"} 0\n",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    allowed.add_permits(2_000);
    reach(&process, &running, Position(4_000)).await;
    until("the line goes", async || {
        process.clock.advance(SECOND);
        shown().ends_with("\x1b[1A\r\x1b[J")
    })
    .await;
}

/// A rebuild emptied what readers saw, and they watched it grow.
#[tokio::test]
async fn a_rebuild_is_built_beside_the_rows_that_serve_and_takes_their_place() {
    let process = Stage::new().process();
    let store = &process.store;
    add_many(store, 10).await;
    let shelf = Shelf::<1>::new();
    settle(&process, Tally::<1, 1>::default(), &shelf).await;
    let old = fold_of(store).await;
    let last = add(store, "a", "x", "fine").await;
    for _ in 0..3 {
        let before = shelf.served("tally");
        let allowed = Arc::new(Semaphore::new(0));
        let runtime = process.runtime().project(Slow::<1>(allowed.clone()), shelf.clone());
        let running = runtime.rebuild("tally").start().await.unwrap();
        for _ in 0..10 {
            allowed.add_permits(1);
            tokio::task::yield_now().await;
            assert_eq!(shelf.served("tally"), before, "readers see what was there");
        }
        allowed.add_permits(100);
        reach(&process, &running, last).await;
        assert_eq!(shelf.served("tally")["new x"], [11]);
        running.stop().await.unwrap();
        // What was replaced is gone, and the next start goes on with what serves.
        let code = Code::default();
        settle(&process, Tally::<1, 1>(code.clone()), &shelf).await;
        assert_eq!(code.tries(last), 0);
        let places = [1, 1 + BESIDE].map(|place| shelf.rows("tally", place).len());
        assert_eq!(places.iter().filter(|rows| **rows == 0).count(), 1, "{places:?}");
    }
    assert_ne!(shelf.served("tally"), old);
}

#[tokio::test]
async fn a_rebuild_that_dies_half_way_leaves_what_served_and_is_discarded() {
    let process = Stage::new().process();
    add_many(&process.store, 2_500).await;
    let shelf = Shelf::<1>::new();
    settle(&process, Tally::<1, 1>::default(), &shelf).await;
    let allowed = Arc::new(Semaphore::new(1_500));
    let running = process
        .runtime()
        .project(Slow::<1>(allowed), shelf.clone())
        .rebuild("tally")
        .start()
        .await
        .unwrap();
    until("the first batch is in", async || !shelf.rows("tally", 1 + BESIDE).is_empty()).await;
    drop(running);
    let shelf = shelf.restarted::<1>();
    let code = Code::default();
    settle(&process, Tally::<1, 1>(code.clone()), &shelf).await;
    assert_eq!(shelf.served("tally"), fold_of(&process.store).await);
    assert_eq!((code.tries(Position(1)), shelf.rows("tally", 1 + BESIDE).len()), (0, 0));
    assert_eq!(
        verify(&process.store, &shelf, &Tally::<1, 1>::default()).await.unwrap().events,
        2_500
    );
}

/// A projection that asked for a type under a wrong name waited for it in silence.
#[tokio::test]
async fn a_type_of_which_nothing_was_ever_recorded_is_named_in_the_status() {
    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    enum View {
        #[serde(rename = "note.Added")]
        Added {},
        #[serde(rename = "note.Eroded")]
        Removed {},
    }
    impl leftfold_core::fold::Event for View {
        const NAMESPACE: &'static str = "view";
    }
    struct Counts;
    impl Projection<Memory<u32>> for Counts {
        const NAME: &'static str = "counts";
        type Event = View;
        async fn apply(&self, rows: &mut u32, _: &Recorded<View>) -> Result<(), ProjectionError> {
            *rows += 1;
            Ok(())
        }
    }
    let process = Stage::new().process();
    let first = add(&process.store, "a", "x", "fine").await;
    let running = process.runtime().project(Counts, Memory::new()).start().await.unwrap();
    running.projections().wait_until("counts", first, 10 * SECOND).await.unwrap();
    let named = "new events, though nothing was ever recorded of note.Eroded";
    until("it is said", async || running.status()[0].waits_for == named).await;
    assert!(!running.status()[0].needs_person);
}
