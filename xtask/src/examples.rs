//! Runs each example's `main` to its end once, as a reader would.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::setup::target;
use crate::{Outcome, cargo, read, root, steps};

/// The folders of the packages: each `[[example]]` of their manifests is a program.
const FOLDERS: [&str; 2] = ["examples", "examples/services"];
/// A story takes a second or a few; one that takes so long hangs.
const WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Builds all, then runs one after the other, each with a fresh directory.
pub(crate) fn run() -> Outcome {
    let mut build = cargo();
    // All of the workspace, so that dependencies have the features that the tests have just been
    // built with.
    build.args(["build", "--workspace", "--examples"]);
    steps::execute(&mut build)?;
    let place = target().join("examples");
    // What an earlier run left would be another story.
    if place.exists() {
        fs::remove_dir_all(&place)
            .map_err(|error| format!("{} cannot be removed: {error}", place.display()))?;
    }
    fs::create_dir_all(&place)
        .map_err(|error| format!("{} cannot be made: {error}", place.display()))?;
    let mut failed = Vec::new();
    let mut count = 0;
    for folder in FOLDERS {
        let manifest = read(&root().join(folder).join("Cargo.toml"))?;
        for name in names(&manifest) {
            count += 1;
            let program = target().join("debug/examples").join(name);
            failed.extend(run_one(name, &program, &place.join(name)).err());
        }
    }
    match failed.as_slice() {
        [] => {
            println!("{count} examples ran to their ends");
            Ok(())
        }
        failed => Err(format!(
            "of {count} examples {} did not run to their ends: {}",
            failed.len(),
            failed.join("; ")
        )),
    }
}

/// The names of the examples that a manifest declares.
fn names(manifest: &str) -> impl Iterator<Item = &str> {
    let sections = manifest.split("[[example]]").skip(1);
    sections.filter_map(|section| {
        section.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
    })
}

/// Its output is shown if it fails.
fn run_one(name: &str, program: &Path, place: &Path) -> Outcome {
    let output = place.with_extension("txt");
    let file =
        fs::File::create(&output).map_err(|error| format!("{}: {error}", output.display()))?;
    let errors = file.try_clone().map_err(|error| format!("{}: {error}", output.display()))?;
    let mut command = Command::new(program);
    command.arg(place).stdin(Stdio::null()).stdout(file).stderr(errors);
    let began = Instant::now();
    let mut child =
        command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
    let ended = wait(&mut child, WITHIN)
        .map_err(|error| format!("{name} cannot be waited for: {error}"))?;
    let why = match ended {
        Some(status) if status.success() => {
            println!("    {name}: {:.1} s", began.elapsed().as_secs_f64());
            return Ok(());
        }
        Some(status) => format!("{name} ended with {status}"),
        None => format!("{name} did not end within {} s and was killed", WITHIN.as_secs()),
    };
    println!("    {why}; it said:\n{}", fs::read_to_string(&output).unwrap_or_default());
    Err(why)
}

/// Waits for the end of an example; `None` if it was killed because it did not end in time.
fn wait(child: &mut Child, within: Duration) -> std::io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() > within {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        sleep(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_a_manifest_are_those_that_it_declares() {
        let manifest = "[package]\nname = \"x\"\n\n[[example]]\nname = \"rover\"\npath = \"rover.rs\"\n\n[[example]]\nname = \"foos\"\n";
        assert_eq!(names(manifest).collect::<Vec<_>>(), ["rover", "foos"]);
    }

    #[test]
    fn a_program_that_hangs_is_killed_and_one_that_ends_is_not() {
        let mut hangs = Command::new("sleep").arg("600").spawn().unwrap();
        assert_eq!(wait(&mut hangs, Duration::ZERO).unwrap(), None);
        let mut ends = Command::new("true").spawn().unwrap();
        assert!(wait(&mut ends, WITHIN).unwrap().unwrap().success());
    }
}
