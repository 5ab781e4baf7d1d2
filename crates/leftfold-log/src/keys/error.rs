//! Errors of opening a key file.

use std::fmt::Display;
use std::io;

use leftfold_core::store::Kind;

/// Error of opening a key store in a directory. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// Another process has it open, or this one does.
    #[error("the key store in {place} is open already, close it there first")]
    InUse {
        /// The directory.
        place: String,
    },
    /// The directory holds something else.
    #[error(
        "{place} holds {file}, which is not part of a key store; give the keys a directory of their own"
    )]
    Foreign {
        /// The directory.
        place: String,
        /// The file.
        file: String,
    },
    /// Another release wrote it.
    #[error(
        "the key file {place} has format {found}, another release wrote it; open it with that release"
    )]
    OtherRelease {
        /// The file.
        place: String,
        /// Its format.
        found: u32,
    },
    /// The file is damaged before its end. Keys may be lost, so nothing is opened.
    #[error(
        "the key file {place} is damaged at byte {offset}: {detail}; bring back a copy of it, no older than the last key that is used"
    )]
    Damaged {
        /// The file.
        place: String,
        /// The place of the damage.
        offset: u64,
        /// The kind of the damage.
        detail: &'static str,
    },
    /// The disk failed.
    #[error("the key store in {place} cannot be opened: {detail}")]
    Io {
        /// The directory.
        place: String,
        /// The system's message.
        detail: String,
    },
}

impl KeyFileError {
    /// Returns the kind of the error, for the caller who opens the key store.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::InUse { .. } | Self::Io { .. } => Kind::Unavailable,
            Self::Foreign { .. } => Kind::Invalid,
            Self::OtherRelease { .. } | Self::Damaged { .. } => Kind::Bug,
        }
    }
}

impl KeyFileError {
    pub(super) fn io(place: impl Display, error: &io::Error) -> Self {
        Self::Io { place: place.to_string(), detail: error.to_string() }
    }
}
