//! Servers that cannot be reached: the store says so, and goes on by itself.

use std::time::Duration;

use leftfold_core::store::{AppendError, State, Store};
use leftfold_postgres::{PostgresStore, PostgresStoreOptions};
use leftfold_proving::PostgresServer;
use tokio::time::timeout;

use crate::ledger::{accept, attempt, request};
use crate::proxy::{Proxy, ProxyMode};
use crate::support::{place, rows};

/// Time after which a test that waits has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Opens a store that waits for others only shortly.
async fn open(url: &str) -> Store {
    let options = PostgresStoreOptions {
        transaction_within: Duration::from_millis(200),
        ..PostgresStoreOptions::at(url).unwrap()
    };
    Store::new(PostgresStore::open_with(options).await.unwrap())
}

async fn is_told(store: &Store, told: impl Fn(&State) -> bool) -> State {
    let mut status = store.status();
    let waited = timeout(PATIENCE, status.wait_for(|status| told(&status.state))).await;
    waited.expect("the status tells it").unwrap().state.clone()
}

async fn is_away(store: &Store) -> String {
    match is_told(store, |state| *state != State::Open).await {
        State::Away { detail, .. } => detail,
        other => panic!("{other:?}"),
    }
}

fn is_up(store: &Store) -> bool {
    store.metrics().lines().any(|line| line == "leftfold_store_up 1")
}

/// Such a store was shown as open, with no lag of anything that follows it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_server_cannot_be_reached_says_so_and_comes_back_by_itself() {
    for (mode, reason) in [(ProxyMode::Away, "connect"), (ProxyMode::Silent, "answer")] {
        let proxy = Proxy::before(PostgresServer::shared().port()).await;
        let (_, url) = place("away");
        let store = open(&format!("{}&connect_timeout=2", proxy.through(&url))).await;
        accept(&store, "a", 1, |_| {}).await;
        assert!(is_up(&store), "{mode:?}");
        proxy.set(mode);
        let detail = is_away(&store).await;
        assert!(detail.contains(reason) && !is_up(&store), "{mode:?}: {detail}");
        let refused = timeout(PATIENCE, attempt(&store, "a", 2)).await.expect("it is answered");
        assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{mode:?}: {refused:?}");
        proxy.set(ProxyMode::Pass);
        // Nobody asks it for anything.
        is_told(&store, |state| *state == State::Open).await;
        accept(&store, "a", 2, |_| {}).await;
        assert!(is_up(&store), "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_followed_but_finds_no_connection_to_write_is_away_until_it_does() {
    let server = PostgresServer::shared();
    let (schema, url) = place("unwritable");
    let role = format!("writer_of_{schema}");
    let create = format!("CREATE ROLE {role} LOGIN; CREATE SCHEMA {schema} AUTHORIZATION {role}");
    server.psql(&server.url(), &create);
    let store = open(&url.replace("postgres@", &format!("{role}@"))).await;
    accept(&store, "a", 1, |_| {}).await;
    // The one that follows the head stays.
    let limit = format!("ALTER ROLE {role} CONNECTION LIMIT 1");
    server.psql(&server.url(), &limit);
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE usename = $1 AND query NOT LIKE '%pg_is_in_recovery%' AND query NOT LIKE 'NOTIFY%'";
    rows(&server.url()).await.query(end, &[&role]).await.unwrap();
    let refused = timeout(PATIENCE, attempt(&store, "a", 2)).await.expect("it is answered");
    assert!(matches!(refused, Err(AppendError::Unavailable { .. })), "{refused:?}");
    let detail = is_away(&store).await;
    assert!(detail.contains("too many connections") && !is_up(&store), "{detail}");
    server.psql(&server.url(), &format!("ALTER ROLE {role} CONNECTION LIMIT -1"));
    accept(&store, "a", 2, |_| {}).await;
    is_told(&store, |state| *state == State::Open).await;
}

/// Each group that waited was tried with a connection of its own, one after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_while_the_server_is_away_waits_for_one_connection_and_answers_everybody() {
    let proxy = Proxy::before(PostgresServer::shared().port()).await;
    let (_, url) = place("closing");
    let store = open(&format!("{}&connect_timeout=5", proxy.through(&url))).await;
    accept(&store, "a", 1, |_| {}).await;
    proxy.set(ProxyMode::Silent);
    let waiting: Vec<_> = (2..12_000).map(|number| store.append(request("a", number))).collect();
    let closed = timeout(PATIENCE, store.close()).await;
    closed.expect("it does not try each of twelve groups").unwrap();
    for append in waiting {
        let refused = append.await;
        let is_told =
            matches!(refused, Err(AppendError::Unavailable { .. } | AppendError::Unknown { .. }));
        assert!(is_told, "{refused:?}");
    }
}
