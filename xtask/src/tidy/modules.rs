//! The arrows between the modules of leftfold-core.
//!
//! `fold` and `store` do not know `runtime`, `store` does not know `fold`, and nothing knows `copy`
//! or `drive`, the door of the testing kit. Paths from `crate::` are looked at, comments are not:
//! documentation may point anywhere.

use super::RuleViolation;
use super::lexer::{closing_brace, find_words, identifier_at};
use super::source::SourceFile;

const CORE: &str = "crates/leftfold-core/src/";

pub(super) fn check(files: &[SourceFile]) -> Vec<RuleViolation> {
    let core = files.iter().filter(|f| f.is_rust() && f.path.starts_with(CORE));
    core.flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<RuleViolation> {
    let from = module(file);
    let mut violations = Vec::new();
    for (at, to) in mentions(&file.code) {
        if let Some(reason) = forbidden(from, to) {
            violations
                .push(file.violation(at, format!("`{from}` mentions `crate::{to}`: {reason}")));
        }
    }
    violations
}

fn forbidden(from: &str, to: &str) -> Option<&'static str> {
    match (from, to) {
        ("store", "fold") => {
            Some("the store knows nothing of folds; move what both need into store")
        }
        ("fold" | "store", "runtime") => {
            Some("the runtime builds upon folds and stores, never the other way")
        }
        ("lib", _) => None,
        (_, "copy") => Some("a copy is made of stores and the model; neither knows of it"),
        (_, "drive") => Some("it is the door of leftfold-testing and nobody else's"),
        _ => None,
    }
}

/// The module below the crate's root that a file belongs to: `fold` for `fold.rs` and all of
/// `fold/`.
fn module(file: &SourceFile) -> &str {
    let inner = &file.path[CORE.len()..];
    let first = inner.split('/').next().unwrap_or(inner);
    first.trim_end_matches(".rs")
}

/// The modules that paths from `crate::` begin with, also in groups: `crate::{fold, store::Query}`.
fn mentions(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for at in find_words(code, "crate::") {
        let path = at + "crate::".len();
        match code[path..].starts_with('{') {
            true => found.extend(group(code, path)),
            false => found.push((at, identifier_at(code, path))),
        }
    }
    found
}

/// Returns the first identifier of each member of a group; groups within the group are parts of
/// their members.
fn group(code: &str, open: usize) -> Vec<(usize, &str)> {
    let end = closing_brace(code, open);
    let mut found = Vec::new();
    let mut depth = 0;
    for (at, byte) in code.bytes().enumerate().take(end).skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 1 && (byte == b',' || at == open) {
            let name = identifier_at(code, at + 1);
            let gap = code[at + 1..].len() - code[at + 1..].trim_start().len();
            found.push((at + 1 + gap, name));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn a_wrong_arrow_is_found_with_its_line() {
        for (path, text, line) in [
            ("store/query.rs", "\nuse crate::fold::Event;\n", 2),
            ("store.rs", "fn a() -> crate::runtime::Timer {}\n", 1),
            ("fold/mod.rs", "use crate::{\n    store::{Query, Store},\n    runtime,\n};\n", 3),
            ("fold/event.rs", "use crate::drive::Driver;\n", 1),
            ("runtime/timer.rs", "use crate::{drive::Driver, fold};\n", 1),
        ] {
            let path = format!("{CORE}{path}");
            let found = check(&tree(&[(&path, text)]));
            assert_eq!(
                found.iter().map(|v| v.line).collect::<Vec<_>>(),
                [line],
                "{path}: {found:?}"
            );
        }
    }

    #[test]
    fn right_arrows_tests_and_documentation_are_left_alone() {
        for (path, text) in [
            ("lib.rs", "pub mod drive;\npub use crate::drive::Driver;\n"),
            ("drive.rs", "use crate::{fold, runtime, store};\n"),
            ("runtime/timer.rs", "use crate::{fold::Event, store::{drive, Query}};\n"),
            ("fold/event.rs", "//! See [crate::runtime].\nuse crate::store::Query;\n"),
        ] {
            let path = format!("{CORE}{path}");
            assert_eq!(check(&tree(&[(&path, text)])), [], "{path}");
        }
        assert_eq!(check(&tree(&[("crates/leftfold-log/src/store.rs", "use crate::fold;\n")])), []);
    }
}
