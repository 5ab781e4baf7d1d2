//! Encrypted connections: the certificate of the server, and those that its clients must have.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// Protocols that a client may speak over the connection.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Files of PEM by which connections are encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate of the server, with those that lead to its authority.
    pub certificates: PathBuf,
    /// Private key of that certificate.
    pub key: PathBuf,
    /// Authorities of which one must have signed the certificate of a client; `None` if clients
    /// need none.
    pub clients: Option<PathBuf>,
}

/// Encryption of the connections of a server.
#[derive(Clone)]
pub struct ServerTls {
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) knows_clients: bool,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").field("knows_clients", &self.knows_clients).finish()
    }
}

/// Error of files by which nothing can be encrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} cannot be used to encrypt connections: {detail}")]
pub struct TlsError {
    /// File.
    pub path: PathBuf,
    /// Reason, for people.
    pub detail: String,
}

impl ServerTls {
    /// Reads the files. Renewed ones are read at the next start.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read, or has not what it must have.
    pub fn of(files: &TlsFiles) -> Result<Self, TlsError> {
        // One of several providers may be the default of the process; this one is named.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for every version of the protocol");
        let builder = match &files.clients {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|error| failed(path, &error))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| failed(path, &error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let key =
            PrivateKeyDer::from_pem_file(&files.key).map_err(|error| failed(&files.key, &error))?;
        let mut config = builder
            .with_single_cert(certificates(&files.certificates)?, key)
            .map_err(|error| failed(&files.certificates, &error))?;
        config.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { acceptor, knows_clients: files.clients.is_some() })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| failed(path, &error))?
        .collect::<Result<_, _>>()
        .map_err(|error| failed(path, &error))?;
    if found.is_empty() {
        return Err(failed(path, &"it has no certificate"));
    }
    Ok(found)
}

fn failed(path: &Path, reason: &dyn fmt::Display) -> TlsError {
    TlsError { path: path.to_owned(), detail: reason.to_string() }
}
