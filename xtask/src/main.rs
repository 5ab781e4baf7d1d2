//! The project's own commands: `cargo xtask <command>`.
//!
//! It has one small dependency, for it is compiled before anything else is checked.

mod book;
mod examples;
mod packages;
mod setup;
mod steps;
mod test;
mod tidy;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const USAGE: &str = "\
usage: cargo xtask <command>

  test [arguments]    set up, check and test everything; with arguments: set up, then
                      `cargo test` with them, for example `test -- recover` or `test -p leftfold-log`
  test --long [arguments]
                      the same, and then the random tests again in an optimized build, much longer:
                      crash points, generated types, schedules, kills; with arguments: those
                      tests at length
  setup               set up what the tests need and print the variables they read
  crash [points] [seed]
                      crash the log at so many points of a simulated disk, in an optimized build;
                      a seed repeats a run
  book                build the book into target/book, and check its links and the code in it
  examples            run each example to its end once
  packages            package the crates, and follow the tutorial with what was packaged
  tidy                check the source against the rules of the house
  bench [arguments]   run the benchmarks, all or those named; `bench --help` says more";

/// Result of a command: nothing, or a message that says what went wrong and what to do.
type Outcome<T = ()> = Result<T, String>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Outcome {
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", arguments),
    };
    match command {
        "test" => test::run(rest),
        "setup" => setup::run(),
        "crash" => crash(rest),
        "book" => book::run(),
        "examples" => examples::run(),
        "packages" => packages::run(),
        "tidy" => tidy::run(),
        "bench" => bench(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        "" => Err(format!("a command is missing\n\n{USAGE}")),
        other => Err(format!("there is no command `{other}`\n\n{USAGE}")),
    }
}

fn bench(names: &[String]) -> Outcome {
    let mut cargo = cargo();
    cargo.args(["run", "--release", "-p", "bench", "--"]);
    if names.iter().any(|name| name.starts_with("postgres")) {
        let (variable, programs) = setup::prepare_postgres()?;
        let peers = peer("postgres", "bench-peers", None)?;
        cargo.env(variable, programs).env("LEFTFOLD_BENCH_PEERS", peers);
    }
    let means_umadb = |name: &String| {
        name.starts_with("serve-umadb")
            || (name.starts_with('s') && "serve-umadb".starts_with(&**name))
    };
    if names.iter().any(means_umadb) {
        let (variable, python) = setup::prepare_python()?;
        // Its build wants the compiler of descriptions, which a package of the tests has.
        let protoc = python.with_file_name("python-grpc-tools-protoc");
        if !protoc.exists() {
            let python = python.display();
            return Err(format!(
                "{} is not there: install grpcio-tools beside {python}, or unset {variable}",
                protoc.display()
            ));
        }
        let client = peer("umadb", "bench-umadb", Some(&protoc))?;
        cargo.env(variable, python).env("LEFTFOLD_BENCH_UMADB", client);
    }
    steps::execute(cargo.args(names))
}

/// Builds a program that stands for another store, and returns its path. They are a workspace of
/// their own.
fn peer(feature: &str, program: &str, protoc: Option<&Path>) -> Outcome<PathBuf> {
    let target = setup::target().join("peers");
    let mut build = cargo();
    build.current_dir(root().join("bench/peers"));
    build.args(["build", "--release", "--locked", "--features", feature, "--bin", program]);
    build.arg("--target-dir").arg(&target);
    if let Some(protoc) = protoc {
        build.env("PROTOC", protoc);
    }
    steps::execute(&mut build)?;
    Ok(target.join("release").join(program))
}

/// Crash points of a run, unless an argument gives their number.
const CRASHES: &str = "50000";

fn crash(arguments: &[String]) -> Outcome {
    let mut cargo = cargo();
    cargo.args([
        "test",
        "--profile",
        "long",
        "-p",
        "leftfold-log",
        "--test",
        "model",
        "--",
        "--nocapture",
    ]);
    cargo.env("LEFTFOLD_CRASHES", arguments.first().map_or(CRASHES, String::as_str));
    if let Some(seed) = arguments.get(1) {
        cargo.env("LEFTFOLD_SEED", seed);
    }
    steps::execute(&mut cargo)
}

/// The cargo that runs this program, in the workspace's root.
fn cargo() -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Reads a file of text; the error names it.
fn read(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

/// The workspace's root.
fn root() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().expect("this crate is a folder of the workspace")
}
