//! The contract that every store fulfils. The memory backend is the template for one; the
//! conformance suite judges it.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Checkpoint, CommandId, EventFeed,
    EventId, Gone, Hash, HeldLease, HistoryFrom, HistoryPage, Label, Lease, LeaseError,
    LeaseRequest, Leased, Metrics, Outcome, Page, Partition, Pending, Position, Query, Read,
    ReadError, Status, StoreId, Timestamp,
};

/// A durable, totally ordered store of events.
///
/// Every method returns at once; the work happens behind the [`Pending`]. A request that was handed
/// over is carried out whether or not its future is polled or dropped.
///
/// Promises that every backend keeps:
/// - What is acknowledged is durable. Every answer of `append`, a conflict too, waits until what it
///   saw is durable.
/// - A condition is checked against everything ordered before the append.
/// - The command id is looked at first. One id takes effect once.
/// - The fence is looked at next, the condition after it: a holder that lost its work is told so,
///   not sent to decide again.
/// - Requests that wait for the disk are bounded, in bytes of all that they hold; beyond that the
///   answer is [`AppendError::Busy`] or [`ReadError::Busy`].
/// - An append writes only what its [authority](super::Authority) allows; [`Append::validate`]
///   tells.
/// - Positions are gapless from 1 in the order of appends; a read sees a prefix of what is durable.
/// - Recorded times increase strictly from group to group.
///
/// A backend may stand before another one. This one counts the appends that it hands on; the
/// methods that are not shown are handed on as `read` is. A new backend begins with a copy of
/// [`MemoryBackend`](super::MemoryBackend), and is judged by the conformance suite of
/// `leftfold-testing`.
///
/// ```
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// # use bytes::Bytes;
/// use leftfold_core::store::*;
/// # use tokio::sync::watch;
///
/// struct Counting<B> {
///     inner: B,
///     appends: AtomicU64,
/// }
///
/// impl<B: Backend> Backend for Counting<B> {
///     fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
///         self.appends.fetch_add(1, Ordering::Relaxed);
///         self.inner.append(append)
///     }
///
///     fn read(&self, read: Read) -> Pending<Page, ReadError> {
///         self.inner.read(read)
///     }
///     # fn identity(&self) -> Identity { self.inner.identity() }
///     # fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError> {
///     #     self.inner.answered(id)
///     # }
///     # fn checkpoint(
///     #     &self, consumer: Label, source: StoreId, partition: Partition,
///     # ) -> Pending<Option<Checkpoint>, ReadError> {
///     #     self.inner.checkpoint(consumer, source, partition)
///     # }
///     # fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError> {
///     #     self.inner.position_at(moment)
///     # }
///     # fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> {
///     #     self.inner.appends(from, page_bytes)
///     # }
///     # fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError> {
///     #     self.inner.hash_at(position)
///     # }
///     # fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> {
///     #     self.inner.positions_of(id, at_most)
///     # }
///     # fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError> {
///     #     self.inner.snapshot(key)
///     # }
///     # fn keep_snapshot(&self, key: Bytes, value: Bytes) { self.inner.keep_snapshot(key, value) }
///     # fn lease(&self, request: LeaseRequest) -> Pending<Leased, LeaseError> {
///     #     self.inner.lease(request)
///     # }
///     # fn release(&self, lease: Lease) -> Pending<(), LeaseError> { self.inner.release(lease) }
///     # fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> { self.inner.leases() }
///     # fn now(&self) -> Pending<Timestamp, ReadError> { self.inner.now() }
///     # fn status(&self) -> watch::Receiver<Status> { self.inner.status() }
///     # fn close(&self) -> Pending<(), CloseError> { self.inner.close() }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let inner = MemoryBackend::new();
/// let counting = Arc::new(Counting { inner, appends: AtomicU64::new(0) });
/// let store = Store::shared(counting.clone());
/// let sold = NewEvent::new(EventType::new("shop.Sold")?, "{}");
/// store.append(Append::of(vec![sold])).await?;
/// assert_eq!(counting.appends.load(Ordering::Relaxed), 1);
/// # Ok(()) }
/// ```
pub trait Backend: Send + Sync + 'static {
    /// Returns the identity of the store.
    fn identity(&self) -> Identity;

    /// Appends, if the condition holds and the command id is new.
    fn append(&self, append: Append) -> Pending<Outcome, AppendError>;

    /// Reads one page.
    fn read(&self, read: Read) -> Pending<Page, ReadError>;

    /// Looks up the record of a request; `None` if the id is not known.
    fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError>;

    /// Looks up the checkpoint of a consumer in a partition of a source store; `None` if it has
    /// none.
    fn checkpoint(
        &self,
        consumer: Label,
        source: StoreId,
        partition: Partition,
    ) -> Pending<Option<Checkpoint>, ReadError>;

    /// Returns the last position recorded at or before the moment, [`Position::START`] if there is
    /// none. The answer for a moment before the head's time never changes.
    fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError>;

    /// Reads whole appends with their records, in order, at most about `page_bytes` bytes a page;
    /// one append is always returned, however large, and none is ever split. A copy of the store is
    /// made from them.
    fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError>;

    /// Returns the hash of the group that recorded the position: [`Hash::EMPTY`] at the start,
    /// `None` beyond the head.
    fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError>;

    /// Reads the bytes that the chain of hashes covers, link by link, at most about `page_bytes` a
    /// page; a link that is larger comes in parts. The chain that is computed from them ends with
    /// [`Head::chain`](super::Head::chain), and has the hash of each position at the link that
    /// holds it: so who keeps a hash elsewhere can tell by the bytes alone that a history is the
    /// same, and a copy is made of them.
    ///
    /// A backend without such a chain says so: [`ReadError::NoHistory`].
    fn history(&self, from: HistoryFrom, page_bytes: u32) -> Pending<HistoryPage, ReadError> {
        let _ = (from, page_bytes);
        Pending::ready(Err(ReadError::NoHistory))
    }

    /// Returns the positions of the events that callers brought with this id, at most `at_most`,
    /// the oldest first. Minted ids are not found.
    fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError>;

    /// Looks up a cached value, as last kept. It may be gone at any time, and is gone when the
    /// store is rebuilt.
    fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError>;

    /// Keeps a cached value, at some time soon and without a promise. One beyond its limit is not
    /// kept.
    fn keep_snapshot(&self, key: Bytes, value: Bytes);

    /// Gives some work to a holder for the given time from now if nobody else has it, and renews
    /// the lease, under the same fence, of the holder that has it. The note of the request takes
    /// the place of the one before; it need not outlive an opening of the store.
    ///
    /// Every new tenure has a greater fence than all before it, those of earlier openings included.
    /// From the moment that it is given, an append under another fence of that work is refused. The
    /// lease is answered when everything that went in before is durable, so the holder then reads
    /// all that was ever done under earlier fences.
    ///
    /// A lease lasts as long as the backend's clock says. The clock decides only how long work
    /// stands still whose holder is gone, and how often the work changes hands without need, never
    /// safety: if it runs too fast, or jumps, two holders believe that they have the work, and the
    /// fence refuses the earlier one.
    ///
    /// The time is at most [`LEASE_SECONDS_MAX`](super::limits::LEASE_SECONDS_MAX) seconds, and at
    /// most [`LEASES_MAX`](super::limits::LEASES_MAX) leases are held at once. A lease that
    /// has been over for [`LEASE_REMEMBERED_SECONDS`](super::limits::LEASE_REMEMBERED_SECONDS) is
    /// forgotten, at the latest five minutes later when some work is given, and before only to make
    /// room: [`Leases`](super::Leases) has the rules.
    fn lease(&self, request: LeaseRequest) -> Pending<Leased, LeaseError>;

    /// Gives the work back, so that the next holder need not wait. Giving back a lease that is not
    /// the latest of its work changes nothing. An append under the lease that is not answered yet
    /// may then be refused.
    fn release(&self, lease: Lease) -> Pending<(), LeaseError>;

    /// Lists the leases that are held now, with their notes, in the order of the bytes of the names
    /// of their works: every one whose giving was answered before, none that was given back or is
    /// over. Each runtime asks about once a second.
    ///
    /// At most [`LEASES_MAX`](super::limits::LEASES_MAX) leases with notes of
    /// [`LEASE_NOTE_BYTES_MAX`](super::limits::LEASE_NOTE_BYTES_MAX) bytes.
    fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError>;

    /// Returns the time of the clock by which appends are recorded, as it was at some moment
    /// between the call and the answer. All handles of one store have one clock, in whichever
    /// process they are: runtimes follow it, and ask about every two seconds.
    ///
    /// The clock may be set back. Recorded times then go on increasing, in the smallest steps, and
    /// are ahead of it until it has come there.
    fn now(&self) -> Pending<Timestamp, ReadError>;

    /// Returns the durable end and whether the store takes appends, and every later change of it:
    /// live subscriptions wait on this. What this handle appended is in it before the answer;
    /// what another process appended comes a moment later, while a read sees it at once. A store
    /// beyond a network that does not answer says [`State::Away`](super::State::Away) after a few
    /// seconds, with the end that was seen last, and whoever waits goes on waiting: only the last
    /// status says [`State::Closed`](super::State::Closed).
    fn status(&self) -> watch::Receiver<Status>;

    /// Follows the events that match from just after a position, if the backend has a way to bring
    /// them that is faster than to be asked for page after page; `None` if it has none.
    fn feed(&self, query: &Query, after: Position) -> Option<EventFeed> {
        let _ = (query, after);
        None
    }

    /// Returns the time after which an append of another process that stands still in the middle of
    /// it is ended, so that others can write; zero if no other process writes. A runtime whose
    /// leases are not longer than twice this time does not start: its work would change hands while
    /// nobody can write.
    fn writer_ended_within(&self) -> Duration {
        Duration::ZERO
    }

    /// Adds the figures of the backend, if it has any: its appends, its queue, its disk. It waits
    /// for nothing.
    fn measure(&self, metrics: &mut Metrics) {
        let _ = metrics;
    }

    /// Ends the store: what was handed over before is answered first. Idempotent.
    fn close(&self) -> Pending<(), CloseError>;
}

/// Identity of a store and of its current life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Drawn when the store was created.
    pub store: StoreId,
    /// Current life of the store.
    pub epoch: Epoch,
}

/// A life of a store. The first one begins with the store, a new one when someone declares that the
/// store was restored from a copy: what the outside world saw after that copy was made is unknown
/// to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Drawn when it began: two restores of one copy are two lives.
    pub id: Uuid,
    /// 1 for a store that was never restored.
    pub number: u32,
    /// The durable end when the epoch began: everything up to here is of an earlier life.
    pub began_after: Position,
}

impl Epoch {
    /// A first life.
    #[must_use]
    pub fn first() -> Self {
        Self { id: Uuid::new_v4(), number: 1, began_after: Position::START }
    }
}

/// Error of a close that was not clean. The store is closed all the same, and will recover when
/// opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store could not be closed cleanly, it will recover when it is opened: {detail}")]
pub struct CloseError {
    /// Reason, for people.
    pub detail: String,
}

impl From<Gone> for CloseError {
    fn from(_: Gone) -> Self {
        Self { detail: "the writer ended without an answer".to_owned() }
    }
}
