//! As much of a `Cargo.toml` as the rules need: names and dependencies.
//!
//! Written for manifests as cargo and people write them: one key a line, inline tables on one line.

use super::source::SourceFile;

/// A manifest with what it depends on.
pub(super) struct CargoManifest<'a> {
    pub(super) file: &'a SourceFile,
    /// Name of the package; `None` if there is none, as in a workspace's root.
    pub(super) package: Option<String>,
    pub(super) dependencies: Vec<Dependency>,
}

/// One entry of a table of dependencies.
#[derive(Debug, PartialEq)]
pub(super) struct Dependency {
    /// The package's own name, not what it is renamed to.
    pub(super) package: String,
    pub(super) table: DependencyTable,
    /// True if it is given by a path: part of this repository.
    pub(super) local: bool,
    /// True if its version is that of the workspace's table.
    pub(super) inherited: bool,
    /// Counted from 1.
    pub(super) line: usize,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum DependencyTable {
    /// Dependencies that are shipped, and build dependencies, for any target.
    Shipped,
    Dev,
    Workspace,
}

/// All manifests of the tree, renamed dependencies resolved.
pub(super) fn manifests(files: &[SourceFile]) -> Vec<CargoManifest<'_>> {
    let own = files.iter().filter(|f| f.path == "Cargo.toml" || f.path.ends_with("/Cargo.toml"));
    own.map(parse).collect()
}

fn parse(file: &SourceFile) -> CargoManifest<'_> {
    let mut manifest = CargoManifest { file, package: None, dependencies: Vec::new() };
    let mut section = "";
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            section = header.split(']').next().unwrap_or_default();
            if let Some((table, name)) = dependency_section(section) {
                manifest.dependencies.push(dependency(name, "", table, index + 1));
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let (key, value) = (key.trim(), value.trim());
        if section == "package" && key == "name" {
            manifest.package = Some(unquote(value).to_owned());
        } else if let Some(table) = table(section) {
            manifest.dependencies.push(dependency(key, value, table, index + 1));
        } else if dependency_section(section).is_some() {
            let entry =
                manifest.dependencies.last_mut().expect("the section's header made an entry");
            describe(entry, key, value);
        }
    }
    manifest
}

/// Returns the table of dependencies that a section is: `dependencies`,
/// `target.'cfg(unix)'.dev-dependencies`. `None` if it is another section.
fn table(section: &str) -> Option<DependencyTable> {
    match section.rsplit('.').next()? {
        "dependencies" if section == "workspace.dependencies" => Some(DependencyTable::Workspace),
        "dependencies" | "build-dependencies" => Some(DependencyTable::Shipped),
        "dev-dependencies" => Some(DependencyTable::Dev),
        _ => None,
    }
}

/// A section for one dependency: `dependencies.serde`.
fn dependency_section(section: &str) -> Option<(DependencyTable, &str)> {
    let (outer, name) = section.rsplit_once('.')?;
    Some((table(outer)?, name))
}

/// An entry such as `name = "1"`, `name = { path = ".." }` or `name.workspace = true`.
fn dependency(key: &str, value: &str, table: DependencyTable, line: usize) -> Dependency {
    let (name, attribute) = key.split_once('.').unwrap_or((key, ""));
    let mut entry = Dependency {
        package: unquote(name).to_owned(),
        table,
        local: false,
        inherited: false,
        line,
    };
    describe(&mut entry, attribute, value);
    let attributes = value.trim_matches(['{', '}']).split(',').filter_map(|a| a.split_once('='));
    if value.starts_with('{') {
        attributes.for_each(|(key, value)| describe(&mut entry, key.trim(), value.trim()));
    }
    entry
}

fn describe(entry: &mut Dependency, attribute: &str, value: &str) {
    match attribute {
        "package" => entry.package = unquote(value).to_owned(),
        "path" => entry.local = true,
        "workspace" => entry.inherited = true,
        _ => {}
    }
}

/// The content of a quoted string, or the bare word.
fn unquote(value: &str) -> &str {
    match value.strip_prefix(['"', '\'']) {
        Some(rest) => rest.split(['"', '\'']).next().unwrap_or_default(),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::tree;
    use super::*;

    #[test]
    fn dependencies_are_read_in_every_way_they_are_written() {
        let text = r#"
[package]
name = "a" # own
version.workspace = true
[features]
x = ["dep:d"]
[dependencies]
b = "1"
c.workspace = true
d = { version = "1", optional = true, features = [
    "f",
] }
renamed = { path = "../e", package = "e" }
[target.'cfg(unix)'.dependencies]
f = { workspace = true }
[build-dependencies.g]
path = "../g"
[dev-dependencies]
h = "1"
"#;
        let files = tree(&[("Cargo.toml", text)]);
        let manifest = &manifests(&files)[0];
        assert_eq!(manifest.package.as_deref(), Some("a"));
        let read: Vec<_> = manifest
            .dependencies
            .iter()
            .map(|d| (d.package.as_str(), d.table, d.local, d.inherited, d.line))
            .collect();
        let expected = [
            ("b", DependencyTable::Shipped, false, false, 8),
            ("c", DependencyTable::Shipped, false, true, 9),
            ("d", DependencyTable::Shipped, false, false, 10),
            ("e", DependencyTable::Shipped, true, false, 13),
            ("f", DependencyTable::Shipped, false, true, 15),
            ("g", DependencyTable::Shipped, true, false, 16),
            ("h", DependencyTable::Dev, false, false, 19),
        ];
        assert_eq!(read, expected);
    }
}
