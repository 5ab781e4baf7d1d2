//! Errors of the connection and of the server, and those among them that mean that no event could
//! be applied just now.

use leftfold_core::runtime::projection::{ProjectionError, with_causes};
use leftfold_core::store::Kind;
use redis::ErrorKind;

/// Code of the server's answer to a script of a session that is not the owner any more.
pub(crate) const NOT_OWNER: &str = "NOTOWNER";
/// Code of its answer to a reader before any version serves.
pub(crate) const NOTHING: &str = "NOTHING";
/// Codes by which a server says that no session can write now.
const STANDS_STILL: [&str; 12] = [
    "LOADING",
    "BUSY",
    "OOM",
    "READONLY",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MISCONF",
    "NOREPLICAS",
    "NOAUTH",
    "NOPERM",
    NOT_OWNER,
];

/// Error of using a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedisError {
    /// The URL cannot be parsed. It does not say why: the reason may be a part of the password.
    #[error("the URL of the database cannot be used; write redis://user:password@host:port/number")]
    Url,
    /// The server cannot be reached, or refused.
    #[error("cannot use Redis: {}", with_causes(.0))]
    Refused(#[source] redis::RedisError),
    /// Another session writes the version.
    #[error(
        "{version} is written by {holder}; stop that one, since only one session writes a version at a time"
    )]
    InUse {
        /// `NAME:vN`.
        version: String,
        /// Session that writes it.
        holder: String,
    },
    /// The server may remove any key when its memory is full.
    #[error(
        "the server evicts keys by {policy}, which would take rows and checkpoint apart; set its maxmemory-policy to noeviction"
    )]
    Evicts {
        /// Its policy.
        policy: String,
    },
    /// A key is empty or too long.
    #[error("a key of {bytes} bytes; they have 1 to {most}")]
    Key {
        /// Its length.
        bytes: usize,
        /// The longest.
        most: usize,
    },
    /// A value is too long, or all of one transaction together.
    #[error("{bytes} bytes in {what}, which holds at most {most}")]
    TooLarge {
        /// A value, or a transaction.
        what: &'static str,
        /// The length.
        bytes: usize,
        /// The longest.
        most: usize,
    },
    /// There is nothing to read yet.
    #[error(
        "no version of {name} serves yet; start a runtime with the projection and wait until it was built"
    )]
    NothingServes {
        /// The projection.
        name: String,
    },
}

impl RedisError {
    /// Returns the kind of the error: rows that cannot be used now, or something that has to be
    /// corrected.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::InUse { .. } | Self::NothingServes { .. } => Kind::Unavailable,
            Self::Refused(source) if stands_still(source) => Kind::Unavailable,
            Self::Key { .. } | Self::TooLarge { .. } => Kind::Invalid,
            Self::Url | Self::Refused(_) | Self::Evicts { .. } => Kind::Bug,
        }
    }
}

/// Tells whether an error means that no event could be applied now.
pub(crate) fn is_away(error: &ProjectionError) -> bool {
    error.causes().any(|cause| {
        let ours = cause.downcast_ref::<RedisError>();
        let by_us = matches!(ours, Some(RedisError::InUse { .. } | RedisError::Evicts { .. }));
        // `Refused` gives its source as a cause.
        by_us || cause.downcast_ref::<redis::RedisError>().is_some_and(stands_still)
    })
}

/// Tells whether another session writes the version.
pub(crate) fn is_in_use(error: &ProjectionError) -> bool {
    error.causes().any(|cause| {
        let lost = cause
            .downcast_ref::<redis::RedisError>()
            .is_some_and(|refused| refused.code() == Some(NOT_OWNER));
        lost || matches!(cause.downcast_ref(), Some(RedisError::InUse { .. }))
    })
}

fn stands_still(error: &redis::RedisError) -> bool {
    let kind =
        matches!(error.kind(), ErrorKind::Io | ErrorKind::Parse | ErrorKind::AuthenticationFailed);
    kind || error.code().is_some_and(|code| STANDS_STILL.contains(&code))
}
