//! `csms simulate` against a real server: in the end they agree on every transaction and every Wh,
//! also if the server is killed meanwhile.

use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use crate::harness::Server;
use crate::harness::deadline::until;
use crate::harness::folder::Folder;
use crate::harness::server::Options;

/// A simulation that runs beside the test.
struct Simulation(Option<Child>);

impl Simulation {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let url = format!("http://{}", server.address());
        let seed = seed().to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_csms"))
            .args(["simulate", "--url", &url, "--json", "--seed", &seed])
            .args(arguments)
            .env_remove("CSMS_API_TOKEN")
            .env("CSMS_LOG", "warn")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo has built it");
        Self(Some(child))
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
    *DRAWN.get_or_init(|| match std::env::var("LEFTFOLD_SEED") {
        Ok(text) => text.parse().expect("LEFTFOLD_SEED is a number"),
        Err(_) => u64::from(std::process::id()),
    })
}

/// Habits for which the books are right.
const HABITS: &str = "clock-wrong-until-boot,quick-succession,kwh-unit,missing-unit,per-phase,\
    signed-meter-values,resend-new-id,constant-message-ids,no-boot-on-reconnect,never-pong,\
    origin-file,double-slash-path,trailing-slash,encoded-identity,register-jump,stop-zero-meter,stop-negative-meter,\
    register-reset";

#[test]
fn stations_with_habits_and_a_server_that_is_killed_agree_in_the_end() {
    let mut server = Server::start();
    let flags = ["--stations", "16", "--sessions", "3", "--speed", "400", "--habits", HABITS];
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
    assert!(report["sessions"].as_u64() >= Some(48), "{report}");
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
    let differences = report["disagreements"].as_array().unwrap();
    assert!(differences.iter().any(|found| found["difference"] == "missing"), "{report}");
}
