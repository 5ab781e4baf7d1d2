//! Profile of a person, and how it is made safe before it can become an event.

use argon2::password_hash::{self, PasswordHasher, PasswordVerifier, phc};
use argon2::{Argon2, Params};
use leftfold::personal::Personal;
use serde::{Deserialize, Serialize};

// ANCHOR: password
/// Password as a person types it. No event can hold it: it is neither `Serialize` nor `Debug`.
pub(crate) struct Password(pub(crate) String);

impl Password {
    /// Slow on purpose, so it happens once, before the decision, which may be repeated.
    pub(crate) fn hash(&self) -> Result<PasswordHash, password_hash::Error> {
        let params =
            if cfg!(test) { Params::new(Params::MIN_M_COST, 1, 1, None)? } else { Params::DEFAULT };
        let hash: phc::PasswordHash = Argon2::from(params).hash_password(self.0.as_bytes())?;
        Ok(PasswordHash(hash.to_string()))
    }
}
// ANCHOR_END: password

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct PasswordHash(pub(crate) String);

impl PasswordHash {
    pub(crate) fn fits(&self, password: &Password) -> bool {
        let parsed = phc::PasswordHash::new(&self.0);
        parsed.is_ok_and(|hash| {
            Argon2::default().verify_password(password.0.as_bytes(), &hash).is_ok()
        })
    }
}

/// A name as it is compared: `Ada` and `ada` are one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct UserName(String);

impl UserName {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.trim().to_lowercase())
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Email(String);

impl Email {
    pub(crate) fn new(text: &str) -> Self {
        Self(text.trim().to_lowercase())
    }
}

/// Everything of a person is sealed with the key of that person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Profile {
    /// Drawn by anyone who asks; a UUID, in earnest.
    pub(crate) account: String,
    pub(crate) name: Personal<UserName>,
    pub(crate) email: Personal<Email>,
    pub(crate) password: Personal<PasswordHash>,
}
