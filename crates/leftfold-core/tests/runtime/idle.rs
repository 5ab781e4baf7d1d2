//! Running until idle: everything that there is to do is done, in the caller's task, and nothing is
//! left behind.

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_core::runtime::projection::{Memory, Projection, ProjectionError};
use leftfold_core::store::Position;

use crate::projection_stage::{Shelf, Tally, add_many, fold_of};
use crate::runtime_stage::{DoorEvent, Opener, Opening, SECOND, Stage, in_doubt, story};

/// Counts what doors did.
struct Openings<const VERSION: u32>;

impl<const VERSION: u32> Projection<Memory<u32>> for Openings<VERSION> {
    const NAME: &'static str = "openings";
    const VERSION: u32 = VERSION;
    type Event = DoorEvent;

    async fn apply(
        &self,
        rows: &mut u32,
        event: &Recorded<DoorEvent>,
    ) -> Result<(), ProjectionError> {
        *rows += u32::from(matches!(event.event, DoorEvent::Opened { .. }));
        Ok(())
    }
}

/// Asks again, so many seconds after a door has opened for the first time.
#[derive(Default)]
struct Again<const SECONDS: u32>;

impl<const SECONDS: u32> Process for Again<SECONDS> {
    const NAME: &'static str = "again";
    type Event = DoorEvent;

    fn targets() -> Targets {
        Targets::none()
    }

    fn correlate(event: &Recorded<DoorEvent>) -> Correlation {
        match event.event {
            DoorEvent::Opened { .. } if event.version().0 <= 2 => {
                Correlation::starts(event.stream_id())
            }
            _ => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<DoorEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<DoorEvent>, door: &Context) -> Reaction {
        match trigger {
            Trigger::TimerFired { .. } => {
                Reaction::none().effect::<Opener>(&door.key, &Opening { code: 2 })
            }
            _ => Reaction::none().timer("again", SECOND * SECONDS),
        }
    }
}

#[tokio::test]
async fn what_follows_from_what_follows_is_done_too() {
    let process = Stage::new().process();
    process.ask("a", 1).await;
    process.ask("b", 1).await;
    // What is recorded from now on is due by this clock.
    process.clock.advance(60 * SECOND);
    let (openings, opener) = (Memory::new(), Opener::opening().with_history());
    let runtime = process.runtime().project(Openings::<1>, openings.clone()).effect(opener.clone());
    let statuses = runtime.process::<Again<0>>().run_until_idle().await.unwrap();
    // Each door was asked for, opened, asked for again by the timer, and opened again: all of that
    // was taken up.
    assert_eq!((opener.performs(), openings.read(|openings| *openings).await), (4, 4));
    let head = process.store.head().position;
    let stand: Vec<_> =
        statuses.iter().map(|status| (status.name, status.through, status.under_way)).collect();
    assert_eq!(stand, [("again", head, 0), ("open", head, 0), ("openings", head, 0)]);
    assert!(statuses.iter().all(|status| status.waits_for == "stopped"));
}

#[tokio::test]
async fn timers_that_are_due_later_and_doubts_are_waiting_and_not_under_way() {
    let process = Stage::new().process();
    process.ask("a", 1).await;
    let opener = Opener::opening().with_history();
    let runtime = process.runtime().effect(opener.clone()).process::<Again<3_600>>();
    let statuses = runtime.run_until_idle().await.unwrap();
    let under_way: Vec<_> = statuses.iter().map(|status| (status.name, status.under_way)).collect();
    assert_eq!((under_way, opener.performs()), (vec![("again", 0), ("open", 0)], 1));
    let process = Stage::new().process();
    process.ask("a", 1).await;
    let doubtful = Opener::doing(|_| async { in_doubt("who knows") }).with_history();
    let statuses = process.runtime().effect(doubtful.clone()).run_until_idle().await.unwrap();
    assert_eq!((statuses[0].waiting, doubtful.performs()), (1, 1));
}

#[tokio::test]
async fn an_empty_store_is_idle_at_once() {
    let process = Stage::new().process();
    let runtime = process
        .runtime()
        .project(Openings::<1>, Memory::new())
        .effect(Opener::opening().with_history());
    let statuses = runtime.process::<Again<1>>().run_until_idle().await.unwrap();
    assert!(statuses.iter().all(|status| status.through == Position::START));
    assert_eq!(process.runtime().run_until_idle().await.unwrap(), []);
}

#[test]
fn nothing_runs_after_it_has_returned() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (process, shelf) = (Stage::new().process(), Shelf::<1, true>::new());
    runtime.block_on(async {
        add_many(&process.store, 3_000).await;
        for run in 0..3 {
            add_many(&process.store, run).await;
            process
                .runtime()
                .project(Tally::<1, 1>::default(), shelf.clone())
                .run_until_idle()
                .await
                .unwrap();
            let calls = shelf.calls();
            // The place is free, so its thread has let go of it.
            assert_eq!(runtime.handle().metrics().num_alive_tasks(), 0);
            assert_eq!(shelf.rows("tally", 1), fold_of(&process.store).await);
            assert_eq!(shelf.calls(), calls);
        }
    });
}

#[tokio::test]
async fn a_version_that_is_built_has_taken_its_place_before_all_is_idle() {
    let process = Stage::new().process();
    // Exactly a batch, so that its end is the end of the log.
    add_many(&process.store, 1_000).await;
    let shelf = Shelf::<1>::new();
    process
        .runtime()
        .project(Tally::<1, 1>::default(), shelf.clone())
        .run_until_idle()
        .await
        .unwrap();
    process
        .runtime()
        .project(Tally::<2, 1>::default(), shelf.clone())
        .run_until_idle()
        .await
        .unwrap();
    assert_eq!((shelf.rows("tally", 2).len(), shelf.served("tally")), (7, shelf.rows("tally", 2)));
}

#[tokio::test]
async fn effects_never_fire_from_a_rebuild() {
    let process = Stage::new().process();
    for door in ["a", "b"] {
        process.ask(door, 1).await;
    }
    let (openings, opener) = (Memory::new(), Opener::opening().with_history());
    let runtime = |openings: &Memory<u32>| {
        process.runtime().project(Openings::<1>, openings.clone()).effect(opener.clone())
    };
    runtime(&openings).run_until_idle().await.unwrap();
    let told = story(&process.store).await;
    runtime(&openings).rebuild("openings").run_until_idle().await.unwrap();
    let newer = Memory::new();
    process
        .runtime()
        .project(Openings::<2>, newer.clone())
        .effect(opener.clone())
        .run_until_idle()
        .await
        .unwrap();
    assert_eq!((openings.read(|count| *count).await, newer.read(|count| *count).await), (2, 2));
    assert_eq!((opener.performs(), story(&process.store).await), (2, told));
}
