//! Every benchmark still runs: the program itself, with sizes that measure nothing.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the benchmarks of these names, all if there is none, in a folder that it returns, and looks
/// for the rows in the table.
fn run(folder: &str, names: &[&str], rows: &[&str]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(folder);
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench
        .args(["--rounds", "1", "--events", "2000", "--seconds", "0.02"])
        .args(names)
        .env("LEFTFOLD_BENCH_DIR", &folder);
    let output = bench.output().unwrap();
    let (table, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{table}\n{errors}");
    for row in rows {
        assert!(table.contains(row), "there is no row {row:?}\n{table}\n{errors}");
    }
    folder
}

#[test]
fn every_benchmark_ends_with_its_rows_in_the_table() {
    let rows = [
        "| commands, writers: 1 ",
        "| commands, writers: 16 ",
        "| commands, writers: 256 ",
        "| events in batches of 100 of one stream, writers: 16 ",
        "| events in batches of 100 of as many streams, writers: 16 ",
        "| an event of 256 bytes read back before it is written, more than serde_json ",
        "| conditional append, events: 1000, writers: 1 ",
        "| conditional append, events: 1000, writers: 16 ",
        "| disk for each of 2000 events in 2 streams ",
        "| peak memory while loading, set to 64 MiB ",
        "| open 2000 events after a close ",
        "| open and read from 2000 events after a close ",
        "| events read, of 2000 ",
        "| events read and folded, of 2000 ",
        "| stream of 1000 among 2000, median ",
        "| stream of 1000 among 2000, 99 of 100 ",
        "| events into SQLite, of 2000 ",
        "| events into SQLite, of 2000, held against a loop ",
        "| events into a fold in memory, of 2000 ",
        "| events into a fold in memory, of 2000, held against a loop ",
        "| conditional append, events: 2000, writers: 1 ",
        "| conditional append, events: 2000, writers: 16 ",
        "| open 2000 events and more after SIGKILL ",
        "| follower: append to delivery at 10,000/s, median ",
        "| follower: append to delivery at 10,000/s, 99 of 100 ",
    ];
    let folder = run("smoke", &[], &rows);
    let left = std::fs::read_dir(&folder).unwrap().count();
    assert_eq!(left, 0, "the run left something in {}", folder.display());
}

#[test]
fn every_benchmark_of_postgres_that_needs_no_peer_ends_with_its_rows() {
    let names = [
        "postgres-batches",
        "postgres-delivery",
        "postgres-projections",
        "postgres-reads",
        "postgres-conditions",
        "postgres-slope",
    ];
    let rows = [
        "| PostgreSQL: events in batches of 100, writers: 16 ",
        "| PostgreSQL: append to delivery at 5,000/s, median ",
        "| PostgreSQL: append to delivery at 5,000/s, 99 of 100 ",
        "| PostgreSQL: events into the same database, of 200 ",
        "| PostgreSQL: stream of 1000 among 2000, median ",
        "| PostgreSQL: condition on a tag of 6000, position: newest ",
        "| PostgreSQL: condition on a tag of 6000, position: old ",
        "| PostgreSQL: appends of 100 behind 6000 events ",
        "| PostgreSQL: a page of 500 behind 6000 events ",
    ];
    run("smoke-postgres", &names, &rows);
}

#[test]
fn every_benchmark_of_a_server_ends_with_its_rows() {
    let rows = [
        "| server: appends of one event, connections: 16 ",
        "| server: append to delivery at 10,000/s, median ",
        "| server: append to delivery at 10,000/s, 99 of 100 ",
        "| server: append to delivery at 10,000/s to 100 subscribers, median ",
        "| server: append to delivery at 10,000/s to 100 subscribers, 99 of 100 ",
    ];
    run("smoke-serve", &["serve-appends", "serve-delivery"], &rows);
}

#[test]
fn an_unknown_name_is_an_error_that_tells_the_known_ones() {
    let output = Command::new(env!("CARGO_BIN_EXE_bench")).arg("no-such").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("read-stream"), "{errors}");
}
