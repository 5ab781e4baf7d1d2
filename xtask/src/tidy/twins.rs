//! Names of types that several files define: they are counted, and the count may only fall.
//!
//! Such a name sends a reader who searches for it to the wrong place.

use std::collections::BTreeMap;

use super::Violation;
use super::lexer::{find_words, identifier_at};
use super::source::File;

/// Definitions of types whose name another file defines too, in all crates and applications but the examples.
const TWINS: usize = 405;

pub(super) fn check(files: &[File]) -> Vec<Violation> {
    twins(files, TWINS).into_iter().collect()
}

/// The complaint about names of types that several files define, if there are more or fewer than there may be.
fn twins(files: &[File], limit: usize) -> Option<Violation> {
    let mut places: BTreeMap<&str, Vec<(&File, usize)>> = BTreeMap::new();
    for file in files.iter().filter(|file| is_counted(file)) {
        for keyword in ["struct", "enum", "union", "trait"] {
            for at in find_words(&file.code, keyword).filter(|&at| !file.is_test(at)) {
                let name = identifier_at(&file.code, at + keyword.len());
                if name.starts_with(|c: char| c.is_ascii_uppercase()) {
                    places.entry(name).or_default().push((file, at));
                }
            }
        }
    }
    let in_several = |places: &&Vec<(&File, usize)>| places.iter().any(|(file, _)| file.path != places[0].0.path);
    let found: usize = places.values().filter(in_several).map(Vec::len).sum();
    let names: Vec<&str> = places.iter().filter(|(_, places)| in_several(places)).map(|(name, _)| *name).collect();
    let what = format!("{found} definitions of types have names that another file defines too ({})", names.join(", "));
    judged(found, limit, what, "name what is new otherwise", "TWINS")
}

/// Examples are programs of their own, and tests may name things as they like.
pub(super) fn is_counted(file: &File) -> bool {
    file.is_rust() && file.path.contains("/src/") && !file.path.starts_with("examples/")
}

pub(super) fn judged(found: usize, limit: usize, what: String, remedy: &str, name: &str) -> Option<Violation> {
    let say = |advice: String| {
        let message = format!("{what}; {advice}");
        Some(Violation { path: "xtask/src/tidy".to_owned(), line: 1, message })
    };
    match found {
        more if more > limit => say(format!("{limit} at most: {remedy}")),
        fewer if fewer < limit => say(format!("well done, now write {fewer} into {name}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn names_that_two_files_define_are_counted_and_those_of_tests_and_examples_are_not() {
        let files = tree(&[
            ("crates/a/src/one.rs", "struct State;\nenum Alone {}\n#[cfg(test)]\nmod tests {\n    struct Alone;\n}\n"),
            ("crates/b/src/two.rs", "pub enum State {}\n"),
            ("crates/b/tests/three.rs", "struct State;\n"),
            ("examples/src/four.rs", "struct State;\n"),
        ]);
        assert_eq!(twins(&files, 2), None);
        let more = twins(&files, 1).unwrap().message;
        assert!(more.starts_with("2 definitions") && more.contains("(State)") && more.contains("1 at most"), "{more}");
        assert!(twins(&files, 3).unwrap().message.ends_with("write 2 into TWINS"));
    }
}
