//! Processes of their own: whose memory is looked at, whose opening is not helped by what another
//! left in memory, and who can be killed.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use leftfold_core::store::{Read as Request, Version};

use crate::load::load;
use crate::{Outcome, machine, store, workload};

/// Task of a child with the store in a folder.
#[derive(Debug)]
pub(crate) struct ChildTask {
    pub(crate) job: ChildJob,
    pub(crate) folder: PathBuf,
    pub(crate) events: u64,
    pub(crate) streams: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildJob {
    /// Appends the events and closes.
    Load,
    /// Opens, reads a stream, closes.
    Open,
    /// Opens, appends the events, and goes on appending until it is killed.
    Die,
}

/// Report of a child, in lines of a name and a number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ChildReport {
    /// Time that opening took.
    pub(crate) open_ms: f64,
    /// Time until the first event of a stream was read, opening included.
    pub(crate) first_read_ms: f64,
    /// Time that the load took.
    pub(crate) load_seconds: f64,
    /// Peak memory of the process until the store was closed; 0 for a process that is to be killed.
    pub(crate) peak_mib: f64,
}

impl ChildJob {
    const ALL: [Self; 3] = [Self::Load, Self::Open, Self::Die];

    const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Open => "open",
            Self::Die => "die",
        }
    }
}

impl ChildTask {
    /// Stands first in the arguments of a child.
    pub(crate) const FLAG: &str = "--child";

    pub(crate) fn parse(arguments: &[String]) -> Outcome<Self> {
        let [job, folder, events, streams] = arguments else {
            return Err("a child wants four arguments".into());
        };
        let known = ChildJob::ALL.into_iter().find(|known| known.name() == job);
        let job = known.ok_or_else(|| format!("a child cannot {job}"))?;
        Ok(Self { job, folder: folder.into(), events: events.parse()?, streams: streams.parse()? })
    }

    /// Has a child do it. One that is to die is killed once it has reported.
    pub(crate) fn run(&self) -> Outcome<ChildReport> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([Self::FLAG, self.job.name()]).arg(&self.folder);
        command.args([self.events, self.streams].map(|number| number.to_string()));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let report = ChildReport::read(child.stdout.take());
        if report.is_err() || self.job == ChildJob::Die {
            child.kill()?;
        }
        let status = child.wait()?;
        if status.success() || self.job == ChildJob::Die {
            return report;
        }
        Err(format!("the process that was to {} the store ended with {status}", self.job.name())
            .into())
    }
}

const END: &str = "end";

impl ChildReport {
    fn write(&self) -> io::Result<()> {
        let Self { open_ms, first_read_ms, load_seconds, peak_mib } = self;
        let mut to = io::stdout().lock();
        writeln!(
            to,
            "open_ms {open_ms}\nfirst_read_ms {first_read_ms}\nload_seconds {load_seconds}\npeak_mib {peak_mib}\n{END}"
        )?;
        to.flush()
    }

    /// Reads until the report is complete.
    fn read(from: Option<impl Read>) -> Outcome<Self> {
        let mut report = Self::default();
        for line in BufReader::new(from.ok_or("the child has no output")?).lines() {
            let line = line?;
            if line == END {
                return Ok(report);
            }
            match line.split_once(' ') {
                Some(("open_ms", number)) => report.open_ms = number.parse()?,
                Some(("first_read_ms", number)) => report.first_read_ms = number.parse()?,
                Some(("load_seconds", number)) => report.load_seconds = number.parse()?,
                Some(("peak_mib", number)) => report.peak_mib = number.parse()?,
                _ => return Err(format!("a child said: {line}").into()),
            }
        }
        Err("a child ended before it had reported".into())
    }
}

/// Performs the task of a child.
pub(crate) async fn perform(task: ChildTask) -> Outcome {
    let mut report = ChildReport::default();
    let began = Instant::now();
    let store = store::open(&task.folder)?;
    report.open_ms = began.elapsed().as_secs_f64() * 1e3;
    if task.job == ChildJob::Open {
        let page = store.page(Request::stream(workload::stream(0)?, Version(1)).page_of(1)).await?;
        report.first_read_ms = began.elapsed().as_secs_f64() * 1e3;
        if page.events.is_empty() {
            return Err("the store that was opened lacks its first stream".into());
        }
    } else {
        let began = Instant::now();
        load(&store, task.events, task.streams).await?;
        report.load_seconds = began.elapsed().as_secs_f64();
    }
    if task.job == ChildJob::Die {
        report.write()?;
        // The end comes at once; should the other process be gone, not all of the disk is filled.
        load(&store, task.events.saturating_mul(10), task.streams).await?;
        return Err("nobody killed the process that was to be killed".into());
    }
    store.close().await?;
    report.peak_mib = machine::peak_memory_mib()?;
    Ok(report.write()?)
}
