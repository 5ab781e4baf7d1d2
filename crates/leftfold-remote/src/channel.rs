//! One connection as a channel for calls.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response};
use leftfold_protocol::wire::store_client::StoreClient;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::Service;

/// Calls of the store's service over one connection.
pub(crate) type Client = StoreClient<Channel>;

/// One connection. It is not made again: what answers behind an address is to be looked at first.
#[derive(Clone, Debug)]
pub struct Channel {
    pub(crate) requests: SendRequest<Body>,
    pub(crate) ended: ConnectionEnd,
}

/// Tells when a connection takes no more calls. Those that go on may still be answered: a server
/// that stops says so first.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionEnd(watch::Receiver<()>);

impl ConnectionEnd {
    /// The connection has ended when the sender is dropped.
    pub(crate) fn new() -> (watch::Sender<()>, Self) {
        let (ends, ended) = watch::channel(());
        (ends, Self(ended))
    }

    /// Waits until it takes no more.
    pub(crate) async fn come(&mut self) {
        // Nothing is ever sent.
        while self.0.changed().await.is_ok() {}
    }
}

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.requests.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.requests.send_request(request))
    }
}
