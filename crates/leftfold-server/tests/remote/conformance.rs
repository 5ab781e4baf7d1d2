//! The store that a server keeps has every rule of a backend.

use leftfold::store::Store;
use leftfold::testing::conformance::{Factory, Reopens, conformance};
use tempfile::TempDir;

use crate::support::RunningServer;

/// Embedded logs, each behind a server of its own, to which every handle has its own connection.
struct Served;

impl Factory for Served {
    type Place = (RunningServer, TempDir);
    const REOPENS: Reopens = Reopens::Yes;

    async fn place(&self) -> Self::Place {
        let directory = tempfile::tempdir().unwrap();
        let log = leftfold::open(directory.path().to_str().unwrap()).await.unwrap();
        (RunningServer::of(log).await, directory)
    }

    async fn open(&self, (server, _): &Self::Place) -> Store {
        server.open().await
    }

    async fn open_beside(&self, (server, _): &Self::Place, _: &Store) -> Store {
        server.open().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_a_server_keeps_has_every_rule_of_a_backend() {
    conformance(&Served).await;
}
