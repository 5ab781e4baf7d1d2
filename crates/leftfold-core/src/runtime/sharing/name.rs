//! The name of a runtime that was given none.

/// Returns the name of the machine, as far as it is known, and the id of the process.
pub(in crate::runtime) fn default_name() -> String {
    let told = std::env::var("HOSTNAME").ok();
    let of_kernel = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = told.or_else(of_kernel).unwrap_or_default();
    let host = match host.trim() {
        "" => "localhost",
        host => host,
    };
    format!("{host}:{}", std::process::id())
}
