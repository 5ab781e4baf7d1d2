//! Files and functions that one can hold in the head.

use super::RuleViolation;
use super::lexer::{body_of, closing_brace, find_words, identifier_at};
use super::source::SourceFile;

const FILE_LINES_MAX: usize = 600;
/// From the line of `fn` to that of the closing brace.
const FUNCTION_LINES_MAX: usize = 70;

pub(super) fn check(files: &[SourceFile]) -> Vec<RuleViolation> {
    let rust = files.iter().filter(|f| f.is_rust());
    rust.flat_map(|file| long_file(file).into_iter().chain(long_functions(file))).collect()
}

fn long_file(file: &SourceFile) -> Option<RuleViolation> {
    let lines = file.text.lines().count();
    (lines > FILE_LINES_MAX).then(|| {
        let message =
            format!("the file has {lines} lines, {FILE_LINES_MAX} at most; split it by concept");
        file.violation(0, message)
    })
}

fn long_functions(file: &SourceFile) -> Vec<RuleViolation> {
    find_words(&file.code, "fn").filter_map(|at| long_function(file, at)).collect()
}

/// A `fn` without a name is a type, one without a body a declaration.
fn long_function(file: &SourceFile, at: usize) -> Option<RuleViolation> {
    let name = identifier_at(&file.code, at + "fn".len());
    if name.is_empty() {
        return None;
    }
    let end = closing_brace(&file.code, body_of(&file.code, at)?);
    let lines = file.line(end) - file.line(at) + 1;
    (lines > FUNCTION_LINES_MAX).then(|| {
        let message = format!(
            "the function {name} has {lines} lines, {FUNCTION_LINES_MAX} at most; \
             find the parts it consists of"
        );
        file.violation(at, message)
    })
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn a_file_of_601_lines_is_too_long() {
        assert_eq!(check(&tree(&[("a.rs", &"\n".repeat(600))])), []);
        assert_eq!(check(&tree(&[("a.md", &"\n".repeat(601))])), []);
        let found = check(&tree(&[("a.rs", &"\n".repeat(601))]));
        assert!(found[0].message.starts_with("the file has 601 lines"), "{found:?}");
    }

    #[test]
    fn a_function_of_71_lines_is_too_long() {
        assert_eq!(check(&tree(&[("a.rs", &function_of(70))])), []);
        let found = check(&tree(&[("a.rs", &function_of(71))]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, 3);
        assert!(found[0].message.starts_with("the function long has 71 lines"), "{found:?}");
    }

    /// With what could deceive a scan for braces: types, declarations, literals.
    fn function_of(lines: usize) -> String {
        let body = "    let a = ('}', \"}\", b'{', r\"}\"); // }\n".repeat(lines - 2);
        format!(
            "type F = fn(u8);\ntrait T {{ fn t(&self, b: [u8; 4]); }}\n\
             fn long<'a>(b: [u8; 4]) {{\n{body}}}\nfn c() {{}}\n"
        )
    }
}
