//! The users of a server: names, passwords and tokens, and rights.

// `file` reads and writes them. `rights` says what each may do, and `caller` asks that for a call.

mod caller;
mod file;
mod rights;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordVerifier, phc};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::guard::{AddressPrefix, Guesses, UserLimits};
use file::{PASSWORD_BYTES_MAX, hash_of};
use rights::UserRights;
pub use rights::UserRole;

pub(crate) use caller::Caller;
pub(crate) use rights::{Denied, Wish};

/// Passwords that are compared at once: each takes 19 MiB of memory and a processor.
const COMPARED_MAX: usize = 2;
/// Time that a password waits to be compared.
const COMPARED_WITHIN: Duration = Duration::from_secs(5);

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
    /// Keyed hashes of the passwords that were found right: a call does not compare them again.
    found_right: Mutex<HashMap<String, (Arc<str>, blake3::Hash)>>,
    /// Tells that one was found right.
    right: Notify,
    key: [u8; 32],
    compares: Arc<Semaphore>,
    /// Compared with if there is no such user: nobody learns from the time who there is.
    nobody: Arc<str>,
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

/// Reason why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotLetIn {
    /// There is no such user, or the password or token is another.
    Wrong,
    /// Too many passwords wait to be compared.
    Busy,
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
        // A secret of this process.
        let mut key = [0; 32];
        key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        key[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Ok(Self(Arc::new(KnownUsers {
            path: path.to_owned(),
            table: watch::Sender::new(Arc::new(table)),
            seen: Mutex::new(blake3::hash(&bytes)),
            found_right: Mutex::default(),
            right: Notify::new(),
            key,
            compares: Arc::new(Semaphore::new(COMPARED_MAX)),
            nobody: hash_of("nobody")?.into(),
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
            Err(error) => blake3::keyed_hash(&known.key, error.to_string().as_bytes()),
        };
        {
            let mut seen = known.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == digest {
                return Ok(());
            }
            *seen = digest;
        }
        let table = file::parse(&known.path, &bytes?)?;
        let mut found = known.found_right.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|name, (hash, _)| {
            table.users.get(name).is_some_and(|user| user.password.as_ref() == Some(hash))
        });
        drop(found);
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
        let known = &*self.0;
        let user = self.now(name);
        let is = |credential| LetIn { name: name.into(), credential };
        let token = blake3::hash(password.as_bytes());
        if user.as_ref().is_some_and(|user| user.tokens.contains(&token)) {
            return Ok(is(Credential::Token(token)));
        }
        let hash = user.and_then(|user| user.password.clone());
        let digest = blake3::keyed_hash(&known.key, password.as_bytes());
        let found = |hash: &Option<Arc<str>>| {
            hash.as_ref().filter(|hash| known.was_right(name, hash, digest)).cloned()
        };
        if let Some(hash) = found(&hash) {
            return Ok(is(Credential::Password(hash)));
        }
        let turn = guesses.turn(prefix, Instant::now()).ok_or(NotLetIn::Busy)?;
        // Others may say the same password meanwhile, and be right.
        loop {
            let right = known.right.notified();
            if let Some(hash) = found(&hash) {
                return Ok(is(Credential::Password(hash)));
            }
            tokio::select! {
                () = tokio::time::sleep_until(turn.not_before) => break,
                () = right => {}
            }
        }
        let room = Arc::clone(&known.compares).acquire_owned();
        let room = tokio::time::timeout(COMPARED_WITHIN, room).await;
        let room = room.map_err(|_| NotLetIn::Busy)?.map_err(|_| NotLetIn::Busy)?;
        if let Some(hash) = found(&hash) {
            return Ok(is(Credential::Password(hash)));
        }
        // A caller that goes away does not end the comparison: it has its room, and counts, until
        // it is over.
        let (users, comparing) = (Arc::clone(&self.0), hash.clone());
        let (of, said) = (name.to_owned(), password.to_owned());
        let compared = tokio::task::spawn_blocking(move || {
            let is_right = users.compare(&of, comparing, &said, digest);
            if !is_right {
                turn.end_wrong(Instant::now());
            }
            drop(room);
            is_right
        });
        let is_right = compared.await.unwrap_or(false);
        let hash = hash.filter(|_| is_right).ok_or(NotLetIn::Wrong)?;
        Ok(is(Credential::Password(hash)))
    }
}

impl KnownUsers {
    /// Tells whether the password of this digest was found right for the hash.
    fn was_right(&self, name: &str, hash: &Arc<str>, digest: blake3::Hash) -> bool {
        let found = self.found_right.lock().unwrap_or_else(PoisonError::into_inner);
        // The comparison takes the same time wherever they differ.
        found.get(name).is_some_and(|right| right.0 == *hash && right.1 == digest)
    }

    /// Compares a password with the hash of its user, if there is such a user. Takes long.
    fn compare(
        &self,
        name: &str,
        hash: Option<Arc<str>>,
        password: &str,
        digest: blake3::Hash,
    ) -> bool {
        let is_right = is_right(hash.as_ref().unwrap_or(&self.nobody), password);
        match hash.filter(|_| is_right) {
            Some(hash) => self.note_right(name, &hash, digest),
            None => return false,
        }
        true
    }

    fn note_right(&self, name: &str, hash: &Arc<str>, digest: blake3::Hash) {
        let mut found = self.found_right.lock().unwrap_or_else(PoisonError::into_inner);
        found.insert(name.to_owned(), (Arc::clone(hash), digest));
        drop(found);
        self.right.notify_waiters();
    }
}

fn is_right(hash: &str, password: &str) -> bool {
    phc::PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A stranger could begin comparisons without end by resetting each call: its room was free at
    /// once, and nothing counted as wrong.
    #[test]
    fn a_comparison_whose_caller_is_gone_keeps_its_room_and_counts() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("users");
        std::fs::write(&path, Users::entry("ada", "read", "right").unwrap()).unwrap();
        let users = Users::of_file(&path).unwrap();
        let guesses = Guesses::default();
        let prefix = AddressPrefix::of("192.0.2.1".parse().unwrap());
        runtime.block_on(async {
            // The only thread for comparisons is taken, so that none comes to its end.
            let (goes_on, waits) = mpsc::channel::<()>();
            let thread = tokio::task::spawn_blocking(move || waits.recv().is_err());
            let free = || users.0.compares.available_permits();
            for (name, left) in [("ada", 1), ("nobody", 0), ("ada", 0)] {
                let compared = async {
                    while free() > left {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! {
                    _ = users.with_its_password(name, "wrong", prefix, &guesses) => panic!("{name}"),
                    () = compared => {}
                }
                assert_eq!(free(), left);
            }
            drop(goes_on);
            thread.await.unwrap();
            let _all = users.0.compares.acquire_many(COMPARED_MAX as u32).await.unwrap();
            assert_eq!(guesses.wrong_of(prefix), 2);
        });
    }
}
