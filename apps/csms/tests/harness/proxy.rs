//! A proxy before a server of the loopback interface, which can be cut off from it.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// A proxy on a port of its own. Its thread ends with the test's process.
pub(crate) struct Proxy {
    port: u16,
    state: Arc<Mutex<ProxyState>>,
}

#[derive(Default)]
struct ProxyState {
    is_cut: bool,
    /// Connections that were refused while it was cut.
    refused: usize,
    open: Vec<TcpStream>,
}

impl Proxy {
    pub(crate) fn before(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<Mutex<ProxyState>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let mut state = shared.lock().unwrap_or_else(PoisonError::into_inner);
                if state.is_cut {
                    state.refused += 1;
                } else if let Ok(ends) = hand_on(&client, server) {
                    state.open.extend(ends);
                }
            }
        });
        Self { port, state }
    }

    /// Returns the URL through the proxy for a URL of the server.
    pub(crate) fn through(&self, url: &str) -> String {
        let (before, after) = url.split_once("127.0.0.1:").unwrap();
        let (_, rest) = after.split_once('/').unwrap();
        format!("{before}127.0.0.1:{}/{rest}", self.port)
    }

    /// Ends all connections, and takes none until it is mended.
    pub(crate) fn cut(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.is_cut = true;
        for end in state.open.drain(..) {
            // It may have ended by itself.
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn mend(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).is_cut = false;
    }

    /// Returns the number of connections that were refused.
    pub(crate) fn refused(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).refused
    }
}

/// Connects a client with the server; returns both ends, so that they can be cut.
fn hand_on(client: &TcpStream, server: u16) -> io::Result<[TcpStream; 2]> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, server))?;
    let ends = [client.try_clone()?, server.try_clone()?];
    for (from, to) in [(client, &server), (&server, client)] {
        from.set_nodelay(true)?;
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            // However it ends, the other direction ends too.
            let _ = io::copy(&mut from, &mut to);
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
    Ok(ends)
}
