//! Errors of a dump and of an import.

use std::io;

use crate::store::{AppendError, Invalid, Kind, Position, ReadError, StoreId};

/// Error of a dump.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DumpError {
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The lines cannot be written.
    #[error("the dump cannot be written: {detail}")]
    Io {
        /// Message of the system.
        detail: String,
    },
}

impl DumpError {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Read(error) => error.kind(),
            Self::Io { .. } => Kind::Unavailable,
        }
    }
}

impl From<io::Error> for DumpError {
    fn from(error: io::Error) -> Self {
        Self::Io { detail: error.to_string() }
    }
}

/// Error of an import. What was imported stays, and is right; the same import goes on from there
/// once the reason is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A line is not what a dump has there.
    #[error("line {line} of the dump: {detail}; make the dump again")]
    Line {
        /// Number of the line, from 1.
        line: u64,
        /// Fault of the line, for people.
        detail: String,
    },
    /// Another release made the dump.
    #[error(
        "the dump is of format {found}, this release reads {}; import it with a later one",
        super::DUMP_FORMAT
    )]
    OtherRelease {
        /// Format that was found.
        found: u64,
    },
    /// The dump ends without its last line.
    #[error("the dump ends after line {lines} and is not complete, get the rest and import again")]
    Incomplete {
        /// Number of its lines.
        lines: u64,
    },
    /// The dump is that of this store.
    #[error("the dump is of store {store} itself, import it into a new one")]
    SameStore {
        /// Id of that store.
        store: StoreId,
    },
    /// The store holds something that the import did not write.
    #[error(
        "the store holds an event at {found} that the import did not write; import into an empty store, which nobody else writes until the import has ended"
    )]
    Foreign {
        /// The first such event.
        found: Position,
    },
    /// The import was begun with other lines.
    #[error(
        "the first {lines} appends of the dump are others than those that were imported before; go on with that dump, or a later one of the same store"
    )]
    OtherDump {
        /// Number of appends that were imported before.
        lines: u64,
    },
    /// Another process imports into the same store.
    #[error("another process writes the store, let one of them do it: line {line}: {detail}")]
    Overtaken {
        /// Number of the line that was not taken.
        line: u64,
        /// Sign of the other process, for people.
        detail: String,
    },
    /// More consumers recorded checkpoints than are carried over.
    #[error("more than {limit} consumers recorded checkpoints in the dump")]
    TooManyConsumers {
        /// Number of consumers that are carried over at most.
        limit: usize,
    },
    /// The store did not take the append of a line.
    #[error("the store did not take line {line} of the dump: {error}")]
    Append {
        /// Number of the line, from 1.
        line: u64,
        /// Reason.
        error: AppendError,
    },
    /// A name that the import makes is not valid.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The dump cannot be read.
    #[error("the dump cannot be read: {detail}")]
    Io {
        /// Message of the system.
        detail: String,
    },
}

impl ImportError {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Line { .. }
            | Self::OtherRelease { .. }
            | Self::Incomplete { .. }
            | Self::SameStore { .. }
            | Self::TooManyConsumers { .. }
            | Self::Invalid(_) => Kind::Invalid,
            Self::Foreign { .. } | Self::OtherDump { .. } | Self::Overtaken { .. } => {
                Kind::Conflict
            }
            Self::Append { error, .. } => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Io { .. } => Kind::Unavailable,
        }
    }
}

impl From<io::Error> for ImportError {
    fn from(error: io::Error) -> Self {
        Self::Io { detail: error.to_string() }
    }
}
