//! Redis.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::directory::{ServerDirectory, free_port, told};
use crate::process::ServerProcess;

/// Numbered databases of one server.
const DATABASES: u32 = 1_000;

/// A Redis server without a password.
pub struct RedisServer {
    directory: ServerDirectory,
    port: u16,
    keeps: RedisPersistence,
    process: Option<ServerProcess>,
    databases: AtomicU32,
}

#[derive(Clone, Copy)]
enum RedisPersistence {
    Nothing,
    Everything,
}

impl RedisServer {
    /// The server that the tests of this process share; it cannot be stopped. Take a
    /// [database](RedisServer::database) of your own.
    pub fn shared() -> &'static RedisServer {
        static SHARED: OnceLock<RedisServer> = OnceLock::new();
        SHARED.get_or_init(RedisServer::start)
    }

    /// A new server, in memory only: it is empty again after it was stopped.
    #[must_use]
    pub fn start() -> RedisServer {
        Self::new(RedisPersistence::Nothing)
    }

    /// A new server that keeps an append-only file: what it acknowledged survives its SIGKILL.
    #[must_use]
    pub fn start_append_only() -> RedisServer {
        Self::new(RedisPersistence::Everything)
    }

    fn new(keeps: RedisPersistence) -> RedisServer {
        let directory = ServerDirectory::new("redis");
        // 0 is for `url`.
        let mut server =
            RedisServer { directory, port: 0, keeps, process: None, databases: AtomicU32::new(1) };
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

    /// The database 0.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(0)
    }

    /// The URL of a database that nobody else uses.
    ///
    /// # Panics
    /// After 999 of them.
    pub fn database(&self) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        assert!(
            number < DATABASES,
            "all {DATABASES} databases of this server are taken; start another"
        );
        self.url_of(number)
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
        self.try_start().unwrap_or_else(|why| panic!("Redis: {why}"));
    }

    fn try_start(&mut self) -> Result<(), String> {
        assert!(self.process.is_none(), "it runs already; stop it first");
        let append_only = match self.keeps {
            RedisPersistence::Nothing => "no",
            RedisPersistence::Everything => "yes",
        };
        let mut server = self.directory.command(&told("LEFTFOLD_REDIS"));
        server.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""]);
        // Synced by the second, what was acknowledged may not even be written: a sync that goes on
        // holds writes up.
        server.args([
            "--appendfsync",
            "no",
            "--appendonly",
            append_only,
            "--databases",
            &DATABASES.to_string(),
            "--dir",
        ]);
        server.arg(self.directory.path());
        let process = ServerProcess::start(server, "Ready to accept connections")?;
        self.directory.doom("KILL", &[process.id()]);
        self.process = Some(process);
        Ok(())
    }

    fn url_of(&self, database: u32) -> String {
        format!("redis://127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.stop_hard();
    }
}
