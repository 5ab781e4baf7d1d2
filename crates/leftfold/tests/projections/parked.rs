//! SQL that fails: its key waits, the others go on.

use std::time::Duration;

use leftfold::runtime::Runtime;
use leftfold::runtime::projection::ParkedState;
use leftfold::store::Store;
use leftfold_postgres::Postgres;
use leftfold_redis::Redis;
use leftfold_sqlite::Sqlite;
use tempfile::TempDir;

use crate::payments::{Balance, Database, Payments, fold, pay_one};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn sql_that_fails_in_sqlite_parks_its_key_alone() {
    let home = TempDir::new().unwrap();
    fails_for_one_key(Sqlite::at(home.path()), "CHECK constraint failed").await;
}

#[tokio::test]
async fn sql_that_fails_in_postgres_parks_its_key_alone() {
    let url = leftfold_proving::PostgresServer::shared().database("parked");
    fails_for_one_key(Postgres::at(&url).unwrap(), "violates check constraint").await;
}

#[tokio::test]
async fn what_redis_cannot_take_parks_its_key_alone() {
    let url = leftfold_proving::RedisServer::shared().database();
    fails_for_one_key(Redis::at(&url).unwrap(), "a key of 0 bytes").await;
}

async fn fails_for_one_key<T: Database>(target: T, why: &str) {
    let store = Store::memory();
    for account in 1..=20 {
        pay_one(&store, account, 10).await;
    }
    let failing = pay_one(&store, 7, -1).await;
    let waiting = pay_one(&store, 7, 5).await;
    let last = pay_one(&store, 8, 5).await;
    let running =
        Runtime::new(&store).project(Payments::<1>, target.clone()).start().await.unwrap();
    let projections = running.projections();
    projections.wait_until("payments", last, PATIENCE).await.unwrap();

    let parked = projections.parked("payments").unwrap();
    assert_eq!(parked.iter().map(|item| item.position).collect::<Vec<_>>(), [failing, waiting]);
    assert!(parked.iter().all(|item| item.key == "account-7"));
    assert!(
        parked[0].state.error().is_some_and(|error| error.contains(why)),
        "{:?}",
        parked[0].state
    );
    assert_eq!(parked[1].state, ParkedState::Waits);
    let balances = target.balances("payments").await;
    assert_eq!(
        (balances["7"], balances["8"]),
        (Balance { sum: 10, payments: 1 }, Balance { sum: 15, payments: 2 })
    );

    assert_eq!(projections.retry("payments", "account-7").await.unwrap().applied, []);
    let skipped = projections.skip("payments", failing, "ann").await.unwrap();
    assert_eq!((skipped.applied, skipped.stopped_by), (vec![waiting], None));
    assert_eq!(target.balances("payments").await, fold(&store).await);
    assert_eq!(projections.verify("payments").await.unwrap().events, 23);
    running.stop().await.unwrap();
}
