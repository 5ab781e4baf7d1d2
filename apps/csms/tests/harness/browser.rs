//! Headless Chromium.
//!
//! Without `--virtual-time-budget`: virtual time stands still while the page's event stream is
//! open, so that the browser would never end.

use std::env;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::deadline::until;
use super::folder::Folder;

/// The page once it has loaded, as HTML.
#[track_caller]
pub(crate) fn dom(url: &str) -> String {
    let folder = browse(url, &["--dump-dom"]);
    fs::read_to_string(folder.path().join("stdout")).unwrap()
}

/// A picture of the page in a window of a size such as `1280,1024`, as PNG. It is kept in
/// `target/dashboard` for people to look at.
#[track_caller]
pub(crate) fn screenshot(url: &str, size: &str, name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/dashboard");
    fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{name}.png"));
    browse(url, &[&format!("--window-size={size}"), &format!("--screenshot={}", path.display())]);
    fs::read(&path).unwrap_or_else(|error| panic!("there is no picture of {url}: {error}"))
}

/// Runs the browser to its end. The folder has what it wrote to standard output.
#[track_caller]
fn browse(url: &str, arguments: &[&str]) -> Folder {
    let chromium = env::var_os("LEFTFOLD_CHROMIUM")
        .expect("LEFTFOLD_CHROMIUM is not set; run cargo xtask test");
    let folder = Folder::new();
    let file = |name: &str| File::create(folder.path().join(name)).unwrap();
    let process = Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args(["--disable-dev-shm-usage", "--timeout=5000"])
        .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
        .args(arguments)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .spawn()
        .expect("LEFTFOLD_CHROMIUM does not start; run cargo xtask test");
    let mut browser = Browser(process);
    let status = until("the end of Chromium", || match browser.0.try_wait().unwrap() {
        Some(status) => Ok(status),
        None => Err("it runs".to_owned()),
    });
    assert!(
        status.success(),
        "{}",
        fs::read_to_string(folder.path().join("stderr")).unwrap_or_default()
    );
    folder
}

/// Ends with the test, even if it does not end by itself.
struct Browser(Child);

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
