//! A store that takes no appends for a while.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use leftfold_core::store::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Backend, Checkpoint, CloseError,
    CommandId, EventId, Gone, Hash, HeldLease, Identity, Label, Lease, LeaseError, LeaseRequest,
    Leased, MemoryBackend, Outcome, Page, Partition, Pending, Position, Read, ReadError, Status,
    StoreId, Timestamp,
};
use tokio::sync::{oneshot, watch};

/// Treatment of appends by a [`RefusingStore`].
#[derive(Debug, Default)]
pub enum Treatment {
    /// They are taken.
    #[default]
    Takes,
    /// They are refused.
    Refuses,
    /// They are not answered; when the treatment becomes another, they are refused.
    Holds(Vec<oneshot::Sender<Result<Outcome, AppendError>>>),
    /// They are taken, and their answers are lost: they seem to be refused.
    Loses,
    /// Appends are refused, and what is asked about leases is done and not answered until the
    /// treatment becomes another.
    Hangs(Vec<oneshot::Sender<()>>),
}

/// A store in memory that takes no appends while it is told so: for tests of what waits for a
/// store.
#[derive(Debug)]
pub struct RefusingStore {
    inner: MemoryBackend,
    refusal: AppendError,
    treatment: Mutex<Treatment>,
    leases: AtomicUsize,
}

impl RefusingStore {
    /// An empty store that takes appends, and the error with which it refuses them later.
    #[must_use]
    pub fn new(refusal: AppendError) -> Arc<Self> {
        let (inner, treatment) = (MemoryBackend::new(), Mutex::default());
        Arc::new(Self { inner, refusal, treatment, leases: AtomicUsize::new(0) })
    }

    /// Changes the treatment of appends. Those that were held are refused.
    pub fn set(&self, treatment: Treatment) {
        let mut present = self.treatment.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *present, treatment) {
            Treatment::Holds(held) => {
                held.into_iter().for_each(|answer| _ = answer.send(Err(self.refusal.clone())));
            }
            Treatment::Hangs(held) => held.into_iter().for_each(|answer| _ = answer.send(())),
            Treatment::Takes | Treatment::Refuses | Treatment::Loses => {}
        }
    }

    /// Number of times that a lease was asked for.
    pub fn leases_asked(&self) -> usize {
        self.leases.load(Ordering::Relaxed)
    }

    /// Answers about a lease when the treatment allows it.
    fn answered_later<T, E>(&self, answer: Pending<T, E>) -> Pending<T, E>
    where
        T: Send + 'static,
        E: From<Gone> + Send + 'static,
    {
        match &mut *self.treatment.lock().unwrap_or_else(PoisonError::into_inner) {
            Treatment::Hangs(held) => {
                let (goes_on, waiting) = oneshot::channel();
                held.push(goes_on);
                let (sender, answered) = oneshot::channel();
                tokio::spawn(async move {
                    let _ = waiting.await;
                    let _ = sender.send(answer.await);
                });
                Pending::waiting(answered)
            }
            _ => answer,
        }
    }
}

impl Backend for RefusingStore {
    fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
        match &mut *self.treatment.lock().unwrap_or_else(PoisonError::into_inner) {
            Treatment::Takes => self.inner.append(append),
            Treatment::Refuses | Treatment::Hangs(_) => Pending::ready(Err(self.refusal.clone())),
            Treatment::Loses => {
                drop(self.inner.append(append));
                Pending::ready(Err(self.refusal.clone()))
            }
            Treatment::Holds(held) => {
                let (answer, answered) = oneshot::channel();
                held.push(answer);
                Pending::waiting(answered)
            }
        }
    }

    fn identity(&self) -> Identity {
        self.inner.identity()
    }

    fn read(&self, read: Read) -> Pending<Page, ReadError> {
        self.inner.read(read)
    }

    fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError> {
        self.inner.answered(id)
    }

    fn checkpoint(
        &self,
        consumer: Label,
        source: StoreId,
        partition: Partition,
    ) -> Pending<Option<Checkpoint>, ReadError> {
        self.inner.checkpoint(consumer, source, partition)
    }

    fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError> {
        self.inner.position_at(moment)
    }

    fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> {
        self.inner.appends(from, page_bytes)
    }

    fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError> {
        self.inner.hash_at(position)
    }

    fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> {
        self.inner.positions_of(id, at_most)
    }

    fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError> {
        self.inner.snapshot(key)
    }

    fn keep_snapshot(&self, key: Bytes, value: Bytes) {
        self.inner.keep_snapshot(key, value);
    }

    fn lease(&self, request: LeaseRequest) -> Pending<Leased, LeaseError> {
        self.leases.fetch_add(1, Ordering::Relaxed);
        self.answered_later(self.inner.lease(request))
    }

    fn release(&self, lease: Lease) -> Pending<(), LeaseError> {
        self.answered_later(self.inner.release(lease))
    }

    fn now(&self) -> Pending<Timestamp, ReadError> {
        self.inner.now()
    }

    fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        self.inner.leases()
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.inner.status()
    }

    fn close(&self) -> Pending<(), CloseError> {
        self.inner.close()
    }
}
