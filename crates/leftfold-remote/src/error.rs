//! The error of opening a store that a server keeps.

use std::path::PathBuf;

use leftfold_core::store::Kind;

/// Error of opening a store that a server keeps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// The URL cannot be read.
    #[error("{url:?} is no place of a store: {detail}; write it as leftfold://host:2113/name")]
    Url {
        /// URL that was given, without a password.
        url: String,
        /// Reason, for people.
        detail: &'static str,
    },
    /// The server cannot be reached.
    #[error("the server {address} cannot be reached: {detail}")]
    Unreachable {
        /// Host and port.
        address: String,
        /// Message of the system.
        detail: String,
    },
    /// A file of certificates, or of a key, cannot be used.
    #[error("{path:?} cannot be used to encrypt the connection: {detail}")]
    Certificates {
        /// File.
        path: PathBuf,
        /// Reason, for people.
        detail: String,
    },
    /// The URL demands an encrypted connection, and this build has none.
    #[error("connections are encrypted only with the feature remote-tls, turn it on")]
    NoEncryption,
    /// The server has no store of that name.
    #[error("the server {address} has no store {store:?}, name one that it has")]
    NoStore {
        /// Host and port.
        address: String,
        /// Name of the store.
        store: String,
    },
    /// The server refused the call.
    #[error("the server {address} refused: {detail}")]
    Refused {
        /// Host and port.
        address: String,
        /// Message of the server.
        detail: String,
    },
}

impl RemoteError {
    /// Returns what the error means to a caller.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Url { .. } | Self::Certificates { .. } | Self::NoEncryption => Kind::Invalid,
            Self::NoStore { .. } => Kind::NotFound,
            Self::Unreachable { .. } => Kind::Unavailable,
            Self::Refused { .. } => Kind::Bug,
        }
    }
}
