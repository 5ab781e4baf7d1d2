//! Following a log that another process writes: reading its directory, and being told what is new.
//!
//! `feed` looks at the end of the log again and again, and hands every group that is certainly
//! durable to a log that is open to be read; `end` says why that stopped.

mod end;
mod feed;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use leftfold_core::store::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Backend, Checkpoint, CloseError,
    CommandId, EventId, Hash, HeldLease, HistoryFrom, HistoryPage, Identity, Label, Lease,
    LeaseError, LeaseRequest, Leased, Metrics, Outcome, Page, Partition, Pending, Position, Read,
    ReadError, State, Status, StoreId, Timestamp,
};
use tokio::sync::watch;

pub use end::FollowEnd;
use feed::Feed;

use crate::disk::Disk;
use crate::log::Log;
use crate::open::directory::directory;
use crate::open::error::{LogOpenError, Recovery};
use crate::options::{Existing, Options};

const DETAIL: &str = "it follows the log of another process, append there";

/// A log that another process writes, or may write: it is read, and followed as it grows.
///
/// Nothing is written into the directory and no lock is taken, so it may be on a medium that cannot
/// be written. An append is refused as [`AppendError::ReadOnly`], and no lease is given.
///
/// **Only what is durable is shown**: a group behind which another one or a seal stands, or that
/// the writer marked as durable in the file `durable-end`. A group that was written and not synced
/// is not shown, so nothing that was shown is gone when the machine fails. What is new is seen
/// within 25 milliseconds of its sync, most often sooner; the writer may be killed and started
/// again meanwhile.
///
/// Following ends when it can no longer be right: the log was restored from a copy, another one
/// took its place, or it is damaged. Then the store is closed, every read says why, and
/// [`ended`](Self::ended) tells it. Open the directory again, and compare checkpoints.
///
/// Cheap to clone; dropping the last clone ends the thread that follows.
///
/// ```
/// use leftfold_core::store::{Append, EventType, NewEvent, Position, Query, Store};
/// use leftfold_log::{Log, LogFollower, Options};
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let place = tempfile::tempdir()?;
/// # let directory = place.path().join("events");
/// let store = Store::new(Log::open(&directory, Options::default())?.0);
///
/// // In another process:
/// let (follower, _) = LogFollower::open(&directory, Options::default())?;
/// let mut events = Store::new(follower).subscribe(Query::all(), Position::START);
///
/// let opened = NewEvent::new(EventType::new("shop.Opened")?, "{}");
/// store.append(Append::of(vec![opened])).await?;
/// assert_eq!(events.event().await?.position, Position(1));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct LogFollower {
    shared: Arc<SharedFollower>,
    _thread: Arc<FeedThread>,
}

/// State that callers and the thread that follows share.
#[derive(Debug)]
struct SharedFollower {
    identity: Identity,
    /// The log as it was opened last, and fed since. It is opened anew now and then, so that the
    /// index of what was fed does not stay in memory.
    opened: RwLock<Log>,
    status: watch::Sender<Status>,
    life: Mutex<FollowerLife>,
    changed: Condvar,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum FollowerLife {
    Following,
    Closed,
    Ended(FollowEnd),
}

#[derive(Debug)]
struct FeedThread {
    shared: Arc<SharedFollower>,
    thread: Option<JoinHandle<()>>,
}

impl LogFollower {
    /// Opens the log in a directory to be followed. Of the options those of memory and files count,
    /// which should be as the writer's. Missing parts of the index are built in memory.
    ///
    /// # Errors
    /// Those of [`Log::open_read_only`]; [`LogOpenError::Missing`] also if nothing was recorded yet
    /// and the directory is not there.
    pub fn open(
        path: impl AsRef<Path>,
        options: Options,
    ) -> Result<(Self, Recovery), LogOpenError> {
        Self::open_on(directory(path.as_ref(), Existing::Only)?, options)
    }

    /// The same, on any disk.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        options: Options,
    ) -> Result<(Self, Recovery), LogOpenError> {
        let (feed, recovery) = Feed::open(disk, options)?;
        let shared = feed.follower();
        let thread = std::thread::Builder::new()
            .name("leftfold-follow".to_owned())
            .spawn(move || feed.run())?;
        let running = FeedThread { shared: Arc::clone(&shared), thread: Some(thread) };
        Ok((Self { shared, _thread: Arc::new(running) }, recovery))
    }

    /// Returns the reason why the log is not followed any more; `None` as long as it is, and if it
    /// was closed.
    #[must_use]
    pub fn ended(&self) -> Option<FollowEnd> {
        match &*self.shared.life() {
            FollowerLife::Ended(end) => Some(end.clone()),
            FollowerLife::Following | FollowerLife::Closed => None,
        }
    }

    pub(crate) fn opened(&self) -> Log {
        self.shared.opened.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn refused<T>(&self) -> Pending<T, LeaseError> {
        Pending::ready(Err(match &*self.shared.life() {
            FollowerLife::Following => LeaseError::Unavailable { detail: DETAIL.to_owned() },
            FollowerLife::Closed | FollowerLife::Ended(_) => LeaseError::Closed,
        }))
    }

    fn reading<T>(
        &self,
        read: impl FnOnce(&Log) -> Pending<T, ReadError>,
    ) -> Pending<T, ReadError> {
        let ended = match &*self.shared.life() {
            FollowerLife::Following => None,
            FollowerLife::Closed => Some(ReadError::Closed),
            FollowerLife::Ended(end) => Some(end.clone().into()),
        };
        match ended {
            Some(error) => Pending::ready(Err(error)),
            None => read(&self.shared.opened.read().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

impl SharedFollower {
    fn life(&self) -> MutexGuard<'_, FollowerLife> {
        // It is replaced as a whole.
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for some time, or until following is to end. Returns true if it is to go on.
    fn goes_on_after(&self, pause: Duration) -> bool {
        let life = self.life();
        if *life != FollowerLife::Following {
            return false;
        }
        let (life, _) =
            self.changed.wait_timeout(life, pause).unwrap_or_else(PoisonError::into_inner);
        *life == FollowerLife::Following
    }

    /// Ends following, unless it has ended.
    fn end(&self, how: FollowerLife) {
        let mut life = self.life();
        if *life == FollowerLife::Following {
            *life = how;
        }
        drop(life);
        self.changed.notify_all();
        // Anyone who is woken by it asks, and is told why.
        self.status.send_modify(|status| status.state = State::Closed);
    }
}

impl Backend for LogFollower {
    fn identity(&self) -> Identity {
        self.shared.identity
    }

    fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
        Pending::ready(Err(match (append.validate(), &*self.shared.life()) {
            (Err(invalid), _) => invalid.into(),
            (Ok(()), FollowerLife::Following) => {
                AppendError::ReadOnly { detail: DETAIL.to_owned() }
            }
            (Ok(()), _) => AppendError::Closed,
        }))
    }

    fn read(&self, read: Read) -> Pending<Page, ReadError> {
        self.reading(|log| log.read(read))
    }

    fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError> {
        self.reading(|log| log.answered(id))
    }

    fn checkpoint(
        &self,
        consumer: Label,
        source: StoreId,
        partition: Partition,
    ) -> Pending<Option<Checkpoint>, ReadError> {
        self.reading(|log| log.checkpoint(consumer, source, partition))
    }

    fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError> {
        self.reading(|log| log.position_at(moment))
    }

    fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> {
        self.reading(|log| log.appends(from, page_bytes))
    }

    fn history(&self, from: HistoryFrom, page_bytes: u32) -> Pending<HistoryPage, ReadError> {
        self.reading(|log| log.history(from, page_bytes))
    }

    fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError> {
        self.reading(|log| log.hash_at(position))
    }

    fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> {
        self.reading(|log| log.positions_of(id, at_most))
    }

    fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError> {
        self.reading(|log| log.snapshot(key))
    }

    /// Keeps nothing: the files of the index are the writer's.
    fn keep_snapshot(&self, _key: Bytes, _value: Bytes) {}

    fn lease(&self, _request: LeaseRequest) -> Pending<Leased, LeaseError> {
        self.refused()
    }

    fn release(&self, _lease: Lease) -> Pending<(), LeaseError> {
        self.refused()
    }

    fn now(&self) -> Pending<Timestamp, ReadError> {
        self.reading(|log| log.now())
    }

    fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        self.refused()
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    fn measure(&self, metrics: &mut Metrics) {
        self.shared.opened.read().unwrap_or_else(PoisonError::into_inner).measure(metrics);
    }

    fn close(&self) -> Pending<(), CloseError> {
        self.shared.end(FollowerLife::Closed);
        Pending::ready(Ok(()))
    }
}

impl Drop for FeedThread {
    fn drop(&mut self) {
        self.shared.end(FollowerLife::Closed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that followed the log panicked");
        }
    }
}
