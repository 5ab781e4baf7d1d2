//! What all parts of a handle know: the store, its status, and the connection.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use leftfold_core::store::{Head, Identity, State, Status};
use tokio::sync::{Semaphore, watch};

use crate::channel::Client;
use crate::options::RemoteOptions;

/// Reads that are under way at once; each may bring a page.
const READS_MAX: usize = 128;
/// Subscriptions that have a call each: a server takes a bounded number of calls on a connection.
/// More are possible, and ask for page after page.
const FEEDS_MAX: usize = 256;

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
    /// Places of subscriptions with a call each.
    pub(crate) feeds: Arc<Semaphore>,
    /// Connections that were made.
    pub(crate) connections: AtomicU64,
    sight: Mutex<Sight>,
    /// The server has answered since this was asked last.
    answered: AtomicBool,
}

/// State of the store as this handle knows it.
struct Sight {
    /// As the server told it last.
    told: State,
    /// Moment since which the server is shown as one that does not answer.
    silent_since: Option<Instant>,
    /// Reason why it could not be asked last, if that is known.
    why: Option<String>,
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
        let sight = Sight { told: status.state.clone(), silent_since: None, why: None };
        Self {
            options,
            identity,
            sight: Mutex::new(sight),
            answered: AtomicBool::new(true),
            status: watch::Sender::new(status),
            connection: watch::Sender::new(LinkState::Up(client)),
            is_closed: AtomicBool::new(false),
            append_bytes: AtomicUsize::new(0),
            read_bytes: AtomicUsize::new(0),
            reads: Semaphore::new(READS_MAX),
            feeds: Arc::new(Semaphore::new(FEEDS_MAX)),
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
        self.answered.store(true, Ordering::Release);
        self.look(Some(seen.head), |sight| {
            sight.heard();
            // The moment in it is that at which it was heard.
            let is_same = match (&sight.told, &seen.state) {
                (State::Away { detail, .. }, State::Away { detail: now, .. }) => detail == now,
                _ => false,
            };
            if !is_same {
                sight.told = seen.state;
            }
        });
    }

    /// Notes that the server has answered.
    pub(crate) fn answered(&self) {
        if !self.answered.swap(true, Ordering::AcqRel) {
            self.look(None, Sight::heard);
        }
    }

    /// Tells whether the server has answered since this was asked last.
    pub(crate) fn take_answered(&self) -> bool {
        self.answered.swap(false, Ordering::AcqRel)
    }

    /// Notes why the server could not be asked.
    pub(crate) fn failed(&self, why: &str) {
        self.look(None, |sight| sight.why = Some(why.to_owned()));
    }

    /// Says that the server has not answered for some seconds.
    pub(crate) fn unanswered(&self, seconds: u32) {
        self.look(None, |sight| {
            if sight.silent_since.is_none() {
                sight.silent_since = Some(Instant::now());
                sight.why.get_or_insert_with(|| format!("no answer came for {seconds} seconds"));
            }
        });
    }

    /// Changes what is known of the state, and shows it.
    fn look(&self, head: Option<Head>, change: impl FnOnce(&mut Sight)) {
        let mut sight = self.sight.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut sight);
        let state = match (sight.silent_since, &sight.why) {
            (Some(since), Some(why)) => {
                let detail = format!("the server {} is away: {why}", self.options.address());
                State::Away { since, detail }
            }
            _ => sight.told.clone(),
        };
        // It is shown under the lock, so that no older sight is shown after a newer one.
        self.status.send_if_modified(|status| {
            let changes = status.state != state && status.state != State::Closed;
            if changes {
                tell(&status.state, &state);
                status.state = state;
            }
            head.is_some_and(|head| advance(status, head)) | changes
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

impl Sight {
    fn heard(&mut self) {
        (self.silent_since, self.why) = (None, None);
    }
}

/// Tells operators that the store goes away, or comes back.
fn tell(before: &State, now: &State) {
    match (before, now) {
        (State::Away { .. }, State::Away { .. }) => {}
        (_, State::Away { detail, .. }) => tracing::warn!(detail, "the store cannot be reached"),
        (State::Away { .. }, now) => tracing::info!(?now, "the store is reached again"),
        _ => {}
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
