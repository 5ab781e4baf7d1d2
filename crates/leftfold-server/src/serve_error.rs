//! Errors of a server that cannot begin, or has not ended well.

use std::net::SocketAddr;

/// Error of a server that cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// There is nothing to serve.
    #[error("there is no store to serve, name one")]
    NoStore,
    /// A store has a name that it cannot have, or that another one has.
    #[error(
        "{name:?} cannot name a store here, use letters, digits, '.', '_' and '-', and each name once"
    )]
    StoreName {
        /// Name that was given.
        name: String,
    },
    /// There is nowhere to listen.
    #[error("there is no address to listen on, name one")]
    NoAddress,
    /// Other machines reach the address, and nothing protects the stores.
    #[error(
        "other machines reach {address}, and may write; encrypt (--tls-cert, --tls-key) and know your callers (--tls-clients or --users), listen on 127.0.0.1, or say that this is wanted (--insecure)"
    )]
    Insecure {
        /// Address to listen on.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {detail}")]
    Listen {
        /// Address to listen on.
        address: SocketAddr,
        /// Message of the system.
        detail: String,
    },
    /// A store did not close cleanly.
    #[error("the store {name:?}: {detail}")]
    Close {
        /// Name of the store.
        name: String,
        /// Reason, for people.
        detail: String,
    },
}
