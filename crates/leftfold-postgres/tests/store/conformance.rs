//! The store in a database keeps every rule of a backend.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use leftfold_core::store::Store;
use leftfold_postgres::{PayloadColumn, PostgresStore, PostgresStoreOptions};
use leftfold_proving::PostgresServer;
use leftfold_testing::conformance::{Factory, PassingTime, Reopens, cases, conformance};

use crate::support::{differing_clock, place_on, with_clock_of};

struct Databases(PayloadColumn, &'static PostgresServer);

impl Databases {
    async fn store(&self, url: &str) -> Store {
        let options = PostgresStoreOptions::at(url).unwrap();
        let options =
            PostgresStoreOptions { payload: Some(self.0), queue_bytes: 32 << 20, ..options };
        Store::new(PostgresStore::open_with(options).await.unwrap())
    }
}

/// The URL of a store, and of its schema.
struct Schema {
    url: String,
    name: String,
    server: &'static PostgresServer,
}

struct ClockAhead(String, &'static PostgresServer, AtomicI64);

impl PassingTime for ClockAhead {
    fn pass(&self, during: Duration) {
        let micros = i64::try_from(during.as_micros()).expect("hours are few microseconds");
        let ahead = self.2.fetch_add(micros, Ordering::SeqCst) + micros;
        self.1.psql(&self.1.url(), &differing_clock(&self.0, ahead));
    }
}

impl Factory for Databases {
    type Place = Schema;
    const REOPENS: Reopens = Reopens::Yes;

    async fn place(&self) -> Schema {
        let (name, url) = place_on(self.1, "rules");
        Schema { url: with_clock_of(&name, &url), name, server: self.1 }
    }

    async fn open(&self, place: &Schema) -> Store {
        self.store(&place.url).await
    }

    async fn open_beside(&self, place: &Schema, _: &Store) -> Store {
        self.store(&place.url).await
    }

    fn time(&self, place: &Schema) -> Option<Box<dyn PassingTime>> {
        Some(Box::new(ClockAhead(place.name.clone(), place.server, AtomicI64::new(0))))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_with_json_keeps_every_rule_of_a_backend() {
    conformance(&Databases(PayloadColumn::Json, PostgresServer::shared())).await;
}

/// Those rules that say something of payloads; all the others do not see in which column they are.
/// On the newest server, whose statements are the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_store_with_bytes_keeps_every_rule_about_payloads() {
    let databases = Databases(PayloadColumn::Bytes, PostgresServer::newest());
    let about_payloads = ["append::", "appends::", "envelope::", "hash::", "limits::", "command::"];
    for rule in cases::<Databases>() {
        if about_payloads.iter().any(|module| rule.name.starts_with(module)) {
            assert_eq!(rule.judge(&databases).await, Ok(()), "{}", rule.name);
        }
    }
}
