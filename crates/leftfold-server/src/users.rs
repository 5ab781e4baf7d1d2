//! The users of a server: names, roles, and hashes of passwords.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc};
use tokio::sync::Semaphore;
use uuid::Uuid;

/// Passwords that are compared at once: each takes 19 MiB of memory and a processor.
const COMPARED_MAX: usize = 2;
/// Time that a password waits to be compared.
const COMPARED_WITHIN: Duration = Duration::from_secs(5);
/// Bytes of a password.
const PASSWORD_BYTES_MAX: usize = 1_024;

/// Right of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum UserRole {
    /// Reads, and subscribes.
    Read,
    /// Also appends, and takes leases, under names of applications.
    Append,
    /// Also under names that begin with `$`, as the runtime of an application does.
    Runtime,
}

impl UserRole {
    fn of(text: &str) -> Option<Self> {
        match text {
            "read" => Some(Self::Read),
            "append" => Some(Self::Append),
            "runtime" => Some(Self::Runtime),
            _ => None,
        }
    }
}

impl std::fmt::Display for UserRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Append => "append",
            Self::Runtime => "runtime",
        })
    }
}

/// Error of a file of users.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsersError {
    /// It cannot be read.
    #[error("the users in {path:?} cannot be read: {detail}")]
    File {
        /// File.
        path: PathBuf,
        /// Message of the system.
        detail: String,
    },
    /// A line is not that of a user.
    #[error(
        "line {line} of {path:?} is no user, write NAME ROLE HASH with the role read, append or runtime; `leftfold user` makes the line"
    )]
    Line {
        /// File.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
    /// Nobody could come in.
    #[error("there is no user in {path:?}, add one with `leftfold user`")]
    Nobody {
        /// File.
        path: PathBuf,
    },
    /// The password is empty, or too long.
    #[error("a password has 1 to {PASSWORD_BYTES_MAX} bytes")]
    Password,
    /// The name has a character that it cannot have, or the role is none.
    #[error("a user has a name without spaces, ':' and '#', and the role read, append or runtime")]
    Name,
}

/// Users of a server. Cheap to clone.
#[derive(Clone)]
pub struct Users(Arc<KnownUsers>);

struct KnownUsers {
    users: HashMap<String, User>,
    /// Keyed hashes of the passwords that were found right: a call does not compare them again.
    found_right: Mutex<HashMap<String, blake3::Hash>>,
    key: [u8; 32],
    compares: Semaphore,
    /// Compared with if there is no such user: nobody learns from the time who there is.
    nobody: String,
}

#[derive(Clone)]
struct User {
    role: UserRole,
    hash: String,
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.users.keys()).finish()
    }
}

/// Reason why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotLetIn {
    /// There is no such user, or the password is another.
    Wrong,
    /// Too many passwords wait to be compared.
    Busy,
}

impl Users {
    /// Reads a file with a user on each line: name, role, and hash of the password, with a space
    /// between them. Empty lines, and those that begin with `#`, are left out.
    ///
    /// # Errors
    /// [`UsersError`] if the file cannot be read, or has a line that is no user, or no user.
    pub fn of_file(path: &Path) -> Result<Self, UsersError> {
        let path = path.to_owned();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| UsersError::File { path: path.clone(), detail: error.to_string() })?;
        let mut users = HashMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let fault = || UsersError::Line { path: path.clone(), line: number };
            let (name, user) = user_of(line).ok_or_else(fault)?;
            if users.insert(name, user).is_some() {
                return Err(fault());
            }
        }
        if users.is_empty() {
            return Err(UsersError::Nobody { path });
        }
        // A secret of this process.
        let mut key = [0; 32];
        key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        key[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Ok(Self(Arc::new(KnownUsers {
            users,
            found_right: Mutex::default(),
            key,
            compares: Semaphore::new(COMPARED_MAX),
            nobody: hash_of("nobody")?,
        })))
    }

    /// Makes the line of a user for the file.
    ///
    /// # Errors
    /// [`UsersError::Name`] or [`UsersError::Password`] if they cannot be.
    pub fn line(name: &str, role: &str, password: &str) -> Result<String, UsersError> {
        if !is_user_name(name) || UserRole::of(role).is_none() {
            return Err(UsersError::Name);
        }
        if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
            return Err(UsersError::Password);
        }
        Ok(format!("{name} {role} {}", hash_of(password)?))
    }

    /// Returns the role of a user who says the right password.
    pub(crate) async fn role_of(&self, name: &str, password: &str) -> Result<UserRole, NotLetIn> {
        if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
            return Err(NotLetIn::Wrong);
        }
        let KnownUsers { users, found_right, key, compares, nobody } = &*self.0;
        let user = users.get(name);
        let digest = blake3::keyed_hash(key, password.as_bytes());
        if let Some(user) = user {
            let found = found_right.lock().unwrap_or_else(PoisonError::into_inner);
            // The comparison takes the same time wherever they differ.
            if found.get(name).is_some_and(|right| *right == digest) {
                return Ok(user.role);
            }
        }
        let waits = tokio::time::timeout(COMPARED_WITHIN, compares.acquire());
        let _room = waits.await.map_err(|_| NotLetIn::Busy)?.map_err(|_| NotLetIn::Busy)?;
        let hash = user.map_or_else(|| nobody.clone(), |user| user.hash.clone());
        let said = password.to_owned();
        let compared = tokio::task::spawn_blocking(move || is_right(&hash, &said)).await;
        match user {
            Some(user) if compared.unwrap_or(false) => {
                let mut found = found_right.lock().unwrap_or_else(PoisonError::into_inner);
                found.insert(name.to_owned(), digest);
                Ok(user.role)
            }
            _ => Err(NotLetIn::Wrong),
        }
    }
}

fn user_of(line: &str) -> Option<(String, User)> {
    let mut words = line.split_whitespace();
    let (name, role, hash) = (words.next()?, words.next()?, words.next()?);
    let is_whole = words.next().is_none() && is_user_name(name);
    let is_hash = phc::PasswordHash::new(hash).is_ok();
    let role = UserRole::of(role)?;
    (is_whole && is_hash).then(|| (name.to_owned(), User { role, hash: hash.to_owned() }))
}

fn is_user_name(name: &str) -> bool {
    let is_forbidden =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, ':' | '#' | '/' | '@');
    !name.is_empty() && name.len() <= 255 && !name.contains(is_forbidden)
}

fn hash_of(password: &str) -> Result<String, UsersError> {
    let hash: phc::PasswordHash =
        Argon2::default().hash_password(password.as_bytes()).map_err(|_| UsersError::Password)?;
    Ok(hash.to_string())
}

fn is_right(hash: &str, password: &str) -> bool {
    phc::PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}
