//! `cargo xtask test`: everything that must hold before a change is taken in.
//!
//! The cheap checks come first and the tests last, so that their closing lines end the output.

mod programs;

use std::env;
use std::path::PathBuf;
use std::process::Command;

use crate::setup::Environment;
use crate::steps::{execute, shown, step};
use crate::{Outcome, book, cargo, examples, packages, setup, tidy};

/// The argument that asks for long runs too.
const LONG: &str = "--long";
/// By this the tests are told that they are to try much more; they read it through
/// `leftfold_testing::extent`.
const LONG_VARIABLE: &str = "LEFTFOLD_LONG";

/// Runs all steps; with arguments only set-up and `cargo test` with these arguments. What comes
/// after `--long` is run at length.
pub(crate) fn run(arguments: &[String]) -> Outcome {
    let (long, arguments) = match arguments.split_first() {
        Some((first, rest)) if first == LONG => (true, rest),
        _ => (false, arguments),
    };
    let environment = step("set-up", setup::prepare)?;
    if !arguments.is_empty() {
        let mut tests = selected_tests(arguments, &environment);
        if long {
            tests.env(LONG_VARIABLE, "1");
        }
        step("tests (a selection, no other checks)", || execute(&mut tests))?;
        println!("the selected tests passed{}", if long { ", at length" } else { "" });
        return Ok(());
    }
    step("formatting", || execute(cargo().args(["fmt", "--all", "--check"])))?;
    step("source checks", tidy::run)?;
    step("clippy", || {
        let arguments = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
        execute(cargo().args(arguments))
    })?;
    step("clippy with features that are off by default", || {
        let package = [
            "clippy",
            "-p",
            "leftfold-core",
            "--features",
            FEATURES,
            "--lib",
            "--test",
            "telemetry",
        ];
        execute(cargo().args(package).args(["--", "-D", "warnings"]))
    })?;
    step("clippy of each crate by itself, with no feature on", || {
        BY_THEMSELVES.into_iter().try_for_each(|name| {
            let package = ["clippy", "-p", name, "--lib", "--no-default-features"];
            execute(cargo().args(package).args(["--", "-D", "warnings"]))
        })
    })?;
    step("documentation", || execute(&mut documentation()))?;
    step("book", book::run)?;
    step("building the tests", || execute(all_tests(&environment).arg("--no-run")))?;
    step("tests", || beside_each_other(&environment))?;
    step("tests with features that are off by default", || execute(&mut tests_of_features()))?;
    step("examples", examples::run)?;
    step("packages and tutorial", packages::run)?;
    if long {
        step("long runs", || execute(&mut long_tests(&environment)))?;
    }
    println!("all steps passed{}", if long { ", the long runs too" } else { "" });
    Ok(())
}

fn documentation() -> Command {
    let flags = env::var("RUSTDOCFLAGS").unwrap_or_default();
    let mut cargo = cargo();
    cargo.args(["doc", "--workspace", "--no-deps"]);
    cargo.args(["--features", "leftfold/personal,leftfold-testing/personal"]);
    cargo.env("RUSTDOCFLAGS", format!("{flags} -D warnings"));
    cargo
}

fn all_tests(environment: &Environment) -> Command {
    let mut cargo = cargo();
    // One run names every failure, not only those of the first crate.
    cargo.args(["test", "--workspace", "--no-fail-fast"]);
    cargo.envs(environment.variables());
    cargo
}

/// Targets of the tests that run beside the integration tests.
const BESIDE: [&[&str]; 2] = [&["--lib", "--bins", "--examples"], &["--doc"]];

/// Runs the integration tests, and all others beside them; the output of these is shown at the end.
fn beside_each_other(environment: &Environment) -> Outcome {
    let beside = || -> Vec<Outcome<Said>> {
        let run = |targets: &&[&str]| captured(all_tests(environment).args(*targets));
        BESIDE.iter().map(run).collect()
    };
    let variables = environment.variables().map(|(name, path)| (name, PathBuf::from(path)));
    let (integration, beside) = std::thread::scope(|scope| {
        let beside = scope.spawn(beside);
        let mut cargo = all_tests(environment);
        let integration = programs::run(cargo.args(["--test", "*"]), &variables);
        (integration, beside.join())
    });
    let beside = beside.map_err(|_| "the tests beside the integration tests panicked")?;
    let mut failed: Vec<String> = integration.err().into_iter().collect();
    for outcome in beside {
        match outcome {
            Ok(said) => println!("{}{}", said.stderr, said.stdout),
            Err(reason) => failed.push(reason),
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
}

/// Output of a program.
struct Said {
    stdout: String,
    stderr: String,
}

/// Runs a program to its end and returns its output, which is shown if it fails.
fn captured(command: &mut Command) -> Outcome<Said> {
    let name = shown(command);
    let output = command.output().map_err(|error| format!("cannot start `{name}`: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = Said { stdout: text(&output.stdout), stderr: text(&output.stderr) };
    if output.status.success() {
        return Ok(said);
    }
    println!("$ {name}\n{}{}", said.stderr, said.stdout);
    Err(format!("`{name}` ended with {}", output.status))
}

/// Crates with features of their own. In the whole workspace somebody turns each feature on, and
/// cargo unifies them.
const BY_THEMSELVES: [&str; 5] =
    ["leftfold-core", "leftfold-log", "leftfold-postgres", "leftfold-testing", "leftfold"];

/// Features of the core that are off by default, and the one of serde_json on which what it does
/// depends.
const FEATURES: &str = "serde_json/arbitrary_precision,opentelemetry";

/// Tests of features that are not on by default: events are read as they were written if serde_json
/// is built with numbers of any size (cargo unifies features, so any crate of a user's program may
/// ask for that); and traces go to OpenTelemetry.
fn tests_of_features() -> Command {
    let mut cargo = cargo();
    cargo.args(["test", "-p", "leftfold-core", "--features", FEATURES, "--lib"]);
    cargo.args([
        "--test",
        "model",
        "--test",
        "process",
        "--test",
        "made_types",
        "--test",
        "telemetry",
        "--no-fail-fast",
        "--",
    ]);
    cargo.args([
        "json::",
        "upcast",
        "faithful",
        "events",
        "snapshots",
        "values",
        "every_value",
        "trace",
        "span",
    ]);
    cargo
}

/// Those that try random things, in an optimized build.
fn long_tests(environment: &Environment) -> Command {
    let mut cargo = cargo();
    cargo.args([
        "test",
        "--profile",
        "long",
        "-p",
        "leftfold-core",
        "-p",
        "leftfold-log",
        "-p",
        "leftfold-postgres",
        "-p",
        "leftfold",
        "-p",
        "examples",
    ]);
    cargo.args(["--lib", "--tests", "--examples", "--no-fail-fast"]);
    cargo.envs(environment.variables());
    cargo.env(LONG_VARIABLE, "1");
    cargo
}

/// The arguments are cargo's own, a further `--` included; the whole workspace unless they name a
/// package.
fn selected_tests(arguments: &[String], environment: &Environment) -> Command {
    let mut of_cargo = arguments.iter().take_while(|a| *a != "--");
    let package_named = of_cargo.any(|a| a.starts_with("-p") || a.starts_with("--package"));
    let mut cargo = cargo();
    cargo.arg("test");
    if !package_named {
        cargo.arg("--workspace");
    }
    cargo.args(arguments);
    cargo.envs(environment.variables());
    cargo
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_runs_over_the_whole_workspace_unless_a_package_is_named() {
        assert_eq!(selection(&["recover"]), "cargo test --workspace recover");
        assert_eq!(selection(&["--", "recover", "-p"]), "cargo test --workspace -- recover -p");
        assert_eq!(
            selection(&["-p", "leftfold-log", "--", "recover", "cut"]),
            "cargo test -p leftfold-log -- recover cut"
        );
    }

    fn selection(arguments: &[&str]) -> String {
        let arguments: Vec<String> = arguments.iter().map(|a| a.to_string()).collect();
        let environment = Environment::default();
        shown(&selected_tests(&arguments, &environment))
    }
}
