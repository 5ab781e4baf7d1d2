//! Runs an example's own program and kills it, again and again, on one directory: what is left is for the test to judge.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{Place, fresh};

/// After so many kills the program is let go on to its end.
const KILLS: usize = 15;
/// Lines that it may say beyond those that it has said before.
const NEW_LINES_MAX: usize = 20;
/// A kill comes at most so long after a line, so that it does not always find the program at the same place.
const AFTER_A_LINE: Duration = Duration::from_millis(3);

// ANCHOR: killed
/// Runs `cargo run --example NAME -- DIRECTORY LOAD`, kills it by SIGKILL a little further on every time, and at last lets it
/// end. Returns the place of its store. The moments are drawn from [`leftfold::testing::seed`].
///
/// # Panics
/// Where the program cannot be built or run, where it fails, and where it ends before it was killed once.
#[must_use]
pub fn killed(example: &str, load: u32) -> Place {
    let program = built("examples", example);
    let place = fresh().expect("there is room for a store");
    let mut random = fastrand::Rng::with_seed(leftfold::testing::seed());
    let (mut kills, mut furthest) = (0, 0);
    while kills < KILLS {
        let after = furthest + random.usize(0..NEW_LINES_MAX);
        let delay = AFTER_A_LINE.mul_f64(random.f64());
        let Some(said) = run(&program, &place.path, load, Some((after, delay))) else { break };
        furthest = furthest.max(said);
        kills += 1;
    }
    assert!(kills > 0, "{example} ended before it was killed: give it more to do");
    if kills == KILLS {
        run(&program, &place.path, load, None);
    }
    place
}
// ANCHOR_END: killed

/// How many lines it had said when it was killed; none where it came to its end.
fn run(program: &Path, place: &str, load: u32, kill: Option<(usize, Duration)>) -> Option<usize> {
    let mut child = Command::new(program)
        .arg(place)
        .arg(load.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    let mut lines = BufReader::new(child.stdout.take().expect("its output is piped")).lines();
    let mut said = 0;
    loop {
        if let Some((after, delay)) = kill
            && said == after
        {
            std::thread::sleep(delay);
            child.kill().expect("it can be killed");
        }
        if lines.next().is_none_or(|line| line.is_err()) {
            break;
        }
        said += 1;
    }
    let status = child.wait().expect("it ends");
    assert!(status.success() || status.code().is_none(), "{}: {status}", program.display());
    (!status.success()).then_some(said)
}

/// The program of an example, built as the test that calls is.
///
/// # Panics
/// Where it cannot be built.
#[must_use]
pub fn built(package: &str, example: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the test has a path");
    // TARGET/debug/examples/TEST
    let (profile, target) = (test.ancestors().nth(2), test.ancestors().nth(3));
    let (Some(profile), Some(target)) = (profile, target) else { panic!("{} is no test of cargo", test.display()) };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", package, "--example", example, "--target-dir"]).arg(target);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    let status = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo can be run");
    assert!(status.success(), "{example} cannot be built: {status}");
    profile.join("examples").join(example)
}
