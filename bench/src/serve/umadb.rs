//! The client of UmaDB, as it is published, against a server of Leftfold and against UmaDB.

use std::path::PathBuf;
use std::time::Duration;

use leftfold_proving::UmaDbServer;
use tokio::process::Command;

use super::LocalServer;
use crate::Outcome;
use crate::machine::processor_seconds;
use crate::rounds::Round;
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};

/// The variable that names the program of the client; `cargo xtask bench` builds it and sets this.
const CLIENT_VARIABLE: &str = "LEFTFOLD_BENCH_UMADB";
const PEER: &str = "umadb";

/// One of the two servers.
#[derive(Clone, Copy, Debug)]
enum Peer {
    Theirs,
    Ours,
}

/// ClientFigures work of a client.
struct ClientFigures {
    per_second: f64,
    /// Processor time of the server for each, in microseconds.
    processor_micros: f64,
}

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

    /// Has the client do a job with one of the servers.
    async fn run(
        &self,
        peer: Peer,
        job: &str,
        number: u64,
        span: Duration,
    ) -> Outcome<ClientFigures> {
        let url = match peer {
            Peer::Theirs => self.their_url(),
            Peer::Ours => self.our_url(),
        };
        let before = self.processor_seconds(peer)?;
        let mut client = Command::new(&self.client);
        client.args([&url, job, &number.to_string(), &span.as_secs_f64().to_string()]);
        let output = client.output().await?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            return Err(format!("the client ended with {}: {complaint}", output.status).into());
        }
        let per_second: f64 = String::from_utf8_lossy(&output.stdout).trim().parse()?;
        let seconds = self.processor_seconds(peer)? - before;
        let count = (per_second * span.as_secs_f64()).max(1.0);
        Ok(ClientFigures { per_second, processor_micros: seconds * 1e6 / count })
    }

    /// Returns the processor time that one of the servers has taken. Ours is in this process, which
    /// does nothing else while a client runs.
    fn processor_seconds(&self, peer: Peer) -> Outcome<f64> {
        processor_seconds(match peer {
            Peer::Theirs => self.theirs.process().ok_or("UmaDB does not run")?,
            Peer::Ours => std::process::id(),
        })
    }

    /// Measures how often a second the client does something, and the processor time that the
    /// server takes for it each time.
    async fn rows(
        &self,
        run: &BenchRun,
        name: String,
        (job, clients): (&str, u64),
        least: f64,
    ) -> Outcome<[Row; 2]> {
        let span = run.settings.span;
        let (mut rates, mut costs) = (Vec::new(), Vec::new());
        for round in 0..=run.settings.rounds {
            // The first is not counted.
            let span = if round == 0 { span / 10 } else { span };
            let theirs = self.run(Peer::Theirs, job, clients, span).await?;
            let ours = self.run(Peer::Ours, job, clients, span).await?;
            if round > 0 {
                rates.push(Round { measured: ours.per_second, reference: theirs.per_second });
                let reference = theirs.processor_micros;
                costs.push(Round { measured: ours.processor_micros, reference });
            }
        }
        let row = |name, rounds, unit, target| Row { name, rounds, unit, reference: PEER, target };
        let cost = format!("{name}, processor time of the server");
        Ok([
            row(name, rates, RowUnit::PerSecond, RatioTarget::RatioAtLeast(least)),
            row(cost, costs, RowUnit::Microseconds, RatioTarget::None),
        ])
    }
}

/// Durable appends of clients with a connection each.
pub(crate) async fn appends(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let both = BothServers::start(run).await?;
    let mut rows = Vec::new();
    for (clients, least) in [(1, 1.5), (16, 1.5), (256, 1.3)] {
        for (job, what) in [("append", "appends"), ("condition", "appends under a condition")] {
            let name = format!("UmaDB's client: {what}, clients: {clients}");
            rows.extend(both.rows(run, name, (job, clients), least).await?);
        }
    }
    let name = "UmaDB's client: events in batches of 100, clients: 16".to_owned();
    rows.extend(both.rows(run, name, ("batch", 16), 2.0).await?);
    both.ours.discard().await?;
    Ok(rows)
}

/// Reads by one client, of a store that was filled by the same client.
pub(crate) async fn reads(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let both = BothServers::start(run).await?;
    let events = run.settings.events;
    for peer in [Peer::Theirs, Peer::Ours] {
        let rate = both.run(peer, "fill", events, Duration::ZERO).await?.per_second;
        eprintln!("  filled the store of {peer:?} with {events} events, {rate:.0} a second");
    }
    let jobs = [
        ("all", format!("events of {events}, read in order"), 2.0),
        ("rare", format!("reads of a tag of 1,000 among {events}"), 8.0),
        ("nothing", format!("reads of a type of none among {events}"), 50.0),
    ];
    let mut rows = Vec::new();
    for (job, what, least) in jobs {
        let name = format!("UmaDB's client: {what}");
        rows.extend(both.rows(run, name, (job, 1), least).await?);
    }
    both.ours.discard().await?;
    Ok(rows)
}
