//! Errors of opening a store, and what those of the server mean for a request.

use leftfold_core::runtime::projection::with_causes;
use leftfold_core::store::{AppendError, Kind, LeaseError, ReadError};
use tokio_postgres::error::SqlState;

use crate::PostgresError;
use crate::error::{Trouble, passes_by_itself};

/// Error of opening a store in a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresStoreError {
    /// The URL cannot be parsed. It does not say why: the reason may be a part of the password.
    #[error(
        "the URL of the store cannot be read; write postgres://user:password@host:port/database?schema=NAME"
    )]
    Url,
    /// A parameter of the URL is unknown, or has a value that it cannot have.
    #[error(
        "the parameter {name} of the URL is unknown, or has a value that it cannot have; leave it out, or see PostgresStoreOptions::at"
    )]
    Parameter {
        /// Its name.
        name: String,
    },
    /// An option has a value that it cannot have.
    #[error("{option} cannot be {value:?}: it is {remedy}")]
    Option {
        /// Name of the option.
        option: &'static str,
        /// Value that it was given.
        value: String,
        /// Values that it can have.
        remedy: &'static str,
    },
    /// The server cannot be used now.
    #[error(transparent)]
    Connection(#[from] PostgresError),
    /// The server refused.
    #[error("cannot open the store in schema {schema}: {}", with_causes(source))]
    Refused {
        /// The schema.
        schema: String,
        /// Error of the server.
        source: tokio_postgres::Error,
    },
    /// The schema is there, with tables of somebody else.
    #[error("the schema {schema} has no store, but other tables; name another by ?schema=NAME")]
    NotAStore {
        /// The schema.
        schema: String,
    },
    /// There is no store, and the server only reads, or the role may not create one.
    #[error(
        "there is no store in schema {schema}, and none can be created: {detail}; open it once on the primary server, by a role that may create a schema"
    )]
    Absent {
        /// The schema.
        schema: String,
        /// Reason, for people.
        detail: String,
    },
    /// There is no store, and [none is to be created](super::PostgresStoreOptions::create).
    #[error(
        "there is no store in schema {schema}, and none is to be created; name the schema of one by ?schema=NAME"
    )]
    Missing {
        /// The schema.
        schema: String,
    },
    /// The store has the format of an older release, and
    /// [is not to be migrated](super::PostgresStoreOptions::create).
    #[error(
        "the store in schema {schema} has format {found}, this release needs {known}; use the release that writes it, or open it once with create=yes, which migrates it for all"
    )]
    OlderFormat {
        /// The schema.
        schema: String,
        /// Format of the store.
        found: i64,
        /// Format that this release needs.
        known: i64,
    },
    /// A newer release created or migrated the store.
    #[error(
        "the store in schema {schema} has format {found}, this release knows up to {known}; use the release that migrated it, or a newer one"
    )]
    NewerFormat {
        /// The schema.
        schema: String,
        /// Format of the store.
        found: i64,
        /// The newest format that this release knows.
        known: i64,
    },
    /// The store was created with another column for data than the options ask for.
    #[error(
        "the store in schema {schema} keeps data as {found}, not as {asked}; leave the option out, or copy the store into a new one"
    )]
    OtherPayload {
        /// The schema.
        schema: String,
        /// Column that the store has.
        found: &'static str,
        /// Column that was asked for.
        asked: &'static str,
    },
    /// The database does not hold texts as UTF-8.
    #[error(
        "the database has the encoding {encoding}; create one with ENCODING 'UTF8', since names may have any character"
    )]
    Encoding {
        /// Encoding of the database.
        encoding: String,
    },
    /// The server is older than the oldest that is tested.
    #[error("the server has version {found}, the oldest that is known to work is 15; update it")]
    OldServer {
        /// Version of the server.
        found: String,
    },
    /// An inline projection cannot be built.
    #[error("the inline projection {projection} cannot be built: {detail}")]
    Inline {
        /// Name of the projection.
        projection: &'static str,
        /// Reason, for people.
        detail: String,
    },
    /// A row of the store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl PostgresStoreError {
    /// Returns the kind of the error, for whoever opens the store.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Url | Self::Parameter { .. } | Self::Option { .. } => Kind::Invalid,
            Self::Missing { .. } => Kind::NotFound,
            Self::Connection(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Refused { source, .. } if passes_by_itself(source) => Kind::Unavailable,
            Self::Refused { .. }
            | Self::NotAStore { .. }
            | Self::Absent { .. }
            | Self::OlderFormat { .. }
            | Self::NewerFormat { .. }
            | Self::OtherPayload { .. }
            | Self::Inline { .. }
            | Self::Encoding { .. }
            | Self::OldServer { .. } => Kind::Bug,
        }
    }
}

/// A request that the server did not carry out: nothing of it is there.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum NotDone {
    /// The server has no room.
    #[error("{0}")]
    Full(String),
    /// The server only reads.
    #[error("{0}")]
    OnlyReads(String),
    /// This process writes nothing now, for a reason of its own.
    #[error("{0}")]
    Withheld(String),
    /// A row or a table is not as this release writes it.
    #[error("{0}")]
    Damaged(ReadError),
    /// The server refuses a value.
    #[error("{0}")]
    Value(String),
    /// Anything else: it may work later.
    #[error("{0}")]
    Away(String),
}

impl NotDone {
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        let detail = with_causes(error).to_string();
        match Trouble::of(error) {
            // A right that the role does not have: it may read, as the store was opened.
            _ if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Self::OnlyReads(detail),
            Trouble::Full => Self::Full(detail),
            Trouble::OnlyReads => Self::OnlyReads(detail),
            Trouble::Broken | Trouble::Passes => Self::Away(detail),
            // A limit on time.
            Trouble::Statement if error.code() == Some(&SqlState::QUERY_CANCELED) => {
                Self::Away(detail)
            }
            // Class 22: data exceptions.
            Trouble::Statement
                if error.code().is_some_and(|code| code.code().starts_with("22")) =>
            {
                Self::Value(detail)
            }
            // The statements are ours: so the tables are not.
            Trouble::Gone | Trouble::Statement => Self::Damaged(ReadError::Damaged {
                place: "the tables of the store".to_owned(),
                detail,
            }),
        }
    }

    pub(super) fn for_append(self) -> AppendError {
        match self {
            Self::Full(detail) => AppendError::Full { detail },
            Self::OnlyReads(detail) | Self::Withheld(detail) => AppendError::ReadOnly { detail },
            Self::Damaged(error) => AppendError::Read(error),
            Self::Value(detail) | Self::Away(detail) => AppendError::Unavailable { detail },
        }
    }

    pub(super) fn for_lease(self) -> LeaseError {
        match self {
            Self::Full(detail)
            | Self::OnlyReads(detail)
            | Self::Withheld(detail)
            | Self::Value(detail)
            | Self::Away(detail) => LeaseError::Unavailable { detail },
            Self::Damaged(error) => LeaseError::Unavailable { detail: error.to_string() },
        }
    }

    pub(super) fn for_read(self) -> ReadError {
        match self {
            Self::Damaged(error) => error,
            Self::Full(detail)
            | Self::OnlyReads(detail)
            | Self::Withheld(detail)
            | Self::Value(detail)
            | Self::Away(detail) => ReadError::Io { detail },
        }
    }
}

impl From<tokio_postgres::Error> for NotDone {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::of(&error)
    }
}

impl From<PostgresError> for NotDone {
    fn from(error: PostgresError) -> Self {
        match &error {
            PostgresError::Unreachable(source) | PostgresError::Refused { source, .. } => {
                match Self::of(source) {
                    Self::Away(_) => Self::Away(error.to_string()),
                    other => other,
                }
            }
            _ => Self::Away(error.to_string()),
        }
    }
}

impl From<ReadError> for NotDone {
    fn from(error: ReadError) -> Self {
        Self::Damaged(error)
    }
}
