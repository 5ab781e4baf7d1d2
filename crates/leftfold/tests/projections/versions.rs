//! Two versions at once, the swap as readers see it, and rows that belong to another log.

use std::time::Duration;

use leftfold::runtime::{Runtime, StartError};
use leftfold::store::Store;
use leftfold_postgres::Postgres;
use leftfold_redis::Redis;
use leftfold_sqlite::Sqlite;
use leftfold_testing::seed;
use tempfile::TempDir;

use crate::payments::{Database, Payments, fold, pay};

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn versions_in_sqlite_live_side_by_side_and_belong_to_their_log() {
    let home = TempDir::new().unwrap();
    let target = || Sqlite::at(home.path());
    versions(target).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_in_postgres_live_side_by_side_and_belong_to_their_log() {
    let url = leftfold_proving::PostgresServer::shared().database("versions");
    versions(|| Postgres::at(&url).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_in_redis_live_side_by_side_and_belong_to_their_log() {
    let url = leftfold_proving::RedisServer::shared().database();
    versions(|| Redis::at(&url).unwrap()).await;
}

/// Readers have a target of their own, as in another process: what they see goes through the
/// database.
async fn versions<T: Database>(target: impl Fn() -> T) {
    let readers = target();
    let mut random = fastrand::Rng::with_seed(seed());
    let store = Store::memory();
    pay(&store, 3_000, &mut random).await;
    Runtime::new(&store).project(Payments::<1>, target()).run_until_idle().await.unwrap();
    let before = fold(&store).await;
    assert_eq!(readers.balances("payments").await, before);
    assert_eq!(readers.serving("payments").await.unwrap(), Some(1));

    // Whatever readers find while it swaps is the fold at some moment, never a part of one.
    pay(&store, 3_000, &mut random).await;
    let after = fold(&store).await;
    let both = Runtime::new(&store)
        .project(Payments::<1>, target())
        .project(Payments::<2>, target())
        .start()
        .await
        .unwrap();
    both.projections().wait_until("payments", store.head().position, PATIENCE).await.unwrap();
    while readers.serving("payments").await.unwrap() != Some(2) {
        let seen: i64 =
            readers.balances("payments").await.values().map(|balance| balance.payments).sum();
        assert!((3_000..=6_000).contains(&seen), "{seen} payments are seen");
    }
    assert_eq!(readers.balances("payments").await, after);
    assert_eq!(readers.versions("payments").await.unwrap(), [1, 2]);
    both.stop().await.unwrap();

    foreign(&store, target).await;
}

/// Rows of one log behind another: an error that says what to do, and rows that are as they were.
async fn foreign<T: Database>(store: &Store, target: impl Fn() -> T) {
    let rows = target().balances("payments").await;
    let other = Store::memory();
    pay(&other, 9_000, &mut fastrand::Rng::with_seed(1)).await;
    let error = Runtime::new(&other).project(Payments::<2>, target()).start().await.err().unwrap();
    assert!(
        matches!(error, StartError::ForeignProjection { name: "payments", version: 2, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("Runtime::rebuild(\"payments\")"), "{error}");
    assert_eq!(target().balances("payments").await, rows);
    Runtime::new(store).project(Payments::<2>, target()).run_until_idle().await.unwrap();
    Runtime::new(&other)
        .project(Payments::<2>, target())
        .rebuild("payments")
        .run_until_idle()
        .await
        .unwrap();
    assert_eq!(target().balances("payments").await, fold(&other).await);
}
