//! Checks the tables of `README.md` against the source: a test that they name is there, and does
//! what it is said to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Cells of the rows of the table behind a heading.
fn rows<'a>(readme: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    let (_, table) =
        readme.split_once(heading).unwrap_or_else(|| panic!("there is no table with {heading:?}"));
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The source of each example: one file, or all files of a folder.
fn sources(folder: &Path, readme: &str) -> BTreeMap<String, String> {
    let mut sources = BTreeMap::new();
    for row in rows(readme, "| example | pattern | read first |") {
        let link = row[2].split_once("](").and_then(|(_, link)| link.strip_suffix(')'));
        let path = folder.join(link.unwrap_or_else(|| panic!("{row:?} has no link to a file")));
        assert!(path.is_file(), "{}", path.display());
        let is_one_file = path.parent() == Some(folder);
        let files = if is_one_file { vec![path] } else { files_below(path.parent().unwrap()) };
        let source = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
        assert!(sources.insert(row[0].to_owned(), source).is_none(), "{} is named twice", row[0]);
    }
    sources
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files =
        entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// A function of the source.
struct Function<'a> {
    /// The lines of its attributes.
    attributes: Vec<&'a str>,
    /// Its text, from behind its name to its end.
    body: &'a str,
}

/// Returns the functions of a name; what only mentions it, such as a comment, is not one.
fn functions<'a>(source: &'a str, name: &str) -> Vec<Function<'a>> {
    let name = format!("fn {name}(");
    let function = |(at, _)| {
        let line = source[..at].rfind('\n').map_or(0, |end| end + 1);
        let before = source[line..at].trim_start();
        let indent = &source[line..at - before.len()];
        let end = source[at..].find(&format!("\n{indent}}}\n"))?;
        let above = source[..line].lines().rev().map(str::trim);
        let above = above.take_while(|line| line.starts_with("#[") || line.starts_with("//"));
        matches!(before, "" | "async ").then(|| Function {
            attributes: above.filter(|line| line.starts_with("#[")).collect(),
            body: &source[at + name.len()..at + end],
        })
    };
    source.match_indices(&name).filter_map(function).collect()
}

/// Says what is wrong with a test that is named in a row, and what it is said to do.
fn wrong(source: &str, name: &str, said: &str) -> Option<String> {
    let functions = functions(source, name);
    let [Function { attributes, body }] = functions.as_slice() else {
        return Some(format!("{} functions are called {name}", functions.len()));
    };
    // Anything beside it may keep the test from running: `#[ignore]`, `#[cfg(…)]`.
    match attributes.as_slice() {
        [one] if *one == "#[test]" || one.starts_with("#[tokio::test") => {}
        others => return Some(format!("{name} is not just a test, it has {others:?}")),
    }
    let does = |words: &[&str]| words.iter().any(|word| body.contains(word));
    let explores = does(&[".run(Schedules("]);
    let kills = does(&["examples::killed(", "examples::killed_service(", "child.kill()"]);
    let is_said = |word| said.trim_start().starts_with(word);
    match (is_said("(explored)") == explores, is_said("(killed)") == kills) {
        (true, true) => None,
        (false, _) => Some(format!("{name} explores: {explores}, and the table says otherwise")),
        (_, false) => Some(format!("{name} kills: {kills}, and the table says otherwise")),
    }
}

#[test]
fn each_test_that_the_table_names_is_in_the_source_of_its_system() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    let sources = sources(folder, &readme);
    let mut shown = BTreeSet::new();
    for row in rows(&readme, "| system | what it must do | test |") {
        let [system, sentence, tests] = row.as_slice() else {
            panic!("{row:?} has not three cells")
        };
        let source = sources.get(*system).unwrap_or_else(|| panic!("{system} is no example"));
        let mut named = tests.split('`');
        named.next();
        let named: Vec<&str> = named.collect();
        assert!(!named.is_empty(), "{system}, {sentence}: no test is named");
        for pair in named.chunks(2) {
            let (name, said) = (pair[0], pair.get(1).copied().unwrap_or_default());
            if !name.starts_with("cargo run ") {
                assert_eq!(wrong(source, name, said), None, "{system}, {sentence}");
            }
        }
        shown.insert(*system);
    }
    let named: BTreeSet<&str> = sources.keys().map(String::as_str).collect();
    assert_eq!(shown, named, "each example has rows");
}

#[test]
fn each_example_of_the_manifests_is_in_the_table() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(folder, &fs::read_to_string(folder.join("README.md")).unwrap());
    for manifest in ["Cargo.toml", "services/Cargo.toml"] {
        let manifest = fs::read_to_string(folder.join(manifest)).unwrap();
        for section in manifest.split("[[example]]").skip(1) {
            let name = section
                .lines()
                .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
                .unwrap();
            assert!(sources.contains_key(name), "{name} is missing in README.md");
        }
    }
}

#[test]
fn a_table_that_has_rotted_is_found() {
    let source = r#"
    /// Mentions fn it_explores() only.
    #[test]
    fn it_explores() {
        x.run(Schedules(1));
    }

    // ANCHOR: kills
    #[tokio::test(flavor = "multi_thread")]
    async fn it_kills() {
        examples::killed("x", 1);
    }

    fn it_is_no_test() {
    }

    #[test]
    #[ignore = "it fails"]
    fn it_is_ignored() {
    }

    #[cfg(windows)]
    #[test]
    fn it_runs_elsewhere() {
    }

    #[test]
    fn it_is_there_twice() {
    }

    #[test]
    fn it_is_there_twice() {
    }
"#;
    assert_eq!(wrong(source, "it_explores", " (explored), "), None);
    assert_eq!(wrong(source, "it_kills", " (killed)"), None);
    let found = |name: &str, said: &str| wrong(source, name, said).expect("it is wrong");
    assert!(found("it_explores", "").contains("explores: true"));
    assert!(found("it_kills", " (explored)").contains("explores: false"));
    assert!(found("it_is_gone", "").starts_with("0 functions"));
    assert!(found("it_is_there_twice", "").starts_with("2 functions"));
    for name in ["it_is_no_test", "it_is_ignored", "it_runs_elsewhere"] {
        assert!(found(name, "").contains("is not just a test"), "{name}");
    }
}
