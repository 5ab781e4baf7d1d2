//! Lines that fit on a screen with another file beside them.
//!
//! What cannot be broken does not count: in Rust string literals, in prose and comments the targets
//! of links, and the rows of tables. In Markdown code is as wide as its language has it.

use std::ops::Range;

use super::RuleViolation;
use super::source::SourceFile;

/// Characters of a line.
const COLUMNS_MAX: usize = 100;

pub(super) fn check(files: &[SourceFile]) -> Vec<RuleViolation> {
    files.iter().flat_map(check_file).collect()
}

fn check_file(file: &SourceFile) -> Vec<RuleViolation> {
    let mut is_code = false;
    let mut found = Vec::new();
    let mut at = 0;
    for line in file.text.split_inclusive('\n') {
        let start = at;
        at += line.len();
        let text = line.trim_start();
        let columns = match file.path.rsplit_once('.') {
            Some((_, "rs")) => columns_of_rust(line, start, &file.literals),
            Some((_, "md")) => {
                is_code ^= text.starts_with("```");
                if is_code { 0 } else { columns_of_prose(line, text) }
            }
            _ => 0,
        };
        if columns > COLUMNS_MAX {
            let message = format!("the line has {columns} columns, {COLUMNS_MAX} at most; wrap it");
            found.push(file.violation(start, message));
        }
    }
    found
}

/// Columns of a line that begins at an offset, without the literals on it.
fn columns_of_rust(line: &str, start: usize, literals: &[Range<usize>]) -> usize {
    match line.trim_start().strip_prefix("//") {
        Some(comment) => columns_of_prose(line, comment.trim_start_matches(['/', '!', ' '])),
        None => {
            let end = start + line.len();
            let on_it =
                literals.iter().filter(|literal| literal.start < end && literal.end > start);
            let of_literal = |literal: &Range<usize>| {
                columns(&line[literal.start.max(start) - start..literal.end.min(end) - start])
            };
            columns(line) - on_it.map(of_literal).sum::<usize>()
        }
    }
}

/// Columns of a line with a text, without the targets of its links; none for the row of a table.
fn columns_of_prose(line: &str, text: &str) -> usize {
    let is_definition = text.starts_with('[') && text.contains("]: ");
    if text.starts_with('|') || is_definition {
        return 0;
    }
    let target = |word: &str| match word.split_once("](") {
        Some((_, target)) => columns(target),
        None if word.contains("://") => columns(word),
        None => 0,
    };
    columns(line) - text.split_whitespace().map(target).sum::<usize>()
}

fn columns(text: &str) -> usize {
    text.trim_end_matches(['\n', '\r']).chars().count()
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    fn lines_found(path: &str, text: &str) -> Vec<usize> {
        check(&tree(&[(path, text)])).iter().map(|violation| violation.line).collect()
    }

    #[test]
    fn a_line_of_rust_or_of_markdown_has_100_columns() {
        let (fits, long) = ("ä".repeat(100), "ä".repeat(101));
        for path in ["a.rs", "b/c.md"] {
            assert_eq!(lines_found(path, &format!("{fits}\n{long}\n{fits}\r\n{long}")), [2, 4]);
        }
        assert!(lines_found("a.toml", &long).is_empty());
        let found = check(&tree(&[("a.rs", &long)]));
        assert!(found[0].message.starts_with("the line has 101 columns, 100"), "{found:?}");
    }

    #[test]
    fn a_literal_may_make_a_line_of_rust_longer_and_code_around_it_may_not() {
        let long = "x".repeat(101);
        for line in [
            format!("    say(\"{long}\");"),
            format!("    say(\"one\", \"{long}\"); // two"),
            format!("    say(r#\"\n{long}\n    \"#);"),
        ] {
            assert!(lines_found("a.rs", &line).is_empty(), "{line}");
        }
        assert_eq!(lines_found("a.rs", &format!("fn {long}() {{ say(\"{long}\") }}")), [1]);
        assert_eq!(lines_found("a.rs", &format!("/// \"{long}\"")), [1]);
    }

    #[test]
    fn tables_and_the_targets_of_links_may_be_longer_and_code_in_markdown_too() {
        let long = "x".repeat(101);
        let text = format!(
            "| {long} |\n[word]: {long}\nSee [word]({long}), https://{long}\n```\n{long}\n```\n"
        );
        assert!(lines_found("a.md", &text).is_empty());
        assert_eq!(lines_found("a.md", &format!("{text}{long}\n[{long}](b)\n")), [7, 8]);
        let comments = format!("//! | {long} |\n    /// [word]: {long}\n// See [word]({long})\n");
        assert!(lines_found("a.rs", &comments).is_empty());
        assert_eq!(lines_found("a.rs", &format!("/// ```\n/// {long}\n/// ```\n")), [2]);
    }
}
