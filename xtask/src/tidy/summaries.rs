//! Summaries of documentation say what kind of thing they are about: that of a type is a noun
//! phrase, that of a function begins with a verb. One that begins with a question word says
//! neither. Tests and examples keep to it too: they are read first.

use super::RuleViolation;
use super::lexer::identifier_at;
use super::source::SourceFile;

const QUESTION_WORDS: [&str; 9] =
    ["What", "Where", "Whether", "Which", "Who", "Whose", "Why", "How", "That"];

/// Tests that were written before the rule held for tests.
const OLDER: [&str; 3] = [
    "apps/csms/tests/",
    "apps/csms/src/domain/availability.rs",
    "crates/leftfold-core/src/runtime/effect/doubt_tests.rs",
];

pub(super) fn check(files: &[SourceFile]) -> Vec<RuleViolation> {
    let is_older = |file: &SourceFile| OLDER.iter().any(|path| file.path.starts_with(path));
    let checked = files.iter().filter(|file| file.is_rust() && !is_older(file));
    checked
        .flat_map(|file| summaries(file).filter_map(|(at, text)| complaint(file, at, text)))
        .collect()
}

fn complaint(file: &SourceFile, at: usize, text: &str) -> Option<RuleViolation> {
    let word = identifier_at(text, 0);
    QUESTION_WORDS.contains(&word).then(|| {
        let message = format!("the summary begins with {word}: begin with a noun for a type, with a verb for a function");
        file.violation(at, message)
    })
}

/// The first lines of documentation comments, with their offsets.
fn summaries(file: &SourceFile) -> impl Iterator<Item = (usize, &str)> {
    let mut follows_documentation = false;
    let mut offset = 0;
    file.text.lines().filter_map(move |line| {
        let at = offset;
        offset += line.len() + 1;
        let begins = !follows_documentation;
        follows_documentation = line.trim_start().starts_with("///");
        let text = line.trim_start().strip_prefix("/// ")?;
        begins.then_some((at, text))
    })
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn a_summary_that_asks_is_found_in_crates_tests_and_examples_and_a_later_line_is_not() {
        let text = "/// A thing.\n/// What follows is no summary.\nstruct A;\n/// Whatever it is.\nstruct B;\n/// How it goes.\nfn c() {}\n";
        let test = "#[cfg(test)]\nmod tests {\n    /// What it is.\n    struct D;\n}\n";
        let files = tree(&[
            ("crates/a/src/one.rs", &format!("{text}{test}")),
            ("examples/two.rs", "/// Who did it.\nfn a() {}\n"),
            ("apps/csms/tests/three.rs", "/// Where it is.\nfn a() {}\n"),
        ]);
        let lines: Vec<_> =
            check(&files).iter().map(|found| (found.path.clone(), found.line)).collect();
        let expected =
            [("crates/a/src/one.rs", 6), ("crates/a/src/one.rs", 10), ("examples/two.rs", 1)];
        assert_eq!(lines, expected.map(|(path, line)| (path.to_owned(), line)));
    }
}
