//! What the writer, the readers and the handle of a store share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use leftfold_core::store::{
    AppendError, AppendFigures, Head, Identity, Outcome, Pending, Position, State, Status,
};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::clock::DatabaseClock;
use super::error::NotDone;
use super::options::PostgresStoreOptions;
use super::payload::PayloadColumn;
use super::read::pool::ReaderPool;
use super::read::usual_bytes::UsualBytes;
use super::rows::HeadRow;
use super::write::queue::WaitingRequests;
use super::write::request::{LookedUp, WaitingAppend};
use crate::connect::PostgresConnector;
use crate::target::place::quoted;

/// Reason why a store takes no appends whose history went back.
pub(super) const LOST: &str = "the database has lost what was acknowledged: it was restored, or another server took over without it; declare the restore and open the store again";
/// Reason why a store takes no appends that began another life.
pub(super) const OTHER_LIFE: &str =
    "the store was declared restored since it was opened here; open it again";
/// Reason why a store takes no appends that another release migrated.
pub(super) const OTHER_FORMAT: &str =
    "a newer release migrated the store since it was opened here; start that release";
/// Time for which the writer's last failure is told, unless a group is committed before: nobody may
/// append meanwhile, and then nobody learns that it is over.
const UNWRITTEN_FOR: Duration = Duration::from_secs(20);

/// A store that is open.
#[derive(Debug)]
pub(super) struct StoreShared {
    pub(super) options: PostgresStoreOptions,
    /// The schema of the tables, as statements name it.
    pub(super) schema: String,
    pub(super) connector: Arc<PostgresConnector>,
    pub(super) identity: Identity,
    pub(super) payload: PayloadColumn,
    pub(super) runtime: Handle,
    pub(super) queue: WaitingRequests,
    pub(super) readers: ReaderPool,
    pub(super) usual_bytes: UsualBytes,
    pub(super) status: watch::Sender<Status>,
    /// The clock of the database, as far as it is believed.
    pub(super) clock: DatabaseClock,
    /// Something was committed here, of which others are to be notified.
    pub(super) committed: Notify,
    pub(super) figures: Arc<AppendFigures>,
    /// The newest head that was shown, with the number of its append.
    shown: Mutex<(u64, Head)>,
    /// Position after which the writer knows every event.
    recent_since: AtomicU64,
    /// Reason why nothing is written until the store is opened again.
    ended: OnceLock<String>,
    seen: Mutex<SeenStates>,
    /// The server has answered since this was asked last.
    answered: AtomicBool,
}

/// States as the two connections see them that the store always has.
#[derive(Debug)]
struct SeenStates {
    /// As whoever follows the head sees it.
    followed: State,
    /// Reason why the last group was not written, and when that was.
    unwritten: Option<(State, Instant)>,
}

impl StoreShared {
    pub(super) fn new(
        options: PostgresStoreOptions,
        connector: Arc<PostgresConnector>,
        (identity, payload): (Identity, PayloadColumn),
        head: &HeadRow,
    ) -> Self {
        let readers = ReaderPool::new(Arc::clone(&connector), options.readers, options.queue_bytes);
        Self {
            schema: quoted(&options.schema),
            queue: WaitingRequests::new(options.queue_bytes),
            readers,
            usual_bytes: UsualBytes::default(),
            options,
            connector,
            identity,
            payload,
            runtime: Handle::current(),
            status: watch::Sender::new(Status { head: head.head, state: State::Open }),
            clock: DatabaseClock::default(),
            committed: Notify::new(),
            figures: Arc::default(),
            shown: Mutex::new((head.append, head.head)),
            recent_since: AtomicU64::new(head.head.position.0),
            ended: OnceLock::new(),
            seen: Mutex::new(SeenStates { followed: State::Open, unwritten: None }),
            answered: AtomicBool::new(true),
        }
    }

    fn lock_shown(&self) -> MutexGuard<'_, (u64, Head)> {
        // It is replaced in one step.
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest head that was shown, with the number of its append.
    pub(super) fn shown(&self) -> (u64, Head) {
        *self.lock_shown()
    }

    /// Shows a head, unless a newer one was shown.
    pub(super) fn show(&self, row: &HeadRow) {
        let mut shown = self.lock_shown();
        if row.append > shown.0 {
            *shown = (row.append, row.head);
            self.status.send_modify(|status| status.head = row.head);
        }
    }

    /// Shows the state that whoever follows the head has found.
    pub(super) fn followed(&self, state: State) {
        self.answered.store(true, Ordering::Release);
        self.see(|seen| {
            if seen.followed != state {
                // The server is another one, or has other rights: it may write now.
                (seen.followed, seen.unwritten) = (state, None);
            }
        });
    }

    /// Says that whoever follows the head has a connection again: the writer finds one, too, if it
    /// found none before.
    pub(super) fn connected(&self) {
        self.see(|seen| {
            seen.unwritten.take_if(|(state, _)| matches!(state, State::Away { .. }));
        });
    }

    /// Says that the server does not answer whoever follows the head.
    pub(super) fn unanswered(&self, detail: &str) {
        self.see(|seen| seen.followed = away(&seen.followed, detail));
    }

    /// Tells whether the server has answered since this was asked last.
    pub(super) fn take_answered(&self) -> bool {
        self.answered.swap(false, Ordering::AcqRel)
    }

    /// Says that a group was committed.
    pub(super) fn written(&self) {
        self.answered.store(true, Ordering::Release);
        if self.status.borrow().state != State::Open {
            self.see(|seen| (seen.followed, seen.unwritten) = (State::Open, None));
        }
    }

    /// Notes what kept a group from being written.
    pub(super) fn unwritten(&self, why: &NotDone, is_connected: bool) {
        let state = |before: &State| match why {
            NotDone::OnlyReads(detail) | NotDone::Withheld(detail) => {
                Some(State::ReadOnly { detail: detail.clone() })
            }
            // Of a connection that is there it may have been a matter of this group.
            NotDone::Away(detail) if !is_connected => Some(away(before, detail)),
            _ => None,
        };
        self.see(|seen| {
            let before = seen.unwritten.as_ref().map_or(&seen.followed, |(state, _)| state);
            if let Some(state) = state(before) {
                seen.unwritten = Some((state, Instant::now()));
            }
        });
    }

    /// Changes what was seen of the state, and shows the worse of both sights.
    fn see(&self, change: impl FnOnce(&mut SeenStates)) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut seen);
        seen.unwritten.take_if(|(_, at)| at.elapsed() > UNWRITTEN_FOR);
        let state = match &seen.unwritten {
            Some((state, _)) if seen.followed == State::Open => state,
            _ => &seen.followed,
        };
        // It is shown under the lock, so that no older sight is shown after a newer one.
        self.status.send_if_modified(|status| {
            let is_final = status.state == State::Closed || self.ended.get().is_some();
            let changes = !is_final && status.state != *state;
            if changes {
                tell(&status.state, state, &self.options.schema);
                status.state = state.clone();
            }
            changes
        });
    }

    /// Takes no appends and no reads until the store is opened again: its history is another one
    /// now, and what follows here would be of two.
    pub(super) fn end(&self, detail: &str) {
        if self.ended.get().is_some() {
            return;
        }
        tracing::error!(
            schema = self.options.schema,
            detail,
            "the store takes no appends any more"
        );
        // From here on nobody else changes the state.
        let _ = self.ended.set(detail.to_owned());
        self.status.send_modify(|status| {
            if status.state != State::Closed {
                status.state = State::ReadOnly { detail: detail.to_owned() };
            }
        });
        self.readers.end(detail);
    }

    /// Reason why nothing is written until the store is opened again.
    pub(super) fn ended(&self) -> Option<String> {
        self.ended.get().cloned()
    }

    /// An answer that needs no waiting, which is counted.
    pub(super) fn answered_at_once(&self, error: AppendError) -> Pending<Outcome, AppendError> {
        let outcome = Err(error);
        self.figures.answered(&outcome);
        Pending::ready(outcome)
    }

    pub(super) fn closed(&self) {
        self.status.send_modify(|status| status.state = State::Closed);
        self.queue.closed();
        self.readers.close();
    }

    pub(super) fn keep_recent_since(&self, since: Position) {
        self.recent_since.store(since.0, Ordering::Release);
    }

    /// Tells whether the queries of an append's condition must be looked up before the writer can
    /// judge it.
    pub(super) fn needs_look_up(&self, waiting: &WaitingAppend) -> bool {
        let since = Position(self.recent_since.load(Ordering::Acquire));
        waiting.append.condition.none_matching.iter().enumerate().any(|(clause, none)| {
            none.after < since
                && match waiting.looked_up.get(clause) {
                    Some(LookedUp::Found(_)) => false,
                    Some(LookedUp::NoneThrough(through)) => *through < since,
                    None => true,
                }
        })
    }
}

/// The state of a store that is away, since when it was so before.
fn away(before: &State, detail: &str) -> State {
    let since = match before {
        State::Away { since, .. } => *since,
        _ => Instant::now(),
    };
    State::Away { since, detail: detail.to_owned() }
}

/// Tells operators that the store goes away, or comes back.
fn tell(before: &State, now: &State, schema: &str) {
    match (before, now) {
        (State::Away { .. }, State::Away { .. }) => {}
        (_, State::Away { detail, .. }) => {
            tracing::warn!(schema, detail, "the store cannot be reached");
        }
        (State::Away { .. }, now) => tracing::info!(schema, ?now, "the store is reached again"),
        _ => {}
    }
}
