//! Encrypted connections to a server with a certificate, trusted and not.

use std::path::PathBuf;

use leftfold_core::runtime::projection::Target;
use leftfold_core::store::{Append, EventType, Kind, NewEvent, Store};
use leftfold_postgres::{
    Postgres, PostgresError, PostgresKeys, PostgresStore, PostgresStoreError, PostgresStoreOptions,
};
use leftfold_proving::PostgresServer;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A server whose certificate for `localhost` is of an authority, and the files with that authority
/// and with another one.
struct Encrypted {
    server: PostgresServer,
    directory: tempfile::TempDir,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Encrypted {
    fn start() -> Self {
        let (server, directory) = (PostgresServer::start(), tempfile::tempdir().unwrap());
        let (trusted, other) = (authority(), authority());
        let key = KeyPair::generate().unwrap();
        let names = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = names.signed_by(&key, &trusted).unwrap();
        server.offer_encryption(&certificate.pem(), &key.serialize_pem());
        std::fs::write(directory.path().join("trusted.pem"), trusted.pem()).unwrap();
        std::fs::write(directory.path().join("other.pem"), other.pem()).unwrap();
        Encrypted { server, directory }
    }

    /// A new database by the name that the certificate is for.
    fn url(&self) -> String {
        self.server.database("encrypted").replace("127.0.0.1", "localhost")
    }

    fn trusting(&self, url: &str, name: &str) -> String {
        format!("{url}?sslrootcert={}", self.directory.path().join(name).display())
    }

    /// Counts the connections to the database, encrypted or not.
    fn count(&self, url: &str, encrypted: bool) -> String {
        let database = url.rsplit('/').next().unwrap();
        let count = format!(
            "SELECT count(*) > 0 FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
            WHERE datname = '{database}' AND ssl = {encrypted}"
        );
        self.server.psql(&self.server.url(), &count)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_its_keys_and_read_models_are_encrypted_if_the_url_demands_it() {
    let encrypted = Encrypted::start();
    let plain = encrypted.url();
    let _store = PostgresStore::open(&plain).await.unwrap();
    let open = (encrypted.count(&plain, true), encrypted.count(&plain, false));
    assert_eq!(open, ("f".to_owned(), "t".to_owned()), "nobody demands it");

    let plain = encrypted.url();
    for demand in ["", "&sslmode=require", "&sslmode=verify-full"] {
        let url = format!("{}{demand}", encrypted.trusting(&plain, "trusted.pem"));
        let store = Store::new(PostgresStore::open(&url).await.unwrap());
        let happened = NewEvent::new(EventType::new("test.Happened").unwrap(), "1".to_owned());
        store.append(Append::of(vec![happened])).await.unwrap();
        let _keys = PostgresKeys::open(&url).await.unwrap();
        assert_eq!(Postgres::at(&url).unwrap().serving("orders").await.unwrap(), None);
        let open = (encrypted.count(&plain, true), encrypted.count(&plain, false));
        assert_eq!(open, ("t".to_owned(), "f".to_owned()), "{demand}");
        store.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_nobody_trusted_vouches_for_or_of_another_name_is_refused() {
    let encrypted = Encrypted::start();
    let url = encrypted.url();
    // The address is not in the certificate; and Mozilla does not know the authority.
    let other_name = url.replace("localhost", "127.0.0.1");
    for (url, told) in [
        (encrypted.trusting(&url, "other.pem"), "invalid peer certificate"),
        (format!("{url}?sslmode=require"), "UnknownIssuer"),
        (encrypted.trusting(&other_name, "trusted.pem"), "not valid for"),
    ] {
        let refused = PostgresStore::open(&url).await.unwrap_err();
        assert!(
            matches!(refused, PostgresStoreError::Connection(PostgresError::NotAdmitted(_))),
            "{refused:?}"
        );
        assert_eq!(refused.kind(), Kind::Bug, "nobody should wait for it");
        assert!(refused.to_string().contains(told), "{url}: {refused}");
        let refused = PostgresKeys::open(&url).await.unwrap_err().to_string();
        assert!(refused.contains(told), "{url}: {refused}");
    }
}

#[tokio::test]
async fn a_file_without_certificates_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("empty.pem"), "no certificate").unwrap();
    for name in ["empty.pem", "missing.pem"] {
        let named = directory.path().join(name);
        let url = format!("postgres://localhost/shop?sslrootcert={}", named.display());
        let refused = PostgresStore::open(&url).await.unwrap_err();
        let is_named = matches!(
            &refused,
            PostgresStoreError::Connection(PostgresError::RootCertificates { path, .. })
                if *path == named
        );
        assert!(is_named && refused.kind() == Kind::Bug, "{refused:?}");
    }
}

#[tokio::test]
async fn a_server_without_encryption_is_refused_if_the_url_demands_it() {
    let url = format!("{}?sslmode=require", PostgresServer::shared().database("plain"));
    let refused = PostgresStore::open(&url).await.unwrap_err().to_string();
    assert!(refused.contains("does not support TLS"), "{refused}");
}

#[test]
fn the_path_of_the_certificates_is_decoded() {
    let options =
        PostgresStoreOptions::at("postgres://h/d?sslrootcert=/etc/my%20ca.pem&schema=s").unwrap();
    assert_eq!(options.root_certificates, Some(PathBuf::from("/etc/my ca.pem")));
    let refused = PostgresStoreOptions::at("postgres://h/d?sslrootcert=%zz");
    let Err(PostgresStoreError::Parameter { name }) = &refused else { panic!("{refused:?}") };
    assert_eq!(name, "sslrootcert");
}
