//! The processor time that a server takes for what its clients ask. It runs in a process of its
//! own, so that neither the clients nor other programs on the machine weigh on the figures.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use futures_util::future::try_join_all;
use leftfold_core::store::Store;
use leftfold_remote::RemoteStore;

use super::{CONNECTIONS, DELIVERY, SUBSCRIBERS, appended, child};
use crate::Outcome;
use crate::machine::processor_seconds;
use crate::rounds::Round;
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};

/// Processor time in microseconds that a server may take to give one event to one subscriber, and
/// the subscriber to take it: two cores carry 10,000 events a second to 100 of them then.
const DELIVERED_MICROS: f64 = 1.0;

/// A server in a process of its own, over a store that began empty.
struct ServingChild {
    child: Child,
    url: String,
    folder: PathBuf,
}

impl ServingChild {
    fn start(run: &mut BenchRun) -> Outcome<Self> {
        let folder = run.fresh_folder();
        let mut command = Command::new(std::env::current_exe()?);
        command.arg(child::FLAG).arg(&folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut address = String::new();
        let from = child.stdout.take().ok_or("the server has no output")?;
        BufReader::new(from).read_line(&mut address)?;
        Ok(Self { child, url: format!("leftfold://{}", address.trim()), folder })
    }

    async fn handles(&self, count: usize) -> Outcome<Vec<Store>> {
        let open = async || Outcome::Ok(Store::new(RemoteStore::open(&self.url).await?));
        try_join_all((0..count).map(|_| open())).await
    }

    /// Returns the processor time that the server and this process, which is its clients, take for
    /// each of so many pieces of work.
    async fn micros_each(&self, work: impl Future<Output = Outcome<u64>>) -> Outcome<MicrosEach> {
        let taken = || {
            let clients = processor_seconds(std::process::id())?;
            Outcome::Ok(MicrosEach { server: processor_seconds(self.child.id())?, clients })
        };
        let before = taken()?;
        let count = work.await?.max(1) as f64;
        let after = taken()?;
        let each = |seconds: f64| seconds * 1e6 / count;
        let server = each(after.server - before.server);
        Ok(MicrosEach { server, clients: each(after.clients - before.clients) })
    }

    fn discard(mut self) -> Outcome {
        drop(self.child.stdin.take());
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("the server ended with {status}").into());
        }
        Ok(std::fs::remove_dir_all(&self.folder)?)
    }
}

/// Processor time of appends and of deliveries.
pub(crate) async fn cost(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let mut rows = appends(run).await?;
    rows.extend(deliveries(run).await?);
    Ok(rows)
}

/// Durable appends of one event, many under way on each connection. The reference is this process
/// with a store in it, and the same callers.
async fn appends(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let embedded = run.fresh_store()?;
    let without: Vec<Store> = vec![embedded.store.clone(); CONNECTIONS];
    let served = ServingChild::start(run)?;
    let handles = served.handles(CONNECTIONS).await?;
    let (mut of_server, mut of_clients) = (Vec::new(), Vec::new());
    for _ in 0..run.settings.rounds {
        let span = run.settings.span;
        let reference = served.micros_each(appended(&without, span)).await?.clients;
        let measured = served.micros_each(appended(&handles, span)).await?;
        of_server.push(Round { measured: measured.server, reference });
        of_clients.push(Round { measured: measured.clients, reference });
    }
    drop(handles);
    served.discard()?;
    embedded.discard().await?;
    let row = |whose, rounds| Row {
        name: format!("{whose}: processor time of an append, connections: {CONNECTIONS}"),
        rounds,
        unit: RowUnit::Microseconds,
        reference: "no server",
        target: RatioTarget::None,
    };
    Ok(vec![row("server", of_server), row("its clients", of_clients)])
}

/// Events that are appended at a steady rate, to each of many subscribers.
async fn deliveries(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let served = ServingChild::start(run)?;
    let writer = served.handles(1).await?.remove(0);
    let readers = served.handles(SUBSCRIBERS).await?;
    let (settings, reference) = (&run.settings, DELIVERED_MICROS);
    let (mut of_server, mut of_clients) = (Vec::new(), Vec::new());
    for _ in 0..settings.rounds {
        let delivered =
            async { Ok(DELIVERY.times_ms(&writer, &readers, settings.span).await?.len() as u64) };
        let measured = served.micros_each(delivered).await?;
        of_server.push(Round { measured: measured.server, reference });
        of_clients.push(Round { measured: measured.clients, reference });
    }
    drop((writer, readers));
    served.discard()?;
    let row = |whose, rounds| Row {
        name: format!("{whose}: processor time of an event to each of {SUBSCRIBERS} subscribers"),
        rounds,
        unit: RowUnit::Microseconds,
        reference: "target",
        target: RatioTarget::RatioAtMost(1.0),
    };
    Ok(vec![row("server", of_server), row("its clients", of_clients)])
}

/// Processor time of each of some pieces of work, in microseconds.
struct MicrosEach {
    server: f64,
    clients: f64,
}
