//! PostgreSQL.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::directory::{ServerDirectory, free_port, told};
use crate::process::ServerProcess;

/// A PostgreSQL server with trust authentication. It does not sync: what it acknowledged survives
/// its SIGKILL, as the system has it, but not a power failure.
pub struct PostgresServer {
    directory: ServerDirectory,
    programs: PathBuf,
    port: u16,
    process: Option<ServerProcess>,
    databases: AtomicU32,
}

impl PostgresServer {
    /// The server that the tests of this process share; it cannot be stopped. Take a
    /// [database](PostgresServer::database) of your own.
    pub fn shared() -> &'static PostgresServer {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(PostgresServer::start)
    }

    /// A new, empty server.
    #[must_use]
    pub fn start() -> PostgresServer {
        let directory = ServerDirectory::new("postgres");
        let programs = told("LEFTFOLD_POSTGRES");
        let mut init = directory.command(&programs.join("initdb"));
        init.args([
            "--pgdata=data",
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ]);
        directory.run(&mut init);
        let mut server = PostgresServer {
            directory,
            programs,
            port: 0,
            process: None,
            databases: AtomicU32::new(0),
        };
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

    /// The database `postgres`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Makes a database and returns its URL. Its name is made distinct, so that tests may use the
    /// same.
    ///
    /// # Panics
    /// If the name is more than lower case letters and `_`, or has over 40 of them.
    pub fn database(&self, name: &str) -> String {
        let plain = name.len() <= 40 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(plain, "{name:?} is not a name of at most 40 letters a to z and underscores");
        let database = format!("{name}_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut create = self.directory.command(&self.programs.join("createdb"));
        create.args([
            "--host=127.0.0.1",
            "--username=postgres",
            &format!("--port={}", self.port),
            &database,
        ]);
        self.directory.run(&mut create);
        self.url_of(&database)
    }

    /// Runs the statements by `psql` and returns its answer: a line for each row, `|` between
    /// columns.
    pub fn psql(&self, url: &str, statements: &str) -> String {
        let mut psql = self.directory.command(&self.programs.join("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statements, url]);
        self.directory.run(&mut psql).trim_end().to_owned()
    }

    /// Kills the server and all its processes by SIGKILL; returns when they are gone.
    pub fn stop_hard(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.directory.doom("", &[]);
    }

    /// Starts what was stopped, on the same data and port; returns when it answers.
    pub fn start_again(&mut self) {
        self.try_start().unwrap_or_else(|why| panic!("PostgreSQL: {why}"));
    }

    fn try_start(&mut self) -> Result<(), String> {
        assert!(self.process.is_none(), "it runs already; stop it first");
        let mut server = self.directory.command(&self.programs.join("postgres"));
        server.args(["-D", "data", "-p", &self.port.to_string()]);
        for setting in [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "fsync=off",
            "full_page_writes=off",
            "logging_collector=off",
            "max_connections=200",
            "shared_buffers=32MB",
        ] {
            server.args(["-c", setting]);
        }
        let process =
            ServerProcess::start(server, "database system is ready to accept connections")?;
        // On SIGQUIT it takes its processes with it.
        self.directory.doom("QUIT", &[process.id()]);
        self.process = Some(process);
        Ok(())
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop_hard();
    }
}
