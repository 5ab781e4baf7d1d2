//! A store behind a server on this machine, used over the native protocol by handles that share its
//! processors.

// `cost` has the processor time that one takes that is a `child` of this process. `umadb` uses it
// by the protocol of UmaDB instead.

pub(crate) mod child;
pub(crate) mod cost;
pub(crate) mod umadb;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use leftfold_core::store::{Append, NewEvent, Outcome as Answer, Store};
use leftfold_remote::RemoteStore;
use leftfold_server::{Server, ServerOptions};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::Outcome;
use crate::delivery::DeliveryLoad;
use crate::rounds::{Round, alternating};
use crate::run::{BenchRun, EmptyStore};
use crate::table::{RatioTarget, Row, RowUnit};
use crate::workload;

const CONNECTIONS: usize = 16;
/// Appends of each connection that wait for their answers.
const UNDER_WAY: usize = 256;
const APPENDS_PER_SECOND: f64 = 150_000.0;

const SUBSCRIBERS: usize = 100;
const DELIVERY: DeliveryLoad = DeliveryLoad { place: "server", events_per_ms: 10, ms_max: 2.0 };

/// Server over a store that began empty.
struct LocalServer {
    fresh: EmptyStore,
    url: String,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Outcome>,
}

impl LocalServer {
    async fn start(run: &mut BenchRun) -> Outcome<Self> {
        let fresh = run.fresh_store()?;
        let options = ServerOptions::at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let stores = vec![("default".to_owned(), fresh.store.clone())];
        let server = Server::bind(options, stores).await?;
        let address = server.addresses().first().ok_or("the server listens nowhere")?;
        let url = format!("leftfold://{address}");
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            Ok(server.run(stopped).await?)
        });
        Ok(Self { fresh, url, stop, running })
    }

    /// Returns handles with a connection each.
    async fn handles(&self, count: usize) -> Outcome<Vec<Store>> {
        let open = async || Outcome::Ok(Store::new(RemoteStore::open(&self.url).await?));
        try_join_all((0..count).map(|_| open())).await
    }

    async fn discard(self) -> Outcome {
        // A server that has ended already says so below.
        let _ = self.stop.send(());
        self.running.await??;
        self.fresh.discard().await
    }
}

/// Durable appends of one event, many under way on each connection, against the same without a
/// server, and against what a server is to reach.
pub(crate) async fn appends(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let embedded = run.fresh_store()?;
    let without: Vec<Store> = vec![embedded.store.clone(); CONNECTIONS];
    let served = LocalServer::start(run).await?;
    let handles = served.handles(CONNECTIONS).await?;
    let reference = async |span| rate(&without, span).await;
    let candidate = async |span| rate(&handles, span).await;
    let rounds = alternating(run.settings.rounds, run.settings.span, reference, candidate).await?;
    served.discard().await?;
    embedded.discard().await?;
    let of_target =
        |round: &Round| Round { measured: round.measured, reference: APPENDS_PER_SECOND };
    let absolute = rounds.iter().map(of_target).collect();
    let row = |rounds, reference, target| {
        let name = format!("server: appends of one event, connections: {CONNECTIONS}");
        Row { name, rounds, unit: RowUnit::PerSecond, reference, target }
    };
    Ok(vec![
        row(absolute, "target", RatioTarget::RatioAtLeast(1.0)),
        row(rounds, "no server", RatioTarget::None),
    ])
}

/// Measures how many appends a second all handles together have answered.
async fn rate(handles: &[Store], span: Duration) -> Outcome<f64> {
    let started = Instant::now();
    let count = appended(handles, span).await?;
    Ok(count as f64 / started.elapsed().as_secs_f64())
}

/// Appends for so long over all handles, and returns how many appends were answered.
async fn appended(handles: &[Store], span: Duration) -> Outcome<u64> {
    let started = Instant::now();
    let tasks: Vec<_> = (0..)
        .zip(handles)
        .map(|(index, handle)| {
            let event = workload::event(index)?;
            Outcome::Ok(tokio::spawn(append_for(handle.clone(), event, started, span)))
        })
        .collect::<Outcome<_>>()?;
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    Ok(count)
}

async fn append_for(store: Store, event: NewEvent, began: Instant, span: Duration) -> Outcome<u64> {
    let append = || store.append(Append::of(vec![event.clone()]));
    let mut under_way: std::collections::VecDeque<_> = (0..UNDER_WAY).map(|_| append()).collect();
    let mut count = 0;
    while let Some(oldest) = under_way.pop_front() {
        match oldest.await? {
            Answer::Appended(_) => count += 1,
            other => return Err(format!("an append was answered with {other:?}").into()),
        }
        if began.elapsed() < span {
            under_way.push_back(append());
        }
    }
    Ok(count)
}

/// Time until subscribers, each with a connection of its own, have an event.
pub(crate) async fn delivery(run: &mut BenchRun) -> Outcome<Vec<Row>> {
    let served = LocalServer::start(run).await?;
    let writer = served.handles(1).await?.remove(0);
    let readers = served.handles(SUBSCRIBERS).await?;
    let mut rows = DELIVERY.rows(&run.settings, &writer, &readers[..1]).await?;
    rows.extend(DELIVERY.rows(&run.settings, &writer, &readers).await?);
    served.discard().await?;
    Ok(rows)
}
