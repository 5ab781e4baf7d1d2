//! Why the index cannot answer.

use std::io;

use leftfold_core::store::ReadError;

use crate::disk::lacks_room;

/// Why the index cannot answer, or cannot be written. It is derived: whatever is wrong with it, the log still holds all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IndexError {
    /// A file is not what was written. The manifest is removed as soon as that is seen, so that opening rebuilds.
    #[error("index file {file} is damaged at byte {offset}: {detail}; open the store again to rebuild the index")]
    Damaged {
        /// Which file.
        file: String,
        /// Where the part that is wrong begins.
        offset: u64,
        /// What is wrong.
        detail: &'static str,
    },
    /// The system has no room for it now, or no handle: it is tried again.
    #[error("there is no room for the index file {file}, free some and try again: {detail}")]
    Full {
        /// Which file.
        file: String,
        /// What the system said.
        detail: String,
    },
    /// The system refused.
    #[error("the index file {file} cannot be used, mend the disk and try again: {detail}")]
    Io {
        /// Which file.
        file: String,
        /// What the system said.
        detail: String,
    },
}

impl IndexError {
    pub(super) fn io(file: &str, error: &io::Error) -> Self {
        let (file, detail) = (file.to_owned(), error.to_string());
        if lacks_room(error) { Self::Full { file, detail } } else { Self::Io { file, detail } }
    }

    pub(super) fn damaged(file: &str, offset: u64, detail: &'static str) -> Self {
        Self::Damaged { file: file.to_owned(), offset, detail }
    }
}

/// Why keys cannot be listed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ListError {
    /// More keys begin so than the caller would take.
    #[error("more than {limit} names begin with {prefix:?}, give a longer prefix")]
    TooMany {
        /// What they begin with.
        prefix: String,
        /// How many would have been taken.
        limit: usize,
    },
    /// The index cannot answer.
    #[error(transparent)]
    Index(#[from] IndexError),
}

impl ListError {
    /// Of a raw prefix, kind first.
    pub(super) fn too_many(prefix: &[u8], limit: usize) -> Self {
        Self::TooMany { prefix: String::from_utf8_lossy(prefix.get(1..).unwrap_or_default()).into_owned(), limit }
    }
}

/// What the index cannot answer cannot be read. It is derived, so a damaged part of it is no damage of the log.
pub(crate) fn unreadable(error: IndexError) -> ReadError {
    ReadError::Io { detail: error.to_string() }
}
