//! Encrypted connections by rustls: the certificates that are trusted, and the connector. Without
//! the feature `tls` there is none.

#[cfg(feature = "tls")]
pub(crate) use by_rustls::connector;

/// Refuses to encrypt.
///
/// # Errors
/// Always: [`PostgresError::NoEncryption`](crate::PostgresError::NoEncryption).
#[cfg(not(feature = "tls"))]
pub(crate) fn connector(
    _: Option<&std::path::Path>,
) -> Result<tokio_postgres::NoTls, crate::PostgresError> {
    Err(crate::PostgresError::NoEncryption)
}

#[cfg(feature = "tls")]
mod by_rustls {
    use std::path::Path;
    use std::sync::Arc;

    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    use rustls::{ClientConfig, RootCertStore};
    use tokio_postgres_rustls::MakeRustlsConnect;

    use crate::PostgresError;

    /// Returns a connector that trusts the certificates in a file of PEM, or else those that
    /// Mozilla trusts. It verifies that the server's certificate is of one of these and of the
    /// host's name.
    ///
    /// # Errors
    /// [`PostgresError::RootCertificates`] if the file cannot be read, or has no certificate.
    pub(crate) fn connector(roots: Option<&Path>) -> Result<MakeRustlsConnect, PostgresError> {
        let roots = match roots {
            Some(path) => of_file(path)?,
            None => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
        };
        // One of several providers may be the default of the process; this one is named.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has suites for every version of the protocol");
        Ok(MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth()))
    }

    fn of_file(path: &Path) -> Result<RootCertStore, PostgresError> {
        let failed =
            |detail: String| PostgresError::RootCertificates { path: path.to_owned(), detail };
        let mut roots = RootCertStore::empty();
        let found =
            CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
        for certificate in found {
            let certificate = certificate.map_err(|error| failed(error.to_string()))?;
            roots.add(certificate).map_err(|error| failed(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(failed("it has no certificate".to_owned()));
        }
        Ok(roots)
    }
}
