//! Headless Chromium.

use std::env;
use std::process::{Command, Output, Stdio};

use super::folder::Folder;

/// The page after its scripts have run for a while, as HTML.
#[track_caller]
pub(crate) fn dom(url: &str) -> String {
    let output = browse(url, &["--dump-dom"]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A picture of the page, as PNG.
#[track_caller]
pub(crate) fn screenshot(url: &str) -> Vec<u8> {
    let folder = Folder::new();
    let path = folder.path().join("page.png");
    let output = browse(url, &["--window-size=1280,1024", &format!("--screenshot={}", path.display())]);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[track_caller]
fn browse(url: &str, arguments: &[&str]) -> Output {
    let chromium = env::var_os("LEFTFOLD_CHROMIUM").expect("LEFTFOLD_CHROMIUM is not set; run cargo xtask test");
    let profile = Folder::new();
    let output = Command::new(chromium)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"])
        .args(["--disable-dev-shm-usage", "--timeout=15000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(arguments)
        .arg(url)
        .stdin(Stdio::null())
        .output()
        .expect("LEFTFOLD_CHROMIUM does not start; run cargo xtask test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}
