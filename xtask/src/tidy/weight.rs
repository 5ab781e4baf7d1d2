//! The number of crates that users compile for `leftfold`: it may only fall.

use std::collections::BTreeSet;
use std::process::Command;

use super::RuleViolation;
use crate::{Outcome, cargo};

/// Crates that `leftfold` with its default features stands on, itself and what builds it included.
const CRATES: usize = 48;
/// The machine that it is counted for, since some crates are needed on some machines only.
const MACHINE: &str = "x86_64-unknown-linux-gnu";

/// Returns the crates as cargo lists them, one a line, some of them several times.
pub(super) fn tree() -> Outcome<String> {
    let output = command().output().map_err(|error| format!("cannot start cargo: {error}"))?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("cargo cannot list the crates below leftfold: {reason}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn command() -> Command {
    let mut cargo = cargo();
    cargo.args(["tree", "-p", "leftfold", "-e", "normal,build", "--prefix", "none"]);
    cargo.args(["--target", MACHINE]);
    cargo
}

pub(super) fn check(tree: &str) -> Option<RuleViolation> {
    let found = crates(tree).len();
    let what = format!("leftfold with its default features stands on {found} crates");
    let remedy = "do without the new one, or make a feature of what needs it; \
                  `cargo tree -p leftfold -i NAME` says why it is there";
    RuleViolation::of_count(found, CRATES, &what, remedy, "CRATES in xtask/src/tidy/weight.rs")
}

/// Returns the crates by name and version, each once.
fn crates(tree: &str) -> BTreeSet<(&str, &str)> {
    let lines = tree.lines().map(|line| line.split_whitespace());
    lines.filter_map(|mut words| Some((words.next()?, words.next()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftfold_stands_on_no_more_crates_than_written() {
        assert_eq!(check(&tree().unwrap()), None);
    }

    #[test]
    fn a_crate_counts_once_however_often_it_is_listed_and_each_version_counts() {
        let tree =
            "a v0.1.0 (/some/place)\nb v1.0.0\nb v1.0.0 (*)\nb v2.0.0\nc v1.0.0 (proc-macro)\n";
        assert_eq!(
            crates(tree).into_iter().collect::<Vec<_>>(),
            [("a", "v0.1.0"), ("b", "v1.0.0"), ("b", "v2.0.0"), ("c", "v1.0.0")]
        );
    }

    #[test]
    fn one_crate_more_or_fewer_is_found() {
        let listed = |count: usize| {
            (0..count).map(|number| format!("crate-{number} v1.0.0\n")).collect::<String>()
        };
        assert_eq!(check(&listed(CRATES)), None);
        let more = check(&listed(CRATES + 1)).unwrap().to_string();
        assert!(more.contains("49 crates; 48 at most: do without"), "{more}");
        let fewer = check(&listed(CRATES - 1)).unwrap().to_string();
        assert!(fewer.contains("now write 47 into CRATES"), "{fewer}");
    }
}
