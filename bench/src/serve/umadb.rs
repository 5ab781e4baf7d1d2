//! The client of UmaDB, as it is published, against a server of Leftfold and against UmaDB.

use std::path::PathBuf;
use std::time::Duration;

use leftfold_proving::UmaDbServer;
use tokio::process::Command;

use super::LocalServer;
use crate::Outcome;
use crate::rounds::alternating;
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};

/// The variable that names the program of the client; `cargo xtask bench` builds it and sets this.
const CLIENT_VARIABLE: &str = "LEFTFOLD_BENCH_UMADB";
const PEER: &str = "umadb";

/// Both servers, each with a store that begins empty.
struct BothServers {
    client: PathBuf,
    theirs: UmaDbServer,
    ours: LocalServer,
}

impl BothServers {
    async fn start(run: &mut BenchRun) -> Outcome<Self> {
        let client = std::env::var_os(CLIENT_VARIABLE)
            .ok_or(format!("{CLIENT_VARIABLE} is not set: run this by `cargo xtask bench`"))?;
        let ours = LocalServer::start(run).await?;
        Ok(Self { client: client.into(), theirs: UmaDbServer::start(), ours })
    }

    fn our_url(&self) -> String {
        self.ours.url.replace("leftfold:", "http:")
    }

    fn their_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.theirs.port())
    }

    /// Has the client do a job with one of the servers; returns how often a second.
    async fn run(&self, url: &str, job: &str, number: u64, span: Duration) -> Outcome<f64> {
        let mut client = Command::new(&self.client);
        client.args([url, job, &number.to_string(), &span.as_secs_f64().to_string()]);
        let output = client.output().await?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(format!("the client ended with {}: {complaint}", output.status).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    }

    async fn row(
        &self,
        run: &BenchRun,
        name: String,
        (job, clients): (&str, u64),
        least: f64,
    ) -> Outcome<Row> {
        let (ours, theirs) = (self.our_url(), self.their_url());
        let reference = async |span| self.run(&theirs, job, clients, span).await;
        let candidate = async |span| self.run(&ours, job, clients, span).await;
        let rounds = alternating(run.settings.rounds, run.settings.span, reference, candidate);
        let rounds = rounds.await?;
        let target = RatioTarget::RatioAtLeast(least);
        Ok(Row { name, rounds, unit: RowUnit::PerSecond, reference: PEER, target })
    }
}

/// Durable appends of clients with a connection each.
pub(crate) async fn appends(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let both = BothServers::start(run).await?;
    let mut rows = Vec::new();
    for (clients, least) in [(1, 1.5), (16, 1.5), (256, 1.3)] {
        for (job, what) in [("append", "appends"), ("condition", "appends under a condition")] {
            let name = format!("UmaDB's client: {what}, clients: {clients}");
            rows.push(both.row(run, name, (job, clients), least).await?);
        }
    }
    let name = "UmaDB's client: events in batches of 100, clients: 16".to_owned();
    rows.push(both.row(run, name, ("batch", 16), 2.0).await?);
    both.ours.discard().await?;
    Ok(rows)
}

/// Reads by one client, of a store that was filled by the same client.
pub(crate) async fn reads(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let both = BothServers::start(run).await?;
    let events = run.settings.events;
    for url in [both.their_url(), both.our_url()] {
        let rate = both.run(&url, "fill", events, Duration::ZERO).await?;
        eprintln!("  filled {url} with {events} events, {rate:.0} a second");
    }
    let jobs = [
        ("all", format!("events of {events}, read in order"), 2.0),
        ("rare", format!("reads of a tag of 1,000 among {events}"), 8.0),
        ("nothing", format!("reads of a type of none among {events}"), 50.0),
    ];
    let mut rows = Vec::new();
    for (job, what, least) in jobs {
        rows.push(both.row(run, format!("UmaDB's client: {what}"), (job, 1), least).await?);
    }
    both.ours.discard().await?;
    Ok(rows)
}
