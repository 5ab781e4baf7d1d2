//! The memory target: what every target owes, and a fold that readers see.

mod runtime_stage;

use std::collections::BTreeMap;

use leftfold_core::fold::Recorded;
use leftfold_core::runtime::projection::{Memory, Projection, ProjectionError, Target};
use leftfold_core::testing::target::{self, Subject};
use runtime_stage::{Command, DoorEvent, SECOND, Stage};

/// Rows are a map.
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

    async fn read(&self, target: &Memory<Rows>, name: &str, version: u32, key: &str) -> Option<String> {
        let there = target.versions(name).await.unwrap().contains(&version);
        if there { target.read_version(version, |rows| rows.get(key).cloned()).await.flatten() } else { None }
    }

    async fn served(&self, target: &Memory<Rows>, _: &str, key: &str) -> Option<String> {
        target.read(|rows| rows.get(key).cloned()).await
    }
}

#[tokio::test]
async fn memory_is_a_target() {
    target::conformance(&Map).await;
}

struct Codes;

impl Projection<Memory<Vec<u32>>> for Codes {
    const NAME: &'static str = "codes";
    type Event = DoorEvent;

    async fn apply(&self, rows: &mut Vec<u32>, event: &Recorded<DoorEvent>) -> Result<(), ProjectionError> {
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
    let other = process.store.aggregate::<runtime_stage::Door>().execute("b", Command::WallUp).await.unwrap();
    projections.wait_until("codes", other.position, 10 * SECOND).await.unwrap();
    let verified = projections.verify("codes").await.unwrap();
    assert_eq!((verified.events, verified.through), (50, other.position));
    running.stop().await.unwrap();
}
