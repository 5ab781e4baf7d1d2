//! The files that the rules look at.

use std::ops::Range;

use super::RuleViolation;
use super::lexer::{body_of, closing_brace, find_words, identifier_at, literals, mask};

/// A text file of the tree.
pub(super) struct SourceFile {
    /// From the root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
    /// For Rust the text with comments and literals blanked, at the same offsets; else empty.
    pub(super) code: String,
    /// For Rust the places of strings and characters; else none.
    pub(super) literals: Vec<Range<usize>>,
    /// Part of the code that exists only in tests.
    tests: Tests,
}

enum Tests {
    All,
    /// Offsets of the items under `#[cfg(test)]`.
    Items(Vec<Range<usize>>),
}

impl SourceFile {
    pub(super) fn new(path: &str, text: String) -> SourceFile {
        let (code, literals) = match path.ends_with(".rs") {
            true => (mask(&text), literals(&text)),
            false => Default::default(),
        };
        let in_tests_folder = path.split('/').any(|part| part == "tests");
        let tests = match in_tests_folder || code.contains("#![cfg(test)]") {
            true => Tests::All,
            false => Tests::Items(test_items(&code)),
        };
        SourceFile { path: path.to_owned(), text, code, literals, tests }
    }

    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Tells whether the file is a source of a crate or an application: examples are programs of
    /// their own.
    pub(super) fn is_of_crate(&self) -> bool {
        self.is_rust() && self.path.contains("/src/") && !self.path.starts_with("examples/")
    }

    /// The names that the keywords declare, with the offsets of the keywords.
    pub(super) fn declared(
        &self,
        keywords: &'static [&'static str],
    ) -> impl Iterator<Item = (usize, &str)> {
        let of = move |keyword: &'static str| {
            find_words(&self.code, keyword)
                .map(move |at| (at, identifier_at(&self.code, at + keyword.len())))
        };
        keywords.iter().flat_map(move |keyword| of(keyword))
    }

    /// Tells whether the code at this offset exists only in tests.
    pub(super) fn is_test(&self, at: usize) -> bool {
        match &self.tests {
            Tests::All => true,
            Tests::Items(items) => items.iter().any(|item| item.contains(&at)),
        }
    }

    /// The line of an offset, counted from 1.
    pub(super) fn line(&self, at: usize) -> usize {
        self.text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1
    }

    /// A violation at an offset.
    pub(super) fn violation(&self, at: usize, message: String) -> RuleViolation {
        RuleViolation { path: self.path.clone(), line: self.line(at), message }
    }

    /// Paths without extension of the modules declared as `#[cfg(test)] mod name;`.
    fn test_modules(&self) -> Vec<String> {
        let Tests::Items(items) = &self.tests else {
            return Vec::new();
        };
        let declared = items.iter().filter_map(|item| {
            let declaration = self.code[item.clone()].strip_suffix(';')?;
            declaration.rsplit_once("mod ").map(|(_, name)| name.trim().to_owned())
        });
        declared.map(|name| format!("{}/{name}", self.module_folder())).collect()
    }

    /// Returns the folder of the files of this module's own modules.
    fn module_folder(&self) -> &str {
        let stem = self.path.trim_end_matches(".rs");
        match stem.rsplit_once('/') {
            Some((folder, "mod" | "lib" | "main")) => folder,
            _ => stem,
        }
    }
}

/// Marks the files that are modules of tests only, which their own text does not tell.
pub(super) fn classify(mut files: Vec<SourceFile>) -> Vec<SourceFile> {
    let modules: Vec<String> = files.iter().flat_map(SourceFile::test_modules).collect();
    for file in &mut files {
        let belongs = |module: &String| {
            let rest = file.path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        if modules.iter().any(belongs) {
            file.tests = Tests::All;
        }
    }
    files
}

/// The items under `#[cfg(test)]` and `#[cfg(all(test, ..))]`, from the attribute to the end.
fn test_items(code: &str) -> Vec<Range<usize>> {
    let starts = code.match_indices("#[cfg(").map(|(at, _)| at);
    let for_tests = starts.filter(|&at| {
        let condition = &code[at + "#[cfg(".len()..];
        let condition = condition.strip_prefix("all(").unwrap_or(condition);
        identifier_at(condition, 0) == "test"
    });
    for_tests.map(|at| at..item_end(code, at)).collect()
}

/// Attributes are in brackets, where neither braces nor semicolons count: the item ends at its own.
fn item_end(code: &str, start: usize) -> usize {
    match body_of(code, start) {
        Some(open) => closing_brace(code, open),
        None => code[start..].find(';').map_or(code.len(), |at| start + at + 1),
    }
}

/// A tree as the tests of the rules plant it.
#[cfg(test)]
pub(super) fn tree(files: &[(&str, &str)]) -> Vec<SourceFile> {
    classify(files.iter().map(|(path, text)| SourceFile::new(path, text.to_string())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_code_is_told_apart() {
        let text =
            "fn a() {}\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let file = SourceFile::new("src/a.rs", text.to_owned());
        let is_test = |what: &str| file.is_test(text.find(what).unwrap());
        assert!(!is_test("fn a"));
        assert!(is_test("fn b"));
        assert!(!is_test("fn c"));
        assert_eq!(file.line(text.find("fn c").unwrap()), 7);
        assert!(SourceFile::new("crates/x/tests/a.rs", "fn a() {}".into()).is_test(0));
    }

    #[test]
    fn a_module_declared_for_tests_is_test_code_with_all_below_it() {
        let files = tree(&[
            ("x/src/a.rs", "#[cfg(test)]\nmod fuzz;\nmod b;\n"),
            ("x/src/a/fuzz.rs", "fn c() {}"),
            ("x/src/a/fuzz/deep.rs", "fn c() {}"),
            ("x/src/a/fuzzy.rs", "fn c() {}"),
            ("x/src/a/b.rs", "fn c() {}"),
        ]);
        let of_tests: Vec<&str> = files
            .iter()
            .filter(|f| f.path != "x/src/a.rs" && f.is_test(0))
            .map(|f| f.path.as_str())
            .collect();
        assert_eq!(of_tests, ["x/src/a/fuzz.rs", "x/src/a/fuzz/deep.rs"]);
    }
}
