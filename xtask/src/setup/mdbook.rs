//! mdBook, which builds the book: a program, because as a library it would multiply the time to
//! compile xtask.

use std::path::PathBuf;
use std::process::Command;

use super::{execute_aside, find_program, given, target};
use crate::{Outcome, cargo};

const VARIABLE: &str = "LEFTFOLD_MDBOOK";
/// Newer ones may render differently.
const VERSION: &str = "0.5.4";

/// The mdBook given, or one of our version on the search path, or our own, compiled once (about a
/// minute).
pub(crate) fn prepare() -> Outcome<PathBuf> {
    if let Some(mdbook) = given(VARIABLE) {
        let version = version(&mdbook);
        return version.map(|_| mdbook.clone()).ok_or_else(|| {
            format!(
                "`{} --version` fails; set {VARIABLE} to mdBook {VERSION}, or unset it",
                mdbook.display()
            )
        });
    }
    let folder = target().join("mdbook");
    let own = folder.join("bin/mdbook");
    let candidates = find_program(&["mdbook"]).into_iter().chain([own.clone()]);
    for candidate in candidates {
        if version(&candidate).is_some_and(|v| v == format!("mdbook v{VERSION}")) {
            return Ok(candidate);
        }
    }
    let mut install = cargo();
    install.args([
        "install",
        "mdbook",
        "--version",
        VERSION,
        "--locked",
        "--force",
        "--quiet",
        "--debug",
    ]);
    install.args(["--no-default-features", "--features", "search", "--root"]).arg(&folder);
    // What it is compiled from is not needed again.
    let parts = folder.join("parts");
    install.arg("--target-dir").arg(&parts);
    let outcome = execute_aside(&mut install);
    let _ = std::fs::remove_dir_all(&parts);
    outcome.map_err(|e| {
        format!("cannot install mdBook: {e}; this needs the network once; without one, set {VARIABLE} to mdBook {VERSION}")
    })?;
    Ok(own)
}

/// Returns the version that mdBook prints, `None` if it does not run.
fn version(mdbook: &PathBuf) -> Option<String> {
    let output = Command::new(mdbook).arg("--version").output().ok()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    output.status.success().then_some(said)
}
