//! Holds the tables of `README.md` against the source: a test that they name is there, and does
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

/// The text of a function, from behind its name to its end.
fn body<'a>(source: &'a str, name: &str) -> Option<&'a str> {
    let name = format!("fn {name}(");
    let at = source.find(&name)?;
    let line = source[..at].rfind('\n').map_or(0, |end| end + 1);
    let indent: String = source[line..].chars().take_while(|character| *character == ' ').collect();
    let end = source[at..].find(&format!("\n{indent}}}\n"))?;
    source[at..at + end].strip_prefix(&name)
}

/// What is wrong with a test that is named in a row, and what it is said to do.
fn wrong(source: &str, name: &str, said: &str) -> Option<String> {
    let Some(body) = body(source, name) else { return Some(format!("there is no test {name}")) };
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
    let source = "    #[test]\n    fn it_explores() {\n        x.run(Schedules(1));\n    }\n\n    fn it_kills() {\n        examples::killed(\"x\", 1);\n    }\n";
    assert_eq!(wrong(source, "it_explores", " (explored), "), None);
    assert_eq!(wrong(source, "it_kills", " (killed)"), None);
    assert!(wrong(source, "it_explores", "").unwrap().contains("explores: true"));
    assert!(wrong(source, "it_kills", " (explored)").unwrap().contains("explores: false"));
    assert!(wrong(source, "it_is_gone", "").unwrap().contains("no test it_is_gone"));
}
