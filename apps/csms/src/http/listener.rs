//! Sockets: connections are taken, bounded, encrypted, and their requests answered.
//!
//! A connection counts until it ends, also when it has become a WebSocket: its place is part of its
//! stream.

use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use leftfold_callers::{AddressPrefix, CrowdPlace, ServerTls};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::peer::{ConnectionPeer, ConnectionProof, common_name};
use super::timed_body::timed;
use crate::app::Csms;

/// Wait after a connection could not be taken, as when no file handle is left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Address that is listened on, with what is served there. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Entrance {
    /// Encryption of the connections; `None` if they are not encrypted.
    pub(crate) tls: Option<ServerTls>,
    /// Answers to requests.
    pub(crate) router: Router,
}

/// Place of a connection among all of them, and among those of its prefix.
struct ConnectionPlace {
    _crowd: CrowdPlace,
    _room: OwnedSemaphorePermit,
}

/// Serves an address until the system stops; returns when all requests are answered.
pub(crate) async fn serve(csms: Arc<Csms>, listener: TcpListener, entrance: Entrance) {
    let mut open = JoinSet::new();
    let mut stopping = pin!(csms.stopping());
    loop {
        let accepted = async {
            let room = Arc::clone(&csms.bounds.room).acquire_owned().await;
            (listener.accept().await, room)
        };
        tokio::select! {
            (accepted, room) = accepted => match (accepted, room) {
                (Ok((stream, address)), Ok(room)) => {
                    let prefix = AddressPrefix::of(address.ip());
                    let Some(crowd) = csms.bounds.crowd.enter(prefix) else {
                        csms.refusals.count_stranger(prefix);
                        continue;
                    };
                    let place = ConnectionPlace { _crowd: crowd, _room: room };
                    open.spawn(take(csms.clone(), entrance.clone(), stream, address, place));
                }
                (Err(error), _) => {
                    tracing::warn!(%error, "a connection could not be taken");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
                // Nobody closes the room.
                (_, Err(_)) => break,
            },
            Some(_) = open.join_next() => {}
            () = stopping.as_mut() => break,
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
}

/// Takes one connection: encrypts it, if that is wanted, and answers its requests.
async fn take(
    csms: Arc<Csms>,
    Entrance { tls, router }: Entrance,
    stream: TcpStream,
    address: SocketAddr,
    place: ConnectionPlace,
) {
    // Only slower without it.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        let peer = ConnectionPeer { address: address.ip(), proof: ConnectionProof::Nothing };
        return answer(&csms, router, PlacedStream { stream, _place: place }, peer).await;
    };
    let accepted = tls.acceptor().accept(stream);
    let within = csms.config.way_in.handshake_within;
    let refused = match tokio::time::timeout(within, accepted).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(|shown| shown.first());
            let proof = shown.map_or(ConnectionProof::Encrypted, |certificate| {
                ConnectionProof::Certificate { name: common_name(certificate) }
            });
            let peer = ConnectionPeer { address: address.ip(), proof };
            return answer(&csms, router, PlacedStream { stream, _place: place }, peer).await;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "the handshake took too long".to_owned(),
    };
    tracing::debug!(%address, refused, "a connection could not be encrypted");
    csms.refusals.count_stranger(AddressPrefix::of(address.ip()));
}

/// Answers the requests of a connection, until it ends or becomes a WebSocket.
async fn answer<S>(csms: &Csms, router: Router, stream: PlacedStream<S>, peer: ConnectionPeer)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let within = csms.config.way_in.body_within;
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(|body| timed(body, within));
        request.extensions_mut().insert(peer.clone());
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(csms.config.way_in.handshake_within)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = csms.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// A stream with its place among all connections.
struct PlacedStream<S> {
    stream: S,
    _place: ConnectionPlace,
}

impl<S: AsyncRead + Unpin> AsyncRead for PlacedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PlacedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
