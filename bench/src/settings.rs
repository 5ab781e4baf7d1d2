//! Settings from the command line.

use std::path::PathBuf;
use std::time::Duration;

use crate::Outcome;
use crate::benchmark::Benchmark;
use crate::child::ChildTask;
use crate::serve::child as server;

/// The variable that names the folder in which stores are made.
pub(crate) const FOLDER_VARIABLE: &str = "LEFTFOLD_BENCH_DIR";

/// Purpose for which this process is started.
pub(crate) enum ProcessPurpose {
    Help,
    Measure(BenchSettings),
    /// A process of its own that the measuring one starts: for its memory, or to be killed.
    Child(ChildTask),
    /// A process of its own that is a server over the store in a folder.
    Serve(PathBuf),
}

/// Settings of the measuring.
#[derive(Debug)]
pub(crate) struct BenchSettings {
    /// In the order in which they run.
    pub(crate) benchmarks: Vec<Benchmark>,
    pub(crate) rounds: u32,
    /// Events of the large store.
    pub(crate) events: u64,
    /// Time that one side of a round lasts.
    pub(crate) span: Duration,
    /// Folder in which the folder of this run is made, with its stores.
    pub(crate) folder: PathBuf,
}

impl ProcessPurpose {
    pub(crate) fn parse(arguments: &[String]) -> Outcome<Self> {
        if arguments.first().is_some_and(|first| first == ChildTask::FLAG) {
            return Ok(Self::Child(ChildTask::parse(&arguments[1..])?));
        }
        if let [first, folder] = arguments
            && first == server::FLAG
        {
            return Ok(Self::Serve(folder.into()));
        }
        let (mut rounds, mut events, mut seconds) = (5, 1_000_000, 2.0);
        let mut names = Vec::new();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or(format!("{argument} wants a number"));
            match argument.as_str() {
                "--rounds" => rounds = value()?.parse::<u32>()?.max(1),
                "--events" => events = value()?.replace('_', "").parse::<u64>()?.max(1),
                "--seconds" => seconds = value()?.parse()?,
                "--help" | "-h" => return Ok(Self::Help),
                flag if flag.starts_with('-') => {
                    return Err(format!("there is no option {flag}\n\n{}", usage()).into());
                }
                name => names.push(name.to_owned()),
            }
        }
        let span = Duration::try_from_secs_f64(seconds)?;
        Ok(Self::Measure(BenchSettings {
            benchmarks: named(&names)?,
            rounds,
            events,
            span,
            folder: folder()?,
        }))
    }
}

/// Returns every benchmark that is named: by its own name, or by a beginning of it that is no
/// benchmark's name. All that need no server if no name is given.
fn named(names: &[String]) -> Outcome<Vec<Benchmark>> {
    let exact = |name: &str| Benchmark::ALL.iter().any(|benchmark| benchmark.name() == name);
    let begins = |benchmark: &Benchmark, name: &String| {
        benchmark.name() == name || (!exact(name) && benchmark.name().starts_with(name.as_str()))
    };
    if let Some(unknown) =
        names.iter().find(|name| !Benchmark::ALL.iter().any(|benchmark| begins(benchmark, name)))
    {
        return Err(format!("there is no benchmark {unknown}\n\n{}", usage()).into());
    }
    let wanted = |benchmark: &&Benchmark| {
        let all = names.is_empty() && !benchmark.is_on_request();
        all || names.iter().any(|name| begins(benchmark, name))
    };
    Ok(Benchmark::ALL.iter().filter(wanted).copied().collect())
}

fn folder() -> Outcome<PathBuf> {
    if let Some(named) = std::env::var_os(FOLDER_VARIABLE) {
        return Ok(named.into());
    }
    // The program lies in a profile's folder of the target directory.
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).ok_or("the program lies in no target directory")?;
    Ok(target.join("bench-data"))
}

pub(crate) fn usage() -> String {
    let mut usage = "\
usage: cargo xtask bench [names] [--rounds n] [--events n] [--seconds s]

  names        which benchmarks, by the beginning of their names; if none is given all but those
               of PostgreSQL and of a server
  --rounds n   how often each figure and its reference are measured in turn (5)
  --events n   events of the large store (1000000)
  --seconds s  how long each side of a round lasts (2)

Stores are made in the folder that LEFTFOLD_BENCH_DIR names, or in the target directory;
what an interrupted run leaves there may be deleted.

benchmarks:
"
    .to_owned();
    for benchmark in Benchmark::ALL {
        usage += &format!("  {:<26} {}\n", benchmark.name(), benchmark.about());
    }
    usage
}
