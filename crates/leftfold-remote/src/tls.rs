//! Encrypted connections by rustls.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::RemoteError;
use crate::options::{RemoteOptions, RemoteTls};

/// Encrypts a connection, and verifies that the certificate of the server is of the host and of an
/// authority that is trusted. The files are read each time: renewed ones count.
pub(crate) async fn encrypted(
    options: &RemoteOptions,
    tls: &RemoteTls,
    stream: TcpStream,
    protocol: &[u8],
) -> Result<TlsStream<TcpStream>, RemoteError> {
    let away = |detail: String| RemoteError::Unreachable { address: options.address(), detail };
    let mut config = config(tls)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from(options.host.clone())
        .map_err(|_| away("no certificate can be for such a name".to_owned()))?;
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| away(error.to_string()))
}

fn config(tls: &RemoteTls) -> Result<ClientConfig, RemoteError> {
    let roots = match &tls.roots {
        None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(path, &error))?;
            }
            roots
        }
    };
    // One of several providers may be the default of the process; this one is named.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has suites for every version of the protocol")
        .with_root_certificates(roots);
    let config = match &tls.certificate {
        None => builder.with_no_client_auth(),
        Some((path, key)) => {
            let key_der =
                PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
            builder
                .with_client_auth_cert(certificates(path)?, key_der)
                .map_err(|error| unusable(path, &error))?
        }
    };
    Ok(config)
}

fn certificates(path: &PathBuf) -> Result<Vec<CertificateDer<'static>>, RemoteError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| unusable(path, &error))?
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(unusable(path, &"it has no certificate"));
    }
    Ok(found)
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> RemoteError {
    RemoteError::Certificates { path: path.to_owned(), detail: reason.to_string() }
}
