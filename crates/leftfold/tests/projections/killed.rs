//! A real process that projects and is killed by SIGKILL, again and again: each event is in the
//! rows once.
//!
//! `LEFTFOLD_KILLS` says how often, `LEFTFOLD_SEED` repeats the choice of moments.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use leftfold::runtime::Runtime;
use leftfold::runtime::projection::{Place, ProjectionError, Rows, Session, Target, verify};
use leftfold::store::Position;
use leftfold_postgres::Postgres;
use leftfold_redis::Redis;
use leftfold_sqlite::Sqlite;
use leftfold_testing::{extent, seed};
use tempfile::TempDir;

use crate::payments::{Balances, Database, Payments, fold, pay};

/// Environment variable for the process that is killed: the database, its place, and that of the
/// store.
pub(crate) const CHILD: &str = "LEFTFOLD_PROJECTING_CHILD";
const EVENTS: u64 = 50_000;
/// Lines that a process that is not killed writes, at least: a thousand events are one transaction.
const LINES_MIN: u64 = EVENTS / 97 + 3 * EVENTS / 1_000;

/// The process that is killed: the tests below start it. It projects until nothing is left.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(told) = std::env::var(CHILD) else { return };
    let [database, place, store] = told.split('\n').collect::<Vec<_>>()[..] else {
        panic!("it is told three things")
    };
    match database {
        "sqlite" => project(store, Sqlite::at(place)).await,
        "postgres" => project(store, Postgres::at(place).unwrap()).await,
        _ => project(store, Redis::at(place).unwrap()).await,
    }
}

async fn project<T: Database>(store: &str, target: T) {
    let store = leftfold::open(store).await.unwrap();
    Runtime::new(&store).project(Payments::<1>, Telling(target)).run_until_idle().await.unwrap();
    println!("done");
}

#[tokio::test]
async fn each_event_is_in_sqlite_once_however_often_the_process_is_killed() {
    let home = TempDir::new().unwrap();
    kill_until_done(
        "sqlite",
        home.path().join("rows").to_str().unwrap(),
        Sqlite::at(home.path().join("rows")),
    )
    .await;
}

#[tokio::test]
async fn each_event_is_in_postgres_once_however_often_the_process_is_killed() {
    let url = leftfold_proving::PostgresServer::shared().database("killed");
    kill_until_done("postgres", &url, Postgres::at(&url).unwrap()).await;
}

#[tokio::test]
async fn each_event_is_in_redis_once_however_often_the_process_is_killed() {
    let url = leftfold_proving::RedisServer::shared().database();
    kill_until_done("redis", &url, Redis::at(&url).unwrap()).await;
}

async fn kill_until_done<T: Database>(database: &str, place: &str, target: T) {
    let home = TempDir::new().unwrap();
    let folder = home.path().join("store");
    let mut random = fastrand::Rng::with_seed(seed());
    let store = leftfold::open(folder.to_str().unwrap()).await.unwrap();
    pay(&store, EVENTS, &mut random).await;
    let expected = fold(&store).await;
    store.close().await.unwrap();
    drop(store);

    let kills: u64 =
        std::env::var("LEFTFOLD_KILLS").map_or(extent(20, 60), |kills| kills.parse().unwrap());
    for _ in 0..kills {
        let mut child = start(database, place, &folder);
        // What a process did not commit is done again: all kills together stay well before the end.
        let lived = wait_for_lines(&mut child, random.u64(1..LINES_MIN / (kills + 1)));
        assert!(lived, "the process ended before it could be killed");
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut last = start(database, place, &folder);
    assert!(!wait_for_lines(&mut last, u64::MAX));
    assert!(last.wait().unwrap().success());

    let store = leftfold::open(folder.to_str().unwrap()).await.unwrap();
    assert_eq!(target.balances("payments").await, expected);
    let verified = verify(&store, &target, &Payments::<1>).await.unwrap();
    assert_eq!((verified.events, verified.through), (EVENTS, store.head().position));
}

fn start(database: &str, place: &str, store: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "killed::child", "--nocapture", "--test-threads=1"])
        .env(CHILD, format!("{database}\n{place}\n{}", store.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// A target that says what it is about to do, so that the process can be killed at just that.
#[derive(Clone)]
struct Telling<T>(T);

struct TellingSession<S>(S);

fn say(what: &str) {
    let _ = std::io::stdout().lock().write_all(format!("it is at {what}\n").as_bytes());
}

impl<T: Database> Target for Telling<T> {
    type Session = TellingSession<T::Session>;
    const BLOCKING: bool = T::BLOCKING;
    const LANES_MAX: usize = T::LANES_MAX;

    async fn open(&self, place: &Place) -> Result<Self::Session, ProjectionError> {
        self.0.open(place).await.map(TellingSession)
    }

    async fn serving(&self, name: &str) -> Result<Option<u32>, ProjectionError> {
        self.0.serving(name).await
    }

    async fn serve(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        self.0.serve(name, version).await
    }

    async fn versions(&self, name: &str) -> Result<Vec<u32>, ProjectionError> {
        self.0.versions(name).await
    }

    async fn discard(&self, name: &str, version: u32) -> Result<(), ProjectionError> {
        self.0.discard(name, version).await
    }

    fn is_away(&self, error: &ProjectionError) -> bool {
        self.0.is_away(error)
    }
}

impl<T: Database> Database for Telling<T> {
    async fn set_up(rows: &mut Rows<T>) -> Result<(), ProjectionError> {
        T::set_up(rows).await
    }

    async fn add(rows: &mut Rows<T>, account: &str, amount: i64) -> Result<(), ProjectionError> {
        T::add(rows, account, amount).await
    }

    async fn balances(&self, name: &str) -> Balances {
        self.0.balances(name).await
    }
}

impl<S: Session> Session for TellingSession<S> {
    type Rows = S::Rows;

    async fn begin(&mut self) -> Result<(), ProjectionError> {
        self.0.begin().await
    }

    fn at(&mut self, position: Position) {
        if position.0.is_multiple_of(97) {
            say("an event");
        }
        self.0.at(position);
    }

    fn rows(&mut self) -> &mut S::Rows {
        self.0.rows()
    }

    async fn note(&mut self, key: &str, value: Option<&[u8]>) -> Result<(), ProjectionError> {
        say("a note");
        self.0.note(key, value).await
    }

    async fn notes(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        at_most: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, ProjectionError> {
        self.0.notes(prefix, after, at_most).await
    }

    async fn commit(&mut self) -> Result<(), ProjectionError> {
        say("a commit");
        self.0.commit().await
    }

    async fn rollback(&mut self) -> Result<(), ProjectionError> {
        self.0.rollback().await
    }
}

/// Tells whether the process wrote so many lines; it goes on meanwhile.
fn wait_for_lines(child: &mut Child, count: u64) -> bool {
    let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut applied = said.filter(|line| line.contains("it is at "));
    (0..count).all(|_| applied.next().is_some())
}
