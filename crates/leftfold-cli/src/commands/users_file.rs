//! `leftfold users`: lists, adds and removes those in a file of users.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use leftfold_server::Users;
use serde_json::json;

use crate::commands::users::{UserArguments, make};
use crate::failure::CliFailure;
use crate::screen::{Screen, Side, TextTable, counted};

/// Lists, adds and removes the users in a file
///
/// A server that has the file follows it. The new file is checked, and moved over the old one.
#[derive(Debug, Args)]
pub(crate) struct UsersArguments {
    #[command(subcommand)]
    action: UsersAction,
}

/// Work on a file of users.
#[derive(Debug, Subcommand)]
enum UsersAction {
    /// Lists the users
    List {
        /// File of users
        file: PathBuf,
    },
    /// Adds a user, as "leftfold user" makes the entry; the file is made if it is not there
    Add {
        /// File of users
        file: PathBuf,
        #[command(flatten)]
        user: UserArguments,
    },
    /// Removes a user
    Remove {
        /// File of users
        file: PathBuf,
        /// Name of the user
        name: String,
    },
}

pub(crate) fn run(arguments: &UsersArguments, screen: &mut Screen) -> Result<(), CliFailure> {
    match &arguments.action {
        UsersAction::List { file } => list(file, screen),
        UsersAction::Add { file, user } => {
            let file = &followed(file);
            let _lock = lock(file)?;
            let text = if file.exists() { text_of(file)? } else { String::new() };
            if users_in(&text)?.contains_key(user.name()) {
                let hint = "remove the user first, or edit the file";
                let name = user.name();
                return Err(CliFailure::Failed(format!("there is a user {name:?}; {hint}")));
            }
            let space = if text.is_empty() { "" } else { "\n" };
            make(user, |entry| replace(file, &format!("{text}{space}{entry}")))
        }
        UsersAction::Remove { file, name } => {
            let file = &followed(file);
            let _lock = lock(file)?;
            let text = text_of(file)?;
            if !users_in(&text)?.contains_key(name) {
                return Err(CliFailure::Failed(format!("there is no user {name:?}")));
            }
            let rest = without(&text, name);
            if users_in(&rest)?.contains_key(name) {
                let hint = "the user does not stand in a part of its own; edit the file";
                return Err(CliFailure::Failed(hint.to_owned()));
            }
            replace(file, &rest)
        }
    }
}

fn list(file: &Path, screen: &mut Screen) -> Result<(), CliFailure> {
    Users::of_file(file)?;
    let users = users_in(&text_of(file)?)?;
    let left = Side::Left;
    let mut table =
        TextTable::new(&[("user", left), ("role", left), ("by", left), ("stores", left)]);
    for (name, user) in &users {
        let role = user.get("role").and_then(toml::Value::as_str).unwrap_or("-");
        let mut by = Vec::new();
        by.extend(user.get("password").map(|_| "password".to_owned()));
        let tokens = user.get("tokens").and_then(toml::Value::as_array);
        by.extend(tokens.map(|tokens| counted(tokens.len() as u64, "token")));
        let stores = user.get("stores").and_then(toml::Value::as_table);
        let stores: Vec<String> = stores.into_iter().flat_map(|of| of.keys().cloned()).collect();
        if screen.is_json() {
            screen.object(&json!({ "user": name, "role": role, "by": by, "stores": stores }))?;
        }
        table.row(vec![name.clone(), role.to_owned(), by.join(", "), stores.join(", ")]);
    }
    if screen.is_json() {
        return screen.flush();
    }
    screen.table(&table)?;
    screen.note(&counted(users.len() as u64, "user"))
}

/// The users in a text, by their names.
fn users_in(text: &str) -> Result<toml::Table, CliFailure> {
    let parsed: toml::Table =
        text.parse().map_err(|error: toml::de::Error| CliFailure::of(error))?;
    Ok(parsed.get("users").and_then(toml::Value::as_table).cloned().unwrap_or_default())
}

/// The text without the parts of a user: `[users.NAME]` and those that begin so.
fn without(text: &str, name: &str) -> String {
    let own = [format!("[users.{name}"), format!("[users.{name:?}")];
    let (mut rest, mut is_own) = (String::new(), false);
    for line in text.split_inclusive('\n') {
        if line.starts_with('[') {
            is_own = own.iter().any(|own| {
                line.strip_prefix(own.as_str()).is_some_and(|behind| behind.starts_with([']', '.']))
            });
        }
        if !is_own {
            rest.push_str(line);
        }
    }
    rest
}

/// Returns the file that a link leads to: the link stays, and what it leads to is replaced.
fn followed(file: &Path) -> PathBuf {
    fs::canonicalize(file).unwrap_or_else(|_| file.to_owned())
}

fn directory_of(file: &Path) -> &Path {
    file.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Waits until no other program changes a file in the directory in this way: what is read is what
/// is replaced. The lock ends with the value.
#[cfg(unix)]
fn lock(file: &Path) -> Result<File, CliFailure> {
    let directory = directory_of(file);
    let said = |error: io::Error| CliFailure::Failed(format!("{}: {error}", directory.display()));
    let opened = File::open(directory).map_err(said)?;
    opened.lock().map_err(said)?;
    Ok(opened)
}

#[cfg(not(unix))]
fn lock(_file: &Path) -> Result<(), CliFailure> {
    Ok(())
}

/// Puts a text in the place of a file, if it is a file of users. It keeps the rights of the file;
/// a new one is for its owner alone.
fn replace(file: &Path, text: &str) -> Result<(), CliFailure> {
    let said = |error: io::Error| CliFailure::Failed(format!("{}: {error}", file.display()));
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    // Its name is one that nobody else has, and it goes with the value.
    let beside =
        tempfile::Builder::new().prefix(&format!(".{name}.")).tempfile_in(directory_of(file));
    let mut beside = beside.map_err(said)?;
    write_as(beside.as_file_mut(), file, text).map_err(said)?;
    Users::of_file(beside.path())?;
    beside.persist(file).map_err(|error| said(error.error))?;
    sync_directory(file).map_err(said)
}

/// Writes a text, with the rights and the owner of the file whose place it takes.
fn write_as(out: &mut File, file: &Path, text: &str) -> io::Result<()> {
    out.write_all(text.as_bytes())?;
    if let Ok(there) = fs::metadata(file) {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let own = out.metadata()?;
            if (own.uid(), own.gid()) != (there.uid(), there.gid()) {
                std::os::unix::fs::fchown(&*out, Some(there.uid()), Some(there.gid()))?;
            }
        }
        out.set_permissions(there.permissions())?;
    }
    out.sync_all()
}

/// Makes the new name durable.
fn sync_directory(file: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(directory_of(file))?.sync_all() } else { Ok(()) }
}

fn text_of(file: &Path) -> Result<String, CliFailure> {
    let said = |error| CliFailure::Failed(format!("{}: {error}", file.display()));
    std::fs::read_to_string(file).map_err(said)
}
