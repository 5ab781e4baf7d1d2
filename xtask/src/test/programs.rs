//! Integration tests: each target is a program, and several run at once. Most of them wait for
//! servers, leases and killed programs, each for its own.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use serde_json::Value;

use super::captured;
use crate::Outcome;

/// Program with the tests of one target.
struct TestProgram {
    /// Package and target, as a person names them to cargo.
    name: String,
    /// Folder of the package, where cargo starts it.
    folder: PathBuf,
    path: PathBuf,
}

/// Builds what `cargo`, with its arguments, selects, and runs all integration tests among it, one
/// program more at once than there are processors. The output of each is shown when it has ended.
/// All are run, whatever fails; the error names those that did.
pub(super) fn run(cargo: &mut Command, variables: &[(&str, PathBuf)]) -> Outcome {
    let programs = Mutex::new(build(cargo)?);
    let failed = Mutex::new(Vec::new());
    let at_once = 1 + thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let next = programs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(program) = next else { return };
                    if program.run(variables).is_err() {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(program.name);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    match failed.is_empty() {
        true => Ok(()),
        false => Err(format!("these failed, run them with cargo test: {}", failed.join("; "))),
    }
}

/// Asks cargo for the programs, which are built if they were not.
fn build(cargo: &mut Command) -> Outcome<VecDeque<TestProgram>> {
    let said = captured(cargo.args(["--no-run", "--message-format=json-render-diagnostics"]))?;
    let mut programs: Vec<_> = said.stdout.lines().filter_map(program).collect();
    // The larger ones run longer, and one that began last would run alone.
    let size = |program: &TestProgram| fs::metadata(&program.path).map_or(0, |found| found.len());
    programs.sort_by_cached_key(|program| Reverse(size(program)));
    match programs.is_empty() {
        true => Err("cargo names no integration test".to_owned()),
        false => Ok(programs.into()),
    }
}

/// The program that one message of cargo tells of, if it is that of an integration test.
fn program(message: &str) -> Option<TestProgram> {
    let message: Value = serde_json::from_str(message).ok()?;
    let target = &message["target"];
    let is_test = target["kind"].as_array()?.iter().any(|kind| kind == "test");
    let path = PathBuf::from(message["executable"].as_str().filter(|_| is_test)?);
    let folder = PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_owned();
    let package = folder.file_name()?.to_string_lossy().into_owned();
    let name = format!("-p {package} --test {}", target["name"].as_str()?);
    Some(TestProgram { name, folder, path })
}

impl TestProgram {
    fn run(&self, variables: &[(&str, PathBuf)]) -> Outcome {
        let mut command = Command::new(&self.path);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command.envs(variables.iter().map(|(name, path)| (name, path)));
        println!("running {}", self.name);
        let started = Instant::now();
        let said = captured(&mut command);
        let seconds = started.elapsed().as_secs_f64();
        match said {
            Ok(said) => {
                println!("{}: ok in {seconds:.1} s\n{}", self.name, said.stdout);
                Ok(())
            }
            Err(error) => {
                println!("{}: failed after {seconds:.1} s", self.name);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_cargo_names_a_program_only_if_it_has_integration_tests() {
        let message = |kind: &str, executable: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/p/crates/shop/Cargo.toml",
                "target":{{"kind":["{kind}"],"name":"store"}},"executable":{executable}}}"#
            )
        };
        let found = program(&message("test", r#""/t/store-1""#)).unwrap();
        assert_eq!(found.name, "-p shop --test store");
        assert_eq!(found.folder, PathBuf::from("/p/crates/shop"));
        assert_eq!(found.path, PathBuf::from("/t/store-1"));
        assert!(program(&message("lib", r#""/t/shop-1""#)).is_none());
        assert!(program(&message("test", "null")).is_none());
        assert!(program("Compiling shop").is_none());
    }
}
