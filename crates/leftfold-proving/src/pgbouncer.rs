//! PgBouncer.

use crate::PostgresServer;
use crate::directory::{ServerDirectory, free_port, told};
use crate::process::ServerProcess;

/// Moment at which a pooler gives the session of a server to another connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// When the connection that has it ends; the session is reset then.
    Session,
    /// After each transaction.
    Transaction,
}

/// A pooler before a PostgreSQL server. It is killed when it is dropped.
pub struct PgBouncer {
    process: Option<ServerProcess>,
    directory: ServerDirectory,
    port: u16,
}

impl PgBouncer {
    /// A pooler of all databases of a server.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn before(server: &PostgresServer, mode: PoolMode) -> PgBouncer {
        let mode = match mode {
            PoolMode::Session => "session",
            PoolMode::Transaction => "transaction",
        };
        let mut directory = ServerDirectory::new("pgbouncer");
        let mut why = String::new();
        // Between the choice of a port and its use somebody else may take it.
        for _ in 0..3 {
            let port = free_port();
            let settings = format!(
                "[databases]\n* = host=127.0.0.1 port={} user=postgres\n\
                 [pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={port}\nunix_socket_dir=\n\
                 auth_type=any\npool_mode={mode}\nmax_client_conn=100\ndefault_pool_size=20\n",
                server.port()
            );
            directory.write_private("pgbouncer.ini", &settings);
            let mut pooler = directory.command(&told("LEFTFOLD_PGBOUNCER"));
            pooler.arg("pgbouncer.ini");
            match ServerProcess::start(pooler, "process up") {
                Ok(process) => {
                    directory.doom("KILL", &[process.id()]);
                    return PgBouncer { process: Some(process), directory, port };
                }
                Err(said) => why = said,
            }
        }
        panic!("PgBouncer: {why}");
    }

    /// The database `postgres` through the pooler.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
        self.directory.doom("", &[]);
    }
}
