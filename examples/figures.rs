//! Figures that examples measure, as text.

use std::path::Path;
use std::time::Duration;
use std::{fs, io};

/// Returns the memory of the process as text, if the system says so.
#[must_use]
pub fn memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok())
    };
    match (kilobytes("VmRSS:"), kilobytes("VmHWM:")) {
        (Some(now), Some(most)) => {
            format!("memory: {} MB now, {} MB at most", now / 1000, most / 1000)
        }
        _ => "memory: not known here".to_owned(),
    }
}

/// Time of all processors that the process has taken so far. `None` if the system does not say it
/// in `/proc`.
#[must_use]
pub fn processor_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the program comes second, in brackets, and may have blanks; user and system time
    // are 12 and 13 fields on.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut hundredths = || fields.next()?.parse::<u64>().ok();
    Some(Duration::from_millis(10 * (hundredths()? + hundredths()?)))
}

/// The bytes of all files in a directory, and in those below.
pub fn bytes(path: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() {
            bytes(&entry.path())?
        } else {
            entry.metadata()?.len()
        };
    }
    Ok(sum)
}

/// Formats the number of events in a second.
#[must_use]
pub fn rate(count: u64, time: Duration) -> String {
    format!("{:.0} events/s", count as f64 / time.as_secs_f64())
}

/// In seconds.
#[must_use]
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// In milliseconds.
#[must_use]
pub fn millis(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1e3)
}

/// In megabytes.
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
