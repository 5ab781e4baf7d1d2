//! Words that do not belong into the source, each with its reason.

use super::RuleViolation;
use super::lexer::{find_words, is_word};
use super::source::SourceFile;

/// Part of the repository in which a word is looked for.
#[derive(Clone, Copy, PartialEq)]
enum SearchedPart {
    /// Parts of the names of types, modules, files and folders, whatever their case.
    Name,
    /// Rust, without comments and literals.
    Code,
    /// The same, if it exists only in tests.
    TestCode,
    /// Everything in any text file, lock files excepted.
    Text,
}

struct Banned {
    word: &'static str,
    place: SearchedPart,
    /// Reason, and what to write instead.
    reason: &'static str,
}

const fn banned(word: &'static str, place: SearchedPart, reason: &'static str) -> Banned {
    Banned { word, place, reason }
}

const VAGUE: &str = "says nothing; name it after what it does or knows";
const UNFINISHED: &str = "finish it, or refuse the case with a typed error";
const MARKER: &str = "write down as a sentence what holds today, and open an issue for the rest";
const MACHINE: &str =
    "is a path of one machine; name it from the root of the repository, or take it as an argument";

/// Split where a row would otherwise break the rule it states.
const TABLE: [Banned; 18] = [
    banned("manager", SearchedPart::Name, VAGUE),
    banned("managers", SearchedPart::Name, VAGUE),
    banned("helper", SearchedPart::Name, VAGUE),
    banned("helpers", SearchedPart::Name, VAGUE),
    banned("util", SearchedPart::Name, VAGUE),
    banned("utils", SearchedPart::Name, VAGUE),
    banned("common", SearchedPart::Name, VAGUE),
    banned(
        "fn get_",
        SearchedPart::Code,
        "is a prefix that says nothing; name the function after what it returns",
    ),
    banned("todo!(", SearchedPart::Code, UNFINISHED),
    banned("unimplemented!(", SearchedPart::Code, UNFINISHED),
    banned(
        "dbg!(",
        SearchedPart::Code,
        "is for the moment of looking; take it out, or write a tracing event",
    ),
    banned(
        "#[ignore",
        SearchedPart::Code,
        "is a test that proves nothing; make it run, or remove it",
    ),
    banned(
        "sleep(",
        SearchedPart::TestCode,
        "makes a test slow or flaky; wait for the event itself, with a deadline",
    ),
    banned(concat!("FIX", "ME"), SearchedPart::Text, MARKER),
    banned(concat!("XX", "X"), SearchedPart::Text, MARKER),
    banned(concat!("/wo", "rk/"), SearchedPart::Text, MACHINE),
    banned(concat!("/ro", "ot/"), SearchedPart::Text, MACHINE),
    banned(concat!("/fa", "rm/"), SearchedPart::Text, MACHINE),
];

/// Files that may contain `unsafe`, each with its reason beside it.
const UNSAFE_ALLOWED: [&str; 0] = [];

pub(super) fn check(files: &[SourceFile]) -> Vec<RuleViolation> {
    files.iter().flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<RuleViolation> {
    let mut violations = names(file);
    for row in &TABLE {
        let places = occurrences(file, row).into_iter();
        violations.extend(places.map(|at| file.violation(at, complaint(row.word, row.reason))));
    }
    if !UNSAFE_ALLOWED.contains(&file.path.as_str()) {
        let reason =
            "is allowed only in the files listed in xtask/src/tidy/words.rs; do without it";
        let places = find_words(&file.code, "unsafe");
        violations.extend(places.map(|at| file.violation(at, complaint("unsafe", reason))));
    }
    violations
}

fn occurrences(file: &SourceFile, row: &Banned) -> Vec<usize> {
    match row.place {
        SearchedPart::Name => Vec::new(),
        SearchedPart::Code => find_words(&file.code, row.word).collect(),
        SearchedPart::TestCode => {
            // A method of that name is not the function: a simulated clock may well have one.
            let is_method = |at: usize| file.code[..at].ends_with('.');
            find_words(&file.code, row.word)
                .filter(|&at| file.is_test(at) && !is_method(at))
                .collect()
        }
        SearchedPart::Text if is_lock_file(&file.path) => Vec::new(),
        // A path begins where nothing belongs to it from before: `a/b/` does not contain `/b/`.
        SearchedPart::Text => find_words(&file.text, row.word)
            .filter(|&at| {
                !row.word.starts_with('/') || at == 0 || !in_path(file.text.as_bytes()[at - 1])
            })
            .collect(),
    }
}

fn in_path(byte: u8) -> bool {
    is_word(byte) || matches!(byte, b'.' | b'-' | b'}' | b')')
}

fn is_lock_file(path: &str) -> bool {
    path.ends_with(".lock") || path.ends_with("-lock.json") || path.ends_with("-lock.yaml")
}

/// Names of the file and its folders, and of the types and modules that it declares.
fn names(file: &SourceFile) -> Vec<RuleViolation> {
    let of_path = named(&file.path);
    let mut found: Vec<RuleViolation> =
        of_path.map(|row| file.violation(0, complaint(&file.path, row.reason))).collect();
    for (at, name) in file.declared(&["struct", "enum", "union", "trait", "type", "mod"]) {
        found.extend(named(name).map(|row| file.violation(at, complaint(name, row.reason))));
    }
    found
}

/// The rows of the table that a name breaks.
fn named(name: &str) -> impl Iterator<Item = &'static Banned> {
    let parts = parts(name);
    let rows = TABLE.iter().filter(|row| row.place == SearchedPart::Name);
    rows.filter(move |row| parts.iter().any(|part| part == row.word))
}

/// The words of a name, in lower case: `crates/FileHelper_2.rs` is crates, file, helper, 2, rs.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for character in name.chars() {
        if !character.is_alphanumeric() || character.is_uppercase() {
            parts.push(String::new());
        }
        if character.is_alphanumeric() {
            let part = parts.last_mut().expect("there is one from the start");
            part.extend(character.to_lowercase());
        }
    }
    parts
}

fn complaint(what: &str, reason: &str) -> String {
    format!("`{what}` {reason}")
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn every_row_bites() {
        for row in &TABLE {
            let (path, text) = match row.place {
                SearchedPart::Name => (
                    "a.rs",
                    format!("struct Stream{}{};\n", row.word[..1].to_uppercase(), &row.word[1..]),
                ),
                SearchedPart::Code => ("a.rs", format!("fn a() {{ {}", row.word)),
                SearchedPart::TestCode => {
                    ("tests/a.rs", format!("fn a() {{ std::thread::{}1) }}", row.word))
                }
                SearchedPart::Text => ("a.md", format!("see {} there", row.word)),
            };
            let found = check(&tree(&[(path, &text)]));
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].message.contains(row.reason), "{found:?}");
        }
    }

    #[test]
    fn names_of_files_and_modules_count_too() {
        for (path, text) in [
            ("src/helper.rs", ""),
            ("tests/common/mod.rs", ""),
            ("web/date-utils.js", ""),
            ("a.rs", "pub(crate) mod log_util;"),
            ("a.rs", "type Managers = u8;"),
        ] {
            assert_eq!(check(&tree(&[(path, text)])).len(), 1, "{path} {text}");
        }
    }

    #[test]
    fn prose_and_longer_words_are_left_alone() {
        let text = "//! A process manager is a common helper: never todo!(), never sleep(1).\n\
                    struct Management;\nfn forget_all() { utility(\"dbg!(\"); widget.fn_get_() }\n";
        assert_eq!(check(&tree(&[("src/a.rs", text)])), []);
    }

    #[test]
    fn sleeping_is_banned_in_tests_only() {
        let text = "fn a() { sleep(1) }\n\
                    #[cfg(test)]\n\
                    mod tests {\n\
                    fn b() {\n\
                    clock.sleep(1);\n\
                    tokio::time::sleep(1)\n\
                    }\n}\n";
        let found = check(&tree(&[("src/a.rs", text)]));
        assert_eq!(found.iter().map(|v| v.line).collect::<Vec<_>>(), [6]);
    }

    #[test]
    fn machine_paths_are_found_where_they_begin() {
        let path = concat!("/wo", "rk/");
        let text = format!(
            "in docs{path}a, https://example.org{path}b\nbut `{path}c`\nand file://{path}d\n"
        );
        let found = check(&tree(&[("a.md", &text), ("Cargo.lock", &text)]));
        let places = found.iter().map(|v| (v.path.as_str(), v.line));
        assert_eq!(places.collect::<Vec<_>>(), [("a.md", 2), ("a.md", 3)]);
    }

    #[test]
    fn unsafe_code_needs_leave() {
        let found = check(&tree(&[(
            "src/a.rs",
            "#![forbid(unsafe_code)]\nfn a() {\n    unsafe { b() }\n}\n",
        )]));
        assert_eq!(found.iter().map(|v| v.line).collect::<Vec<_>>(), [3]);
        assert!(found[0].message.starts_with("`unsafe`"));
    }
}
