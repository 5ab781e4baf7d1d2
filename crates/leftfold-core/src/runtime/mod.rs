//! What runs behind the log: effects and timers.

mod board;
mod clock;
mod contained;
mod countdown;
mod effect;
mod effects;
mod ledger;
pub mod process;
pub mod projection;
mod runner;
mod timer;
mod turn;

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use board::ConsumerStatus;
pub use clock::{Clock, Sleep, SystemClock};
pub use countdown::Countdowns;
pub use effect::{Attempt, Conclusion, Effect, EffectId, Performed, Policy};
pub use effects::{EffectFilter, EffectPage, EffectStatus, Effects, ResolveError, Verdict};
pub use ledger::EffectState;
pub use runner::OPEN_EFFECTS_MAX;
pub use timer::{Schedule, Timer};
pub use turn::LEASE;

pub(crate) use contained::message as panic_message;
pub(crate) use ledger::LedgerEvent;
pub(crate) use process::ProcessRunner;
pub(crate) use turn::{Intent, Next, Turn};

use crate::fold::EventError;
use crate::store::{EventType, Invalid, ReadError, Store, SubscribeError};
use board::Board;
use contained::{contained, message};
use effects::{Asked, Kind};
use ledger::shortened;
use process::{Process, Processes};
use runner::Runner;
use timer::TimerRunner;

/// People's answers that wait for one runner at most; more wait with the caller.
const ASKED_MAX: usize = 16;

type Starting = Box<dyn FnOnce(Host, watch::Receiver<bool>) -> Start + Send>;
type Start = Pin<Box<dyn Future<Output = Result<Running, StartError>> + Send>>;
type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What runs behind a store, before it is started.
#[must_use = "a runtime does nothing until it is started"]
pub struct Runtime {
    host: Host,
    kinds: Vec<Result<Kind, Invalid>>,
    processes: BTreeMap<&'static str, mpsc::Sender<process::Asked>>,
    consumers: Vec<(&'static str, Starting)>,
}

/// What every consumer stands on.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    store: Store,
    clock: Arc<dyn Clock>,
    board: Arc<Board>,
}

impl Host {
    pub(crate) fn new(store: Store, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, board: Arc::default() }
    }
}

/// Why a runtime does not start. Nothing runs then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The target's events have no such type.
    #[error("effect {effect} is asked for by {intent}, which is no event type of its target")]
    UnknownIntent {
        /// The effect.
        effect: &'static str,
        /// The type that it names.
        intent: &'static str,
    },
    /// Two consumers have one name.
    #[error("two consumers are named {name}, give each its own name")]
    NameTaken {
        /// The name.
        name: &'static str,
    },
    /// Two effects have one intent: an event asks for one effect.
    #[error("two effects are asked for by {intent}, give each its own event type")]
    IntentTaken {
        /// The type that both name.
        intent: EventType,
    },
    /// The events cannot be read or written.
    #[error(transparent)]
    Event(#[from] EventError),
    /// A name is none.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// What the consumer remembers does not belong to this store.
    #[error(transparent)]
    Foreign(#[from] SubscribeError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Runtime {
    /// Nothing yet, behind a store.
    pub fn new(store: &Store) -> Self {
        let host = Host::new(store.clone(), Arc::new(SystemClock));
        Self { host, kinds: Vec::new(), processes: BTreeMap::new(), consumers: Vec::new() }
    }

    /// Takes the time from another clock than the machine's.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.host.clock = clock;
        self
    }

    /// Carries out an effect.
    pub fn effect<E: Effect>(mut self, effect: E) -> Self {
        let (asked, asks) = mpsc::channel(ASKED_MAX);
        self.kinds.push(EventType::new(E::INTENT).map(|intent| Kind { name: E::NAME, intent, asked }));
        let starting: Starting = Box::new(|host, stop| {
            Box::pin(async move { Ok(Box::pin(Runner::new(host, effect, asks).await?.run(stop)) as Running) })
        });
        self.consumers.push((E::NAME, starting));
        self
    }

    /// Runs a process.
    pub fn process<P: Process>(mut self) -> Self {
        let (asked, asks) = mpsc::channel(ASKED_MAX);
        self.processes.insert(P::NAME, asked);
        let starting: Starting = Box::new(|host, stop| {
            Box::pin(async move { Ok(Box::pin(ProcessRunner::<P>::new(host, asks).await?.run(stop)) as Running) })
        });
        self.consumers.push((P::NAME, starting));
        self
    }

    /// Runs a timer.
    pub fn timer<T: Timer>(mut self, timer: T) -> Self {
        let starting: Starting = Box::new(|host, stop| {
            Box::pin(async move { Ok(Box::pin(TimerRunner::new(host, timer).await?.run(stop)) as Running) })
        });
        self.consumers.push((T::NAME, starting));
        self
    }

    /// Starts everything, or nothing.
    pub async fn start(self) -> Result<RunningRuntime, StartError> {
        if let Some(name) = twice(self.consumers.iter().map(|(name, _)| *name)) {
            return Err(StartError::NameTaken { name });
        }
        let kinds: Vec<Kind> = self.kinds.into_iter().collect::<Result<_, _>>()?;
        if let Some(intent) = twice(kinds.iter().map(|kind| &kind.intent)) {
            return Err(StartError::IntentTaken { intent: intent.clone() });
        }
        let stop = watch::Sender::new(false);
        let mut running = Vec::with_capacity(self.consumers.len());
        for (name, starting) in self.consumers {
            running.push((name, starting(self.host.clone(), stop.subscribe()).await?));
        }
        let Host { store, board, .. } = self.host;
        let mut tasks = Vec::with_capacity(running.len());
        for (name, consumer) in running {
            let guard = EndedByPanic { name, board: board.clone() };
            tasks.push(tokio::spawn(async move {
                let _guard = guard;
                consumer.await;
            }));
        }
        let processes = Processes { store: store.clone(), asked: self.processes };
        Ok(RunningRuntime { effects: Effects { store, board, kinds: kinds.into() }, processes, stop, tasks })
    }
}

/// The first that is there twice.
fn twice<T: Ord>(all: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = std::collections::BTreeSet::new();
    for one in all {
        if let Some(twice) = seen.replace(one) {
            return Some(twice);
        }
    }
    None
}

/// Says so where a consumer panics: a bug of the runtime, that must not go unseen.
struct EndedByPanic {
    name: &'static str,
    board: Arc<Board>,
}

impl Drop for EndedByPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(consumer = self.name, "a consumer ended by a panic");
            self.board.say(self.name, "a restart of the process: it ended by a panic");
        }
    }
}

/// What runs behind a store. It is safe to kill the process at any time; [`stop`](RunningRuntime::stop) is kinder.
///
/// Dropping it tells everything to stop, without waiting.
#[derive(Debug)]
pub struct RunningRuntime {
    effects: Effects,
    processes: Processes,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl RunningRuntime {
    /// The effects.
    #[must_use]
    pub fn effects(&self) -> Effects {
        self.effects.clone()
    }

    /// The processes.
    #[must_use]
    pub fn processes(&self) -> Processes {
        self.processes.clone()
    }

    /// What every consumer is doing, and what it waits for.
    #[must_use]
    pub fn status(&self) -> Vec<ConsumerStatus> {
        self.effects.board.statuses()
    }

    /// Stops taking up new work, and waits for effects under way, each within its own deadline. The error is of the
    /// first task that had panicked.
    pub async fn stop(mut self) -> Result<(), tokio::task::JoinError> {
        self.stop.send_replace(true);
        let mut stopped = Ok(());
        for task in std::mem::take(&mut self.tasks) {
            stopped = stopped.and(task.await);
        }
        stopped
    }
}

/// Waits until a runtime is told to stop, or is gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

impl Drop for RunningRuntime {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
