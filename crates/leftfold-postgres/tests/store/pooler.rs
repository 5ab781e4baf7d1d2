//! A pooler between the store and the server.

use leftfold_core::store::{Append, EventType, NewEvent, Position, Query, Read, Store};
use leftfold_postgres::{PostgresError, PostgresStore, PostgresStoreError};
use leftfold_proving::{PgBouncer, PoolMode, PostgresServer};

use crate::support::rows;

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_refused_and_nothing_is_left() {
    let server = PostgresServer::start();
    let pooler = PgBouncer::before(&server, PoolMode::Transaction);
    let refused = PostgresStore::open(&format!("{}?schema=pooled", pooler.url())).await;
    let error = refused.expect_err("a session is shared");
    let PostgresStoreError::Connection(PostgresError::SharedSession) = &error else {
        panic!("{error:?}");
    };
    assert!(error.to_string().contains("session mode"), "{error}");
    let rows = rows(&server.url()).await;
    let held = rows.query_one("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'", &[]);
    assert_eq!(held.await.unwrap().get::<_, i64>(0), 0);
}

#[tokio::test]
async fn a_pooler_in_session_mode_serves() {
    let server = PostgresServer::start();
    let pooler = PgBouncer::before(&server, PoolMode::Session);
    let url = format!("{}?schema=pooled", pooler.url());
    // Each opening takes sessions that another one had.
    for opening in 1..=3_u64 {
        let store = Store::new(PostgresStore::open(&url).await.unwrap());
        let sold = NewEvent::new(EventType::new("shop.Sold").unwrap(), "{}");
        store.append(Append::of(vec![sold])).await.unwrap();
        let found = store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap();
        assert_eq!(found.len() as u64, opening);
        store.close().await.unwrap();
    }
}
