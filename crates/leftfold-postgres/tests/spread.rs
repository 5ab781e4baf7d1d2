//! Read models in one database, spread over the processes that have them.

use std::collections::BTreeMap;
use std::env;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use leftfold_core::fold::{Event, Recorded};
use leftfold_core::runtime::projection::{Projection, ProjectionError};
use leftfold_core::runtime::{RunningRuntime, Runtime, WORK_LEASE_MIN};
use leftfold_core::store::Store;
use leftfold_postgres::{Postgres, PostgresStore, PostgresStoreOptions, Rows};
use leftfold_proving::PostgresServer;
use serde::{Deserialize, Serialize};
use tokio::time::{interval, timeout};

const MODELS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const URL: &str = "LEFTFOLD_SPREAD_URL";
const NAME: &str = "LEFTFOLD_SPREAD_NAME";
/// Sessions of a process that stands still are ended after this, though they have something to do.
const STILL: &str =
    "options=-c%20idle_session_timeout%3D4s%20-c%20idle_in_transaction_session_timeout%3D4s";
/// Longer than the minute for which a place that was taken in time of need is kept from the member
/// that was to take it.
const PATIENCE: Duration = Duration::from_secs(150);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Sighting {
    Seen { number: u64 },
}

impl Event for Sighting {
    const NAMESPACE: &'static str = "sighting";
}

/// Notes every event: one that goes in twice is there twice.
struct Model<const N: usize>;

impl<const N: usize> Projection<Postgres> for Model<N> {
    const NAME: &'static str = MODELS[N];
    type Event = Sighting;

    async fn set_up(&self, rows: &mut Rows) -> Result<(), ProjectionError> {
        Ok(rows.batch_execute("CREATE TABLE seen (number bigint NOT NULL)").await?)
    }

    async fn apply(
        &self,
        rows: &mut Rows,
        event: &Recorded<Sighting>,
    ) -> Result<(), ProjectionError> {
        let Sighting::Seen { number } = event.event;
        let number = i64::try_from(number)?;
        Ok(rows.send("INSERT INTO seen VALUES ($1)", &[&number]).await?)
    }
}

async fn store(url: &str) -> Store {
    let transaction_within = Duration::from_millis(500);
    let options =
        PostgresStoreOptions { transaction_within, ..PostgresStoreOptions::at(url).unwrap() };
    Store::new(PostgresStore::open_with(options).await.unwrap())
}

fn runtime(store: &Store, name: &str) -> Runtime {
    Runtime::new(store).named(name).lease(WORK_LEASE_MIN)
}

/// Starts a runtime with all models, over a store and a target of its own.
async fn start(url: &str, name: &str) -> RunningRuntime {
    let target = || Postgres::at(&format!("{url}?{STILL}")).unwrap();
    let runtime = runtime(&store(url).await, name);
    let runtime = runtime.project(Model::<0>, target()).project(Model::<1>, target());
    let runtime = runtime.project(Model::<2>, target()).project(Model::<3>, target());
    let runtime = runtime.project(Model::<4>, target()).project(Model::<5>, target());
    runtime.start().await.unwrap()
}

/// Somebody who writes, and looks at what the others do.
struct Watcher {
    url: String,
    store: Store,
    runtime: RunningRuntime,
    written: u64,
}

impl Watcher {
    async fn new() -> Self {
        let url = PostgresServer::shared().database("spread");
        let store = store(&url).await;
        let runtime = runtime(&store, "watcher").start().await.unwrap();
        Self { url, store, runtime, written: 0 }
    }

    async fn write(&mut self) {
        self.written += 1;
        let seen = Sighting::Seen { number: self.written };
        self.store.facts("sighting", "all", &[seen]).record().await.unwrap();
    }

    async fn loads(&self) -> BTreeMap<String, usize> {
        let members = self.runtime.members().await.unwrap();
        let loads = members.into_iter().map(|member| (member.name, member.works.len()));
        loads.filter(|(name, _)| name != "watcher").collect()
    }

    /// Writes until the members have so many models each.
    async fn until(&mut self, wanted: &[(&str, usize)]) {
        let wanted: BTreeMap<String, usize> =
            wanted.iter().map(|(name, load)| ((*name).to_owned(), *load)).collect();
        let mut looks = interval(BETWEEN_LOOKS);
        let reached = async {
            while self.loads().await != wanted {
                looks.tick().await;
                self.write().await;
            }
        };
        let reached = timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{:?}", self.loads().await);
    }

    /// Waits until everything that was written is in all rows; there it is once.
    async fn assert_all_is_there_once(&self) {
        let target = Postgres::at(&self.url).unwrap();
        let mut looks = interval(BETWEEN_LOOKS);
        let all: Vec<i64> = (1..=i64::try_from(self.written).unwrap()).collect();
        for name in MODELS {
            let reached = async {
                loop {
                    let rows = target.reader_of(name).read().await.unwrap();
                    let rows = rows.query("SELECT number FROM seen ORDER BY number", &[]).await;
                    let seen: Vec<i64> = rows.unwrap().iter().map(|row| row.get(0)).collect();
                    if seen.len() >= all.len() {
                        return seen;
                    }
                    looks.tick().await;
                }
            };
            assert_eq!(timeout(PATIENCE, reached).await.unwrap(), all, "{name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_read_models_are_spread_over_three_runtimes_and_handed_over_by_one_that_stops() {
    let mut watcher = Watcher::new().await;
    let one = start(&watcher.url, "one").await;
    let (two, three) = (start(&watcher.url, "two").await, start(&watcher.url, "three").await);
    watcher.until(&[("one", 2), ("two", 2), ("three", 2)]).await;
    for work in watcher.runtime.members().await.unwrap().iter().flat_map(|member| &member.works) {
        let is_one_of_them =
            |name: &&str| work.work.starts_with(&format!("$projection:{name} v1 at PostgreSQL "));
        assert!(MODELS.iter().any(is_one_of_them), "{work:?}");
    }
    watcher.assert_all_is_there_once().await;
    two.stop().await.unwrap();
    watcher.until(&[("one", 3), ("three", 3)]).await;
    watcher.assert_all_is_there_once().await;
    let two = start(&watcher.url, "two").await;
    watcher.until(&[("one", 2), ("two", 2), ("three", 2)]).await;
    for runtime in [one, two] {
        runtime.stop().await.unwrap();
    }
    watcher.until(&[("three", 6)]).await;
    watcher.assert_all_is_there_once().await;
    three.stop().await.unwrap();
}

/// The process that is killed: the test below starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member() {
    let (Ok(url), Ok(name)) = (env::var(URL), env::var(NAME)) else { return };
    let runtime = start(&url, &name).await;
    std::future::pending::<()>().await;
    drop(runtime);
}

/// Processes, killed when the test ends.
struct Members(BTreeMap<&'static str, Child>);

impl Members {
    fn start(&mut self, url: &str, name: &'static str) {
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "member", "--nocapture", "--test-threads=1"])
            .envs([(URL, url), (NAME, name)])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.0.insert(name, child);
    }

    fn kill(&mut self, name: &str) {
        let mut child = self.0.remove(name).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn signal(&self, name: &str, signal: &str) {
        let id = self.0[name].id().to_string();
        let sent = Command::new("sh").args(["-c", r#"kill -s "$0" -- "$1""#, signal, &id]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        for child in self.0.values_mut() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_or_one_that_stands_still_had_is_taken_over_and_no_row_is_doubled() {
    let mut watcher = Watcher::new().await;
    let mut members = Members(BTreeMap::new());
    for name in ["one", "two", "three"] {
        members.start(&watcher.url, name);
    }
    watcher.until(&[("one", 2), ("two", 2), ("three", 2)]).await;
    members.kill("two");
    watcher.until(&[("one", 3), ("three", 3)]).await;
    watcher.assert_all_is_there_once().await;
    members.start(&watcher.url, "two");
    watcher.until(&[("one", 2), ("two", 2), ("three", 2)]).await;
    members.signal("one", "STOP");
    watcher.until(&[("two", 3), ("three", 3)]).await;
    watcher.assert_all_is_there_once().await;
    members.signal("one", "CONT");
    watcher.until(&[("one", 2), ("two", 2), ("three", 2)]).await;
    watcher.assert_all_is_there_once().await;
}
