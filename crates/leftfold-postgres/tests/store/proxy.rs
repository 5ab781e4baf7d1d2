//! A proxy before the server that cuts connections at a chosen moment of a commit.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// End of the message by which a client commits, and of the one by which a server says that it has.
const COMMIT: &[u8] = b"COMMIT\0";

/// Behaviour of the proxy from now on, until another is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyMode {
    /// Hands everything on.
    Pass,
    /// Cuts a connection when its client commits; the server never sees the commit.
    CutBeforeCommit,
    /// Cuts a connection when its client has sent a commit, without waiting for the server.
    CutBehindCommit,
    /// Cuts a connection when its server answers a commit; the client never sees the answer.
    CutAnswer,
    /// Cuts every connection, and takes none.
    Away,
    /// Hands nothing on and keeps the connections, as a server does that stands still.
    Silent,
}

/// The mode, and the one that follows a cut.
type Modes = watch::Sender<(ProxyMode, ProxyMode)>;

/// A proxy on a port of its own, as long as the value lives.
pub(crate) struct Proxy {
    port: u16,
    mode: Arc<Modes>,
    listens: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy before a server of the loopback interface.
    pub(crate) async fn before(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(watch::Sender::new((ProxyMode::Pass, ProxyMode::Pass)));
        let shared = Arc::clone(&mode);
        let listens = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, server, Arc::clone(&shared)));
            }
        });
        Self { port, mode, listens }
    }

    /// Returns the URL through the proxy for a URL of the server.
    pub(crate) fn through(&self, url: &str) -> String {
        let (before, after) = url.split_once("127.0.0.1:").unwrap();
        let rest = after.split_once('/').unwrap().1;
        format!("{before}127.0.0.1:{}/{rest}", self.port)
    }

    pub(crate) fn set(&self, mode: ProxyMode) {
        self.set_once(mode, mode);
    }

    /// Sets a mode that cuts one connection, and the one that follows then.
    pub(crate) fn set_once(&self, mode: ProxyMode, then: ProxyMode) {
        self.mode.send_replace((mode, then));
    }

    pub(crate) fn mode(&self) -> ProxyMode {
        self.mode.borrow().0
    }

    /// Waits until the mode is another one, as it is after a cut.
    pub(crate) async fn is_over(&self, mode: ProxyMode) {
        self.mode.subscribe().wait_for(|modes| modes.0 != mode).await.unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.listens.abort();
    }
}

async fn connect(client: TcpStream, server: u16, mode: Arc<Modes>) {
    if mode.borrow().0 == ProxyMode::Away {
        return;
    }
    let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, server)).await else { return };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut away = mode.subscribe();
    tokio::select! {
        () = hand_on(from_client, to_server, &mode, at_commit) => {}
        () = hand_on(from_server, to_client, &mode, at_answer) => {}
        _ = away.wait_for(|modes| modes.0 == ProxyMode::Away) => {}
    }
}

/// Decision about bytes with a commit in them: how many are handed on (`None`: all), and if the
/// connection ends then.
type AtCommit = fn(ProxyMode, usize) -> (Option<usize>, bool);

fn at_commit(mode: ProxyMode, at: usize) -> (Option<usize>, bool) {
    match mode {
        // Type and length of the message stand before its text.
        ProxyMode::CutBeforeCommit => (Some(at - 5), true),
        ProxyMode::CutBehindCommit => (None, true),
        _ => (None, false),
    }
}

fn at_answer(mode: ProxyMode, _: usize) -> (Option<usize>, bool) {
    if mode == ProxyMode::CutAnswer { (Some(0), true) } else { (None, false) }
}

async fn hand_on(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mode: &Modes,
    at_commit: AtCommit,
) {
    let mut bytes = vec![0; 1 << 20];
    let mut modes = mode.subscribe();
    loop {
        let Ok(read @ 1..) = from.read(&mut bytes).await else { return };
        // The sender is held above.
        let _ = modes.wait_for(|modes| modes.0 != ProxyMode::Silent).await;
        let read = &bytes[..read];
        let found = read.windows(COMMIT.len()).position(|window| window == COMMIT);
        let (until, ends) = match found {
            Some(at) => at_commit(mode.borrow().0, at),
            None => (None, false),
        };
        if to.write_all(&read[..until.unwrap_or(read.len())]).await.is_err() {
            return;
        }
        if ends {
            // One cut only.
            mode.send_modify(|(mode, then)| *mode = *then);
            return;
        }
    }
}
