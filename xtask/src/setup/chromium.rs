//! A Chromium for the tests of the dashboard.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::apt::Apt;
use super::{CHROMIUM_VARIABLE, find_program, succeeds};
use crate::Outcome;

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The browser given, or one on the search path, or one freshly installed.
pub(super) fn prepare(apt: &mut Apt, given: Option<PathBuf>) -> Outcome<PathBuf> {
    if let Some(browser) = given {
        return match starts(&browser) {
            true => Ok(browser),
            false => Err(format!(
                "`{} --version` fails; set {CHROMIUM_VARIABLE} to a Chromium, or unset it",
                browser.display()
            )),
        };
    }
    if let Some(browser) = find() {
        return Ok(browser);
    }
    apt.install("chromium").map_err(|e| {
        format!("the tests need Chromium; {e}, or set {CHROMIUM_VARIABLE} to a Chromium or Chrome")
    })?;
    find().ok_or_else(|| {
        format!(
            "the package chromium brought no browser that starts; set {CHROMIUM_VARIABLE} to one"
        )
    })
}

/// Some systems have placeholders of these names that only print advice: a browser is one that
/// starts.
fn find() -> Option<PathBuf> {
    NAMES.iter().filter_map(|name| find_program(&[name])).find(|browser| starts(browser))
}

fn starts(browser: &Path) -> bool {
    succeeds(Command::new(browser).arg("--version"))
}
