//! Reasons why a log is not followed any more.

use leftfold_core::store::{Kind, Position, ReadError};

use crate::open::error::LogOpenError;

/// Reason why a log is not followed any more. Everything that was shown before was right.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FollowEnd {
    /// A person declared that the log was restored from a copy.
    #[error(
        "the log was restored from a copy that ended at position {began_after}; open it again, and compare checkpoints with it"
    )]
    Restored {
        /// End of the log when its new epoch began.
        began_after: Position,
    },
    /// Other files are in the place of those that were followed.
    #[error(
        "{file} is not the file that was followed: another log, or a copy of it, took its place; open it again, and compare checkpoints with it"
    )]
    Replaced {
        /// Name of the file.
        file: String,
    },
    /// The log is damaged at its end.
    #[error("the log is damaged at {place}: {detail}; restore it from a copy")]
    Damaged {
        /// File and byte of the damage.
        place: String,
        /// Description of the damage.
        detail: String,
    },
    /// The directory could not be read for half a minute.
    #[error("the log could not be read for {seconds} seconds, open it again: {detail}")]
    Unreadable {
        /// Seconds since it was read last.
        seconds: u64,
        /// Message of the system.
        detail: String,
    },
}

impl FollowEnd {
    /// Returns the kind of the error.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Restored { .. } | Self::Replaced { .. } | Self::Unreadable { .. } => {
                Kind::Unavailable
            }
            Self::Damaged { .. } => Kind::Bug,
        }
    }
}

impl From<FollowEnd> for ReadError {
    fn from(end: FollowEnd) -> Self {
        match end {
            FollowEnd::Damaged { place, detail } => Self::Damaged { place, detail },
            other => Self::Io { detail: other.to_string() },
        }
    }
}

impl From<LogOpenError> for FollowEnd {
    fn from(error: LogOpenError) -> Self {
        match error {
            LogOpenError::Damaged { place, detail } => Self::Damaged { place, detail },
            other => Self::Damaged { place: "the end".to_owned(), detail: other.to_string() },
        }
    }
}
