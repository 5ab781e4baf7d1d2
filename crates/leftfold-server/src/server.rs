//! The sockets of a server, its connections, and its end.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use leftfold::store::Store;
use leftfold_callers::{AddressPrefix, Reloader};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::codegen::Service;

use crate::groups::ConsumerGroups;
use crate::guard::Guard;
use crate::metrics::{ConnectionRefusal, CountedStream, ServerCounts};
use crate::options::ServerOptions;
use crate::serve_error::ServeError;
use crate::services;
use crate::stopping::Stopping;
use crate::stores::Stores;

/// Wait after a connection could not be taken, as when no file handle is left.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);
/// Bytes of one call that a client may send before they were read.
const CALL_WINDOW: u32 = 2 << 20;
/// Bytes of all calls of a connection together.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Bytes of answers of one call that wait for its client.
const CALL_SENDS: usize = 1 << 20;
/// Bytes of the metadata of a call.
const METADATA_BYTES: u32 = 16 << 10;
/// Calls that a client may have cancelled before it is taken for an attack.
const CANCELLED_MAX: usize = 1_024;

/// A server that listens.
pub struct Server {
    options: ServerOptions,
    stores: Arc<Stores>,
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    reloader: Reloader,
}

impl Server {
    /// Listens on the addresses. Clients may connect from now on; they are answered by
    /// [`run`](Self::run).
    ///
    /// # Errors
    /// [`ServeError::Insecure`] for an address that other machines reach, unless the options say
    /// that it is wanted, and all others but [`ServeError::Close`].
    pub async fn bind(
        options: ServerOptions,
        stores: Vec<(String, Store)>,
    ) -> Result<Self, ServeError> {
        options.check(stores.iter().map(|(name, _)| &**name))?;
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for &address in &options.listen {
            let cannot =
                |error: io::Error| ServeError::Listen { address, detail: error.to_string() };
            let listener = TcpListener::bind(address).await.map_err(cannot)?;
            addresses.push(listener.local_addr().map_err(cannot)?);
            listeners.push(listener);
        }
        let stores = stores_of(&options, stores);
        Ok(Self { options, stores, listeners, addresses, reloader: Reloader::default() })
    }

    /// Returns the means of telling the server that its files have changed, as on SIGHUP.
    #[must_use]
    pub fn reloader(&self) -> Reloader {
        self.reloader.clone()
    }

    /// Returns the addresses that the server listens on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Serves until `stop` is ready. Then no call begins, the appends that were taken are answered,
    /// calls that go on are ended, and the stores are closed.
    ///
    /// # Errors
    /// [`ServeError::Close`] if a store did not close cleanly; all are closed.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { options, stores, listeners, reloader, .. } = self;
        let (stops, stopping) = Stopping::new();
        let stopped = || {
            let mut stopping = stopping.clone();
            async move { stopping.wanted().await }
        };
        let connections = Connections::new(options.clone(), &stores, stopping.clone());
        let stop_within = options.stop_within;
        let stopped_following = stopped();
        tokio::spawn(async move {
            reloader.follow(move || reload(&options), stopped_following).await;
        });
        if let Some(tenants) = stores.tenants() {
            tokio::spawn(tenants.close_unused_ones(stopping.clone()));
        }
        let (guard, stopped) = (Arc::clone(&connections.guard), stopped());
        let telling = tokio::spawn(async move { guard.refusals.tell(stopped).await });
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(connections.clone().accept(listener));
        }
        stop.await;
        let _ = stops.send(true);
        let ended = async { while accepting.join_next().await.is_some() {} };
        if tokio::time::timeout(stop_within, ended).await.is_err() {
            tracing::warn!("clients did not take their last answers in time, they are cut off");
        }
        drop(accepting);
        // It tells at once that the server stops.
        let _ = telling.await;
        close(&stores).await
    }
}

/// Reads the files of the options again if they have changed.
fn reload(options: &ServerOptions) {
    if let Some(users) = &options.users
        && let Err(error) = users.reload()
    {
        tracing::warn!(%error, "the users stay as they were");
    }
    if let Some(tls) = &options.tls
        && let Err(error) = tls.reload()
    {
        tracing::warn!(%error, "the certificates stay as they were");
    }
}

/// Returns the stores of a server with these options.
pub(crate) fn stores_of(options: &ServerOptions, stores: Vec<(String, Store)>) -> Arc<Stores> {
    let (tenants, limits) = (options.tenants.clone(), options.store_limits);
    let limits_of = options.store_limits_of.clone();
    let counts = ServerCounts::new(services::methods());
    Arc::new(Stores::new(stores, tenants, limits, limits_of, counts))
}

/// Closes all stores, and returns the first error.
pub(crate) async fn close(stores: &Stores) -> Result<(), ServeError> {
    let mut first = Ok(());
    for served in stores.all() {
        ConsumerGroups::of(&served.store).stop().await;
        if let Err(error) = served.store.close().await {
            let name = served.name.to_string();
            first = first.and(Err(ServeError::Close { name, detail: error.detail }));
        }
    }
    first
}

/// The means of serving connections.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) router: axum::Router,
    guard: Arc<Guard>,
    room: Arc<Semaphore>,
    options: ServerOptions,
    stopping: Stopping,
}

impl Connections {
    pub(crate) fn new(options: ServerOptions, stores: &Arc<Stores>, stopping: Stopping) -> Self {
        let most = options.connections_of_prefix_max;
        let guard = Guard::new(most, options.user_limits, stores.counts());
        let router = services::router(stores, &stopping, options.users.clone(), &guard);
        let room = Arc::new(Semaphore::new(options.connections_max));
        Self { router, guard, room, options, stopping }
    }

    /// Takes connections until the server stops, and returns when all of them have ended.
    async fn accept(mut self, listener: TcpListener) {
        let mut open = JoinSet::new();
        loop {
            let accepted = async {
                let room = Arc::clone(&self.room).acquire_owned().await;
                (listener.accept().await, room)
            };
            tokio::select! {
                (accepted, room) = accepted => match accepted {
                    Ok((stream, peer)) => {
                        let prefix = AddressPrefix::of(peer.ip());
                        let Some(place) = self.guard.crowd.enter(prefix) else {
                            self.guard.counts.refuse_connection(ConnectionRefusal::Crowded);
                            self.guard.refusals.count_stranger(prefix);
                            continue;
                        };
                        let connections = self.clone();
                        let counted = self.guard.counts.open_connection();
                        open.spawn(async move {
                            connections.serve(stream, prefix).await;
                            drop((place, room, counted));
                        });
                    }
                    Err(error) => {
                        self.guard.counts.refuse_connection(ConnectionRefusal::Failed);
                        tracing::warn!(%error, "a connection could not be taken");
                        tokio::time::sleep(ACCEPT_AGAIN).await;
                    }
                },
                Some(_) = open.join_next() => {}
                () = self.stopping.wanted() => break,
            }
        }
        drop(listener);
        while open.join_next().await.is_some() {}
    }

    /// Serves one connection to its end.
    async fn serve(self, stream: TcpStream, prefix: AddressPrefix) {
        // Answers are small, and each is waited for.
        let _ = stream.set_nodelay(true);
        let stream = CountedStream::new(stream, Arc::clone(&self.guard.counts));
        let Some(tls) = &self.options.tls else { return self.serve_calls(stream, prefix).await };
        let accepted = tls.acceptor().accept(stream);
        match tokio::time::timeout(self.options.first_call_within, accepted).await {
            Ok(Ok(stream)) => self.serve_calls(stream, prefix).await,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a connection could not be encrypted");
                self.guard.counts.refuse_connection(ConnectionRefusal::Tls);
                self.guard.refusals.count_stranger(prefix);
            }
            Err(_) => self.guard.counts.refuse_connection(ConnectionRefusal::Silent),
        }
    }

    pub(crate) async fn serve_calls<S>(mut self, stream: S, prefix: AddressPrefix)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let has_called = Arc::new(AtomicBool::new(false));
        let (called, router) = (Arc::clone(&has_called), self.router.clone());
        let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
            called.store(true, Ordering::Relaxed);
            request.extensions_mut().insert(prefix);
            let mut router = router.clone();
            async move { Ok::<_, Infallible>(infallible(router.call(request).await)) }
        });
        let builder = self.builder();
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let mut patience = std::pin::pin!(tokio::time::sleep(self.options.first_call_within));
        let (mut is_patient, mut is_stopping) = (true, false);
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended");
                    }
                    return;
                }
                () = patience.as_mut(), if is_patient => {
                    is_patient = false;
                    if !has_called.load(Ordering::Relaxed) {
                        self.guard.counts.refuse_connection(ConnectionRefusal::Silent);
                        return;
                    }
                }
                () = self.stopping.wanted(), if !is_stopping => {
                    is_stopping = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    fn builder(&self) -> Builder<TokioExecutor> {
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.first_call_within);
        builder
            .http2()
            .timer(TokioTimer::new())
            .initial_stream_window_size(CALL_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(self.options.calls_max)
            .max_send_buf_size(CALL_SENDS)
            .max_header_list_size(METADATA_BYTES)
            .max_pending_accept_reset_streams(CANCELLED_MAX)
            .keep_alive_interval(self.options.alive_every)
            .keep_alive_timeout(self.options.alive_every);
        builder
    }
}

fn infallible<T>(answer: Result<T, Infallible>) -> T {
    match answer {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}
