//! The rules of the house, compared with the source itself.
//!
//! One file per rule; each rule takes the whole tree and returns what breaks it. The files are
//! those that git tracks or would track, so that it is the same in a working folder and in a clone.

mod arrows;
mod circles;
mod dependencies;
mod guides;
mod lexer;
mod manifest;
mod modules;
mod size;
mod source;
mod summaries;
mod twins;
mod weight;
mod width;
mod words;

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::{Outcome, root};
use source::SourceFile;

/// A place where the source breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RuleViolation {
    path: String,
    /// Line, counted from 1; also 1 if the file as a whole is meant.
    line: usize,
    /// Message that says what is wrong and what to do.
    message: String,
}

impl RuleViolation {
    /// A complaint about a count that is above what it may be, or below what is written of it.
    fn of_count(
        found: usize,
        limit: usize,
        what: &str,
        remedy: &str,
        constant: &str,
    ) -> Option<Self> {
        let advice = match found {
            more if more > limit => format!("{limit} at most: {remedy}"),
            fewer if fewer < limit => format!("well done, now write {fewer} into {constant}"),
            _ => return None,
        };
        Some(Self {
            path: "xtask/src/tidy".to_owned(),
            line: 1,
            message: format!("{what}; {advice}"),
        })
    }
}

impl fmt::Display for RuleViolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// `cargo xtask tidy`: prints every violation, fails if there is one.
pub(crate) fn run() -> Outcome {
    let files = read_tree(root())?;
    if !files.iter().any(|f| f.path == dependencies::ARCHITECTURE) {
        println!("there is no {} yet: dependencies are not checked", dependencies::ARCHITECTURE);
    }
    let mut violations = check(&files);
    violations.extend(weight::check(&weight::tree()?));
    for violation in &violations {
        println!("{violation}");
    }
    match violations.len() {
        0 => {
            println!("{} files are tidy", files.len());
            Ok(())
        }
        n => Err(format!("the source breaks {n} rules of the house; fix the places listed above")),
    }
}

/// All violations, in order of place.
fn check(files: &[SourceFile]) -> Vec<RuleViolation> {
    let rules = [
        arrows::check,
        modules::check,
        size::check,
        guides::check,
        words::check,
        summaries::check,
        width::check,
        dependencies::check,
    ];
    let mut violations: Vec<RuleViolation> = rules.iter().flat_map(|rule| rule(files)).collect();
    // What is counted is counted in the whole tree, and not in a few files that a test has planted.
    if files.iter().any(|file| file.path == dependencies::ARCHITECTURE) {
        violations.extend(twins::check(files).into_iter().chain(circles::check(files)));
    }
    violations.sort();
    violations
}

/// Reads the text files that git tracks or would track.
fn read_tree(root: &Path) -> Outcome<Vec<SourceFile>> {
    let mut git = Command::new("git");
    // A checkout owned by someone else (a container's volume) is read all the same; it is only
    // listed.
    git.args(["-c", "safe.directory=*", "ls-files", "-z", "-co", "--exclude-standard"]);
    let output = git.current_dir(root).output().map_err(|e| {
        format!("cannot start git: {e}; install git, the source checks list files with it")
    })?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("git cannot list the files: {reason}; run this in a git clone"));
    }
    let listed = String::from_utf8_lossy(&output.stdout);
    let paths = listed.split('\0').filter(|path| !path.is_empty());
    Ok(source::classify(paths.filter_map(|path| read(root, path)).collect()))
}

/// Reads a file; `None` if it is not text, or if it is tracked but deleted in the working folder.
fn read(root: &Path, path: &str) -> Option<SourceFile> {
    let place = root.join(path);
    if !fs::symlink_metadata(&place).ok()?.is_file() {
        return None;
    }
    let text = String::from_utf8(fs::read(&place).ok()?).ok()?;
    Some(SourceFile::new(path, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_keeps_the_rules_of_the_house() {
        let files = read_tree(root()).unwrap();
        assert!(files.iter().any(|f| f.path == "xtask/src/tidy.rs"), "this file was not listed");
        let violations: Vec<String> = check(&files).iter().map(RuleViolation::to_string).collect();
        assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
    }

    #[test]
    fn violations_come_in_order_of_place_and_say_where() {
        let planted =
            source::tree(&[("b.rs", "fn a() {\n    todo!()\n}\n"), ("a.rs", "mod util;\n")]);
        let shown: Vec<String> = check(&planted).iter().map(RuleViolation::to_string).collect();
        assert_eq!(shown.len(), 2);
        assert!(shown[0].starts_with("a.rs:1: "), "{shown:?}");
        assert!(shown[1].starts_with("b.rs:2: "), "{shown:?}");
    }
}
