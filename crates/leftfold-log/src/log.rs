//! A log that is open: the contract of a store, over the writer, the segments and the index.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use leftfold_core::store::held_bytes;
use leftfold_core::store::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Backend, Checkpoint, CloseError,
    CommandId, Direction, EventId, Hash, HeldLease, HistoryFrom, HistoryPage, Identity, Label,
    Lease, LeaseError, LeaseRequest, Leased, Metrics, Outcome, Page, Partition, Pending, Position,
    Read, ReadError, State, Status, StoreId, Timestamp, What,
};
use tokio::sync::{oneshot, watch};

use crate::format::{CheckpointView, CommandView, RecordFrame, checkpoint_key};
use crate::index::PostingKey;
use crate::index::unreadable;
use crate::open::error::LogOpenError;
use crate::read::pages;
use crate::read::pool::PoolFull;
use crate::segments::scan::place_of;
use crate::segments::segment::{Segments, damaged};
use crate::shared::SharedLog;
use crate::write::lease::QueuedLease;
use crate::write::precheck::{JudgingOrder, PrecheckResult, is_slow, precheck};
use crate::write::request::{AppendRequest, WriteRequest};
use crate::write::writer::LogWriter;

/// The embedded log: one directory, one writer, any number of readers.
///
/// Cheap to clone; all clones are the same log. Dropping the last one closes it, and waits until it
/// is closed; [`close`](Backend::close) waits without holding a thread up.
#[derive(Clone, Debug)]
pub struct Log {
    shared: Arc<SharedLog>,
    _writer: Arc<WriterThread>,
}

/// The thread of the writer.
#[derive(Debug)]
struct WriterThread {
    shared: Arc<SharedLog>,
    thread: Option<JoinHandle<()>>,
}

impl Log {
    pub(crate) fn start(writer: LogWriter) -> Result<Self, LogOpenError> {
        let shared = Arc::clone(&writer.shared);
        let thread = std::thread::Builder::new()
            .name("leftfold-write".to_owned())
            .spawn(move || writer.run())?;
        let running = WriterThread { shared: Arc::clone(&shared), thread: Some(thread) };
        Ok(Self { shared, _writer: Arc::new(running) })
    }

    /// Returns the microseconds that the wall clock is ahead of the log's time if it was set by
    /// more than [`CLOCK_JUMP_MAX`](crate::CLOCK_JUMP_MAX) and is not followed; else 0.
    #[must_use]
    pub fn clock_skew_micros(&self) -> i64 {
        self.shared.skew_micros()
    }

    /// Says that the machine's clock is right: recorded time follows it again from the next group
    /// on, or waits for it if it is behind. For a machine whose clock is set on purpose by more
    /// than a day while a log is open, as after a virtual machine stood still for that long;
    /// otherwise the log would have to be opened again. The time that a machine slept is known, and
    /// needs no such call.
    pub fn follow_clock(&self) {
        self.shared.follow_clock.store(true, Ordering::Relaxed);
    }

    /// Hands several appends over at once. Each is judged, and answered, by itself; as far as
    /// limits allow one group takes them all, in this order.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use leftfold_core::store::{Append, EventType, NewEvent, Outcome};
    /// use leftfold_log::disk::Simulated;
    /// use leftfold_log::{Log, Options};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (log, _) = Log::open_on(Arc::new(Simulated::new(7)), Options::default())?;
    /// let sold = NewEvent::new(EventType::new("shop.Sold")?, "{}");
    /// let appends = vec![Append::of(vec![sold.clone()]), Append::of(vec![sold])];
    /// for answer in log.append_together(appends) {
    ///     assert!(matches!(answer.await?, Outcome::Appended(_)));
    /// }
    /// # Ok(()) }
    /// ```
    pub fn append_together(&self, appends: Vec<Append>) -> Vec<Pending<Outcome, AppendError>> {
        let count = appends.len();
        let mut requests = Vec::with_capacity(count);
        let mut pending = Vec::with_capacity(appends.len());
        for append in appends {
            if let Err(invalid) = append.validate() {
                pending.push(self.shared.at_once_answered(Err(invalid.into())));
                continue;
            }
            match self.shared.request(append, JudgingOrder::InTurn) {
                Ok((request, receiver)) => {
                    requests.push(request);
                    pending.push(Pending::waiting(receiver));
                }
                Err(answer) => pending.push(self.shared.at_once_answered(*answer)),
            }
        }
        match self.shared.queue.push(requests) {
            Ok(()) => pending,
            // The requests are dropped, and with them their channels; nothing of them was written.
            Err(refused) => {
                let error = AppendError::from(refused);
                (0..count).map(|_| self.shared.at_once_answered(Err(error.clone()))).collect()
            }
        }
    }

    /// Reason why nothing may be changed in the directory; `None` if it may.
    pub(crate) fn why_read_only(&self) -> Option<String> {
        match &self.shared.status.borrow().state {
            State::Open | State::Away { .. } => None,
            State::ReadOnly { detail } => Some(detail.clone()),
            State::Closed => Some("the log is closed".to_owned()),
        }
    }

    pub(crate) fn shared(&self) -> &SharedLog {
        &self.shared
    }

    pub(crate) fn segments(&self) -> &Arc<Segments> {
        &self.shared.segments
    }

    fn in_background<T: Send + 'static>(
        &self,
        weight: usize,
        work: impl FnOnce(&SharedLog) -> Result<T, ReadError> + Send + 'static,
    ) -> Pending<T, ReadError> {
        if !self.shared.queue.is_open() {
            return Pending::ready(Err(ReadError::Closed));
        }
        let (sender, receiver) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        let run = self.shared.pool.try_run(weight, move || {
            let found = caught(|| work(&shared)).unwrap_or_else(Err);
            // The caller may have gone.
            let _ = sender.send(found);
        });
        match run {
            Ok(()) => Pending::waiting(receiver),
            Err(PoolFull { waiting }) => Pending::ready(Err(ReadError::Busy { waiting })),
        }
    }

    fn ask<T>(&self, request: QueuedLease, answer: Reply<T, LeaseError>) -> Pending<T, LeaseError> {
        match self.shared.queue.push([WriteRequest::Lease(request)]) {
            Ok(()) => Pending::waiting(answer),
            Err(refused) => Pending::ready(Err(refused.into())),
        }
    }

    fn at_once<T>(
        &self,
        work: impl FnOnce(&SharedLog) -> Result<T, ReadError>,
    ) -> Pending<T, ReadError> {
        Pending::ready(if self.shared.queue.is_open() {
            work(&self.shared)
        } else {
            Err(ReadError::Closed)
        })
    }
}

type Reply<T, E> = oneshot::Receiver<Result<T, E>>;

impl SharedLog {
    /// Looks up what the append depends on, and makes a request to the writer, or the answer if it
    /// is decided.
    #[expect(
        clippy::type_complexity,
        reason = "a request and where its answer comes, or the answer"
    )]
    fn request(
        &self,
        append: Append,
        order: JudgingOrder,
    ) -> Result<(WriteRequest, Reply<Outcome, AppendError>), Box<Result<Outcome, AppendError>>>
    {
        match precheck(self, &append, order) {
            Ok(PrecheckResult::Undecided(facts)) => {
                let (sender, receiver) = oneshot::channel();
                Ok((WriteRequest::Append(AppendRequest::new(append, facts, sender)), receiver))
            }
            Ok(PrecheckResult::Answered(outcome)) => Err(Box::new(Ok(outcome))),
            Err(error) => Err(Box::new(Err(error))),
        }
    }

    /// Does the same on a thread of the log, and hands the request to the queue.
    fn request_later(self: &Arc<Self>, append: Append) -> Pending<Outcome, AppendError> {
        let weight = held_bytes::of_append(&append);
        if let Err(refused) = self.queue.announce(weight) {
            return self.at_once_answered(Err(refused.into()));
        }
        let (sender, receiver) = oneshot::channel();
        let announced = AnnouncedAppend { shared: Arc::clone(self), weight, request: None };
        self.pool.run(move || {
            let found = caught(|| precheck(&announced.shared, &append, JudgingOrder::Free))
                .unwrap_or_else(|error| Err(error.into()));
            let answer = match found {
                Ok(PrecheckResult::Undecided(facts)) => {
                    return announced
                        .arrives(WriteRequest::Append(AppendRequest::new(append, facts, sender)));
                }
                Ok(PrecheckResult::Answered(outcome)) => Ok(outcome),
                Err(error) => Err(error),
            };
            announced.shared.figures.answered(&answer);
            // The caller may have gone.
            let _ = sender.send(answer);
        });
        Pending::waiting(receiver)
    }
}

/// An append that was announced to the queue. When its lookup ends, even by a panic, it arrives
/// there or is taken back: a close waits for that.
struct AnnouncedAppend {
    shared: Arc<SharedLog>,
    weight: usize,
    request: Option<WriteRequest>,
}

impl AnnouncedAppend {
    fn arrives(mut self, request: WriteRequest) {
        self.request = Some(request);
    }
}

impl Drop for AnnouncedAppend {
    fn drop(&mut self) {
        self.shared.queue.arrive(self.weight, self.request.take(), &self.shared.figures);
    }
}

/// Does work in which a disk may panic, and turns a panic into an error.
fn caught<T>(work: impl FnOnce() -> T) -> Result<T, ReadError> {
    let panicked = |_| ReadError::Io {
        detail: "the disk, or what reads it, panicked; look at the log of the program".to_owned(),
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).map_err(panicked)
}

impl Backend for Log {
    fn identity(&self) -> Identity {
        self.shared.identity
    }

    fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
        if let Err(invalid) = append.validate() {
            return self.shared.at_once_answered(Err(invalid.into()));
        }
        if !self.shared.queue.is_open() {
            return self.shared.at_once_answered(Err(AppendError::Closed));
        }
        self.shared.answered.free_some();
        if is_slow(&self.shared, &append) {
            return self.shared.request_later(append);
        }
        match self.shared.request(append, JudgingOrder::Free) {
            Ok((request, receiver)) => match self.shared.queue.push([request]) {
                Ok(()) => Pending::waiting(receiver),
                Err(refused) => self.shared.at_once_answered(Err(refused.into())),
            },
            Err(answer) => self.shared.at_once_answered(*answer),
        }
    }

    fn read(&self, read: Read) -> Pending<Page, ReadError> {
        let head = self.shared.head();
        if let What::Matching { query, from } = &read.what
            && read.direction == Direction::Forwards
            && *from > head.position
        {
            // Nothing is there yet: anyone who waits for it need not wait for a thread.
            let page = Page {
                events: Vec::new(),
                next: None,
                through: head.position,
                head,
                stream_version: None,
            };
            let valid = query.validate();
            return self.at_once(|_| valid.map(|()| page).map_err(ReadError::from));
        }
        if matches!(read.what, What::Stream { .. }) && read.page_events == 0 {
            return self.at_once(|shared| pages::page(shared, &read));
        }
        self.in_background(held_bytes::of_read(&read), move |shared| pages::page(shared, &read))
    }

    fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError> {
        self.at_once(|shared| {
            let Some(address) = shared.index.command(&id.0).map_err(unreadable)? else {
                return Ok(None);
            };
            let bytes = shared.segments.record_at(address)?;
            let view = RecordFrame::decode(&bytes, Position::START)
                .and_then(|frame| CommandView::decode(frame.body));
            let (number, offset) = place_of(address);
            view.map(|view| Some(view.to_answered()))
                .map_err(|fault| damaged(number, offset, &fault))
        })
    }

    fn checkpoint(
        &self,
        consumer: Label,
        source: StoreId,
        partition: Partition,
    ) -> Pending<Option<Checkpoint>, ReadError> {
        self.at_once(|shared| {
            let key = checkpoint_key(
                &consumer,
                source.0.as_bytes(),
                partition.0.as_deref().unwrap_or(""),
            );
            let Some(address) = shared.index.checkpoint(key.as_bytes()).map_err(unreadable)? else {
                return Ok(None);
            };
            let bytes = shared.segments.record_at(address)?;
            let view = RecordFrame::decode(&bytes, Position::START)
                .and_then(|frame| CheckpointView::decode(frame.body));
            let (number, offset) = place_of(address);
            view.and_then(CheckpointView::to_checkpoint)
                .map(Some)
                .map_err(|fault| damaged(number, offset, &fault))
        })
    }

    fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError> {
        self.in_background(held_bytes::EACH, move |shared| pages::position_at(shared, moment))
    }

    fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> {
        self.in_background(held_bytes::EACH, move |shared| {
            crate::read::appends::page(shared, from, page_bytes)
        })
    }

    fn history(&self, from: HistoryFrom, page_bytes: u32) -> Pending<HistoryPage, ReadError> {
        self.in_background(held_bytes::EACH, move |shared| {
            crate::read::history::page(shared, from, page_bytes)
        })
    }

    fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError> {
        if position == Position::START {
            return self.at_once(|_| Ok(Some(Hash::EMPTY)));
        }
        if position > self.shared.head().position {
            return self.at_once(|_| Ok(None));
        }
        let groups = self.shared.groups.read().unwrap_or_else(PoisonError::into_inner);
        let recent = groups.get(groups.partition_point(|group| group.last < position)).copied();
        drop(groups);
        match recent {
            Some(group) if group.first <= position => self.at_once(|_| Ok(Some(group.hash))),
            _ => self.in_background(held_bytes::EACH, move |shared| {
                shared.segments.hash_after_group_of(position).map(Some)
            }),
        }
    }

    fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> {
        self.in_background(held_bytes::EACH, move |shared| {
            let through = shared.head().position;
            let key = PostingKey::EventId(id.0.as_bytes());
            let postings = shared.index.postings(key, Position(1), Direction::Forwards, through);
            postings.take(at_most as usize).map(|position| position.map_err(unreadable)).collect()
        })
    }

    fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError> {
        self.at_once(|shared| shared.index.snapshot(&key).map_err(unreadable))
    }

    fn keep_snapshot(&self, key: Bytes, value: Bytes) {
        if self.shared.queue.is_open() {
            self.shared.index.keep_snapshot(&key, value);
        }
    }

    fn lease(&self, request: LeaseRequest) -> Pending<Leased, LeaseError> {
        if let Err(invalid) = request.validate() {
            return Pending::ready(Err(invalid.into()));
        }
        let (request, answer) = QueuedLease::take(request);
        self.ask(request, answer)
    }

    fn release(&self, lease: Lease) -> Pending<(), LeaseError> {
        let (request, answer) = QueuedLease::give_back(lease);
        self.ask(request, answer)
    }

    fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        let (request, answer) = QueuedLease::list();
        self.ask(request, answer)
    }

    fn now(&self) -> Pending<Timestamp, ReadError> {
        self.at_once(|shared| Ok(shared.time_now()))
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.shared.status.subscribe()
    }

    fn measure(&self, metrics: &mut Metrics) {
        self.shared.measure(metrics);
    }

    fn close(&self) -> Pending<(), CloseError> {
        Pending::waiting(self.shared.queue.close())
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        drop(self.shared.queue.close());
        if let Some(writer) = self.thread.take() {
            // A writer that panicked has told so by dropping the channels of those who waited.
            let _ = writer.join();
        }
    }
}
