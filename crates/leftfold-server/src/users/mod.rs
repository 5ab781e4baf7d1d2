//! The users of a server: names, passwords and tokens, and rights.

// `file` reads and writes them. `rights` says what each may do, and `caller` asks that for a call.

mod caller;
mod file;
mod rights;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use leftfold_callers::{
    AddressPrefix, Guesses, NotLetIn, PASSWORD_BYTES_MAX, PasswordError, PasswordPool,
};
use tokio::sync::watch;

use crate::guard::UserLimits;
use rights::UserRights;
pub use rights::UserRole;

pub(crate) use caller::Caller;
pub(crate) use rights::{Denied, Wish};

/// Error of a file of users, or of a user for it.
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
    /// A line cannot be understood.
    #[error("line {line} of {path:?}: {detail}; `leftfold user` makes the entry of a user")]
    Line {
        /// File.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
        /// Reason, for people; no value of the file.
        detail: String,
    },
    /// A user cannot be as it is written.
    #[error("the user {name:?} in {path:?}: {detail}")]
    User {
        /// File.
        path: PathBuf,
        /// Name of the user.
        name: String,
        /// Reason, for people.
        detail: &'static str,
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
    #[error(
        "a user has a name without spaces, ':', '#', '/' and '@', and the role read, append, runtime or admin"
    )]
    Name,
}

/// A user that was made, with the secret that is written nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct NewUser {
    /// Entry for the file of users.
    pub entry: String,
    /// Token for the user.
    pub token: String,
}

impl std::fmt::Debug for NewUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewUser").field("entry", &self.entry).finish_non_exhaustive()
    }
}

/// Users of a server, as their file has them: a server follows it. Cheap to clone.
#[derive(Clone)]
pub struct Users(Arc<KnownUsers>);

struct KnownUsers {
    path: PathBuf,
    table: watch::Sender<Arc<UserTable>>,
    /// Digest of the file that was looked at last, or of the reason why it could not be read.
    seen: Mutex<blake3::Hash>,
    passwords: PasswordPool,
}

/// All users at one time.
struct UserTable {
    users: HashMap<String, Arc<User>>,
    /// Names of users by the hashes of their tokens.
    tokens: HashMap<[u8; 32], String>,
}

struct User {
    rights: UserRights,
    limits: UserLimits,
    password: Option<Arc<str>>,
    tokens: Vec<blake3::Hash>,
}

/// Hash of what a caller has shown.
#[derive(Clone, PartialEq, Eq)]
enum Credential {
    Password(Arc<str>),
    Token(blake3::Hash),
}

/// A user who is let in.
pub(crate) struct LetIn {
    name: Arc<str>,
    credential: Credential,
}

impl User {
    fn has(&self, credential: &Credential) -> bool {
        match credential {
            Credential::Password(hash) => self.password.as_ref() == Some(hash),
            Credential::Token(hash) => self.tokens.contains(hash),
        }
    }
}

impl std::fmt::Debug for Users {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.table.borrow().users.keys()).finish()
    }
}

impl From<PasswordError> for UsersError {
    fn from(_: PasswordError) -> Self {
        Self::Password
    }
}

impl Users {
    /// Reads a file of users, which the book describes: for each a password (its argon2 hash) or
    /// tokens (theirs), and a role for all stores or for some. A server that has the users reads
    /// the file again when it changes.
    ///
    /// # Errors
    /// [`UsersError`] if the file cannot be read or understood, or has no user.
    pub fn of_file(path: &Path) -> Result<Self, UsersError> {
        let bytes = file::bytes_of(path)?;
        let table = file::parse(path, &bytes)?;
        if table.users.is_empty() {
            return Err(UsersError::Nobody { path: path.to_owned() });
        }
        Ok(Self(Arc::new(KnownUsers {
            path: path.to_owned(),
            table: watch::Sender::new(Arc::new(table)),
            seen: Mutex::new(blake3::hash(&bytes)),
            passwords: PasswordPool::new()?,
        })))
    }

    /// Makes the entry of a user with a password, for the file.
    ///
    /// # Errors
    /// [`UsersError::Name`] or [`UsersError::Password`] if they cannot be.
    pub fn entry(name: &str, role: &str, password: &str) -> Result<String, UsersError> {
        file::with_password(name, role, password)
    }

    /// Draws a token for a user, and makes the entry for the file. A token stands for the name and
    /// the password.
    ///
    /// # Errors
    /// [`UsersError::Name`] if the name or the role cannot be.
    pub fn with_token(name: &str, role: &str) -> Result<NewUser, UsersError> {
        file::with_token(name, role)
    }

    /// Reads the file again. Users that are not in it any more are out at once, on connections and
    /// calls that are open too: all of them if it has no user. A file with a fault, or none,
    /// changes nothing.
    ///
    /// # Errors
    /// [`UsersError`] as [`of_file`](Self::of_file), once for each version of the file, and once
    /// while it cannot be read.
    pub fn reload(&self) -> Result<(), UsersError> {
        let known = &*self.0;
        let bytes = file::bytes_of(&known.path);
        let digest = match &bytes {
            Ok(bytes) => blake3::hash(bytes),
            Err(error) => known.passwords.keyed_hash(error.to_string().as_bytes()),
        };
        {
            let mut seen = known.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == digest {
                return Ok(());
            }
            *seen = digest;
        }
        let table = file::parse(&known.path, &bytes?)?;
        known.passwords.retain(|name, hash| {
            table.users.get(name).is_some_and(|user| user.password.as_ref() == Some(hash))
        });
        let users = table.users.len();
        if users == 0 {
            tracing::warn!(path = %known.path.display(), "there is no user any more, nobody is let in");
        }
        tracing::info!(path = %known.path.display(), users, "users were read");
        known.table.send_replace(Arc::new(table));
        Ok(())
    }

    /// Returns the user of that name, as it is now.
    fn now(&self, name: &str) -> Option<Arc<User>> {
        self.0.table.borrow().users.get(name).cloned()
    }

    /// Finds the user who has a token.
    pub(crate) fn with_its_token(&self, token: &str) -> Result<LetIn, NotLetIn> {
        let hash = blake3::hash(token.as_bytes());
        let name = self.0.table.borrow().tokens.get(hash.as_bytes()).cloned();
        let name = name.ok_or(NotLetIn::Wrong)?.into();
        Ok(LetIn { name, credential: Credential::Token(hash) })
    }

    /// Finds the user who says the right password, or one of its tokens instead. A caller of a
    /// prefix that said many wrong ones waits.
    pub(crate) async fn with_its_password(
        &self,
        name: &str,
        password: &str,
        prefix: AddressPrefix,
        guesses: &Guesses,
    ) -> Result<LetIn, NotLetIn> {
        if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
            return Err(NotLetIn::Wrong);
        }
        let user = self.now(name);
        let is = |credential| LetIn { name: name.into(), credential };
        let token = blake3::hash(password.as_bytes());
        if user.as_ref().is_some_and(|user| user.tokens.contains(&token)) {
            return Ok(is(Credential::Token(token)));
        }
        let hash = user.and_then(|user| user.password.clone());
        let (passwords, said) = (&self.0.passwords, password.as_bytes());
        passwords.compare(name, hash.clone(), said, prefix, guesses).await?;
        Ok(is(Credential::Password(hash.ok_or(NotLetIn::Wrong)?)))
    }
}
