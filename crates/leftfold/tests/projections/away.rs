//! Databases that go away and come back while events flow: nothing is lost, and nothing is parked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leftfold::fold::Recorded;
use leftfold::runtime::projection::{Projection, ProjectionError, Projections, verify};
use leftfold::runtime::{RunningRuntime, Runtime};
use leftfold::store::{Position, Store};
use leftfold_postgres::Postgres;
use leftfold_proving::{PostgresServer, RedisServer};
use leftfold_redis::Redis;
use leftfold_sqlite::Sqlite;
use leftfold_sqlite::rusqlite::Connection;
use leftfold_testing::seed;
use tempfile::TempDir;

use crate::payments::{AccountEvent, Database, Payments, fold, pay, pay_one};

const PATIENCE: Duration = Duration::from_secs(120);

/// A server that can be killed.
trait Server {
    fn stop_hard(&mut self);
    fn start_again(&mut self);
}

impl Server for PostgresServer {
    fn stop_hard(&mut self) {
        self.stop_hard();
    }

    fn start_again(&mut self) {
        self.start_again();
    }
}

impl Server for RedisServer {
    fn stop_hard(&mut self) {
        self.stop_hard();
    }

    fn start_again(&mut self) {
        self.start_again();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_that_is_killed_while_events_flow_costs_nothing_but_time() {
    let server = PostgresServer::start();
    let target = Postgres::at(&server.url()).unwrap();
    stop_and_start_again(server, target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_is_killed_while_events_flow_costs_nothing_but_time() {
    let server = RedisServer::start_append_only();
    let target = Redis::at(&server.url()).unwrap();
    stop_and_start_again(server, target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_that_forgets_everything_is_written_anew() {
    let server = RedisServer::start();
    let target = Redis::at(&server.url()).unwrap();
    stop_and_start_again(server, target).await;
}

async fn stop_and_start_again<T: Database>(mut server: impl Server, target: T) {
    let mut random = fastrand::Rng::with_seed(seed());
    let store = Store::memory();
    let running =
        Runtime::new(&store).project(Payments::<1>, target.clone()).start().await.unwrap();
    let projections = running.projections();
    for _ in 0..3 {
        let before = store.head().position;
        pay(&store, random.u64(1_000..5_000), &mut random).await;
        // Somewhere in the middle of it.
        reach(&projections, Position(before.0 + random.u64(1..1_000))).await;
        server.stop_hard();
        pay(&store, 100, &mut random).await;
        waits_for(&running, "its target to come back").await;
        server.start_again();
        reach(&projections, store.head().position).await;
        assert_eq!(projections.parked("payments").unwrap(), []);
        assert_eq!(target.balances("payments").await, fold(&store).await);
    }
    running.stop().await.unwrap();
    let verified = verify(&store, &target, &Payments::<1>).await.unwrap();
    assert_eq!(verified.events, store.head().position.0);
}

async fn reach(projections: &Projections, position: Position) {
    projections.wait_until("payments", position, PATIENCE).await.unwrap();
}

/// Waits until the status says so.
async fn waits_for(running: &RunningRuntime, what: &str) {
    let said = async {
        while !running.status()[0].waits_for.contains(what) {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, said).await;
    assert!(waited.is_ok(), "it waits for {:?}, not for {what:?}", running.status()[0].waits_for);
}

/// A file system of 2 MiB, where the tests may mount one; it goes with the test.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let mut mount = std::process::Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(folder.path())
            .stderr(std::process::Stdio::null());
        let mounted = mount.status().is_ok_and(|status| status.success());
        mounted.then(|| Self(folder))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_sqlite_is_named_and_waited_for() {
    let Some(disk) = SmallDisk::mount() else {
        eprintln!("no file system can be mounted here, so there is none that is full");
        return;
    };
    let ballast = disk.0.path().join("ballast");
    let target = Sqlite::at(disk.0.path().join("rows"));
    let store = Store::memory();
    let running =
        Runtime::new(&store).project(Payments::<1>, target.clone()).start().await.unwrap();
    let projections = running.projections();
    reach(&projections, pay_one(&store, 1, 1).await).await;
    fill_up(&ballast);
    let mut random = fastrand::Rng::with_seed(seed());
    pay(&store, 20_000, &mut random).await;
    waits_for(&running, "database or disk is full").await;
    assert!(
        running.status()[0].waits_for.contains("payments.v1.db"),
        "{:?}",
        running.status()[0].waits_for
    );
    assert_eq!(projections.parked("payments").unwrap(), []);
    std::fs::remove_file(&ballast).unwrap();
    reach(&projections, store.head().position).await;
    assert_eq!(projections.parked("payments").unwrap(), []);
    assert_eq!(target.balances("payments").await, fold(&store).await);
    assert_eq!(projections.verify("payments").await.unwrap().events, store.head().position.0);
    running.stop().await.unwrap();
}

/// Takes all the room that there is.
fn fill_up(file: &std::path::Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(file).unwrap();
    while file.write_all(&[7; 4_096]).is_ok() {}
}

/// Rows in a file that may not grow beyond some pages, until there is room.
#[derive(Clone, Default)]
struct Cramped(Arc<AtomicBool>);

impl Projection<Sqlite> for Cramped {
    const NAME: &'static str = "payments";
    type Event = AccountEvent;

    async fn set_up(&self, rows: &mut Connection) -> Result<(), ProjectionError> {
        Sqlite::set_up(rows).await
    }

    async fn apply(
        &self,
        rows: &mut Connection,
        event: &Recorded<AccountEvent>,
    ) -> Result<(), ProjectionError> {
        let pages = if self.0.load(Ordering::Relaxed) { 1 << 30 } else { 12 };
        rows.pragma_update(None, "max_page_count", pages)?;
        Projection::<Sqlite>::apply(&Payments::<1>, rows, event).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_room_is_named_and_waited_for() {
    let home = TempDir::new().unwrap();
    let target = Sqlite::at(home.path());
    let (store, cramped) = (Store::memory(), Cramped::default());
    let running =
        Runtime::new(&store).project(cramped.clone(), target.clone()).start().await.unwrap();
    pay(&store, 5_000, &mut fastrand::Rng::with_seed(seed())).await;
    waits_for(&running, "database or disk is full").await;
    cramped.0.store(true, Ordering::Relaxed);
    let projections = running.projections();
    reach(&projections, store.head().position).await;
    assert_eq!(projections.parked("payments").unwrap(), []);
    assert_eq!(target.balances("payments").await, fold(&store).await);
    running.stop().await.unwrap();
}
