//! `cargo xtask book`: the book is built, and what mdBook lets pass is checked: links, and code
//! taken from the source.
//!
//! Links are checked in the pages that were built, since only there it is certain what an anchor is
//! called. Those to other sites are not followed.

mod includes;
mod links;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, read, root, setup};

/// Two folders below the root, as the pages' source is: a link from a page to a file of the
/// repository is the same path in the source, in the forge's view of it, and in the book that was
/// built.
const BUILT: &str = "target/book";
const SOURCE: &str = "book/src";

/// Builds the book; fails if mdBook warns of anything, a link leads nowhere, or code to be included
/// is not there.
pub(crate) fn run() -> Outcome {
    let mdbook = setup::prepare_mdbook()?;
    let mut build = Command::new(mdbook);
    build.arg("build").arg(root().join("book")).arg("--dest-dir").arg(root().join(BUILT));
    let output = build.output().map_err(|e| format!("cannot start mdbook: {e}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> = said.lines().filter(|line| is_complaint(line)).collect();
    if !output.status.success() || !complaints.is_empty() {
        return Err(format!("mdbook complains:\n{said}"));
    }
    let sources = files(&root().join(SOURCE), "md")?;
    let pages = files(&root().join(BUILT), "html")?;
    let mut broken = includes::check(&sources)?;
    broken.extend(unlisted(&sources)?);
    broken.extend(links::check(&pages)?);
    if broken.is_empty() {
        println!("the book has {} pages: {BUILT}/index.html", sources.len() - 1);
        return Ok(());
    }
    broken.iter().for_each(|line| println!("{line}"));
    Err(format!("the book has {} broken places; fix those listed above", broken.len()))
}

fn is_complaint(line: &str) -> bool {
    let mut words = line.split_whitespace();
    words.any(|word| matches!(word.trim_matches(|c| c == '[' || c == ']'), "WARN" | "ERROR"))
}

/// Pages that SUMMARY.md does not list: mdBook leaves them out without a word.
fn unlisted(sources: &[PathBuf]) -> Outcome<Vec<String>> {
    let folder = root().join(SOURCE);
    let summary = read(&folder.join("SUMMARY.md"))?;
    let listed = |page: &Path| summary.contains(&format!("({})", page.display()));
    let pages = sources.iter().filter_map(|page| page.strip_prefix(&folder).ok());
    let missing = pages.filter(|page| *page != Path::new("SUMMARY.md") && !listed(page));
    Ok(missing
        .map(|page| format!("{SOURCE}/{}: is not listed in SUMMARY.md", page.display()))
        .collect())
}

/// All files below that end so, in order.
fn files(folder: &Path, extension: &str) -> Outcome<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries =
        fs::read_dir(folder).map_err(|e| format!("cannot list {}: {e}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|e| format!("cannot list {}: {e}", folder.display()))?.path();
        if path.is_dir() {
            found.extend(files(&path, extension)?);
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// A path as one reads it: from the root of the repository.
fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::is_complaint;

    #[test]
    fn warnings_and_errors_of_mdbook_are_told_from_what_it_does() {
        assert!(is_complaint(" WARN unclosed HTML tag `<b>` found in `a.md`"));
        assert!(is_complaint("2026-01-01 00:00:00 [ERROR] (mdbook::x): Could not read"));
        assert!(!is_complaint(" INFO Book building has started"));
    }
}
