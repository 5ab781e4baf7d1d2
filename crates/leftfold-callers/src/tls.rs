//! Encrypted connections: the certificate of the server, and those that its clients must have.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// Protocols that a client may speak over the connection, unless a server speaks others.
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

/// Encryption of the connections of a server, which follows its files. Cheap to clone.
#[derive(Clone)]
pub struct ServerTls(Arc<TlsParts>);

struct TlsParts {
    files: TlsFiles,
    protocols: &'static [&'static [u8]],
    acceptor: Mutex<TlsAcceptor>,
    /// Digest of the files that were looked at last, or of the reason why one could not be read.
    seen: Mutex<blake3::Hash>,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ServerTls").field(&self.0.files).finish()
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
    /// Reads the files. A server that has them reads them again when they change.
    ///
    /// # Errors
    /// [`TlsError`] if a file cannot be read, or has not what it must have.
    pub fn of(files: &TlsFiles) -> Result<Self, TlsError> {
        Self::speaking(files, &PROTOCOLS)
    }

    /// Reads the files, for a server that speaks these protocols, by their names in ALPN.
    ///
    /// # Errors
    /// [`TlsError`] as [`of`](Self::of).
    pub fn speaking(
        files: &TlsFiles,
        protocols: &'static [&'static [u8]],
    ) -> Result<Self, TlsError> {
        let read = ReadFiles::of(files)?;
        let acceptor = Mutex::new(read.acceptor(files, protocols)?);
        let (files, seen) = (files.clone(), Mutex::new(read.digest()));
        Ok(Self(Arc::new(TlsParts { files, protocols, acceptor, seen })))
    }

    /// Reads the files again. Connections that are made from now on are encrypted by what they have
    /// now; those that are open go on. Files with a fault change nothing.
    ///
    /// # Errors
    /// [`TlsError`] as [`of`](Self::of), once for each version of the files, and once while one of
    /// them cannot be read.
    pub fn reload(&self) -> Result<(), TlsError> {
        let TlsParts { files, protocols, acceptor, seen } = &*self.0;
        let read = ReadFiles::of(files);
        let digest = match &read {
            Ok(read) => read.digest(),
            Err(error) => blake3::hash(error.to_string().as_bytes()),
        };
        let before =
            std::mem::replace(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner), digest);
        if before == digest {
            return Ok(());
        }
        let renewed = read?.acceptor(files, protocols)?;
        *acceptor.lock().unwrap_or_else(PoisonError::into_inner) = renewed;
        tracing::info!(path = %files.certificates.display(), "certificates were read");
        Ok(())
    }

    /// Tells whether clients must show a certificate.
    #[must_use]
    pub fn knows_clients(&self) -> bool {
        self.0.files.clients.is_some()
    }

    /// Returns what encrypts connections from now on.
    #[must_use]
    pub fn acceptor(&self) -> TlsAcceptor {
        self.0.acceptor.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The bytes of the files at one time.
struct ReadFiles {
    certificates: Vec<u8>,
    key: Vec<u8>,
    clients: Option<Vec<u8>>,
}

impl ReadFiles {
    fn of(files: &TlsFiles) -> Result<Self, TlsError> {
        let bytes = |path: &PathBuf| std::fs::read(path).map_err(|error| failed(path, &error));
        Ok(Self {
            certificates: bytes(&files.certificates)?,
            key: bytes(&files.key)?,
            clients: files.clients.as_ref().map(bytes).transpose()?,
        })
    }

    fn digest(&self) -> blake3::Hash {
        let parts = [&self.certificates, &self.key, self.clients.as_ref().unwrap_or(&self.key)];
        let mut hasher = blake3::Hasher::new();
        for part in parts {
            hasher.update(blake3::hash(part).as_bytes());
        }
        hasher.finalize()
    }

    fn acceptor(&self, files: &TlsFiles, protocols: &[&[u8]]) -> Result<TlsAcceptor, TlsError> {
        // One of several providers may be the default of the process; this one is named.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for every version of the protocol");
        let builder = match files.clients.as_ref().zip(self.clients.as_ref()) {
            None => builder.with_no_client_auth(),
            Some((path, bytes)) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(path, bytes)? {
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
            PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| failed(&files.key, &error))?;
        let mut config = builder
            .with_single_cert(certificates(&files.certificates, &self.certificates)?, key)
            .map_err(|error| failed(&files.certificates, &error))?;
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(path: &Path, bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(bytes)
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
