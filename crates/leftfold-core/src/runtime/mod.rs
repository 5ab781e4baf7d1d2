//! What runs behind the log: effects and timers.

mod board;
mod countdown;
mod effect;
mod effects;
mod ledger;
mod runner;
mod timer;
mod turn;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

pub use board::ConsumerStatus;
pub use countdown::Countdowns;
pub use effect::{Attempt, Conclusion, Effect, EffectId, Performed, Policy};
pub use effects::{EffectFilter, EffectPage, EffectStatus, Effects, ResolveError, Verdict};
pub use ledger::EffectState;
pub use runner::OPEN_EFFECTS_MAX;
pub use timer::{Schedule, Timer};

use crate::fold::EventError;
use crate::store::{EventType, Invalid, ReadError, Store, SubscribeError};
use board::Board;
use effects::{Asked, Kind};
use runner::Runner;
use timer::TimerRunner;

/// People's answers that wait for one runner at most; more wait with the caller.
const ASKED_MAX: usize = 16;

type Starting = Pin<Box<dyn Future<Output = Result<Running, StartError>> + Send>>;
type Running = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What runs behind a store, before it is started.
#[must_use = "a runtime does nothing until it is started"]
pub struct Runtime {
    store: Store,
    board: Arc<Board>,
    stop: watch::Sender<bool>,
    names: Vec<&'static str>,
    kinds: Vec<Result<Kind, Invalid>>,
    starting: Vec<Starting>,
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
        Self {
            store: store.clone(),
            board: Arc::default(),
            stop: watch::Sender::new(false),
            names: Vec::new(),
            kinds: Vec::new(),
            starting: Vec::new(),
        }
    }

    /// Carries out an effect.
    pub fn effect<E: Effect>(mut self, effect: E) -> Self {
        let (asked, asks) = mpsc::channel(ASKED_MAX);
        self.kinds.push(EventType::new(E::INTENT).map(|intent| Kind { name: E::NAME, intent, asked }));
        self.names.push(E::NAME);
        let (store, board, stop) = (self.store.clone(), self.board.clone(), self.stop.subscribe());
        self.starting.push(Box::pin(async move {
            let runner = Runner::new(store, effect, board, asks).await?;
            Ok(Box::pin(runner.run(stop)) as Running)
        }));
        self
    }

    /// Runs a timer.
    pub fn timer<T: Timer>(mut self, timer: T) -> Self {
        self.names.push(T::NAME);
        let (store, board, stop) = (self.store.clone(), self.board.clone(), self.stop.subscribe());
        self.starting.push(Box::pin(async move {
            let runner = TimerRunner::new(store, timer, board).await?;
            Ok(Box::pin(runner.run(stop)) as Running)
        }));
        self
    }

    /// Starts everything, or nothing.
    pub async fn start(self) -> Result<RunningRuntime, StartError> {
        let mut names = self.names.clone();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(StartError::NameTaken { name: twice[0] });
        }
        let kinds: Vec<Kind> = self.kinds.into_iter().collect::<Result<_, _>>()?;
        let mut running = Vec::with_capacity(self.starting.len());
        for starting in self.starting {
            running.push(starting.await?);
        }
        let effects = Effects { store: self.store, board: self.board, kinds: kinds.into() };
        let tasks = running.into_iter().map(tokio::spawn).collect();
        Ok(RunningRuntime { effects, stop: self.stop, tasks })
    }
}

/// What runs behind a store. It is safe to kill the process at any time; [`stop`](RunningRuntime::stop) is kinder.
///
/// Dropping it tells everything to stop, without waiting.
#[derive(Debug)]
pub struct RunningRuntime {
    effects: Effects,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl RunningRuntime {
    /// The effects.
    #[must_use]
    pub fn effects(&self) -> Effects {
        self.effects.clone()
    }

    /// What every consumer is doing, and what it waits for.
    #[must_use]
    pub fn status(&self) -> Vec<ConsumerStatus> {
        self.effects.board.statuses()
    }

    /// Stops taking up new work, and waits for effects under way, each within its own deadline. The error names the
    /// task that had panicked.
    pub async fn stop(mut self) -> Result<(), tokio::task::JoinError> {
        self.stop.send_replace(true);
        for task in std::mem::take(&mut self.tasks) {
            task.await?;
        }
        Ok(())
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
