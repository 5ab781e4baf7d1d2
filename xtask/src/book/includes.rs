//! Code in a page is taken from a file that is compiled and tested: `{{#include
//! ../../examples/rover.rs:fold}}` takes what stands between the comments `// ANCHOR: fold` and `//
//! ANCHOR_END: fold`. mdBook leaves a hole if there are no such comments.

use std::path::{Path, PathBuf};

use super::{read, shown};
use crate::Outcome;

/// Returns the places that include something that is not there.
pub(super) fn check(pages: &[PathBuf]) -> Outcome<Vec<String>> {
    let mut broken = Vec::new();
    for page in pages {
        let text = read(page)?;
        for (number, line) in text.lines().enumerate() {
            for include in included(line) {
                if let Err(why) = find(page, include) {
                    broken.push(format!("{}:{}: {include}: {why}", shown(page), number + 1));
                }
            }
        }
    }
    Ok(broken)
}

/// Returns the includes of the line, as written.
fn included(line: &str) -> impl Iterator<Item = &str> {
    let after = line.split("{{#").skip(1);
    after.filter_map(|rest| {
        let (directive, _) = rest.split_once("}}")?;
        let (name, what) = directive.trim().split_once(char::is_whitespace)?;
        matches!(name, "include" | "rustdoc_include" | "playground").then_some(what.trim())
    })
}

fn find(page: &Path, include: &str) -> Outcome {
    let (file, anchor) =
        include.split_once(':').map_or((include, None), |(file, anchor)| (file, Some(anchor)));
    let folder = page.parent().expect("a page is a file in a folder");
    let text = read(&folder.join(file)).map_err(|_| "there is no such file".to_owned())?;
    match anchor {
        None => Ok(()),
        Some(anchor) if anchor.starts_with(|c: char| c.is_ascii_digit() || c == ':') => {
            Err("lines by number go wrong at the next change; name an anchor".to_owned())
        }
        Some(anchor) => anchored(&text, anchor),
    }
}

/// Begins and ends once, with something between.
fn anchored(text: &str, anchor: &str) -> Outcome {
    let places = |keyword: &str| -> Vec<usize> {
        let named = |line: &str| {
            line.split_once(keyword)?.1.split_whitespace().next().map(|name| name == anchor)
        };
        let is_it = |line: &str| named(line) == Some(true);
        text.lines().enumerate().filter(|(_, line)| is_it(line)).map(|(number, _)| number).collect()
    };
    match (places("ANCHOR:").as_slice(), places("ANCHOR_END:").as_slice()) {
        ([begin], [end]) if begin + 1 < *end => Ok(()),
        ([], _) | (_, []) => {
            Err(format!("there is no `ANCHOR: {anchor}` with its `ANCHOR_END: {anchor}`"))
        }
        _ => Err(format!("`ANCHOR: {anchor}` must begin once and end once, with lines between")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_line_includes_is_found_and_escapes_are_not() {
        let line = "{{#include a.rs:x}} and {{ #include b.rs}} and {{#rustdoc_include ../c.rs}}";
        assert_eq!(included(line).collect::<Vec<_>>(), ["a.rs:x", "../c.rs"]);
    }

    #[test]
    fn an_anchor_begins_and_ends_once_around_something() {
        let text = "// ANCHOR: a\nfn a() {}\n// ANCHOR_END: a\n// ANCHOR: b\n// ANCHOR_END: b\n// ANCHOR: c\nx\n";
        assert_eq!(anchored(text, "a"), Ok(()));
        assert_eq!(anchored("<!-- ANCHOR: a -->\nx\n<!-- ANCHOR_END: a -->\n", "a"), Ok(()));
        assert!(anchored(text, "b").unwrap_err().contains("with lines between"));
        assert!(anchored(text, "c").unwrap_err().contains("ANCHOR_END: c"));
        assert!(anchored(text, "d").unwrap_err().contains("there is no `ANCHOR: d`"));
    }

    #[test]
    fn a_missing_file_and_lines_by_number_are_refused() {
        let page = crate::root().join("book/src/a.md");
        assert_eq!(find(&page, "../../examples/rover.rs"), Ok(()));
        assert!(find(&page, "../../examples/none.rs").unwrap_err().contains("no such file"));
        assert!(find(&page, "../../examples/rover.rs:1:5").unwrap_err().contains("name an anchor"));
    }
}
