//! Rows that the server touches for a read: those of an index, however long the history is.

use leftfold_core::store::{
    Append, EventType, NewEvent, Position, Query, Read, Store, StreamName, Tags, Version,
};
use leftfold_postgres::PostgresStore;
use tokio_postgres::Client;

use crate::support::{place, rows};

const EVENTS: u64 = 6_000;
/// Rows that each read may touch: far fewer than there are events.
const TOUCHED_MAX: i64 = 200;

/// Events of one type and one category, in 50 streams, all with one tag.
async fn fill(store: &Store) {
    for _ in 0..EVENTS / 1_000 {
        let events = (0..1_000).map(|index| {
            let event = NewEvent::new(EventType::new("account.Booked").unwrap(), "{}");
            let stream = StreamName::new(format!("account-{}", index % 50)).unwrap();
            event.in_stream(stream).tagged(Tags::none().with("bank:1"))
        });
        store.append(Append::of(events.collect())).await.unwrap();
    }
}

/// Rows of a schema that were fetched by an index or read by a scan. A session tells of its own
/// when it ends, so this waits until no store is connected.
async fn touched(client: &Client, schema: &str) -> i64 {
    let others = "SELECT count(*) FROM pg_stat_activity WHERE application_name = $1";
    while client.query_one(others, &[&schema]).await.unwrap().get::<_, i64>(0) > 0 {}
    let touched = "SELECT sum(coalesce(idx_tup_fetch, 0) + seq_tup_read)::bigint
        FROM pg_stat_user_tables WHERE schemaname = $1";
    client.query_one(touched, &[&schema]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_touches_few_rows_also_if_statistics_say_that_all_events_are_alike() {
    let (schema, url) = place("plans");
    let named = format!("{url}&application_name={schema}");
    let client = rows(url.split_once('?').unwrap().0).await;
    let store = Store::new(PostgresStore::open(&named).await.unwrap());
    fill(&store).await;
    store.close().await.unwrap();
    drop(store);
    client.batch_execute(&format!("ANALYZE {schema}.events, {schema}.tags")).await.unwrap();
    let (start, near_end) = (Position(1), Position(EVENTS - 20));
    let exact = |name: &str| Query::types([EventType::new(name).unwrap()]);
    let reads = [
        ("an absent type", Read::matching(exact("account.Closed"), start), 0),
        ("the same backwards", Read::matching(exact("account.Closed"), near_end).backwards(), 0),
        ("the only type", Read::matching(exact("account.Booked"), near_end).page_of(5), 5),
        ("an absent category", Read::matching(Query::category("order"), start), 0),
        ("the only tag", Read::matching(Query::tag("bank:1"), near_end).page_of(5), 5),
        ("an absent tag", Read::matching(Query::tag("bank:2"), start), 0),
        ("a stream", Read::stream(StreamName::new("account-7").unwrap(), Version(119)), 2),
    ];
    for (what, read, found) in reads {
        let before = touched(&client, &schema).await;
        let store = Store::new(PostgresStore::open(&named).await.unwrap());
        // A connection may plan a statement otherwise after it was used for a while.
        for _ in 0..6 {
            let page = store.page(read.clone()).await.unwrap();
            assert_eq!(page.events.len(), found, "{what}");
        }
        store.close().await.unwrap();
        drop(store);
        let rows = touched(&client, &schema).await - before;
        assert!(rows <= 6 * TOUCHED_MAX, "{what}: {rows} rows were touched by 6 reads");
    }
}
