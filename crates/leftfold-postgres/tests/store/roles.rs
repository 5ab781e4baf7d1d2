//! The rights that the book's page grants are enough, and no more than that.

use leftfold_core::fold::{Event, Recorded};
use leftfold_core::runtime::Runtime;
use leftfold_core::runtime::projection::{Projection, ProjectionError};
use leftfold_core::store::{
    Append, AppendError, EventType, NewEvent, Position, Query, Read, Store,
};
use leftfold_postgres::{Postgres, PostgresStore, PostgresStoreOptions, Rows};
use leftfold_proving::PostgresServer;
use serde::{Deserialize, Serialize};

use crate::support::rows;

const ROLES: &str = include_str!("../../doc/roles.sql");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Sale {
    Sold {},
}

impl Event for Sale {
    const NAMESPACE: &'static str = "sale";
}

/// The number of sales, in a schema for each name.
struct Count<const INLINE: bool>;

impl<const INLINE: bool> Projection<Postgres> for Count<INLINE> {
    const NAME: &'static str = if INLINE { "counted_inline" } else { "counted" };
    type Event = Sale;

    async fn set_up(&self, rows: &mut Rows) -> Result<(), ProjectionError> {
        Ok(rows
            .batch_execute("CREATE TABLE sales (count bigint); INSERT INTO sales VALUES (0)")
            .await?)
    }

    async fn apply(&self, rows: &mut Rows, _: &Recorded<Sale>) -> Result<(), ProjectionError> {
        Ok(rows.batch_execute("UPDATE sales SET count = count + 1").await?)
    }
}

async fn sell(store: &Store) -> Result<(), AppendError> {
    let sold = NewEvent::new(EventType::new("sale.Sold").unwrap(), "{}");
    store.append(Append::of(vec![sold])).await.map(drop)
}

#[tokio::test]
async fn the_rights_of_the_page_are_enough_for_each_role() {
    let server = PostgresServer::start();
    let (before, after) = ROLES.split_once("-- After").unwrap();
    let (roles, grants) = before.split_once("\\connect shop\n").unwrap();
    let of = |role: &str| format!("postgres://{role}@127.0.0.1:{}/shop", server.port());
    // A database is not created in a transaction, which several statements are together.
    roles.split_inclusive(";").for_each(|statement| drop(server.psql(&server.url(), statement)));
    server.psql(&of("postgres"), grants);
    let store_of = |role: &str| format!("{}?schema=orders", of(role));
    PostgresStore::open(&store_of("shop_owner")).await.unwrap();
    server.psql(&of("postgres"), &format!("-- After{after}"));

    let options = PostgresStoreOptions::at(&store_of("shop")).unwrap();
    let options = options.inline(Count::<true>).unwrap();
    let store = Store::new(PostgresStore::open_with(options).await.unwrap());
    sell(&store).await.unwrap();
    let target = Postgres::beside_store(&store_of("shop")).unwrap();
    let runtime = Runtime::new(&store).project(Count::<false>, target);
    let running = runtime.start().await.unwrap();
    let within = std::time::Duration::from_secs(60);
    running.projections().wait_until("counted", Position(1), within).await.unwrap();
    running.stop().await.unwrap();

    let reader = Store::new(PostgresStore::open(&store_of("shop_reader")).await.unwrap());
    let events = reader.read(Read::matching(Query::all(), Position(1))).all().await.unwrap();
    assert_eq!(events.len(), 1);
    assert!(matches!(sell(&reader).await, Err(AppendError::ReadOnly { .. })));
    let read = Postgres::beside_store(&store_of("shop_reader")).unwrap();
    for name in ["counted", "counted_inline"] {
        let reading = read.reader_of(name).read().await.unwrap();
        let count = reading.query_one("SELECT count FROM sales", &[]).await.unwrap();
        assert_eq!(count.get::<_, i64>(0), 1, "{name}");
    }
    let application = rows(&of("shop")).await;
    for table in ["events", "appends", "tags", "store", "epochs"] {
        for change in [format!("DELETE FROM orders.{table}"), format!("TRUNCATE orders.{table}")] {
            let refused = application.batch_execute(&change).await.unwrap_err();
            assert_eq!(refused.code().map(|code| code.code()), Some("42501"), "{change}");
        }
    }
}
