//! Places for stores, each a schema of its own.

use std::sync::atomic::{AtomicU32, Ordering};

use leftfold_core::store::Label;
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

pub(crate) fn label(text: &str) -> Label {
    Label::try_from(text).unwrap()
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
