//! Encrypted connections: certificates that are good, wrong, expired and missing, on both sides.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use leftfold::store::{Append, EventType, NewEvent, Outcome, Store};
use leftfold_remote::{RemoteError, RemoteOptions, RemoteStore};
use leftfold_server::{ServeError, Server, ServerOptions, ServerTls, TlsFiles};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{RunningServer, usual_options};

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

/// Certificates and keys of an authority and of another one, as files.
pub(crate) struct Certificates {
    directory: TempDir,
    pub(crate) good: Authority,
    pub(crate) other: Authority,
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let (good, other) = (authority(), authority());
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("good.pem"), good.pem()).unwrap();
        std::fs::write(directory.path().join("other.pem"), other.pem()).unwrap();
        Self { directory, good, other }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes the certificate of a host by an authority, and its key, as files of that name.
    pub(crate) fn issue(&self, name: &str, host: &str, by: &Authority, expired: bool) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        // By its name a certificate is told from that of its authority.
        params.distinguished_name.push(DnType::CommonName, host);
        if expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let certificate = params.signed_by(&key, by).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    pub(crate) fn tls(&self, name: &str, clients: Option<&str>) -> ServerTls {
        let files = TlsFiles {
            certificates: self.path(&format!("{name}.pem")),
            key: self.path(&format!("{name}.key")),
            clients: clients.map(|name| self.path(name)),
        };
        ServerTls::of(&files).unwrap()
    }

    async fn serve(&self, name: &str, clients: Option<&str>) -> RunningServer {
        let options = ServerOptions { tls: Some(self.tls(name, clients)), ..usual_options() };
        RunningServer::with(options, Store::memory()).await
    }

    fn url(&self, server: &RunningServer, roots: &str) -> String {
        let roots = self.path(roots);
        format!("leftfold://localhost:{}?tls-roots={}", server.port, roots.display())
    }

    fn showing(&self, url: &str, name: &str) -> String {
        let file = |ending: &str| self.path(&format!("{name}.{ending}")).display().to_string();
        format!("{url}&tls-cert={}&tls-key={}", file("pem"), file("key"))
    }
}

async fn opens(url: &str) {
    let store = Store::new(RemoteStore::open(url).await.unwrap());
    let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
    let outcome = store.append(Append::of(vec![event])).await;
    assert!(matches!(outcome, Ok(Outcome::Appended(_))), "{outcome:?}");
}

async fn refused(url: &str) -> String {
    let error = RemoteStore::open(url).await.map(drop).unwrap_err();
    assert!(matches!(error, RemoteError::Unreachable { .. }), "{error:?}");
    error.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_speaks_to_the_server_that_it_trusts_and_to_no_other() {
    let certificates = Certificates::new();
    certificates.issue("server", "localhost", &certificates.good, false);
    let server = certificates.serve("server", None).await;
    opens(&certificates.url(&server, "good.pem")).await;
    refused(&certificates.url(&server, "other.pem")).await;
    refused(&format!("leftfold://localhost:{}?tls=require", server.port)).await;
    refused(&format!("leftfold://localhost:{}", server.port)).await;
    let named_otherwise = certificates.url(&server, "good.pem").replace("localhost", "127.0.0.1");
    refused(&named_otherwise).await;

    certificates.issue("expired", "localhost", &certificates.good, true);
    let expired = certificates.serve("expired", None).await;
    let said = refused(&certificates.url(&expired, "good.pem")).await;
    assert!(said.to_lowercase().contains("expired"), "{said}");

    let plain = RunningServer::of(Store::memory()).await;
    refused(&certificates.url(&plain, "good.pem")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_demands_certificates_of_clients_lets_nobody_in_without_a_good_one() {
    let certificates = Certificates::new();
    certificates.issue("server", "localhost", &certificates.good, false);
    certificates.issue("ada", "ada.internal", &certificates.good, false);
    certificates.issue("late", "late.internal", &certificates.good, true);
    certificates.issue("eve", "eve.internal", &certificates.other, false);
    let server = certificates.serve("server", Some("good.pem")).await;
    let url = certificates.url(&server, "good.pem");
    opens(&certificates.showing(&url, "ada")).await;
    refused(&url).await;
    refused(&certificates.showing(&url, "late")).await;
    refused(&certificates.showing(&url, "eve")).await;
    opens(&certificates.showing(&url, "ada")).await;
}

/// Encryption alone keeps nobody from writing.
#[tokio::test]
async fn other_machines_are_served_if_clients_must_have_certificates() {
    let certificates = Certificates::new();
    certificates.issue("server", "localhost", &certificates.good, false);
    let bind = async |tls| {
        let options = ServerOptions { tls, ..ServerOptions::at("0.0.0.0:0".parse().unwrap()) };
        Server::bind(options, vec![("default".to_owned(), Store::memory())]).await.map(drop)
    };
    for tls in [None, Some(certificates.tls("server", None))] {
        assert!(matches!(bind(tls).await, Err(ServeError::Insecure { .. })));
    }
    assert!(bind(Some(certificates.tls("server", Some("good.pem")))).await.is_ok());
}

#[test]
fn files_that_encrypt_nothing_are_named() {
    let certificates = Certificates::new();
    certificates.issue("server", "localhost", &certificates.good, false);
    certificates.issue("second", "localhost", &certificates.good, false);
    let of = |pem: &Path, key: &Path| {
        let files = TlsFiles { certificates: pem.to_owned(), key: key.to_owned(), clients: None };
        ServerTls::of(&files).map(drop).map_err(|error| error.path)
    };
    let path = |name: &str| certificates.path(name);
    assert_eq!(of(&path("server.pem"), &path("server.key")), Ok(()));
    assert_eq!(of(&path("none.pem"), &path("server.key")), Err(path("none.pem")));
    assert_eq!(of(&path("server.pem"), &path("none.key")), Err(path("none.key")));
    assert_eq!(of(&path("server.key"), &path("server.key")), Err(path("server.key")));
    assert_eq!(of(&path("server.pem"), &path("second.key")), Err(path("server.pem")));
    let options = RemoteOptions::at("leftfold://localhost?tls-roots=/nowhere.pem");
    assert!(options.is_ok());
}

/// Waits until the server has looked at its files and a client opens the store.
async fn opens_soon(url: &str) {
    let within = Instant::now() + Duration::from_secs(60);
    while let Err(error) = RemoteStore::open(url).await {
        assert!(Instant::now() < within, "{error}");
    }
}

/// Files with a fault, as while one of two is written, change nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewed_certificates_count_for_new_connections_and_open_ones_go_on() {
    let certificates = Certificates::new();
    certificates.issue("server", "localhost", &certificates.good, false);
    certificates.issue("ada", "ada.internal", &certificates.good, false);
    certificates.issue("eve", "eve.internal", &certificates.other, false);
    std::fs::copy(certificates.path("good.pem"), certificates.path("clients.pem")).unwrap();
    let server = certificates.serve("server", Some("clients.pem")).await;
    let by_good = certificates.showing(&certificates.url(&server, "good.pem"), "ada");
    let by_other = certificates.showing(&certificates.url(&server, "other.pem"), "eve");
    let open = Store::new(RemoteStore::open(&by_good).await.unwrap());
    refused(&by_other).await;

    let key = certificates.path("server.key");
    std::fs::write(&key, "no key").unwrap();
    server.reloader.look_now();
    opens(&by_good).await;

    certificates.issue("server", "localhost", &certificates.other, false);
    std::fs::copy(certificates.path("other.pem"), certificates.path("clients.pem")).unwrap();
    server.reloader.look_now();
    opens_soon(&by_other).await;
    refused(&by_good).await;
    let event = NewEvent::new(EventType::new("test.Happened").unwrap(), "{}");
    let outcome = open.append(Append::of(vec![event])).await;
    assert!(matches!(outcome, Ok(Outcome::Appended(_))), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_does_not_finish_its_handshake_is_closed() {
    let certificates = Certificates::new();
    certificates.issue("server", "localhost", &certificates.good, false);
    let options = ServerOptions {
        tls: Some(certificates.tls("server", None)),
        first_call_within: Duration::from_millis(200),
        ..usual_options()
    };
    let server = RunningServer::with(options, Store::memory()).await;
    // Nothing, the beginning of a greeting, and no greeting at all.
    for begins in [&b""[..], &[0x16, 3, 1, 2, 0, 1], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let place = (std::net::Ipv4Addr::LOCALHOST, server.port);
        let mut stream = tokio::net::TcpStream::connect(place).await.unwrap();
        stream.write_all(begins).await.unwrap();
        // It ends: without the limit this would wait for ever.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    opens(&certificates.url(&server, "good.pem")).await;
}
