//! Benchmarks, measured against a ceiling in the same run: `cargo xtask bench [names] [--rounds n]
//! [--events n]`.
//!
//! The machine's own figures drift from minute to minute, so every throughput is compared with a
//! reference that is measured in turn with it, round by round, and the median of the rounds' ratios
//! is judged. Figures that have an absolute target are compared with that. No framework: rounds in
//! turn with a reference, and stores and processes that live across them, are what the known ones
//! do not do, and what is left is a loop and a table.

mod batches;
mod benchmark;
mod ceiling;
mod child;
mod commands;
mod conditions;
mod delivery;
mod encode;
mod follow;
mod header;
mod large;
mod load;
mod machine;
mod measure;
mod open;
mod postgres;
mod projections;
mod reads;
mod rounds;
mod run;
mod serve;
mod settings;
mod store;
mod table;
mod workload;

use std::error::Error;
use std::process::ExitCode;

use settings::{BenchSettings, ProcessPurpose};

/// Result of a step; every failure is reported to a person and ends the program.
type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match ProcessPurpose::parse(&arguments)? {
        ProcessPurpose::Help => println!("{}", settings::usage()),
        ProcessPurpose::Measure(settings) => runtime.block_on(measure(settings))?,
        ProcessPurpose::Child(task) => runtime.block_on(child::perform(task))?,
        ProcessPurpose::Serve(folder) => runtime.block_on(serve::child::serve(&folder))?,
    }
    Ok(())
}

async fn measure(settings: BenchSettings) -> Outcome {
    let mut run = run::BenchRun::new(settings)?;
    println!("{}", header::describe(&run.settings, run.folder())?);
    // What was measured before a failure is reported too.
    let mut rows = Vec::new();
    let outcome = measure::measure_into(&mut run, &mut rows).await;
    println!("{}", table::render(&rows));
    outcome
}
