//! The port at which the other system records what it sees: the protocol of KurrentDB, for which
//! there are clients in its language.

use std::error::Error;
use std::net::SocketAddr;

use leftfold::store::Store;
use leftfold_server::{ServeError, Server, ServerOptions};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A server over the store of the read model, beside it in one program.
pub(crate) struct SightingsPort {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl SightingsPort {
    /// Listens on an address. Anybody who reaches it may write, so it is one of this machine:
    /// another is refused.
    pub(crate) async fn open(store: &Store, at: SocketAddr) -> Result<Self, Box<dyn Error>> {
        let stores = vec![("default".to_owned(), store.clone())];
        let server = Server::bind(ServerOptions::at(at), stores).await?;
        let address = server.addresses().first().copied().unwrap_or(at);
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(server.run(async { _ = stopped.await }));
        Ok(Self { address, stop, serving })
    }

    /// Answers what was taken, and closes the store.
    pub(crate) async fn close(self) -> Result<(), Box<dyn Error>> {
        drop(self.stop);
        Ok(self.serving.await??)
    }
}
