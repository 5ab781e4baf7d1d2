//! `leftfold backup` to object storage, and `restore` from it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use leftfold_proving::ObjectStorage;

use crate::support::{PROGRAM, Program, Ran, ran, ran_command, ran_with, store_of};

/// Place of the backup in the storage.
const PLACE: &str = "s3://backups/shop/nightly";

/// A day on which every lock is old, as the storage says it.
const LATER: &str = "Fri, 01 Jan 2100 00:00:00 GMT";

/// The way to the storage, on which the first request for something waits.
struct Gate {
    endpoint: String,
    waits: mpsc::Receiver<()>,
    opens: mpsc::Sender<()>,
}

/// State that the connections through a gate share.
struct Passage {
    storage: String,
    stops: &'static str,
    /// Date that the answers have in the place of their own.
    date: Option<&'static str>,
    gate: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
}

impl Gate {
    /// Lets everything through but the first request whose first line has this in it.
    fn stopping(storage: &ObjectStorage, stops: &'static str, date: Option<&'static str>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let ((waiting, waits), (opens, opened)) = (mpsc::channel(), mpsc::channel());
        let storage = storage.endpoint().trim_start_matches("http://").to_owned();
        let gate = Mutex::new(Some((waiting, opened)));
        let passage = Arc::new(Passage { storage, stops, date, gate });
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let passage = Arc::clone(&passage);
                // A client that is gone needs no answer.
                std::thread::spawn(move || drop(passage.pass(stream)));
            }
        });
        Self { endpoint, waits, opens }
    }

    /// Waits until the request is there.
    fn reached(&self) {
        self.waits.recv_timeout(Duration::from_secs(60)).unwrap();
    }

    fn open(&self) {
        self.opens.send(()).unwrap();
    }
}

impl Passage {
    /// Passes one request on, and its answer back.
    fn pass(&self, mut client: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            client.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&head).to_lowercase();
        let line = text.lines().next().unwrap_or_default();
        if line.contains(&self.stops.to_lowercase())
            && let Some((waiting, opened)) = self.gate.lock().unwrap().take()
        {
            let _ = waiting.send(());
            let _ = opened.recv();
        }
        let length = text.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
        let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut storage = TcpStream::connect(&self.storage)?;
        storage.write_all(&head[..head.len() - 2])?;
        storage.write_all(b"connection: close\r\n\r\n")?;
        std::io::copy(&mut Read::by_ref(&mut client).take(length), &mut storage)?;
        let mut answer = Vec::new();
        storage.read_to_end(&mut answer)?;
        let at = answer.windows(8).position(|part| part == b"\r\nDate: ");
        if let (Some(date), Some(at)) = (self.date, at) {
            answer[at + 8..][..date.len()].copy_from_slice(date.as_bytes());
        }
        client.write_all(&answer)
    }
}

/// Calls the program through a gate, without waiting for its end.
fn calling(gate: &Gate, arguments: &[&str]) -> JoinHandle<Ran> {
    let command = command_at(&gate.endpoint, arguments);
    std::thread::spawn(move || ran_command(command, ""))
}

/// The program, told where the storage is.
fn command(storage: &ObjectStorage, arguments: &[&str]) -> std::process::Command {
    command_at(&storage.endpoint(), arguments)
}

fn command_at(endpoint: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = std::process::Command::new(PROGRAM);
    command.env("AWS_ENDPOINT_URL", endpoint);
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret");
    command.args(arguments);
    command
}

fn called(storage: &ObjectStorage, arguments: &[&str]) -> Ran {
    ran_command(command(storage, arguments), "")
}

/// Events of so many bytes each.
fn large(number: usize, bytes: usize) -> String {
    let data = "x".repeat(bytes);
    let line =
        |at| format!(r#"{{"type":"shop.Scanned","data":{{"n":{at},"of":"{data}"}}}}"#) + "\n";
    (0..number).map(line).collect()
}

/// Brings the backup back into a new directory, and returns its events.
fn restored(storage: &ObjectStorage, directory: &Path, name: &str) -> String {
    let place = directory.join(name).to_str().unwrap().to_owned();
    called(storage, &["restore", PLACE, &place]).well();
    ran(&["read", &place, "--json"]).well()
}

#[test]
fn a_log_is_backed_up_into_object_storage_and_brought_back() {
    let (storage, directory) = (ObjectStorage::start(), tempfile::tempdir().unwrap());
    assert_eq!(storage.call("PUT", "/backups"), 200);
    let place = store_of(directory.path(), 20);
    // More than one part of an upload.
    ran_with(&["append", &place], &large(45, 200_000)).well();
    let events = || ran(&["read", &place, "--json"]).well();
    let nothing = directory.path().join("nothing").to_str().unwrap().to_owned();
    let missing = called(&storage, &["restore", PLACE, &nothing]);
    assert!(missing.code == 1 && missing.said.contains(PLACE), "{missing:?}");
    assert!(!Path::new(&nothing).exists());

    let first = called(&storage, &["backup", &place, PLACE, "--json"]).object();
    assert!(first["copiedBytes"].as_u64().unwrap() > 9_000_000, "{first}");
    assert_eq!(restored(&storage, directory.path(), "a"), events());
    ran_with(&["append", &place], &large(1, 1_000)).well();
    let second = called(&storage, &["backup", &place, PLACE, "--json"]).object();
    assert!(second["copiedBytes"].as_u64().unwrap() < 100_000, "{second}");
    assert_eq!(restored(&storage, directory.path(), "b"), events());

    // Whoever has the lock is alone; one that was killed leaves it.
    assert_eq!(storage.call("PUT", "/backups/shop/nightly/backup.lock"), 200);
    let busy = called(&storage, &["backup", &place, PLACE]);
    assert!(busy.code == 1 && busy.said.contains("backup.lock"), "{busy:?}");
    let before = events();
    ran_with(&["append", &place], &large(10, 200_000)).well();
    assert_eq!(storage.call("DELETE", "/backups/shop/nightly/backup.lock"), 204);
    Program::of(command(&storage, &["backup", &place, PLACE])).kill();
    let there = restored(&storage, directory.path(), "c");
    assert!(there == before || there == events(), "{} bytes", there.len());
    // Whether the one that was killed had it or not.
    assert_eq!(storage.call("DELETE", "/backups/shop/nightly/backup.lock"), 204);
    called(&storage, &["backup", &place, PLACE]).well();
    assert_eq!(restored(&storage, directory.path(), "d"), events());

    let other = store_of(&directory.path().join("other"), 1);
    let foreign = called(&storage, &["backup", &other, PLACE]);
    assert_eq!(foreign.code, 1, "{foreign:?}");
    let nowhere = called(&storage, &["backup", &place, "s3://nowhere/x"]);
    assert!(nowhere.code == 1 && nowhere.said.contains("NoSuchBucket"), "{nowhere:?}");
}

#[test]
fn a_backup_that_is_told_to_stop_leaves_no_lock() {
    let (storage, directory) = (ObjectStorage::start(), tempfile::tempdir().unwrap());
    assert_eq!(storage.call("PUT", "/backups"), 200);
    let place = store_of(directory.path(), 20);
    for signal in ["TERM", "INT"] {
        ran_with(&["append", &place], &large(45, 200_000)).well();
        let gate = Gate::stopping(&storage, "partNumber=2", None);
        let stopped = Program::of(command_at(&gate.endpoint, &["backup", &place, PLACE]));
        gate.reached();
        // The storage does not answer meanwhile.
        stopped.signal(signal);
        assert_eq!(stopped.ended(), Some(130));
        called(&storage, &["backup", &place, PLACE]).well();
        let events = ran(&["read", &place, "--json"]).well();
        assert_eq!(restored(&storage, directory.path(), signal), events);
    }
}

#[test]
fn a_backup_that_was_taken_over_stops_and_changes_nothing() {
    let (storage, directory) = (ObjectStorage::start(), tempfile::tempdir().unwrap());
    assert_eq!(storage.call("PUT", "/backups"), 200);
    let place = store_of(directory.path(), 20);
    ran_with(&["append", &place], &large(45, 200_000)).well();
    let backup = ["backup", &place, PLACE];
    let slow = Gate::stopping(&storage, "partNumber=2", None);
    let first = calling(&slow, &backup);
    slow.reached();
    ran_with(&["append", &place], &large(5, 200_000)).well();
    let later = Gate::stopping(&storage, "partNumber=1", Some(LATER));
    let second = calling(&later, &backup);
    later.reached();

    slow.open();
    let first = first.join().unwrap();
    assert!(first.code == 1 && first.said.contains("has taken it over"), "{first:?}");
    // The lock is that of the second one, who goes on.
    let third = called(&storage, &backup);
    assert!(third.code == 1 && third.said.contains("backup.lock"), "{third:?}");
    later.open();
    second.join().unwrap().well();
    let events = ran(&["read", &place, "--json"]).well();
    assert_eq!(restored(&storage, directory.path(), "a"), events);
    called(&storage, &backup).well();
}
