//! Errors of a file of rows, and those among them that mean that SQLite cannot be used at all just
//! now.

use std::io;
use std::path::PathBuf;

use leftfold_core::runtime::projection::{ProjectionError, with_causes};
use leftfold_core::store::Kind;
use rusqlite::ErrorCode;

/// Error of using a file of rows.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqliteError {
    /// Another session writes the version.
    #[error("{} is written by {holder}; stop that one, since only one session writes a version at a time", path.display())]
    InUse {
        /// The file of the version.
        path: PathBuf,
        /// Process or session that writes it.
        holder: String,
    },
    /// The directory, or a file in it, cannot be made, listed, or removed.
    #[error("cannot use {}: {source}", path.display())]
    Directory {
        /// Path of the directory or file.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
    /// SQLite refused.
    #[error("cannot use {}: {}", path.display(), with_causes(source))]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Error of SQLite.
        source: rusqlite::Error,
    },
    /// The transaction was over before the runtime ended it.
    #[error("the transaction on {} was ended by the projection's own code, or by an error that it passed over; leave it to the runtime", path.display())]
    TransactionEnded {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing to read yet.
    #[error("no version of {name} serves in {} yet; start a runtime with the projection and wait until it was built", directory.display())]
    NothingServes {
        /// The projection.
        name: String,
        /// Directory of the read models.
        directory: PathBuf,
    },
}

impl SqliteError {
    /// Returns the kind of the error: rows that cannot be used now, or a statement that has to be
    /// corrected.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::InUse { .. } | Self::Directory { .. } | Self::NothingServes { .. } => {
                Kind::Unavailable
            }
            Self::Sqlite { source, .. } if source.sqlite_error_code().is_some_and(stands_still) => {
                Kind::Unavailable
            }
            Self::Sqlite { .. } | Self::TransactionEnded { .. } => Kind::Bug,
        }
    }
}

impl SqliteError {
    pub(crate) fn directory(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        |source| Self::Directory { path, source }
    }

    pub(crate) fn sqlite(path: impl Into<PathBuf>) -> impl FnOnce(rusqlite::Error) -> Self {
        let path = path.into();
        |source| Self::Sqlite { path, source }
    }
}

/// Tells whether an error means that no event could be applied now. A damaged file is such a case:
/// each event would fail, and a person has to look at it.
pub(crate) fn is_away(error: &ProjectionError) -> bool {
    error.causes().any(|cause| {
        let ours = cause.downcast_ref::<SqliteError>();
        let refused = cause.downcast_ref::<rusqlite::Error>();
        matches!(ours, Some(SqliteError::InUse { .. } | SqliteError::Directory { .. }))
            || refused.and_then(rusqlite::Error::sqlite_error_code).is_some_and(stands_still)
    })
}

/// Tells whether another session writes the version.
pub(crate) fn is_in_use(error: &ProjectionError) -> bool {
    error.causes().any(|cause| matches!(cause.downcast_ref(), Some(SqliteError::InUse { .. })))
}

fn stands_still(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::CannotOpen
            | ErrorCode::ReadOnly
            | ErrorCode::PermissionDenied
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::DatabaseCorrupt
            | ErrorCode::NotADatabase
            | ErrorCode::NoLargeFileSupport
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_its_cause_and_says_it_once_when_it_is_printed_with_all_causes() {
        let full = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL);
        let source = || rusqlite::Error::SqliteFailure(full, Some("the disk is full".to_owned()));
        let sqlite = || SqliteError::sqlite("rows.sqlite")(source());
        assert_eq!(
            sqlite().to_string(),
            format!("cannot use rows.sqlite: {}", with_causes(&source()))
        );
        assert!(sqlite().to_string().contains("the disk is full"), "{}", sqlite());
        assert_eq!(ProjectionError::from(sqlite()).to_string(), sqlite().to_string());
        let directory = SqliteError::directory("rows")(io::Error::other("it is gone"));
        assert_eq!(directory.to_string(), "cannot use rows: it is gone");
    }
}
