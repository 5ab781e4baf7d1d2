//! What all parts of a handle know: the store, its status, and the connection.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use leftfold_core::store::{Head, Identity, State, Status};
use tokio::sync::{Semaphore, watch};

use crate::channel::Client;
use crate::options::RemoteOptions;

/// Reads that are under way at once; each may bring a page.
const READS_MAX: usize = 128;

/// Knowledge that all parts of a handle share.
pub(crate) struct RemoteShared {
    pub(crate) options: RemoteOptions,
    pub(crate) identity: Identity,
    pub(crate) status: watch::Sender<Status>,
    pub(crate) connection: watch::Sender<LinkState>,
    /// Somebody has closed the handle.
    pub(crate) is_closed: AtomicBool,
    /// Bytes of appends that wait for their answers.
    pub(crate) append_bytes: AtomicUsize,
    /// Bytes of reads that wait for theirs.
    pub(crate) read_bytes: AtomicUsize,
    pub(crate) reads: Semaphore,
    /// Connections that were made.
    pub(crate) connections: AtomicU64,
}

/// State of the connection.
#[derive(Clone)]
pub(crate) enum LinkState {
    /// It is being made: requests wait.
    Connecting,
    Up(Client),
    /// It could not be made for long: requests fail at once.
    Away {
        detail: String,
    },
    /// Another store answers: there will be none.
    Ended {
        detail: String,
    },
}

impl RemoteShared {
    pub(crate) fn new(
        options: RemoteOptions,
        identity: Identity,
        status: Status,
        client: Client,
    ) -> Self {
        Self {
            options,
            identity,
            status: watch::Sender::new(status),
            connection: watch::Sender::new(LinkState::Up(client)),
            is_closed: AtomicBool::new(false),
            append_bytes: AtomicUsize::new(0),
            read_bytes: AtomicUsize::new(0),
            reads: Semaphore::new(READS_MAX),
            connections: AtomicU64::new(1),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Notes a durable end, unless a later one is known.
    pub(crate) fn see_head(&self, head: Head) {
        self.status.send_if_modified(|status| advance(status, head));
    }

    /// Notes a status that the server told.
    pub(crate) fn see(&self, seen: Status) {
        self.status.send_if_modified(|status| {
            let changes = status.state != seen.state && status.state != State::Closed;
            if changes {
                status.state = seen.state;
            }
            advance(status, seen.head) | changes
        });
    }

    /// Says that nothing comes any more.
    pub(crate) fn end(&self) {
        self.status.send_if_modified(|status| {
            let changes = status.state != State::Closed;
            status.state = State::Closed;
            changes
        });
    }
}

/// Answers and statuses come on different ways: the later group counts.
fn advance(status: &mut Status, head: Head) -> bool {
    let known = status.head;
    let is_later = (head.recorded_at, head.position) >= (known.recorded_at, known.position);
    if is_later && head != known {
        status.head = head;
    }
    is_later && head != known
}

/// Counts bytes of a request that waits, or returns how many wait already if that is too much. One
/// request always may.
pub(crate) fn reserve(waiting: &AtomicUsize, bytes: usize, limit: usize) -> Result<(), usize> {
    let add = |before: usize| (before == 0 || before + bytes <= limit).then_some(before + bytes);
    waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).map(drop)
}
