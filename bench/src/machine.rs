//! The system's word on this process and on files.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::Outcome;

/// The most memory that this process ever had.
pub(crate) fn peak_memory_mib() -> Outcome<f64> {
    let peak = field("/proc/self/status", "VmHWM")?
        .ok_or("the system does not tell a process its peak memory")?;
    Ok(peak.trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}

/// Returns the bytes that all files in a folder take on disk: the length of each file, or the space
/// allocated for it if that is more.
pub(crate) fn disk_bytes(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() {
            disk_bytes(&entry.path())?
        } else {
            about.len().max(about.blocks() * 512)
        };
    }
    Ok(bytes)
}

/// The first value of a name in one of the system's `name: value` files.
pub(crate) fn field(path: &str, name: &str) -> io::Result<Option<String>> {
    let text = fs::read_to_string(path)?;
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    Ok(pairs.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim().to_owned()))
}

/// Returns the processor time that a process has taken since it began, in seconds: its own and the
/// system's on its behalf, in steps of 10 ms.
pub(crate) fn processor_seconds(process: u32) -> Outcome<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, may have spaces.
    let (_, fields) =
        text.rsplit_once(')').ok_or("the system tells of a process in another way")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(ticks.sum::<Result<u64, _>>()? as f64 / TICKS_PER_SECOND)
}

/// Ticks of the times in `/proc`, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
