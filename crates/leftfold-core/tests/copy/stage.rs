//! Stores to copy, and short ways to say events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use leftfold_core::copy::{Copy, Transformed};
use leftfold_core::store::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Backend, Checkpoint, CloseError,
    CommandId, CommandRecord, Digest, EventId, EventType, Hash, HeldLease, Identity, Label, Lease,
    LeaseError, LeaseRequest, Leased, MemoryBackend, NewEvent, Outcome, Page, Partition, Pending,
    Position, Query, Read, ReadError, RecordedAppend, RecordedEvent, Status, Store, StoreId,
    StreamName, Tags, Timestamp,
};
use tokio::sync::watch;

pub(crate) fn event(stream: &str, kind: &str, data: &str) -> NewEvent {
    let event = NewEvent::new(EventType::new(kind.to_owned()).unwrap(), data.to_owned());
    event.in_stream(StreamName::new(stream.to_owned()).unwrap())
}

pub(crate) fn tagged(event: NewEvent, tag: &str) -> NewEvent {
    event.tagged(Tags::none().with(tag.to_owned()))
}

pub(crate) fn command(key: &str, answer: &str) -> CommandRecord {
    let (id, digest) = (CommandId::new("test", key), Digest::of(key.as_bytes()));
    CommandRecord { id, digest, answer: answer.to_owned().into() }
}

pub(crate) async fn append(store: &Store, append: Append) -> Position {
    match store.append(leftfold_testing::by_runtime(append)).await.unwrap() {
        Outcome::Appended(appended) => appended.first,
        other => panic!("{other:?}"),
    }
}

/// Every append but the copy's own: streams, types, data and tags of its events, and its request.
pub(crate) async fn shape(store: &Store) -> Vec<String> {
    let mut lines = Vec::new();
    for append in appends(store).await {
        let own = |event: &RecordedEvent| event.event_type.starts_with("$copy");
        if append.events.iter().all(own) && append.command.is_none() {
            continue;
        }
        let events = append.events.iter().map(|event| {
            let stream = event
                .stream
                .as_ref()
                .map_or_else(String::new, |at| format!("{}@{}", at.name, at.version));
            let data = String::from_utf8_lossy(&event.data);
            let tags: Vec<&str> = event.tags.iter().map(|tag| &**tag).collect();
            format!("{stream} {} {data} {}", event.event_type, tags.join(","))
        });
        let command =
            append.command.as_ref().map(|answered| format!("command {}", answered.record.id));
        lines.push(events.chain(command).collect::<Vec<_>>().join(" + "));
    }
    lines
}

pub(crate) async fn appends(store: &Store) -> Vec<RecordedAppend> {
    let mut all = Vec::new();
    let mut from = AppendsFrom::After(Position::START);
    loop {
        let page = store.appends(from, 1 << 20).await.unwrap();
        if page.appends.is_empty() {
            return all;
        }
        all.extend(page.appends);
        from = page.next;
    }
}

pub(crate) async fn everything(store: &Store) -> Vec<RecordedEvent> {
    store.read(Read::matching(Query::everything(), Position(1))).all().await.unwrap()
}

/// A history with appends of every kind, pseudo-random by a seed.
pub(crate) async fn history(store: &Store, seed: u64, count: usize) {
    let mut random = fastrand::Rng::with_seed(seed);
    for number in 0..count {
        let stream = |random: &mut fastrand::Rng| {
            let category = ["shop", "depot", "trial"][random.usize(..3)];
            format!("{category}-{}", random.u8(..4))
        };
        let mut events = Vec::new();
        for _ in 0..random.usize(..4) {
            let kind = ["goods.Sold", "goods.Bought", "goods.Counted"][random.usize(..3)];
            events.push(tagged(
                event(&stream(&mut random), kind, &format!("{{\"n\":{number}}}")),
                "kind:goods",
            ));
        }
        let request = (random.u8(..3) == 0).then(|| command(&format!("{seed} {number}"), "done"));
        append(store, Append { events, command: request, ..Append::default() }).await;
    }
}

/// Renames, splits, drops and re-tags.
pub(crate) fn reform(event: &RecordedEvent) -> Transformed {
    let name = event.stream.as_ref().map(|at| at.name.clone()).unwrap();
    match (name.category(), &*event.event_type) {
        ("trial", _) => Transformed::Drop,
        ("shop", "goods.Sold") => {
            let mut bill = event.to_new().in_stream(StreamName::of("bill", name.id()).unwrap());
            bill.event_type = EventType::new("bill.Written").unwrap();
            bill.id = None;
            let mut sold = event.to_new().in_stream(StreamName::of("store", name.id()).unwrap());
            sold.tags.insert("sold:yes".try_into().unwrap());
            Transformed::Replace(vec![bill, sold])
        }
        ("shop", _) => event.to_new().in_stream(StreamName::of("store", name.id()).unwrap()).into(),
        _ => Transformed::Keep,
    }
}

pub(crate) fn reforming(old: &Store, new: &Store) -> Copy {
    Copy::from(old).into(new).through(reform)
}

/// When the process dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// Before the append took effect.
    Before,
    /// After it did, and before anyone learned of it.
    After,
    /// It does not die: the store refuses that append alone, and takes those behind it.
    Hiccup,
}

/// A backend whose process dies at one of its appends. It may also change one on the way.
pub(crate) struct Crashing {
    backend: Arc<MemoryBackend>,
    appends: AtomicUsize,
    at: usize,
    crash: Crash,
    planted: Option<fn(&mut Append) -> bool>,
    /// The status that it tells for ever; `None` tells the present one.
    heard: Option<watch::Sender<Status>>,
}

impl Crashing {
    pub(crate) fn new(backend: Arc<MemoryBackend>, at: usize, crash: Crash) -> Self {
        Self { backend, appends: AtomicUsize::new(0), at, crash, planted: None, heard: None }
    }

    /// Changes every append that the function says it changed.
    pub(crate) fn planting(backend: Arc<MemoryBackend>, planted: fn(&mut Append) -> bool) -> Self {
        Self { planted: Some(planted), ..Self::new(backend, usize::MAX, Crash::Before) }
    }

    /// Never hears of what is appended from now on, as a handle of another process for a moment.
    pub(crate) fn deaf(backend: Arc<MemoryBackend>) -> Self {
        let heard = watch::Sender::new(backend.status().borrow().clone());
        Self { heard: Some(heard), ..Self::new(backend, usize::MAX, Crash::Before) }
    }

    pub(crate) fn appends(&self) -> usize {
        self.appends.load(Ordering::SeqCst)
    }
}

impl Backend for Crashing {
    fn identity(&self) -> Identity {
        self.backend.identity()
    }

    fn append(&self, mut append: Append) -> Pending<Outcome, AppendError> {
        let number = self.appends.fetch_add(1, Ordering::SeqCst);
        if let Some(plant) = self.planted {
            plant(&mut append);
        }
        if number == self.at && self.crash == Crash::Hiccup {
            return Pending::ready(Err(AppendError::Busy { waiting: 1 }));
        }
        if number < self.at || self.crash == Crash::Hiccup {
            return self.backend.append(append);
        }
        if number == self.at && self.crash == Crash::After {
            drop(self.backend.append(append));
        }
        Pending::ready(Err(AppendError::Unknown { detail: "the process died".to_owned() }))
    }

    fn read(&self, read: Read) -> Pending<Page, ReadError> {
        self.backend.read(read)
    }

    fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError> {
        self.backend.answered(id)
    }

    fn checkpoint(
        &self,
        consumer: Label,
        source: StoreId,
        partition: Partition,
    ) -> Pending<Option<Checkpoint>, ReadError> {
        self.backend.checkpoint(consumer, source, partition)
    }

    fn lease(&self, request: LeaseRequest) -> Pending<Leased, LeaseError> {
        self.backend.lease(request)
    }

    fn release(&self, lease: Lease) -> Pending<(), LeaseError> {
        self.backend.release(lease)
    }

    fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        self.backend.leases()
    }

    fn now(&self) -> Pending<Timestamp, ReadError> {
        self.backend.now()
    }

    fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError> {
        self.backend.position_at(moment)
    }

    fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> {
        self.backend.appends(from, page_bytes)
    }

    fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError> {
        self.backend.hash_at(position)
    }

    fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> {
        self.backend.positions_of(id, at_most)
    }

    fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError> {
        self.backend.snapshot(key)
    }

    fn keep_snapshot(&self, key: Bytes, value: Bytes) {
        self.backend.keep_snapshot(key, value);
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.heard.as_ref().map_or_else(|| self.backend.status(), watch::Sender::subscribe)
    }

    fn close(&self) -> Pending<(), CloseError> {
        self.backend.close()
    }
}
