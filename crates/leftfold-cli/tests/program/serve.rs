//! `leftfold serve`: it is told to stop and it is killed, under load, and serves on; and clients
//! that take nothing do not make it grow.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use leftfold::store::{
    Append, AppendError, CommandId, CommandRecord, Digest, EventType, NewEvent, Outcome, Position,
    Query, Store, StreamName,
};
use leftfold_remote::{RemoteOptions, RemoteStore};
use tokio::task::JoinSet;

use crate::support::{Program, port, ran};

pub(crate) async fn open(port: u16) -> Store {
    let options = RemoteOptions::at(&format!("leftfold://127.0.0.1:{port}")).unwrap();
    let options = RemoteOptions { patience: Duration::from_secs(60), ..options };
    Store::new(RemoteStore::open_with(options).await.unwrap())
}

fn append(stream: &str, key: Option<String>) -> Append {
    let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}")
        .in_stream(StreamName::new(stream.to_owned()).unwrap());
    let command = key.map(|key| CommandRecord {
        id: CommandId::new(stream, &key),
        digest: Digest::UNCHECKED,
        answer: "".into(),
    });
    Append { command, ..Append::of(vec![event]) }
}

async fn version(store: &Store, stream: &str) -> u64 {
    store.version(stream.try_into().unwrap()).await.unwrap().0
}

/// Appends of one client, to streams of its own, until it is told to stop: some with a command id
/// and some without. Returns how many were accepted of each, and how many are unknown.
async fn append_until(store: Store, name: String, is_over: Arc<AtomicBool>) -> [u64; 3] {
    let (mut named, mut plain, mut unknown) = (0, 0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let some = |with_id: bool, number: u64| {
            let key = with_id.then(|| number.to_string());
            let stream = format!("{name}-{}", if with_id { "named" } else { "plain" });
            append(&stream, key)
        };
        let handed_over: Vec<_> = (0..10)
            .map(|number| (number % 2 == 0, store.append(some(number % 2 == 0, named + number))))
            .collect();
        for (with_id, pending) in handed_over {
            match pending.await {
                Ok(Outcome::Appended(_) | Outcome::Repeated(_)) if with_id => named += 1,
                Ok(Outcome::Appended(_)) => plain += 1,
                Err(AppendError::Unknown { .. }) if !with_id => unknown += 1,
                other => panic!("{name}, with an id: {with_id}: {other:?}"),
            }
        }
        // The keys of a round are those of its numbers.
        named = named.next_multiple_of(10);
    }
    [named / 2, plain, unknown]
}

const CLIENTS: usize = 4;

struct Load {
    is_over: Arc<AtomicBool>,
    clients: JoinSet<(String, [u64; 3])>,
}

impl Load {
    async fn begin(port: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let (store, is_over) = (open(port).await, Arc::clone(&is_over));
            let name = format!("client{number}");
            clients.spawn(async move {
                let accepted = append_until(store, name.clone(), is_over).await;
                (name, accepted)
            });
        }
        Self { is_over, clients }
    }

    /// Waits until something was recorded after what is there.
    async fn is_under_way(store: &Store) {
        let head = store.head().position;
        let moves = |status: &leftfold::store::Status| status.head.position.0 > head.0 + 50;
        store.status().wait_for(moves).await.unwrap();
    }

    /// Ends the load, and compares what was accepted with what is there. Returns how many appends
    /// are unknown.
    async fn check(mut self, store: &Store) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        let unknown = AtomicU64::new(0);
        while let Some(ended) = self.clients.join_next().await {
            let (name, [named, plain, lost]) = ended.unwrap();
            assert_eq!(version(store, &format!("{name}-named")).await, named, "{name}");
            let there = version(store, &format!("{name}-plain")).await;
            assert!(plain <= there && there <= plain + lost, "{name}: {plain} {there} {lost}");
            unknown.fetch_add(lost, Ordering::Relaxed);
        }
        unknown.into_inner()
    }
}

/// Ends a server again and again under load, and starts the next one on its store. Returns the
/// number of appends that nobody knows of.
async fn unknown_after_ends(end: fn(Program)) -> u64 {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let mut program = Program::serve(directory.path(), port);
    let load = Load::begin(port).await;
    let store = open(port).await;
    for _ in 0..4 {
        Load::is_under_way(&store).await;
        end(program);
        program = Program::serve(directory.path(), port);
    }
    Load::is_under_way(&store).await;
    let unknown = load.check(&store).await;
    program.stop();
    unknown
}

/// No append is in doubt, with a command id or without: those that were taken are answered, and the
/// others are sent to the next server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_told_to_stop_under_load_loses_nothing_and_leaves_no_doubt() {
    assert_eq!(unknown_after_ends(Program::stop).await, 0, "appends in doubt");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_under_load_loses_nothing_and_doubles_nothing() {
    let unknown = unknown_after_ends(Program::kill).await;
    eprintln!("{unknown} appends without a command id are unknown");
}

pub(crate) fn asked(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_metrics_are_answered_over_plain_http() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let program = Program::serve(directory.path(), port);
    open(port).await.append(append("a-1", None)).await.unwrap();
    assert!(asked(port, "/health").starts_with("HTTP/1.1 200"));
    let metrics = asked(port, "/metrics");
    assert!(metrics.contains("\nleftfold_store_head_position 1\n"), "{metrics}");
    let missing = asked(port, "/metrics?store=none");
    assert!(missing.starts_with("HTTP/1.1 404") && missing.contains("default"), "{missing}");
    program.stop();
}

#[test]
fn a_program_that_cannot_serve_says_why_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let store = directory.path().to_str().unwrap();
    let ends = |arguments: &[&str]| {
        let ended = ran(arguments);
        (ended.code, ended.said)
    };
    let (code, said) = ends(&["serve", "--store", store, "--listen", "0.0.0.0:0"]);
    assert!(code == 1 && said.contains("--insecure"), "{said}");
    let (code, said) = ends(&["serve", "--store", "http://x"]);
    assert!(code == 1 && said.contains("names no kind of store"), "{said}");
    let (code, said) = ends(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(code == 2 && said.contains("--store"), "{said}");
}

/// Memory of the program, in bytes.
fn resident(program: &Program) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

fn large() -> Append {
    let event_type = EventType::new("test.Happened").unwrap();
    Append::of(vec![NewEvent::new(event_type, vec![7; 1 << 20])])
}

/// Each of 50 subscribers would have 64 MiB to get.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribers_that_take_nothing_cost_nobody_anything() {
    const EVENTS: u64 = 64;
    const SUBSCRIBERS: usize = 50;
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let program = Program::serve(directory.path(), port);
    let store = open(port).await;
    store.append(large()).await.unwrap();
    let mut idle = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let mut subscription = open(port).await.subscribe(Query::all(), Position::START);
        assert_eq!(subscription.event().await.unwrap().position, Position(1));
        idle.push(subscription);
    }
    for _ in 1..EVENTS {
        store.append(large()).await.unwrap();
    }
    let mut subscription = store.subscribe(Query::all(), Position::START);
    for position in 1..=EVENTS {
        assert_eq!(subscription.event().await.unwrap().position, Position(position));
    }
    let resident = resident(&program);
    assert!(resident < 600 << 20, "the program has {} MiB", resident >> 20);
    // One that begins to take gets everything.
    let mut late = idle.pop().unwrap();
    for position in 2..=EVENTS {
        assert_eq!(late.event().await.unwrap().position, Position(position));
    }
    drop((late, idle));
    program.stop();
}
