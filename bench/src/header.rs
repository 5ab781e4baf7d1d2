//! The head of a table: the machine and the settings that its figures depend on.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::machine::field;
use crate::settings::{BenchSettings, FOLDER_VARIABLE};

/// Syncs whose median is reported, at most; fewer if a round is too short for them.
const SYNCS_MAX: usize = 200;
const SYNC_BYTES: usize = 4 << 10;

/// Describes what a reader of the table must know to compare it with another.
pub(crate) fn describe(settings: &BenchSettings, folder: &Path) -> Outcome<String> {
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let model =
        field("/proc/cpuinfo", "model name")?.unwrap_or_else(|| "of unknown make".to_owned());
    let memory = field("/proc/meminfo", "MemTotal")?.unwrap_or_else(|| "unknown".to_owned());
    let kind = file_system(folder)?;
    let command = std::env::args().collect::<Vec<_>>().join(" ");
    let mut told = String::new();
    writeln!(told, "machine    {cores} cores, {model}; memory {memory}; Linux {}", kernel.trim())?;
    writeln!(
        told,
        "folder     {} on {kind}; another can be named by {FOLDER_VARIABLE}",
        settings.folder.display()
    )?;
    let (syncs, sync_ms) = sync_ms(folder, settings.span)?;
    writeln!(
        told,
        "disk       one write of 4 KiB with its fdatasync: {sync_ms:.3} ms (median of {syncs})"
    )?;
    writeln!(told, "command    {command}")?;
    let BenchSettings { rounds, events, span, .. } = settings;
    writeln!(
        told,
        "rounds     {rounds} of {:.2} s a side; {events} events in the large store",
        span.as_secs_f64()
    )?;
    if kind == "tmpfs" {
        writeln!(
            told,
            "warning    this folder is in memory: what is durable here is not measured"
        )?;
    }
    if cfg!(debug_assertions) {
        writeln!(told, "warning    this is a debug build: its figures say nothing")?;
    }
    Ok(told)
}

/// The kind of file system that the folder is on: that of the longest mount point above it.
fn file_system(folder: &Path) -> io::Result<String> {
    let folder = folder.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|fields| fields.len() > 2 && folder.starts_with(fields[1]));
    Ok(above
        .max_by_key(|fields| fields[1].len())
        .map_or_else(|| "an unknown file system".to_owned(), |fields| fields[2].to_owned()))
}

/// Times syncs, each after the same block was overwritten, and returns their number and the median
/// in milliseconds.
fn sync_ms(folder: &Path, span: Duration) -> io::Result<(usize, f64)> {
    let path = folder.join("sync");
    let file = File::create_new(&path)?;
    let mut times_ms = Vec::new();
    let first = Instant::now();
    while times_ms.is_empty() || (times_ms.len() < SYNCS_MAX && first.elapsed() < span) {
        let began = Instant::now();
        file.write_all_at(&[b'x'; SYNC_BYTES], 0)?;
        file.sync_data()?;
        times_ms.push(began.elapsed().as_secs_f64() * 1e3);
    }
    fs::remove_file(path)?;
    times_ms.sort_by(f64::total_cmp);
    Ok((times_ms.len(), times_ms[times_ms.len() / 2]))
}
