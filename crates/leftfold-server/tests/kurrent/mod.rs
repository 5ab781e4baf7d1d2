//! The protocol of KurrentDB, called by its unmodified clients: the scripts beside this file make
//! the calls and compare the answers.

pub(crate) mod calls;
mod groups;
mod node;
mod pages;
mod python;
mod rust;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use leftfold::store::Store;
use leftfold_server::{ServerOptions, Users};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::encrypted::Certificates;
use crate::support::{RunningServer, usual_options};
use crate::users;

/// Folder of the scripts.
fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kurrent")
}

/// Runs a script to its end, and expects that it found everything as it should be.
async fn run(mut command: Command) {
    let ran = tokio::task::spawn_blocking(move || {
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8_lossy(&said).into_owned(), format!("{command:?}"))
    });
    let (status, said, command) = ran.await.unwrap();
    println!("{command} ended with {status}:\n{said}");
    assert!(status.success());
}

/// Runs a script that asks once, by a line, that its server is restarted, and goes on when it gets
/// a line.
async fn conversation(script: impl FnOnce(String) -> Command) {
    let store = Store::memory();
    let server = RunningServer::of(store.clone()).await;
    let port = server.port;
    let mut command = script(format!("127.0.0.1:{port}"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let stdout = child.stdout.take().unwrap();
    let asked = tokio::task::spawn_blocking(|| {
        let (mut stdout, mut line) = (BufReader::new(stdout), String::new());
        stdout.read_line(&mut line).unwrap();
        (stdout, line)
    });
    let (mut stdout, line) = asked.await.unwrap();
    drop(server);
    // The port is free again when nobody listens.
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let options = ServerOptions::at(([127, 0, 0, 1], port).into());
    let _again = RunningServer::with(options, store).await;
    let ended = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        let _ = writeln!(child.stdin.take().unwrap(), "it is back");
        let _ = stdout.read_to_string(&mut said);
        let _ = child.stderr.take().unwrap().read_to_string(&mut said);
        (child.wait().unwrap(), said)
    });
    let (status, said) = ended.await.unwrap();
    assert!(status.success() && line == "restart it\n", "{command:?}: {status}\n{line}{said}");
}

/// A server with an encrypted port and users: `ada` appends (`secret`), `rae` reads (`r`), `ann` is
/// an admin (`a`), `wil` appends and reads streams that begin with `public-` (`w`).
struct Certified {
    server: RunningServer,
    /// File with the certificate of its authority.
    authority: PathBuf,
    certificates: Certificates,
    _users: TempDir,
}

/// Sides that show a certificate.
#[derive(Clone, Copy, PartialEq)]
enum CertifiedBy {
    /// The server does.
    Server,
    /// The server does, and it is expired.
    Expired,
    /// The server does, and demands one of clients: `client` is a good one, `stranger` is not.
    Both,
}

impl Certified {
    async fn new() -> Self {
        Self::with(CertifiedBy::Server).await
    }

    async fn with(by: CertifiedBy) -> Self {
        let certificates = Certificates::new();
        let is_expired = by == CertifiedBy::Expired;
        certificates.issue("server", "localhost", &certificates.good, is_expired);
        certificates.issue("client", "client", &certificates.good, false);
        certificates.issue("stranger", "client", &certificates.other, false);
        let entries = [
            ("ada", "append", "secret"),
            ("rae", "read", "r"),
            ("ann", "admin", "a"),
            ("wil", "append", "w"),
        ]
        .map(|(name, role, password)| Users::entry(name, role, password).unwrap());
        let lines = format!("{}\nread.streams = [\"public-\"]\n", entries.join("\n"));
        let (directory, path) = users::file(&lines);
        let users = Some(Users::of_file(&path).unwrap());
        let demanded = (by == CertifiedBy::Both).then_some("good.pem");
        let tls = Some(certificates.tls("server", demanded));
        let options = ServerOptions { tls, users, ..usual_options() };
        let server = RunningServer::with(options, Store::memory()).await;
        let authority = certificates.path("good.pem");
        Self { server, authority, certificates, _users: directory }
    }
}
