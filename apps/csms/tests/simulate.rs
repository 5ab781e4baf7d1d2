//! `csms simulate` against a real server: in the end they agree on every transaction and every Wh,
//! also if the server is killed meanwhile.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

use leftfold::testing::extent;
use serde_json::Value;

use crate::harness::Server;
use crate::harness::deadline::until;
use crate::harness::folder::Folder;
use crate::harness::server::Options;

/// A simulation that runs beside the test.
struct Simulation(Option<Child>);

impl Simulation {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        Self::start_seeded(server, seed(), arguments)
    }

    fn start_seeded(server: &Server, seed: u64, arguments: &[&str]) -> Self {
        let url = format!("http://{}", server.address());
        let seed = seed.to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_csms"))
            .args(["simulate", "--url", &url, "--json", "--seed", &seed])
            .args(arguments)
            .env_remove("CSMS_API_TOKEN")
            .env("CSMS_LOG", "warn")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo has built it");
        Self(Some(child))
    }

    /// Waits until a replay has halted before a frame.
    #[track_caller]
    fn wait_halted(&mut self) {
        let pipe = self.0.as_mut().and_then(|child| child.stderr.take());
        let mut lines = BufReader::new(pipe.expect("it is piped, and taken once")).lines();
        let halted = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("halted")));
        assert!(halted.is_some(), "the replay ended before");
    }

    fn go_on(&mut self) {
        let pipe = self.0.as_mut().and_then(|child| child.stdin.as_mut());
        writeln!(pipe.expect("it is piped"), "go on").unwrap();
    }

    /// SIGTERM: its sessions end, and it compares.
    fn stop(&self) {
        let id = self.0.as_ref().expect("it runs").id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    fn end(mut self) -> Output {
        self.0.take().expect("it ends once").wait_with_output().unwrap()
    }

    /// The report of a simulation that agrees with the server.
    #[track_caller]
    fn agreed(self) -> Value {
        let output = self.end();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "LEFTFOLD_SEED={} replays this: {said}{errors}", seed());
        serde_json::from_str(&said).unwrap()
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The seed of this run, or the one to replay.
fn seed() -> u64 {
    static DRAWN: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *DRAWN.get_or_init(leftfold::testing::seed)
}

#[test]
fn stations_with_habits_and_a_server_that_is_killed_agree_in_the_end() {
    let mut server = Server::start();
    let flags = ["--stations", "26", "--sessions", "2", "--speed", "300", "--habits", "all"];
    let simulation = Simulation::start(&server, &flags);
    for kills in 1..=3 {
        let api = server.api();
        until("so many transactions", || {
            let found = api.fetch("/api/transactions?limit=100").json();
            let count = found["items"].as_array().map_or(0, Vec::len);
            if count >= kills * 12 { Ok(()) } else { Err(format!("{count}")) }
        });
        server.restart();
    }
    let report = simulation.agreed();
    assert!(report["failedConnections"].as_u64() > Some(0) || report["resent"].as_u64() > Some(0));
    assert!(report["sessions"].as_u64() >= Some(52), "{report}");
}

#[test]
fn a_server_that_lost_a_transaction_is_told_of_when_the_simulation_is_stopped() {
    let mut server = Server::start();
    let flags = ["--stations", "4", "--duration", "1h", "--speed", "300", "--no-faults"];
    let simulation = Simulation::start(&server, &flags);
    let api = server.api();
    until("a transaction that has stopped", || {
        let found = api.fetch("/api/transactions?open=false").json();
        if found["items"][0].is_object() { Ok(()) } else { Err(found.to_string()) }
    });
    let folder = Folder::new();
    let another = format!("file://{}", folder.path().join("store").display());
    server.restart_with(Options::default().store(&another));
    simulation.stop();
    let output = simulation.end();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{report}");
    // Numbers of transactions begin anew, so some sessions are missing and others are confused.
    assert_ne!(report["disagreements"], serde_json::json!([]), "{report}");
}

/// Frames of the longest file.
const FRAMES_MAX: usize = 22;
/// Frames at which the server is killed, of a run that is not long.
const KILLS: u64 = 2;

/// The server is killed either just before the frame, or when it may be on its way.
#[test]
fn frames_of_real_stations_are_booked_as_their_files_say_with_a_kill_at_each_frame() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/frames");
    let mut moments: Vec<(usize, bool)> =
        (1..=FRAMES_MAX).flat_map(|frame| [(frame, false), (frame, true)]).collect();
    fastrand::Rng::with_seed(seed()).shuffle(&mut moments);
    moments.truncate(usize::try_from(extent(KILLS, u64::MAX)).unwrap_or(usize::MAX));
    let mut server = Server::start();
    for (nth, (frame, is_on_its_way)) in (1..).zip(moments) {
        let frame_text = frame.to_string();
        let flags = ["--replay", folder, "--halt-before", &frame_text];
        // Each round has stations of its own.
        let mut replay = Simulation::start_seeded(&server, nth, &flags);
        replay.wait_halted();
        if is_on_its_way {
            replay.go_on();
            server.kill();
        } else {
            server.kill();
            replay.go_on();
        }
        server.run();
        let report = replay.agreed();
        assert!(report["files"].as_array().unwrap().len() > 10, "{report}");
    }
}
