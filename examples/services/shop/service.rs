//! The running shop: a store, what runs behind it, and a server before it. Anyone who starts it
//! stops it.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leftfold::prelude::*;
use leftfold::runtime::{Clock, RunningRuntime, RuntimeHandle, SystemClock};
use leftfold::sqlite::{Reader, Sqlite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::list::OrderList;
use crate::order::Order;
use crate::payment::Payment;
use crate::product::Product;
use crate::unpaid::Unpaid;
use crate::web;

/// State that requests need.
pub(crate) struct Shop {
    pub(crate) store: Store,
    pub(crate) list: Reader,
    pub(crate) runtime: RuntimeHandle,
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Shop {
    pub(crate) fn products(&self) -> Aggregates<Product> {
        self.store.aggregate()
    }

    pub(crate) fn orders(&self) -> Aggregates<Order> {
        self.store.aggregate()
    }
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    store: Store,
    runtime: RunningRuntime,
    stop: watch::Sender<bool>,
    server: JoinHandle<std::io::Result<()>>,
}

/// Longest time that requests under way may take when the shop stops.
const REQUESTS_WITHIN: Duration = Duration::from_secs(10);

// ANCHOR: start
pub(crate) async fn start(
    store: Store,
    rows: &Path,
    listener: TcpListener,
    payment: Payment,
) -> Result<Running, Box<dyn Error>> {
    start_by(Arc::new(SystemClock::default()), store, rows, listener, payment).await
}

/// The same by another clock: for stories and tests.
pub(crate) async fn start_by(
    clock: Arc<dyn Clock>,
    store: Store,
    rows: &Path,
    listener: TcpListener,
    payment: Payment,
) -> Result<Running, Box<dyn Error>> {
    let rows = Sqlite::at(rows);
    let runtime = Runtime::new(&store)
        .clock(clock)
        .process::<Unpaid>()
        .effect(payment)
        // Version 1 goes on serving while version 2 is built; the next release leaves it away.
        .project(OrderList::<1>, rows.clone())
        .project(OrderList::<2>, rows.clone())
        .start()
        .await?;
    let (stop, stopping) = watch::channel(false);
    let (address, list) = (listener.local_addr()?, rows.reader::<OrderList<2>>());
    let shop =
        Shop { store: store.clone(), list, runtime: runtime.handle(), stopping: stopping.clone() };
    let mut until = stopping;
    let serving = axum::serve(listener, web::router(Arc::new(shop)))
        .with_graceful_shutdown(async move { _ = until.wait_for(|stopping| *stopping).await });
    let server = tokio::spawn(async move { serving.await });
    Ok(Running { address, store, runtime, stop, server })
}
// ANCHOR_END: start

impl Running {
    // ANCHOR: stop
    /// From the outside in: no new requests, the answers that are under way, what runs behind the
    /// log, the log.
    pub(crate) async fn stop(mut self) -> Result<(), Box<dyn Error>> {
        self.stop.send_replace(true);
        let served = tokio::time::timeout(REQUESTS_WITHIN, &mut self.server).await;
        if served.is_err() {
            self.server.abort();
        }
        // Each is ended, whatever became of the one before.
        let stopped = self.runtime.stop().await;
        self.store.close().await?;
        stopped?;
        served.unwrap_or(Ok(Ok(())))??;
        Ok(())
    }
    // ANCHOR_END: stop
}
