//! Errors of a backup, and of bringing one back.

use std::io;

use leftfold_core::store::{Kind, ReadError, StoreId};

use crate::open::error::LogOpenError;

/// Error of a backup, or of bringing one back. The backup that was there before is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// Another backup goes into the same directory at this moment.
    #[error("a backup into {place} is under way, wait until it has ended")]
    InUse {
        /// The directory.
        place: String,
    },
    /// There is no backup that was ever completed.
    #[error("there is no backup in {place}, give the directory that one was made in")]
    Missing {
        /// The directory.
        place: String,
    },
    /// The directory holds something else.
    #[error("{place} holds {file}, which is not part of a backup; give a directory of its own")]
    Foreign {
        /// The directory.
        place: String,
        /// Name of the file that was found.
        file: String,
    },
    /// The directory holds the backup of another store.
    #[error(
        "{place} holds a backup of store {found}, this is store {expected}; give a directory of its own"
    )]
    OtherStore {
        /// The directory.
        place: String,
        /// The store that was to be backed up.
        expected: StoreId,
        /// The store whose backup is there.
        found: StoreId,
    },
    /// The log does not go on from what was backed up: it was restored from an earlier copy, and
    /// grew in another way since; or the backup was made, or went on, of the log as a server gives
    /// it, whose segments are others.
    #[error(
        "the log is another from {segment} on than the one that was backed up into {place}: it was restored since, or a backup over an address went on there; keep that backup, and give a new directory"
    )]
    OtherHistory {
        /// The directory.
        place: String,
        /// Name of the first segment that differs.
        segment: String,
    },
    /// Another release made the backup.
    #[error(
        "the backup in {place} is of format {found}, bring it back with the release that made it"
    )]
    OtherRelease {
        /// The directory.
        place: String,
        /// Format that was found.
        found: String,
    },
    /// The backup is not what was written.
    #[error("the backup is damaged at {place}: {detail}; use another one")]
    Damaged {
        /// File of the damage.
        place: String,
        /// Description of the damage.
        detail: String,
    },
    /// The log is damaged: nothing of the damaged segment was backed up.
    #[error("the log is damaged at {place}: {detail}; keep the backup that is there")]
    SourceDamaged {
        /// File and byte of the damage.
        place: String,
        /// Description of the damage.
        detail: String,
    },
    /// The store is kept in something that cannot be copied as a log.
    #[error(
        "the store cannot be backed up as a log: {detail}; back its database up by pg_dump, or \"dump\" it"
    )]
    NoLog {
        /// Reason, for people.
        detail: String,
    },
    /// The caller asked for the end. What is done need not be done again.
    #[error("the caller ended it, call it again to go on")]
    Stopped,
    /// A log cannot be opened.
    #[error(transparent)]
    Open(#[from] LogOpenError),
    /// The system refused.
    #[error("the backup failed, fix the disk and call it again: {detail}")]
    Io {
        /// Message of the system.
        detail: String,
    },
}

impl BackupError {
    /// Returns the kind of the error.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::InUse { .. } | Self::Io { .. } | Self::Stopped => Kind::Unavailable,
            Self::Missing { .. } => Kind::NotFound,
            Self::Foreign { .. } | Self::NoLog { .. } => Kind::Invalid,
            Self::OtherStore { .. } | Self::OtherHistory { .. } => Kind::Conflict,
            Self::OtherRelease { .. } | Self::Damaged { .. } | Self::SourceDamaged { .. } => {
                Kind::Bug
            }
            Self::Open(error) => error.kind(),
        }
    }

    pub(super) fn damaged(place: &str, detail: &impl ToString) -> Self {
        Self::Damaged { place: place.to_owned(), detail: detail.to_string() }
    }
}

impl From<io::Error> for BackupError {
    fn from(error: io::Error) -> Self {
        Self::Io { detail: error.to_string() }
    }
}

impl From<ReadError> for BackupError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Damaged { place, detail } => Self::SourceDamaged { place, detail },
            ReadError::NoHistory => Self::NoLog { detail: "it gives no history".to_owned() },
            other => Self::Io { detail: other.to_string() },
        }
    }
}
