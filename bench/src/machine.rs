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
