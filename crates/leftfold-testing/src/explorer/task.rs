//! Applications in a simulation, and their consumers: tasks that are polled when they were woken.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use leftfold_core::drive::panic_message;
use leftfold_core::runtime::StartError;
use leftfold_core::store::Store;
use tokio::sync::watch;

use super::BrokenInvariant;

/// A consumer that runs until it is told to stop.
pub(super) type ConsumerFuture = Pin<Box<dyn Future<Output = Result<(), StartError>> + Send>>;

/// One operating system process, so to say.
pub(super) struct Application {
    pub(super) store: Store,
    /// Dropped, everything stops.
    pub(super) _stop: watch::Sender<bool>,
}

/// One consumer of one application.
pub(super) struct ConsumerTask {
    pub(super) name: &'static str,
    pub(super) application: usize,
    /// The running consumer; `None` once its application has crashed.
    pub(super) running: Option<ConsumerFuture>,
    pub(super) flag: Arc<Flag>,
}

impl ConsumerTask {
    /// Lets the consumer go on. An error says why it does not run any more.
    pub(super) fn poll(&mut self) -> Result<(), BrokenInvariant> {
        let Some(future) = &mut self.running else { return Ok(()) };
        let waker = Waker::from(self.flag.clone());
        let polled = catch_unwind(AssertUnwindSafe(|| {
            future.as_mut().poll(&mut Context::from_waker(&waker))
        }));
        let why = match polled {
            Ok(Poll::Pending) => return Ok(()),
            Ok(Poll::Ready(Ok(()))) => "it ended".to_owned(),
            Ok(Poll::Ready(Err(error))) => error.to_string(),
            Err(panic) => format!("it panicked: {}", panic_message(&*panic)),
        };
        self.running = None;
        Err(BrokenInvariant::new("everything runs", format!("{}: {why}", self.name)))
    }
}

/// Flag that is set if a task is to be polled.
pub(super) struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Flag {
    pub(super) fn raised() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(true)))
    }

    pub(super) fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether it was set, and takes it down.
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }
}
