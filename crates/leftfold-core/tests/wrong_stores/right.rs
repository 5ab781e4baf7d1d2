//! A store in memory that can be opened again, whose every answer a test can spoil.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use leftfold_core::drive::memory_at;
use leftfold_core::store::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Backend, Checkpoint, CheckpointRecord,
    CloseError, CommandId, Condition, Conflict, EventId, Hash, HeldLease, HistoryFrom, HistoryPage,
    Identity, Label, Lease, LeaseError, LeaseRequest, Leased, MemoryBackend, MoveFrom, Outcome,
    Page, Partition, Pending, Position, Query, Read, ReadError, RecordedEvent, State, Status,
    Store, StoreId, StreamName, Timestamp, Version,
};
use leftfold_testing::conformance::{Factory, Failed, Faults, PassingTime, Reopens};
use tokio::sync::watch;

/// Place of a store: what outlives its handles.
pub(crate) struct Place {
    memory: Arc<MemoryBackend>,
    /// Microseconds by which its clock is ahead.
    ahead: Arc<AtomicI64>,
    disk: Arc<Disk>,
    pub(crate) openings: AtomicU32,
    wrong: Arc<Wrong>,
}

/// Faults that can be switched on.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    write: Countdown,
    read: Countdown,
}

#[derive(Debug, Default)]
struct Countdown(Mutex<(u32, bool)>);

impl Countdown {
    fn set(&self, nth: u32) {
        *self.0.lock().unwrap() = (nth, false);
    }

    /// Counts a use, and says if it fails.
    fn fails(&self) -> bool {
        let mut count = self.0.lock().unwrap();
        if count.0 == 0 {
            return false;
        }
        count.0 -= 1;
        count.1 |= count.0 == 0;
        count.0 == 0
    }

    fn take_back(&self) -> bool {
        std::mem::take(&mut *self.0.lock().unwrap()).1
    }
}

/// A clock that is ahead of the machine's.
struct Ahead(Arc<AtomicI64>);

impl Ahead {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(Timestamp::now().as_micros() + self.0.load(Ordering::SeqCst))
    }
}

impl PassingTime for Ahead {
    fn pass(&self, during: Duration) {
        let micros = i64::try_from(during.as_micros()).expect("hours are few microseconds");
        self.0.fetch_add(micros, Ordering::SeqCst);
    }
}

struct DiskFaults(Arc<Disk>);

impl Faults for DiskFaults {
    fn fail_write(&self, nth: u32) {
        self.0.write.set(nth);
    }

    fn fail_read(&self, nth: u32) {
        self.0.read.set(nth);
    }

    fn take_back(&self) -> Failed {
        if self.0.write.take_back() | self.0.read.take_back() { Failed::Yes } else { Failed::No }
    }
}

/// One opening of the memory behind a place, which does everything right.
pub(crate) struct Right {
    pub(crate) memory: Arc<MemoryBackend>,
    disk: Arc<Disk>,
    /// Number of the opening, from 0.
    pub(crate) opening: u32,
    /// The head when it was opened.
    pub(crate) began: Position,
    closed: AtomicBool,
    pub(crate) status: watch::Sender<Status>,
}

impl Right {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Tells how far the memory has come.
    fn publish(&self) {
        self.status.send_modify(|status| status.head = self.memory.status().borrow().head);
    }

    pub(crate) fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
        if self.is_closed() {
            return Pending::ready(Err(AppendError::Closed));
        }
        Pending::ready(self.carry_out(append))
    }

    /// Carries an append out on the memory, closed or not.
    pub(crate) fn carry_out(&self, append: Append) -> Result<Outcome, AppendError> {
        if self.write_fails() {
            return Err(AppendError::Unknown { detail: "the write failed".to_owned() });
        }
        let answer = now(self.memory.append(append));
        self.publish();
        answer
    }

    pub(crate) fn write_fails(&self) -> bool {
        self.disk.write.fails()
    }

    pub(crate) fn read_fails(&self) -> bool {
        self.disk.read.fails()
    }

    pub(crate) fn knows(&self, id: CommandId) -> Option<Answered> {
        now(self.memory.answered(id)).unwrap()
    }

    pub(crate) fn version(&self, name: &StreamName) -> Version {
        let page =
            now(self.memory.read(Read::stream(name.clone(), Version::END).page_of(0))).unwrap();
        page.stream_version.unwrap_or(Version::ABSENT)
    }

    pub(crate) fn stands(&self, record: &CheckpointRecord) -> Option<Position> {
        let (source, partition) = (record.checkpoint.store, record.checkpoint.partition.clone());
        now(self.memory.checkpoint(record.consumer.clone(), source, partition))
            .unwrap()
            .map(|at| at.position)
    }

    pub(crate) fn event_at(&self, position: Position) -> Option<RecordedEvent> {
        let page = now(self.memory.read(Read::matching(Query::everything(), position).page_of(1)))
            .unwrap();
        page.events.into_iter().find(|event| event.position == position)
    }

    /// The conflict that an append would meet.
    pub(crate) fn conflict(&self, condition: &Condition) -> Option<Conflict> {
        // A consumer that nobody has cannot stand here, so nothing goes in.
        let consumer = Label::new("nobody".to_owned()).unwrap();
        let position = Position::START;
        let checkpoint = Checkpoint {
            store: StoreId(uuid::Uuid::nil()),
            partition: Partition::default(),
            position,
            hash: Hash::EMPTY,
        };
        let record =
            CheckpointRecord { consumer, from: MoveFrom::Exactly(Position::END), checkpoint };
        let probe =
            Append { checkpoint: Some(record), ..Append::default() }.when(condition.clone());
        match now(self.memory.append(probe)) {
            Ok(Outcome::Conflict(conflict)) => Some(conflict),
            _ => None,
        }
    }

    pub(crate) fn reads<T>(
        &self,
        read: impl FnOnce(&MemoryBackend) -> Pending<T, ReadError>,
    ) -> Pending<T, ReadError> {
        if self.is_closed() { Pending::ready(Err(ReadError::Closed)) } else { read(&self.memory) }
    }

    pub(crate) fn read(&self, read: Read) -> Pending<Page, ReadError> {
        if self.disk.read.fails() {
            return Pending::ready(Err(ReadError::Io { detail: "the read failed".to_owned() }));
        }
        self.reads(|memory| memory.read(read))
    }

    fn asks<T>(
        &self,
        ask: impl FnOnce(&MemoryBackend) -> Pending<T, LeaseError>,
    ) -> Pending<T, LeaseError> {
        if self.is_closed() { Pending::ready(Err(LeaseError::Closed)) } else { ask(&self.memory) }
    }

    pub(crate) fn lease(&self, request: LeaseRequest) -> Pending<Leased, LeaseError> {
        self.asks(|memory| memory.lease(request))
    }

    pub(crate) fn release(&self, lease: Lease) -> Pending<(), LeaseError> {
        self.asks(|memory| memory.release(lease))
    }

    pub(crate) fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        self.asks(MemoryBackend::leases)
    }

    pub(crate) fn close(&self) -> Pending<(), CloseError> {
        self.closed.store(true, Ordering::SeqCst);
        self.status.send_modify(|status| status.state = State::Closed);
        Pending::ready(Ok(()))
    }

    /// Closes, and tells nobody.
    pub(crate) fn close_quietly(&self) -> Pending<(), CloseError> {
        self.closed.store(true, Ordering::SeqCst);
        Pending::ready(Ok(()))
    }

    pub(crate) fn head(&self) -> Position {
        self.memory.status().borrow().head.position
    }
}

macro_rules! spoilable {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty = $right:expr;)+) => {
        /// The calls of a store, each as a test wants it; without it, right.
        #[derive(Default)]
        pub(crate) struct Wrong {
            /// Way in which handles on one place know of each other.
            handles: Handles,
            $($name: Option<Box<dyn Fn(&Arc<Right>, $($type),*) -> $answer + Send + Sync>>,)+
        }

        impl Wrong {
            $(pub(crate) fn $name(
                mut self,
                call: impl Fn(&Arc<Right>, $($type),*) -> $answer + Send + Sync + 'static,
            ) -> Self {
                self.$name = Some(Box::new(call));
                self
            })+
        }

        impl Backend for Opening {
            $(fn $name(&self, $($argument: $type),*) -> $answer {
                let right: fn(&Arc<Right>, $($type),*) -> $answer = $right;
                match &self.wrong.$name {
                    Some(call) => call(&self.right, $($argument),*),
                    None => right(&self.right, $($argument),*),
                }
            })+

            fn status(&self) -> watch::Receiver<Status> {
                self.right.status.subscribe()
            }
        }
    };
}

/// A call without an answer.
type Nothing = ();

spoilable! {
    identity() -> Identity = |right| right.memory.identity();
    append(append: Append) -> Pending<Outcome, AppendError> = |right, append| right.append(append);
    read(read: Read) -> Pending<Page, ReadError> = |right, read| right.read(read);
    answered(id: CommandId) -> Pending<Option<Answered>, ReadError> =
        |right, id| right.reads(|memory| memory.answered(id));
    checkpoint(
        consumer: Label,
        source: StoreId,
        partition: Partition
    ) -> Pending<Option<Checkpoint>, ReadError> = |right, consumer, source, partition| {
        right.reads(|memory| memory.checkpoint(consumer, source, partition))
    };
    position_at(moment: Timestamp) -> Pending<Position, ReadError> =
        |right, moment| right.reads(|memory| memory.position_at(moment));
    appends(from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> =
        |right, from, page_bytes| right.reads(|memory| memory.appends(from, page_bytes));
    history(from: HistoryFrom, page_bytes: u32) -> Pending<HistoryPage, ReadError> =
        |right, from, page_bytes| right.reads(|memory| memory.history(from, page_bytes));
    hash_at(position: Position) -> Pending<Option<Hash>, ReadError> =
        |right, position| right.reads(|memory| memory.hash_at(position));
    positions_of(id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> =
        |right, id, at_most| right.reads(|memory| memory.positions_of(id, at_most));
    snapshot(key: Bytes) -> Pending<Option<Bytes>, ReadError> =
        |right, key| right.reads(|memory| memory.snapshot(key));
    keep_snapshot(key: Bytes, value: Bytes) -> Nothing =
        |right, key, value| right.memory.keep_snapshot(key, value);
    lease(request: LeaseRequest) -> Pending<Leased, LeaseError> =
        |right, request| right.lease(request);
    release(lease: Lease) -> Pending<(), LeaseError> = |right, lease| right.release(lease);
    leases() -> Pending<Vec<HeldLease>, LeaseError> = |right| right.leases();
    now() -> Pending<Timestamp, ReadError> = |right| right.reads(MemoryBackend::now);
    close() -> Pending<(), CloseError> = |right| right.close();
}

impl Wrong {
    pub(crate) fn with_handles_apart() -> Self {
        Self { handles: Handles::Apart, ..Self::default() }
    }
}

/// Way in which several handles on one place know of each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Handles {
    #[default]
    Together,
    /// Each tells the head that it has brought about itself.
    Apart,
}

/// A handle, with what is wrong about its store.
struct Opening {
    right: Arc<Right>,
    wrong: Arc<Wrong>,
}

/// Makes stores with something wrong about them, in places of their own.
pub(crate) struct Wrongs(pub(crate) fn() -> Wrong);

impl Wrongs {
    fn opened(place: &Place) -> Store {
        let opening = place.openings.fetch_add(1, Ordering::SeqCst);
        let head = place.memory.status().borrow().head;
        let status = watch::Sender::new(Status { head, state: State::Open });
        let (memory, disk) = (Arc::clone(&place.memory), Arc::clone(&place.disk));
        let right = Arc::new(Right {
            memory,
            disk,
            opening,
            began: head.position,
            closed: AtomicBool::new(false),
            status,
        });
        Store::new(Opening { right, wrong: Arc::clone(&place.wrong) })
    }
}

impl Factory for Wrongs {
    type Place = Place;
    const REOPENS: Reopens = Reopens::Yes;

    async fn place(&self) -> Place {
        let (ahead, disk, wrong) = (Arc::default(), Arc::default(), Arc::new((self.0)()));
        let time = Ahead(Arc::clone(&ahead));
        let memory = Arc::new(memory_at(move || time.now()));
        Place { memory, ahead, disk, openings: AtomicU32::new(0), wrong }
    }

    async fn open(&self, place: &Place) -> Store {
        Self::opened(place)
    }

    async fn open_beside(&self, place: &Place, store: &Store) -> Store {
        if place.wrong.handles == Handles::Apart { Self::opened(place) } else { store.clone() }
    }

    fn faults(&self, place: &Place) -> Option<Box<dyn Faults>> {
        Some(Box::new(DiskFaults(Arc::clone(&place.disk))))
    }

    fn time(&self, place: &Place) -> Option<Box<dyn PassingTime>> {
        Some(Box::new(Ahead(Arc::clone(&place.ahead))))
    }
}

/// The answer of a call that the memory answers at once.
pub(crate) fn now<T, E: From<leftfold_core::store::Gone>>(pending: Pending<T, E>) -> Result<T, E> {
    let mut pending = pending;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(&mut pending).poll(&mut context) {
        std::task::Poll::Ready(answer) => answer,
        std::task::Poll::Pending => panic!("the memory answers at once"),
    }
}

/// Spoils what is asked for.
pub(crate) fn asking(spoil: impl Fn(&Arc<Right>, &mut Append) + Send + Sync + 'static) -> Wrong {
    Wrong::default().append(move |right, mut append| {
        spoil(right, &mut append);
        right.append(append)
    })
}

/// Spoils what an append is answered.
pub(crate) fn answering(
    spoil: impl Fn(&Arc<Right>, &Append, &mut Result<Outcome, AppendError>) + Send + Sync + 'static,
) -> Wrong {
    Wrong::default().append(move |right, append| {
        let mut answer = now(right.append(append.clone()));
        spoil(right, &append, &mut answer);
        Pending::ready(answer)
    })
}

/// Spoils a page.
pub(crate) fn paging(
    spoil: impl Fn(&Arc<Right>, &Read, &mut Page) + Send + Sync + 'static,
) -> Wrong {
    Wrong::default().read(move |right, read| {
        let mut answer = now(right.read(read.clone()));
        if let Ok(page) = &mut answer {
            spoil(right, &read, page);
        }
        Pending::ready(answer)
    })
}

/// Spoils what is read for.
pub(crate) fn reading(spoil: impl Fn(&Arc<Right>, &mut Read) + Send + Sync + 'static) -> Wrong {
    Wrong::default().read(move |right, mut read| {
        spoil(right, &mut read);
        right.read(read)
    })
}

/// Appends later: what `carry_out` says is answered once `wait` yields have passed. Nobody but the
/// answer waits.
pub(crate) fn later(
    right: &Arc<Right>,
    yields: u32,
    carry_out: impl FnOnce(&Right) -> Result<Outcome, AppendError> + Send + 'static,
) -> Pending<Outcome, AppendError> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let right = Arc::clone(right);
    tokio::spawn(async move {
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        // The caller may have gone.
        let _ = sender.send(carry_out(&right));
    });
    Pending::waiting(receiver)
}
