//! Packages the crates as they would be published, and follows the tutorial with what was packaged:
//! the book's own commands make the project, and its program is built, tested and run in it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use crate::setup::target;
use crate::steps::execute;
use crate::{Outcome, cargo, read, root};

/// Chapters whose commands make the project, in their order.
const CHAPTERS: [&str; 3] = ["aggregate.md", "read-model.md", "process.md"];
/// The path by which the chapters name the crate, in a clone beside the project.
const IN_CLONE: &str = "../leftfold/crates/leftfold";
const PROJECT: &str = "rooms";
const PROGRAM: &str = "examples/tutorial.rs";

/// Packages, unpacks, and follows the tutorial, in a directory that is removed when all went well.
pub(crate) fn run() -> Outcome {
    let published = published()?;
    package(&published)?;
    let place = env::temp_dir().join(format!("leftfold-packages-{}", process::id()));
    fs::create_dir_all(&place).map_err(told(&place))?;
    let project = place.join(PROJECT);
    for command in commands()? {
        let begins = !project.exists();
        let inside = if begins { &place } else { &project };
        execute(Command::new("sh").args(["-c", &command]).current_dir(inside))?;
        if begins {
            take_packages(&project, &published)?;
        }
    }
    copy(&root().join(PROGRAM), &project.join("src/main.rs"))?;
    for arguments in [&["test"][..], &["run", "--quiet"]] {
        let mut cargo = cargo();
        // What the workspace was built with is not built again.
        cargo.args(arguments).current_dir(&project).env("CARGO_TARGET_DIR", target());
        execute(&mut cargo)?;
    }
    fs::remove_dir_all(&place).map_err(told(&place))
}

/// The crates that are published.
fn published() -> Outcome<Vec<String>> {
    let crates = root().join("crates");
    let mut published = Vec::new();
    for entry in fs::read_dir(&crates).map_err(told(&crates))? {
        let entry = entry.map_err(told(&crates))?;
        if !read(&entry.path().join("Cargo.toml"))?.contains("\npublish = false\n") {
            published.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    published.sort();
    Ok(published)
}

/// Makes the files that would be uploaded, and unpacks them. Whether they compile is shown by the
/// tutorial.
fn package(published: &[String]) -> Outcome {
    let mut package = cargo();
    package.args(["package", "--quiet", "--no-verify", "--allow-dirty"]);
    package.args(published.iter().flat_map(|name| ["--package", name]));
    execute(&mut package)?;
    published.iter().try_for_each(|name| unpack(name))
}

/// The commands by which the chapters make the project, with the crate that was packaged in place
/// of a clone.
fn commands() -> Outcome<Vec<String>> {
    let packaged = unpacked("leftfold");
    let mut commands = Vec::new();
    for chapter in CHAPTERS {
        let text = read(&root().join("book/src/tutorial").join(chapter))?;
        commands.extend(commands_of(&text, &packaged.to_string_lossy()));
    }
    match commands.is_empty() {
        true => Err("the tutorial has no commands that make a project".to_owned()),
        false => Ok(commands),
    }
}

/// The lines of a chapter's shell blocks that make or change the project.
fn commands_of(chapter: &str, packaged: &str) -> Vec<String> {
    let blocks = chapter.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let lines = blocks.flat_map(str::lines);
    let own = |line: &&str| line.starts_with("cargo new ") || line.starts_with("cargo add ");
    // `cargo new rooms && cd rooms`: every later command runs in the project anyway.
    let command = |line: &str| line.split(" && ").next().unwrap_or(line).to_owned();
    lines.filter(own).map(|line| command(line).replace(IN_CLONE, packaged)).collect()
}

/// Gives the project the versions that the workspace has locked, and the packaged crates in place
/// of a registry.
fn take_packages(project: &Path, published: &[String]) -> Outcome {
    copy(&root().join("Cargo.lock"), &project.join("Cargo.lock"))?;
    let path = project.join("Cargo.toml");
    let mut manifest = read(&path)?;
    manifest.push_str("\n[patch.crates-io]\n");
    for name in published {
        manifest.push_str(&format!("{name} = {{ path = '{}' }}\n", unpacked(name).display()));
    }
    let workspace = read(&root().join("Cargo.toml"))?;
    let profiles = workspace.find("[profile.dev]").zip(workspace.find("[profile.release]"));
    let (from, to) = profiles.ok_or("Cargo.toml has no profiles dev and release, in this order")?;
    manifest.push_str(&workspace[from..to]);
    fs::write(&path, manifest).map_err(told(&path))
}

fn unpack(name: &str) -> Outcome {
    let packages = target().join("package");
    let file = packages.join(format!("{name}-{}.crate", env!("CARGO_PKG_VERSION")));
    execute(Command::new("tar").arg("-xzf").arg(&file).arg("-C").arg(&packages))
}

fn unpacked(name: &str) -> PathBuf {
    target().join("package").join(format!("{name}-{}", env!("CARGO_PKG_VERSION")))
}

fn copy(from: &Path, to: &Path) -> Outcome {
    fs::copy(from, to).map(|_| ()).map_err(told(to))
}

fn told(path: &Path) -> impl Fn(std::io::Error) -> String {
    let path = path.display().to_string();
    move |error| format!("{path}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_make_the_project_are_found_and_others_are_not() {
        let chapter = "```sh\ncargo new rooms && cd rooms\ncargo add leftfold --path \
                       ../leftfold/crates/leftfold --features sqlite\ncargo run\n```\n\n```rust\n\
                       cargo add no\n```\n";
        let found = commands_of(chapter, "/packaged");
        assert_eq!(
            found,
            ["cargo new rooms", "cargo add leftfold --path /packaged --features sqlite"]
        );
    }
}
