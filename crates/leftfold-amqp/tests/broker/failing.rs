//! A store that refuses appends, or does not answer them, until it is told to go on.
#![allow(unreachable_pub, reason = "a module of one test binary")]

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use leftfold_core::store::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Backend, Checkpoint, CloseError,
    CommandId, EventId, Hash, HeldLease, Identity, Label, Lease, LeaseError, LeaseRequest, Leased,
    MemoryBackend, Outcome, Page, Partition, Pending, Position, Read, ReadError, Status, StoreId,
    Timestamp,
};
use tokio::sync::{oneshot, watch};

pub struct FailingStore {
    inner: MemoryBackend,
    mood: Mutex<StoreMood>,
    hanging: Mutex<Vec<oneshot::Sender<Result<Outcome, AppendError>>>>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum StoreMood {
    Well,
    Refuses,
    Hangs,
}

impl FailingStore {
    pub fn new(mood: StoreMood) -> Arc<Self> {
        let (inner, hanging) = (MemoryBackend::new(), Mutex::default());
        Arc::new(Self { inner, mood: Mutex::new(mood), hanging })
    }

    /// Goes on. Appends that hang are refused.
    pub fn recover(&self) {
        *self.mood.lock().unwrap() = StoreMood::Well;
        for answer in self.hanging.lock().unwrap().drain(..) {
            let _ = answer.send(refused());
        }
    }
}

fn refused() -> Result<Outcome, AppendError> {
    Err(AppendError::Unavailable { detail: "the database is away".to_owned() })
}

impl Backend for FailingStore {
    fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
        match *self.mood.lock().unwrap() {
            StoreMood::Well => self.inner.append(append),
            StoreMood::Refuses => Pending::ready(refused()),
            StoreMood::Hangs => {
                let (answer, pending) = oneshot::channel();
                self.hanging.lock().unwrap().push(answer);
                Pending::waiting(pending)
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
