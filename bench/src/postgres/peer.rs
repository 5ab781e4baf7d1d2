//! The peer: cqrs-es over postgres-es, by a program of its own.

use std::path::PathBuf;
use std::time::Duration;

use tokio::process::Command;

use crate::Outcome;

/// The variable that names the program; `cargo xtask bench` builds it and sets this.
const PEERS_VARIABLE: &str = "LEFTFOLD_BENCH_PEERS";

/// The program, and the database that it has for itself.
pub(super) struct PeerProgram {
    program: PathBuf,
    database: String,
}

impl PeerProgram {
    pub(super) fn new(database: String) -> Outcome<Self> {
        let program = std::env::var_os(PEERS_VARIABLE)
            .ok_or(format!("{PEERS_VARIABLE} is not set: run this by `cargo xtask bench`"))?;
        Ok(Self { program: program.into(), database })
    }

    /// Measures how many commands a second it carries out.
    pub(super) async fn rate(&self, writers: usize, span: Duration) -> Outcome<f64> {
        let mut peer = Command::new(&self.program);
        peer.args([&self.database, &writers.to_string(), &span.as_secs_f64().to_string()]);
        let output = peer.output().await?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(format!("the peer ended with {}: {complaint}", output.status).into());
        }
        Ok(said.trim().parse()?)
    }
}
