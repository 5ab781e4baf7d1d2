//! Servers inside the test, on ports of their own.

use leftfold::store::Store;
use leftfold_remote::{RemoteOptions, RemoteStore};
use leftfold_server::{Server, ServerOptions};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server that runs as long as the value is there.
pub(crate) struct RunningServer {
    pub(crate) port: u16,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl RunningServer {
    /// Serves a store under the usual name.
    pub(crate) async fn of(store: Store) -> Self {
        let options = ServerOptions::at("127.0.0.1:0".parse().unwrap());
        let stores = vec![("default".to_owned(), store)];
        let server = Server::bind(options, stores).await.unwrap();
        let port = server.addresses()[0].port();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            server.run(stopped).await.unwrap();
        });
        Self { port, stop: Some(stop), running }
    }

    pub(crate) async fn open(&self) -> Store {
        open_at(self.port).await
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        if self.stop.is_some() {
            self.running.abort();
        }
    }
}

pub(crate) fn options_at(port: u16) -> RemoteOptions {
    RemoteOptions::at(&format!("leftfold://127.0.0.1:{port}")).unwrap()
}

pub(crate) async fn open_at(port: u16) -> Store {
    let options = RemoteOptions { queue_bytes: 32 << 20, ..options_at(port) };
    Store::new(RemoteStore::open_with(options).await.unwrap())
}
