//! Several runtimes on one store divide read models in a database that they share.

use std::time::Duration;

use fastrand::Rng;
use leftfold_core::fold::Recorded;
use leftfold_core::runtime::projection::{
    BESIDE, Place, Projection, ProjectionError, Rows, Target,
};
use leftfold_core::runtime::{RunningRuntime, Runtime};
use leftfold_core::store::Position;
use leftfold_testing::extent;

use crate::projection_stage::{Note, Shelf, add, fold_of};
use crate::runtime_stage::SECOND;
use crate::sharing::{Cluster, LEASE, STEP};

const MODELS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// Notes the positions of all events under their keys.
struct Model<const N: usize, const VERSION: u32 = 1>;

impl<const N: usize, const VERSION: u32> Projection<Shelf> for Model<N, VERSION> {
    const NAME: &'static str = MODELS[N];
    const VERSION: u32 = VERSION;
    type Event = Note;

    async fn apply(
        &self,
        rows: &mut Rows<Shelf>,
        event: &Recorded<Note>,
    ) -> Result<(), ProjectionError> {
        let Note::Added { key, .. } = &event.event;
        rows.add(key, event.envelope.position.0);
        Ok(())
    }
}

fn all_models(runtime: Runtime, shelf: &Shelf) -> Runtime {
    let on = || shelf.another();
    let runtime = runtime.project(Model::<0>, on()).project(Model::<1>, on());
    let runtime = runtime.project(Model::<2>, on()).project(Model::<3>, on());
    runtime.project(Model::<4>, on()).project(Model::<5>, on())
}

/// Runtimes of several processes, on one store and one database.
struct Databases {
    cluster: Cluster,
    shelf: Shelf,
}

impl Databases {
    async fn of(names: &[&str]) -> Self {
        let mut databases = Self { cluster: Cluster::of(&[]).await, shelf: Shelf::shared() };
        for name in names {
            databases.start(name).await;
        }
        databases
    }

    async fn start(&mut self, name: &str) {
        let shelf = self.shelf.clone();
        self.cluster.start_with(name, |runtime| all_models(runtime, &shelf)).await;
    }

    async fn add(&self) -> Position {
        add(&self.cluster.asking.store, "s", "k", "fine").await
    }

    fn runtime(&self, name: &str) -> &RunningRuntime {
        &self.cluster.running[name].1
    }

    /// Everything is in all rows, once, in order.
    async fn assert_are_the_fold(&self) {
        let fold = fold_of(&self.cluster.asking.store).await;
        for name in MODELS {
            assert_eq!(self.shelf.served(name), fold, "{name}");
        }
    }

    async fn works(&self) -> Vec<String> {
        let members = self.cluster.members().await;
        let mut works: Vec<_> =
            members.into_iter().flat_map(|member| member.works).map(|work| work.work).collect();
        works.sort_unstable();
        works
    }
}

#[tokio::test]
async fn places_are_spread_evenly_and_then_nothing_moves() {
    let databases = Databases::of(&["one", "two", "three"]).await;
    databases.add().await;
    databases.cluster.pass(6 * SECOND).await;
    assert_eq!(databases.cluster.loads().await, [2, 2, 2]);
    let spread = databases.cluster.spread().await;
    for _ in 0..20 {
        databases.add().await;
        databases.cluster.pass(3 * SECOND).await;
    }
    assert_eq!(databases.cluster.spread().await, spread);
    databases.assert_are_the_fold().await;
    let works = MODELS.map(|name| format!("$projection:{name} v1 at the shelf"));
    assert_eq!(databases.works().await, works);
    for name in ["one", "two", "three"] {
        let status = databases.runtime(name).status();
        let standing_by = status.iter().filter(|consumer| consumer.standby).count();
        assert_eq!(standing_by, 4, "{status:?}");
        assert!(status.iter().all(|consumer| consumer.lag() == 0), "{status:?}");
    }
}

#[tokio::test]
async fn places_of_a_runtime_that_stops_are_taken_over_within_a_second() {
    let mut databases = Databases::of(&["one", "two", "three"]).await;
    databases.cluster.pass(6 * SECOND).await;
    databases.cluster.stop("two").await;
    databases.add().await;
    databases.cluster.pass(SECOND).await;
    assert_eq!(databases.cluster.loads().await, [3, 3]);
    databases.assert_are_the_fold().await;
}

#[tokio::test]
async fn places_of_a_crashed_runtime_are_taken_over_as_soon_as_they_are_missed() {
    let mut databases = Databases::of(&["one", "two", "three"]).await;
    databases.cluster.pass(6 * SECOND).await;
    databases.cluster.crash("two");
    databases.add().await;
    databases.cluster.pass(4 * SECOND).await;
    databases.assert_are_the_fold().await;
    // Its leases are over: whoever has the places says so now.
    databases.cluster.pass(2 * LEASE).await;
    assert_eq!(databases.cluster.loads().await, [3, 3]);
}

#[tokio::test]
async fn places_of_a_crashed_runtime_are_taken_over_after_its_leases_if_there_is_nothing_new() {
    let mut databases = Databases::of(&["one", "two", "three"]).await;
    databases.cluster.pass(6 * SECOND).await;
    databases.cluster.crash("two");
    databases.cluster.pass(LEASE + SECOND).await;
    assert_eq!(databases.cluster.loads().await, [3, 3]);
    databases.add().await;
    databases.cluster.pass(STEP).await;
    databases.assert_are_the_fold().await;
}

#[tokio::test]
async fn a_runtime_that_comes_gets_its_share_of_the_places() {
    let mut databases = Databases::of(&["one", "two"]).await;
    databases.cluster.pass(6 * SECOND).await;
    assert_eq!(databases.cluster.loads().await, [3, 3]);
    databases.start("three").await;
    databases.add().await;
    databases.cluster.pass(3 * SECOND).await;
    assert_eq!(databases.cluster.loads().await, [2, 2, 2]);
    databases.assert_are_the_fold().await;
}

/// A program of an earlier release takes no lease: it has the place, and that is that.
#[tokio::test]
async fn a_place_that_somebody_has_without_a_lease_is_waited_for() {
    let databases = Databases::of(&[]).await;
    let place = Place { name: MODELS[0], version: 1, lane: 0 };
    let session = databases.shelf.open(&place).await.unwrap();
    let Databases { mut cluster, shelf } = databases;
    for name in ["one", "two"] {
        let shelf = shelf.clone();
        cluster.start_with(name, |runtime| runtime.project(Model::<0>, shelf.another())).await;
    }
    let databases = Databases { cluster, shelf };
    databases.add().await;
    databases.cluster.pass(20 * SECOND).await;
    assert_eq!(databases.works().await, [""; 0]);
    let status = databases.runtime("one").status();
    assert!(status[0].standby && status[0].waits_for.contains("open elsewhere"), "{status:?}");
    drop(session);
    databases.cluster.pass(3 * SECOND).await;
    assert_eq!(databases.works().await, ["$projection:a v1 at the shelf"]);
    assert_eq!(databases.shelf.served("a"), fold_of(&databases.cluster.asking.store).await);
}

#[tokio::test]
async fn a_runtime_that_cannot_reach_the_database_has_no_places_until_it_can() {
    let mut databases = Databases::of(&["one"]).await;
    let far = databases.shelf.another();
    let far_too = far.clone();
    // Its models share one wire.
    let models = move |runtime: Runtime| {
        let runtime = runtime.project(Model::<0>, far_too.clone());
        let runtime = runtime.project(Model::<1>, far_too.clone());
        runtime.project(Model::<2>, far_too.clone()).project(Model::<3>, far_too)
    };
    databases.cluster.start_with("far", models).await;
    databases.cluster.pass(6 * SECOND).await;
    assert_eq!(databases.cluster.loads().await, [3, 3]);
    far.cut(true);
    databases.add().await;
    databases.cluster.pass(5 * SECOND).await;
    assert_eq!(databases.cluster.loads().await, [0, 6]);
    databases.assert_are_the_fold().await;
    let spread = databases.cluster.spread().await;
    databases.cluster.pass(30 * SECOND).await;
    assert_eq!(databases.cluster.spread().await, spread, "nothing moves to it and back");
    far.cut(false);
    databases.cluster.pass(60 * SECOND).await;
    assert_eq!(databases.cluster.loads().await, [3, 3]);
    databases.add().await;
    databases.cluster.pass(SECOND).await;
    databases.assert_are_the_fold().await;
}

/// One process has the version that serves, and one the next: readers of both learn that it took
/// the place, and a process whose program does not know it is given no part in it.
#[tokio::test]
async fn versions_are_works_of_their_own_and_every_process_learns_who_serves() {
    let mut databases = Databases::of(&[]).await;
    let (old, shelf) = (databases.shelf.another(), databases.shelf.clone());
    databases.cluster.start_with("old", |runtime| runtime.project(Model::<0>, old)).await;
    databases.add().await;
    databases.cluster.pass(6 * SECOND).await;
    for name in ["new", "newer"] {
        let (one, two) = (shelf.another(), shelf.another());
        let both = |runtime: Runtime| runtime.project(Model::<0>, one).project(Model::<0, 2>, two);
        databases.cluster.start_with(name, both).await;
    }
    databases.add().await;
    databases.cluster.pass(6 * SECOND).await;
    let works = ["$projection:a v1 at the shelf", "$projection:a v2 at the shelf"];
    assert_eq!(databases.works().await, works);
    assert_eq!(databases.cluster.spread().await["old"].len(), 1, "it has the version it knows");
    assert_eq!(shelf.served("a"), shelf.rows("a", 2));
    for name in ["new", "newer"] {
        let serves = databases.runtime(name).projections().list();
        let serving: Vec<_> =
            serves.iter().filter(|model| model.serves).map(|model| model.version).collect();
        assert_eq!(serving, [2], "{name}");
        let position = databases.add().await;
        let projections = databases.runtime(name).projections();
        tokio::select! {
            reached = projections.wait_until("a", position, 60 * SECOND) => drop(reached.unwrap()),
            () = databases.cluster.pass(30 * SECOND) => panic!("{name} is not told"),
        }
        assert!(shelf.served("a")["k"].contains(&position.0));
    }
    // The process that has the rows of the old version is told of none that it does not have.
    assert!(databases.runtime("old").projections().list()[0].serves);
}

#[tokio::test]
async fn a_rebuild_in_one_process_moves_the_others_to_the_new_place() {
    let mut databases = Databases::of(&["one", "two"]).await;
    databases.add().await;
    databases.cluster.pass(6 * SECOND).await;
    let shelf = databases.shelf.clone();
    let rebuilds = |runtime: Runtime| all_models(runtime, &shelf).rebuild("a").rebuild("b");
    databases.cluster.start_with("three", rebuilds).await;
    databases.add().await;
    databases.cluster.pass(10 * SECOND).await;
    databases.assert_are_the_fold().await;
    for name in ["a", "b"] {
        let place = databases.shelf.serving(name).await.unwrap();
        assert_eq!(place, Some(1 | BESIDE));
        assert!(databases.shelf.rows(name, 1).is_empty(), "the former rows of {name} are kept");
    }
    assert_eq!(databases.cluster.loads().await, [2, 2, 2]);
    assert_eq!(databases.works().await[0], "$projection:a v1 beside at the shelf");
    databases.cluster.stop("three").await;
    databases.add().await;
    databases.cluster.pass(SECOND).await;
    databases.assert_are_the_fold().await;
    assert_eq!(databases.cluster.loads().await, [3, 3]);
}

#[tokio::test]
async fn at_random_every_event_is_in_the_rows_once_and_in_the_end_all_is_even() {
    let seed = leftfold_testing::seed();
    for round in 0..extent(3, 100) {
        at_random(seed.wrapping_add(round)).await;
    }
}

async fn at_random(seed: u64) {
    let mut chance = Rng::with_seed(seed);
    let mut databases = Databases::of(&["one", "two"]).await;
    for _ in 0..40 {
        let name = ["one", "two", "three", "four"][chance.usize(0..4)];
        match (chance.u32(0..8), databases.cluster.running.contains_key(name)) {
            (0, true) => databases.cluster.crash(name),
            (1, true) => databases.cluster.stop(name).await,
            (0..5, false) => databases.start(name).await,
            _ => _ = databases.add().await,
        }
        databases.cluster.pass(STEP * chance.u32(0..8)).await;
    }
    if databases.cluster.running.is_empty() {
        databases.start("one").await;
    }
    databases.cluster.pass(Duration::from_secs(30)).await;
    let (members, loads) = (databases.cluster.running.len(), databases.cluster.loads().await);
    let even: Vec<usize> = (0..members).map(|member| (MODELS.len() + member) / members).collect();
    assert_eq!(loads, even, "seed {seed}");
    databases.assert_are_the_fold().await;
}
