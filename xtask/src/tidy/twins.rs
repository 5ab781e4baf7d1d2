//! Names of types that several files define: they are counted, and the count may only fall.
//!
//! Such a name sends a reader who searches for it to the wrong place.

use std::collections::BTreeMap;

use super::RuleViolation;
use super::source::SourceFile;

/// Definitions of types whose name another file defines too, in all crates and applications but the
/// examples.
const TWINS: usize = 7;

pub(super) fn check(files: &[SourceFile]) -> Vec<RuleViolation> {
    twins(files, TWINS).into_iter().collect()
}

/// The complaint about names of types that several files define, if there are more or fewer than
/// there may be.
fn twins(files: &[SourceFile], limit: usize) -> Option<RuleViolation> {
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_of_crate()) {
        let declared = file.declared(&["struct", "enum", "union", "trait"]);
        for (_, name) in declared.filter(|(at, name)| {
            !file.is_test(*at) && name.starts_with(|c: char| c.is_ascii_uppercase())
        }) {
            places.entry(name).or_default().push(&file.path);
        }
    }
    places.retain(|_, paths| paths.iter().any(|path| *path != paths[0]));
    let found: usize = places.values().map(Vec::len).sum();
    let names: Vec<&str> = places.into_keys().collect();
    let what = format!(
        "{found} definitions of types have names that another file defines too ({})",
        names.join(", ")
    );
    RuleViolation::of_count(found, limit, &what, "name what is new otherwise", "TWINS")
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn names_that_two_files_define_are_counted_and_those_of_tests_and_examples_are_not() {
        let files = tree(&[
            (
                "crates/a/src/one.rs",
                "struct State;\nenum Alone {}\n#[cfg(test)]\nmod tests {\n    struct Alone;\n}\n",
            ),
            ("crates/b/src/two.rs", "pub enum State {}\n"),
            ("crates/b/tests/three.rs", "struct State;\n"),
            ("examples/src/four.rs", "struct State;\n"),
        ]);
        assert_eq!(twins(&files, 2), None);
        let more = twins(&files, 1).unwrap().message;
        assert!(
            more.starts_with("2 definitions")
                && more.contains("(State)")
                && more.contains("1 at most"),
            "{more}"
        );
        assert!(twins(&files, 3).unwrap().message.ends_with("write 2 into TWINS"));
    }
}
