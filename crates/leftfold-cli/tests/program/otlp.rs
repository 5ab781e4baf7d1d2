//! Spans of a server on their way to a collector of OpenTelemetry.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{PROGRAM, Program, port, ran};

/// A server that sends its spans at once.
fn serve(store: &Path, port: u16, collector: &str) -> Program {
    let mut command = Command::new(PROGRAM);
    command.env("OTEL_BSP_SCHEDULE_DELAY", "20").env("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
    Program::serve_by(command, store, port, &[])
}

/// Of a call that says it is part of a trace, to a collector that somebody else has written.
#[test]
fn spans_of_calls_reach_a_collector_and_continue_the_trace_of_their_caller() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let python = std::env::var_os("LEFTFOLD_PYTHON").expect("run the tests by `cargo xtask test`");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/otlp.py");
    let mut command = Command::new(python);
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut collector = command.spawn().unwrap();
    let mut input = collector.stdin.take().unwrap();
    let mut lines = BufReader::new(collector.stdout.take().unwrap()).lines();
    let listens = lines.next().unwrap().unwrap();
    let program = serve(directory.path(), port, &format!("http://127.0.0.1:{listens}"));
    writeln!(input, "{port}").unwrap();
    assert_eq!(lines.next().map(Result::unwrap).as_deref(), Some("found"));
    program.stop();
    drop(input);
    assert!(collector.wait().unwrap().success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_holds_up_nobody_and_one_that_is_none_is_refused() {
    let (directory, port) = (tempfile::tempdir().unwrap(), port());
    let program = serve(directory.path(), port, "http://127.0.0.1:1");
    let store = crate::serve::open(port).await;
    assert_eq!(store.head().position.0, 0);
    program.stop();
    let store = directory.path().to_str().unwrap();
    let wrong = ran(&["serve", "--store", store, "--otlp-endpoint", "not a URL"]);
    assert!(wrong.code == 2 && wrong.said.contains("--otlp-endpoint"), "{wrong:?}");
}
