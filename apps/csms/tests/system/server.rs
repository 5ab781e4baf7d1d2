//! The real server, on a port and a store of its own, and a client for its API.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A folder that is gone with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("csms-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running server.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) token: Option<&'static str>,
}

/// A response of it.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body as a problem document with this status and code.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) {
        assert_eq!((self.status, self.json()["code"].as_str()), (status, Some(code)), "{self:?}");
        assert!(self.head.to_lowercase().contains("content-type: application/problem+json"), "{self:?}");
        assert_eq!(self.json()["status"], status);
    }
}

impl Server {
    /// Starts a server on a store with further flags. The waits are short, so that the tests are.
    pub(crate) fn start(store: &Path, flags: &[&str]) -> Self {
        let mut command = Self::command(store);
        let mut child = command.args(flags).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut lines = stdout.lines().map_while(Result::ok);
        let address = lines.find_map(|line| Some(line.split_once("http://")?.1.split('/').next()?.parse().ok()));
        let address = address.flatten().expect("the server says where it listens");
        // What it says further is read, lest it waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address, token: None }
    }

    /// The server's command line.
    pub(crate) fn command(store: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_csms"));
        command.arg("--store").arg(store).args(["--listen", "127.0.0.1:0", "--call-timeout", "2s", "--start-within", "2s"]);
        command.stdout(Stdio::piped()).stdin(Stdio::null());
        command
    }

    /// Ends it as a power failure ends a process.
    #[allow(dead_code, reason = "the tests of a durable store are the ones to use it")]
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn url(&self, identity: &str) -> String {
        format!("ws://{}/ocpp/{identity}", self.address)
    }

    #[track_caller]
    pub(crate) fn fetch(&self, path: &str) -> Response {
        self.request("GET", path, &[], "")
    }

    /// The JSON under a path, which must be there.
    #[track_caller]
    pub(crate) fn json(&self, path: &str) -> Value {
        let response = self.fetch(path);
        assert_eq!(response.status, 200, "{path}: {response:?}");
        response.json()
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &str) -> Response {
        self.request("POST", path, &[], body)
    }

    #[track_caller]
    pub(crate) fn put(&self, path: &str, body: &str) -> Response {
        self.request("PUT", path, &[], body)
    }

    /// Sends a request, and reads the whole response.
    #[track_caller]
    pub(crate) fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let mut stream = self.send(method, path, headers, body);
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Response { status: status.unwrap_or_else(|| panic!("{text}")), head: head.to_owned(), body: body.to_owned() }
    }

    /// Sends a request, and leaves the response unread.
    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(token) = self.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        head += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        stream
    }

    /// Asks until the JSON under a path is as wanted.
    #[track_caller]
    pub(crate) fn until(&self, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let response = self.fetch(path);
            let json = serde_json::from_str(&response.body).unwrap_or(Value::Null);
            if response.status == 200 && wanted(&json) {
                return json;
            }
            assert!(Instant::now() < deadline, "{path} never became as wanted: {response:?}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
