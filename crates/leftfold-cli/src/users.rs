//! `leftfold user`: the line of a user, for the file of users.

use clap::Args;
use leftfold_server::{Users, UsersError};

/// Makes the line of a user for the file of users
///
/// Reads the password from standard input, and prints the line.
#[derive(Debug, Args)]
pub(crate) struct UserArguments {
    /// Name of the user
    name: String,
    /// read, append, or runtime, which a program with processes, effects or projections needs
    role: String,
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

pub(crate) fn run(user: &UserArguments) -> Result<(), UserError> {
    let mut password = String::new();
    let read = std::io::stdin().read_line(&mut password);
    read.map_err(|error| UserError::Password { detail: error.to_string() })?;
    println!("{}", Users::line(&user.name, &user.role, password.trim_end_matches(['\r', '\n']))?);
    Ok(())
}
