//! Servers inside the test, on ports of their own, and a client of their calls.

use std::error::Error;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use leftfold::store::Store;
use leftfold_protocol::wire::store_client::StoreClient;
use leftfold_remote::{RemoteOptions, RemoteStore};
use leftfold_server::{Reloader, Server, ServerOptions};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::codegen::Service;

/// A server that runs as long as the value is there.
pub(crate) struct RunningServer {
    pub(crate) port: u16,
    /// Lets it look at its files.
    pub(crate) reloader: Reloader,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl RunningServer {
    /// Serves a store under the usual name.
    pub(crate) async fn of(store: Store) -> Self {
        Self::with(usual_options(), store).await
    }

    pub(crate) async fn with(options: ServerOptions, store: Store) -> Self {
        Self::with_stores(options, vec![("default".to_owned(), store)]).await
    }

    pub(crate) async fn with_stores(options: ServerOptions, stores: Vec<(String, Store)>) -> Self {
        let server = Server::bind(options, stores).await.unwrap();
        let reloader = server.reloader();
        let port = server.addresses()[0].port();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            server.run(stopped).await.unwrap();
        });
        Self { port, reloader, stop: Some(stop), running }
    }

    pub(crate) async fn open(&self) -> Store {
        open_at(self.port).await
    }

    /// Tells it to stop, and returns when it has.
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        (&mut self.running).await.unwrap();
    }
}

impl Drop for RunningServer {
    fn drop(&mut self) {
        if self.stop.is_some() {
            self.running.abort();
        }
    }
}

pub(crate) fn usual_options() -> ServerOptions {
    ServerOptions::at("127.0.0.1:0".parse().unwrap())
}

pub(crate) fn options_at(port: u16) -> RemoteOptions {
    RemoteOptions::at(&format!("leftfold://127.0.0.1:{port}")).unwrap()
}

pub(crate) async fn open_at(port: u16) -> Store {
    let options = RemoteOptions { queue_bytes: 32 << 20, ..options_at(port) };
    Store::new(RemoteStore::open_with(options).await.unwrap())
}

/// A connection for calls, as a client in another language makes them.
#[derive(Clone)]
pub(crate) struct RawChannel(SendRequest<Body>);

/// Connects without anything beside.
pub(crate) async fn raw(port: u16) -> RawChannel {
    try_raw(port).await.unwrap()
}

/// The same, if the way there may be cut.
pub(crate) async fn try_raw(port: u16) -> Result<RawChannel, Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    // Some servers put whole events into the text of an error.
    builder.max_header_list_size(4 << 20);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(RawChannel(sender))
}

/// The calls of the store's service, on a connection of their own.
pub(crate) async fn raw_client(port: u16) -> StoreClient<RawChannel> {
    let origin = format!("http://127.0.0.1:{port}").parse().unwrap();
    StoreClient::with_origin(raw(port).await, origin)
        .max_encoding_message_size(usize::MAX)
        .max_decoding_message_size(usize::MAX)
}

impl Service<hyper::Request<Body>> for RawChannel {
    type Response = hyper::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: hyper::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
