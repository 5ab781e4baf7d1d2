//! Two servers: the second follows, and takes over.

use std::time::Duration;

use leftfold_core::store::{AppendError, Outcome, Position, Query, Read, State, Store};
use leftfold_postgres::{PostgresStore, PostgresStoreError, PostgresStoreOptions};
use leftfold_proving::PostgresServer;
use leftfold_testing::seed;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::ledger::{Ledger, accept, accept_own, attempt, request};
use crate::support::rows;

/// Time after which a test that waits has failed.
const PATIENCE: Duration = Duration::from_secs(120);

async fn open(url: &str, transaction_within: Duration) -> PostgresStore {
    let options = PostgresStoreOptions {
        transaction_within,
        doubt_within: Duration::from_secs(2),
        ..PostgresStoreOptions::at(url).unwrap()
    };
    PostgresStore::open_with(options).await.unwrap()
}

async fn is_told(store: &Store, told: impl Fn(&State) -> bool) {
    let mut status = store.status();
    let waited = timeout(PATIENCE, status.wait_for(|status| told(&status.state))).await;
    waited.expect("the status tells it").unwrap();
}

/// A primary server that acknowledges nothing before its standby has it.
async fn replicated() -> (PostgresServer, PostgresServer) {
    let primary = PostgresServer::start();
    let standby = primary.standby();
    primary.psql(&primary.url(), "ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.psql(&primary.url(), "SELECT pg_reload_conf()");
    let sessions = rows(&primary.url()).await;
    let is_synchronous =
        "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')";
    while !sessions.query_one(is_synchronous, &[]).await.unwrap().get::<_, bool>(0) {}
    (primary, standby)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_on_a_standby_reads_and_takes_appends_when_it_is_promoted() {
    let mut primary = PostgresServer::start();
    let standby = primary.standby();
    let absent = PostgresStore::open(&standby.url()).await;
    assert!(matches!(absent, Err(PostgresStoreError::Absent { .. })), "{absent:?}");
    let writing = Store::new(PostgresStore::open(&primary.url()).await.unwrap());
    let mut ledger = Ledger::default();
    ledger.note("a", 1, accept(&writing, "a", 1, |_| {}).await);
    let there = "SELECT to_regclass('leftfold_store.head') IS NOT NULL
        AND (SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn)";
    let end = primary.psql(&primary.url(), "SELECT pg_current_wal_lsn()");
    let sessions = rows(&standby.url()).await;
    while !sessions.query_one(there, &[&end]).await.unwrap().get::<_, bool>(0) {}
    let backend = open(&standby.url(), Duration::from_secs(5)).await;
    let reading = Store::new(backend.clone());
    is_told(&reading, |state| matches!(state, State::ReadOnly { .. })).await;
    let read = reading.read(Read::matching(Query::all(), Position(1))).all().await.unwrap();
    assert_eq!(read.len(), 2);
    let refused = attempt(&reading, "a", 2).await;
    assert!(matches!(refused, Err(AppendError::ReadOnly { .. })), "{refused:?}");
    // It follows what the primary commits.
    let position = accept(&writing, "a", 2, |_| {}).await;
    ledger.note("a", 2, position);
    let mut status = reading.status();
    let seen = timeout(PATIENCE, status.wait_for(|status| status.head.position >= position)).await;
    seen.expect("a standby is followed").unwrap();
    primary.stop_hard();
    standby.promote();
    is_told(&reading, |state| *state == State::Open).await;
    ledger.note("a", 3, accept(&reading, "a", 3, |_| {}).await);
    ledger.check(&backend).await;
}

/// The URL of two servers.
fn both(first: &PostgresServer, second: &PostgresServer) -> String {
    let (first, second) = (first.port(), second.port());
    format!("postgres://postgres@127.0.0.1:{first},127.0.0.1:{second}/postgres")
}

/// Connections stayed on a standby that had been named first, or reached while the primary was
/// away: readers were behind what the same process had appended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_hosts_the_primary_is_taken_and_the_standby_only_while_there_is_none() {
    let mut primary = PostgresServer::start();
    let standby = primary.standby();
    // The standby has the tables, and shows nothing of what comes later.
    let prepared = open(&primary.url(), Duration::from_secs(5)).await;
    let mut ledger = Ledger::default();
    ledger.note("a", 1, accept(&Store::new(prepared), "a", 1, |_| {}).await);
    let end = primary.psql(&primary.url(), "SELECT pg_current_wal_lsn()");
    let is_there = "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn";
    let sessions = rows(&standby.url()).await;
    while !sessions.query_one(is_there, &[&end]).await.unwrap().get::<_, bool>(0) {}
    standby.psql(&standby.url(), "SELECT pg_wal_replay_pause()");

    let url = format!("{}?readers=3", both(&standby, &primary));
    let backend = open(&url, Duration::from_secs(5)).await;
    let store = Store::new(backend.clone());
    let is_only_read = |state: &State| matches!(state, State::ReadOnly { .. });
    for round in 0..2 {
        // Each of the connections that read is used.
        for number in 0..6 {
            let number = 2 + 6 * round + number;
            let position = accept(&store, "a", number, |_| {}).await;
            ledger.note("a", number, position);
            let last = || store.page(Read::matching(Query::all(), position));
            let (one, two, three) = tokio::join!(last(), last(), last());
            for page in [one, two, three] {
                assert_eq!(page.unwrap().events.first().unwrap().position, position);
            }
        }
        if round == 0 {
            primary.stop_hard();
            is_told(&store, is_only_read).await;
            let all = || store.page(Read::matching(Query::all(), Position(1)));
            let (one, two, three) = tokio::join!(all(), all(), all());
            for page in [one, two, three] {
                assert_eq!(page.unwrap().events.len(), 2, "as far as the standby is");
            }
            let refused = attempt(&store, "b", 1).await;
            assert!(matches!(refused, Err(AppendError::ReadOnly { .. })), "{refused:?}");
            primary.start_again();
            is_told(&store, |state| *state == State::Open).await;
        }
    }
    ledger.check(&backend).await;
}

enum Failure {
    Killed,
    StandsStill,
}

async fn takes_over(failure: Failure) {
    let mut random = fastrand::Rng::with_seed(seed());
    let (mut primary, standby) = replicated().await;
    let both = both(&primary, &standby);
    let url = format!("{both}?target_session_attrs=read-write&connect_timeout=1");
    let backend = open(&url, Duration::from_millis(300)).await;
    let mut tasks = JoinSet::new();
    for task in 0..4 {
        let store = Store::new(backend.clone());
        tasks.spawn(async move {
            let (writer, mut accepted, mut failed) = (task.to_string(), Vec::new(), 0);
            for number in 1..=60 {
                accepted.push(accept_own(&store, &writer, number, |_| failed += 1).await);
            }
            (writer, accepted, failed)
        });
    }
    // Somewhere in the middle of it.
    let aim = Position(random.u64(1..200));
    let mut status = Store::new(backend.clone()).status();
    status.wait_for(|status| status.head.position >= aim).await.unwrap();
    match failure {
        Failure::Killed => primary.stop_hard(),
        Failure::StandsStill => primary.freeze(),
    }
    standby.promote();
    let (mut ledger, mut errors) = (Ledger::default(), 0);
    while let Some(ended) = timeout(PATIENCE, tasks.join_next()).await.expect("they go on") {
        let (writer, accepted, failed) = ended.unwrap();
        errors += failed;
        (1..).zip(accepted).for_each(|(number, at)| ledger.note(&writer, number, at));
    }
    ledger.check(&backend).await;
    let all = ledger.all();
    eprintln!("{errors} errors: all {all} accepted requests are there once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_standby_takes_over_from_a_primary_that_is_killed_under_load() {
    takes_over(Failure::Killed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronous_standby_takes_over_from_a_primary_that_stands_still_under_load() {
    takes_over(Failure::StandsStill).await;
}

/// The commit is on the primary then, which says so with a warning, or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_did_not_reach_the_standby_is_unknown() {
    let (primary, standby) = replicated().await;
    let backend = open(&primary.url(), Duration::from_secs(20)).await;
    let store = Store::new(backend.clone());
    let mut ledger = Ledger::default();
    ledger.note("a", 1, accept(&store, "a", 1, |_| {}).await);
    let sessions = rows(&primary.url()).await;
    for (number, ends) in [(2, "pg_cancel_backend"), (3, "pg_terminate_backend")] {
        standby.freeze();
        let append = store.append(request("a", number));
        let end = |by: &str| {
            format!(
                "SELECT count({by}(pid)) FROM pg_stat_activity
                WHERE wait_event = 'SyncRep' AND query = 'COMMIT'"
            )
        };
        let (first, later) = (end(ends), end("pg_cancel_backend"));
        while sessions.query_one(&first, &[]).await.unwrap().get::<_, i64>(0) == 0 {}
        // Looking for it is a transaction that waits, too, and does not count if it was not let.
        let cancelling = async {
            loop {
                sessions.query_one(&later, &[]).await.unwrap();
            }
        };
        let outcome = tokio::select! {
            outcome = timeout(PATIENCE, append) => outcome.expect("it is answered"),
            () = cancelling => unreachable!("it has no end"),
        };
        assert!(matches!(outcome, Err(AppendError::Unknown { .. })), "{ends}: {outcome:?}");
        standby.thaw();
        let again = timeout(PATIENCE, store.append(request("a", number))).await;
        let Ok(Ok(Outcome::Repeated(answered))) = again else { panic!("{ends}: {again:?}") };
        ledger.note("a", number, answered.first);
    }
    ledger.check(&backend).await;
}
