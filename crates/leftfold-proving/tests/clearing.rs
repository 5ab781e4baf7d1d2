//! However a test process ends, its servers end with it and leave nothing behind.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use leftfold_proving::{PostgresServer, RedisServer};

/// Set where this binary runs as the process that will be killed.
const DOOMED: &str = "LEFTFOLD_PROVING_DOOMED";
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn servers_of_a_test_process_that_is_killed_die_with_it_and_their_directories_go() {
    let name = "servers_of_a_test_process_that_is_killed_die_with_it_and_their_directories_go";
    if env::var_os(DOOMED).is_some() {
        println!("\n{}\n{}", RedisServer::shared().url(), PostgresServer::shared().url());
        // Until it is killed.
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let mut doomed = Command::new(env::current_exe().unwrap());
    doomed.args(["--exact", name, "--nocapture"]).env(DOOMED, "1").env("TMPDIR", temporary.path());
    open_to_all(temporary.path());
    let mut doomed = Doomed(doomed.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let lines = BufReader::new(doomed.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let urls: Vec<String> = lines.filter(|line| line.contains("://")).take(2).collect();
    let mut connections: Vec<TcpStream> = urls.iter().map(|url| connect(url)).collect();
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 2);

    drop(doomed);

    for connection in &mut connections {
        assert_ends(connection);
    }
    let deadline = Instant::now() + PATIENCE;
    while fs::read_dir(temporary.path()).unwrap().count() > 0 {
        assert!(Instant::now() < deadline, "directories of servers are left");
        thread::yield_now();
    }
}

#[test]
fn a_server_is_gone_when_its_value_is_dropped_by_a_panic() {
    let mut connection = None;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let server = RedisServer::start();
        connection = Some(connect(&server.url()));
        std::panic::resume_unwind(Box::new("the test failed"));
    }));
    assert!(panicked.is_err());
    assert_ends(&mut connection.unwrap());
}

struct Doomed(Child);

impl Drop for Doomed {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// The server's end is the connection's end, and a reset where it had not yet been accepted.
fn assert_ends(connection: &mut TcpStream) {
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let end = connection.read(&mut [0]).map_err(|e| e.kind());
    assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
}

/// Servers run as somebody else where the tests run as root.
fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

fn connect(url: &str) -> TcpStream {
    let (_, rest) = url.split_once("://").unwrap();
    let (authority, _) = rest.split_once('/').unwrap();
    TcpStream::connect(authority.trim_start_matches("postgres@")).unwrap()
}
