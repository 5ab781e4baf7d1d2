//! People and programs that call, over the store: what proves who calls, and who there is.
//!
//! - `act`: what is recorded of who did something
//! - `error`: what can go wrong
//! - `sealed`: what is sealed of a person
//! - `secret`: random texts that prove something, and their hashes
//! - `passwords`: what can be a password, and how guesses are slowed
//! - `login`: sessions of people, from the password on
//! - `tokens`: tokens of programs
//! - `roster`: users: who there is, and what an admin changes
//! - `audit`: what people did, the newest first

mod act;
mod audit;
mod error;
mod login;
mod passwords;
mod roster;
mod sealed;
mod secret;
mod tokens;

use std::time::Duration;

use leftfold::personal::Keys;
use leftfold::prelude::{Aggregates, Store};
use leftfold_callers::{PasswordError, PasswordPool};

pub(crate) use act::{Act, OperatorAct};
pub(crate) use audit::AuditEntry;
pub(crate) use error::PeopleError;
pub(crate) use login::{LoginError, OpenSession};
pub(crate) use passwords::PasswordFault;
pub(crate) use roster::{NewAccount, UserRow};
pub(crate) use secret::{csrf_token, is_csrf_token, random_text};
pub(crate) use tokens::{TOKEN_DAYS, TokenRow};

use crate::domain::person::{ApiToken, UserAccount};
use passwords::Passwords;

/// Users, their sessions, and tokens, as the store has them. Nothing is kept in memory but folds,
/// which the store confirms at each use: what one server revokes admits nobody at another one.
#[derive(Debug)]
pub(crate) struct People {
    store: Store,
    keys: Keys,
    users: Aggregates<UserAccount>,
    tokens: Aggregates<ApiToken>,
    passwords: Passwords,
    times: SessionTimes,
}

/// Times after which sessions end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionTimes {
    /// Time without use.
    pub(crate) idle: Duration,
    /// Time since the login.
    pub(crate) most: Duration,
}

impl People {
    /// Creates the handles of a store and its keys.
    ///
    /// # Errors
    /// [`PasswordError`] if the system has no randomness.
    pub(crate) fn new(
        store: &Store,
        keys: Keys,
        times: SessionTimes,
    ) -> Result<Self, PasswordError> {
        Ok(Self {
            store: store.clone(),
            keys,
            users: store.aggregate(),
            tokens: store.aggregate(),
            passwords: Passwords::new()?,
            times,
        })
    }

    /// Returns the pool that compares passwords, for others who have some.
    pub(crate) fn password_pool(&self) -> &PasswordPool {
        self.passwords.pool()
    }
}
