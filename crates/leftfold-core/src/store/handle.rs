//! The store handle: one type-erased backend, and what the layers above keep beside it.

use std::any::{Any, TypeId};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tracing::{Span, field};

use super::metrics::{Measured, Sources};
use super::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Backend, Checkpoint, CloseError,
    CommandId, EventId, Hash, Head, HeldLease, HistoryFrom, HistoryPage, Identity, Invalid, Label,
    Lease, LeaseError, LeaseRequest, Leased, MemoryBackend, Metrics, Outcome, Partition, Pending,
    Position, Read, ReadError, RecordedEvent, State, Status, StoreId, StreamName, Timestamp,
    Version,
};

/// A value that a layer above keeps beside a store.
type Attachment = Arc<dyn Any + Send + Sync>;

/// A store of events. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    backend: Arc<dyn Backend>,
    pub(super) partition: Partition,
    attached: Arc<RwLock<HashMap<TypeId, Attachment>>>,
    sources: Sources,
}

impl Store {
    /// A store over any backend.
    #[must_use]
    pub fn new(backend: impl Backend) -> Self {
        Self::shared(Arc::new(backend))
    }

    /// A store over a backend that others hold too. It keeps its own caches: to the others it is
    /// another process.
    #[must_use]
    pub fn shared(backend: Arc<dyn Backend>) -> Self {
        Self {
            backend,
            partition: Partition::default(),
            attached: Arc::default(),
            sources: Sources::default(),
        }
    }

    /// An empty store in memory, for tests.
    #[must_use]
    pub fn memory() -> Self {
        Self::new(MemoryBackend::new())
    }

    /// The same store, within one partition: the scope of order, conditions and atomicity. A store
    /// of one partition, as the embedded log is, has only the default one, and refuses any other.
    pub fn within(&self, partition: Partition) -> Result<Self, UnknownPartition> {
        if partition == self.partition {
            Ok(self.clone())
        } else {
            Err(UnknownPartition { partition })
        }
    }

    /// Returns the backend, for a server that hands the whole contract on to other programs, the
    /// names of their runtimes included.
    #[doc(hidden)]
    #[must_use]
    pub fn backend(&self) -> &Arc<dyn Backend> {
        &self.backend
    }

    /// Returns the identity of the store.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.backend.identity()
    }

    /// Appends, if the condition holds and the command id is new. See [`Backend`] for the promises.
    ///
    /// Streams, event types and consumers whose names begin with `$` are the runtime's: an append
    /// that would write one is refused as [`Invalid::Reserved`].
    ///
    /// ```
    /// use leftfold_core::store::{
    ///     Append, Condition, EventType, Expected, NewEvent, Outcome, Store, StreamName, Version,
    /// };
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let stream = StreamName::of("shop", "1")?;
    /// let opened = NewEvent::new(EventType::new("shop.Opened")?, "{}").in_stream(stream.clone());
    /// let append = Append::of(vec![opened]).when(Condition::stream(stream, Expected::Absent));
    ///
    /// let first = store.append(append.clone()).await?;
    /// assert!(matches!(first, Outcome::Appended(appended) if appended.versions == [Version(1)]));
    /// // A failed condition is an answer, with what is there instead.
    /// assert!(matches!(store.append(append).await?, Outcome::Conflict(_)));
    /// # Ok(()) }
    /// ```
    pub fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
        let span = tracing::debug_span!(
            "leftfold.append",
            events = append.events.len(),
            stream = field::Empty,
            outcome = field::Empty,
            position = field::Empty
        );
        if span.is_disabled() {
            return self.backend.append(append);
        }
        if let Some(stream) = append.events.first().and_then(|event| event.stream.as_ref()) {
            span.record("stream", &**stream);
        }
        self.backend.append(append).watched(span, say_appended)
    }

    /// Reads one page.
    pub fn page(&self, read: Read) -> Pending<super::Page, ReadError> {
        self.backend.read(read)
    }

    /// Reads everything that was asked for, page by page, one page ahead.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::store::{Position, Query, Read, Store};
    /// use wallet::{Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// for (id, cents) in [("ada", 500), ("bob", 200), ("ada", 100)] {
    ///     store.aggregate::<Wallet>().record(id, &[WalletEvent::Deposited { cents }]).await?;
    /// }
    /// // The newest first.
    /// let read = Read::matching(Query::category("wallet"), Position::END).backwards();
    /// let mut events = store.read(read);
    /// let newest = events.next().await?.ok_or("there are three")?;
    /// assert_eq!((newest.position, &*newest.data), (Position(3), &br#"{"cents":100}"#[..]));
    /// assert_eq!(events.all().await?.len(), 2);
    /// # Ok(()) }
    /// ```
    #[must_use]
    pub fn read(&self, read: Read) -> Events {
        Events::new(self.clone(), read)
    }

    /// Returns the version of a stream, 0 if it does not exist.
    pub async fn version(&self, stream: StreamName) -> Result<Version, ReadError> {
        let page = self.page(Read::stream(stream, Version::END).page_of(0)).await?;
        Ok(page.stream_version.unwrap_or(Version::ABSENT))
    }

    /// Looks up the record of a request; `None` if the id is not known.
    pub fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError> {
        self.backend.answered(id)
    }

    /// Looks up the checkpoint that a consumer of this store recorded here; `None` if it has none.
    pub fn checkpoint(&self, consumer: Label) -> Pending<Option<Checkpoint>, ReadError> {
        self.checkpoint_in(consumer, self.identity().store)
    }

    /// Looks up the checkpoint that a consumer of another store recorded here; `None` if it has
    /// none.
    pub fn checkpoint_in(
        &self,
        consumer: Label,
        source: StoreId,
    ) -> Pending<Option<Checkpoint>, ReadError> {
        self.backend.checkpoint(consumer, source, self.partition.clone())
    }

    /// Returns the last position recorded at or before the moment, [`Position::START`] if there is
    /// none.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use std::time::Duration;
    ///
    /// use leftfold_core::store::{Position, Store};
    /// use wallet::{Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let deposit = [WalletEvent::Deposited { cents: 500 }];
    /// let recorded = store.aggregate::<Wallet>().record("ada", &deposit).await?;
    /// assert_eq!(store.position_at(recorded.recorded_at).await?, recorded.first);
    /// let before = recorded.recorded_at.minus(Duration::from_secs(1));
    /// assert_eq!(store.position_at(before).await?, Position::START);
    /// # Ok(()) }
    /// ```
    pub fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError> {
        self.backend.position_at(moment)
    }

    /// Reads whole appends with their records, in order: see [`Backend::appends`].
    pub fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> {
        self.backend.appends(from, page_bytes)
    }

    /// Returns the hash of the group that recorded the position; `None` beyond the head.
    pub fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError> {
        self.backend.hash_at(position)
    }

    /// Reads the bytes that the chain of hashes covers: see [`Backend::history`].
    pub fn history(&self, from: HistoryFrom, page_bytes: u32) -> Pending<HistoryPage, ReadError> {
        self.backend.history(from, page_bytes)
    }

    /// Returns the positions of the events that callers brought with this id, at most `at_most`,
    /// the oldest first.
    pub fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> {
        self.backend.positions_of(id, at_most)
    }

    /// Looks up a cached value; `None` if it is not kept.
    pub fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError> {
        self.backend.snapshot(key)
    }

    /// Keeps a cached value, at some time soon and without a promise.
    pub fn keep_snapshot(&self, key: Bytes, value: Bytes) {
        self.backend.keep_snapshot(key, value);
    }

    /// Asks for some work, or to go on with it: of all holders that ask, one is given it, for the
    /// given time from now.
    ///
    /// Everything that the work appends goes [`under`](Append::under) the lease. From the moment
    /// that another is given the work, such an append is refused as
    /// [`Fenced`](AppendError::Fenced): that, and no clock, keeps two from doing it. So a holder
    /// need not watch [`until`](Lease::until); it renews after a third of the time by its own
    /// clock, which only has to run about as fast as the store's. What it does in the outside world
    /// can still happen twice, as everywhere: that is what [effects](crate::runtime::Effect) are
    /// for.
    ///
    /// The name says the work within this store, for example `projection foos 2`; names that begin
    /// with `$` are the runtime's. What a holder knows from reading is good only from the moment
    /// that it was given the lease: a new tenure begins with reading. On the embedded log one
    /// process has the directory, and leases keep its runtimes apart.
    ///
    /// ```
    /// use std::time::Duration;
    /// use leftfold_core::store::{
    ///     Append, AppendError, Holder, Label, LeaseRequest, Leased, Store,
    /// };
    ///
    /// const DURING: Duration = Duration::from_secs(30);
    ///
    /// # fn next_step(done: usize) -> Option<Append> { (done < 3).then(Append::default) }
    /// async fn consume(store: &Store, me: Holder) -> Result<(), Box<dyn std::error::Error>> {
    ///     let work = Label::try_from("shipping labels")?;
    ///     let asking = LeaseRequest::new(work, me, DURING).with_note("on machine 7");
    ///     'tenure: loop {
    ///         let mut lease = match store.lease(asking.clone()).await? {
    ///             Leased::Held(lease) => lease,
    ///             Leased::HeldBy { .. } => {
    ///                 // Somebody else does it; if it dies, this one is late by a third of the
    ///                 // time at most.
    ///                 tokio::time::sleep(DURING / 3).await;
    ///                 continue;
    ///             }
    ///         };
    ///         // What an earlier tenure had read is stale: begin from what is stored.
    ///         let (mut done, mut renewed) = (0, tokio::time::Instant::now());
    ///         while let Some(append) = next_step(done) {
    ///             if renewed.elapsed() > DURING / 3 {
    ///                 renewed = tokio::time::Instant::now();
    ///                 match store.lease(asking.clone()).await? {
    ///                     // A new fence: somebody else had it in between.
    ///                     Leased::Held(again) if again.fence != lease.fence => continue 'tenure,
    ///                     Leased::Held(again) => lease = again,
    ///                     Leased::HeldBy { .. } => continue 'tenure,
    ///                 }
    ///             }
    ///             match store.append(append.under(&lease)).await {
    ///                 Ok(_) => done += 1,
    ///                 Err(AppendError::Fenced { .. }) => continue 'tenure,
    ///                 Err(error) => return Err(error.into()),
    ///             }
    ///         }
    ///         // Done, or told to stop: the next one need not wait.
    ///         return Ok(store.release(lease).await?);
    ///     }
    /// }
    /// # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    /// # runtime.block_on(consume(&Store::memory(), Holder::random())).unwrap();
    /// ```
    pub fn lease(&self, request: LeaseRequest) -> Pending<Leased, LeaseError> {
        if request.work.is_system() {
            let name = request.work.to_string();
            return Pending::ready(Err(
                Invalid::Reserved { what: "the name of some work", name }.into()
            ));
        }
        self.backend.lease(request)
    }

    /// Asks for work of the runtime's own, under a name that begins with `$`.
    pub(crate) fn lease_for_runtime(&self, request: LeaseRequest) -> Pending<Leased, LeaseError> {
        self.backend.lease(request)
    }

    /// Returns the time after which a writer that stands still is ended: see
    /// [`Backend::writer_ended_within`].
    pub(crate) fn writer_ended_within(&self) -> Duration {
        self.backend.writer_ended_within()
    }

    /// Gives work back, so that the next holder need not wait until the lease is over. One that is
    /// over already is no error.
    pub fn release(&self, lease: Lease) -> Pending<(), LeaseError> {
        self.backend.release(lease)
    }

    /// Lists the leases that are held now, with the notes of their holders: those of the
    /// application, and those of runtimes, whose names begin with `$`.
    ///
    /// ```
    /// use std::time::Duration;
    /// use leftfold_core::store::{Holder, Label, LeaseRequest, Store};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (store, work) = (Store::memory(), Label::try_from("shipping labels")?);
    /// let asking = LeaseRequest::new(work, Holder::random(), Duration::from_secs(30));
    /// store.lease(asking.with_note("on machine 7")).await?;
    /// let held = store.leases().await?;
    /// assert_eq!((&*held[0].work, &held[0].note[..]), ("shipping labels", &b"on machine 7"[..]));
    /// # Ok(()) }
    /// ```
    pub fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        self.backend.leases()
    }

    /// Returns the time of the store's clock, by which appends are recorded, as it was at some
    /// moment between the call and the answer: the same clock for every process on the store, which
    /// the clock of a machine may differ from.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// use leftfold_core::store::Store;
    /// use wallet::{Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let before = store.now().await?;
    /// let deposit = [WalletEvent::Deposited { cents: 500 }];
    /// let recorded = store.aggregate::<Wallet>().record("ada", &deposit).await?;
    /// assert!(recorded.recorded_at >= before);
    /// # Ok(()) }
    /// ```
    pub fn now(&self) -> Pending<Timestamp, ReadError> {
        self.backend.now()
    }

    /// Returns the durable end.
    #[must_use]
    pub fn head(&self) -> Head {
        self.backend.status().borrow().head
    }

    /// Returns the durable end and whether the store takes appends, and every later change of it.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.backend.status()
    }

    /// Figures of the store and of every runtime that runs behind this handle or a clone of it, in
    /// the text format of Prometheus (version 0.0.4): what an application serves as `/metrics`. The
    /// book's page on operating lists them.
    ///
    /// Nothing is counted for the call, and it waits for nothing.
    #[must_use]
    pub fn metrics(&self) -> String {
        let mut metrics = Metrics::default();
        let Identity { store, epoch } = self.identity();
        let labels = [("store", &*store.to_string()), ("epoch", &*epoch.number.to_string())];
        metrics.gauge(
            "leftfold_store_info",
            "1, with the store's id and epoch as labels.",
            &labels,
            1,
        );
        let Status { head, state } = self.backend.status().borrow().clone();
        metrics.gauge(
            "leftfold_store_head_position",
            "Position of the last durable event.",
            &[],
            head.position,
        );
        let up = u64::from(state == State::Open);
        metrics.gauge(
            "leftfold_store_up",
            "1 if the store takes appends, 0 if it is read-only, cannot be reached, or is closed.",
            &[],
            up,
        );
        self.backend.measure(&mut metrics);
        self.sources.measure(&mut metrics);
        metrics.to_string()
    }

    /// Has the figures of something in [`metrics`](Self::metrics) as long as it is there.
    pub(crate) fn measures(&self, source: &Arc<impl Measured + 'static>) {
        self.sources.add(source);
    }

    /// Ends the store: what was handed over before is answered first, then locks are released.
    /// Idempotent; every clone of the handle is closed with it.
    pub fn close(&self) -> Pending<(), CloseError> {
        self.backend.close()
    }

    /// Returns what a layer above keeps beside this store, made when it is first asked for. There
    /// is one value per type and store.
    pub fn attached<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let key = TypeId::of::<T>();
        // Each command asks for what was made long ago: those do not wait for one another.
        let known = self.attached.read().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let entry = known.unwrap_or_else(|| {
            let mut attached = self.attached.write().unwrap_or_else(PoisonError::into_inner);
            attached.entry(key).or_insert_with(|| Arc::new(make())).clone()
        });
        // The entry was made, or found, under the type's own id.
        entry.downcast().expect("an attachment is of the type that it is kept under")
    }
}

/// Records the outcome of an append in its span.
fn say_appended(span: &Span, answer: &Result<Outcome, AppendError>) {
    let outcome = match answer {
        Ok(Outcome::Appended(appended)) => {
            span.record("position", appended.last().0);
            "appended"
        }
        Ok(Outcome::Repeated(_)) => "repeated",
        Ok(Outcome::Conflict(_)) => "conflict",
        Err(_) => "failed",
    };
    span.record("outcome", outcome);
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("identity", &self.identity()).finish_non_exhaustive()
    }
}

/// The store does not have this partition.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has no partition {:?}, this backend keeps everything in the default one", .partition.0)]
pub struct UnknownPartition {
    /// The one that was asked for.
    pub partition: Partition,
}

/// The events of one read, page by page. While one page is consumed, the next is on its way.
#[derive(Debug)]
pub struct Events {
    store: Store,
    request: Read,
    ready: VecDeque<RecordedEvent>,
    stage: EventsStage,
    through: Position,
    head: Head,
}

#[derive(Debug)]
enum EventsStage {
    /// The request is to be sent: for the first time, or again after an error.
    Asking,
    Coming(Pending<super::Page, ReadError>),
    Ended,
}

impl Events {
    fn new(store: Store, request: Read) -> Self {
        let (through, head) = (Position::START, store.head());
        Self { store, request, ready: VecDeque::new(), stage: EventsStage::Asking, through, head }
    }

    /// Returns the next event; `None` at the end. Safe to cancel; after an error it asks again.
    pub async fn next(&mut self) -> Result<Option<RecordedEvent>, ReadError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            match self.page().await? {
                Some(page) => self.ready = page.into(),
                None => return Ok(None),
            }
        }
    }

    /// Returns the rest of the current page, or the next one; `None` at the end. Safe to cancel;
    /// after an error it asks again.
    pub async fn page(&mut self) -> Result<Option<Vec<RecordedEvent>>, ReadError> {
        if !self.ready.is_empty() {
            return Ok(Some(std::mem::take(&mut self.ready).into()));
        }
        let coming = match &mut self.stage {
            EventsStage::Ended => return Ok(None),
            EventsStage::Coming(coming) => coming,
            EventsStage::Asking => {
                self.stage = EventsStage::Coming(self.store.page(self.request.clone()));
                let EventsStage::Coming(coming) = &mut self.stage else { return Ok(None) };
                coming
            }
        };
        let answer = coming.await;
        self.stage = EventsStage::Asking;
        let page = answer?;
        (self.through, self.head) = (page.through, page.head);
        self.stage = match page.next {
            Some(next) if self.request.page_events > 0 => {
                self.request.what = next;
                EventsStage::Coming(self.store.page(self.request.clone()))
            }
            _ => EventsStage::Ended,
        };
        Ok(Some(page.events))
    }

    /// Everything that is left.
    pub async fn all(mut self) -> Result<Vec<RecordedEvent>, ReadError> {
        let mut all = Vec::new();
        while let Some(page) = self.page().await? {
            all.extend(page);
        }
        Ok(all)
    }

    /// Every event that matches up to here (backwards: down to here) was in the pages so far.
    #[must_use]
    pub fn through(&self) -> Position {
        self.through
    }

    /// The durable end when the last page was read.
    #[must_use]
    pub fn head(&self) -> Head {
        self.head
    }
}
