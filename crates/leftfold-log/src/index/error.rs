//! Errors of the index.

use std::io;

use leftfold_core::store::ReadError;

use crate::disk::{is_full, lacks_room};

/// Error of reading or writing the index. The index is derived: if any part of it is wrong, the log
/// still holds everything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IndexError {
    /// A file is not what was written. The manifest is removed as soon as that is seen, so that
    /// opening rebuilds.
    #[error(
        "index file {file} is damaged at byte {offset}: {detail}; open the store again to rebuild the index"
    )]
    Damaged {
        /// Name of the file.
        file: String,
        /// Byte where the damaged part begins.
        offset: u64,
        /// Description of the damage.
        detail: &'static str,
    },
    /// The system has no room for it now, or no handle: it is tried again.
    #[error("there is no room for the index file {file}, free some and try again: {detail}")]
    Full {
        /// Name of the file.
        file: String,
        /// Message of the system.
        detail: String,
        /// True if it is the disk that has no room.
        is_of_disk: bool,
    },
    /// The system refused.
    #[error("the index file {file} cannot be used, fix the disk and try again: {detail}")]
    Io {
        /// Name of the file.
        file: String,
        /// Message of the system.
        detail: String,
    },
}

impl IndexError {
    pub(super) fn io(file: &str, error: &io::Error) -> Self {
        let (file, detail) = (file.to_owned(), error.to_string());
        if lacks_room(error) {
            Self::Full { file, detail, is_of_disk: is_full(error) }
        } else {
            Self::Io { file, detail }
        }
    }

    pub(super) fn damaged(file: &str, offset: u64, detail: &'static str) -> Self {
        Self::Damaged { file: file.to_owned(), offset, detail }
    }
}

/// Error of listing keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListError {
    /// More keys than the caller accepts begin with the prefix.
    #[error("more than {limit} names begin with {prefix:?}, give a longer prefix")]
    TooMany {
        /// Prefix of the keys.
        prefix: String,
        /// Number of keys that the caller accepts.
        limit: usize,
    },
    /// The index cannot answer.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl ListError {
    /// Makes the error for a raw prefix, kind first.
    pub(super) fn too_many(prefix: &[u8], limit: usize) -> Self {
        Self::TooMany {
            prefix: String::from_utf8_lossy(prefix.get(1..).unwrap_or_default()).into_owned(),
            limit,
        }
    }
}

/// Converts an error of the index to one of a read. The index is derived, so damage of it is
/// reported as an I/O error, not as damage of the log.
pub(crate) fn unreadable(error: IndexError) -> ReadError {
    ReadError::Io { detail: error.to_string() }
}
