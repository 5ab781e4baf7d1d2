//! What can go wrong with people.

use leftfold::fold::{EventError, RecordError};
use leftfold::personal::{KeysError, Randomless};
use leftfold::prelude::{ExecuteError, Invalid, LoadError};
use leftfold::store::ReadError;
use leftfold_callers::PasswordError;

use super::passwords::PasswordFault;
use crate::domain::person::{ApiTokenRefusal, NameTaken, UserAccountRefusal};

/// Error of a request about users, sessions or tokens.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeopleError {
    /// The user cannot do that, or is not there.
    #[error(transparent)]
    User(#[from] ExecuteError<UserAccountRefusal>),
    /// The token cannot do that, or is not there.
    #[error(transparent)]
    Token(#[from] ExecuteError<ApiTokenRefusal>),
    /// The user cannot be added.
    #[error(transparent)]
    Add(#[from] ExecuteError<NameTaken>),
    /// The password cannot be one.
    #[error(transparent)]
    Password(#[from] PasswordFault),
    /// No user can have the name.
    #[error("a name has 1 to 100 characters, and no control characters")]
    Name,
    /// The keys of personal data do not do their part.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A user or a token cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An act cannot be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// An event is not as it was written.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A name is beyond its limit.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Passwords cannot be hashed.
    #[error("the system gives no random bytes: {0}")]
    Hashing(#[from] PasswordError),
    /// The system gave no random bytes.
    #[error(transparent)]
    Randomless(#[from] Randomless),
}
