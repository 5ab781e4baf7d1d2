//! One connection as a channel for calls.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::{Request, Response};
use leftfold_protocol::wire::store_client::StoreClient;
use tonic::body::Body;
use tonic::codegen::Service;

/// Calls of the store's service over one connection.
pub(crate) type Client = StoreClient<Channel>;

/// One connection. It is not made again: what answers behind an address is to be looked at first.
#[derive(Clone, Debug)]
pub struct Channel(pub(crate) SendRequest<Body>);

impl Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
