//! `leftfold users`: lists, adds and removes those in a file of users.

use std::io::Write;
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

/// Puts a text in the place of a file, if it is a file of users. Only its owner may read it.
fn replace(file: &Path, text: &str) -> Result<(), CliFailure> {
    let new = PathBuf::from(format!("{}.new", file.display()));
    let said = |error: std::io::Error| CliFailure::Failed(format!("{}: {error}", new.display()));
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let mut out = options.open(&new).map_err(said)?;
    out.write_all(text.as_bytes()).and_then(|()| out.sync_all()).map_err(said)?;
    if let Err(error) = Users::of_file(&new) {
        let _ = std::fs::remove_file(&new);
        return Err(error.into());
    }
    std::fs::rename(&new, file).map_err(said)
}

fn text_of(file: &Path) -> Result<String, CliFailure> {
    let said = |error| CliFailure::Failed(format!("{}: {error}", file.display()));
    std::fs::read_to_string(file).map_err(said)
}
