//! Clients of other stores, unmodified, while the server under them stops, is killed, or has no
//! room on its disk, and while they are killed themselves.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use leftfold::store::{Position, Query, Read as StoreRead, Status, Store};

use crate::serve::open;
use crate::support::{Program, port};

/// A client that appends until its input ends.
struct ForeignLoad {
    child: Child,
    output: BufReader<ChildStdout>,
}

fn told(name: &str) -> std::ffi::OsString {
    std::env::var_os(name).expect("run the tests by `cargo xtask test`")
}

impl ForeignLoad {
    fn begin(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    fn python(protocol: &str, port: u16, name: &str, bytes: usize) -> Self {
        let mut command = Command::new(told("LEFTFOLD_PYTHON"));
        command.arg(scripts().join("load.py")).args([protocol, &port.to_string(), name]);
        command.arg(bytes.to_string()).env("PYTHONDONTWRITEBYTECODE", "1");
        Self::begin(command)
    }

    fn node(client: &str, port: u16, name: &str) -> Self {
        let mut command = Command::new(told("LEFTFOLD_NODE"));
        command.arg(scripts().join("load.mjs")).args([client, &port.to_string(), name]);
        command.env("LEFTFOLD_NODE_CLIENTS", told("LEFTFOLD_NODE_CLIENTS"));
        Self::begin(command)
    }

    /// One of each client.
    fn of_each(port: u16) -> Vec<Self> {
        vec![
            Self::python("kurrentdb", port, "python-1", 16),
            Self::python("umadb", port, "uma-1", 16),
            Self::node("@kurrent/kurrentdb-client", port, "node-1"),
            Self::node("@eventstore/db-client", port, "node-2"),
        ]
    }

    /// Waits until an append was refused because the disk is full.
    fn is_full(&mut self) {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert_eq!(line, "full\n");
    }

    /// Ends it, and expects that everything that was accepted is there once.
    fn end(mut self) {
        drop(self.child.stdin.take());
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        eprint!("{said}");
        assert!(self.child.wait().unwrap().success(), "{said}");
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn scripts() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/foreign_load")
}

/// Waits until several appends were recorded after what is there.
async fn goes_on(store: &Store) {
    let head = store.head().position.0;
    let moves = |status: &Status| status.head.position.0 > head + 60;
    store.status().wait_for(moves).await.unwrap();
}

/// Ends the server twice under the load of each client.
async fn ends(end: fn(Program)) {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let mut program = Program::serve(directory.path(), port);
    let clients = ForeignLoad::of_each(port);
    let store = open(port).await;
    for _ in 0..2 {
        goes_on(&store).await;
        end(program);
        program = Program::serve(directory.path(), port);
    }
    goes_on(&store).await;
    clients.into_iter().for_each(ForeignLoad::end);
    program.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_clients_lose_and_double_nothing_when_the_server_is_told_to_stop_under_load() {
    ends(Program::stop).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_clients_lose_and_double_nothing_when_the_server_is_killed_under_load() {
    ends(Program::kill).await;
}

/// They are told that there is no room, and go on when there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_clients_are_told_of_a_full_disk_and_go_on_when_there_is_room() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let program = Program::serve_in_little_room(directory.path(), port);
    let mut clients = vec![
        ForeignLoad::python("kurrentdb", port, "python-1", 20_000),
        ForeignLoad::python("umadb", port, "uma-1", 20_000),
    ];
    clients.iter_mut().for_each(ForeignLoad::is_full);
    // A balancer leaves it in place for reads, and may send appends elsewhere.
    let degraded = health(port, "/health");
    assert!(degraded.starts_with("HTTP/1.1 200"), "{degraded}");
    assert!(degraded.ends_with("no room, reads are answered: default\n"), "{degraded}");
    assert!(health(port, "/health?for=appends").starts_with("HTTP/1.1 503"));
    // What is there is read all the same.
    let store = open(port).await;
    let head = store.head().position;
    assert_eq!(counted(&store).await.values().sum::<usize>() as u64, head.0);
    program.stop();
    let program = Program::serve(directory.path(), port);
    store.status().wait_for(|status| status.head.position > head).await.unwrap();
    clients.into_iter().for_each(ForeignLoad::end);
    assert!(health(port, "/health?for=appends").ends_with("serving\n"));
    program.stop();
}

/// The answer of the server to a question about its health.
fn health(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// Counts of events by their streams, or by the tags of those without one.
async fn counted(store: &Store) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let mut events = store.read(StoreRead::matching(Query::all(), Position(1)));
    while let Some(event) = events.next().await.unwrap() {
        let of = match &event.stream {
            Some(stream) => stream.name.to_string(),
            None => event.tags.iter().map(|tag| tag.as_str()).collect(),
        };
        *counts.entry(of).or_default() += 1;
    }
    counts
}

/// A batch is there as a whole, or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_clients_that_are_killed_leave_whole_batches_and_nothing_else() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let program = Program::serve(directory.path(), port);
    let store = open(port).await;
    let mut names = Vec::new();
    for round in 0..2 {
        let of = [("kurrentdb", format!("order-{round}")), ("umadb", format!("uma-{round}"))];
        let load =
            |(protocol, name): &(&str, String)| ForeignLoad::python(protocol, port, name, 100_000);
        let clients: Vec<_> = of.iter().map(load).collect();
        names.extend(of.map(|(_, name)| name));
        goes_on(&store).await;
        while counted(&store).await.len() < names.len() {}
        clients.into_iter().for_each(ForeignLoad::kill);
    }
    let counts = counted(&store).await;
    assert_eq!(counts.len(), names.len(), "{counts:?}");
    assert!(counts.values().all(|count| count % 3 == 0), "{counts:?}");
    program.stop();
}
