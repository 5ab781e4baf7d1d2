//! Places for stores, each a schema of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use leftfold_core::store::{
    Append, Checkpoint, CheckpointRecord, Hash, Label, MoveFrom, Partition, Position, Store,
};
use leftfold_proving::PostgresServer;
use tokio_postgres::{Client, NoTls};

/// Names a schema that no store is in yet, and the URL of a store there.
pub(crate) fn place(name: &str) -> (String, String) {
    place_on(PostgresServer::shared(), name)
}

/// The same on a server.
pub(crate) fn place_on(server: &PostgresServer, name: &str) -> (String, String) {
    static PLACES: AtomicU32 = AtomicU32::new(0);
    let schema = format!("{name}_{}", PLACES.fetch_add(1, Ordering::Relaxed));
    let url = format!("{}?schema={schema}", server.url());
    (schema, url)
}

/// Adds to a URL a schema that functions are looked up in first; it need not be there.
pub(crate) fn with_clock_of(schema: &str, url: &str) -> String {
    format!("{url}&options=-c%20search_path%3D{schema}_clock%2Cpg_catalog")
}

/// Statements by which the sessions that [look there first](with_clock_of) have another clock than
/// the machine: one that differs by a number of microseconds.
pub(crate) fn differing_clock(schema: &str, micros: i64) -> String {
    format!(
        "CREATE SCHEMA IF NOT EXISTS {schema}_clock;
         CREATE OR REPLACE FUNCTION {schema}_clock.clock_timestamp() RETURNS timestamptz
         LANGUAGE sql AS
         $$ SELECT pg_catalog.clock_timestamp() + {micros} * interval '1 microsecond' $$"
    )
}

pub(crate) fn label(text: &str) -> Label {
    Label::try_from(text).unwrap()
}

/// Returns an append that moves a consumer, wherever it stands.
pub(crate) fn moved(store: &Store, consumer: &str, position: u64) -> Append {
    let checkpoint = CheckpointRecord {
        consumer: label(consumer),
        checkpoint: Checkpoint {
            store: store.identity().store,
            partition: Partition::default(),
            position: Position(position),
            hash: Hash::EMPTY,
        },
        from: MoveFrom::Anywhere,
    };
    Append { checkpoint: Some(checkpoint), ..Append::default() }
}

/// A connection beside those of the store.
pub(crate) async fn rows(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Port of a server.
pub(crate) fn port(server: &PostgresServer) -> u16 {
    let url = server.url();
    let (_, place) = url.split_once("127.0.0.1:").unwrap();
    place.split('/').next().unwrap().parse().unwrap()
}
