//! The memory backend: the contract in its shortest form, for tests, and the template for backend
//! writers.
//!
//! Everything stands in one vector behind one lock; every query is a scan. "Durable" means "in the
//! vector".

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::watch;

use super::backend::Identity;
use super::limits::SNAPSHOT_BYTES_MAX;
use super::{
    Answered, Append, AppendError, Appended, AppendsFrom, AppendsPage, Backend, Checkpoint,
    CheckpointRecord, CloseError, CommandId, Condition, Conflict, Direction, Epoch, EventId, Hash,
    Head, HeldLease, HistoryEnd, HistoryFrom, HistoryKind, HistoryLink, HistoryPage, HistoryRule,
    InStream, Invalid, Label, Lease, LeaseError, LeaseRequest, Leased, Leases, NewEvent, Outcome,
    Page, PageRoom, Partition, Pending, Position, Read, ReadError, RecordedAppend, RecordedEvent,
    State, Status, StoreId, StreamName, Timestamp, Version, What,
};

/// A store in memory: it keeps every promise but durability.
#[derive(Debug)]
pub struct MemoryBackend {
    identity: Identity,
    state: Mutex<StoreContents>,
    time: Time,
    status: watch::Sender<Status>,
}

/// Source of the store's time.
enum Time {
    /// The machine's clocks: one moment by both of them, as leases are counted by the one that only
    /// passes.
    Machine(Timestamp, Instant),
    /// Clock of a test that explores what is built on the store.
    Given(Box<dyn Fn() -> Timestamp + Send + Sync>),
}

#[derive(Debug, Default)]
struct StoreContents {
    closed: bool,
    events: Vec<RecordedEvent>,
    /// The hash of the group of each event.
    hashes: Vec<Hash>,
    /// The places of each stream's events.
    streams: HashMap<StreamName, Vec<usize>>,
    answers: HashMap<CommandId, Answered>,
    checkpoints: HashMap<(Label, StoreId, Partition), Checkpoint>,
    brought: HashMap<EventId, Vec<Position>>,
    snapshots: HashMap<Bytes, Bytes>,
    leases: Leases,
    /// Every append, in order, without its events.
    appends: Vec<KeptAppend>,
}

/// An append: which events it had, and its records.
#[derive(Debug)]
struct KeptAppend {
    first: Position,
    events: usize,
    recorded_at: Timestamp,
    command: Option<Answered>,
    checkpoint: Option<(Label, Checkpoint)>,
    hash: Hash,
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::at_time(Time::Machine(Timestamp::now(), Instant::now()))
    }
}

impl MemoryBackend {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that takes the time from elsewhere.
    pub(crate) fn with_time(now: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self::at_time(Time::Given(Box::new(now)))
    }

    /// Every event after a position.
    pub(crate) fn events_after(&self, position: Position) -> Vec<RecordedEvent> {
        let from = usize::try_from(position.0).unwrap_or(usize::MAX);
        self.state().events.get(from..).unwrap_or_default().to_vec()
    }

    fn at_time(time: Time) -> Self {
        let identity = Identity { store: StoreId::random(), epoch: Epoch::first() };
        let status = watch::Sender::new(Status { head: Head::EMPTY, state: State::Open });
        Self { identity, state: Mutex::default(), time, status }
    }

    fn state(&self) -> MutexGuard<'_, StoreContents> {
        // No invariant spans a panic: each change below is made of infallible steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_with<T>(&self, read: impl FnOnce(&StoreContents) -> T) -> Pending<T, ReadError> {
        let state = self.state();
        Pending::ready(if state.closed { Err(ReadError::Closed) } else { Ok(read(&state)) })
    }

    fn try_append(&self, append: Append) -> Result<Outcome, AppendError> {
        append.validate()?;
        let mut state = self.state();
        if state.closed {
            return Err(AppendError::Closed);
        }
        if let Some(command) = &append.command
            && let Some(answered) = state.answers.get(&command.id)
        {
            let same = answered.record.digest == command.digest;
            return if same {
                Ok(Outcome::Repeated(answered.clone()))
            } else {
                Err(AppendError::CommandIdReused { id: command.id })
            };
        }
        state.leases.check(append.fence.as_ref())?;
        if let Some(conflict) = state.conflict(&append.condition) {
            return Ok(Outcome::Conflict(conflict));
        }
        state.advances(&append)?;
        let head = self.status.borrow().head;
        let (appended, head) = state.commit(self.identity.store, head, append, self.time.now());
        self.status.send_modify(|status| status.head = head);
        Ok(Outcome::Appended(appended))
    }
}

impl Time {
    fn now(&self) -> Timestamp {
        match self {
            Self::Machine(..) => Timestamp::now(),
            Self::Given(now) => now(),
        }
    }

    /// By the clock that nobody sets.
    fn passing(&self) -> Timestamp {
        match self {
            Self::Machine(began, since) => began.plus(since.elapsed()),
            Self::Given(now) => now(),
        }
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.now().fmt(f)
    }
}

impl StoreContents {
    fn version(&self, stream: &StreamName) -> Version {
        self.streams.get(stream).map_or(Version::ABSENT, |places| Version(places.len() as u64))
    }

    fn conflict(&self, condition: &Condition) -> Option<Conflict> {
        for (stream, expected) in &condition.streams {
            let actual = self.version(stream);
            if !expected.holds(actual) {
                return Some(Conflict::Stream {
                    stream: stream.clone(),
                    expected: *expected,
                    actual,
                });
            }
        }
        condition.none_matching.iter().enumerate().find_map(|(clause, none)| {
            let found = self
                .events
                .iter()
                .find(|event| event.position > none.after && none.query.matches(event))?;
            Some(Conflict::Matching { clause, after: none.after, found: found.position })
        })
    }

    fn advances(&self, append: &Append) -> Result<(), AppendError> {
        let Some(CheckpointRecord { consumer, from, checkpoint }) = &append.checkpoint else {
            return Ok(());
        };
        let key = (consumer.clone(), checkpoint.store, checkpoint.partition.clone());
        let current = self.checkpoints.get(&key).map(|current| current.position);
        if from.allows(current, checkpoint.position) {
            return Ok(());
        }
        Err(AppendError::CheckpointMoved {
            consumer: consumer.clone(),
            current: current.unwrap_or(Position::START),
            from: *from,
            proposed: checkpoint.position,
        })
    }

    /// Each append is a group of its own.
    fn commit(
        &mut self,
        store: StoreId,
        head: Head,
        append: Append,
        now: Timestamp,
    ) -> (Appended, Head) {
        let recorded_at = now.max(head.recorded_at.plus(std::time::Duration::from_micros(1)));
        let count = append.events.len();
        let first = Position(head.position.0 + u64::from(count > 0));
        let hash = chain(head.chain, &hashed(recorded_at, &append.events));
        let mut versions = Vec::with_capacity(count);
        for (index, event) in append.events.into_iter().enumerate() {
            let position = Position(first.0 + index as u64);
            let recorded = self.record(store, position, recorded_at, event, index + 1 < count);
            versions.push(recorded.version());
            self.events.push(recorded);
            self.hashes.push(hash);
        }
        let command = append.command.map(|record| Answered {
            record,
            recorded_at,
            first,
            events: count as u32,
        });
        if let Some(answered) = &command {
            self.answers.insert(answered.record.id, answered.clone());
        }
        let checkpoint = append.checkpoint.map(|record| (record.consumer, record.checkpoint));
        if let Some((consumer, checkpoint)) = &checkpoint {
            let key = (consumer.clone(), checkpoint.store, checkpoint.partition.clone());
            self.checkpoints.insert(key, checkpoint.clone());
        }
        self.appends.push(KeptAppend {
            first,
            events: count,
            recorded_at,
            command,
            checkpoint,
            hash,
        });
        let appended = Appended { first, versions, recorded_at };
        let head = Head { position: Position(self.events.len() as u64), chain: hash, recorded_at };
        (appended, head)
    }

    fn record(
        &mut self,
        store: StoreId,
        position: Position,
        at: Timestamp,
        mut new: NewEvent,
        more: bool,
    ) -> RecordedEvent {
        let stream = new.stream.take().map(|name| {
            let places = self.streams.entry(name.clone()).or_default();
            places.push(self.events.len());
            InStream { name, version: Version(places.len() as u64) }
        });
        if let Some(id) = new.id {
            self.brought.entry(id).or_default().push(position);
        }
        let id = new.id.unwrap_or_else(|| EventId::minted(store, position, at));
        RecordedEvent { append_continues: more, ..RecordedEvent::of(new, position, at, stream, id) }
    }

    /// Returns the index of the append at a place.
    fn append_at(&self, from: AppendsFrom) -> usize {
        match from {
            AppendsFrom::Mark(mark) => {
                usize::try_from(mark).unwrap_or(usize::MAX).min(self.appends.len())
            }
            // Appends without events that come before the first one with any stand at the start
            // too.
            AppendsFrom::After(Position::START) => 0,
            AppendsFrom::After(position) => {
                let holds = |kept: &KeptAppend| kept.events > 0 && kept.first <= position;
                self.appends.iter().rposition(holds).map_or(0, |index| index + 1)
            }
        }
    }

    fn history(&self, from: HistoryFrom, page_bytes: u32, head: Head) -> HistoryPage {
        let begin = self.append_at(from.link);
        let before = begin.checked_sub(1).map_or(Hash::EMPTY, |index| self.appends[index].hash);
        let mut page = HistoryPage::empty(HistoryRule::Blake3, before, from, head);
        let mut room = PageRoom::of(page_bytes, from);
        for (kept, index) in self.appends[begin..].iter().zip(begin as u64..) {
            let last = Position(kept.first.0 + (kept.events as u64).saturating_sub(1));
            let events = &self.events[last.0 as usize - kept.events..last.0 as usize];
            let link = HistoryLink {
                kind: HistoryKind::Records,
                version: 1,
                hashed: hashed(kept.recorded_at, events).into(),
                end: Some(HistoryEnd { hash: kept.hash, position: last }),
            };
            let places = (AppendsFrom::Mark(index), AppendsFrom::Mark(index + 1));
            if !page.push(link, places, &mut room) {
                break;
            }
        }
        page
    }

    fn appends(&self, from: AppendsFrom, page_bytes: u32, head: Head) -> AppendsPage {
        let begin = self.append_at(from);
        let mut appends = Vec::new();
        let mut bytes = 0;
        for kept in &self.appends[begin..] {
            let start = (kept.first.0 - u64::from(kept.events > 0)) as usize;
            let events = if kept.events > 0 {
                self.events[start..start + kept.events].to_vec()
            } else {
                Vec::new()
            };
            bytes += events.iter().map(|event| event.data.len() + 64).sum::<usize>() + 64;
            if bytes > page_bytes as usize && !appends.is_empty() {
                break;
            }
            let (command, checkpoint) = (kept.command.clone(), kept.checkpoint.clone());
            appends.push(RecordedAppend {
                first: kept.first,
                events,
                command,
                checkpoint,
                hash: kept.hash,
            });
        }
        AppendsPage { next: AppendsFrom::Mark((begin + appends.len()) as u64), appends, head }
    }

    /// The events that are asked for, from where they begin.
    fn wanted<'a>(&'a self, read: &'a Read) -> Box<dyn Iterator<Item = &'a RecordedEvent> + 'a> {
        // Positions and versions are counted from 1; what lies beyond the end is as far as anything
        // goes.
        let before = |count: u64, all: usize| usize::try_from(count).unwrap_or(all).min(all);
        match (&read.what, read.direction) {
            (What::Stream { stream, from }, direction) => {
                let places = self.streams.get(stream).map_or(&[][..], Vec::as_slice);
                let event = |place: &usize| &self.events[*place];
                match direction {
                    Direction::Forwards => Box::new(
                        places[before(from.0.saturating_sub(1), places.len())..].iter().map(event),
                    ),
                    Direction::Backwards => {
                        Box::new(places[..before(from.0, places.len())].iter().rev().map(event))
                    }
                }
            }
            (What::Matching { query, from }, Direction::Forwards) => {
                let events = &self.events[before(from.0.saturating_sub(1), self.events.len())..];
                Box::new(events.iter().filter(|event| query.matches(event)))
            }
            (What::Matching { query, from }, Direction::Backwards) => {
                let events = &self.events[..before(from.0, self.events.len())];
                Box::new(events.iter().rev().filter(|event| query.matches(event)))
            }
        }
    }

    fn page(&self, read: &Read, head: Head) -> Page {
        let mut events: Vec<RecordedEvent> = Vec::new();
        let mut bytes = 0;
        let mut more = None;
        let mut take = |event: &RecordedEvent| {
            let full = events.len() >= read.page_events as usize
                || (bytes > 0 && bytes + event.data.len() > read.page_bytes as usize);
            if full {
                more = Some(event.clone());
            } else {
                bytes += event.data.len().max(1);
                events.push(event.clone());
            }
            !full
        };
        self.wanted(read).all(&mut take);
        let stream_version = match &read.what {
            What::Stream { stream, .. } => Some(self.version(stream)),
            What::Matching { .. } => None,
        };
        let (through, next) = match (more, read.direction) {
            (Some(more), Direction::Forwards) => {
                (Position(more.position.0 - 1), Some(read.what.starting_at(&more)))
            }
            (Some(more), Direction::Backwards) => {
                (more.position.next(), Some(read.what.starting_at(&more)))
            }
            (None, Direction::Forwards) => (head.position, None),
            (None, Direction::Backwards) => (Position::START, None),
        };
        Page { events, next, through, head, stream_version }
    }
}

/// Part of an event that the chain covers.
trait Hashed {
    fn parts(&self) -> [&[u8]; 2];
}

impl Hashed for NewEvent {
    fn parts(&self) -> [&[u8]; 2] {
        [self.event_type.as_bytes(), &self.data]
    }
}

impl Hashed for RecordedEvent {
    fn parts(&self) -> [&[u8]; 2] {
        [self.event_type.as_bytes(), &self.data]
    }
}

/// The bytes of an append that the chain covers.
fn hashed(at: Timestamp, events: &[impl Hashed]) -> Vec<u8> {
    let mut bytes = at.as_micros().to_le_bytes().to_vec();
    for part in events.iter().flat_map(Hashed::parts) {
        bytes.extend_from_slice(part);
    }
    bytes
}

fn chain(previous: Hash, hashed: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&previous.0).update(hashed);
    Hash(*hasher.finalize().as_bytes())
}

impl Backend for MemoryBackend {
    fn identity(&self) -> Identity {
        self.identity
    }

    fn append(&self, append: Append) -> Pending<Outcome, AppendError> {
        Pending::ready(self.try_append(append))
    }

    fn read(&self, read: Read) -> Pending<Page, ReadError> {
        if let What::Matching { query, .. } = &read.what
            && let Err(invalid) = query.validate()
        {
            return Pending::ready(Err(invalid.into()));
        }
        self.read_with(|state| state.page(&read, self.status.borrow().head))
    }

    fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError> {
        self.read_with(|state| state.answers.get(&id).cloned())
    }

    fn checkpoint(
        &self,
        consumer: Label,
        source: StoreId,
        partition: Partition,
    ) -> Pending<Option<Checkpoint>, ReadError> {
        self.read_with(|state| state.checkpoints.get(&(consumer, source, partition)).cloned())
    }

    fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError> {
        self.read_with(|state| {
            Position(state.events.partition_point(|event| event.recorded_at <= moment) as u64)
        })
    }

    fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> {
        self.read_with(|state| state.appends(from, page_bytes, self.status.borrow().head))
    }

    fn history(&self, from: HistoryFrom, page_bytes: u32) -> Pending<HistoryPage, ReadError> {
        self.read_with(|state| state.history(from, page_bytes, self.status.borrow().head))
    }

    fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError> {
        self.read_with(|state| match position {
            Position::START => Some(Hash::EMPTY),
            Position(n) => {
                usize::try_from(n - 1).ok().and_then(|index| state.hashes.get(index).copied())
            }
        })
    }

    fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> {
        self.read_with(|state| {
            state.brought.get(&id).into_iter().flatten().copied().take(at_most as usize).collect()
        })
    }

    fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError> {
        self.read_with(|state| state.snapshots.get(&key).cloned())
    }

    fn keep_snapshot(&self, key: Bytes, value: Bytes) {
        if Invalid::if_over("a snapshot", value.len(), SNAPSHOT_BYTES_MAX).is_ok() {
            self.state().snapshots.insert(key, value);
        }
    }

    fn lease(&self, request: LeaseRequest) -> Pending<Leased, LeaseError> {
        let mut state = self.state();
        if state.closed {
            return Pending::ready(Err(LeaseError::Closed));
        }
        Pending::ready(state.leases.lease(request, self.time.passing()))
    }

    fn release(&self, lease: Lease) -> Pending<(), LeaseError> {
        let mut state = self.state();
        if state.closed {
            return Pending::ready(Err(LeaseError::Closed));
        }
        state.leases.release(&lease);
        Pending::ready(Ok(()))
    }

    fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        let state = self.state();
        if state.closed {
            return Pending::ready(Err(LeaseError::Closed));
        }
        Pending::ready(Ok(state.leases.held(self.time.passing())))
    }

    fn now(&self) -> Pending<Timestamp, ReadError> {
        self.read_with(|_| self.time.now())
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    fn close(&self) -> Pending<(), CloseError> {
        self.state().closed = true;
        self.status.send_modify(|status| status.state = State::Closed);
        Pending::ready(Ok(()))
    }
}
