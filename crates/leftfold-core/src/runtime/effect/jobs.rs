//! What is under way beside a consumer's own loop.

use std::future::Future;
use std::pin::Pin;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinSet;

type Job<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Futures that are carried out together. If dropped, all of them end at once.
pub(super) enum Jobs<T> {
    /// Each in a task of its own, so that they use several threads and hold up nobody by what they
    /// do there.
    Spawned(JoinSet<T>),
    /// In the task that waits for them: nothing else is needed to run them, and their order is
    /// repeatable.
    Polled(FuturesUnordered<Job<T>>),
}

impl<T: Send + 'static> Jobs<T> {
    pub(super) fn spawned() -> Self {
        Self::Spawned(JoinSet::new())
    }

    pub(super) fn polled() -> Self {
        Self::Polled(FuturesUnordered::new())
    }

    pub(super) const fn are_spawned(&self) -> bool {
        matches!(self, Self::Spawned(_))
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Spawned(tasks) => tasks.len(),
            Self::Polled(jobs) => jobs.len(),
        }
    }

    pub(super) fn start(&mut self, job: impl Future<Output = T> + Send + 'static) {
        match self {
            Self::Spawned(tasks) => drop(tasks.spawn(job)),
            Self::Polled(jobs) => jobs.push(Box::pin(job)),
        }
    }

    /// Returns the next result; `None` if nothing is under way. Safe to cancel.
    pub(super) async fn next(&mut self) -> Option<T> {
        match self {
            Self::Spawned(tasks) => loop {
                match tasks.join_next().await? {
                    Ok(ended) => return Some(ended),
                    // It was cancelled with the executor that it ran in.
                    Err(error) => {
                        tracing::error!(%error, "something that was under way was cancelled")
                    }
                }
            },
            Self::Polled(jobs) => jobs.next().await,
        }
    }
}
