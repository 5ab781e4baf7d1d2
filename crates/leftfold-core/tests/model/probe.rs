//! A memory store that several handles share, that can be watched, and that rivals can be let into
//! at a chosen moment.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use leftfold_core::store::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Backend, Checkpoint, CloseError,
    CommandId, Conflict, EventId, Expected, Hash, HeldLease, Identity, Label, Lease, LeaseError,
    LeaseRequest, Leased, MemoryBackend, Outcome, Page, Partition, Pending, Position, Read,
    ReadError, Status, Store, StoreId, StreamName, Timestamp, Version, What,
};
use tokio::sync::{oneshot, watch};

type Answer = Result<Outcome, AppendError>;

enum Rival {
    Once(Box<dyn FnOnce(&MemoryBackend) + Send>),
    Always(Arc<dyn Fn(&MemoryBackend) + Send + Sync>),
}

/// One memory store. Every [`Probe::store`] is a handle of its own, with a cache of its own: as if
/// of another process.
#[derive(Clone, Default)]
pub(crate) struct Probe(Arc<Inner>);

#[derive(Default)]
struct Inner {
    memory: Mutex<Arc<MemoryBackend>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Something that happens just before the next append, or before each.
    rival: Option<Rival>,
    refuses_conditions: bool,
    /// Positions that are not shown, from here on.
    hidden_from: Option<Position>,
    /// Error that the next append fails with.
    failure: Option<AppendError>,
    /// Set if answers come a little later than they are asked for.
    takes_time: bool,
    /// Answers of reads that are withheld, once that was asked for.
    withheld_reads: Option<Vec<Box<dyn FnOnce() + Send>>>,
    /// Answers that are withheld, once that was asked for.
    withheld: Option<Vec<(oneshot::Sender<Answer>, Answer)>>,
    /// The first version of each read of a stream.
    reads_from: Vec<Version>,
    appends: usize,
    snapshots: Vec<(Bytes, Bytes)>,
}

impl Probe {
    /// A fresh handle.
    pub(crate) fn store(&self) -> Store {
        Store::new(self.clone())
    }

    /// Lets somebody in just before the next append.
    pub(crate) fn rival(&self, rival: impl FnOnce(&MemoryBackend) + Send + 'static) {
        self.state().rival = Some(Rival::Once(Box::new(rival)));
    }

    /// Lets somebody in just before every append from now on.
    pub(crate) fn rival_for_ever(&self, rival: impl Fn(&MemoryBackend) + Send + Sync + 'static) {
        self.state().rival = Some(Rival::Always(Arc::new(rival)));
    }

    /// From now on every append under a condition conflicts, or no longer.
    pub(crate) fn refuse_conditions(&self, refuse: bool) {
        self.state().refuses_conditions = refuse;
    }

    /// From now on reads end before a position, or no longer: as of a store that is behind.
    pub(crate) fn hide_from(&self, position: Option<Position>) {
        self.state().hidden_from = position;
    }

    /// From now on appends happen, but their answers wait for [`Probe::answer`].
    pub(crate) fn withhold(&self) {
        self.state().withheld = Some(Vec::new());
    }

    /// From now on the answers of reads wait for [`Probe::answer`].
    pub(crate) fn withhold_reads(&self) {
        self.state().withheld_reads = Some(Vec::new());
    }

    /// From now on answers come a little later than they are asked for, as those of a disk do.
    pub(crate) fn take_time(&self) {
        self.state().takes_time = true;
    }

    /// Fails the next append, which does nothing.
    pub(crate) fn fail_next(&self, error: AppendError) {
        self.state().failure = Some(error);
    }

    /// Puts another store in place, as if an older copy was restored.
    pub(crate) fn replace(&self, memory: MemoryBackend) {
        *self.0.memory.lock().unwrap() = Arc::new(memory);
    }

    pub(crate) fn memory(&self) -> Arc<MemoryBackend> {
        self.0.memory.lock().unwrap().clone()
    }

    /// Gives the answer now, or when it is due.
    fn reading<T: Send + 'static>(&self, pending: Pending<T, ReadError>) -> Pending<T, ReadError>
    where
        Pending<T, ReadError>: Future<Output = Result<T, ReadError>>,
    {
        let mut state = self.state();
        let (late, withheld) = (state.takes_time, state.withheld_reads.as_mut());
        let Some(withheld) = withheld else {
            return if late { later(now(pending)) } else { pending };
        };
        let (sender, receiver) = oneshot::channel();
        let answer = now(pending);
        withheld.push(Box::new(move || _ = sender.send(answer)));
        Pending::waiting(receiver)
    }

    /// Gives the answers that were withheld, to anyone who still waits.
    pub(crate) fn answer(&self) {
        let reads = self.state().withheld_reads.take();
        reads.into_iter().flatten().for_each(|answer| answer());
        let withheld = self.state().withheld.take();
        for (sender, answer) in withheld.into_iter().flatten() {
            let _ = sender.send(answer);
        }
    }

    /// The first versions of the reads of streams since this was asked last.
    pub(crate) fn reads_from(&self) -> Vec<Version> {
        std::mem::take(&mut self.state().reads_from)
    }

    pub(crate) fn appends(&self) -> usize {
        self.state().appends
    }

    /// The snapshots that were kept, the oldest first.
    pub(crate) fn snapshots(&self) -> Vec<(Bytes, Bytes)> {
        self.state().snapshots.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }
}

/// The answer of a memory store is always there.
pub(crate) fn now<T, E>(mut pending: Pending<T, E>) -> Result<T, E>
where
    Pending<T, E>: Future<Output = Result<T, E>>,
{
    match Pin::new(&mut pending).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("a memory store answers at once"),
    }
}

/// An answer that comes when others had their turn.
fn later<T: Send + 'static, E: Send + 'static>(answer: Result<T, E>) -> Pending<T, E> {
    let (sender, receiver) = oneshot::channel();
    tokio::spawn(async move {
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        _ = sender.send(answer);
    });
    Pending::waiting(receiver)
}

impl Backend for Probe {
    fn identity(&self) -> Identity {
        self.memory().identity()
    }

    fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
        let rival = self.state().rival.take();
        match rival {
            None => {}
            Some(Rival::Once(rival)) => rival(&self.memory()),
            Some(Rival::Always(rival)) => {
                rival(&self.memory());
                self.state().rival = Some(Rival::Always(rival));
            }
        }
        let mut state = self.state();
        state.appends += 1;
        if let Some(failure) = state.failure.take() {
            return Pending::ready(Err(failure));
        }
        if state.refuses_conditions && !append.condition.is_none() {
            let stream = StreamName::new("other-1").unwrap();
            let conflict =
                Conflict::Stream { stream, expected: Expected::Absent, actual: Version(1) };
            return Pending::ready(Ok(Outcome::Conflict(conflict)));
        }
        let answer = now(self.memory().append(append));
        let late = state.takes_time;
        let Some(withheld) = &mut state.withheld else {
            return if late { later(answer) } else { Pending::ready(answer) };
        };
        let (sender, receiver) = oneshot::channel();
        withheld.push((sender, answer));
        Pending::waiting(receiver)
    }

    fn read(&self, read: Read) -> Pending<Page, ReadError> {
        if let What::Stream { from, .. } = &read.what {
            self.state().reads_from.push(*from);
        }
        let hidden_from = self.state().hidden_from;
        let read = now(self.memory().read(read));
        self.reading(Pending::ready(read.map(|mut page| {
            if let Some(hidden) = hidden_from {
                page.events.retain(|event| event.position < hidden);
                page.next = None;
            }
            page
        })))
    }

    fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError> {
        self.reading(self.memory().answered(id))
    }

    fn checkpoint(
        &self,
        consumer: Label,
        source: StoreId,
        partition: Partition,
    ) -> Pending<Option<Checkpoint>, ReadError> {
        self.memory().checkpoint(consumer, source, partition)
    }

    fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError> {
        self.memory().position_at(moment)
    }

    fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> {
        self.memory().appends(from, page_bytes)
    }

    fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError> {
        self.memory().hash_at(position)
    }

    fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> {
        self.memory().positions_of(id, at_most)
    }

    fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError> {
        self.memory().snapshot(key)
    }

    fn keep_snapshot(&self, key: Bytes, value: Bytes) {
        self.state().snapshots.push((key.clone(), value.clone()));
        self.memory().keep_snapshot(key, value);
    }

    fn lease(&self, request: LeaseRequest) -> Pending<Leased, LeaseError> {
        self.memory().lease(request)
    }

    fn release(&self, lease: Lease) -> Pending<(), LeaseError> {
        self.memory().release(lease)
    }

    fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        self.memory().leases()
    }

    fn now(&self) -> Pending<Timestamp, ReadError> {
        self.memory().now()
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.memory().status()
    }

    fn close(&self) -> Pending<(), CloseError> {
        self.memory().close()
    }
}
