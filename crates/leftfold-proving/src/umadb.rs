//! UmaDB.

use crate::directory::{ServerDirectory, free_port, told};
use crate::process::ServerProcess;

/// Program of the server: what its package installs as `umadb`.
const PROGRAM: &str = "from umadb.umadb_server_cli import main; main()";

/// An UmaDB server that lets everybody in.
pub struct UmaDbServer {
    directory: ServerDirectory,
    port: u16,
    process: Option<ServerProcess>,
}

impl UmaDbServer {
    /// A new, empty server.
    #[must_use]
    pub fn start() -> UmaDbServer {
        let mut server =
            UmaDbServer { directory: ServerDirectory::new("umadb"), port: 0, process: None };
        // Between the choice of a port and its use somebody else may take it.
        let started = (0..3).any(|_| {
            server.port = free_port();
            server.try_start().is_ok()
        });
        if !started {
            server.try_start().unwrap_or_else(|why| panic!("UmaDB: {why}"));
        }
        server
    }

    /// Port of the server, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Id of the server's process.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(ServerProcess::id)
    }

    fn try_start(&mut self) -> Result<(), String> {
        let mut server = self.directory.command_of_ours(&told("LEFTFOLD_PYTHON"));
        server.args(["-c", PROGRAM, "--listen", &format!("127.0.0.1:{}", self.port), "--db-path"]);
        server.arg(self.directory.path());
        let process = ServerProcess::start(server, "UmaDB is listening on")?;
        self.directory.doom("KILL", &[process.id()]);
        self.process = Some(process);
        Ok(())
    }
}

impl Drop for UmaDbServer {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.directory.doom("", &[]);
    }
}
