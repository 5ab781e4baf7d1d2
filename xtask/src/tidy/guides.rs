//! Guides to folders: the file that declares the modules of a folder names each of them in the
//! comments at its top, in the order of the work.
//!
//! Such a file is `mod.rs`, or `lib.rs` of a crate. The guide is its documentation and the plain
//! comments between the modules; a name counts in backquotes. Modules of tests need none.

use super::RuleViolation;
use super::lexer::find_words;
use super::source::SourceFile;

/// Folders whose guides are older than the rule and do not name every file yet.
const OLDER: [&str; 3] = [
    "apps/csms/src/api/mod.rs",
    "apps/csms/src/ocpp/mod.rs",
    "crates/leftfold-postgres/src/lib.rs",
];

pub(super) fn check(files: &[SourceFile]) -> Vec<RuleViolation> {
    let is_guide = |file: &&SourceFile| {
        let name = file.path.rsplit('/').next();
        file.is_rust() && matches!(name, Some("mod.rs" | "lib.rs")) && !file.is_test(0)
    };
    let guides = files.iter().filter(is_guide).filter(|file| !OLDER.contains(&file.path.as_str()));
    guides.flat_map(unnamed).collect()
}

/// Complaints about modules that the guide of their folder does not name.
fn unnamed(file: &SourceFile) -> Vec<RuleViolation> {
    let guide = guide(&file.text);
    let declared = file.declared(&["mod"]).filter(|(at, name)| {
        let end = file.code[*at..].find(['{', ';']).map(|length| file.code.as_bytes()[at + length]);
        end == Some(b';') && !name.is_empty() && !file.is_test(*at)
    });
    let is_named = |name: &str| {
        let quoted = |at: usize| {
            let before = guide[..at].ends_with('`');
            before && guide[at + name.len()..].starts_with(['`', '/', '.'])
        };
        find_words(&guide, name).any(quoted)
    };
    let missing = declared.filter(|(_, name)| !is_named(name));
    missing
        .map(|(at, name)| {
            let message =
                format!("the guide at the top does not name `{name}`: say what it is for");
            file.violation(at, message)
        })
        .collect()
}

/// The comments of a file that are about its folder: those of the module, and plain ones.
fn guide(text: &str) -> String {
    let comment = |line: &&str| line.starts_with("//!") || line.starts_with("// ");
    text.lines().filter(comment).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn a_module_that_the_guide_of_its_folder_does_not_name_is_found() {
        let text = "//! `one` comes first, then [`two`].\n\nmod four;\nmod one;\npub mod two;\n// `three/` is last.\nmod three;\n#[cfg(test)]\nmod tests;\nmod inner {\n}\n";
        let files = tree(&[
            ("crates/a/src/b/mod.rs", text),
            ("crates/a/src/c.rs", "mod five;\n"),
            ("crates/a/tests/d/mod.rs", "mod six;\n"),
        ]);
        let found = check(&files);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].path.as_str(), found[0].line), ("crates/a/src/b/mod.rs", 3));
    }

    #[test]
    fn a_name_in_a_longer_word_or_without_backquotes_does_not_count() {
        let text = "//! The queue, and `queues`.\nmod queue;\n";
        assert_eq!(check(&tree(&[("crates/a/src/lib.rs", text)])).len(), 1);
    }
}
