//! Errors of opening a key store in a database, and of a call to one.

use leftfold_core::personal::{KeyStoreError, Randomless};
use leftfold_core::runtime::projection::with_causes;
use leftfold_core::store::Kind;

use crate::PostgresError;
use crate::error::Trouble;

/// Error of opening a key store in a database. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresKeysError {
    /// The URL cannot be parsed. It does not say why: the reason may be a part of the password.
    #[error(
        "the URL of the key store cannot be read; write postgres://user:password@host:port/database?schema=NAME"
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
    #[error("the key store in schema {schema} cannot be opened now, try again: {detail}")]
    Unavailable {
        /// The schema.
        schema: String,
        /// Messages of the server or the connection.
        detail: String,
    },
    /// The server refused.
    #[error("cannot open the key store in schema {schema}: {detail}")]
    Refused {
        /// The schema.
        schema: String,
        /// Messages of the server or the connection.
        detail: String,
    },
    /// The schema is there, with tables of somebody else.
    #[error("the schema {schema} has no keys, but other tables; name another by ?schema=NAME")]
    NotKeys {
        /// The schema.
        schema: String,
    },
    /// There is no key store, and the server only reads, or the role may not create one.
    #[error(
        "there is no key store in schema {schema}, and none can be created: {detail}; open it once on the primary server, by a role that may create a schema"
    )]
    Absent {
        /// The schema.
        schema: String,
        /// Message of the server.
        detail: String,
    },
    /// A newer release created or migrated the key store.
    #[error(
        "the key store in schema {schema} has format {found}, this release knows up to {known}; use the release that migrated it, or a newer one"
    )]
    NewerFormat {
        /// The schema.
        schema: String,
        /// Format of the key store.
        found: i64,
        /// The newest format that this release knows.
        known: i64,
    },
    /// The database does not hold texts as UTF-8.
    #[error(
        "the database has the encoding {encoding}; create one with ENCODING 'UTF8', since names may have any character"
    )]
    Encoding {
        /// Encoding of the database.
        encoding: String,
    },
    /// A row of the key store is not as Leftfold writes it.
    #[error(
        "the key store in schema {schema} is damaged: {detail}; bring back a copy of it, no older than the last key that is used"
    )]
    Damaged {
        /// The schema.
        schema: String,
        /// Kind of the damage.
        detail: String,
    },
    /// The system gives no random bytes for a new key store.
    #[error(transparent)]
    Randomless(#[from] Randomless),
}

impl PostgresKeysError {
    /// Returns the kind of the error, for the caller who opens the key store.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Url | Self::Parameter { .. } | Self::Option { .. } | Self::NotKeys { .. } => {
                Kind::Invalid
            }
            Self::Unavailable { .. } | Self::Randomless(_) => Kind::Unavailable,
            Self::Refused { .. }
            | Self::Absent { .. }
            | Self::NewerFormat { .. }
            | Self::Encoding { .. }
            | Self::Damaged { .. } => Kind::Bug,
        }
    }

    pub(super) fn of(schema: &str) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let schema = schema.to_owned();
        |error| {
            let detail = with_causes(&error).to_string();
            if Trouble::of(&error).passes() {
                Self::Unavailable { schema, detail }
            } else {
                Self::Refused { schema, detail }
            }
        }
    }

    pub(super) fn of_connecting(schema: &str) -> impl FnOnce(PostgresError) -> Self {
        let schema = schema.to_owned();
        |error| {
            let detail = error.to_string();
            if error.kind() == Kind::Unavailable {
                Self::Unavailable { schema, detail }
            } else {
                Self::Refused { schema, detail }
            }
        }
    }
}

/// Error of a call to a key store that is open.
#[derive(Debug)]
pub(super) enum CallFailure {
    /// Nothing of it is there.
    NotDone(String),
    /// It was committed or not.
    Unknown(String),
}

impl CallFailure {
    /// The same failure, of a commit that may have been carried out.
    pub(super) fn in_doubt(self) -> Self {
        match self {
            Self::NotDone(detail) | Self::Unknown(detail) => Self::Unknown(detail),
        }
    }

    pub(super) fn at(self, place: &str) -> KeyStoreError {
        let place = place.to_owned();
        match self {
            Self::NotDone(detail) => KeyStoreError::Failed { place, detail },
            Self::Unknown(detail) => KeyStoreError::Unknown { place, detail },
        }
    }
}

/// A statement that failed ends its transaction; a commit is judged where it is sent.
impl From<tokio_postgres::Error> for CallFailure {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::NotDone(with_causes(&error).to_string())
    }
}

impl From<PostgresError> for CallFailure {
    fn from(error: PostgresError) -> Self {
        Self::NotDone(error.to_string())
    }
}

impl From<Randomless> for CallFailure {
    fn from(error: Randomless) -> Self {
        Self::NotDone(error.to_string())
    }
}
