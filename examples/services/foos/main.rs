//! Another system writes what it sees of foos, late, out of order and twice, and clients in any
//! language want to know how each foo stands now. The pattern is a projection that follows the log
//! into a database, rows and checkpoint in one transaction, with an API that only reads rows; the
//! same read model lives in Redis too, where guarded writes take the place of the transaction.
//! Leave it where one aggregate answers the question: load that, and there is no read model to
//! keep.
//!
//! `cargo run --example foos` tells the story;
//! `cargo run --example foos -- DIRECTORY 127.0.0.1:50051 127.0.0.1:2113` serves the read model at
//! the first address until Ctrl-C, and takes what the other system sees at the second, where a
//! client of KurrentDB in any language finds what it knows: `sightings.mjs` is that system.

#![allow(clippy::disallowed_names, reason = "the system is called so")]

mod cache;
mod foo;
mod service;
mod sightings;
mod tables;
#[cfg(test)]
mod tests;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use leftfold::fold::Schema;
use leftfold::prelude::*;
use leftfold::redis::Redis;
use leftfold::sqlite::Sqlite;
use leftfold::store::Append;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use crate::cache::FooCache;
use crate::foo::{FooFact, FooName, Status};
use crate::service::proto::foos_server::FoosServer;
use crate::service::{FoosService, proto};
use crate::sightings::SightingsPort;
use crate::tables::Foos;

/// Records what was seen of a foo, as the other system does.
async fn see(
    store: &Store,
    bar: &str,
    baz: &str,
    facts: &[FooFact],
) -> Result<Position, Box<dyn Error>> {
    let schema = Schema::of::<FooFact>()?;
    let stream = StreamName::new(FooName::new(bar, baz).stream())?;
    let events = facts.iter().map(|fact| Ok(schema.encode(fact)?.in_stream(stream.clone())));
    store.append(Append::of(events.collect::<Result<_, Box<dyn Error>>>()?)).await?;
    Ok(store.head().position)
}

fn status(at: &str, status: Status) -> Result<FooFact, Box<dyn Error>> {
    Ok(FooFact::StatusSeen { at: at.parse()?, status })
}

/// Serves the read model until the future ends.
async fn serve(
    service: FoosService,
    listener: TcpListener,
    until: impl Future<Output = ()>,
) -> Result<(), Box<dyn Error>> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIBED)
    };
    // Many clients still ask in the older way.
    let (reflection, older) = (reflection().build_v1()?, reflection().build_v1alpha()?);
    let server = Server::builder()
        .add_service(FoosServer::new(service))
        .add_service(reflection)
        .add_service(older);
    server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), until).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let sqlite = Sqlite::at(format!("{}-read-models", place.path()));
    let mut runtime = Runtime::new(&store).project(Foos, sqlite.clone());
    if let Ok(url) = std::env::var("FOOS_REDIS") {
        runtime = runtime.project(FooCache, Redis::at(&url)?);
    }
    let running = runtime.start().await?;
    let foos = sqlite.reader::<Foos>();
    if let Some(address) = std::env::args().nth(2) {
        let listener = TcpListener::bind(address.parse::<SocketAddr>()?).await?;
        println!("foos are served at {}", listener.local_addr()?);
        let port = match std::env::args().nth(3) {
            Some(address) => Some(SightingsPort::open(&store, address.parse()?).await?),
            None => None,
        };
        if let Some(port) = &port {
            println!("what is seen of foos is taken at {}", port.address);
        }
        let service = FoosService { foos, projections: running.projections() };
        serve(service, listener, async { _ = tokio::signal::ctrl_c().await }).await?;
        running.stop().await?;
        if let Some(port) = port {
            port.close().await?;
        }
        return Ok(store.close().await?);
    }

    see(&store, "7", "blue", &[status("2026-05-01T10:00:00Z", Status::Active)?]).await?;
    see(&store, "7", "red", &[status("2026-05-01T10:00:00Z", Status::Active)?]).await?;
    println!(
        "foo 7/blue was paused at noon, and that is heard before it was made active again at eleven, twice"
    );
    let paused = status("2026-05-01T12:00:00Z", Status::Paused)?;
    let late = status("2026-05-01T11:00:00Z", Status::Active)?;
    let written = see(&store, "7", "blue", &[paused, late.clone(), late]).await?;
    running.projections().wait_until("foos", written, Duration::from_secs(10)).await?;
    for status in [Status::Active, Status::Paused] {
        for foo in tables::page(&foos, Some(status), "")? {
            println!("    {}: {}/{} is {}", foo.name.id, foo.name.bar, foo.name.baz, status.name());
        }
    }
    println!("its id is the same wherever it is computed: {}", FooName::new("7", "blue").id);
    running.stop().await?;
    Ok(store.close().await?)
}
