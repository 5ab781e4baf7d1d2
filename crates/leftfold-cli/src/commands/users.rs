//! `leftfold user`: the entry of a user, for the file of users.

use clap::Args;
use leftfold_server::{Users, UsersError};

/// Makes the entry of a user for the file of users
///
/// Reads the password from standard input, and prints the entry: add it to the file. With --token
/// it draws a token instead, which standard error shows this once.
#[derive(Debug, Args)]
pub(crate) struct UserArguments {
    /// Name of the user
    name: String,
    /// read, append, runtime, which a program with processes, effects or projections needs, or
    /// admin
    role: String,
    /// Draws a token, which stands for name and password
    #[arg(long)]
    token: bool,
}

/// Error of making a user.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UserError {
    /// The name, the role or the password cannot be.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// No password came.
    #[error("no password can be read from standard input: {detail}")]
    Password {
        /// Message of the system.
        detail: String,
    },
}

impl UserArguments {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

pub(crate) fn run(user: &UserArguments) -> Result<(), UserError> {
    print!("{}", entry(user)?);
    Ok(())
}

/// Makes the entry of a user, with a password from standard input or a token that standard error
/// shows.
pub(crate) fn entry(user: &UserArguments) -> Result<String, UserError> {
    if user.token {
        let made = Users::with_token(&user.name, &user.role)?;
        eprintln!("{}", made.token);
        return Ok(made.entry);
    }
    let mut password = String::new();
    let read = std::io::stdin().read_line(&mut password);
    read.map_err(|error| UserError::Password { detail: error.to_string() })?;
    Ok(Users::entry(&user.name, &user.role, password.trim_end_matches(['\r', '\n']))?)
}
