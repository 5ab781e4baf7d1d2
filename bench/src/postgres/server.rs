//! The server, and stores in it.

use std::time::Instant;

use leftfold_core::store::{Append, NewEvent, Outcome as Answer, Position, Store};
use leftfold_postgres::{PostgresStore, PostgresStoreOptions};
use leftfold_proving::PostgresServer;
use tokio::sync::Mutex;

use crate::Outcome;
use crate::large::STREAM_EVENTS;
use crate::workload::{self, BATCH_EVENTS};

/// Tag of every event that a store is filled with.
pub(crate) const COMMON_TAG: &str = "bank:1";
/// Tasks that fill a store.
const FILLERS: u64 = 8;

/// A server that syncs every commit, with the large store.
pub(crate) struct BenchServer {
    server: PostgresServer,
    events: u64,
    large: Mutex<Option<FilledDatabase>>,
}

/// A store with many events, each with the common tag, in streams of a thousand.
#[derive(Clone, Debug)]
pub(crate) struct FilledDatabase {
    pub(crate) url: String,
    pub(crate) events: u64,
    pub(crate) streams: u64,
}

impl BenchServer {
    /// Starts a server whose large store will have this many events.
    pub(crate) fn start(events: u64) -> Outcome<Self> {
        let server = PostgresServer::start_durable();
        let version = server.psql(&server.url(), "SHOW server_version");
        let settings = server.psql(
            &server.url(),
            "SELECT string_agg(name || '=' || current_setting(name), ' ') FROM pg_settings
            WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'shared_buffers')",
        );
        eprintln!("  PostgreSQL {version}, {settings}");
        Ok(Self { server, events, large: Mutex::default() })
    }

    /// An empty database.
    pub(crate) fn database(&self) -> String {
        self.server.database("bench")
    }

    /// An empty store in a database of its own.
    pub(crate) async fn store(&self) -> Outcome<Store> {
        open(&self.database()).await
    }

    /// The large store, filled when it is first asked for.
    pub(crate) async fn large(&self) -> Outcome<FilledDatabase> {
        let mut large = self.large.lock().await;
        if let Some(filled) = &*large {
            return Ok(filled.clone());
        }
        let filled = self.filled(self.events).await?;
        Ok(large.insert(filled).clone())
    }

    /// Adds to the large store until it has this many events.
    pub(crate) async fn grow_large(&self, events: u64) -> Outcome<FilledDatabase> {
        let filled = self.large().await?;
        let store = open(&filled.url).await?;
        fill(&store, events, filled.streams).await?;
        store.close().await?;
        self.server.psql(&filled.url, "CHECKPOINT");
        let filled = FilledDatabase { events, ..filled };
        Ok(self.large.lock().await.insert(filled).clone())
    }

    /// A new store with this many events.
    pub(crate) async fn filled(&self, events: u64) -> Outcome<FilledDatabase> {
        let url = self.database();
        let streams = (events / STREAM_EVENTS).max(1);
        let store = open(&url).await?;
        let began = Instant::now();
        fill(&store, events, streams).await?;
        if events > STREAM_EVENTS * 100 {
            let rate = events as f64 / began.elapsed().as_secs_f64();
            eprintln!("  filled a database with {events} events, {rate:.0} a second");
        }
        store.close().await?;
        self.server.psql(&url, "CHECKPOINT");
        Ok(FilledDatabase { url, events, streams })
    }
}

/// Opens the store of a database.
pub(crate) async fn open(url: &str) -> Outcome<Store> {
    let options = PostgresStoreOptions::at(url)?;
    Ok(Store::new(PostgresStore::open_with(options).await?))
}

/// Appends until the store has this many events: in batches, spread evenly over the streams.
async fn fill(store: &Store, events: u64, streams: u64) -> Outcome {
    let Position(from) = store.head().position;
    let templates: Vec<NewEvent> = (0..streams).map(common).collect::<Outcome<_>>()?;
    let batches: Vec<u64> = (from..events).step_by(BATCH_EVENTS).collect();
    let write = async |filler: u64| {
        for first in batches.iter().skip(filler as usize).step_by(FILLERS as usize) {
            let numbers = *first..(first + BATCH_EVENTS as u64).min(events);
            let batch = numbers.map(|number| templates[(number % streams) as usize].clone());
            match store.append(Append::of(batch.collect())).await? {
                Answer::Appended(_) => {}
                other => return Err(format!("a store is not filled: {other:?}").into()),
            }
        }
        Outcome::Ok(())
    };
    futures_util::future::try_join_all((0..FILLERS).map(write)).await?;
    Ok(())
}

/// An event of an account that also has the common tag.
fn common(index: u64) -> Outcome<NewEvent> {
    let event = workload::event(index)?;
    let tags = event.tags.clone().with(COMMON_TAG);
    Ok(event.tagged(tags))
}
