//! The memory target: what every target owes, and a fold that readers see.

use std::collections::BTreeMap;

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::projection::{Memory, Projection, ProjectionError, Target};
use leftfold_testing::target::{self, Subject};

use crate::runtime_stage::{Command, DoorEvent, SECOND, Stage};

/// Rows are a map.
#[derive(Clone)]
struct Map;

type Rows = BTreeMap<String, String>;

impl Subject for Map {
    type Target = Memory<Rows>;
    type Home = Memory<Rows>;

    async fn home(&self) -> Memory<Rows> {
        Memory::new()
    }

    async fn target(&self, home: &Memory<Rows>) -> Memory<Rows> {
        home.clone()
    }

    async fn set_up(&self, _: &mut Rows) -> Result<(), ProjectionError> {
        Ok(())
    }

    async fn write(&self, rows: &mut Rows, key: &str, value: &str) -> Result<(), ProjectionError> {
        rows.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    async fn remove(&self, rows: &mut Rows, key: &str) -> Result<(), ProjectionError> {
        rows.remove(key);
        Ok(())
    }

    async fn fail(&self, _: &mut Rows) -> ProjectionError {
        ProjectionError::message("it fails")
    }

    async fn read(
        &self,
        target: &Memory<Rows>,
        name: &str,
        version: u32,
        key: &str,
    ) -> Option<String> {
        let there = target.versions(name).await.unwrap().contains(&version);
        if there {
            target.read_version(version, |rows| rows.get(key).cloned()).await.flatten()
        } else {
            None
        }
    }

    async fn served(&self, target: &Memory<Rows>, _: &str, key: &str) -> Option<String> {
        target.read(|rows| rows.get(key).cloned()).await
    }
}

#[tokio::test]
async fn memory_is_a_target() {
    target::conformance(&Map).await;
    target::following(&Map).await;
}

struct Codes;

impl Projection<Memory<Vec<u32>>> for Codes {
    const NAME: &'static str = "codes";
    type Event = DoorEvent;

    async fn apply(
        &self,
        rows: &mut Vec<u32>,
        event: &Recorded<DoorEvent>,
    ) -> Result<(), ProjectionError> {
        if let DoorEvent::OpeningAsked(opening) = &event.event {
            rows.push(opening.code);
        }
        Ok(())
    }
}

#[tokio::test]
async fn what_was_written_is_read_after_waiting_for_it() {
    let stage = Stage::new();
    let process = stage.process();
    process.ask("a", 1).await;
    let codes = Memory::new();
    let running = process.runtime().project(Codes, codes.clone()).start().await.unwrap();
    let projections = running.projections();
    for code in 2..50 {
        let asked = process.ask("a", code).await;
        let reached = projections.wait_until("codes", asked.0, 10 * SECOND).await.unwrap();
        assert!(reached >= asked.0);
        assert_eq!(codes.read(|codes| codes.clone()).await, (1..=code).collect::<Vec<_>>());
    }
    let other = process
        .store
        .aggregate::<crate::runtime_stage::Door>()
        .execute("b", Command::WallUp)
        .await
        .unwrap();
    projections.wait_until("codes", other.position, 10 * SECOND).await.unwrap();
    let verified = projections.verify("codes").await.unwrap();
    assert_eq!((verified.events, verified.through), (50, other.position));
    running.stop().await.unwrap();
}

/// Refuses some codes, panics at others, and hangs once at another.
struct Picky {
    hangs: std::sync::atomic::AtomicBool,
}

impl Projection<Memory<Vec<u32>>> for Picky {
    const NAME: &'static str = "picky";
    type Event = DoorEvent;

    async fn apply(
        &self,
        rows: &mut Vec<u32>,
        event: &Recorded<DoorEvent>,
    ) -> Result<(), ProjectionError> {
        let DoorEvent::OpeningAsked(opening) = &event.event else { return Ok(()) };
        match opening.code {
            3 => return Err(ProjectionError::message("not three")),
            5 => panic!("five"),
            7 if self.hangs.swap(false, std::sync::atomic::Ordering::SeqCst) => {
                std::future::pending().await
            }
            code => rows.push(code),
        }
        Ok(())
    }
}

/// A rollback empties what is in memory, so an event that fails must not lead there, and one that
/// hangs begins again.
#[tokio::test]
async fn what_fails_in_memory_is_parked_and_everything_else_is_there_once() {
    let stage = Stage::new();
    let process = stage.process();
    for code in 1..=9 {
        process.ask(&format!("door{code}"), code).await;
    }
    process.ask("door3", 33).await;
    let codes = Memory::new();
    let picky = Picky { hangs: true.into() };
    let running = process.runtime().project(picky, codes.clone()).start().await.unwrap();
    let projections = running.projections();
    tokio::select! {
        reached = projections.wait_until("picky", process.store.head().position, 10 * SECOND) => {
            let parked = "picky is at 10, but the event at 3 is parked, retry or skip it: not three";
            assert_eq!(reached.unwrap_err().to_string(), parked);
        }
        () = async {
            loop {
                process.clock.advance(SECOND);
                tokio::task::yield_now().await;
            }
        } => {}
    }
    assert_eq!(codes.read(|codes| codes.clone()).await, [1, 2, 4, 6, 7, 8, 9]);
    let parked: Vec<_> =
        projections.parked("picky").unwrap().into_iter().map(|item| item.key).collect();
    assert_eq!(parked, ["door-door3", "door-door5", "door-door3"]);
    assert_eq!(projections.verify("picky").await.unwrap().events, 10);
    // Trying again changes nothing but the count, and what is let go lets the rest of its key go
    // on.
    let again = projections.retry("picky", "door-door3").await.unwrap();
    assert_eq!(again.stopped_by.unwrap().state.error(), Some("not three"));
    projections.skip("picky", leftfold_core::store::Position(3), "ann").await.unwrap();
    assert_eq!(codes.read(|codes| codes.clone()).await, [1, 2, 4, 6, 7, 8, 9, 33]);
}

/// Panics at a code after it has written it.
struct HalfWay;

impl Projection<Memory<Vec<u32>>> for HalfWay {
    const NAME: &'static str = "half_way";
    type Event = DoorEvent;

    async fn apply(
        &self,
        rows: &mut Vec<u32>,
        event: &Recorded<DoorEvent>,
    ) -> Result<(), ProjectionError> {
        let DoorEvent::OpeningAsked(opening) = &event.event else { return Ok(()) };
        rows.push(opening.code);
        assert!(opening.code != 2, "two");
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_half_way_leaves_nothing_of_its_event_in_memory_however_often_it_is_retried() {
    let stage = Stage::new();
    let process = stage.process();
    for code in 1..=3 {
        process.ask(&format!("door{code}"), code).await;
    }
    let codes = Memory::new();
    let running = process.runtime().project(HalfWay, codes.clone()).start().await.unwrap();
    let projections = running.projections();
    let time_goes_by = async {
        loop {
            process.clock.advance(SECOND);
            tokio::task::yield_now().await;
        }
    };
    let story = async {
        let head = process.store.head().position;
        projections.wait_until("half_way", head, 10 * SECOND).await.unwrap();
        assert_eq!(codes.read(|codes| codes.clone()).await, [1, 3]);
        let _ = projections.retry("half_way", "door-door2").await;
        crate::runtime_stage::until("it is rebuilt", async || {
            codes.read(|codes| codes == &[1, 3]).await
        })
        .await;
        assert_eq!(projections.parked("half_way").unwrap().len(), 1);
    };
    tokio::select! {
        () = story => {}
        () = time_goes_by => {}
    }
}

/// The codes that were asked for.
#[derive(Debug, Default)]
struct Seen {
    codes: Vec<u32>,
}

/// Panics at a code.
struct Explodes(u32);

impl Projection<Memory<Seen>> for Explodes {
    const NAME: &'static str = "seen";
    type Event = DoorEvent;

    async fn apply(
        &self,
        rows: &mut Seen,
        event: &Recorded<DoorEvent>,
    ) -> Result<(), ProjectionError> {
        let DoorEvent::OpeningAsked(opening) = &event.event else { return Ok(()) };
        assert!(opening.code != self.0, "it exploded");
        rows.codes.push(opening.code);
        // Somebody may look now.
        tokio::task::yield_now().await;
        Ok(())
    }
}

/// After a panic readers saw an empty model, which grew before their eyes.
#[tokio::test]
async fn readers_of_memory_never_see_less_after_a_panic() {
    let process = Stage::new().process();
    for code in 1..=200 {
        process.ask(&format!("door{code}"), code).await;
    }
    let seen = Memory::<Seen>::new();
    let running = process.runtime().project(Explodes(777), seen.clone()).start().await.unwrap();
    let projections = running.projections();
    projections.wait_until("seen", process.store.head().position, 10 * SECOND).await.unwrap();
    let explodes = process.ask("door777", 777).await;
    let last = process.ask("door1", 201).await;
    let mut least = usize::MAX;
    let read = async {
        loop {
            least = least.min(seen.read(|seen| seen.codes.len()).await);
            process.clock.advance(SECOND / 10);
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = read => {}
        reached = projections.wait_until("seen", last.0, 10 * SECOND) => assert_eq!(reached, Ok(last.0)),
    }
    assert_eq!(least, 200);
    let mut all: Vec<u32> = (1..=201).collect();
    assert_eq!(seen.read(|seen| seen.codes.clone()).await, all);
    assert_eq!(seen.read_version(1, |seen| seen.codes.clone()).await, Some(all.clone()));
    let parked = projections.parked("seen").unwrap();
    assert_eq!(parked.iter().map(|item| item.position).collect::<Vec<_>>(), [explodes.0]);
    // What was rebuilt goes on, and can be spoiled and rebuilt again.
    for code in [202, 777, 203] {
        let asked = process.ask(&format!("other{code}"), code).await;
        tokio::select! {
            _ = projections.wait_until("seen", asked.0, 10 * SECOND) => {}
            () = async {
                loop {
                    process.clock.advance(SECOND / 10);
                    tokio::task::yield_now().await;
                }
            } => {}
        }
    }
    all.extend([202, 203]);
    assert_eq!(seen.read(|seen| seen.codes.clone()).await, all);
    assert_eq!(projections.parked("seen").unwrap().len(), 2);
}
