//! Many processes at once, and clocks that nobody shall read.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leftfold_core::runtime::{Runtime, StartError};
use leftfold_core::store::{
    Append, Condition, EventType, Expected, Kind, NewEvent, Position, Query, Read, Store,
    StreamName,
};
use leftfold_postgres::{PostgresStore, PostgresStoreOptions};
use leftfold_proving::PostgresServer;
use tokio::task::JoinSet;

use crate::ledger::{Ledger, accept_own};
use crate::support::{place, place_on, rows};

/// Nothing compared the time for which a process that stands still keeps others from writing with
/// the time after which others are given its work.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_with_leases_too_short_for_the_store_does_not_start_and_says_what_to_change() {
    let (_, url) = place("short_leases");
    let store = Store::new(PostgresStore::open(&url).await.unwrap());
    let seconds = Duration::from_secs;
    let refused = Runtime::new(&store).lease(seconds(10)).start().await.err().unwrap();
    let (lease, writer_ended_within) = (seconds(10), seconds(5));
    assert_eq!(refused, StartError::ShortLease { lease, writer_ended_within });
    assert!(refused.to_string().contains("set Runtime::lease to more than"), "{refused}");
    let started = Runtime::new(&store).lease(seconds(11)).start().await.unwrap();
    started.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_processes_that_open_a_store_at_once_one_creates_it() {
    let server = PostgresServer::start();
    let url = format!("{}?schema=storm", server.url());
    let mut openers = JoinSet::new();
    for number in 0..50 {
        let url = url.clone();
        openers.spawn(async move {
            let backend = PostgresStore::open(&url).await.unwrap();
            let writer = format!("opener {number}");
            let at = accept_own(&Store::new(backend.clone()), &writer, 1, |_| {}).await;
            (backend, writer, at)
        });
    }
    let opened = openers.join_all().await;
    let mut ledger = Ledger::default();
    for (backend, writer, at) in &opened {
        assert_eq!(
            Store::new(backend.clone()).identity(),
            Store::new(opened[0].0.clone()).identity()
        );
        ledger.note(writer, 1, *at);
    }
    ledger.check(&opened[0].0).await;
    let counts = "SELECT (SELECT count(*) FROM storm.store), (SELECT count(*) FROM storm.epochs)";
    assert_eq!(server.psql(&server.url(), counts), "1|1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_has_no_more_connections_than_its_options_say() {
    let server = PostgresServer::start();
    let options =
        PostgresStoreOptions { readers: 2, ..PostgresStoreOptions::at(&server.url()).unwrap() };
    let store = Store::new(PostgresStore::open_with(options).await.unwrap());
    let (sessions, is_over) = (rows(&server.url()).await, Arc::new(AtomicBool::new(false)));
    let ends = Arc::clone(&is_over);
    let counting = tokio::spawn(async move {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'leftfold%'";
        let mut most = 0;
        while !ends.load(Ordering::Relaxed) {
            most = most.max(sessions.query_one(count, &[]).await.unwrap().get::<_, i64>(0));
        }
        most
    });
    let mut tasks = JoinSet::new();
    for task in 0..20 {
        let store = store.clone();
        tasks.spawn(async move {
            for number in 1..=10 {
                accept_own(&store, &format!("task {task}"), number, |_| {}).await;
                store.page(Read::matching(Query::all(), Position(1))).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    is_over.store(true, Ordering::Relaxed);
    // Two that read, one that writes, one that listens, and that of the opening while it ends.
    let most = counting.await.unwrap();
    assert!((3..=5).contains(&most), "{most}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_times_are_those_of_the_database() {
    let (_, url) = place("times");
    let store = Store::new(PostgresStore::open(&url).await.unwrap());
    let sessions = rows(&PostgresServer::shared().url()).await;
    let ask = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";
    let micros = async || sessions.query_one(ask, &[]).await.unwrap().get::<_, i64>(0);
    let before = micros().await;
    for number in 1..=5 {
        accept_own(&store, "a", number, |_| {}).await;
    }
    let after = micros().await;
    for event in store.read(Read::matching(Query::all(), Position(1))).all().await.unwrap() {
        let at = event.recorded_at.as_micros();
        assert!((before..=after).contains(&at), "{before} {at} {after}");
    }
}

/// Whoever starts while the server is away can wait; no waiting helps against a wrong password.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_of_opening_tells_if_it_passes_by_itself() {
    let server = PostgresServer::start();
    let (schema, url) = place_on(&server, "rights");
    drop(PostgresStore::open(&url).await.unwrap());
    server.psql(&server.url(), "CREATE ROLE stranger LOGIN");
    let of_kind = async |url: &str| {
        let refused = PostgresStore::open(url).await.unwrap_err();
        (refused.kind(), refused.to_string())
    };
    for (url, told) in [
        (url.replace("postgres@", "nobody@"), "role \"nobody\" does not exist"),
        (url.replace("/postgres?", "/nowhere?"), "database \"nowhere\" does not exist"),
        (url.replace("postgres@", "stranger@"), &*format!("denied for schema {schema}")),
    ] {
        let (kind, error) = of_kind(&url).await;
        assert!(kind == Kind::Bug && error.contains(told), "{kind:?}: {error}");
    }
    server.psql(&server.url(), "ALTER ROLE stranger CONNECTION LIMIT 0");
    let (kind, error) = of_kind(&url.replace("postgres@", "stranger@")).await;
    assert!(kind == Kind::Unavailable && error.contains("too many"), "{kind:?}: {error}");
    let mut server = server;
    server.stop_hard();
    assert_eq!(of_kind(&url).await.0, Kind::Unavailable);
}

/// A process with a wrong clock writes and judges leases as any other one, since no process asks
/// its own clock.
#[test]
fn the_store_never_reads_the_clock_of_its_machine() {
    let mut files = Vec::new();
    find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store"), &mut files);
    assert!(files.len() > 20, "{files:?}");
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for clock in ["SystemTime", "Timestamp::now", "now_v7", "now_v1", "jiff::", "chrono::"] {
            assert!(!text.contains(clock), "{} reads {clock}", file.display());
        }
    }
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, files);
        } else {
            files.push(path);
        }
    }
}

/// The figures of the log had other names, though they mean the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_have_the_names_that_those_of_the_log_have() {
    let (_, url) = place("figures");
    let store = Store::new(PostgresStore::open(&url).await.unwrap());
    let stream = StreamName::new("a-1").unwrap();
    let event = || NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
    let events = |count| (0..count).map(|_| event().in_stream(stream.clone())).collect();
    store.append(Append::of(events(3))).await.unwrap();
    let absent = Condition::stream(stream.clone(), Expected::Absent);
    store.append(Append::of(events(1)).when(absent)).await.unwrap();
    store.append(Append::of(events(10_001))).await.unwrap_err();
    let text = store.metrics();
    for figure in [
        "leftfold_store_appends_total{outcome=\"appended\"} 1",
        "leftfold_store_appends_total{outcome=\"conflict\"} 1",
        "leftfold_store_appends_total{outcome=\"invalid\"} 1",
        "leftfold_store_events_total 3",
        "leftfold_store_group_appends_count 1",
        "leftfold_store_queue_appends 0",
        "leftfold_store_queue_bytes 0",
        "leftfold_store_clock_skew_seconds 0",
    ] {
        assert!(text.lines().any(|line| line == figure), "{figure} is not in\n{text}");
    }
    assert!(!text.contains("leftfold_postgres_"), "{text}");
}
