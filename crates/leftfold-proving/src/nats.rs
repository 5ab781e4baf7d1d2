//! NATS.

use std::sync::OnceLock;

use crate::directory::{ServerDirectory, free_port, told};
use crate::process::ServerProcess;

/// File of the settings, in the server's directory.
const SETTINGS: &str = "nats.conf";

/// A NATS server with JetStream, which keeps streams in files: what it acknowledged survives its
/// SIGKILL.
pub struct NatsServer {
    directory: ServerDirectory,
    /// Settings besides those that every test server has, in the server's own language.
    settings: String,
    port: u16,
    process: Option<ServerProcess>,
}

impl NatsServer {
    /// The server that the tests of this process share; it cannot be stopped. Take names of your
    /// own for subjects and streams.
    pub fn shared() -> &'static NatsServer {
        static SHARED: OnceLock<NatsServer> = OnceLock::new();
        SHARED.get_or_init(NatsServer::start)
    }

    /// A new, empty server that lets everybody in.
    #[must_use]
    pub fn start() -> NatsServer {
        NatsServer::start_with("")
    }

    /// A new, empty server with more settings, as in a file of its own: `max_payload: 10000`.
    #[must_use]
    pub fn start_with(settings: &str) -> NatsServer {
        let directory = ServerDirectory::new("nats");
        let mut server =
            NatsServer { directory, settings: settings.to_owned(), port: 0, process: None };
        // Between the choice of a port and its use somebody else may take it.
        let started = (0..3).any(|_| {
            server.port = free_port();
            server.try_start().is_ok()
        });
        if !started {
            server.start_again();
        }
        server
    }

    /// The URL, without a name and a password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The URL with a name and a password.
    #[must_use]
    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("nats://{user}:{password}@127.0.0.1:{}", self.port)
    }

    /// Kills the server by SIGKILL; returns when it is gone.
    pub fn stop_hard(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.directory.doom("", &[]);
    }

    /// Starts what was stopped, on the same port and with what it kept; returns when it answers.
    pub fn start_again(&mut self) {
        self.try_start().unwrap_or_else(|why| panic!("NATS: {why}"));
    }

    /// Stops the server where it is: connections stay, and nothing is answered.
    pub fn freeze(&self) {
        self.process.as_ref().expect("it runs").freeze();
    }

    /// Lets a server that was frozen go on.
    pub fn thaw(&self) {
        self.process.as_ref().expect("it runs").thaw();
    }

    fn try_start(&mut self) -> Result<(), String> {
        assert!(self.process.is_none(), "it runs already; stop it first");
        let data = self.directory.path().join("data");
        let settings = format!(
            "listen: \"127.0.0.1:{}\"\njetstream {{ store_dir: {data:?}, max_mem: 64MB, max_file: 1GB }}\n{}\n",
            self.port, self.settings
        );
        self.directory.write_private(SETTINGS, &settings);
        let mut server = self.directory.command(&told("LEFTFOLD_NATS"));
        server.args(["--config", SETTINGS]);
        let process = ServerProcess::start(server, "Server is ready")?;
        self.directory.doom("KILL", &[process.id()]);
        self.process = Some(process);
        Ok(())
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.stop_hard();
    }
}
