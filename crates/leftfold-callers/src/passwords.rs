//! Passwords: compared with their hashes by a bounded pool, and remembered when they were right.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::Argon2;
use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use uuid::Uuid;

use super::{AddressPrefix, Guesses};

/// Bytes of a password.
pub const PASSWORD_BYTES_MAX: usize = 1_024;
/// Passwords that are compared at once: each takes 19 MiB of memory and a processor.
const COMPARED_MAX: usize = 2;
/// Time that a password waits to be compared.
const COMPARED_WITHIN: Duration = Duration::from_secs(5);

/// Error of a password that cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password has 1 to {PASSWORD_BYTES_MAX} bytes")]
pub struct PasswordError;

/// Reason why nobody is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLetIn {
    /// There is nobody of that name, or the password or token is another.
    Wrong,
    /// Too many passwords wait to be compared.
    Busy,
}

/// Returns the argon2 hash of a password, for people to keep.
///
/// # Errors
/// [`PasswordError`] if the password is empty or too long.
pub fn hash_password(password: &[u8]) -> Result<String, PasswordError> {
    if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
        return Err(PasswordError);
    }
    let hash: phc::PasswordHash =
        Argon2::default().hash_password(password).map_err(|_| PasswordError)?;
    Ok(hash.to_string())
}

/// Tells whether a text is the hash of a password.
#[must_use]
pub fn is_password_hash(text: &str) -> bool {
    text.starts_with("$argon2") && phc::PasswordHash::new(text).is_ok()
}

/// Comparisons of passwords with their hashes, of which few run at once. Cheap to clone.
///
/// A password that was found right is remembered by a hash that is keyed with a secret of this
/// process, one for each name, so that it is not compared again.
#[derive(Clone)]
pub struct PasswordPool(Arc<PoolParts>);

struct PoolParts {
    /// Keyed hashes of the passwords that were found right: they are not compared again.
    found_right: Mutex<HashMap<String, (Arc<str>, blake3::Hash)>>,
    /// Tells that one was found right.
    right: Notify,
    key: [u8; 32],
    compares: Arc<Semaphore>,
    /// Compared with if nobody has that name: nobody learns from the time who there is.
    nobody: Arc<str>,
}

impl std::fmt::Debug for PasswordPool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordPool").finish_non_exhaustive()
    }
}

impl PasswordPool {
    /// Creates a pool that remembers nothing. Takes as long as a comparison.
    ///
    /// # Errors
    /// [`PasswordError`] if the system has no randomness.
    pub fn new() -> Result<Self, PasswordError> {
        // A secret of this process.
        let mut key = [0; 32];
        key[..16].copy_from_slice(Uuid::new_v4().as_bytes());
        key[16..].copy_from_slice(Uuid::new_v4().as_bytes());
        Ok(Self(Arc::new(PoolParts {
            found_right: Mutex::default(),
            right: Notify::new(),
            key,
            compares: Arc::new(Semaphore::new(COMPARED_MAX)),
            nobody: hash_password(b"nobody")?.into(),
        })))
    }

    /// Returns a hash of a text that is keyed with the secret of this process.
    #[must_use]
    pub fn keyed_hash(&self, text: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0.key, text)
    }

    /// Forgets what was found right, unless it is kept.
    pub fn retain(&self, is_kept: impl Fn(&str, &Arc<str>) -> bool) {
        let mut found = self.0.found_right.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|name, (hash, _)| is_kept(name, hash));
    }

    /// Returns the argon2 hash of a password that somebody has chosen, when the pool has room.
    ///
    /// # Errors
    /// [`NotLetIn`] if the password cannot be one, or the pool had no room in time.
    pub async fn hash(&self, password: &[u8]) -> Result<String, NotLetIn> {
        let room = self.room().await?;
        let password = password.to_vec();
        let hashed = tokio::task::spawn_blocking(move || {
            let hashed = hash_password(&password);
            drop(room);
            hashed
        });
        hashed.await.map_err(|_| NotLetIn::Busy)?.map_err(|_| NotLetIn::Wrong)
    }

    /// Waits for room in the pool.
    async fn room(&self) -> Result<OwnedSemaphorePermit, NotLetIn> {
        let room = Arc::clone(&self.0.compares).acquire_owned();
        let room = tokio::time::timeout(COMPARED_WITHIN, room).await;
        room.map_err(|_| NotLetIn::Busy)?.map_err(|_| NotLetIn::Busy)
    }

    /// Tells whether a password was found right before, and so is not compared again.
    #[must_use]
    pub fn remembers(&self, name: &str, hash: &Arc<str>, password: &[u8]) -> bool {
        self.0.was_right(name, hash, self.keyed_hash(password))
    }

    /// Compares a password with the hash of its name; `None` if the name has no password, which
    /// takes as long. A caller of a prefix that said many wrong ones waits.
    ///
    /// # Errors
    /// [`NotLetIn`] if the password is wrong, or was not compared.
    pub async fn compare(
        &self,
        name: &str,
        hash: Option<Arc<str>>,
        password: &[u8],
        prefix: AddressPrefix,
        guesses: &Guesses,
    ) -> Result<(), NotLetIn> {
        if password.is_empty() || password.len() > PASSWORD_BYTES_MAX {
            return Err(NotLetIn::Wrong);
        }
        let pool = &*self.0;
        let digest = self.keyed_hash(password);
        let is_found = || hash.as_ref().is_some_and(|hash| pool.was_right(name, hash, digest));
        if is_found() {
            return Ok(());
        }
        let turn = guesses.turn(prefix, Instant::now()).ok_or(NotLetIn::Busy)?;
        // Others may say the same password meanwhile, and be right.
        loop {
            let right = pool.right.notified();
            if is_found() {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep_until(turn.not_before) => break,
                () = right => {}
            }
        }
        let room = self.room().await?;
        if is_found() {
            return Ok(());
        }
        // A caller that goes away does not end the comparison: it has its room, and counts, until
        // it is over.
        let comparing = Arc::clone(&self.0);
        let (of, said) = (name.to_owned(), password.to_vec());
        let compared = tokio::task::spawn_blocking(move || {
            let is_right = comparing.compare(&of, hash, &said, digest);
            if !is_right {
                turn.end_wrong(Instant::now());
            }
            drop(room);
            is_right
        });
        if compared.await.unwrap_or(false) { Ok(()) } else { Err(NotLetIn::Wrong) }
    }
}

impl PoolParts {
    /// Tells whether the password of this digest was found right for the hash.
    fn was_right(&self, name: &str, hash: &Arc<str>, digest: blake3::Hash) -> bool {
        let found = self.found_right.lock().unwrap_or_else(PoisonError::into_inner);
        // The comparison takes the same time wherever they differ.
        found.get(name).is_some_and(|right| right.0 == *hash && right.1 == digest)
    }

    /// Compares a password with its hash, if there is one. Takes long.
    fn compare(
        &self,
        name: &str,
        hash: Option<Arc<str>>,
        password: &[u8],
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

fn is_right(hash: &str, password: &[u8]) -> bool {
    phc::PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
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
        let ada: Arc<str> = hash_password(b"right").unwrap().into();
        let hash_of = |name| (name == "ada").then(|| Arc::clone(&ada));
        let pool = PasswordPool::new().unwrap();
        let guesses = Guesses::default();
        let prefix = AddressPrefix::of("192.0.2.1".parse().unwrap());
        runtime.block_on(async {
            // The only thread for comparisons is taken, so that none comes to its end.
            let (goes_on, waits) = mpsc::channel::<()>();
            let thread = tokio::task::spawn_blocking(move || waits.recv().is_err());
            let free = || pool.0.compares.available_permits();
            for (name, left) in [("ada", 1), ("nobody", 0), ("ada", 0)] {
                let compared = async {
                    while free() > left {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::select! {
                    _ = pool.compare(name, hash_of(name), b"wrong", prefix, &guesses) => {
                        panic!("{name}")
                    }
                    () = compared => {}
                }
                assert_eq!(free(), left);
            }
            drop(goes_on);
            thread.await.unwrap();
            let _all = pool.0.compares.acquire_many(COMPARED_MAX as u32).await.unwrap();
            assert_eq!(guesses.wrong_of(prefix), 2);
        });
    }
}
