//! The addresses that are listened on: one for people, programs and stations, and further ones for
//! stations alone, by the way in which they prove who they are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use leftfold_callers::{Reloader, ServerTls, TlsError, TlsFiles};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::api;
use crate::app::Csms;
use crate::config::Config;
use crate::gateway;
use crate::http::{Entrance, serve as serve_entrance};

/// Protocol that is spoken over encrypted connections: a WebSocket begins as HTTP/1.1.
const PROTOCOLS: &[&[u8]] = &[b"http/1.1"];

/// Addresses that are listened on.
pub(crate) struct Listeners {
    /// Address for everybody.
    pub(crate) address: SocketAddr,
    everybody: TcpListener,
    /// For stations alone, with the encryption of each.
    stations: Vec<(TcpListener, Option<ServerTls>)>,
}

/// Error of [`Listeners::bind`].
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListenError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {error}; choose another address with --{flag}")]
    Address {
        /// Address to listen on.
        listen: SocketAddr,
        /// Flag that names it.
        flag: &'static str,
        /// Error of listening.
        error: std::io::Error,
    },
    /// Connections cannot be encrypted.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Listeners {
    /// Listens on all addresses of the configuration.
    pub(crate) async fn bind(config: &Config) -> Result<Self, ListenError> {
        let (everybody, address) = bind(config.listen, "listen").await?;
        let way_in = &config.way_in;
        let tls = |clients: Option<PathBuf>| -> Result<Option<ServerTls>, TlsError> {
            let Some((certificates, key)) = way_in.certificate.clone() else { return Ok(None) };
            let files = TlsFiles { certificates, key, clients };
            ServerTls::speaking(&files, PROTOCOLS).map(Some)
        };
        let mut stations = Vec::new();
        if let Some(listen) = way_in.listen {
            stations.push((bind(listen, "stations-listen").await?.0, None));
        }
        if let Some(listen) = way_in.tls_listen {
            stations.push((bind(listen, "tls-listen").await?.0, tls(None)?));
        }
        if let Some(listen) = way_in.mtls_listen {
            let encryption = tls(way_in.authorities.clone())?;
            stations.push((bind(listen, "mtls-listen").await?.0, encryption));
        }
        Ok(Self { address, everybody, stations })
    }
}

async fn bind(
    listen: SocketAddr,
    flag: &'static str,
) -> Result<(TcpListener, SocketAddr), ListenError> {
    let bound =
        TcpListener::bind(listen).await.and_then(|it| it.local_addr().map(|address| (it, address)));
    bound.map_err(|error| ListenError::Address { listen, flag, error })
}

/// Serves all addresses, each by a task, until the system stops; so long certificates are read
/// again when they change.
pub(crate) fn serve(csms: &Arc<Csms>, router: Router, listeners: Listeners) -> Vec<JoinHandle<()>> {
    let Listeners { everybody, stations, .. } = listeners;
    let served = |listener, tls, router| {
        tokio::spawn(serve_entrance(csms.clone(), listener, Entrance { tls, router }))
    };
    let mut tasks = vec![served(everybody, None, router)];
    let mut followed = Vec::new();
    for (listener, tls) in stations {
        followed.extend(tls.clone());
        tasks.push(served(listener, tls, stations_alone(csms)));
    }
    let reload = move || {
        for tls in &followed {
            if let Err(error) = tls.reload() {
                tracing::warn!(%error, "the certificates stay as they were");
            }
        }
    };
    let following = csms.clone();
    tasks.push(tokio::spawn(async move {
        Reloader::default().follow(reload, following.stopping()).await;
    }));
    tasks
}

/// Returns what is served where stations alone connect.
fn stations_alone(csms: &Arc<Csms>) -> Router {
    let csms = csms.clone();
    Router::new().fallback(move |request: Request| station_or_not_found(csms.clone(), request))
}

/// Answers what has no route: stations, whose paths come in more spellings than a route has.
pub(crate) async fn station_or_not_found(csms: Arc<Csms>, request: Request) -> Response {
    if gateway::is_station_path(request.uri().path()) {
        return gateway::connect(csms, request).await;
    }
    api::not_found(request.uri().clone()).await.into_response()
}
