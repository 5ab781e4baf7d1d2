//! Passwords: what can be one, and how guesses are slowed.
//!
//! Guesses count for the address that they come from, and for the name that they are about.
//! Whoever logs in gets a mark of the browser; with it guesses count for that browser instead of
//! the name, so a stranger who tries a name holds nobody up who has logged in before.

use std::sync::Arc;

use leftfold_callers::{
    AddressPrefix, Guesses, NotLetIn, PASSWORD_BYTES_MAX, PasswordError, PasswordPool,
};
use tokio::time::{Instant, sleep_until};

use crate::confidential::Confidential;
use crate::domain::person::LoginHash;

/// Characters of a password at least.
const PASSWORD_CHARACTERS_MIN: usize = 12;

/// Reason why a password cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordFault {
    /// It is too easily guessed.
    #[error("a password has at least {PASSWORD_CHARACTERS_MIN} characters; take some words")]
    Short,
    /// It is longer than anybody needs.
    #[error("a password has at most {PASSWORD_BYTES_MAX} bytes")]
    Long,
    /// Too many passwords wait, or too many were wrong.
    #[error("too many passwords were tried; try again in a minute")]
    Busy,
}

/// Origin of a password.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guesser {
    /// Beginning of the address.
    pub(super) prefix: AddressPrefix,
    /// Hash of the name, or of the mark of a browser that logged in before.
    pub(super) about: [u8; 32],
}

/// Comparisons of passwords, and the guesses so far.
#[derive(Clone, Debug)]
pub(super) struct Passwords {
    pool: PasswordPool,
    of_prefix: Guesses,
    of_name: Guesses<[u8; 32]>,
}

impl Passwords {
    pub(super) fn new() -> Result<Self, PasswordError> {
        let (of_prefix, of_name) = (Guesses::default(), Guesses::default());
        Ok(Self { pool: PasswordPool::new()?, of_prefix, of_name })
    }

    pub(super) fn pool(&self) -> &PasswordPool {
        &self.pool
    }

    /// Makes the hash of a password that people may take.
    pub(super) async fn hash(&self, password: &Confidential) -> Result<LoginHash, PasswordFault> {
        let password = password.reveal();
        if password.chars().count() < PASSWORD_CHARACTERS_MIN {
            return Err(PasswordFault::Short);
        }
        match self.pool.hash(password.as_bytes()).await {
            Ok(hash) => Ok(LoginHash(hash)),
            Err(NotLetIn::Wrong) => Err(PasswordFault::Long),
            Err(NotLetIn::Busy) => Err(PasswordFault::Busy),
        }
    }

    /// Compares a password with the hash of a user; it takes as long if there is no user.
    pub(super) async fn is_right(
        &self,
        user: &str,
        hash: Option<LoginHash>,
        password: &Confidential,
        guesser: Guesser,
    ) -> Result<bool, PasswordFault> {
        let turn = self.of_name.turn(guesser.about, Instant::now()).ok_or(PasswordFault::Busy)?;
        sleep_until(turn.not_before).await;
        let hash = hash.map(|LoginHash(hash)| Arc::from(hash));
        let (password, prefix) = (password.reveal().as_bytes(), guesser.prefix);
        match self.pool.compare(user, hash, password, prefix, &self.of_prefix).await {
            Ok(()) => Ok(true),
            Err(NotLetIn::Wrong) => {
                turn.end_wrong(Instant::now());
                Ok(false)
            }
            Err(NotLetIn::Busy) => Err(PasswordFault::Busy),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stranger who tried a name from many addresses could keep its owner out.
    #[tokio::test]
    async fn a_browser_that_logged_in_before_does_not_wait_for_the_guesses_of_strangers() {
        let passwords = Passwords::new().unwrap();
        let (right, wrong) = (Confidential::new("correct horse"), Confidential::new("a guess"));
        let hash = passwords.hash(&right).await.unwrap();
        let guess = |password: Confidential, network: u8, about: u8| {
            let (passwords, hash) = (passwords.clone(), Some(hash.clone()));
            let prefix = AddressPrefix::of(std::net::IpAddr::from([192, 0, network, 1]));
            let guesser = Guesser { prefix, about: [about; 32] };
            async move { passwords.is_right("ada", hash, &password, guesser).await }
        };
        for network in 0..8 {
            assert_eq!(guess(wrong.clone(), network, 1).await, Ok(false));
        }
        let is_compared_at_once = |about: u8| {
            let now = Instant::now();
            let turn = passwords.of_name.turn([about; 32], now).unwrap();
            turn.not_before.duration_since(now).is_zero()
        };
        assert_eq!(
            [1, 1].map(is_compared_at_once),
            [true, false],
            "one at a time is compared for the name"
        );
        assert_eq!([2, 2].map(is_compared_at_once), [true, true]);
        assert_eq!(guess(right, 100, 2).await, Ok(true), "her browser");
    }

    #[tokio::test]
    async fn a_password_is_neither_short_nor_endless() {
        let passwords = Passwords::new().unwrap();
        let hash = |text: String| {
            let passwords = passwords.clone();
            async move { passwords.hash(&Confidential::new(text)).await.map(drop) }
        };
        assert_eq!(hash("elevenchars".to_owned()).await, Err(PasswordFault::Short));
        assert_eq!(hash("x".repeat(PASSWORD_BYTES_MAX + 1)).await, Err(PasswordFault::Long));
        assert_eq!(hash("twelve chars".to_owned()).await, Ok(()));
    }
}
