//! A store that counts the pages that are read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use leftfold::store::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Backend, Checkpoint, CloseError,
    CommandId, EventId, Hash, HeldLease, Identity, Label, Lease, LeaseError, LeaseRequest, Leased,
    MemoryBackend, Outcome, Page, Partition, Pending, Position, Read, ReadError, Status, StoreId,
    Timestamp,
};
use tokio::sync::watch;

/// A store in memory, and the number of pages that were read from it.
pub(super) struct CountedPages {
    inner: MemoryBackend,
    pages: AtomicU64,
}

impl CountedPages {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { inner: MemoryBackend::new(), pages: AtomicU64::new(0) })
    }

    pub(super) fn pages(&self) -> u64 {
        self.pages.load(Ordering::Relaxed)
    }
}

impl Backend for CountedPages {
    fn read(&self, read: Read) -> Pending<Page, ReadError> {
        self.pages.fetch_add(1, Ordering::Relaxed);
        self.inner.read(read)
    }

    fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
        self.inner.append(append)
    }

    fn identity(&self) -> Identity {
        self.inner.identity()
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

    fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        self.inner.leases()
    }

    fn now(&self) -> Pending<Timestamp, ReadError> {
        self.inner.now()
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.inner.status()
    }

    fn close(&self) -> Pending<(), CloseError> {
        self.inner.close()
    }
}
