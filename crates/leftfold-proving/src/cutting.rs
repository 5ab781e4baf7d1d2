//! A proxy that cuts the connections of clients: at any byte, all at once, or for good.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

/// A proxy on a port of its own before a server of the loopback interface. It ends with the value.
pub struct CuttingProxy {
    port: u16,
    shared: Arc<Cutting>,
}

struct Cutting {
    /// Port of the server.
    server: AtomicU16,
    manner: Mutex<Manner>,
    changed: Condvar,
    open: Mutex<Vec<TcpStream>>,
    cuts: AtomicU64,
}

#[derive(Default)]
struct Manner {
    /// Powers of two between which the bytes of a connection are drawn; `None` cuts none.
    bytes_log2: Option<Range<u32>>,
    random: u64,
    is_away: bool,
    is_silent: bool,
    is_over: bool,
}

impl CuttingProxy {
    /// Listens before the server of a port, and hands everything on.
    ///
    /// # Panics
    /// If no port is free.
    #[must_use]
    pub fn before(server: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let port = listener.local_addr().expect("it listens").port();
        let shared = Arc::new(Cutting {
            server: AtomicU16::new(server),
            manner: Mutex::default(),
            changed: Condvar::new(),
            open: Mutex::default(),
            cuts: AtomicU64::new(0),
        });
        let listening = Arc::clone(&shared);
        thread::spawn(move || listening.accept(&listener));
        Self { port, shared }
    }

    /// Returns the port that clients connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns how many connections were cut.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// From now on cuts each new connection after a number of bytes, of both directions together:
    /// two to a power that is drawn from the range.
    pub fn cut_after(&self, bytes_log2: Range<u32>, seed: u64) {
        self.shared.change(|manner| {
            (manner.bytes_log2, manner.random) = (Some(bytes_log2), seed | 1);
        });
    }

    /// Cuts all connections that are open.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Takes no connection, and cuts those that are open; or takes them again.
    pub fn set_away(&self, is_away: bool) {
        self.shared.change(|manner| manner.is_away = is_away);
        if is_away {
            self.shared.cut();
        }
    }

    /// Hands nothing on and keeps the connections, as a network does that lost its route; or hands
    /// everything on again.
    pub fn set_silent(&self, is_silent: bool) {
        self.shared.change(|manner| manner.is_silent = is_silent);
    }

    /// Leads new connections to the server of another port.
    pub fn lead_to(&self, server: u16) {
        self.shared.server.store(server, Ordering::Relaxed);
    }
}

impl Drop for CuttingProxy {
    fn drop(&mut self) {
        self.shared.change(|manner| manner.is_over = true);
        self.shared.cut();
        // The listener is awake once more, and ends.
        let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port));
    }
}

impl Cutting {
    fn change(&self, change: impl FnOnce(&mut Manner)) {
        change(&mut self.manner.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }

    fn cut(&self) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for stream in open.drain(..) {
            if stream.shutdown(Shutdown::Both).is_ok() {
                self.cuts.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        while let Ok((client, _)) = listener.accept() {
            let mut manner = self.manner.lock().unwrap_or_else(PoisonError::into_inner);
            if manner.is_over {
                return;
            }
            if manner.is_away {
                continue;
            }
            let budget = manner.budget();
            drop(manner);
            let port = self.server.load(Ordering::Relaxed);
            let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { continue };
            // Without it small messages wait for one another.
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            self.hand_on(&client, &server, &budget);
            self.hand_on(&server, &client, &budget);
            self.open.lock().unwrap_or_else(PoisonError::into_inner).push(client);
        }
    }

    fn hand_on(self: &Arc<Self>, from: &TcpStream, to: &TcpStream, budget: &Arc<AtomicI64>) {
        let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
        let (shared, budget) = (Arc::clone(self), Arc::clone(budget));
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(read @ 1..) = from.read(&mut buffer) {
                shared.await_sound();
                let left = budget.fetch_sub(read as i64, Ordering::Relaxed);
                let passes = read.min(usize::try_from(left).unwrap_or(0));
                if to.write_all(&buffer[..passes]).is_err() {
                    break;
                }
                if passes < read {
                    shared.cuts.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            }
            // Both directions end together.
            let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }

    fn await_sound(&self) {
        let manner = self.manner.lock().unwrap_or_else(PoisonError::into_inner);
        let is_silent = |manner: &mut Manner| manner.is_silent && !manner.is_over;
        drop(self.changed.wait_while(manner, is_silent));
    }
}

impl Manner {
    /// Draws the bytes after which a connection is cut.
    fn budget(&mut self) -> Arc<AtomicI64> {
        let bytes = match &self.bytes_log2 {
            None => i64::MAX,
            Some(range) => {
                // Xorshift: nothing depends on how good it is.
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                let width = u64::from(range.end - range.start).max(1);
                let power = range.start + u32::try_from(self.random % width).unwrap_or(0);
                let below = (self.random >> 32) % (1 << power);
                (1_i64 << power) + i64::try_from(below).unwrap_or(0)
            }
        };
        Arc::new(AtomicI64::new(bytes))
    }
}
