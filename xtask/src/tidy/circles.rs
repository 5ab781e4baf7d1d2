//! Circles of files: each needs the other, directly or by way of more, so that none can be read
//! first.
//!
//! The modules of a crate are its files, and an arrow is a path that one file takes from another:
//! `crate::…` or `super::…`, outside of tests. A parent and what is below it may know each other.
//! The files that stand in circles are counted, by crate, and the count may only fall.

use std::collections::{BTreeMap, BTreeSet};

use super::RuleViolation;
use super::lexer::{find_words, identifier_at, is_word};
use super::source::SourceFile;

/// Files in circles, by the folder of the crate. A folder that is not listed has none.
const CIRCLES: [(&str, usize); 0] = [];

/// Path of a module from the root of its crate, `["runtime", "process"]`.
type Module = Vec<String>;
type Arrows = BTreeMap<Module, BTreeSet<Module>>;

pub(super) fn check(files: &[SourceFile]) -> Vec<RuleViolation> {
    circles(files, &CIRCLES)
}

fn circles(files: &[SourceFile], limits: &[(&str, usize)]) -> Vec<RuleViolation> {
    let mut crates: BTreeMap<&str, BTreeMap<Module, &SourceFile>> = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_of_crate()) {
        let Some((folder, inner)) = file.path.split_once("/src/") else { continue };
        let modules = crates.entry(folder).or_default();
        // Beside a library a program is a crate of its own.
        if inner != "main.rs" || !modules.contains_key(&Module::new()) {
            modules.insert(module(inner), file);
        }
    }
    for (folder, _) in limits {
        crates.entry(folder).or_default();
    }
    let judge = |(folder, modules): (&&str, &BTreeMap<Module, &SourceFile>)| {
        let limit = limits.iter().find(|(of, _)| of == folder).map_or(0, |(_, limit)| *limit);
        let arrows = arrows(modules);
        let circular = in_circles(&arrows);
        let names: Vec<String> = circular.iter().map(|module| module.join("/")).collect();
        let what =
            format!("{} files of {folder} stand in circles ({})", circular.len(), names.join(", "));
        RuleViolation::of_count(
            circular.len(),
            limit,
            &what,
            "move what both need into a file of its own",
            "CIRCLES",
        )
    };
    crates.iter().filter_map(judge).collect()
}

fn module(inner: &str) -> Module {
    let parts: Vec<&str> = inner.trim_end_matches(".rs").split('/').collect();
    let is_folder = matches!(parts.last(), Some(&("mod" | "lib" | "main")));
    let parts = if is_folder { &parts[..parts.len() - 1] } else { &parts[..] };
    parts.iter().map(|part| (*part).to_owned()).collect()
}

fn arrows(modules: &BTreeMap<Module, &SourceFile>) -> Arrows {
    let offered = offered(modules);
    let mut arrows = Arrows::new();
    for (from, file) in modules {
        let paths = paths_of(file, from);
        let targets = paths.iter().filter_map(|path| target(path, modules, &offered));
        let others = targets.filter(|to| !to.starts_with(from) && !from.starts_with(to));
        arrows.insert(from.clone(), others.cloned().collect());
    }
    arrows
}

/// The module that a path leads into: the longest part of it that is a file, and on to the file
/// whose name that one offers.
fn target<'m>(
    path: &[String],
    modules: &'m BTreeMap<Module, &SourceFile>,
    offered: &BTreeMap<Module, Module>,
) -> Option<&'m Module> {
    let mut path = path.to_vec();
    // A name is offered again by a few folders at most.
    for _ in 0..8 {
        let reached = (0..=path.len()).rev().find(|len| modules.contains_key(&path[..*len]))?;
        match path.get(..=reached).and_then(|name| offered.get(name)) {
            Some(defined) => path.clone_from(defined),
            None => return modules.get_key_value(&path[..reached]).map(|(module, _)| module),
        }
    }
    None
}

/// The names that modules offer from their children by `pub use`, with the paths that they stand
/// for.
fn offered(modules: &BTreeMap<Module, &SourceFile>) -> BTreeMap<Module, Module> {
    let mut offered = BTreeMap::new();
    for (module, file) in modules {
        for at in find_words(&file.code, "use ") {
            let before = file.code[..at].trim_end();
            if !(before.ends_with("pub")
                || before.ends_with("pub(crate)")
                || before.ends_with("pub(super)"))
            {
                continue;
            }
            let mut found = Vec::new();
            expand(&file.code, at + "use ".len(), Module::new(), &mut found);
            for path in found
                .into_iter()
                .filter(|path| path.len() > 1 && path[0] != "crate" && path[0] != "super")
            {
                let name = [&module[..], &path[path.len() - 1..]].concat();
                offered.insert(name, [&module[..], &path[..]].concat());
            }
        }
    }
    offered
}

/// All paths that a file names from the root of its crate or from a parent, outside of tests.
fn paths_of(file: &SourceFile, from: &Module) -> Vec<Module> {
    let mut found = Vec::new();
    for (word, up) in [("crate::", None), ("super::", Some(1))] {
        for at in find_words(&file.code, word).filter(|&at| !file.is_test(at)) {
            // `super::super::` is found at its first part.
            if file.code[..at].ends_with("super::") {
                continue;
            }
            let mut at = at + word.len();
            let mut levels = up.unwrap_or(from.len());
            while file.code[at..].starts_with("super::") {
                (at, levels) = (at + "super::".len(), levels + 1);
            }
            let base = &from[..from.len().saturating_sub(levels)];
            expand(&file.code, at, base.to_vec(), &mut found);
        }
    }
    found
}

/// Adds what stands at a place after `::`: a name with what follows it, or a group of such.
fn expand(code: &str, at: usize, mut path: Module, found: &mut Vec<Module>) -> usize {
    if code[at..].starts_with('{') {
        let mut at = at + 1;
        loop {
            at += code[at..].len()
                - code[at..].trim_start_matches(|c: char| c.is_whitespace() || c == ',').len();
            match code[at..].chars().next() {
                Some('}') => return at + 1,
                Some(next) if next.is_ascii() && is_word(next as u8) => {
                    at = expand(code, at, path.clone(), found)
                }
                Some(next) => at += next.len_utf8(),
                None => return at,
            }
        }
    }
    let name = identifier_at(code, at);
    let after = at + name.len();
    path.push(name.to_owned());
    match code[after..].strip_prefix("::") {
        Some(rest) if rest.starts_with(|c: char| c == '{' || c == '_' || c.is_alphanumeric()) => {
            expand(code, after + 2, path, found)
        }
        _ => {
            found.push(path);
            after
        }
    }
}

/// The modules from which one comes back to themselves.
fn in_circles(arrows: &Arrows) -> Vec<&Module> {
    let returns = |from: &&Module| {
        let mut seen = BTreeSet::new();
        let mut ahead: Vec<&Module> = arrows[*from].iter().collect();
        while let Some(next) = ahead.pop() {
            if next == *from {
                return true;
            }
            if seen.insert(next) {
                ahead.extend(arrows.get(next).into_iter().flatten());
            }
        }
        false
    };
    arrows.keys().filter(returns).collect()
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn files_that_need_each_other_are_counted_whatever_lies_between() {
        let files = tree(&[
            ("crates/a/src/lib.rs", "mod one;\nmod two;\nmod deep;\nuse crate::one::One;\n"),
            ("crates/a/src/one.rs", "use crate::{deep::inner::{self, Thing}, two as other};\n"),
            ("crates/a/src/two.rs", "fn a() -> usize { 1 }\n"),
            ("crates/a/src/deep/mod.rs", "pub mod inner;\nuse inner::Thing;\n"),
            ("crates/a/src/deep/inner.rs", "use super::super::one::One;\nuse super::Other;\n"),
        ]);
        assert_eq!(circles(&files, &[("crates/a", 2)]), []);
        let found = circles(&files, &[]);
        assert!(
            found[0].message.contains("2 files of crates/a stand in circles (deep/inner, one)"),
            "{found:?}"
        );
    }

    #[test]
    fn a_name_that_the_root_offers_leads_to_the_file_that_defines_it() {
        let files = tree(&[
            ("apps/a/src/lib.rs", "mod app;\nmod page;\npub use app::App;\n"),
            ("apps/a/src/app.rs", "use crate::page::show;\npub struct App;\n"),
            ("apps/a/src/page.rs", "use crate::App;\n"),
        ]);
        assert!(
            circles(&files, &[])[0]
                .message
                .contains("2 files of apps/a stand in circles (app, page)")
        );
    }

    #[test]
    fn parents_children_and_tests_make_no_circle() {
        let files = tree(&[
            ("crates/a/src/lib.rs", "mod one;\nuse crate::one::One;\n"),
            ("crates/a/src/one/mod.rs", "mod two;\nuse crate::one::two::Two;\n"),
            (
                "crates/a/src/one/two.rs",
                "use super::One;\n#[cfg(test)]\nmod tests {\n    use crate::three::Three;\n}\n",
            ),
            ("crates/a/src/three.rs", "use crate::one::two::Two;\n"),
        ]);
        assert_eq!(circles(&files, &[]), []);
    }
}
