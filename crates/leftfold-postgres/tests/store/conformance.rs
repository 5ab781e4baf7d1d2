//! The store in a database keeps every rule of a backend.

use leftfold_core::store::Store;
use leftfold_postgres::{PayloadColumn, PostgresStore, PostgresStoreOptions};
use leftfold_proving::PostgresServer;
use leftfold_testing::conformance::{Factory, Reopens, cases, conformance};

use crate::support::place_on;

struct Databases(PayloadColumn, &'static PostgresServer);

impl Databases {
    async fn store(&self, url: &str) -> Store {
        let options = PostgresStoreOptions::at(url).unwrap();
        let options =
            PostgresStoreOptions { payload: Some(self.0), queue_bytes: 32 << 20, ..options };
        Store::new(PostgresStore::open_with(options).await.unwrap())
    }
}

impl Factory for Databases {
    type Place = String;
    const REOPENS: Reopens = Reopens::Yes;

    async fn place(&self) -> String {
        place_on(self.1, "rules").1
    }

    async fn open(&self, place: &String) -> Store {
        self.store(place).await
    }

    async fn open_beside(&self, place: &String, _: &Store) -> Store {
        self.store(place).await
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
