//! Pages that a group and a reader touch while a snapshot stays open that is older than all of
//! them, as a backup has it: no row may be cleaned, and none may have to be passed over.

use std::time::Duration;

use leftfold_core::store::{Holder, LeaseRequest, Position, Store};
use leftfold_postgres::PostgresStore;
use leftfold_proving::PostgresServer;
use tokio_postgres::Client;

use crate::support::{label, moved, place, rows};

/// Moves of one consumer, each in a transaction of its own. A row that all of them changed would
/// have filled nine pages with its dead versions.
const MOVES: u64 = 400;
const RENEWALS: u64 = 100;
/// Pages that more levels of indexes may cost.
const MORE_PAGES_MAX: i64 = 4;

/// Pages that the server touches to answer.
async fn pages(client: &Client, ask: &str) -> i64 {
    // Whatever the session has to look up in the catalog is counted too.
    for _ in 0..2 {
        client.query(ask, &[]).await.unwrap();
    }
    let explained = format!("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {ask}");
    let plan = client.query(&explained, &[]).await.unwrap();
    let lines: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    let buffers = lines.iter().find_map(|line| line.trim().strip_prefix("Buffers: shared "));
    let counts = buffers.unwrap_or_else(|| panic!("{lines:?}")).split(' ');
    let counted = counts.filter_map(|one| {
        let (kind, pages) = one.split_once('=')?;
        ["hit", "read"].contains(&kind).then(|| pages.parse::<i64>().unwrap())
    });
    counted.sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_under_an_old_snapshot_make_no_later_group_and_no_reader_touch_more_pages() {
    let (schema, url) = place("old_snapshot");
    let store = Store::new(PostgresStore::open(&url).await.unwrap());
    store.append(moved(&store, "still", 7)).await.unwrap();
    store.append(moved(&store, "moving", 1)).await.unwrap();
    let (old, client) =
        (rows(&PostgresServer::shared().url()).await, rows(&PostgresServer::shared().url()).await);
    let snapshot = format!("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM {schema}.appends");
    old.batch_execute(&snapshot).await.unwrap();
    let source = store.identity().store.0;
    let asked = |consumer: &str| {
        [
            format!(
                "SELECT * FROM {schema}.group_facts(1, 0, '{{}}', '{{}}', '{{}}',
                    '{{{consumer}}}', '{{{source}}}', '{{\"\"}}')"
            ),
            format!("SELECT * FROM {schema}.last_move('{consumer}', '{source}', '')"),
        ]
    };
    let asked = [asked("still"), asked("moving")].concat();
    let mut before = Vec::new();
    for ask in &asked {
        before.push(pages(&client, ask).await);
    }
    for position in 2..=MOVES {
        store.append(moved(&store, "moving", position)).await.unwrap();
    }
    // Renewals leave dead versions behind. A step that is fenced reads none of them, as long as
    // nobody else has changed a lease.
    let request = LeaseRequest::new(label("work"), Holder::random(), Duration::from_secs(60));
    for _ in 0..RENEWALS {
        let note = vec![b'n'; 1_000];
        store.lease(request.clone().with_note(note)).await.unwrap();
    }
    let round = format!(
        "SELECT lease_round, pg_relation_size('{schema}.leases') / 8192
        FROM {schema}.state"
    );
    let row = client.query_one(&round, &[]).await.unwrap();
    let (round, size): (i64, i64) = (row.get(0), row.get(1));
    assert!(size > 2 * MORE_PAGES_MAX, "{size} pages are not enough to notice anything");
    let unchanged = format!("SELECT * FROM {schema}.leases_since({round})");
    let touched = pages(&client, &unchanged).await;
    assert!(touched <= MORE_PAGES_MAX, "{touched} pages are read of {size} though nothing changed");
    let changed = format!("SELECT * FROM {schema}.leases_since({})", round - 1);
    assert_eq!(client.query(&changed, &[]).await.unwrap().len(), 1);
    // It says that any append is one of the consumer that moves.
    client.batch_execute(&format!("ANALYZE {schema}.appends")).await.unwrap();
    let client = rows(&PostgresServer::shared().url()).await;
    for (ask, before) in asked.iter().zip(before) {
        let after = pages(&client, ask).await;
        assert!(after <= before + MORE_PAGES_MAX, "{before} pages became {after}: {ask}");
    }
    old.batch_execute("ROLLBACK").await.unwrap();
    let ask = format!("SELECT consumer, position, append FROM {schema}.checkpoints ORDER BY 1");
    let view = client.query(&ask, &[]).await.unwrap();
    let view: Vec<(String, i64, i64)> =
        view.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let last = MOVES as i64;
    assert_eq!(view, [("moving".to_owned(), last, last + 1), ("still".to_owned(), 7, 1)]);
    for (consumer, at, _) in view {
        let stored = store.checkpoint(label(&consumer)).await.unwrap().unwrap();
        assert_eq!(stored.position, Position(at as u64));
    }
}
