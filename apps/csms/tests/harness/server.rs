//! The server: the real binary, on a store of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::api::{Api, encoded};
use super::deadline::{PATIENCE, until};
use super::folder::Folder;
use super::station::Station;

/// How a server is started.
#[derive(Clone)]
pub(crate) struct Options {
    host: &'static str,
    /// None for one that is free.
    port: Option<u16>,
    call_timeout_ms: u32,
    offline_after_ms: u32,
    start_within_ms: u32,
    file_kib_max: Option<u32>,
    /// URL of the store; None for a folder of its own.
    store: Option<String>,
    variables: Vec<(&'static str, String)>,
}

impl Default for Options {
    /// Nothing runs out within a test.
    fn default() -> Self {
        let (call_timeout_ms, offline_after_ms, start_within_ms) = (15_000, 300_000, 60_000);
        let (host, port, file_kib_max) = ("127.0.0.1", None, None);
        Self {
            host,
            port,
            call_timeout_ms,
            offline_after_ms,
            start_within_ms,
            file_kib_max,
            store: None,
            // Tests count what is asked of a station.
            variables: vec![("CSMS_NO_READ_CONFIGURATION", "1".to_owned())],
        }
    }
}

impl Options {
    /// How long a station may take to answer.
    pub(crate) fn call_timeout_ms(self, call_timeout_ms: u32) -> Self {
        Self { call_timeout_ms, ..self }
    }

    /// After how much silence a station is offline.
    pub(crate) fn offline_after_ms(self, offline_after_ms: u32) -> Self {
        Self { offline_after_ms, ..self }
    }

    /// How long a remote start keeps its connector.
    pub(crate) fn start_within_ms(self, start_within_ms: u32) -> Self {
        Self { start_within_ms, ..self }
    }

    /// No file can grow beyond this: what a full disk is to whoever writes.
    pub(crate) fn file_kib_max(self, file_kib_max: u32) -> Self {
        Self { file_kib_max: Some(file_kib_max), ..self }
    }

    /// Keeps its events in the store of this URL.
    pub(crate) fn store(self, url: &str) -> Self {
        Self { store: Some(url.to_owned()), ..self }
    }

    /// Listens on all interfaces.
    pub(crate) fn everywhere(self) -> Self {
        Self { host: "0.0.0.0", ..self }
    }

    /// Where that server listens already.
    pub(crate) fn on_port_of(self, server: &Server) -> Self {
        Self { port: Some(server.port), ..self }
    }

    pub(crate) fn variable(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }
}

/// A server that runs, or can run again.
pub(crate) struct Server {
    store: Arc<Folder>,
    port: u16,
    options: Options,
    running: Option<Running>,
}

struct Running {
    process: Child,
    stderr: Arc<Mutex<String>>,
    reading: Option<JoinHandle<()>>,
}

/// How a server ended that did not want to run.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) stderr: String,
}

impl Server {
    /// A server on a new store.
    #[track_caller]
    pub(crate) fn start() -> Self {
        Self::start_with(Options::default())
    }

    #[track_caller]
    pub(crate) fn start_with(options: Options) -> Self {
        let mut server =
            Self { store: Arc::new(Folder::new()), port: free_port(), options, running: None };
        server.run();
        server
    }

    /// Tries to start on this store, which must fail.
    #[track_caller]
    pub(crate) fn refuses_to_start(options: &Options, store: &Path) -> Ended {
        let port = options.port.unwrap_or_else(free_port);
        let mut running = Running::spawn(options, port, store);
        if running.wait_ready() {
            panic!("it started: {}", running.errors());
        }
        let status = running.process.wait().unwrap();
        // All that it said has been read when its pipe has ended.
        running.reading.take().into_iter().for_each(|reading| reading.join().unwrap());
        Ended { status, stderr: running.errors() }
    }

    /// Starts a server, and does not wait until it serves.
    #[track_caller]
    pub(crate) fn start_unready(options: Options) -> Self {
        let mut server =
            Self { store: Arc::new(Folder::new()), port: free_port(), options, running: None };
        let running = Running::spawn(&server.options, server.port, &server.store_path());
        server.running = Some(running);
        server
    }

    /// Waits until it has said this on standard error.
    #[track_caller]
    pub(crate) fn wait_said(&self, words: &str) {
        let running = self.running.as_ref().expect("it was started");
        until(words, || {
            let said = running.errors();
            if said.contains(words) { Ok(()) } else { Err(said) }
        });
    }

    /// SIGKILL: no destructor runs, nothing is flushed.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.process.kill().unwrap();
            running.process.wait().unwrap();
        }
    }

    /// SIGSTOP: it does nothing until it is thawed, and its sockets stay open.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// SIGCONT: it goes on where it stood.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    /// SIGTERM: it ends in order.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    fn signal(&self, signal: &str) {
        let running = self.running.as_ref().expect("it was started");
        let id = running.process.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success(), "kill {signal} {id}");
    }

    /// Starts again, on the same store and the same port.
    #[track_caller]
    pub(crate) fn run(&mut self) {
        assert!(self.running.is_none(), "it runs; kill it first");
        let mut running = Running::spawn(&self.options, self.port, &self.store_path());
        let ready = running.wait_ready();
        assert!(ready, "csms did not start:\n{}", running.errors());
        self.running = Some(running);
    }

    /// [`kill`](Self::kill) and [`run`](Self::run).
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.run();
    }

    /// Starts again with other options.
    #[track_caller]
    pub(crate) fn restart_with(&mut self, options: Options) {
        self.kill();
        self.options = options;
        self.run();
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn wait_ended(&mut self) -> ExitStatus {
        self.wait_ended_with_words().status
    }

    /// Waits until it has ended by itself; returns also what it said.
    #[track_caller]
    pub(crate) fn wait_ended_with_words(&mut self) -> Ended {
        let mut running = self.running.take().expect("it was started");
        let status = until("the end of csms", || {
            running.process.try_wait().unwrap().ok_or_else(|| "it runs".to_owned())
        });
        running.reading.take().into_iter().for_each(|reading| reading.join().unwrap());
        Ended { status, stderr: running.errors() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub(crate) fn api(&self) -> Api {
        Api::new(self.address())
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address())
    }

    pub(crate) fn websocket_url(&self, identity: &str) -> String {
        format!("ws://{}/ocpp/{}", self.address(), encoded(identity))
    }

    pub(crate) fn store_path(&self) -> PathBuf {
        self.store.path().join("store")
    }

    /// Where the keys of personal data are.
    pub(crate) fn keys_path(&self) -> PathBuf {
        self.store.path().join("store-keys")
    }

    /// A station that has connected, and said nothing.
    #[track_caller]
    pub(crate) fn station(&self, identity: &str) -> Station {
        let station = Station::new(self, identity);
        station.connect();
        station
    }

    /// A station that has booted, and whose connectors are available.
    #[track_caller]
    pub(crate) fn ready_station(&self, identity: &str, connectors: u32) -> Station {
        let station = self.station(identity);
        station.boot();
        for connector_id in 0..=connectors {
            station.status(connector_id, "Available");
        }
        self.api().station_when(identity, "online with its connectors", |view| {
            view.online && (1..=connectors).all(|id| view.status_of(id) == Some("Available"))
        });
        station
    }
}

impl Running {
    fn spawn(options: &Options, port: u16, store: &Path) -> Self {
        let mut command = match options.file_kib_max {
            None => Command::new(env!("CARGO_BIN_EXE_csms")),
            Some(kib_max) => {
                let mut shell = Command::new("sh");
                // In blocks of 512 bytes. Without the trap the signal would end the process; with
                // it the write fails.
                let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", 2 * kib_max);
                shell.args(["-c", &script, env!("CARGO_BIN_EXE_csms")]);
                shell
            }
        };
        command.args(["--listen", &format!("{}:{port}", options.host)]);
        match &options.store {
            // Everybody can see arguments.
            Some(url) => command.env("CSMS_STORE", url),
            None => command.arg("--store").arg(store),
        };
        command.args(["--call-timeout", &format!("{}ms", options.call_timeout_ms)]);
        command.args(["--offline-after", &format!("{}ms", options.offline_after_ms)]);
        command.args(["--start-within", &format!("{}ms", options.start_within_ms)]);
        command
            .env_remove("CSMS_API_TOKEN")
            .envs(options.variables.iter().map(|(name, value)| (name, value)));
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo has built it");
        let stderr = Arc::<Mutex<String>>::default();
        let mut pipe = BufReader::new(process.stderr.take().expect("it is piped"));
        let reading = thread::spawn({
            let stderr = Arc::clone(&stderr);
            move || {
                let mut line = Vec::new();
                while pipe.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                    stderr.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                    line.clear();
                }
            }
        });
        Self { process, stderr, reading: Some(reading) }
    }

    /// Waits until it says where it listens; false if it ends first.
    #[track_caller]
    fn wait_ready(&mut self) -> bool {
        let stdout = self.process.stdout.take().expect("it is taken once");
        let (found, wait) = mpsc::channel();
        thread::spawn(move || {
            let mut stdout = BufReader::new(stdout);
            let mut line = String::new();
            while stdout.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                if line.contains("http://") {
                    let _ = found.send(());
                }
                line.clear();
            }
            // A pipe that nobody reads would stop the server one day.
            let _ = stdout.read_to_end(&mut Vec::new());
        });
        match wait.recv_timeout(PATIENCE) {
            Ok(()) => true,
            Err(RecvTimeoutError::Disconnected) => false,
            Err(RecvTimeoutError::Timeout) => {
                panic!("no line with http:// within {PATIENCE:?}:\n{}", self.errors())
            }
        }
    }

    fn errors(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            eprintln!("--- standard error of csms ---\n{}", self.errors());
        }
    }
}

/// A port that nobody listens on. Below those that the kernel gives to outgoing connections, so
/// that none of these takes it before the server does, or while the server is down.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (process::id() % 100) as u16 * 100;
    let candidates =
        std::iter::repeat_with(|| 12_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 16_000);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    candidates.take(1_000).find(is_free).expect("1000 ports in a row are not all taken")
}
