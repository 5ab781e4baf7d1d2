//! The habits of real stations, as frames: in the end csms has every session, and its energy.
//!
//! frames/README.md tells what stands in the files. All stations go side by side on one server, so
//! that one SIGKILL hits each of them at a frame.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::harness::raw::RawStation;
use crate::harness::views::TransactionView;
use crate::harness::{Api, Server};

/// A line of a file.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Line {
    Head { story: String, connectors: u32 },
    Frame { from: Side, frame: Value },
    Mark { mark: Mark },
    End { truth: Truth },
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Station,
    Server,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mark {
    Reconnect,
    Reboot,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Truth {
    sessions: Vec<Session>,
    free: Vec<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Session {
    id: Option<String>,
    connector_id: u32,
    energy_wh: Option<i64>,
    state: String,
    #[serde(default)]
    flags: Vec<String>,
    reported_id: Option<i64>,
}

/// A frame of the station, with the answer to it unless that is lost.
#[derive(Debug, Clone)]
enum Step {
    Call { frame: Value, answer: Option<Value> },
    Connect,
}

/// A station on its way through a file.
struct Replay {
    name: String,
    steps: std::vec::IntoIter<Step>,
    truth: Truth,
    socket: Option<RawStation>,
    ids: BTreeMap<String, i64>,
}

/// All files, each with its station.
fn replays() -> Vec<Replay> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frames");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|it| it == "jsonl")).collect();
    files.sort();
    files.iter().map(|path| Replay::read(path)).collect()
}

impl Replay {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let line = |line: &str| -> Line {
            serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: {e}: {line}", path.display()))
        };
        let mut lines = text.lines().map(line);
        let head = lines.next().unwrap();
        let Line::Head { story, connectors } = head else { panic!("{head:?} is no story") };
        assert!(!story.is_empty() && connectors > 0, "{}", path.display());
        let (mut steps, mut truth) = (Vec::new(), None);
        for line in lines {
            assert!(truth.is_none(), "the truth is the last line of {}", path.display());
            match (line, steps.last_mut()) {
                (Line::Frame { from: Side::Station, frame }, _) => {
                    steps.push(Step::Call { frame, answer: None });
                }
                (Line::Frame { frame: of, .. }, Some(Step::Call { frame, answer })) => {
                    assert_eq!(of[1], frame[1], "an answer follows its call");
                    *answer = Some(of);
                }
                (Line::Mark { mark: Mark::Reconnect | Mark::Reboot }, _) => {
                    steps.push(Step::Connect);
                }
                (Line::End { truth: end }, _) => truth = Some(end),
                (line, _) => panic!("{line:?} does not belong there"),
            }
        }
        Self {
            name: path.file_stem().unwrap().to_str().unwrap().to_owned(),
            steps: steps.into_iter(),
            truth: truth.expect("a file ends with the truth"),
            socket: None,
            ids: BTreeMap::new(),
        }
    }

    fn connect(&mut self, server: &Server) {
        self.socket = Some(RawStation::connect(server.address(), &self.name));
    }

    /// The next call, with the ids that the station knows; connects again if it did before.
    fn next_call(&mut self, server: &Server) -> Option<(Value, Option<Value>)> {
        loop {
            match self.steps.next()? {
                Step::Connect => self.connect(server),
                Step::Call { mut frame, answer } => {
                    if let Some(name) = frame[3]["transactionId"].as_str() {
                        frame[3]["transactionId"] = json!(self.ids[name]);
                    }
                    return Some((frame, answer));
                }
            }
        }
    }

    fn send(&mut self, frame: &Value) {
        self.socket.as_mut().unwrap().send(&frame.to_string());
    }

    /// Reads the answer to a call, and learns what it says unless that is lost.
    fn hear(&mut self, frame: &Value, expected: Option<&Value>) {
        let got = loop {
            let text = self.socket.as_mut().unwrap().read();
            let got: Value = serde_json::from_str(&text).unwrap();
            if got[0] != 2 && got[1] == frame[1] {
                break got;
            }
        };
        assert_eq!(got[0], 3, "{}: {frame} was answered with {got}", self.name);
        let Some(expected) = expected else { return };
        for (member, value) in expected[2].as_object().unwrap() {
            let told = &got[2][member];
            match value.as_str().filter(|name| name.starts_with('$')) {
                Some(name) => self.learn(name, told.as_i64().unwrap()),
                None => assert_eq!(told, value, "{}: {member} of {got}", self.name),
            }
        }
    }

    fn learn(&mut self, name: &str, id: i64) {
        let before = self.ids.insert(name.to_owned(), id);
        assert!(before.is_none_or(|it| it == id), "{}: {name} is {before:?} and {id}", self.name);
        let with_it = self.ids.values().filter(|it| **it == id).count();
        assert_eq!(with_it, 1, "{}: {id} is of two sessions: {:?}", self.name, self.ids);
    }

    /// Compares the server's books with the truth. With `doubts`, transactions may be there too
    /// that a later one says it may be a repeat of.
    fn check(&mut self, api: &Api, doubts: bool) {
        let alive = json!([2, "alive", "Heartbeat", {}]);
        self.send(&alive);
        self.hear(&alive, None);
        let mut rows: Vec<TransactionView> = api.transactions(&self.name);
        let said = format!("{}: {rows:#?}", self.name);
        for session in &self.truth.sessions {
            let id = session.id.as_ref().map(|name| self.ids[name]);
            let is_it = |row: &TransactionView| match id {
                Some(id) => row.id == id,
                None => row.reported_id == session.reported_id,
            };
            let at = rows.iter().position(is_it).unwrap_or_else(|| panic!("{session:?} in {said}"));
            let row = rows.remove(at);
            let energy_fits = match (row.energy_wh, session.energy_wh) {
                (Some(one), Some(other)) => (one - other).abs() <= 1,
                (one, other) => one == other,
            };
            assert!(energy_fits, "{session:?} in {said}");
            assert_eq!(row.state, session.state, "{session:?} in {said}");
            assert_eq!(row.connector_id, session.connector_id, "{session:?} in {said}");
            for flag in &session.flags {
                assert!(row.flags.contains(flag), "{flag} of {session:?} in {said}");
            }
        }
        let all: Vec<TransactionView> = api.transactions(&self.name);
        rows.retain(|row| !doubts || !all.iter().any(|it| it.possible_repeat_of == Some(row.id)));
        assert_eq!(rows, [], "{}: there are more than in truth", self.name);
        for connector_id in &self.truth.free {
            let reply = api.remote_start(&self.name, *connector_id, "NEXT");
            assert!(matches!(reply.status, 200 | 202), "{}: {reply:?}", self.name);
        }
    }
}

#[test]
fn every_session_of_every_habit_is_there_once_with_its_energy_and_blocks_nothing() {
    let server = Server::start();
    for mut replay in replays() {
        replay.connect(&server);
        while let Some((frame, answer)) = replay.next_call(&server) {
            replay.send(&frame);
            replay.hear(&frame, answer.as_ref());
        }
        replay.check(&server.api(), false);
    }
}

/// At some frames, with LEFTFOLD_LONG=1 at each one: each station has sent it, and some have the
/// answer. The others send it again.
#[test]
fn the_same_holds_if_the_server_is_killed_at_any_frame() {
    let mut choices = fastrand::Rng::with_seed(leftfold::testing::seed());
    let kills_in_eight = u8::try_from(leftfold::testing::extent(2, 8)).unwrap();
    let mut server = Server::start();
    let mut replays = replays();
    replays.iter_mut().for_each(|replay| replay.connect(&server));
    loop {
        let mut calls = Vec::new();
        for (nth, replay) in replays.iter_mut().enumerate() {
            if let Some((frame, answer)) = replay.next_call(&server) {
                replay.send(&frame);
                calls.push((nth, frame, answer));
            }
        }
        if calls.is_empty() {
            break;
        }
        if choices.u8(..8) < kills_in_eight {
            let (heard, unheard) = calls.into_iter().partition(|_| choices.bool());
            calls = unheard;
            hear_all(&mut replays, heard);
            server.restart();
            replays.iter_mut().for_each(|replay| replay.connect(&server));
            for (nth, frame, _) in &mut calls {
                frame[1] = json!(format!("{}-again", frame[1].as_str().unwrap()));
                replays[*nth].send(frame);
            }
        }
        hear_all(&mut replays, calls);
    }
    replays.iter_mut().for_each(|replay| replay.check(&server.api(), true));
}

fn hear_all(replays: &mut [Replay], calls: Vec<(usize, Value, Option<Value>)>) {
    for (nth, frame, answer) in calls {
        replays[nth].hear(&frame, answer.as_ref());
    }
}
