//! A station of the package `ocpp`, which nobody here wrote, driven from here line by line.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::server::{DEADLINE, Server};

pub(crate) struct Station {
    child: Child,
    commands: ChildStdin,
    events: Receiver<Value>,
    /// What came while something else was waited for.
    kept: Vec<Value>,
}

impl Station {
    /// A station that is not connected yet.
    pub(crate) fn new() -> Self {
        let python = std::env::var_os("LEFTFOLD_PYTHON").expect(
            "LEFTFOLD_PYTHON does not name a Python with the packages of apps/csms/tests/requirements.txt: run cargo xtask test",
        );
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/charge_point.py");
        let mut command = Command::new(python);
        let mut child = command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let commands = child.stdin.take().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or_else(|_| json!({ "printed": line }));
                if sender.send(event).is_err() {
                    return;
                }
            }
        });
        Self { child, commands, events, kept: Vec::new() }
    }

    /// A station with two available connectors, booted.
    pub(crate) fn ready(server: &Server, identity: &str) -> Self {
        let mut station = Self::new();
        station.connect(server, identity);
        station.call("BootNotification", json!({ "charge_point_model": "Two", "charge_point_vendor": "Leftfold" }));
        for connector_id in 1..=2 {
            station.status(connector_id, "Available", "NoError");
        }
        station
    }

    pub(crate) fn connect(&mut self, server: &Server, identity: &str) {
        self.tell(json!({ "do": "connect", "url": server.url(identity) }));
        assert_eq!(self.next("connected")["connected"], "ocpp1.6");
    }

    pub(crate) fn tell(&mut self, command: Value) {
        writeln!(self.commands, "{command}").unwrap();
    }

    /// Calls the server; its reply.
    #[track_caller]
    pub(crate) fn call(&mut self, action: &str, payload: Value) -> Value {
        self.tell(json!({ "do": "call", "action": action, "payload": payload }));
        self.next("reply")["payload"].clone()
    }

    pub(crate) fn status(&mut self, connector_id: u32, status: &str, error_code: &str) {
        self.call("StatusNotification", json!({ "connector_id": connector_id, "status": status, "error_code": error_code }));
    }

    /// From now on it answers so; not at all without a status.
    pub(crate) fn answer(&mut self, action: &str, status: Option<&str>) {
        self.tell(json!({ "do": "answer", "action": action, "status": status }));
    }

    /// The next event of a kind; others are kept.
    #[track_caller]
    pub(crate) fn next(&mut self, kind: &str) -> Value {
        self.next_that(|event| event.get(kind).is_some()).unwrap_or_else(|| panic!("no {kind}, but {:?}", self.kept))
    }

    /// The next call of this action by the server.
    #[track_caller]
    pub(crate) fn received(&mut self, action: &str) -> Value {
        let found = self.next_that(|event| event["received"] == action);
        found.unwrap_or_else(|| panic!("no {action}, but {:?}", self.kept))
    }

    /// How many calls of this action came within a time.
    pub(crate) fn count_within(&mut self, action: &str, within: Duration) -> usize {
        let deadline = Instant::now() + within;
        while let Ok(event) = self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            self.kept.push(event);
        }
        self.kept.iter().filter(|event| event["received"] == action).count()
    }

    fn next_that(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        if let Some(at) = self.kept.iter().position(&wanted) {
            return Some(self.kept.remove(at));
        }
        let deadline = Instant::now() + DEADLINE;
        while let Ok(event) = self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if wanted(&event) {
                return Some(event);
            }
            self.kept.push(event);
        }
        None
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
