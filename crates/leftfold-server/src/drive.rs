//! The door of targets that are fed with what strangers send: a server without sockets.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use axum::response::Response;
use leftfold::store::Store;
use leftfold_callers::AddressPrefix;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::codegen::Service;

use crate::options::ServerOptions;
use crate::serve_error::ServeError;
use crate::server::{Connections, close, stores_of};
use crate::stopping::Stopping;
use crate::stores::Stores;

/// A server without sockets: what it answers, and how, is that of one with sockets.
pub struct DrivenServer {
    stores: Arc<Stores>,
    connections: Connections,
    stops: watch::Sender<bool>,
}

impl DrivenServer {
    /// Serves the stores; the addresses of the options are not listened on.
    #[must_use]
    pub fn new(options: ServerOptions, stores: Vec<(String, Store)>) -> Self {
        let (stops, stopping) = Stopping::new();
        let stores = stores_of(&options, stores);
        let connections = Connections::new(options, &stores, stopping);
        Self { stores, connections, stops }
    }

    /// Answers one call.
    pub async fn call(&self, mut request: Request<Body>) -> Response {
        request.extensions_mut().insert(nowhere());
        let answered: Result<_, Infallible> = self.connections.router.clone().call(request).await;
        match answered {
            Ok(answer) => answer,
            Err(never) => match never {},
        }
    }

    /// Serves one connection to its end.
    pub async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        self.connections.clone().serve_calls(stream, nowhere()).await;
    }

    /// Ends what goes on, and closes the stores.
    ///
    /// # Errors
    /// [`ServeError::Close`] if a store did not close cleanly.
    pub async fn close(&self) -> Result<(), ServeError> {
        let _ = self.stops.send(true);
        close(&self.stores).await
    }
}

fn nowhere() -> AddressPrefix {
    AddressPrefix::of(IpAddr::V4(Ipv4Addr::LOCALHOST))
}
