//! The server: the real binary, on a store of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;

use super::api::{Api, encoded};
use super::deadline::{PATIENCE, until};
use super::folder::Folder;
use super::station::Station;

/// How a server is started.
#[derive(Clone)]
pub(crate) struct Options {
    /// Where it listens; the port is chosen for it.
    host: &'static str,
    call_timeout: f64,
    offline_after: f64,
    variables: Vec<(&'static str, String)>,
}

impl Default for Options {
    /// Calls time out quickly, and silence means nothing.
    fn default() -> Self {
        Self { host: "127.0.0.1", call_timeout: 10.0, offline_after: 300.0, variables: Vec::new() }
    }
}

impl Options {
    /// How long a station may take to answer, in seconds.
    pub(crate) fn call_timeout(self, seconds: f64) -> Self {
        Self { call_timeout: seconds, ..self }
    }

    /// After how much silence a station is offline, in seconds.
    pub(crate) fn offline_after(self, seconds: f64) -> Self {
        Self { offline_after: seconds, ..self }
    }

    /// Listens on all interfaces.
    pub(crate) fn everywhere(self) -> Self {
        Self { host: "0.0.0.0", ..self }
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
        let mut server = Self { store: Arc::new(Folder::new()), port: free_port(), options, running: None };
        server.run();
        server
    }

    /// Tries to start on this store, which must fail.
    #[track_caller]
    pub(crate) fn refuses_to_start(options: &Options, store: &Path) -> Ended {
        let mut running = Running::spawn(options, free_port(), store);
        if running.wait_ready() {
            panic!("it started: {}", running.errors());
        }
        let status = running.process.wait().unwrap();
        Ended { status, stderr: running.errors() }
    }

    /// SIGKILL: no destructor runs, nothing is flushed.
    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.process.kill().unwrap();
            running.process.wait().unwrap();
        }
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
        let running = self.running.as_mut().expect("it was started");
        let status = until("the end of csms", || running.process.try_wait().unwrap().ok_or_else(|| "it runs".to_owned()));
        self.running = None;
        status
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
        let mut command = Command::new(env!("CARGO_BIN_EXE_csms"));
        command.args(["--listen", &format!("{}:{port}", options.host)]).arg("--store").arg(store);
        command.args(["--call-timeout", &options.call_timeout.to_string()]);
        command.args(["--offline-after", &options.offline_after.to_string()]);
        command.env_remove("CSMS_API_TOKEN").envs(options.variables.iter().map(|(name, value)| (name, value)));
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("cargo has built it");
        let stderr = Arc::<Mutex<String>>::default();
        let mut pipe = BufReader::new(process.stderr.take().expect("it is piped"));
        thread::spawn({
            let stderr = Arc::clone(&stderr);
            move || {
                let mut line = Vec::new();
                while pipe.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
                    stderr.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                    line.clear();
                }
            }
        });
        Self { process, stderr }
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
            Err(RecvTimeoutError::Timeout) => panic!("no line with http:// within {PATIENCE:?}:\n{}", self.errors()),
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

/// A port that nobody listens on. Below those that the kernel gives to outgoing connections, so that none of these takes
/// it before the server does, or while the server is down.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (process::id() % 100) as u16 * 100;
    let candidates = std::iter::repeat_with(|| 12_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 16_000);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    candidates.take(1_000).find(is_free).expect("1000 ports in a row are not all taken")
}
