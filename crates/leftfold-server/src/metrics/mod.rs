//! Figures of the server itself: connections, calls, refusals, subscriptions.

// Every label has one of a few values that stand in the program, whatever clients send. `calls`
// counts calls by their method, `wire` the bytes of connections.

mod calls;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leftfold::store::Metrics;

pub(crate) use calls::{CallCounts, OpenCall};
pub(crate) use wire::CountedStream;

/// Counts of a server since it was started.
pub(crate) struct ServerCounts {
    pub(crate) calls: CallCounts,
    accepted: AtomicU64,
    open: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    connections_refused: [AtomicU64; ConnectionRefusal::ALL.len()],
    calls_refused: [AtomicU64; CallRefusal::ALL.len()],
    subscriptions: [AtomicU64; CallProtocol::ALL.len()],
}

/// Reason why a connection was closed before its first call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionRefusal {
    /// Its address prefix has as many as it may.
    Crowded,
    /// It could not be encrypted, or its certificate is not the right one.
    Tls,
    /// It began no call in time.
    Silent,
    /// The system could not give it to the server.
    Failed,
}

impl ConnectionRefusal {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Crowded, "crowded"),
        (Self::Tls, "tls"),
        (Self::Silent, "silent"),
        (Self::Failed, "failed"),
    ];
}

/// Reason why a call, or an append of one, was refused before a store saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallRefusal {
    /// Nobody is known to call, or the password or token is wrong.
    Unauthenticated,
    /// Too many passwords wait to be compared.
    Guessing,
    /// The user has not the right to it.
    Denied,
    /// The user, or the store, is used more than it may be.
    Rate,
}

impl CallRefusal {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Unauthenticated, "unauthenticated"),
        (Self::Guessing, "guessing"),
        (Self::Denied, "denied"),
        (Self::Rate, "rate"),
    ];
}

/// Protocol of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallProtocol {
    Native,
    UmaDb,
    KurrentDb,
    Health,
    Http,
    Other,
}

impl CallProtocol {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Native, "native"),
        (Self::UmaDb, "umadb"),
        (Self::KurrentDb, "kurrentdb"),
        (Self::Health, "health"),
        (Self::Http, "http"),
        (Self::Other, "other"),
    ];

    /// Returns the protocol of a service of gRPC.
    fn of_service(service: &str) -> Self {
        match service.split('.').next() {
            Some("leftfold") => Self::Native,
            Some("umadb") => Self::UmaDb,
            Some("event_store" | "kurrentdb") => Self::KurrentDb,
            Some("grpc") => Self::Health,
            _ => Self::Other,
        }
    }

    fn name(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// A connection that is open until the value is dropped.
pub(crate) struct OpenConnection(Arc<ServerCounts>);

/// A subscription that is open until the value is dropped.
pub(crate) struct OpenSubscription {
    counts: Arc<ServerCounts>,
    protocol: CallProtocol,
}

impl ServerCounts {
    /// Begins to count; each method is the name of its service and its own.
    pub(crate) fn new<'m>(methods: impl IntoIterator<Item = (&'m str, &'m str)>) -> Arc<Self> {
        Arc::new(Self {
            calls: CallCounts::new(methods),
            accepted: AtomicU64::new(0),
            open: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            connections_refused: Default::default(),
            calls_refused: Default::default(),
            subscriptions: Default::default(),
        })
    }

    pub(crate) fn open_connection(self: &Arc<Self>) -> OpenConnection {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        OpenConnection(Arc::clone(self))
    }

    pub(crate) fn refuse_connection(&self, reason: ConnectionRefusal) {
        self.connections_refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refuse_call(&self, reason: CallRefusal) {
        self.calls_refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn open_subscription(self: &Arc<Self>, protocol: CallProtocol) -> OpenSubscription {
        self.subscriptions[protocol as usize].fetch_add(1, Ordering::Relaxed);
        OpenSubscription { counts: Arc::clone(self), protocol }
    }

    /// Adds everything that was counted.
    pub(crate) fn measure(&self, metrics: &mut Metrics) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        metrics.gauge(
            "leftfold_server_info",
            "1, with the version of the server as a label.",
            &[("version", env!("CARGO_PKG_VERSION"))],
            1,
        );
        let text = "Connections that are open.";
        metrics.gauge("leftfold_server_connections", text, &[], read(&self.open));
        let text = "Connections that were accepted.";
        let name = "leftfold_server_connections_accepted_total";
        metrics.counter(name, text, &[], read(&self.accepted));
        for (reason, label) in ConnectionRefusal::ALL {
            metrics.counter(
                "leftfold_server_connections_refused_total",
                "Connections that were closed before their first call, by reason.",
                &[("reason", label)],
                read(&self.connections_refused[reason as usize]),
            );
        }
        let text = "Bytes that came in over connections, as they were on the wire.";
        let name = "leftfold_server_received_bytes_total";
        metrics.counter(name, text, &[], read(&self.received));
        let text = "Bytes that went out over connections, as they were on the wire.";
        let name = "leftfold_server_sent_bytes_total";
        metrics.counter(name, text, &[], read(&self.sent));
        for (reason, label) in CallRefusal::ALL {
            metrics.counter(
                "leftfold_server_calls_refused_total",
                "Calls, and appends of calls, that were refused before a store saw them, by reason.",
                &[("reason", label)],
                read(&self.calls_refused[reason as usize]),
            );
        }
        for protocol in [CallProtocol::Native, CallProtocol::UmaDb, CallProtocol::KurrentDb] {
            metrics.gauge(
                "leftfold_server_subscriptions",
                "Subscriptions that are open, by protocol.",
                &[("protocol", protocol.name())],
                read(&self.subscriptions[protocol as usize]),
            );
        }
        self.calls.measure(metrics);
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for OpenSubscription {
    fn drop(&mut self) {
        self.counts.subscriptions[self.protocol as usize].fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_variant_stands_at_its_own_number() {
        let stands = |numbers: Vec<usize>| numbers == (0..numbers.len()).collect::<Vec<_>>();
        assert!(stands(ConnectionRefusal::ALL.map(|(one, _)| one as usize).to_vec()));
        assert!(stands(CallRefusal::ALL.map(|(one, _)| one as usize).to_vec()));
        assert!(stands(CallProtocol::ALL.map(|(one, _)| one as usize).to_vec()));
    }
}
