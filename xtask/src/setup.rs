//! Setup of the tools that the tests need besides Rust: a Python and a Node with the packages of
//! clients, a program with the client of KurrentDB in Rust, a headless Chromium, PostgreSQL,
//! PgBouncer, Redis, RabbitMQ and NATS; and of mdBook for the book.
//!
//! A missing tool is installed if that is possible (packages of Python into `target/venv`, those of
//! Node into `target/node`, mdBook into `target/mdbook`, programs with apt if this runs as root) or
//! built (into `target/kurrent-calls`);
//! otherwise the error says what to install. When all is there this takes a fraction of a second
//! and uses no network.

mod apt;
mod chromium;
mod kurrent;
mod mdbook;
mod node;
mod policy;
mod python;
mod servers;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use crate::steps::{execute, shown};
use crate::{Outcome, root};
use apt::Apt;

const PYTHON_VARIABLE: &str = "LEFTFOLD_PYTHON";
const CHROMIUM_VARIABLE: &str = "LEFTFOLD_CHROMIUM";

/// Paths of the tools that the tests need.
#[cfg_attr(test, derive(Default))]
pub(crate) struct Environment {
    /// A Python that can import what the files of requirements pin.
    python: PathBuf,
    /// A Chromium or Chrome that starts.
    chromium: PathBuf,
    /// The folder of `postgres`, `initdb`, `psql`, `pg_basebackup` and `pg_dump`.
    postgres: PathBuf,
    /// `pgbouncer`.
    pgbouncer: PathBuf,
    /// `redis-server`.
    redis: PathBuf,
    /// The folder of `rabbitmq-server` and `rabbitmqctl`, those that run as anybody.
    rabbitmq: PathBuf,
    /// `nats-server`.
    nats: PathBuf,
    /// `node`.
    node: PathBuf,
    /// The folder whose `node_modules` has the pinned packages.
    node_clients: PathBuf,
    /// The program that calls a server by the crate `kurrentdb`.
    kurrent_calls: PathBuf,
}

impl Environment {
    /// The variables by which the tests are told.
    pub(crate) fn variables(&self) -> [(&'static str, &Path); 10] {
        [
            (PYTHON_VARIABLE, &self.python),
            (CHROMIUM_VARIABLE, &self.chromium),
            (servers::POSTGRES.variable, &self.postgres),
            (servers::PGBOUNCER.variable, &self.pgbouncer),
            (servers::REDIS.variable, &self.redis),
            (servers::RABBITMQ.variable, &self.rabbitmq),
            (servers::NATS.variable, &self.nats),
            (node::NODE_VARIABLE, &self.node),
            (node::CLIENTS_VARIABLE, &self.node_clients),
            (kurrent::CALLS_VARIABLE, &self.kurrent_calls),
        ]
    }
}

/// `cargo xtask setup`: only the export lines go to standard output, so that a shell can evaluate
/// them.
pub(crate) fn run() -> Outcome {
    for (name, path) in prepare()?.variables() {
        let quoted = path.to_string_lossy().replace('\'', r"'\''");
        println!("export {name}='{quoted}'");
    }
    Ok(())
}

/// Finds or installs everything that tests need. What is found elsewhere is taken from the
/// variables that the tests read.
pub(crate) fn prepare() -> Outcome<Environment> {
    thread::scope(|scope| {
        // It keeps the processors busy while the others wait for the network.
        let calls = scope.spawn(kurrent::prepare);
        let calls = || calls.join().map_err(|_| "the build of the calls panicked".to_owned())?;
        prepare_beside(calls)
    })
}

/// Finds or installs all but the program that calls as a client of KurrentDB, which is ready in the
/// end.
fn prepare_beside(kurrent_calls: impl FnOnce() -> Outcome<PathBuf>) -> Outcome<Environment> {
    let mut apt = Apt::new();
    let python = python::prepare(&mut apt, given(PYTHON_VARIABLE))?;
    let chromium = chromium::prepare(&mut apt, given(CHROMIUM_VARIABLE))?;
    let postgres = servers::POSTGRES.prepare(&mut apt)?;
    let pgbouncer = servers::PGBOUNCER.prepare(&mut apt)?;
    let redis = servers::REDIS.prepare(&mut apt)?;
    let rabbitmq = servers::RABBITMQ.prepare(&mut apt)?;
    let nats = servers::NATS.prepare_beside(&python, &mut apt)?;
    let node::NodeClients { node, clients: node_clients } = node::prepare(&mut apt)?;
    Ok(Environment {
        python,
        chromium,
        postgres,
        pgbouncer,
        redis,
        rabbitmq,
        nats,
        node,
        node_clients,
        kurrent_calls: kurrent_calls()?,
    })
}

/// Finds or installs PostgreSQL; returns the variable that names its folder, and the folder.
pub(crate) fn prepare_postgres() -> Outcome<(&'static str, PathBuf)> {
    Ok((servers::POSTGRES.variable, servers::POSTGRES.prepare(&mut Apt::new())?))
}

/// Finds or installs Python with the packages of the tests; returns the variable that names it, and
/// its path.
pub(crate) fn prepare_python() -> Outcome<(&'static str, PathBuf)> {
    Ok((PYTHON_VARIABLE, python::prepare(&mut Apt::new(), given(PYTHON_VARIABLE))?))
}

/// The mdBook that builds the book, found or installed. Tests do not need it.
pub(crate) use mdbook::prepare as prepare_mdbook;

fn given(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from)
}

/// Runs a program that may take a while; all it says goes to standard error.
fn execute_aside(command: &mut Command) -> Outcome {
    eprintln!("    {}", shown(command));
    execute(command.stdin(Stdio::null()).stdout(std::io::stderr()))
}

/// Runs a program silently and tells whether it succeeded.
fn succeeds(command: &mut Command) -> bool {
    let output = command.stdin(Stdio::null()).output();
    output.is_ok_and(|Output { status, .. }| status.success())
}

/// The first of these programs on the search path.
fn find_program(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let folders: Vec<PathBuf> = env::split_paths(&path).collect();
    let mut candidates = names.iter().flat_map(|name| folders.iter().map(move |f| f.join(name)));
    candidates.find(|candidate| candidate.is_file())
}

/// Returns Cargo's target folder, also if the environment moves it.
pub(crate) fn target() -> PathBuf {
    let moved = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    root().join(moved)
}
