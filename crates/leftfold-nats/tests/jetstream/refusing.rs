//! A store that takes nothing for a while.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use leftfold_core::store::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Backend, Checkpoint, CloseError,
    CommandId, EventId, Hash, HeldLease, Identity, Label, Lease, LeaseError, LeaseRequest, Leased,
    MemoryBackend, Outcome, Page, Partition, Pending, Position, Read, ReadError, Status, Store,
    StoreId, Timestamp,
};
use tokio::sync::{oneshot, watch};

/// Treatment of appends by the store.
#[derive(Default)]
pub(crate) enum Treatment {
    #[default]
    Takes,
    Refuses,
    /// They are not answered before this ends.
    Holds(Vec<oneshot::Sender<Result<Outcome, AppendError>>>),
}

/// A store in memory, and its treatment of appends.
#[derive(Default)]
pub(crate) struct RefusingStore {
    inner: MemoryBackend,
    treatment: Mutex<Treatment>,
}

impl RefusingStore {
    pub(crate) fn start() -> (Arc<RefusingStore>, Store) {
        let backend = Arc::new(RefusingStore::default());
        (backend.clone(), Store::shared(backend))
    }

    /// Appends that are held are answered: the store could not take them.
    pub(crate) fn set(&self, treatment: Treatment) {
        let before = std::mem::replace(&mut *self.treatment.lock().unwrap(), treatment);
        if let Treatment::Holds(held) = before {
            held.into_iter().for_each(|answer| _ = answer.send(Err(refused())));
        }
    }
}

fn refused() -> AppendError {
    AppendError::ReadOnly { detail: "the test said so".to_owned() }
}

impl Backend for RefusingStore {
    fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
        match &mut *self.treatment.lock().unwrap() {
            Treatment::Takes => self.inner.append(append),
            Treatment::Refuses => Pending::ready(Err(refused())),
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
        self.inner.lease(request)
    }
    fn release(&self, lease: Lease) -> Pending<(), LeaseError> {
        self.inner.release(lease)
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
