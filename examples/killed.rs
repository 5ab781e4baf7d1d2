//! Runs an example's own program and kills it, again and again, on one directory: what is left is
//! for the test to judge.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Place, fresh};

/// After so many kills the program is let go on to its end.
const KILLS: usize = 15;
/// Lines that it may say beyond those that it has said before.
const NEW_LINES_MAX: usize = 20;
/// A kill comes at most so long after a line, so that it does not always find the program at the
/// same place.
const AFTER_A_LINE: Duration = Duration::from_millis(3);

// ANCHOR: killed
/// Runs `cargo run --example NAME -- DIRECTORY LOAD`, kills it by SIGKILL a little further on every
/// time, and at last lets it end. Returns the place of its store. The moments are drawn from
/// `leftfold::testing::seed`.
///
/// # Panics
/// If the program cannot be built or run, if it fails, and if it ends before it was killed once.
#[must_use]
pub fn killed(example: &str, load: u32) -> Place {
    let program = built(example);
    let place = fresh().expect("there is room for a store");
    let command = || {
        let mut command = Command::new(&program);
        command.arg(&place.path).arg(load.to_string());
        command
    };
    let kills = kill_on_the_way(&command, KILLS, None);
    assert!(kills > 0, "{example} ended before it was killed: give it more to do");
    if kills == KILLS {
        run(command(), None, None);
    }
    place
}
// ANCHOR_END: killed

/// Runs a program that does not end, a service, and kills it by SIGKILL: so many times a little
/// further on every time, and once more when it has said its last line.
///
/// # Panics
/// If the program cannot be run, if it ends, and if it says its last line before it was killed so
/// many times.
pub fn killed_service(command: &dyn Fn() -> Command, kills: usize, last_line: &str) {
    let killed = kill_on_the_way(command, kills, Some(last_line));
    assert_eq!(killed, kills, "the service had done all before: give it more to do");
    let said = run(command(), None, Some(last_line));
    assert_eq!(said, None, "the service ended");
}

/// Returns how many times it was killed before its end, or its last line.
fn kill_on_the_way(
    command: &dyn Fn() -> Command,
    kills_max: usize,
    last_line: Option<&str>,
) -> usize {
    let mut random = fastrand::Rng::with_seed(leftfold::testing::seed());
    let (mut kills, mut furthest) = (0, 0);
    while kills < kills_max {
        let after = furthest + random.usize(0..NEW_LINES_MAX);
        let delay = AFTER_A_LINE.mul_f64(random.f64());
        let Some(said) = run(command(), Some((after, delay)), last_line) else { break };
        furthest = furthest.max(said);
        kills += 1;
    }
    kills
}

/// Returns how many lines it had said when it was killed; `None` if it came to its end, or was
/// killed at its last line.
fn run(
    mut command: Command,
    kill: Option<(usize, Duration)>,
    last_line: Option<&str>,
) -> Option<usize> {
    let program = format!("{}", command.get_program().display());
    let child = command.stdout(Stdio::piped()).spawn();
    let mut child = child.unwrap_or_else(|error| panic!("{program}: {error}"));
    let mut lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
    let (mut said, mut has_said_all) = (0, false);
    loop {
        if let Some((after, delay)) = kill
            && said == after
        {
            std::thread::sleep(delay);
            child.kill().expect("it can be killed");
        }
        let Some(Ok(line)) = lines.next() else { break };
        said += 1;
        if last_line == Some(line.as_str()) {
            has_said_all = true;
            child.kill().expect("it can be killed");
        }
    }
    let status = child.wait().expect("it ends");
    assert!(status.success() || status.code().is_none(), "{program}: {status}");
    (!status.success() && !has_said_all).then_some(said)
}

/// Builds the program of an example as the test that calls was built, and returns where it is.
///
/// # Panics
/// If it cannot be built, and if cargo did not build the caller.
#[must_use]
pub fn built(example: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    // TARGET/debug/examples/TEST
    let (folder, target) = (test.ancestors().nth(2), test.ancestors().nth(3));
    let (Some(folder), Some(target)) = (folder, target) else {
        panic!("{} is no test of cargo", test.display())
    };
    let profile = folder
        .file_name()
        .and_then(|name| name.to_str())
        .map_or("dev", |name| if name == "debug" { "dev" } else { name });
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // Of the whole workspace, so that dependencies have the features with which all tests are
    // built.
    cargo
        .args([
            "build",
            "--quiet",
            "--workspace",
            "--example",
            example,
            "--profile",
            profile,
            "--target-dir",
        ])
        .arg(target);
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo can be run");
    assert!(status.success(), "{example} cannot be built: {status}");
    folder.join("examples").join(example)
}
