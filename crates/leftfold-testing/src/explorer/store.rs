//! The store of a simulation: what is asked of it waits until the schedule lets it be carried out.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use leftfold_core::drive::memory_at;
use leftfold_core::store::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Backend, Checkpoint, CloseError,
    CommandId, EventId, EventType, Hash, HeldLease, Identity, Label, Lease, LeaseError,
    LeaseRequest, Leased, MemoryBackend, Outcome, Page, Partition, Pending, Position, Read,
    ReadError, Status, StoreId, StreamName, Timestamp,
};
use tokio::sync::{oneshot, watch};

use super::schedule::OperationKind;

/// One store, and all that was asked of it and of the world outside.
pub(super) struct SharedSimulation {
    pub(super) memory: MemoryBackend,
    queue: Mutex<Vec<PendingOperation>>,
    /// Task that runs now, and so asks.
    running: AtomicUsize,
}

/// Something that was asked for and is not carried out yet.
pub(super) struct PendingOperation {
    /// Task that asked.
    pub(super) by: usize,
    pub(super) about: OperationSubject,
    /// In how many ways it can be carried out; the first is the usual one.
    pub(super) ways: u8,
    /// It is late: everything else goes first.
    pub(super) held: bool,
    carry_out: OperationFn,
}

/// Does it, in one of its ways, and answers.
type OperationFn = Box<dyn FnOnce(&MemoryBackend, u8) + Send>;

/// Subject of an operation.
#[derive(Clone, Debug)]
pub(super) enum OperationSubject {
    Reading,
    Append(Vec<(Option<StreamName>, EventType)>),
    Lease,
    /// The world outside is touched, or looked at.
    Outside(String),
}

impl OperationSubject {
    pub(super) fn kind(&self) -> OperationKind {
        match self {
            Self::Reading | Self::Lease => OperationKind::Looks,
            Self::Append(_) => OperationKind::Appends,
            Self::Outside(_) => OperationKind::Outside,
        }
    }

    /// The operation in words; `None` if it only reads.
    pub(super) fn words(&self) -> String {
        match self {
            Self::Reading | Self::Lease => String::new(),
            Self::Append(events) if events.is_empty() => {
                "a checkpoint, or the answer to a command".to_owned()
            }
            Self::Append(events) => {
                let name = |(stream, event): &(Option<StreamName>, EventType)| {
                    let stream =
                        stream.as_deref().unwrap_or_default().trim_start_matches("$process:");
                    format!("{stream}: {}", event.rsplit('.').next().unwrap_or_default())
                };
                events.iter().map(name).collect::<Vec<_>>().join(" and ")
            }
            Self::Outside(what) => what.clone(),
        }
    }
}

impl SharedSimulation {
    pub(super) fn new(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Arc<Self> {
        let memory = memory_at(now);
        Arc::new(Self { memory, queue: Mutex::default(), running: AtomicUsize::new(usize::MAX) })
    }

    /// Takes this task as the one that asks from now on.
    pub(super) fn runs(&self, task: usize) {
        self.running.store(task, Ordering::Relaxed);
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Vec<PendingOperation>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an operation; the future has its answer, or an error if it was lost.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        about: OperationSubject,
        ways: u8,
        carry_out: impl FnOnce(&MemoryBackend, u8) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (answer, answered) = oneshot::channel();
        let carry_out = Box::new(move |memory: &MemoryBackend, way| {
            // The caller may be gone; it is carried out all the same.
            let _ = answer.send(carry_out(memory, way));
        });
        let by = self.running.load(Ordering::Relaxed);
        self.queue().push(PendingOperation { by, about, ways, held: false, carry_out });
        answered
    }
}

impl PendingOperation {
    pub(super) fn carry_out(self, memory: &MemoryBackend, way: u8) {
        (self.carry_out)(memory, way.min(self.ways.saturating_sub(1)));
    }
}

/// The store as the application sees it.
pub(super) struct SimulatedStore {
    pub(super) shared: Arc<SharedSimulation>,
    pub(super) spoil: Option<fn(&mut Append)>,
}

impl SimulatedStore {
    fn later<T: Send + 'static, E: Send + 'static>(
        &self,
        about: OperationSubject,
        ways: u8,
        carry_out: impl FnOnce(&MemoryBackend, u8) -> Pending<T, E> + Send + 'static,
    ) -> Pending<T, E>
    where
        Pending<T, E>: Future<Output = Result<T, E>>,
    {
        let carry_out = move |memory: &MemoryBackend, way| {
            // The memory backend has every answer at once.
            carry_out(memory, way).now_or_never().expect("a store in memory answers at once")
        };
        Pending::waiting(self.shared.ask(about, ways, carry_out))
    }
}

impl Backend for SimulatedStore {
    fn identity(&self) -> Identity {
        self.shared.memory.identity()
    }

    fn append(&self, mut append: Append) -> Pending<Outcome, AppendError> {
        self.spoil.iter().for_each(|spoil| spoil(&mut append));
        let about = append
            .events
            .iter()
            .map(|event| (event.stream.clone(), event.event_type.clone()))
            .collect();
        self.later(OperationSubject::Append(about), 2, |memory, way| match way {
            0 => memory.append(append),
            _ => Pending::ready(Err(AppendError::Busy { waiting: 1 << 20 })),
        })
    }

    fn read(&self, read: Read) -> Pending<Page, ReadError> {
        let ways = 1 + u8::from(read.page_events > 1);
        self.later(OperationSubject::Reading, ways, |memory, way| match way {
            0 => memory.read(read),
            // A page may end anywhere.
            _ => memory.read(read.page_of(1)),
        })
    }

    fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError> {
        self.later(OperationSubject::Reading, 1, move |memory, _| memory.answered(id))
    }

    fn checkpoint(
        &self,
        consumer: Label,
        source: StoreId,
        partition: Partition,
    ) -> Pending<Option<Checkpoint>, ReadError> {
        self.later(OperationSubject::Reading, 1, move |memory, _| {
            memory.checkpoint(consumer, source, partition)
        })
    }

    fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError> {
        self.later(OperationSubject::Reading, 1, move |memory, _| memory.position_at(moment))
    }

    fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> {
        self.later(OperationSubject::Reading, 1, move |memory, _| memory.appends(from, page_bytes))
    }

    fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError> {
        self.later(OperationSubject::Reading, 1, move |memory, _| memory.hash_at(position))
    }

    fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> {
        self.later(OperationSubject::Reading, 1, move |memory, _| memory.positions_of(id, at_most))
    }

    fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError> {
        self.later(OperationSubject::Reading, 1, move |memory, _| memory.snapshot(key))
    }

    fn keep_snapshot(&self, key: Bytes, value: Bytes) {
        self.shared.memory.keep_snapshot(key, value);
    }

    fn lease(&self, request: LeaseRequest) -> Pending<Leased, LeaseError> {
        self.later(OperationSubject::Lease, 1, move |memory, _| memory.lease(request))
    }

    fn release(&self, lease: Lease) -> Pending<(), LeaseError> {
        self.later(OperationSubject::Lease, 1, move |memory, _| memory.release(lease))
    }

    fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        self.later(OperationSubject::Lease, 1, |memory, _| memory.leases())
    }

    fn now(&self) -> Pending<Timestamp, ReadError> {
        self.later(OperationSubject::Reading, 1, |memory, _| memory.now())
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.shared.memory.status()
    }

    fn close(&self) -> Pending<(), CloseError> {
        self.shared.memory.close()
    }
}
