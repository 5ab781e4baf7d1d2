//! Errors of the connection and of the server, and those among them that mean that no event could
//! be applied just now.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use leftfold_core::runtime::projection::{ProjectionError, with_causes};
use leftfold_core::store::Kind;
use tokio_postgres::error::{DbError, Severity, SqlState};

/// Error of using a database.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The URL cannot be parsed. It does not say why: the reason may be a part of the password.
    #[error(
        "the URL of the database cannot be read; write postgres://user:password@host:port/database"
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
    /// No connection can be made.
    #[error("cannot connect to PostgreSQL: {}", with_causes(.0))]
    Unreachable(#[source] tokio_postgres::Error),
    /// The server, or its certificate, does not let this connection in, and will not until somebody
    /// changes the URL or the server.
    #[error(
        "PostgreSQL does not take the connection: {}; correct user, password, database or certificates of the URL, or the rights and the pg_hba.conf of the server",
        with_causes(.0)
    )]
    NotAdmitted(#[source] tokio_postgres::Error),
    /// No connection was made in time: a server takes connections and does not answer.
    #[error("PostgreSQL did not answer within {within:?}; look at the server and at the network")]
    Silent {
        /// Time for making a connection.
        within: Duration,
    },
    /// The session of the server is shared with other connections: a pooler stands in between that
    /// gives it to another one after each transaction, or that does not reset it.
    #[error(
        "the connection shares its session with others, as behind a pooler in transaction mode; connect to the server itself, or to a pooler in session mode that resets its sessions (DISCARD ALL)"
    )]
    SharedSession,
    /// An encrypted connection is demanded, and this build makes none by itself.
    #[error(
        "the database is to be reached by an encrypted connection (sslmode=require), which this build cannot make; build leftfold-postgres with the feature tls (postgres-tls of leftfold), or give it a connector"
    )]
    NoEncryption,
    /// The certificates that are to be trusted cannot be used.
    #[error("the certificates in {} cannot be used: {detail}; name a file of PEM by sslrootcert=", path.display())]
    RootCertificates {
        /// The file.
        path: PathBuf,
        /// Reason, for people.
        detail: String,
    },
    /// Another session has the version.
    #[error(
        "{schema} is in use by {holder}; stop that one, since only one session writes a lane of a version at a time"
    )]
    InUse {
        /// The schema of the version.
        schema: String,
        /// Session that has it.
        holder: String,
    },
    /// The schema of a version is there, but Leftfold did not create it.
    #[error("the schema {schema} was not made by Leftfold; rename it, or the projection")]
    NotOurs {
        /// The schema of the version.
        schema: String,
    },
    /// The rows of the version are written inline, by every append of a store.
    #[error(
        "{schema} is written by the appends of a store; leave the projection out of the runtime, or raise its VERSION"
    )]
    Inline {
        /// The schema of the version.
        schema: String,
    },
    /// The transaction was over before the runtime ended it.
    #[error(
        "the transaction on {schema} was ended by the projection's own code; leave it to the runtime"
    )]
    TransactionEnded {
        /// The schema of the version.
        schema: String,
    },
    /// There is nothing to read yet.
    #[error(
        "no version of {name} serves yet; start a runtime with the projection and wait until it was built"
    )]
    NothingServes {
        /// The projection.
        name: String,
    },
    /// All connections for reading stayed in use.
    #[error(
        "all {at_most} connections for reading were in use for {within:?}; end what is being read, or allow more of them (readers= in the URL)"
    )]
    ReadersBusy {
        /// Number of the connections.
        at_most: usize,
        /// Time that was waited.
        within: Duration,
    },
    /// The number of connections for reading is none.
    #[error("readers cannot be {found:?}; write a number of at least 1")]
    Readers {
        /// Text that was given.
        found: String,
    },
    /// The server refused.
    #[error("cannot use {schema}: {}", with_causes(source))]
    Refused {
        /// Schema, or other name, that was used.
        schema: String,
        /// Error of the server.
        source: tokio_postgres::Error,
    },
}

impl PostgresError {
    /// Returns the kind of the error: rows that cannot be used now, or something that has to be
    /// corrected.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Unreachable(_)
            | Self::Silent { .. }
            | Self::InUse { .. }
            | Self::ReadersBusy { .. }
            | Self::NothingServes { .. } => Kind::Unavailable,
            Self::Refused { source, .. } if stands_still(source) => Kind::Unavailable,
            Self::Url
            | Self::Parameter { .. }
            | Self::NotAdmitted(_)
            | Self::SharedSession
            | Self::Readers { .. }
            | Self::NoEncryption
            | Self::RootCertificates { .. }
            | Self::NotOurs { .. }
            | Self::Inline { .. }
            | Self::TransactionEnded { .. }
            | Self::Refused { .. } => Kind::Bug,
        }
    }
}

impl PostgresError {
    /// Key of the note by which rows are known as written inline.
    pub(crate) const INLINE_NOTE: &str = "inline";

    /// The error of a connection that was not made.
    pub(crate) fn of_connecting(error: tokio_postgres::Error) -> Self {
        match passes_by_itself(&error) {
            true => Self::Unreachable(error),
            false => Self::NotAdmitted(error),
        }
    }

    pub(crate) fn refused(schema: impl Into<String>) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let schema = schema.into();
        |source| Self::Refused { schema, source }
    }
}

/// Tells whether an error means that no event could be applied now.
pub(crate) fn is_away(error: &ProjectionError) -> bool {
    error.causes().any(|cause| {
        let ours = cause.downcast_ref::<PostgresError>();
        let by_us = matches!(
            ours,
            Some(
                PostgresError::Unreachable(_)
                    | PostgresError::NotAdmitted(_)
                    | PostgresError::Silent { .. }
                    | PostgresError::InUse { .. }
                    | PostgresError::NotOurs { .. }
                    | PostgresError::Inline { .. }
            )
        );
        by_us || cause.downcast_ref::<tokio_postgres::Error>().is_some_and(stands_still)
    })
}

/// Tells whether another session has the lane of the version.
pub(crate) fn is_in_use(error: &ProjectionError) -> bool {
    error.causes().any(|cause| matches!(cause.downcast_ref(), Some(PostgresError::InUse { .. })))
}

/// Tells whether an error of connecting, or of opening, may be over later without anybody changing
/// the URL or the rights of the role.
pub(crate) fn passes_by_itself(error: &tokio_postgres::Error) -> bool {
    match error.as_db_error() {
        // Whatever its severity is: while connecting every error ends the connection.
        Some(said) => {
            said.code() != &SqlState::INSUFFICIENT_PRIVILEGE
                && Trouble::of_code(said.code().code()).passes()
        }
        // A certificate that is not trusted is data that cannot be used.
        None => {
            let source =
                std::error::Error::source(error).and_then(<dyn std::error::Error>::downcast_ref);
            let is_data =
                source.is_some_and(|io: &io::Error| io.kind() == io::ErrorKind::InvalidData);
            !is_data && Trouble::of(error).passes()
        }
    }
}

/// Errors of conversion are the event's; those of the connection are not, nor some that the server
/// tells.
fn stands_still(error: &tokio_postgres::Error) -> bool {
    Trouble::of(error) != Trouble::Statement
}

/// Meaning of an error of the server, or of the connection to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The connection has ended: what was under way may have been carried out.
    Broken,
    /// The server has no room on its disk, or no memory.
    Full,
    /// The server only reads, as a standby does.
    OnlyReads,
    /// A table is not there, or is damaged: a person has to look at it.
    Gone,
    /// It concerns everything that is asked now, and may be over later.
    Passes,
    /// It concerns the statement, or its values.
    Statement,
}

impl Trouble {
    pub(crate) fn of(error: &tokio_postgres::Error) -> Self {
        let broken = error.is_closed()
            || std::error::Error::source(error).is_some_and(|source| source.is::<io::Error>());
        match error.as_db_error() {
            _ if broken => Self::Broken,
            None => Self::Statement,
            Some(said) if ended(said) => Self::Broken,
            Some(said) => Self::of_code(said.code().code()),
        }
    }

    fn of_code(code: &str) -> Self {
        match code {
            // Cancelled, which a limit on the time of a statement does: that is the statement's.
            "57014" => Self::Statement,
            "53100" | "53200" => Self::Full,
            "25006" => Self::OnlyReads,
            "XX001" | "XX002" => Self::Gone,
            // Serialization, deadlock; a lock, or a right, that is not to be had.
            "40001" | "40P01" | "42501" | "55006" | "55P03" => Self::Passes,
            // Connection; resources; intervention of operators; the system around.
            _ if ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)) => {
                Self::Passes
            }
            _ => Self::Statement,
        }
    }

    /// Tells whether it may be over later without anybody changing the store or the statement.
    pub(crate) fn passes(self) -> bool {
        matches!(self, Self::Broken | Self::Full | Self::OnlyReads | Self::Passes)
    }
}

/// Tells whether the error ends the connection.
fn ended(said: &DbError) -> bool {
    matches!(said.parsed_severity(), Some(Severity::Fatal | Severity::Panic))
}
