//! What the tests of the runtime stand on: a clock that is moved by hand, processes that share one
//! backend and can be killed, and a door that is opened from outside.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test binary uses a part of it")]

mod records;
pub mod warnings;

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use leftfold_core::fold::{Aggregate, Event};
use leftfold_core::runtime::{
    Attempt, Begin, Clock, Conclusion, Effect, EffectId, EffectState, Effects, Order, Performed,
    Policy, RunningRuntime, Runtime,
};
use leftfold_core::store::{
    Answered, Append, AppendError, AppendsFrom, AppendsPage, Backend, Checkpoint, CloseError,
    CommandId, Epoch, EventId, Hash, HeldLease, Holder, Identity, Label, Lease, LeaseError,
    LeaseRequest, Leased, Leases, MemoryBackend, Outcome, Page, Partition, Pending, Position, Read,
    ReadError, RecordedEvent, Status, Store, StoreId, Timestamp,
};
pub use leftfold_testing::HandClock;
pub use records::{everything, record, story};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

pub const SECOND: Duration = Duration::from_secs(1);

/// One backend, one clock, any number of processes.
pub struct Stage {
    pub backend: Arc<MemoryBackend>,
    pub clock: Arc<HandClock>,
    /// Leases by the clock of the stage.
    leases: Arc<Mutex<Leases>>,
}

impl Stage {
    pub fn new() -> Self {
        let clock = Arc::new(HandClock::default());
        Self { backend: Arc::new(MemoryBackend::new()), clock, leases: Arc::default() }
    }

    /// The same, with a store whose records have the time of the clock.
    pub fn in_time() -> Self {
        let clock = Arc::new(HandClock::default());
        let time = clock.clone();
        let backend = Arc::new(leftfold_core::drive::memory_at(move || time.now()));
        Self { backend, clock, leases: Arc::default() }
    }

    /// Somebody else is given some work, no matter who has it.
    pub fn holder_takes(&self, work: &str) -> Lease {
        let later = self.clock.now().plus(Duration::from_secs(3_600));
        let work = Label::try_from(work).unwrap();
        let request = LeaseRequest::new(work, Holder::random(), 60 * SECOND);
        let leased = self.leases.lock().unwrap().lease(request, later);
        let Ok(Leased::Held(lease)) = leased else { panic!("the work is held: {leased:?}") };
        lease
    }

    pub fn gives_back(&self, lease: Lease) {
        self.leases.lock().unwrap().release(&lease);
    }

    pub fn process(&self) -> Process {
        let faults = Arc::new(Faults {
            backend: self.backend.clone(),
            clock: self.clock.clone(),
            leases: self.leases.clone(),
            fault: Mutex::default(),
            epoch: Mutex::default(),
            before_append: Mutex::default(),
            calls: AtomicUsize::new(0),
            crash: Mutex::default(),
            leases_panic: AtomicBool::new(false),
        });
        Process { store: Store::shared(faults.clone()), faults, clock: self.clock.clone() }
    }
}

/// A process with a store of its own over the backend of the stage.
pub struct Process {
    pub store: Store,
    pub faults: Arc<Faults>,
    pub clock: Arc<HandClock>,
}

impl Process {
    pub fn runtime(&self) -> Runtime {
        Runtime::new(&self.store).clock(self.clock.clone())
    }

    pub async fn opens(&self, opener: &Opener) -> RunningRuntime {
        self.runtime().effect(opener.clone()).start().await.unwrap()
    }

    /// From here on it does nothing any more that anyone could see.
    pub fn kill(&self) {
        self.faults.set(Fault::Killed);
    }

    /// Asks for the door to be opened.
    pub async fn ask(&self, door: &str, code: u32) -> EffectId {
        EffectId(
            self.store
                .aggregate::<Door>()
                .execute(door, Command::Ask(code))
                .await
                .unwrap()
                .position,
        )
    }
}

/// Fault of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    /// Its store takes no appends.
    ReadOnly,
    /// Its appends are made, but never answered.
    Unknown,
    /// Its store cannot be read.
    Unreadable,
    Killed,
}

/// The backend as one process sees it.
pub struct Faults {
    backend: Arc<MemoryBackend>,
    clock: Arc<HandClock>,
    leases: Arc<Mutex<Leases>>,
    fault: Mutex<Fault>,
    pub epoch: Mutex<Option<Epoch>>,
    before_append: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    calls: AtomicUsize,
    crash: Mutex<Option<(usize, Crash)>>,
    /// True if its store panics when leases are listed.
    pub leases_panic: AtomicBool,
}

/// Way in which the process is killed at a call of its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The call has no effect.
    Before,
    /// It takes effect, and nobody learns of it.
    After,
}

impl Faults {
    pub fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    /// Something happens just before the next append.
    pub fn before_append(&self, happens: impl FnOnce() + Send + 'static) {
        *self.before_append.lock().unwrap() = Some(Box::new(happens));
    }

    fn is_killed(&self) -> bool {
        *self.fault.lock().unwrap() == Fault::Killed
    }

    /// The process is killed at the call of this number, counted from 0.
    pub fn crash_at(&self, call: usize, crash: Crash) {
        *self.crash.lock().unwrap() = Some((call, crash));
    }

    /// Calls of the store so far.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Counts a call, and kills the process if this is the one. Whether the call is the last to
    /// take effect.
    fn call(&self) -> bool {
        let call = self.calls.fetch_add(1, Ordering::SeqCst);
        let crash =
            self.crash.lock().unwrap().filter(|(at, _)| *at == call).map(|(_, crash)| crash);
        if crash == Some(Crash::Before) {
            self.set(Fault::Killed);
        }
        crash == Some(Crash::After)
    }

    fn reading<T>(&self, pending: Pending<T, ReadError>) -> Pending<T, ReadError> {
        if self.call() {
            self.set(Fault::Killed);
        }
        match *self.fault.lock().unwrap() {
            Fault::Killed => Pending::ready(Err(ReadError::Closed)),
            Fault::Unreadable => {
                Pending::ready(Err(ReadError::Io { detail: "the disk is gone".to_owned() }))
            }
            _ => pending,
        }
    }
}

impl Backend for Faults {
    fn identity(&self) -> Identity {
        let identity = self.backend.identity();
        Identity { epoch: self.epoch.lock().unwrap().unwrap_or(identity.epoch), ..identity }
    }

    fn append(&self, mut append: Append) -> Pending<Outcome, AppendError> {
        let happens = self.before_append.lock().unwrap().take();
        happens.into_iter().for_each(|happens| happens());
        let dies = self.call();
        // Killed, it does nothing that anyone could see; and nobody is given the work between this
        // and the append.
        let leases = self.leases.lock().unwrap();
        if *self.fault.lock().unwrap() != Fault::Killed
            && let Err(fenced) = leases.check(append.fence.take().as_ref())
        {
            return Pending::ready(Err(fenced));
        }
        if dies {
            drop(self.backend.append(append));
            self.set(Fault::Killed);
            return Pending::ready(Err(AppendError::Closed));
        }
        let detail = "it was pulled".to_owned();
        match *self.fault.lock().unwrap() {
            Fault::Killed => Pending::ready(Err(AppendError::Closed)),
            Fault::ReadOnly => Pending::ready(Err(AppendError::ReadOnly { detail })),
            Fault::Unknown => {
                drop(self.backend.append(append));
                Pending::ready(Err(AppendError::Unknown { detail }))
            }
            _ => self.backend.append(append),
        }
    }

    fn read(&self, read: Read) -> Pending<Page, ReadError> {
        self.reading(self.backend.read(read))
    }

    fn answered(&self, id: CommandId) -> Pending<Option<Answered>, ReadError> {
        self.reading(self.backend.answered(id))
    }

    fn checkpoint(
        &self,
        consumer: Label,
        source: StoreId,
        partition: Partition,
    ) -> Pending<Option<Checkpoint>, ReadError> {
        self.reading(self.backend.checkpoint(consumer, source, partition))
    }

    fn position_at(&self, moment: Timestamp) -> Pending<Position, ReadError> {
        self.reading(self.backend.position_at(moment))
    }

    fn appends(&self, from: AppendsFrom, page_bytes: u32) -> Pending<AppendsPage, ReadError> {
        self.reading(self.backend.appends(from, page_bytes))
    }

    fn hash_at(&self, position: Position) -> Pending<Option<Hash>, ReadError> {
        self.reading(self.backend.hash_at(position))
    }

    fn positions_of(&self, id: EventId, at_most: u32) -> Pending<Vec<Position>, ReadError> {
        self.reading(self.backend.positions_of(id, at_most))
    }

    fn snapshot(&self, key: Bytes) -> Pending<Option<Bytes>, ReadError> {
        self.reading(self.backend.snapshot(key))
    }

    fn keep_snapshot(&self, key: Bytes, value: Bytes) {
        self.backend.keep_snapshot(key, value);
    }

    fn lease(&self, request: LeaseRequest) -> Pending<Leased, LeaseError> {
        if self.is_killed() {
            return Pending::ready(Err(LeaseError::Closed));
        }
        Pending::ready(self.leases.lock().unwrap().lease(request, self.clock.now()))
    }

    fn release(&self, lease: Lease) -> Pending<(), LeaseError> {
        if !self.is_killed() {
            self.leases.lock().unwrap().release(&lease);
        }
        Pending::ready(Ok(()))
    }

    fn leases(&self) -> Pending<Vec<HeldLease>, LeaseError> {
        assert!(!self.leases_panic.load(Ordering::SeqCst), "leases are not listed today");
        if self.is_killed() {
            return Pending::ready(Err(LeaseError::Closed));
        }
        Pending::ready(Ok(self.leases.lock().unwrap().held(self.clock.now())))
    }

    fn now(&self) -> Pending<Timestamp, ReadError> {
        self.reading(self.backend.now())
    }

    fn status(&self) -> watch::Receiver<Status> {
        self.backend.status()
    }

    fn close(&self) -> Pending<(), CloseError> {
        self.backend.close()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum DoorEvent {
    OpeningAsked(Opening),
    ClosingAsked(Opening),
    Opened { answer: String },
    StayedShut { reason: String },
    WalledUp,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Opening {
    pub code: u32,
}

impl Event for DoorEvent {
    const NAMESPACE: &'static str = "door";
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Door {
    pub walled_up: bool,
    pub opened: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    Ask(u32),
    Hear(Conclusion<String>),
    WallUp,
    Explode,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("it is walled up")]
pub struct IsWalledUp;

impl Aggregate for Door {
    const CATEGORY: &'static str = "door";
    type Event = DoorEvent;
    type Command = Command;
    type Refusal = IsWalledUp;

    fn apply(&mut self, event: &DoorEvent) {
        match event {
            DoorEvent::Opened { .. } => self.opened += 1,
            DoorEvent::WalledUp => self.walled_up = true,
            _ => {}
        }
    }

    fn decide(&self, command: &Command) -> Result<Vec<DoorEvent>, IsWalledUp> {
        match command {
            _ if self.walled_up => Err(IsWalledUp),
            Command::Ask(code) => Ok(vec![DoorEvent::OpeningAsked(Opening { code: *code })]),
            Command::Hear(Conclusion::Done(answer)) => {
                Ok(vec![DoorEvent::Opened { answer: answer.clone() }])
            }
            Command::Hear(Conclusion::NotDone { reason }) => {
                Ok(vec![DoorEvent::StayedShut { reason: reason.clone() }])
            }
            Command::WallUp => Ok(vec![DoorEvent::WalledUp]),
            Command::Explode => panic!("decide exploded"),
        }
    }
}

pub type Seen = Attempt<Opening>;
type Answering = Pin<Box<dyn Future<Output = Performed<String>> + Send>>;
type Code = Arc<dyn Fn(Seen) -> Answering + Send + Sync>;
type Reporting = fn(&Seen, &Conclusion<String>) -> Option<(String, Command)>;

/// The effect: what it does is given by each test, and every call is counted.
#[derive(Clone)]
pub struct Opener {
    policy: Policy,
    begins: Begin,
    order: fn(&Opening) -> Order,
    perform: Code,
    resolve: Code,
    report: Reporting,
    pub performed: Arc<Mutex<BTreeMap<EffectId, u32>>>,
    pub resolved: Arc<AtomicUsize>,
    pub under_way: Arc<AtomicUsize>,
    pub under_way_max: Arc<AtomicUsize>,
}

impl Opener {
    pub fn doing<F: Future<Output = Performed<String>> + Send + 'static>(
        code: impl Fn(Seen) -> F + Send + Sync + 'static,
    ) -> Self {
        Self {
            policy: Policy::once().deadline(30 * SECOND).backoff(SECOND, 60 * SECOND),
            begins: Begin::Now,
            order: |_| Order::Stream,
            perform: Arc::new(move |attempt| Box::pin(code(attempt))),
            resolve: Arc::new(|_| Box::pin(async { in_doubt("nobody knows") })),
            report: |attempt, conclusion| {
                let stream = &attempt.event.stream.as_ref().unwrap().name;
                Some((
                    stream.strip_prefix("door-").unwrap().to_owned(),
                    Command::Hear(conclusion.clone()),
                ))
            },
            performed: Arc::default(),
            resolved: Arc::default(),
            under_way: Arc::default(),
            under_way_max: Arc::default(),
        }
    }

    /// It opens, at once.
    pub fn opening() -> Self {
        Self::doing(|_| async { done("open") })
    }

    /// It never answers.
    pub fn silent() -> Self {
        Self::doing(|_| std::future::pending())
    }

    pub fn resolving<F: Future<Output = Performed<String>> + Send + 'static>(
        mut self,
        code: impl Fn(Seen) -> F + Send + Sync + 'static,
    ) -> Self {
        self.resolve = Arc::new(move |attempt| Box::pin(code(attempt)));
        self
    }

    pub fn reporting(mut self, report: Reporting) -> Self {
        self.report = report;
        self
    }

    /// It carries out what was asked for before it was new to the store, too.
    pub fn with_history(mut self) -> Self {
        self.begins = Begin::History;
        self
    }

    pub fn ordered(mut self, order: fn(&Opening) -> Order) -> Self {
        self.order = order;
        self
    }

    pub fn with(mut self, policy: impl Fn(Policy) -> Policy) -> Self {
        self.policy = policy(self.policy);
        self
    }

    pub fn repeatable(mut self, attempts: u32) -> Self {
        self.policy = Policy::repeatable()
            .attempts(attempts)
            .deadline(30 * SECOND)
            .backoff(SECOND, 60 * SECOND);
        self
    }

    /// Returns how many times the outside world was touched.
    pub fn performs(&self) -> u32 {
        self.performed.lock().unwrap().values().sum()
    }

    pub fn looks(&self) -> usize {
        self.resolved.load(Ordering::SeqCst)
    }
}

/// Counts down however the future ends.
struct Leaving(Arc<AtomicUsize>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Effect for Opener {
    const NAME: &'static str = "open";
    const INTENT: &'static str = "door.OpeningAsked";
    type Intent = Opening;
    type Outcome = String;
    type Target = Door;

    fn policy(&self) -> Policy {
        self.policy
    }

    fn begins(&self) -> Begin {
        self.begins
    }

    fn order(&self, intent: &Opening, _: &RecordedEvent) -> Order {
        (self.order)(intent)
    }

    async fn perform(&self, attempt: &Seen) -> Performed<String> {
        *self.performed.lock().unwrap().entry(attempt.effect).or_default() += 1;
        let under_way = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.under_way_max.fetch_max(under_way, Ordering::SeqCst);
        let _leaving = Leaving(self.under_way.clone());
        (self.perform)(attempt.clone()).await
    }

    async fn resolve(&self, attempt: &Seen) -> Performed<String> {
        self.resolved.fetch_add(1, Ordering::SeqCst);
        (self.resolve)(attempt.clone()).await
    }

    fn report(&self, attempt: &Seen, conclusion: &Conclusion<String>) -> Option<(String, Command)> {
        (self.report)(attempt, conclusion)
    }
}

pub fn done(answer: &str) -> Performed<String> {
    Performed::Done(answer.to_owned())
}

pub fn not_done(reason: &str) -> Performed<String> {
    Performed::NotDone { reason: reason.to_owned() }
}

pub fn in_doubt(reason: &str) -> Performed<String> {
    Performed::InDoubt { reason: reason.to_owned() }
}

/// Waits until the effect is concluded or in doubt, and returns its state.
pub async fn settled(effects: &Effects, id: EffectId) -> EffectState {
    effects.wait(id, 10 * SECOND).await.unwrap().unwrap().state
}

/// Gives every task its turn until something holds; the time is a guard.
pub async fn until(what: impl fmt::Display, holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(
        tokio::time::timeout(10 * SECOND, waiting).await.is_ok(),
        "waited in vain until {what}"
    );
}

/// Gives every task its turn until nothing is left to do but to wait. The tests run on one thread,
/// and nothing in the memory backend waits: so many turns are enough.
pub async fn quiet() {
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
}
